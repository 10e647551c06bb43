//! The model of a `tokenizer.json`: its vocabulary and how words become tokens.

use super::fields::Fields;
use crate::io::json::Value;
use crate::io::tokenizer::Model;
use crate::io::tokenizer::bpe::{Bpe, BpeOptions};
use crate::io::tokenizer::unigram::{BytePlace, Piece, Sums, Unigram};
use crate::io::tokenizer::vocab::Vocab;
use crate::io::tokenizer::wordpiece::{WordLevel, WordPiece};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

pub(super) fn model(value: Value<'_>) -> Result<Box<dyn Model>> {
    let fields = Fields::of(value, "a model")?;
    // Old files do not say which model it is.
    let guess = || match fields.optional("vocab").map(|v| v.elements().is_some()) {
        Some(true) => "Unigram",
        _ if fields.optional("merges").is_some() => "BPE",
        _ if fields.optional("max_input_chars_per_word").is_some() => "WordPiece",
        _ => "WordLevel",
    };
    let kind = match fields.optional("type") {
        Some(_) => fields.text("type")?,
        None => Cow::Borrowed(guess()),
    };
    match kind.as_ref() {
        "BPE" => bpe(&fields),
        "WordPiece" => {
            let prefix = fields.text_or("continuing_subword_prefix", "##")?;
            let longest = match fields.optional("max_input_chars_per_word") {
                Some(_) => fields.size("max_input_chars_per_word")?,
                None => 100,
            };
            let unk = fields.text_or("unk_token", "[UNK]")?;
            Ok(Box::new(WordPiece::new(vocab(&fields)?, &prefix, &unk, longest)?))
        }
        "WordLevel" => {
            let unk = fields.text_or("unk_token", "<unk>")?.into_owned();
            Ok(Box::new(WordLevel { vocab: vocab(&fields)?, unk }))
        }
        "Unigram" => unigram(&fields),
        other => Err(fields.unknown("model", other)),
    }
}

/// `{"token": id, …}`
fn vocab(fields: &Fields<'_>) -> Result<Vocab> {
    let value = fields.required("vocab")?;
    let entries = || value.entries().ok_or_else(|| value.expected("an object for \"vocab\""));
    let mut vocab = Vocab::with_capacity(entries()?.count());
    for (token, id) in entries()? {
        let number = id.as_u64().ok_or_else(|| {
            Error::malformed(id.offset() as u64, format!("the id of {token:?} should be a whole number"))
        })?;
        vocab.insert(&token, number).map_err(|e| at(e, id))?;
    }
    Ok(vocab)
}

/// The same error, with the place of a value.
fn at(error: Error, value: Value<'_>) -> Error {
    match error {
        Error::Malformed { offset: None, what, .. } => Error::malformed(value.offset() as u64, what),
        other => other,
    }
}

fn bpe(fields: &Fields<'_>) -> Result<Box<dyn Model>> {
    if fields.optional("dropout").and_then(|d| d.as_f64()).is_some_and(|d| d != 0.0) {
        return Err(fields.error("a model with dropout gives a text other ids every time"));
    }
    let text = |name| fields.text_or(name, "").map(Cow::into_owned);
    let options = BpeOptions {
        unk: Some(text("unk_token")?).filter(|unk| !unk.is_empty()),
        fuse_unk: fields.flag("fuse_unk", false)?,
        byte_fallback: fields.flag("byte_fallback", false)?,
        ignore_merges: fields.flag("ignore_merges", false)?,
        prefix: text("continuing_subword_prefix")?,
        suffix: text("end_of_word_suffix")?,
    };
    let merges = fields.list("merges")?;
    Ok(Box::new(Bpe::new(vocab(fields)?, merges.into_iter().map(merge), options)?))
}

/// `"left right"` or `["left", "right"]`
fn merge<'a>(value: Value<'a>) -> Result<(Cow<'a, str>, Cow<'a, str>)> {
    let bad = || value.expected("a merge of two tokens");
    if let Some(mut parts) = value.elements() {
        let mut next = || parts.next().and_then(|part| part.as_str());
        return match (next(), next(), next()) {
            (Some(left), Some(right), None) => Ok((left, right)),
            _ => Err(bad()),
        };
    }
    match value.as_str().ok_or_else(bad)? {
        Cow::Borrowed(text) => {
            text.split_once(' ').filter(|(_, right)| !right.contains(' ')).map(|(l, r)| (l.into(), r.into()))
        }
        Cow::Owned(text) => {
            let parts = text.split_once(' ').filter(|(_, right)| !right.contains(' '));
            parts.map(|(left, right)| (Cow::Owned(left.into()), Cow::Owned(right.into())))
        }
    }
    .ok_or_else(|| Error::malformed(value.offset() as u64, "a merge should be two tokens and one space"))
}

/// `[["token", score], …]`
fn unigram(fields: &Fields<'_>) -> Result<Box<dyn Model>> {
    let list = fields.list("vocab")?;
    let mut vocab = Vocab::with_capacity(list.len());
    let mut pieces = Vec::with_capacity(list.len());
    for (id, &entry) in list.iter().enumerate() {
        let bad = || entry.expected("a token and its score");
        let mut parts = entry.elements().ok_or_else(bad)?;
        let token = parts.next().and_then(|token| token.as_str()).ok_or_else(bad)?;
        let score = parts.next().and_then(|score| score.as_f64()).ok_or_else(bad)?;
        vocab.insert(&token, id as u64).map_err(|e| at(e, entry))?;
        pieces.push(Piece::Scored(score));
    }
    let unk = fields.optional("unk_id").map(|_| fields.id("unk_id")).transpose()?;
    if let Some(unk) = unk.filter(|&unk| vocab.text(unk).is_none()) {
        return Err(fields.error(format!("\"unk_id\" is {unk}, but there are {} tokens", list.len())));
    }
    let model = Unigram::new(vocab, pieces, unk, Sums::Double)?;
    Ok(Box::new(if fields.flag("byte_fallback", false)? {
        model.with_byte_fallback(BytePlace::Run)
    } else {
        model
    }))
}
