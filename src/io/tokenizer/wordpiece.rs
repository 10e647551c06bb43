//! WordPiece: the longest token that a word begins with, then the longest continuation, and so on.

use super::merge::Symbol;
use super::trie::Trie;
use super::vocab::Vocab;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;

/// WordPiece.
#[derive(Debug)]
pub(crate) struct WordPiece {
    pub vocab: Vocab,
    /// Tokens that begin a word, and those that continue one, without their prefix.
    first: Trie,
    later: Trie,
    unk: u32,
    /// A word of more characters is unknown.
    longest: usize,
}

impl WordPiece {
    /// A model of tokens; those that continue a word begin with `prefix`.
    pub fn new(vocab: Vocab, prefix: &str, unk: &str, longest: usize) -> Result<WordPiece> {
        let id = vocab.id(unk);
        let id = id.ok_or_else(|| Error::invalid(format!("the unknown token {unk:?} is no token")))?;
        let bytes: usize = vocab.iter().map(|(_, token)| token.len()).sum();
        let (mut first, mut later) = (Trie::with_capacity(bytes / 2), Trie::with_capacity(bytes / 8));
        for (id, token) in vocab.iter().filter(|(_, token)| !token.is_empty()) {
            first.insert(token.as_bytes(), id);
            if let Some(rest) = token.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
                later.insert(rest.as_bytes(), id);
            }
        }
        Ok(WordPiece { vocab, first, later, unk: id, longest })
    }

    /// The tokens of a word: all of it, or the unknown token.
    pub fn tokenize(&self, word: &str, put: &mut impl FnMut(Symbol)) {
        let unknown = Symbol { id: self.unk, start: 0, end: word.len() as u32 };
        // Bytes are at least as many as characters: most words need not be counted.
        if word.len() > self.longest && word.chars().count() > self.longest {
            return put(unknown);
        }
        let mut found = [Symbol { id: 0, start: 0, end: 0 }; 16];
        let (mut count, mut at) = (0, 0);
        let mut rest = alloc::vec::Vec::new();
        while at < word.len() {
            let trie = if at == 0 { &self.first } else { &self.later };
            let Some((len, id)) = trie.longest(&word.as_bytes()[at..]) else { return put(unknown) };
            let symbol = Symbol { id, start: at as u32, end: (at + len) as u32 };
            match found.get_mut(count) {
                Some(slot) => *slot = symbol,
                None => rest.push(symbol),
            }
            count += 1;
            at += len;
        }
        found.into_iter().take(count).chain(rest).for_each(put);
    }
}

/// Whole words, or the unknown token.
#[derive(Debug)]
pub(crate) struct WordLevel {
    pub vocab: Vocab,
    /// The token of words that are none.
    pub unk: String,
}

impl WordLevel {
    /// The one token of a word; none where neither it nor the unknown token is in the vocabulary.
    pub fn tokenize(&self, word: &str, put: &mut impl FnMut(Symbol)) {
        let id = self.vocab.id(word).or_else(|| self.vocab.id(&self.unk));
        if let Some(id) = id {
            put(Symbol { id, start: 0, end: word.len() as u32 });
        }
    }
}
