//! `tokenizer.model`: SentencePiece's own file, a protocol buffer, read field by field.
//!
//! ```text
//!   1 pieces         1 text   2 score   3 kind            one a piece
//!   2 trainer_spec   3 algorithm   24 spaces behind   35 byte fallback   41 bos   42 eos   43 pad
//!   3 normalizer_spec   2 table of replacements   3 dummy space   4 remove extra spaces   5 escape spaces
//! ```
//!
//! **Reference**: `sentencepiece_model.proto`. A file is walked once and nothing is believed about lengths.

use super::Tokenizer;
use super::charsmap::Charsmap;
use super::sentencepiece::{Algorithm, Kind, Piece, Spec, SpmNormalizer};
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field here has.
    Fixed64,
}

/// A field of a message, with its place in the file.
#[derive(Clone, Copy)]
struct Field<'a> {
    number: u64,
    value: Value<'a>,
    at: usize,
}

/// The fields of a message.
struct Fields<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn new(file: &'a [u8]) -> Fields<'a> {
        Fields { file, at: 0, end: file.len() }
    }

    fn error(&self, what: &str) -> Error {
        Error::malformed(self.at as u64, what)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("a number of more than 64 bits"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.end - self.at {
            return Err(self.error(&format!("needs {len} bytes, {} remain", self.end - self.at)));
        }
        self.at += len;
        Ok(&self.file[self.at - len..self.at])
    }

    fn next(&mut self) -> Result<Option<Field<'a>>> {
        if self.at == self.end {
            return Ok(None);
        }
        let at = self.at;
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => {
                let bytes = self.take(4)?;
                Value::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            other => return Err(self.error(&format!("a field of the unknown wire type {other}"))),
        };
        Ok(Some(Field { number: tag >> 3, value, at }))
    }
}

impl<'a> Field<'a> {
    fn error(self, expected: &str) -> Error {
        Error::malformed(self.at as u64, format!("field {}: expected {expected}", self.number))
    }

    /// The fields of the message that this field is.
    fn message(self, file: &'a [u8]) -> Result<Fields<'a>> {
        let bytes = self.bytes()?;
        let start = bytes.as_ptr().addr() - file.as_ptr().addr();
        Ok(Fields { file, at: start, end: start + bytes.len() })
    }

    fn bytes(self) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.error("bytes")),
        }
    }

    fn text(self) -> Result<&'a str> {
        core::str::from_utf8(self.bytes()?).map_err(|_| self.error("UTF-8"))
    }

    fn number(self) -> Result<u64> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.error("a whole number")),
        }
    }

    fn float(self) -> Result<f32> {
        match self.value {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.error("a number of four bytes")),
        }
    }

    fn flag(self) -> Result<bool> {
        Ok(self.number()? != 0)
    }

    /// An id; negative ones mean none.
    fn id(self) -> Result<Option<u32>> {
        Ok(u32::try_from(self.number()? as i64).ok())
    }
}

/// What the trainer's part says.
struct Trainer {
    algorithm: u64,
    space_behind: bool,
    byte_fallback: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
}

impl Tokenizer {
    /// Reads SentencePiece's `tokenizer.model`. The file does not say what to put around a text: it is the
    /// beginning-of-sequence piece where there is one, else the end-of-sequence piece. (A
    /// `tokenizer_config.json` next to it has the last word: [`Tokenizer::open`].) Control pieces written in a
    /// text are just characters unless the caller says otherwise.
    ///
    /// # Errors
    /// Where the bytes are no such file, or its algorithm is neither byte-pair encoding nor Unigram.
    pub fn from_sentencepiece(file: &[u8]) -> Result<Tokenizer> {
        let (pieces, spec) = read(file)?;
        Tokenizer::sentencepiece(&pieces, spec)
    }
}

