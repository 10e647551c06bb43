//! Added tokens: texts that are found before anything else happens and become one token each.

use super::aligned::Aligned;
use super::normalize::Normalizer;
use super::trie::Trie;
use super::unicode::is_space;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A token that is not the model's own business.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddedToken {
    pub id: u32,
    pub content: String,
    /// Only where nothing of this kind, a word's characters, touches it.
    pub alone: Option<fn(char) -> bool>,
    /// White space before it belongs to it.
    pub lstrip: bool,
    /// White space after it belongs to it.
    pub rstrip: bool,
    /// It is looked for in the normalised text.
    pub normalized: bool,
    /// A control token: left out by a decoder that skips those.
    pub special: bool,
}

/// All added tokens of a tokenizer.
pub(crate) struct Added {
    /// By ascending id.
    tokens: Vec<AddedToken>,
    /// Their places in `tokens`, by content.
    by_content: Trie,
    /// Those looked for in the text as given, and in the normalised text.
    raw: Trie,
    normalized: Trie,
}

/// A part of a text: an added token, or text for the model.
pub(crate) enum Part<'a> {
    /// A token, and where it stands in the original, in bytes.
    Token(&'a AddedToken, (u32, u32)),
    /// Normalised text.
    Text(Aligned),
}

impl Added {
    /// The tokens, ready to be found in texts that `normalizers` have changed.
    pub fn new(mut tokens: Vec<AddedToken>, normalizers: &[Normalizer]) -> Result<Added> {
        tokens.sort_by_key(|token| token.id);
        let bytes = tokens.iter().map(|t| t.content.len()).sum();
        let mut by_content = Trie::with_capacity(bytes);
        let (mut raw, mut normalized) = (Trie::with_capacity(bytes), Trie::with_capacity(16));
        for (index, token) in tokens.iter().enumerate() {
            let number = index as u32;
            if token.content.is_empty() {
                return Err(Error::invalid(format!("the added token with id {} is empty", token.id)));
            }
            if index > 0 && tokens[index - 1].id == token.id {
                let (a, b) = (&tokens[index - 1].content, &token.content);
                return Err(Error::invalid(format!(
                    "added tokens {a:?} and {b:?} share the id {}",
                    token.id
                )));
            }
            if exact(&by_content, &token.content).is_some() {
                return Err(Error::invalid(format!("the added token {:?} is there twice", token.content)));
            }
            by_content.insert(token.content.as_bytes(), number);
            if token.normalized {
                let mut content = Aligned::new(&token.content, 0);
                normalizers.iter().for_each(|n| n.apply(&mut content));
                if !content.text.is_empty() {
                    normalized.insert(content.text.as_bytes(), number);
                }
            } else {
                raw.insert(token.content.as_bytes(), number);
            }
        }
        Ok(Added { tokens, by_content, raw, normalized })
    }

    /// The token with an id.
    pub fn token(&self, id: u32) -> Option<&AddedToken> {
        self.tokens.binary_search_by_key(&id, |token| token.id).ok().map(|at| &self.tokens[at])
    }

    /// The token with a content.
    pub fn find(&self, content: &str) -> Option<&AddedToken> {
        exact(&self.by_content, content).map(|at| &self.tokens[at as usize])
    }

    /// All of them, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &AddedToken> + Clone {
        self.tokens.iter()
    }

    /// Cuts `text` into added tokens and normalised text between them. Tokens that are special are found
    /// only if `special` says so.
    pub fn cut<'a>(
        &'a self,
        text: &str,
        normalizers: &[Normalizer],
        special: bool,
        mut put: impl FnMut(Part<'a>) -> Result<()>,
    ) -> Result<()> {
        self.matches(&self.raw, text, special, |token, start, end| {
            if let Some(token) = token {
                return put(Part::Token(token, (start as u32, end as u32)));
            }
            let mut piece = Aligned::new(&text[start..end], start);
            normalizers.iter().for_each(|n| n.apply(&mut piece));
            self.matches(&self.normalized, &piece.text, special, |token, from, to| match token {
                Some(token) => put(Part::Token(token, piece.origin(from..to))),
                None if (from, to) == (0, piece.text.len()) => put(Part::Text(piece.clone())),
                None => put(Part::Text(piece.slice(from..to))),
            })
        })
    }

    /// Calls `put` with every token found and what stands between them.
    fn matches<'a>(
        &'a self,
        trie: &Trie,
        text: &str,
        special: bool,
        mut put: impl FnMut(Option<&'a AddedToken>, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let (mut done, mut at) = (0, 0);
        while at < text.len() {
            let Some((len, number)) = trie.longest(&text.as_bytes()[at..]) else {
                at += 1; // texts in the trie are whole characters: none begins inside of one
                continue;
            };
            let token = &self.tokens[number as usize];
            let (mut start, mut end) = (at, at + len);
            at = end;
            let (before, after) = (&text[..start], &text[end..]);
            let inside = token.alone.is_some_and(|word| before.ends_with(word) || after.starts_with(word));
            if token.special && !special || inside {
                continue;
            }
            if token.lstrip {
                start = before.trim_end_matches(is_space).len().max(done);
            }
            if token.rstrip {
                end = text.len() - after.trim_start_matches(is_space).len();
                at = end;
            }
            if done < start {
                put(None, done, start)?;
            }
            put(Some(token), start, end)?;
            done = end;
        }
        if done < text.len() { put(None, done, text.len()) } else { Ok(()) }
    }
}

fn exact(trie: &Trie, content: &str) -> Option<u32> {
    trie.longest(content.as_bytes()).filter(|&(len, _)| len == content.len()).map(|(_, number)| number)
}
