//! The steps from tokens to text.

use super::{ByteFallback, ByteLevel, Metaspace, Replace, Spaces, Stage, State, Strip, Suffix, WordPiece};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use crate::io::tokenizer::patterns::Pattern;
use crate::io::tokenizer::pretokenize::char_byte;
use alloc::boxed::Box;
use alloc::string::String;

impl Stage for ByteLevel {
    fn run(&self, state: &mut State, piece: &mut String) {
        let from = state.bytes.len();
        for c in piece.chars() {
            match char_byte(c) {
                Some(byte) => state.bytes.push(byte),
                None => {
                    // Not a token of bytes: it stands for itself.
                    state.bytes.truncate(from);
                    state.bytes.extend_from_slice(piece.as_bytes());
                    break;
                }
            }
        }
        piece.clear();
        state.take_whole(piece, state.end, |_| 1);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl ByteLevel {
    pub const NUMBER: usize = 0;

    pub fn read(_: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(ByteLevel))
    }
}

impl Stage for ByteFallback {
    /// Where a byte can no longer become part of a character, it becomes U+FFFD and what is good stays, as
    /// SentencePiece has it. (`tokenizers` makes every byte of such a run U+FFFD, which no stream can.)
    fn run(&self, state: &mut State, piece: &mut String) {
        let hex = piece.strip_prefix("<0x").and_then(|p| p.strip_suffix('>')).filter(|h| h.len() == 2);
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            state.bytes.push(byte);
            piece.clear();
            state.take_whole(piece, state.end, |bad| bad);
        } else if !state.bytes.is_empty() {
            let mut before = String::new();
            state.take_whole(&mut before, true, |bad| bad);
            piece.insert_str(0, &before);
        }
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl ByteFallback {
    pub const NUMBER: usize = 1;

    pub fn read(_: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(ByteFallback))
    }
}

impl Stage for WordPiece {
    fn run(&self, state: &mut State, piece: &mut String) {
        if state.end {
            return; // there is no token
        }
        let mut word = String::new();
        match piece.strip_prefix(&*self.prefix).filter(|_| state.later) {
            Some(rest) => word.push_str(rest),
            None => {
                if state.later {
                    word.push(' ');
                }
                word.push_str(piece);
            }
        }
        if self.cleanup {
            for (dirty, clean) in CLEANUP {
                if word.contains(dirty) {
                    word = word.replace(dirty, clean);
                }
            }
        }
        *piece = word;
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.text(&self.prefix)?;
        to.flag(self.cleanup);
        Ok(())
    }
}

impl WordPiece {
    pub const NUMBER: usize = 2;

    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(WordPiece {
            prefix: from.text()?.into(),
            cleanup: from.flag("whether text is cleaned up")?,
        }))
    }
}

impl Stage for Metaspace {
    fn run(&self, state: &mut State, piece: &mut String) {
        if !state.end {
            let space = if !state.later && self.drop_first { "" } else { " " };
            *piece = piece.replace(self.replacement, space);
        }
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.u32(self.replacement.into());
        to.flag(self.drop_first);
        Ok(())
    }
}

impl Metaspace {
    pub const NUMBER: usize = 3;

    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        let (replacement, drop_first) = (from.character()?, from.flag("whether the first space goes")?);
        Ok(Box::new(Metaspace { replacement, drop_first }))
    }
}

impl Stage for Strip {
    fn run(&self, state: &mut State, piece: &mut String) {
        if self.whole {
            self.strip_text(state, piece);
        } else if !state.end {
            strip_token(piece, self.content, self.start, self.stop);
        }
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.u32(self.content.into());
        // All of them are more than a token has characters.
        to.u32(self.start.try_into().unwrap_or(u32::MAX));
        to.u32(self.stop.try_into().unwrap_or(u32::MAX));
        to.flag(self.whole);
        Ok(())
    }
}

impl Strip {
    pub const NUMBER: usize = 4;

    /// Takes up to `start` of `content` off the beginning of the text and keeps up to `stop` of them back,
    /// since they may be its end.
    fn strip_text(&self, state: &mut State, piece: &mut String) {
        let Strip { content, start, stop, .. } = *self;
        let mut kept = String::with_capacity(piece.len());
        for c in piece.chars() {
            if !state.begun && c == content && state.gone < start {
                state.gone += 1;
                continue;
            }
            state.begun = true;
            if c == content && state.waiting < stop {
                state.waiting += 1;
                continue;
            }
            if c != content {
                kept.extend(core::iter::repeat_n(content, core::mem::take(&mut state.waiting)));
            }
            kept.push(c);
        }
        *piece = kept;
    }

    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        let (content, start, stop) = (from.character()?, from.u32()? as usize, from.u32()? as usize);
        Ok(Box::new(Strip { content, start, stop, whole: from.flag("whether texts are stripped")? }))
    }
}

impl Stage for Replace {
    fn run(&self, _: &mut State, piece: &mut String) {
        *piece = replace(piece, &self.0, &self.1);
    }

    fn number(&self) -> usize {
        if self.0.is_literal() { Self::LITERAL } else { Self::KNOWN }
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.0.write(to)?;
        to.text(&self.1)
    }
}

impl Replace {
    pub const LITERAL: usize = 5;
    pub const KNOWN: usize = 6;

    pub fn read_literal(from: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Replace(Pattern::read_literal(from)?, from.text()?.into())))
    }

    pub fn read_known(from: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Replace(Pattern::read_known(from)?, from.text()?.into())))
    }
}

impl Stage for Suffix {
    fn run(&self, state: &mut State, piece: &mut String) {
        let (suffix, end) = (self.0.as_str(), state.end);
        let mut out = String::new();
        if !piece.is_empty() || end {
            let last = core::mem::take(&mut state.last);
            out = last.replace(suffix, if end && piece.is_empty() { "" } else { " " });
        }
        match (piece.contains(suffix), end) {
            (true, false) => state.last.clone_from(piece),
            (true, true) => out.push_str(&piece.replace(suffix, "")),
            (false, _) => out.push_str(piece),
        }
        *piece = out;
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.text(&self.0)
    }
}

impl Suffix {
    pub const NUMBER: usize = 7;

    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Suffix(from.text()?.into())))
    }
}

impl Stage for Spaces {
    fn run(&self, state: &mut State, piece: &mut String) {
        if state.later && !state.end {
            piece.insert(0, ' ');
        }
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl Spaces {
    pub const NUMBER: usize = 8;

    pub fn read(_: &mut Reader<'_>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Spaces))
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
