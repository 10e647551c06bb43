//! The steps by which a text is cut into words.

use super::{
    Behavior, Bert, ByteLevel, Digits, Metaspace, PreTokenize, PreTokenizer, Prepend, Punctuation, Split,
    Whitespace, WhitespaceSplit, Words, byte_char,
};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use crate::io::tokenizer::patterns::{Pattern, find, gpt2};
use crate::io::tokenizer::unicode::{Set, is_punctuation, is_space, is_word};
use alloc::boxed::Box;

impl PreTokenize for ByteLevel {
    fn apply(&self, words: &mut Words) {
        if self.prefix_space {
            words.prepend(' ', |text, _| !text.starts_with(' '));
        }
        if self.cut {
            words.cut(Behavior::Isolated, false, |text, at| find(gpt2, text, at));
        }
        words.rewrite(|c, put| {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| put(byte_char(b)));
        });
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.flag(self.prefix_space);
        to.flag(self.cut);
        Ok(())
    }
}

impl ByteLevel {
    pub const NUMBER: usize = 0;

    pub fn read(from: &mut Reader<'_>) -> Result<PreTokenizer> {
        let mut flag = || from.flag("how bytes are cut");
        Ok(Box::new(ByteLevel { prefix_space: flag()?, cut: flag()? }))
    }
}

impl PreTokenize for Metaspace {
    fn apply(&self, words: &mut Words) {
        let Metaspace { replacement, prepend, cut } = *self;
        words.rewrite(|c, put| put(if c == ' ' { replacement } else { c }));
        if prepend != Prepend::Never {
            words.prepend(replacement, |text, first| {
                !text.starts_with(replacement) && (first || prepend == Prepend::Always)
            });
        }
        if cut {
            words.cut_by(Behavior::MergedWithNext, |c| c == replacement);
        }
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.u32(self.replacement.into());
        to.one_of(&Prepend::ALL, &self.prepend);
        to.flag(self.cut);
        Ok(())
    }
}

impl Metaspace {
    pub const NUMBER: usize = 1;

    pub fn read(from: &mut Reader<'_>) -> Result<PreTokenizer> {
        let replacement = from.character()?;
        let prepend = from.one_of("where a space is put in front", &Prepend::ALL)?;
        Ok(Box::new(Metaspace { replacement, prepend, cut: from.flag("whether spaces cut")? }))
    }
}

impl PreTokenize for Whitespace {
    fn apply(&self, words: &mut Words) {
        words.cut(Behavior::Removed, true, |text, at| {
            let start = at + text[at..].find(|c| !is_space(c))?;
            let word = text[start..].starts_with(is_word);
            let len = text[start..].find(|c| is_space(c) || is_word(c) != word);
            Some(start..len.map_or(text.len(), |len| start + len))
        });
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl Whitespace {
    pub const NUMBER: usize = 2;

    pub fn read(_: &mut Reader<'_>) -> Result<PreTokenizer> {
        Ok(Box::new(Whitespace))
    }
}

impl PreTokenize for WhitespaceSplit {
    fn apply(&self, words: &mut Words) {
        words.cut_by(Behavior::Removed, is_space);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl WhitespaceSplit {
    pub const NUMBER: usize = 3;

    pub fn read(_: &mut Reader<'_>) -> Result<PreTokenizer> {
        Ok(Box::new(WhitespaceSplit))
    }
}

impl PreTokenize for Bert {
    fn apply(&self, words: &mut Words) {
        words.cut_by(Behavior::Removed, is_space);
        words.cut_by(Behavior::Isolated, is_punctuation);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }
}

impl Bert {
    pub const NUMBER: usize = 4;

    pub fn read(_: &mut Reader<'_>) -> Result<PreTokenizer> {
        Ok(Box::new(Bert))
    }
}

impl PreTokenize for Digits {
    fn apply(&self, words: &mut Words) {
        let behavior = if self.individually { Behavior::Isolated } else { Behavior::Contiguous };
        words.cut_by(behavior, |c| Set::NUMBER.has(c));
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.flag(self.individually);
        Ok(())
    }
}

impl Digits {
    pub const NUMBER: usize = 5;

    pub fn read(from: &mut Reader<'_>) -> Result<PreTokenizer> {
        Ok(Box::new(Digits { individually: from.flag("whether digits stand alone")? }))
    }
}

impl PreTokenize for Punctuation {
    fn apply(&self, words: &mut Words) {
        words.cut_by(self.0, is_punctuation);
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        to.one_of(&Behavior::ALL, &self.0);
        Ok(())
    }
}

impl Punctuation {
    pub const NUMBER: usize = 6;

    pub fn read(from: &mut Reader<'_>) -> Result<PreTokenizer> {
        Ok(Box::new(Punctuation(Behavior::read(from)?)))
    }
}

impl PreTokenize for Split {
    fn apply(&self, words: &mut Words) {
        words.cut(self.behavior, self.invert, |text, at| self.pattern.find(text, at));
    }

    fn number(&self) -> usize {
        if self.pattern.is_literal() { Self::LITERAL } else { Self::KNOWN }
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.pattern.write(to)?;
        to.one_of(&Behavior::ALL, &self.behavior);
        to.flag(self.invert);
        Ok(())
    }
}

impl Split {
    pub const LITERAL: usize = 7;
    pub const KNOWN: usize = 8;

    fn read(pattern: Pattern, from: &mut Reader<'_>) -> Result<PreTokenizer> {
        let behavior = Behavior::read(from)?;
        Ok(Box::new(Split { pattern, behavior, invert: from.flag("whether matches are between")? }))
    }

    pub fn read_literal(from: &mut Reader<'_>) -> Result<PreTokenizer> {
        Split::read(Pattern::read_literal(from)?, from)
    }

    pub fn read_known(from: &mut Reader<'_>) -> Result<PreTokenizer> {
        Split::read(Pattern::read_known(from)?, from)
    }
}
