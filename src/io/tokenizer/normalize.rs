//! Normalisers: what happens to a text before it is cut into words.

use super::aligned::Aligned;
use super::charsmap::Charsmap;
use super::patterns::Pattern;
use super::unicode::{self, Form, Set};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use alloc::boxed::Box;
use alloc::string::String;

/// One step of normalisation.
pub(crate) trait Normalize: Send + Sync {
    /// Applies the step.
    fn apply(&self, text: &mut Aligned);
    /// Its number in a flat tokenizer.
    fn number(&self) -> usize;
    /// Writes what [`super::flat::Parts`] read behind that number.
    fn write(&self, _: &mut Writer) -> Result<()> {
        Ok(())
    }
}

/// A step.
pub(crate) type Normalizer = Box<dyn Normalize>;

/// What BERT's normaliser does, in this order.
pub(crate) struct Bert {
    /// Control characters go, white space becomes a space.
    pub clean_text: bool,
    /// Ideographs are set between spaces.
    pub chinese_chars: bool,
    /// Decomposes, then removes nonspacing marks.
    pub strip_accents: bool,
    /// Lower case.
    pub lowercase: bool,
}

/// Lower case, character by character.
pub(crate) struct Lowercase;

/// Without marks.
pub(crate) struct StripAccents;

/// Without white space at the ends.
pub(crate) struct Strip {
    /// At the beginning.
    pub left: bool,
    /// At the end.
    pub right: bool,
}

/// Every match replaced.
pub(crate) struct Replace(pub Pattern, pub String);

/// A text put in front of every text that is not empty.
pub(crate) struct Prepend(pub String);

/// SentencePiece's table of replacements, as `tokenizers` applies it.
pub(crate) struct Precompiled(pub Charsmap);

impl Normalize for Bert {
    fn apply(&self, text: &mut Aligned) {
        if self.clean_text || self.chinese_chars {
            text.map(|c, put| self.clean(c, put));
        }
        if self.strip_accents && !text.text.is_ascii() {
            text.normalize(Form::Nfd);
            keep(text, |c| !Set::MN.has(c));
        }
        if self.lowercase {
            text.map(|c, put| unicode::lower(c, put));
        }
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        let flags = [self.clean_text, self.chinese_chars, self.strip_accents, self.lowercase];
        flags.iter().for_each(|&flag| to.flag(flag));
        Ok(())
    }
}

impl Normalize for Form {
    fn apply(&self, text: &mut Aligned) {
        text.normalize(*self);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.one_of(&Form::ALL, self);
        Ok(())
    }
}

impl Form {
    pub const NUMBER: usize = 1;

    pub fn read(from: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(from.one_of("a normal form", &Form::ALL)?))
    }
}

impl Normalize for Lowercase {
    fn apply(&self, text: &mut Aligned) {
        text.map(|c, put| unicode::lower(c, put));
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl Lowercase {
    pub const NUMBER: usize = 2;

    pub fn read(_: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(Lowercase))
    }
}

impl Normalize for StripAccents {
    fn apply(&self, text: &mut Aligned) {
        keep(text, |c| !Set::MARK.has(c));
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl StripAccents {
    pub const NUMBER: usize = 3;

    pub fn read(_: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(StripAccents))
    }
}

impl Normalize for Strip {
    fn apply(&self, text: &mut Aligned) {
        strip(text, self.left, self.right);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.flag(self.left);
        to.flag(self.right);
        Ok(())
    }
}

impl Strip {
    pub const NUMBER: usize = 4;

    pub fn read(from: &mut Reader<'_>) -> Result<Normalizer> {
        let mut flag = || from.flag("whether an end is stripped");
        Ok(Box::new(Strip { left: flag()?, right: flag()? }))
    }
}

impl Normalize for Replace {
    fn apply(&self, text: &mut Aligned) {
        replace(text, &self.0, &self.1);
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

    pub fn read_literal(from: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(Replace(Pattern::read_literal(from)?, from.text()?.into())))
    }

    pub fn read_known(from: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(Replace(Pattern::read_known(from)?, from.text()?.into())))
    }
}

impl Normalize for Prepend {
    fn apply(&self, text: &mut Aligned) {
        prepend(text, &self.0);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.text(&self.0)
    }
}

impl Prepend {
    pub const NUMBER: usize = 7;

    pub fn read(from: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(Prepend(from.text()?.into())))
    }
}

impl Normalize for Precompiled {
    fn apply(&self, text: &mut Aligned) {
        self.0.apply(text);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.0.write(to)
    }
}

impl Precompiled {
    pub const NUMBER: usize = 8;

    pub fn read(from: &mut Reader<'_>) -> Result<Normalizer> {
        Ok(Box::new(Precompiled(Charsmap::read(from)?)))
    }
}

fn keep(text: &mut Aligned, wanted: impl Fn(char) -> bool) {
    text.map(|c, put| {
        if wanted(c) {
            put(c);
        }
    });
}

fn prepend(text: &mut Aligned, front: &str) {
    if text.text.is_empty() || front.is_empty() {
        return;
    }
    let mut change = text.change();
    change.insert(front, 0);
    change.keep(0..text.text.len());
    let done = change.done();
    text.set(done);
}

fn strip(text: &mut Aligned, left: bool, right: bool) {
    let whole = &text.text;
    let rest = if left { whole.trim_start_matches(unicode::is_space) } else { whole };
    let start = whole.len() - rest.len();
    let end = start + if right { rest.trim_end_matches(unicode::is_space).len() } else { rest.len() };
    if (start, end) != (0, whole.len()) {
        let mut change = text.change();
        change.keep(start..end);
        let done = change.done();
        text.set(done);
    }
}

/// Replaces every match; what is put in shares the place of the last character of the match.
pub(crate) fn replace(text: &mut Aligned, pattern: &Pattern, with: &str) {
    let mut change = text.change();
    let mut at = 0;
    while let Some(found) = pattern.find(&text.text, at) {
        change.keep(at..found.start);
        change.insert(with, found.end - 1);
        at = found.end;
    }
    if at > 0 {
        change.keep(at..text.text.len());
        let done = change.done();
        text.set(done);
    }
}

/// The blocks of ideographs, as BERT lists them. (The fifth begins at 2B920, as `tokenizers` has it; BERT's
/// own list says 2B820.)
fn is_chinese(c: char) -> bool {
    matches!(c as u32,
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f
        | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

impl Bert {
    pub const NUMBER: usize = 0;

    pub fn read(from: &mut Reader<'_>) -> Result<Normalizer> {
        let mut flag = || from.flag("what BERT's normaliser does");
        let (clean_text, chinese_chars) = (flag()?, flag()?);
        Ok(Box::new(Bert { clean_text, chinese_chars, strip_accents: flag()?, lowercase: flag()? }))
    }

    /// Cleans one character and sets it apart where it is an ideograph.
    fn clean(&self, c: char, put: &mut dyn FnMut(char)) {
        if (' '..='~').contains(&c) {
            return put(c);
        }
        if self.clean_text {
            if unicode::is_space(c) && !matches!(c, '\u{b}' | '\u{c}' | '\u{85}') {
                return put(' ');
            }
            if c == '\0' || c == '\u{fffd}' || Set::OTHER.has(c) {
                return;
            }
        }
        if self.chinese_chars && is_chinese(c) {
            [' ', c, ' '].into_iter().for_each(put);
        } else {
            put(c);
        }
    }
}
