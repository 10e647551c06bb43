//! Opening whatever holds a tokenizer.

use super::Tokenizer;
use super::parse::{Beside, FlatTokenizer, parse, read_flat};
use crate::io::bytes::{self, Access};
use crate::io::flat;
use crate::io::gguf::{self, Gguf};
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
        let in_file = |e: Error| e.in_file(path.display());
        let made = if flat::is_at(&path) {
            let data = bytes::open(&path, Access::Map)?;
            let (bytes, beside) = in_flat(data.elements()).map_err(in_file)?;
            FlatTokenizer { bytes: bytes.into(), beside }
        } else if Gguf::is_at(&path) {
            // The metadata that say how texts become ids, without the weights.
            let file = Gguf::open(&path, Access::Map)?;
            let pairs: Vec<_> = file.metadata().filter(|pair| pair.key.starts_with("tokenizer.")).collect();
            let pairs: Vec<_> = pairs.iter().map(|pair| (pair.key, pair.value)).collect();
            let bytes = gguf::to_bytes(&pairs, &[]).map_err(in_file)?;
            file.data().check()?;
            FlatTokenizer { bytes, beside: Beside::default() }
        } else {
            let bytes = bytes::open(&path, Access::Read)?.elements().to_vec();
            FlatTokenizer { bytes, beside: Beside::read(&path)? }
        };
        parse(&made.bytes, made.beside).map_err(in_file)?;
        Ok(made)
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
        let file = Gguf::open(path, Access::Map)?;
        let tokenizer = Tokenizer::from_gguf(&file).map_err(|e| e.in_file(path.display()))?;
        file.data().check()?;
        return Ok(tokenizer);
    }
    if flat::is_at(path) {
        let data = bytes::open(path, Access::Map)?;
        let found = in_flat(data.elements()).and_then(|(bytes, beside)| parse(bytes, beside));
        return found.map_err(|e| e.in_file(path.display()));
    }
    let data = bytes::open(path, Access::Read)?;
    parse(data.elements(), Beside::read(path)?).map_err(|e| e.in_file(path.display()))
}

/// The tokenizer of a flat model.
fn in_flat(all: &[u8]) -> Result<(&[u8], Beside)> {
    let at = flat::check(all)?.ok_or_else(|| Error::invalid("this flat model has no tokenizer"))?;
    read_flat(&mut flat::Reader::of(all, at))
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
