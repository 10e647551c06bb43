//! What a model wants to be told before a text: `query: `, `passage: `.

use crate::io::json;
use crate::model::read_config;
use crate::{Error, Result};
use std::path::Path;

/// What stands before texts, as `config_sentence_transformers.json` says; nothing without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompts {
    /// Before what searches.
    pub query: String,
    /// Before what is found.
    pub passage: String,
}

impl Prompts {
    /// Reads a folder's.
    ///
    /// `encode_query` of sentence-transformers takes the prompt `query`, `encode_document` the first that there is of
    /// `document`, `passage` and `corpus`; both else the one that is the default.
    pub fn read(folder: &Path) -> Result<Prompts> {
        let path = folder.join("config_sentence_transformers.json");
        if !path.exists() {
            return Ok(Prompts::default());
        }
        let text = read_config(&path)?;
        let config = json::parse(&text).map_err(|e| e.in_file(path.display()))?;
        let Some(all) = config.get("prompts") else { return Ok(Prompts::default()) };
        let prompt = |name: &str| all.get(name).and_then(|prompt| prompt.as_str());
        let default = config.get("default_prompt_name").and_then(|name| name.as_str());
        let one = |names: &[&str]| {
            let named = names.iter().find_map(|name| prompt(name));
            let found = named.or_else(|| default.as_deref().and_then(prompt));
            found.map_or(String::new(), |found| found.into_owned())
        };
        let prompts = Prompts { query: one(&["query"]), passage: one(&["document", "passage", "corpus"]) };
        if prompts != Prompts::default() {
            pooled_with_text(&folder.join("1_Pooling/config.json"))?;
        }
        Ok(prompts)
    }
}

/// Refuses a model that leaves its prompts out of the mean.
fn pooled_with_text(pooling: &Path) -> Result<()> {
    if !pooling.exists() {
        return Ok(());
    }
    let text = read_config(pooling)?;
    let config = json::parse(&text).map_err(|e| e.in_file(pooling.display()))?;
    match config.get("include_prompt").and_then(|included| included.as_bool()) {
        Some(false) => {
            Err(Error::invalid("include_prompt false is not known: prompts are a part of their text")
                .in_file(pooling.display()))
        }
        _ => Ok(()),
    }
}
