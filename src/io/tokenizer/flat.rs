//! A tokenizer as a flat model keeps it: its parts as they are when they are ready, tables to be searched where they lie.
//!
//! ```text
//!   model  number, vocabulary (texts, places, slots), merges (slots) …
//!   steps  how many, then number and fields of each:  normalisers · what cuts · what goes around · what decodes
//!   added tokens · limits · ids with a part to play
//! ```
//!
//! Nothing is parsed: a program that reads this needs no reader of any tokenizer's file. [`Parts`] names the kinds of parts
//! that it reads; of others it has no code, nor the tables of Unicode that those look into.

use super::added::{Added, AddedToken};
use super::bpe::Bpe;
use super::decode::{self, Stage};
use super::encoding::{Padding, Side, Strategy, Truncation};
use super::normalize::{self, Normalizer};
use super::post::{Piece, Post};
use super::pretokenize::{self, PreTokenizer};
use super::sentencepiece::{SpmBpe, SpmNormalizer};
use super::unicode::{Form, is_word};
use super::unigram::Unigram;
use super::wordpiece::{WordLevel, WordPiece};
use super::{Model, Special, Tokenizer};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// A tokenizer as a flat file keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatTokenizer {
    bytes: Vec<u8>,
}

impl FlatTokenizer {
    /// The parts of a tokenizer.
    ///
    /// # Errors
    /// Where it is larger than the format can say.
    pub fn of(tokenizer: &Tokenizer) -> Result<FlatTokenizer> {
        let mut to = Writer::part();
        tokenizer.write(&mut to)?;
        Ok(FlatTokenizer { bytes: to.into_part() })
    }

    pub(crate) fn write(&self, to: &mut Writer) -> Result<()> {
        to.count(self.bytes.len())?;
        to.bytes(&self.bytes);
        Ok(())
    }
}

/// What [`FlatTokenizer::write`] wrote.
pub(crate) fn part<'a>(from: &mut Reader<'a>) -> Result<Reader<'a>> {
    let n = from.count("the bytes of the tokenizer", 1, usize::MAX)?;
    from.part(n)
}

/// Reads the fields of a part.
type Read<T> = fn(&mut Reader<'_>) -> Result<T>;

/// The parts of tokenizers that a program reads from flat models. What it does not name, it has no code for.
///
/// ```
/// use samebits::io::tokenizer::Parts;
/// const PARTS: Parts = Parts::NONE.byte_level(); // for `Flat::tokenizer_of`
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    models: [Option<Read<Box<dyn Model>>>; 5],
    normalizers: [Option<Read<Normalizer>>; 10],
    splitters: [Option<Read<PreTokenizer>>; 9],
    stages: [Option<Read<Box<dyn Stage>>>; 9],
    /// Which characters make words, for added tokens that stand alone.
    word: Option<fn(char) -> bool>,
}

impl Parts {
    /// None, to begin with.
    pub const NONE: Parts = Parts {
        models: [None; 5],
        normalizers: [None; 10],
        splitters: [None; 9],
        stages: [None; 9],
        word: None,
    };

    /// Every one.
    pub const ALL: Parts = Parts::NONE.byte_level().split().sentencepiece().unigram().word_piece().others();

    /// And byte-pair encoding of bytes, cut as GPT-2 cuts.
    #[must_use]
    pub const fn byte_level(mut self) -> Parts {
        self.models[Bpe::NUMBER] = Some(Bpe::read);
        self.splitters[pretokenize::ByteLevel::NUMBER] = Some(pretokenize::ByteLevel::read);
        self.stages[decode::ByteLevel::NUMBER] = Some(decode::ByteLevel::read);
        self
    }

    /// And what Llama 3, Qwen, GPT-4 and others have beside [`Parts::byte_level`]: patterns of their own, digits apart,
    /// composed characters.
    #[must_use]
    pub const fn split(mut self) -> Parts {
        self.normalizers[Form::NUMBER] = Some(Form::read);
        self.splitters[pretokenize::Split::LITERAL] = Some(pretokenize::Split::read_literal);
        self.splitters[pretokenize::Split::KNOWN] = Some(pretokenize::Split::read_known);
        self.splitters[pretokenize::Digits::NUMBER] = Some(pretokenize::Digits::read);
        self.splitters[pretokenize::Punctuation::NUMBER] = Some(pretokenize::Punctuation::read);
        self
    }

    /// And byte-pair encoding as SentencePiece runs it, or `tokenizers` in its place: Llama 2's, Gemma's.
    #[must_use]
    pub const fn sentencepiece(mut self) -> Parts {
        self.models[SpmBpe::NUMBER] = Some(SpmBpe::read);
        self.models[Bpe::NUMBER] = Some(Bpe::read);
        self.normalizers[normalize::Prepend::NUMBER] = Some(normalize::Prepend::read);
        self.normalizers[normalize::Replace::LITERAL] = Some(normalize::Replace::read_literal);
        self.splitters[pretokenize::Split::LITERAL] = Some(pretokenize::Split::read_literal);
        self.spaces()
    }

