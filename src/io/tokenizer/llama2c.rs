//! llama2.c's `tokenizer.bin`: a SentencePiece vocabulary with scores and nothing else.
//!
//! ```text
//!   u32 length of the longest piece      then, to the end of the file, a piece each:
//!   f32 score   i32 length   bytes       with spaces for `▁`; 0 is unknown, 1 begins, 2 ends a text
//! ```

use super::Tokenizer;
use super::sentencepiece::{Algorithm, Kind, Piece, Spec, SpmNormalizer};
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes before the text of a piece.
const HEAD: usize = 8;

impl Tokenizer {
    /// Reads llama2.c's `tokenizer.bin`.
    ///
    /// # Errors
    /// Where lengths do not add up to the file's, or there are fewer than three pieces.
    pub fn from_llama2c(file: &[u8]) -> Result<Tokenizer> {
        let scored = read(file)?;
        let pieces: Vec<Piece<'_>> =
            scored.iter().map(|(score, text, kind)| Piece { text, score: *score, kind: *kind }).collect();
        let spec = Spec {
            algorithm: Algorithm::Bpe,
            normalizer: SpmNormalizer::default(),
            byte_fallback: true,
            bos: Some(1),
            eos: Some(2),
            pad: None,
            begin: Some(1),
            end: None,
            parses_special: false,
        };
        Tokenizer::sentencepiece(&pieces, spec)
    }
}

/// Score, text and kind of each piece.
pub(super) fn read(file: &[u8]) -> Result<Vec<(f32, String, Kind)>> {
    let mut scored: Vec<(f32, String, Kind)> = Vec::new();
    let byte = |text: &str| text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
    let mut at = 4;
    while at < file.len() {
        let short = || Error::malformed(at as u64, "a piece longer than what is left of the file");
        let head = file.get(at..at + HEAD).ok_or_else(short)?;
        let score = f32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let text = file[at + HEAD..].get(..len).ok_or_else(short)?;
        let text = core::str::from_utf8(text)
            .map_err(|_| Error::malformed((at + HEAD) as u64, "a piece that is not UTF-8"))?;
        let (text, kind) = match scored.len() {
            0 => (text, Kind::Unknown),
            // The control pieces stand as "\n<s>\n".
            1 | 2 => (text.trim_matches('\n'), Kind::Control),
            _ if byte(text) => (text, Kind::Byte),
            _ => (text, Kind::Normal),
        };
        scored.push((score, text.replace(' ', "▁"), kind));
        at += HEAD + len;
    }
    if scored.len() < 3 {
        let what = format!("llama2.c's vocabularies have three pieces or more, this has {}", scored.len());
        return Err(Error::invalid(what));
    }
    Ok(scored)
}
