//! A tokenizer from bytes of any kind, known by what they begin with.

use super::Tokenizer;
use super::sentencepiece::template;
use super::vocab_txt::lines;
use crate::io::gguf::Gguf;
use crate::io::kind::other_kind;
use crate::{Error, Result};

/// What a `tokenizer_config.json` beside a tokenizer says that the tokenizer does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    pub lower_case: Option<bool>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
}

/// Reads a file by what it begins with.
pub(crate) fn parse(bytes: &[u8], config: Beside) -> Result<Tokenizer> {
    if bytes.starts_with(b"GGUF") {
        return Tokenizer::from_gguf(&Gguf::from_bytes(bytes)?);
    }
    if let Some(error) = other_kind(bytes, "a tokenizer") {
        return Err(error);
    }
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Tokenizer::from_json(bytes);
    }
    // A protocol buffer of pieces begins with one: field 1, a message that begins with field 1, a text.
    if bytes.starts_with(b"\x0a")
        && bytes.get(2..).is_some_and(|rest| rest.iter().take(4).any(|&b| b == 0x0a))
    {
        let mut tokenizer = Tokenizer::from_sentencepiece(bytes)?;
        if config.add_bos.is_some() || config.add_eos.is_some() {
            let begin = tokenizer.bos_id().filter(|_| config.add_bos.unwrap_or(true));
            let end = tokenizer.eos_id().filter(|_| config.add_eos.unwrap_or(false));
            tokenizer.posts = template(begin, end);
        }
        return Ok(tokenizer);
    }
    match core::str::from_utf8(bytes) {
        Ok(text) if text.contains('\n') && !text.contains('\0') => match config.lower_case {
            Some(lowercase) => Tokenizer::bert(&lines(text), lowercase),
            None => Tokenizer::from_vocab_txt(text),
        },
        // The length of the longest piece, the score 0, the length of the first.
        _ if bytes.get(4..8) == Some(&[0; 4]) => Tokenizer::from_llama2c(bytes),
        _ => Err(Error::invalid("this is no tokenizer of a known kind")),
    }
}
