//! Unigram: of all ways to cut a text into tokens the one whose scores add up to the most.
//!
//! **Reference**: Kudo (2018), "Subword Regularization"; ties and the order of additions as in
//! SentencePiece's `EncodeOptimized`. Scores add up in `f64`, as in `tokenizers`: SentencePiece 0.2.3 gives
//! the same ids for a novel in one piece (420 KB), and in a text of 4 MB differs at one word, where its own
//! sums have become coarse.

use super::merge::{Symbol, byte_tokens};
use super::trie::Trie;
use super::vocab::{NONE, Vocab};
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// What an unknown character costs beyond the rarest token.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A token as a file lists it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece {
    /// An ordinary one, with its score.
    Scored(f64),
    /// One that is always taken where it stands.
    UserDefined,
    /// One that no text contains.
    Never,
}

/// Where a byte of an unknown character comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BytePlace {
    /// From that character.
    Character,
    /// From all of the run of unknown characters, as `tokenizers` has it.
    Run,
}

/// Unigram.
#[derive(Debug)]
pub(crate) struct Unigram {
    pub vocab: Vocab,
    trie: Trie,
    /// By id.
    pieces: Vec<Piece>,
    unk: u32,
    unk_score: f64,
    best_score: f64,
    bytes: Option<(Vec<u32>, BytePlace)>,
}

/// The best way to a place in the text: what it costs, and its last token.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    start: u32,
    id: u32,
}

impl Best {
    fn offer(&mut self, score: f64, start: usize, id: u32) {
        if self.start == NONE || score > self.score {
            *self = Best { score, start: start as u32, id };
        }
    }
}

impl Unigram {
    /// A model of tokens and, by id, what they are; `unk` is the id of the unknown token.
    pub fn new(vocab: Vocab, pieces: Vec<Piece>, unk: Option<u32>) -> Result<Unigram> {
        let bytes = vocab.iter().map(|(_, token)| token.len()).sum();
        let mut trie = Trie::with_capacity(bytes);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for (id, token) in vocab.iter() {
            match pieces[id as usize] {
                Piece::Scored(score) if score.is_finite() => {
                    (least, most) = (least.min(score), most.max(score));
                }
                Piece::Scored(score) => {
                    return Err(Error::invalid(format!("token {token:?} has the score {score}")));
                }
                Piece::UserDefined => (),
                Piece::Never => continue,
            }
            if !token.is_empty() {
                trie.insert(token.as_bytes(), id);
            }
        }
        let unk_score = if least.is_finite() { least } else { 0.0 } - UNKNOWN_PENALTY;
        let unk = unk.unwrap_or(NONE);
        Ok(Unigram {
            vocab,
            trie,
            pieces,
            unk,
            unk_score,
            best_score: if most.is_finite() { most } else { 0.0 },
            bytes: None,
        })
    }

    /// Lets characters without a token become the tokens of their bytes.
    pub fn with_byte_fallback(mut self, place: BytePlace) -> Unigram {
        self.bytes = Some((byte_tokens(|token| self.vocab.id(token)), place));
        self
    }

    /// The tokens of a word.
    ///
    /// # Errors
    /// Where a character has no token and the model has none for the unknown.
    pub fn tokenize(&self, word: &str, put: &mut impl FnMut(Symbol)) -> Result<()> {
        let path = self.path(word);
        let mut at = 0;
        while at < path.len() {
            let Symbol { id, start, mut end } = path[at];
            at += 1;
            if id != self.unk {
                put(Symbol { id, start, end });
                continue;
            }
            while at < path.len() && path[at].id == self.unk {
                end = path[at].end;
                at += 1;
            }
            self.unknown(word, Symbol { id, start, end }, put)?;
        }
        Ok(())
    }

    /// A run of characters without tokens.
    fn unknown(&self, word: &str, run: Symbol, put: &mut impl FnMut(Symbol)) -> Result<()> {
        let text = &word[run.start as usize..run.end as usize];
        if let Some((bytes, place)) = &self.bytes
            && text.bytes().all(|b| bytes[usize::from(b)] != NONE)
        {
            for (at, c) in text.char_indices() {
                let (start, end) = match place {
                    BytePlace::Character => (run.start + at as u32, run.start + (at + c.len_utf8()) as u32),
                    BytePlace::Run => (run.start, run.end),
                };
                for b in text[at..at + c.len_utf8()].bytes() {
                    put(Symbol { id: bytes[usize::from(b)], start, end });
                }
            }
            return Ok(());
        }
        if self.unk == NONE {
            return Err(Error::invalid(format!("{text:?} has no token, and there is none for the unknown")));
        }
        put(run);
        Ok(())
    }

    /// The best path; unknown characters have the id of the unknown token, one entry each.
    fn path(&self, word: &str) -> Vec<Symbol> {
        let bytes = word.as_bytes();
        let mut best = vec![Best { score: 0.0, start: NONE, id: NONE }; bytes.len() + 1];
        for (start, c) in word.char_indices() {
            let here = best[start].score;
            let one = start + c.len_utf8();
            let (mut node, mut single) = (Trie::ROOT, false);
            for end in start + 1..=bytes.len() {
                let Some(next) = self.trie.step(node, bytes[end - 1]) else { break };
                node = next;
                let Some(id) = self.trie.number(node) else { continue };
                single |= end == one;
                best[end].offer(here + self.score(id, end - start), start, id);
            }
            if !single {
                best[one].offer(here + self.unk_score, start, self.unk);
            }
        }
        let mut path = Vec::new();
        let mut end = bytes.len() as u32;
        while end > 0 {
            let Best { start, id, .. } = best[end as usize];
            path.push(Symbol { id, start, end });
            end = start;
        }
        path.reverse();
        path
    }

    fn score(&self, id: u32, bytes: usize) -> f64 {
        match self.pieces[id as usize] {
            Piece::Scored(score) => score,
            _ => bytes as f64 * self.best_score - 0.1,
        }
    }
}