    /// And Unigram as SentencePiece runs it: T5's.
    #[must_use]
    pub const fn unigram(mut self) -> Parts {
        self.models[Unigram::NUMBER] = Some(Unigram::read);
        self.spaces()
    }

    /// What SentencePiece does before and behind its models.
    const fn spaces(mut self) -> Parts {
        self.normalizers[SpmNormalizer::NUMBER] = Some(SpmNormalizer::read);
        self.stages[decode::Replace::LITERAL] = Some(decode::Replace::read_literal);
        self.stages[decode::ByteFallback::NUMBER] = Some(decode::ByteFallback::read);
        self.stages[decode::Strip::NUMBER] = Some(decode::Strip::read);
        self
    }

    /// And WordPiece: BERT's.
    #[must_use]
    pub const fn word_piece(mut self) -> Parts {
        self.models[WordPiece::NUMBER] = Some(WordPiece::read);
        self.normalizers[normalize::Bert::NUMBER] = Some(normalize::Bert::read);
        self.splitters[pretokenize::Bert::NUMBER] = Some(pretokenize::Bert::read);
        self.stages[decode::WordPiece::NUMBER] = Some(decode::WordPiece::read);
        self
    }

    /// And what is left: steps that files of `tokenizers` name, and added tokens that must stand alone.
    #[must_use]
    pub const fn others(mut self) -> Parts {
        self.models[WordLevel::NUMBER] = Some(WordLevel::read);
        self.normalizers[normalize::Lowercase::NUMBER] = Some(normalize::Lowercase::read);
        self.normalizers[normalize::StripAccents::NUMBER] = Some(normalize::StripAccents::read);
        self.normalizers[normalize::Strip::NUMBER] = Some(normalize::Strip::read);
        self.normalizers[normalize::Replace::KNOWN] = Some(normalize::Replace::read_known);
        self.normalizers[normalize::Precompiled::NUMBER] = Some(normalize::Precompiled::read);
        self.splitters[pretokenize::Metaspace::NUMBER] = Some(pretokenize::Metaspace::read);
        self.splitters[pretokenize::Whitespace::NUMBER] = Some(pretokenize::Whitespace::read);
        self.splitters[pretokenize::WhitespaceSplit::NUMBER] = Some(pretokenize::WhitespaceSplit::read);
        self.stages[decode::Metaspace::NUMBER] = Some(decode::Metaspace::read);
        self.stages[decode::Replace::KNOWN] = Some(decode::Replace::read_known);
        self.stages[decode::Suffix::NUMBER] = Some(decode::Suffix::read);
        self.stages[decode::Spaces::NUMBER] = Some(decode::Spaces::read);
        self.word = Some(is_word);
        self
    }

    /// What [`Tokenizer::write`] wrote, to the end.
    pub(crate) fn read(&self, from: &mut Reader<'_>) -> Result<Tokenizer> {
        let model = one(from, "a model", &self.models)?;
        let normalizers = list(from, "a normaliser", &self.normalizers)?;
        let splitters = list(from, "a pre-tokenizer", &self.splitters)?;
        let added = Added::new(from.counted(|from| self.added(from))?, &normalizers)?;
        let mut tokenizer = Tokenizer::assemble(model, added, normalizers, splitters);
        tokenizer.posts = from.counted(Post::read)?;
        tokenizer.stages = list(from, "a decoder", &self.stages)?;
        tokenizer.truncation = from.maybe("whether texts are cut", Truncation::read)?;
        tokenizer.padding = from.maybe("whether texts are filled", Padding::read)?;
        let mut id = || from.maybe("whether a special token is known", Reader::u32);
        tokenizer.special = Special { bos: id()?, eos: id()?, unk: id()?, pad: id()? };
        tokenizer.parses_special = from.flag("whether special tokens are found in texts")?;
        from.clone().finish()?;
        tokenizer.check_ids()?;
        Ok(tokenizer)
    }

    fn added(&self, from: &mut Reader<'_>) -> Result<AddedToken> {
        let (id, content) = (from.u32()?, from.text()?.into());
        let mut flag = || from.flag("how an added token is found");
        let (alone, lstrip, rstrip, normalized, special) = (flag()?, flag()?, flag()?, flag()?, flag()?);
        if alone && self.word.is_none() {
            return Err(from.error("an added token that stands alone, which this program does not read"));
        }
        let alone = self.word.filter(|_| alone);
        Ok(AddedToken { id, content, alone, lstrip, rstrip, normalized, special })
    }
}

