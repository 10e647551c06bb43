//! The tokenizer that goes with a model.

use super::to_gguf::{Metadata, Owned};
use super::{FileKind, Input, Work};
use crate::io::atomic;
use crate::io::bytes::{self, Access};
use crate::io::gguf::{ArrayBuf, Gguf};
use crate::io::tokenizer::{GgufVocabulary, OwnedVocabulary, SpecialTokens, Tokenizer};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Where the tokenizer of a GGUF file comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Vocabulary {
    /// The model's folder or file, where it has one.
    #[default]
    Own,
    /// A file, or a folder that holds one.
    File(PathBuf),
    /// Nowhere: the file is written without.
    Nowhere,
}

/// Files of a folder that say how texts become ids, in the order in which they are looked for.
const TOKENIZERS: [&str; 3] = ["tokenizer.model", "tokenizer.json", "tokenizer.bin"];

/// Small files that a folder's readers look for beside the weights.
pub(crate) const SMALL: [&str; 15] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.bin",
    "spiece.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// The keys `tokenizer.…`.
pub(super) fn put<'a>(metadata: &mut Metadata<'a>, work: Work<'a>, notes: &mut Vec<String>) -> Result<()> {
    let files = match (&work.job.vocabulary, work.input) {
        (Vocabulary::Nowhere, _) => Vec::new(),
        (Vocabulary::File(path), _) if path.is_dir() => found(path),
        (Vocabulary::File(path), _) => vec![path.clone()],
        (Vocabulary::Own, Input::Gguf(file)) => {
            let pairs = file.metadata().filter(|pair| pair.key.starts_with("tokenizer."));
            pairs.for_each(|pair| metadata.put(pair.key, Owned::Borrowed(pair.value)));
            return Ok(());
        }
        (Vocabulary::Own, Input::Folder { folder, .. }) => found(folder),
        (Vocabulary::Own, Input::Llama2c(_)) => work.job.input.parent().map(found).unwrap_or_default(),
    };
    let mut failed = None;
    for path in &files {
        match of_file(path, work.config.vocab) {
            Ok(vocabulary) => {
                put_vocabulary(metadata, vocabulary, work);
                return put_template(metadata, path);
            }
            Err(e) => failed = Some(e.in_file(path.display())),
        }
    }
    match failed {
        Some(e) => Err(e),
        None => {
            notes.push("without a tokenizer: the file holds weights alone".into());
            Ok(())
        }
    }
}

/// The tokenizers of a folder.
fn found(folder: &Path) -> Vec<PathBuf> {
    TOKENIZERS.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

fn of_file(path: &Path, size: usize) -> Result<OwnedVocabulary> {
    let tokenizer = Tokenizer::open(path)?;
    let data = bytes::open(path, Access::Read)?;
    let vocabulary = OwnedVocabulary::of_file(data.elements(), &tokenizer, size)?;
    let n = vocabulary.tokens.len();
    if n > size {
        return Err(Error::invalid(format!("{n} tokens for a model of {size}")));
    }
    Ok(vocabulary)
}

fn put_vocabulary(m: &mut Metadata<'_>, v: OwnedVocabulary, work: Work<'_>) {
    let key = |key: &str| format!("tokenizer.ggml.{key}");
    let mut strings = |name: &str, list: &[String]| {
        m.put(key(name), Owned::Array(ArrayBuf::strings(list.iter().map(String::as_str))));
    };
    strings("tokens", &v.tokens);
    if v.model == "gpt2" {
        strings("merges", &v.merges);
    }
    m.put(key("model"), Owned::String(v.model.into()));
    m.put(key("pre"), Owned::String(v.pre));
    m.put(key("token_type"), Owned::Array(ArrayBuf::i32s(&v.kinds)));
    if !v.scores.is_empty() {
        m.put(key("scores"), Owned::Array(ArrayBuf::f32s(&v.scores)));
    }
    if !v.charsmap.is_empty() {
        m.put(key("precompiled_charsmap"), Owned::Array(ArrayBuf::u8s(&v.charsmap)));
    }
    // What ends a text is the model's to say, what begins it the template's.
    let (first, last) = (work.config.eos.first().copied(), work.config.eos.last().copied());
    let eos = if v.add_eos { v.eos } else { first.or(v.eos) };
    let ids = [
        ("bos_token_id", v.bos.or(work.config.bos)),
        ("eos_token_id", eos),
        ("eot_token_id", last.filter(|&id| Some(id) != eos)),
        ("unknown_token_id", v.unk),
        ("padding_token_id", v.pad),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            m.put(key(name), Owned::U32(id));
        }
    }
    m.put(key("add_bos_token"), Owned::Bool(v.add_bos));
    m.put(key("add_eos_token"), Owned::Bool(v.add_eos));
    for (name, flag) in
        [("add_space_prefix", v.add_space), ("remove_extra_whitespaces", v.remove_extra_spaces)]
    {
        if let Some(flag) = flag {
            m.put(key(name), Owned::Bool(flag));
        }
    }
}

