//! Opening whatever holds a tokenizer.

use super::Tokenizer;
use super::flat::{FlatTokenizer, Parts, part};
use super::parse::{Beside, parse};
use crate::io::bytes::{self, Access};
use crate::io::flat::{self, Reader};
use crate::io::gguf::Gguf;
use crate::io::json;
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
        open_file(&found(path.as_ref())?)
    }
}

impl FlatTokenizer {
    /// What [`Tokenizer::open`] reads, as bytes.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<FlatTokenizer> {
        let path = found(path.as_ref())?;
        FlatTokenizer::of(&open_file(&path)?).map_err(|e| e.in_file(path.display()))
    }
}

/// The file that holds the tokenizer: `path`, or one in that folder.
fn found(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        let what = format!("no tokenizer in this folder: none of {}", NAMES.join(", "));
        Error::invalid(what).in_file(path.display())
    })
}

fn open_file(path: &Path) -> Result<Tokenizer> {
    if Gguf::is_at(path) {
        // Of a whole model the tokenizer is the smallest part: only the metadata is read.
        return Tokenizer::from_gguf(&Gguf::open_head(path)?).map_err(|e| e.in_file(path.display()));
    }
    if flat::is_at(path) {
        let data = bytes::open(path, Access::Read)?;
        let found = in_flat(data.elements()).and_then(|mut from| Parts::ALL.read(&mut from));
        return found.map_err(|e| e.in_file(path.display()));
    }
    let data = bytes::open(path, Access::Read)?;
    parse(data.elements(), Beside::read(path)?).map_err(|e| e.in_file(path.display()))
}

/// The tokenizer of a flat model.
fn in_flat(all: &[u8]) -> Result<Reader<'_>> {
    let at = flat::check(all)?.ok_or_else(|| Error::invalid("this flat model has no tokenizer"))?;
    part(&mut Reader::of(all, at))
}

impl Beside {
    /// What the `tokenizer_config.json` next to a tokenizer says.
    pub(super) fn read(tokenizer: &Path) -> Result<Beside> {
        let path: PathBuf = tokenizer.with_file_name("tokenizer_config.json");
        let Ok(bytes) = fs::read(&path) else { return Ok(Beside::default()) };
        let config = json::parse(&bytes).map_err(|e| e.in_file(path.display()))?;
        let flag = |name| config.get(name).and_then(|value| value.as_bool());
        Ok(Beside {
            lower_case: flag("do_lower_case"),
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
        })
    }
}