/// The part whose number comes next.
fn one<T>(from: &mut Reader<'_>, what: &str, readers: &[Option<Read<T>>]) -> Result<T> {
    let number = from.count("the number of a part", 0, readers.len() - 1)?;
    match readers[number] {
        Some(read) => read(from),
        None => {
            Err(from
                .error(format!("{what} of a tokenizer, number {number}, which this program does not read")))
        }
    }
}

fn list<T>(from: &mut Reader<'_>, what: &str, readers: &[Option<Read<T>>]) -> Result<Vec<T>> {
    from.counted(|from| one(from, what, readers))
}

impl Tokenizer {
    fn write(&self, to: &mut Writer) -> Result<()> {
        to.count(self.model.number())?;
        self.model.write(to)?;
        to.list(self.normalizers.iter(), |to, step| {
            to.count(step.number())?;
            step.write(to)
        })?;
        to.list(self.splitters.iter(), |to, step| {
            to.count(step.number())?;
            step.write(to)
        })?;
        to.list(self.added.iter(), |to, token| {
            to.u32(token.id);
            to.text(&token.content)?;
            let flags = [token.alone.is_some(), token.lstrip, token.rstrip, token.normalized, token.special];
            flags.into_iter().for_each(|flag| to.flag(flag));
            Ok(())
        })?;
        to.list(self.posts.iter(), |to, post| post.write(to))?;
        to.list(self.stages.iter(), |to, step| {
            to.count(step.number())?;
            step.write(to)
        })?;
        to.flag(self.truncation.is_some());
        self.truncation.iter().try_for_each(|truncation| truncation.write(to))?;
        to.flag(self.padding.is_some());
        self.padding.iter().try_for_each(|padding| padding.write(to))?;
        let Special { bos, eos, unk, pad } = self.special;
        [bos, eos, unk, pad].into_iter().for_each(|id| to.maybe(id, Writer::u32));
        to.flag(self.parses_special);
        Ok(())
    }
}

impl Post {
    fn write(&self, to: &mut Writer) -> Result<()> {
        match self {
            Post::TrimOffsets { prefix_space } => {
                to.u32(0);
                to.flag(*prefix_space);
            }
            Post::Template { single, pair } => {
                to.u32(1);
                for pieces in [single, pair] {
                    to.list(pieces.iter(), |to, piece| {
                        let (kind, id, type_id) = match *piece {
                            Piece::First(type_id) => (0, 0, type_id),
                            Piece::Second(type_id) => (1, 0, type_id),
                            Piece::Token(id, type_id) => (2, id, type_id),
                        };
                        [kind, id, type_id].into_iter().for_each(|x| to.u32(x));
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    fn read(from: &mut Reader<'_>) -> Result<Post> {
        if !from.flag("what comes after the model")? {
            return Ok(Post::TrimOffsets { prefix_space: from.flag("whether a space was put in front")? });
        }
        let mut pieces = || {
            from.counted(|from| {
                let (kind, id, type_id) =
                    (from.count("the kind of a piece", 0, 2)?, from.u32()?, from.u32()?);
                Ok(match kind {
                    0 => Piece::First(type_id),
                    1 => Piece::Second(type_id),
                    _ => Piece::Token(id, type_id),
                })
            })
        };
        Ok(Post::Template { single: pieces()?, pair: pieces()? })
    }
}

const SIDES: [Side; 2] = [Side::Left, Side::Right];
const STRATEGIES: [Strategy; 3] = [Strategy::LongestFirst, Strategy::OnlyFirst, Strategy::OnlySecond];

impl Truncation {
    fn write(&self, to: &mut Writer) -> Result<()> {
        to.u32(self.max_length.try_into().unwrap_or(u32::MAX));
        to.one_of(&STRATEGIES, &self.strategy);
        to.one_of(&SIDES, &self.side);
        Ok(())
    }

    fn read(from: &mut Reader<'_>) -> Result<Truncation> {
        let max_length = from.u32()? as usize;
        let strategy = from.one_of("which text is cut", &STRATEGIES)?;
        Ok(Truncation { max_length, strategy, side: from.one_of("where texts are cut", &SIDES)? })
    }
}

impl Padding {
    fn write(&self, to: &mut Writer) -> Result<()> {
        to.flag(self.length.is_some());
        to.count(self.length.unwrap_or(0))?;
        to.count(self.multiple_of)?;
        to.one_of(&SIDES, &self.side);
        to.u32(self.id);
        to.u32(self.type_id);
        Ok(())
    }

    fn read(from: &mut Reader<'_>) -> Result<Padding> {
        let (fixed, length) = (from.flag("whether texts have one length")?, from.u32()? as usize);
        Ok(Padding {
            length: fixed.then_some(length),
            multiple_of: from.u32()? as usize,
            side: from.one_of("where texts are filled", &SIDES)?,
            id: from.u32()?,
            type_id: from.u32()?,
        })
    }
}
