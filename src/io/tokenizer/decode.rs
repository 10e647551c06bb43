//! Decoders: ids back to text, token by token.
//!
//! Decoding a list is decoding a stream of it: there is one implementation, so that what a stream shows is
//! what the list gives. A character whose bytes come in several tokens is held back until it is whole.

mod stages;

use super::Tokenizer;
use super::patterns::Pattern;
use crate::Result;
use crate::io::flat::Writer;
use alloc::string::String;
use alloc::vec::Vec;

/// One step from token to text.
pub(crate) trait Stage: Send + Sync {
    /// Changes a token, or at the end what was held back.
    fn run(&self, state: &mut State, piece: &mut String);
    /// Its number in a flat tokenizer.
    fn number(&self) -> usize;
    /// Writes what [`super::flat::Parts`] read behind that number.
    fn write(&self, _: &mut Writer) -> Result<()> {
        Ok(())
    }
}

/// Characters become the bytes that they stand for.
pub(crate) struct ByteLevel;

/// `<0x0A>` becomes that byte.
pub(crate) struct ByteFallback;

/// Continuations lose their prefix, other words get a space in front.
pub(crate) struct WordPiece {
    pub prefix: String,
    /// Whether the spaces before punctuation and contractions go.
    pub cleanup: bool,
}

/// `▁` becomes a space.
pub(crate) struct Metaspace {
    /// The `▁`.
    pub replacement: char,
    /// Whether the first token loses it instead.
    pub drop_first: bool,
}

/// Characters at the ends of a token, or of the whole text, go.
pub(crate) struct Strip {
    pub content: char,
    /// The most at the beginning.
    pub start: usize,
    /// The most at the end.
    pub stop: usize,
    /// Whether the ends are those of the whole text.
    pub whole: bool,
}

/// Every match in a token is replaced.
pub(crate) struct Replace(pub Pattern, pub String);

/// The end of a word becomes a space, but for the last.
pub(crate) struct Suffix(pub String);

/// A space between tokens.
pub(crate) struct Spaces;

/// What stages remember from token to token.
#[derive(Default)]
pub(crate) struct State {
    /// Whether a token came before this.
    later: bool,
    /// Whether this is the end, and no token.
    end: bool,
    /// The beginning of a character.
    bytes: Vec<u8>,
    /// Of a [`Strip`] of the whole text: how many are gone at the beginning and whether that is over, how many wait at
    /// the end.
    gone: usize,
    begun: bool,
    waiting: usize,
    /// Of a [`Suffix`]: a token that may be the last.
    last: String,
}

/// Turns ids into text as they come: [`Tokenizer::decoder`].
///
/// ```
/// use samebits::io::tokenizer::{Decoder, Tokenizer};
/// let tokenizer = Tokenizer::from_vocab_txt("[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##able\n")?;
/// let mut decoder: Decoder = tokenizer.decoder(true);
/// let mut text = String::new();
/// for id in [4, 5] {
///     text += decoder.push(id); // as soon as it is whole
/// }
/// text += decoder.finish();
/// assert_eq!(text, "unable");
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    state: State,
    out: String,
}

impl<'t> Decoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Decoder { tokenizer, skip_special, state: State::default(), out: String::new() }
    }

    /// The text that the next token completes; often empty in the middle of a character. An id without a
    /// token gives nothing.
    pub fn push(&mut self, id: u32) -> &str {
        self.out.clear();
        let tokenizer = self.tokenizer;
        if let Some(token) = tokenizer.id_to_token(id)
            && !(self.skip_special && tokenizer.is_special(id))
        {
            self.out.push_str(token);
            self.stages();
            self.state.later = true;
        }
        &self.out
    }

    /// The text that was held back: a character that never became whole, as U+FFFD. The decoder is then as
    /// new.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        if self.state.later {
            self.state.end = true;
            self.stages();
        }
        self.state = State::default();
        &self.out
    }

    /// Runs the token in `out` through all stages; at the end of the text, what they held back.
    fn stages(&mut self) {
        self.tokenizer.stages.iter().for_each(|stage| stage.run(&mut self.state, &mut self.out));
    }
}

impl State {
    /// Moves the whole characters from `bytes` to `piece`. A bad sequence of n bytes becomes `signs(n)` times
    /// U+FFFD; one that may yet be continued stays, unless this is the end.
    fn take_whole(&mut self, piece: &mut String, end: bool, signs: fn(usize) -> usize) {
        let mut rest = self.bytes.as_slice();
        loop {
            let error = match core::str::from_utf8(rest) {
                Ok(text) => {
                    piece.push_str(text);
                    break self.bytes.clear();
                }
                Err(error) => error,
            };
            let (good, bad) = rest.split_at(error.valid_up_to());
            piece.push_str(core::str::from_utf8(good).unwrap_or_default());
            let length = match error.error_len() {
                Some(length) => length,
                None if end => bad.len(),
                None => {
                    let held = bad.len();
                    self.bytes.drain(..self.bytes.len() - held);
                    return;
                }
            };
            piece.extend(core::iter::repeat_n('\u{fffd}', signs(length)));
            rest = &bad[length..];
        }
    }
}
