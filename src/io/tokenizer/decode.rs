//! Decoders: ids back to text, token by token.
//!
//! Decoding a list is decoding a stream of it: there is one implementation, so that what a stream shows is
//! what the list gives. A character whose bytes come in several tokens is held back until it is whole.

use super::Tokenizer;
use super::patterns::Pattern;
use super::pretokenize::char_byte;
use alloc::string::String;
use alloc::vec::Vec;

/// One step from token to text.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Characters become the bytes that they stand for.
    ByteLevel,
    /// `<0x0A>` becomes that byte.
    ByteFallback,
    /// Continuations lose their prefix, other words get a space in front.
    WordPiece {
        /// The prefix.
        prefix: String,
        /// Whether the spaces before punctuation and contractions go.
        cleanup: bool,
    },
    /// `▁` becomes a space.
    Metaspace {
        /// The `▁`.
        replacement: char,
        /// Whether the first token loses it instead.
        drop_first: bool,
    },
    /// Characters at the ends of a token, or of the whole text, go.
    Strip {
        /// The character.
        content: char,
        /// The most at the beginning.
        start: usize,
        /// The most at the end.
        stop: usize,
        /// Whether the ends are those of the whole text.
        whole: bool,
    },
    /// Every match in a token is replaced.
    Replace(Pattern, String),
    /// The end of a word becomes a space, but for the last.
    Suffix(String),
    /// A space between tokens.
    Spaces,
}

/// Turns ids into text as they come: [`Tokenizer::decoder`].
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    first: bool,
    /// The beginning of a character.
    bytes: Vec<u8>,
    /// Of a [`Stage::Strip`] of the whole text: how many are gone at the beginning and whether that is over,
    /// how many wait at the end.
    gone: usize,
    begun: bool,
    waiting: usize,
    /// Of a [`Stage::Suffix`]: a token that may be the last.
    last: String,
    out: String,
}

impl<'t> Decoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Decoder {
            tokenizer,
            skip_special,
            first: true,
            bytes: Vec::new(),
            gone: 0,
            begun: false,
            waiting: 0,
            last: String::new(),
            out: String::new(),
        }
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
            self.stages(false);
            self.first = false;
        }
        &self.out
    }

    /// The text that was held back: a character that never became whole, as U+FFFD. The decoder is then as
    /// new.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        if !self.first {
            self.stages(true);
        }
        let out = core::mem::take(&mut self.out);
        *self = Decoder::new(self.tokenizer, self.skip_special);
        self.out = out;
        &self.out
    }

    /// Runs the token in `out` through all stages; at the end of the text, what they held back.
    fn stages(&mut self, end: bool) {
        let tokenizer = self.tokenizer;
        let mut piece = core::mem::take(&mut self.out);
        for stage in &tokenizer.stages {
            match stage {
                Stage::ByteLevel => self.byte_level(&mut piece, end),
                Stage::ByteFallback => self.byte_fallback(&mut piece, end),
                Stage::Strip { content, start, stop, whole: true } => {
                    self.strip_text(&mut piece, *content, *start, *stop);
                }
                Stage::Suffix(suffix) => self.suffix(&mut piece, suffix, end),
                Stage::Replace(pattern, with) => piece = replace(&piece, pattern, with),
                _ if end => (), // a stage that works on tokens: there is none
                Stage::WordPiece { prefix, cleanup } => piece = self.word_piece(&piece, prefix, *cleanup),
                Stage::Metaspace { replacement, drop_first } => {
                    let space = if self.first && *drop_first { "" } else { " " };
                    piece = piece.replace(*replacement, space);
                }
                Stage::Strip { content, start, stop, whole: false } => {
                    strip_token(&mut piece, *content, *start, *stop);
                }
                Stage::Spaces if self.first => (),
                Stage::Spaces => piece.insert(0, ' '),
            }
        }
        self.out = piece;
    }

    fn byte_level(&mut self, piece: &mut String, end: bool) {
        let from = self.bytes.len();
        for c in piece.chars() {
            match char_byte(c) {
                Some(byte) => self.bytes.push(byte),
                None => {
                    // Not a token of bytes: it stands for itself.
                    self.bytes.truncate(from);
                    self.bytes.extend_from_slice(piece.as_bytes());
                    break;
                }
            }
        }
        piece.clear();
        self.take_whole(piece, end, |_| 1);
    }

    /// Where a byte can no longer become part of a character, it becomes U+FFFD and what is good stays, as
    /// SentencePiece has it. (`tokenizers` makes every byte of such a run U+FFFD, which no stream can.)
    fn byte_fallback(&mut self, piece: &mut String, end: bool) {
        let hex = piece.strip_prefix("<0x").and_then(|p| p.strip_suffix('>')).filter(|h| h.len() == 2);
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            self.bytes.push(byte);
            piece.clear();
            self.take_whole(piece, end, |bad| bad);
        } else if !self.bytes.is_empty() {
            let mut before = String::new();
            self.take_whole(&mut before, true, |bad| bad);
            piece.insert_str(0, &before);
        }
    }

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

    fn word_piece(&self, piece: &str, prefix: &str, cleanup: bool) -> String {
        let mut word = String::new();
        match piece.strip_prefix(prefix).filter(|_| !self.first) {
            Some(rest) => word.push_str(rest),
            None => {
                if !self.first {
                    word.push(' ');
                }
                word.push_str(piece);
            }
        }
        if cleanup {
            for (dirty, clean) in CLEANUP {
                if word.contains(dirty) {
                    word = word.replace(dirty, clean);
                }
            }
        }
        word
    }

    /// Takes up to `start` of `content` off the beginning of the text and keeps up to `stop` of them back,
    /// since they may be its end.
    fn strip_text(&mut self, piece: &mut String, content: char, start: usize, stop: usize) {
        let mut kept = String::with_capacity(piece.len());
        for c in piece.chars() {
            if !self.begun && c == content && self.gone < start {
                self.gone += 1;
                continue;
            }
            self.begun = true;
            if c == content && self.waiting < stop {
                self.waiting += 1;
                continue;
            }
            if c != content {
                kept.extend(core::iter::repeat_n(content, core::mem::take(&mut self.waiting)));
            }
            kept.push(c);
        }
        *piece = kept;
    }

    fn suffix(&mut self, piece: &mut String, suffix: &str, end: bool) {
        let mut out = String::new();
        if !piece.is_empty() || end {
            let last = core::mem::take(&mut self.last);
            out = last.replace(suffix, if end && piece.is_empty() { "" } else { " " });
        }
        match (piece.contains(suffix), end) {
            (true, false) => self.last.clone_from(piece),
            (true, true) => out.push_str(&piece.replace(suffix, "")),
            (false, _) => out.push_str(piece),
        }
        *piece = out;
    }
}

/// The spaces that tokenising English puts in.
const CLEANUP: [(&str, &str); 11] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

fn replace(piece: &str, pattern: &Pattern, with: &str) -> String {
    let mut out = String::with_capacity(piece.len());
    let mut at = 0;
    while let Some(found) = pattern.find(piece, at) {
        out.push_str(&piece[at..found.start]);
        out.push_str(with);
        at = found.end;
    }
    out.push_str(&piece[at..]);
    out
}

fn strip_token(piece: &mut String, content: char, start: usize, stop: usize) {
    for _ in 0..start {
        if !piece.starts_with(content) {
            break;
        }
        piece.remove(0);
    }
    for _ in 0..stop {
        if !piece.ends_with(content) {
            break;
        }
        piece.pop();
    }
}
