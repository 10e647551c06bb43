//! `tokenizer.json`: the format of Hugging Face's `tokenizers`.
//!
//! What a file asks for and is not known here is refused with its name: a tokenizer that is nearly right
//! is wrong. Ids are those of the file, checked against the vocabulary.

mod fields;
mod model;
mod steps;

use super::added::{Added, AddedToken};
use super::encoding::{Padding, Side, Strategy, Truncation};
use super::unicode::is_word;
use super::{Special, Tokenizer};
use crate::io::json::{self, Value};
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;
use fields::Fields;

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Where the text is not such a file, contradicts itself, or asks for a part that is not known here.
    pub fn from_json(text: &[u8]) -> Result<Tokenizer> {
        let root = Fields::of(json::parse(text)?, "a tokenizer")?;
        let normalizers = steps::normalizers(root.optional("normalizer"))?;
        let splitters = steps::pre_tokenizers(root.optional("pre_tokenizer"))?;
        let model = model::model(root.required("model")?)?;
        let tokens = added_tokens(root.optional("added_tokens"), &*model)?;
        let added = Added::new(tokens, &normalizers)?;
        let mut tokenizer = Tokenizer::assemble(model, added, normalizers, splitters);
        tokenizer.posts = steps::post_processors(root.optional("post_processor"))?;
        tokenizer.stages = steps::decoders(root.optional("decoder"))?;
        tokenizer.truncation = root.optional("truncation").map(truncation).transpose()?;
        tokenizer.padding = root.optional("padding").map(padding).transpose()?;
        tokenizer.special = Special::by_name(&tokenizer);
        tokenizer.special.pad = tokenizer.padding.map(|p| p.id).or(tokenizer.special.pad);
        tokenizer.check_ids()?;
        Ok(tokenizer)
    }
}

/// The added tokens; their ids must be the model's where the model has them.
fn added_tokens(list: Option<Value<'_>>, model: &dyn super::Model) -> Result<Vec<AddedToken>> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let mut tokens = Vec::new();
    for value in list.elements().ok_or_else(|| list.expected("an array of added tokens"))? {
        let fields = Fields::of(value, "an added token")?;
        let content = fields.text("content")?.into_owned();
        let id = fields.number("id")?;
        if let Some(known) = model.vocab().id(&content).filter(|&known| u64::from(known) != id) {
            let what = format!("the added token {content:?} has id {id}, in the vocabulary {known}");
            return Err(Error::malformed(value.offset() as u64, what));
        }
        if content.is_empty() {
            continue; // is never found
        }
        let flag = |name| fields.flag(name, false);
        tokens.push(AddedToken {
            id: id.try_into().map_err(|_| value.expected("an id of 32 bits"))?,
            alone: flag("single_word")?.then_some(is_word as fn(char) -> bool),
            lstrip: flag("lstrip")?,
            rstrip: flag("rstrip")?,
            normalized: fields.flag("normalized", !flag("special")?)?,
            special: flag("special")?,
            content,
        });
    }
    Ok(tokens)
}

fn side(fields: &Fields<'_>) -> Result<Side> {
    match fields.text_or("direction", "Right")?.as_ref() {
        "Left" => Ok(Side::Left),
        "Right" => Ok(Side::Right),
        other => Err(fields.unknown("direction", other)),
    }
}

fn truncation(value: Value<'_>) -> Result<Truncation> {
    let fields = Fields::of(value, "a truncation")?;
    let strategy = match fields.text_or("strategy", "LongestFirst")?.as_ref() {
        "LongestFirst" => Strategy::LongestFirst,
        "OnlyFirst" => Strategy::OnlyFirst,
        "OnlySecond" => Strategy::OnlySecond,
        other => return Err(fields.unknown("strategy", other)),
    };
    Ok(Truncation { max_length: fields.size("max_length")?, strategy, side: side(&fields)? })
}

fn padding(value: Value<'_>) -> Result<Padding> {
    let fields = Fields::of(value, "a padding")?;
    let strategy = fields.required("strategy")?;
    let length = match strategy.as_str().as_deref() {
        Some("BatchLongest") => None,
        Some(other) => return Err(fields.unknown("padding strategy", other)),
        None => Some(Fields::of(strategy, "a padding strategy")?.size("Fixed")?),
    };
    let multiple_of = match fields.optional("pad_to_multiple_of") {
        Some(_) => fields.size("pad_to_multiple_of")?,
        None => 0,
    };
    Ok(Padding {
        length,
        multiple_of,
        side: side(&fields)?,
        id: fields.id("pad_id")?,
        type_id: fields.id("pad_type_id")?,
    })
}
