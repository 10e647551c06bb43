//! Which tokens a table has, and the tokenizer that gives their places.

use crate::io::json::{self, Value, Writer};
use crate::io::tokenizer::Tokenizer;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The tokens of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// By place: the id that the encoder knows it by.
    pub ids: Vec<u32>,
    /// The `tokenizer.json` that gives places.
    pub json: String,
    /// By place, the token; empty where tokens are not WordPiece's.
    pub words: Vec<String>,
}

impl Vocabulary {
    /// The tokens of a `tokenizer.json`. Of WordPiece's, those that nobody uses (`[unused7]`) are left out, and all but
    /// `most` where that is given: special tokens and those of one character stay, then the first ones, which are the
    /// most frequent. Template, limits and filling are taken off: a mean needs none.
    ///
    /// # Errors
    /// Where the file is no tokenizer; `most` tokens of another kind than WordPiece's, for they are made of each other.
    pub fn of(file: &[u8], most: Option<usize>) -> Result<Vocabulary> {
        let original = Tokenizer::from_json(file)?;
        let root = json::parse(file)?;
        let pieces = root.get("model").and_then(|model| model.get("type")).and_then(|kind| kind.as_str());
        if pieces.as_deref() != Some("WordPiece") {
            if most.is_some() {
                return Err(Error::invalid("only a vocabulary of WordPiece can be cut"));
            }
            let ids = (0..original.vocab_len() as u32).collect();
            return Ok(Vocabulary { ids, json: rewritten(root, None), words: Vec::new() });
        }
        let ids = chosen(&original, most);
        let name = |&id: &u32| original.id_to_token(id).unwrap_or_default().to_owned();
        let words: Vec<String> = ids.iter().map(name).collect();
        let places = words.iter().enumerate().map(|(place, word)| (word.as_str(), place)).collect();
        let json = rewritten(root, Some(&places));
        Ok(Vocabulary { ids, json, words })
    }

    /// The tokenizer that gives places.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`].
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::from_json(self.json.as_bytes())
    }

    /// The lines of a `vocab.txt`, which says as much of BERT's tokenizers in a fourth of the bytes.
    ///
    /// # Errors
    /// Where it does not say as much.
    pub fn vocab_txt(&self) -> Result<String> {
        let other = || Error::invalid("only the tokenizer of BERT is a vocab.txt");
        if self.words.is_empty() || self.words.iter().any(|word| word.contains(['\n', '\r'])) {
            return Err(other());
        }
        let text = self.words.iter().map(|word| word.clone() + "\n").collect::<String>();
        let (mine, plain) = (self.tokenizer()?, Tokenizer::from_vocab_txt(&text)?);
        let probe = "The Naïve résumé, 漢字 #42 – don't [MASK] un\u{ad}able\tΔx=0.5\u{7f}";
        let ids = |tokenizer: &Tokenizer| {
            Ok::<_, Error>(tokenizer.encode(probe, &crate::io::tokenizer::EncodeOptions::plain())?.ids)
        };
        if ids(&mine)? == ids(&plain)? { Ok(text) } else { Err(other()) }
    }
}

/// Ids of WordPiece's tokens that stay, ascending.
fn chosen(tokenizer: &Tokenizer, most: Option<usize>) -> Vec<u32> {
    let unused = |token: &str| {
        let number = token.strip_prefix("[unused").and_then(|rest| rest.strip_suffix(']'));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let all = (0..tokenizer.vocab_len() as u32).filter_map(|id| Some((id, tokenizer.id_to_token(id)?)));
    let used: Vec<(u32, &str)> = all.filter(|(_, token)| !unused(token)).collect();
    let stays = |&(id, token): &(u32, &str)| {
        tokenizer.is_special(id) || token.strip_prefix("##").unwrap_or(token).chars().count() == 1
    };
    let (first, rest): (Vec<_>, Vec<_>) = used.into_iter().partition(stays);
    let room = most.map_or(rest.len(), |most| most.saturating_sub(first.len()));
    let mut ids: Vec<u32> = first.into_iter().chain(rest.into_iter().take(room)).map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

/// The file without template, limits and filling; with `places` its tokens are these.
fn rewritten(root: Value<'_>, places: Option<&BTreeMap<&str, usize>>) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        for (key, value) in root.entries().into_iter().flatten() {
            w.key(&key);
            match (&*key, places) {
                ("truncation" | "padding" | "post_processor", _) => w.null(),
                ("added_tokens", Some(places)) => w.array(|w| {
                    value.elements().into_iter().flatten().for_each(|token| put_added(w, token, places));
                }),
                ("model", Some(places)) => w.object(|w| {
                    for (key, value) in value.entries().into_iter().flatten() {
                        w.key(&key);
                        if key == "vocab" { put_places(w, places) } else { w.raw(value.source()) }
                    }
                }),
                _ => w.raw(value.source()),
            }
        }
    });
    w.finish()
}

/// A token that texts are searched for, where it is one of those that stay.
fn put_added(w: &mut Writer, token: Value<'_>, places: &BTreeMap<&str, usize>) {
    let content = token.get("content").and_then(|content| content.as_str()).unwrap_or_default();
    let Some(&place) = places.get(&*content) else { return };
    w.object(|w| {
        for (key, value) in token.entries().into_iter().flatten() {
            w.key(&key);
            if key == "id" { w.number(place) } else { w.raw(value.source()) }
        }
    });
}

fn put_places(w: &mut Writer, places: &BTreeMap<&str, usize>) {
    let mut sorted: Vec<(usize, &str)> = places.iter().map(|(&word, &place)| (place, word)).collect();
    sorted.sort_unstable();
    w.object(|w| sorted.into_iter().for_each(|(place, word)| w.key(word).number(place)));
}
