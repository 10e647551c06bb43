//! Post-processors: the tokens that are put around a text or a pair of texts.

use super::encoding::Encoding;
use super::pretokenize::byte_char;
use super::unicode::is_space;
use alloc::vec::Vec;

/// One step of post-processing.
#[derive(Debug)]
pub(crate) enum Post {
    /// Leaves the spaces at the ends of a token out of its offsets.
    TrimOffsets {
        /// Whether the space in front of the first token was put in.
        prefix_space: bool,
    },
    /// Texts and tokens in order.
    Template {
        /// For one text.
        single: Vec<Piece>,
        /// For two.
        pair: Vec<Piece>,
    },
}

/// A piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The first text, all of one segment.
    First(u32),
    /// The second text, all of one segment.
    Second(u32),
    /// A token and its segment.
    Token(u32, u32),
}

impl Post {
    /// The number of tokens that it puts in.
    pub fn added(&self, pair: bool) -> usize {
        match self {
            Post::TrimOffsets { .. } => 0,
            Post::Template { single, pair: two } => {
                let pieces = if pair { two } else { single };
                pieces.iter().filter(|piece| matches!(piece, Piece::Token(..))).count()
            }
        }
    }
}

/// Joins the pieces of a template; its tokens only if `special`.
pub(crate) fn join(pieces: &[Piece], first: &Encoding, second: Option<&Encoding>, special: bool) -> Encoding {
    let mut joined = Encoding::default();
    let text = |joined: &mut Encoding, text: &Encoding, type_id: u32| {
        let mut text = text.clone();
        text.type_ids.fill(type_id);
        joined.append(text);
    };
    for piece in pieces {
        match (piece, second) {
            (Piece::First(type_id), _) => text(&mut joined, first, *type_id),
            (Piece::Second(type_id), Some(second)) => text(&mut joined, second, *type_id),
            (Piece::Second(_), None) => (),
            (Piece::Token(id, type_id), _) if special => joined.push_special(*id, *type_id),
            (Piece::Token(..), _) => (),
        }
    }
    joined
}

/// Takes the spaces at the ends of tokens off their offsets in `text`; `token` gives the text of a token,
/// or nothing where the token is whatever stands in the text.
pub(crate) fn trim_offsets<'a>(
    encoding: &mut Encoding,
    text: &'a str,
    prefix_space: bool,
    token: impl Fn(u32) -> Option<&'a str>,
) {
    let space = |c: &char| *c == byte_char(b' ') || is_space(*c);
    for i in 0..encoding.ids.len() {
        let (from, to) = encoding.offsets[i];
        let token = token(encoding.ids[i]).unwrap_or(&text[from..to]);
        let leading = token.chars().take_while(space).count();
        let trailing = token.chars().rev().take_while(space).count();
        let (start, end) = encoding.char_offsets[i];
        // A text that begins with spaces got none in front; more than one are the text's own.
        let put_in = leading == 1 && prefix_space && (i == 0 || start == 0);
        let first = (start + if put_in { 0 } else { leading }).min(end);
        let last = if end >= trailing { (end - trailing).max(first) } else { end };
        if (first, last) != (start, end) {
            encoding.char_offsets[i] = (first, last);
            let ahead = |chars: usize| text[from..to].chars().take(chars).map(char::len_utf8).sum::<usize>();
            encoding.offsets[i] = (from + ahead(first - start), from + ahead(last - start));
        }
    }
}
