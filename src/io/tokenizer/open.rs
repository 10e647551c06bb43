//! Opening whatever holds a tokenizer.

use super::Tokenizer;
use super::vocab_txt::lines;
use crate::io::json;
use crate::{Error, Result};
use std::fs;
use std::path::Path;

/// The files of a model's folder that hold its tokenizer, the best first.
const NAMES: [&str; 2] = ["tokenizer.json", "vocab.txt"];

impl Tokenizer {
    /// Opens a tokenizer: a file, known by its content, or a model's folder that holds one.
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
    let bytes = fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    parse(path, &bytes).map_err(|e| e.in_file(path.display()))
}

/// Reads a file by what it begins with.
fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    if let Some(error) = other_kind(bytes) {
        return Err(error);
    }
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Tokenizer::from_json(bytes);
    }
    match core::str::from_utf8(bytes) {
        Ok(text) if text.contains('\n') => match lower_case(path)? {
            Some(lowercase) => Tokenizer::bert(&lines(text), lowercase),
            None => Tokenizer::from_vocab_txt(text),
        },
        _ => Err(Error::invalid("this is no tokenizer of a known kind")),
    }
}

/// What the `tokenizer_config.json` next to a vocabulary says about capitals.
fn lower_case(vocab: &Path) -> Result<Option<bool>> {
    let path = vocab.with_file_name("tokenizer_config.json");
    let Ok(bytes) = fs::read(&path) else { return Ok(None) };
    let config = json::parse(&bytes).map_err(|e| e.in_file(path.display()))?;
    Ok(config.get("do_lower_case").and_then(|value| value.as_bool()))
}

/// An error that names what the file is, where it is something else that is often found in its place.
fn other_kind(bytes: &[u8]) -> Option<Error> {
    let start = bytes[..bytes.len().min(64)].trim_ascii_start();
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with));
    let (is, hint) = if begins(b"version https://git-lfs.github.com/spec") {
        ("a git-LFS pointer", "the real file was not fetched: run `git lfs pull`, or download it")
    } else if begins(b"<!doctype html") || begins(b"<html") {
        ("an HTML page", "a web page was saved in its place: use the download link of the file")
    } else {
        return None;
    };
    Some(Error::WrongKind { file: String::new(), is, expected: "a tokenizer", hint })
}
