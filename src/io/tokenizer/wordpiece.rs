//! WordPiece: the longest token that a word begins with, then the longest continuation, and so on.

use super::Model;
use super::merge::Symbol;
use super::trie::Trie;
use super::vocab::Vocab;
use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// WordPiece.
pub(crate) struct WordPiece {
    vocab: Vocab,
    prefix: String,
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
        Ok(WordPiece { vocab, prefix: prefix.into(), first, later, unk: id, longest })
    }

    /// The tokens of a word: all of it, or the unknown token.
    fn cut(&self, word: &str, put: &mut dyn FnMut(Symbol)) {
        let unknown = Symbol { id: self.unk, start: 0, end: word.len() as u32 };
        // Bytes are at least as many as characters: most words need not be counted.
        if word.len() > self.longest && word.chars().count() > self.longest {
            return put(unknown);
        }
        let mut found = [Symbol { id: 0, start: 0, end: 0 }; 16];
        let (mut count, mut at) = (0, 0);
        let mut rest = Vec::new();
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

impl Model for WordPiece {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn tokenize(&self, word: &str, _: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) -> Result<()> {
        self.cut(word, put);
        Ok(())
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.vocab.write(to)?;
        to.text(&self.prefix)?;
        to.text(self.vocab.text(self.unk).unwrap_or_default())?;
        to.u32(self.longest.try_into().unwrap_or(u32::MAX));
        Ok(())
    }
}

impl WordPiece {
    pub const NUMBER: usize = 2;

    /// What `write` wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Model>> {
        let (vocab, prefix, unk) = (Vocab::read(from)?, from.text()?, from.text()?);
        Ok(Box::new(WordPiece::new(vocab, prefix, unk, from.u32()? as usize)?))
    }
}

/// Whole words, or the unknown token.
pub(crate) struct WordLevel {
    pub vocab: Vocab,
    /// The token of words that are none.
    pub unk: String,
}

impl Model for WordLevel {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The one token of a word; none where neither it nor the unknown token is in the vocabulary.
    fn tokenize(&self, word: &str, _: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) -> Result<()> {
        let id = self.vocab.id(word).or_else(|| self.vocab.id(&self.unk));
        if let Some(id) = id {
            put(Symbol { id, start: 0, end: word.len() as u32 });
        }
        Ok(())
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.vocab.write(to)?;
        to.text(&self.unk)
    }
}

impl WordLevel {
    pub const NUMBER: usize = 3;

    /// What `write` wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Model>> {
        Ok(Box::new(WordLevel { vocab: Vocab::read(from)?, unk: from.text()?.into() }))
    }
}
