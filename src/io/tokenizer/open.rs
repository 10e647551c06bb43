//! Opening whatever holds a tokenizer.

use super::Tokenizer;
use super::sentencepiece::template;
use super::vocab_txt::lines;
use crate::io::bytes::{self, Access};
use crate::io::gguf::Gguf;
use crate::io::json;
use crate::io::kind::other_kind;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a model's folder that hold its tokenizer, the best first.
const NAMES: [&str; 5] = ["tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "tokenizer.bin"];

impl Tokenizer {
    /// Opens a tokenizer: a file of any kind, known by its content, or a model's folder that holds one.
    ///
    /// # Errors
    /// Where nothing can be read, or what is read is no tokenizer.
    pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        if !path.is_dir() {
            return open_file(path);
        }
        match NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file()) {
            Some(file) => open_file(&file),
            None => {
                let what = format!("no tokenizer in this folder: none of {}", NAMES.join(", "));
                Err(Error::invalid(what).in_file(path.display()))
            }
        }
    }
}

fn open_file(path: &Path) -> Result<Tokenizer> {
    if Gguf::is_at(path) {
        // Of a whole model the tokenizer is the smallest part: only the metadata is read.
        let file = Gguf::open(path, Access::Map)?;
        let tokenizer = Tokenizer::from_gguf(&file).map_err(|e| e.in_file(path.display()))?;
        file.data().check()?;
        return Ok(tokenizer);
    }
    let data = bytes::open(path, Access::Read)?;
    parse(path, data.elements()).map_err(|e| e.in_file(path.display()))
}

/// Reads a file by what it begins with.
fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    if let Some(error) = other_kind(bytes, "a tokenizer") {
        return Err(error);
    }
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Tokenizer::from_json(bytes);
    }
    let config = Config::beside(path)?;
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

/// What the `tokenizer_config.json` next to a tokenizer says.
#[derive(Default)]
struct Config {
    lower_case: Option<bool>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
}

impl Config {
    fn beside(tokenizer: &Path) -> Result<Config> {
        let path: PathBuf = tokenizer.with_file_name("tokenizer_config.json");
        let Ok(bytes) = fs::read(&path) else { return Ok(Config::default()) };
        let config = json::parse(&bytes).map_err(|e| e.in_file(path.display()))?;
        let flag = |name| config.get(name).and_then(|value| value.as_bool());
        Ok(Config {
            lower_case: flag("do_lower_case"),
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
        })
    }
}