/// The pieces of a model, and what it says besides.
pub(super) fn read(file: &[u8]) -> Result<(Vec<Piece<'_>>, Spec)> {
    let mut pieces = Vec::new();
    let mut normalizer = SpmNormalizer { remove_extra: true, ..SpmNormalizer::default() };
    let (bos, eos) = (Some(1), Some(2));
    let mut trainer =
        Trainer { algorithm: 1, space_behind: false, byte_fallback: false, bos, eos, pad: None };
    let mut fields = Fields::new(file);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => pieces.push(piece(field.message(file)?)?),
            2 => trainer.read(field.message(file)?)?,
            3 => read_normalizer(field.message(file)?, &mut normalizer)?,
            _ => (),
        }
    }
    if pieces.is_empty() {
        return Err(Error::invalid("this is no SentencePiece model: it has no pieces"));
    }
    normalizer.space_behind = trainer.space_behind;
    let algorithm = match trainer.algorithm {
        1 => Algorithm::Unigram,
        2 => Algorithm::Bpe,
        other => {
            return Err(Error::invalid(format!("model_type {other} is neither Unigram (1) nor BPE (2)")));
        }
    };
    if algorithm == Algorithm::Bpe && pieces.iter().any(|p| p.kind == Kind::Unused) {
        return Err(Error::invalid("byte-pair encoding with unused pieces is not read"));
    }
    let within = |id: Option<u32>| id.filter(|&id| (id as usize) < pieces.len());
    let control = |id| within(id).filter(|&id| pieces[id as usize].kind == Kind::Control);
    let (bos, eos) = (control(trainer.bos), control(trainer.eos));
    let spec = Spec {
        algorithm,
        normalizer,
        byte_fallback: trainer.byte_fallback,
        bos,
        eos,
        pad: within(trainer.pad),
        begin: bos,
        end: if bos.is_some() { None } else { eos },
        parses_special: false,
    };
    Ok((pieces, spec))
}

fn piece<'a>(mut fields: Fields<'a>) -> Result<Piece<'a>> {
    let mut piece = Piece { text: "", score: 0.0, kind: Kind::Normal };
    while let Some(field) = fields.next()? {
        match field.number {
            1 => piece.text = field.text()?,
            2 => piece.score = field.float()?,
            3 => {
                let kind = Kind::from_number(field.number()?.into());
                piece.kind = kind.ok_or_else(|| field.error("a kind of piece from 1 to 6"))?;
            }
            _ => (),
        }
    }
    Ok(piece)
}

impl Trainer {
    fn read(&mut self, mut fields: Fields<'_>) -> Result<()> {
        while let Some(field) = fields.next()? {
            match field.number {
                3 => self.algorithm = field.number()?,
                24 => self.space_behind = field.flag()?,
                35 => self.byte_fallback = field.flag()?,
                41 => self.bos = field.id()?,
                42 => self.eos = field.id()?,
                43 => self.pad = field.id()?,
                _ => (),
            }
        }
        Ok(())
    }
}

/// The compiled normalisation of a model, as it stands in the file; empty where there is none.
pub(super) fn charsmap(file: &[u8]) -> Result<Vec<u8>> {
    let mut fields = Fields::new(file);
    while let Some(field) = fields.next()? {
        let mut inner = match field.number {
            3 => field.message(file)?,
            _ => continue,
        };
        while let Some(field) = inner.next()? {
            if field.number == 2 {
                return field.bytes().map(Into::into);
            }
        }
    }
    Ok(Vec::new())
}

fn read_normalizer(mut fields: Fields<'_>, normalizer: &mut SpmNormalizer) -> Result<()> {
    while let Some(field) = fields.next()? {
        match field.number {
            2 => normalizer.charsmap = Charsmap::parse(field.bytes()?)?,
            3 => normalizer.dummy_space = field.flag()?,
            4 => normalizer.remove_extra = field.flag()?,
            5 => normalizer.escape = field.flag()?,
            _ => (),
        }
    }
    Ok(())
}