/// The chat template of the folder, where it has one.
fn put_template(m: &mut Metadata<'_>, tokenizer: &Path) -> Result<()> {
    let alone = tokenizer.with_file_name("chat_template.jinja");
    let config = tokenizer.with_file_name("tokenizer_config.json");
    let template = if alone.is_file() {
        String::from_utf8(crate::model::files::read(&alone)?).ok()
    } else if config.is_file() {
        let text = crate::model::files::read(&config)?;
        let root = crate::io::json::parse(&text).map_err(|e| e.in_file(config.display()))?;
        root.get("chat_template").and_then(|v| v.as_str()).map(|text| text.into_owned())
    } else {
        None
    };
    if let Some(template) = template {
        m.put("tokenizer.chat_template", Owned::String(template));
    }
    Ok(())
}

/// Copies what a folder's readers look for, where the input is a folder or has such files beside it.
pub(super) fn copy(work: Work<'_>, to: &Path, notes: &mut Vec<String>) -> Result<()> {
    match work.input {
        Input::Folder { folder, .. } => copy_small(folder, to),
        Input::Llama2c(_) => match work.job.input.parent().map(|folder| folder.join("tokenizer.bin")) {
            Some(file) if file.is_file() => copy_file(&file, &to.join("tokenizer.bin")),
            _ => Ok(()),
        },
        Input::Gguf(file) if file.find("tokenizer.ggml.tokens").is_some() => put_json(file, to, notes),
        Input::Gguf(_) => Ok(()),
    }
}

/// The tokenizer of a GGUF file as a folder has it, where `tokenizer.json` can hold it.
fn put_json(file: &Gguf, to: &Path, notes: &mut Vec<String>) -> Result<()> {
    let vocabulary = GgufVocabulary::read(file)?;
    let text = match vocabulary.to_json() {
        Ok(text) => text,
        Err(e) => {
            notes.push(format!("the tokenizer of GGUF is not carried over: {e}"));
            return Ok(());
        }
    };
    atomic::write(&to.join("tokenizer.json"), |out| out.write_all(text.as_bytes()))?;
    let unknown = file.find("tokenizer.ggml.unknown_token_id").map(|entry| entry.u32()).transpose()?;
    let token = |id: Option<u32>| id.and_then(|id| vocabulary.tokens.get(id as usize)).copied();
    let special = SpecialTokens {
        bos: token(vocabulary.bos),
        eos: token(vocabulary.eos),
        unk: token(unknown),
        pad: token(vocabulary.pad),
    };
    let template = file.find("tokenizer.chat_template").and_then(|entry| entry.str().ok());
    let text = special.config_json(template);
    atomic::write(&to.join("tokenizer_config.json"), |out| out.write_all(text.as_bytes()))
}

/// Copies the small files of a model's folder.
pub(crate) fn copy_small(from: &Path, to: &Path) -> Result<()> {
    let there = SMALL.iter().filter(|name| from.join(name).is_file());
    there.into_iter().try_for_each(|name| copy_file(&from.join(name), &to.join(name)))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).map_err(|e| Error::io(from, "copy", e))
}

/// Tells that the tokenizer stays behind.
pub(super) fn left_out(work: Work<'_>, notes: &mut Vec<String>) {
    let has = match work.input {
        Input::Gguf(file) => file.find("tokenizer.ggml.tokens").is_some(),
        Input::Folder { folder, .. } => !found(folder).is_empty(),
        Input::Llama2c(_) => false,
    };
    if has {
        let from = match work.input {
            Input::Gguf(_) => FileKind::Gguf,
            _ => FileKind::Folder,
        };
        notes.push(format!("the tokenizer of {} is not carried over: weights alone", from.name()));
    }
}
