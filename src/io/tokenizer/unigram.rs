//! Unigram: of all ways to cut a text into tokens the one whose scores add up to the most.
//!
//! **Reference**: Kudo (2018), "Subword Regularization"; ties and the order of additions as in
//! SentencePiece's `EncodeOptimized` (0.2.3), whose sums are `f32` and begin at 0 again beyond ±100,000. `tokenizers` adds
//! in `f64`. In a text of megabytes the two choose otherwise where ways differ by less than 0.008, so each kind of file
//! gets the arithmetic of its own tool.

use super::Model;
use super::merge::{Symbol, byte_tokens};
use super::trie::Trie;
use super::vocab::{NONE, Vocab};
use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::boxed::Box;
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

/// In what the scores of a path are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sums {
    /// In `f32`, as SentencePiece does.
    Single,
    /// In `f64`, as `tokenizers` does.
    Double,
}

impl Sums {
    /// A sum of `f32` beyond this is taken off all the sums that are still in use.
    const FAR: f64 = 100_000.0;

    fn round(self, x: f64) -> f64 {
        match self {
            Sums::Single => f64::from(x as f32),
            Sums::Double => x,
        }
    }
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
pub(crate) struct Unigram {
    vocab: Vocab,
    trie: Trie,
    /// By id.
    pieces: Vec<Piece>,
    unk: u32,
    unk_score: f64,
    best_score: f64,
    sums: Sums,
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
    pub fn new(vocab: Vocab, pieces: Vec<Piece>, unk: Option<u32>, sums: Sums) -> Result<Unigram> {
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
        let unk_score = sums.round(if least.is_finite() { least } else { 0.0 } - UNKNOWN_PENALTY);
        let unk = unk.unwrap_or(NONE);
        Ok(Unigram {
            vocab,
            trie,
            pieces,
            unk,
            unk_score,
            best_score: if most.is_finite() { most } else { 0.0 },
            sums,
            bytes: None,
        })
    }

    /// Lets characters without a token become the tokens of their bytes.
    pub fn with_byte_fallback(mut self, place: BytePlace) -> Unigram {
        self.bytes = Some((byte_tokens(|token| self.vocab.id(token)), place));
        self
    }

    /// The tokens of a word.
    fn cut(&self, word: &str, put: &mut dyn FnMut(Symbol)) -> Result<()> {
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
    fn unknown(&self, word: &str, run: Symbol, put: &mut dyn FnMut(Symbol)) -> Result<()> {
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
        // The last place that any way has come to.
        let mut front = 0;
        for (start, c) in word.char_indices() {
            if self.sums == Sums::Single && best[start].score.abs() > Sums::FAR {
                let far = best[start].score;
                let reached = |at: &&mut Best| at.start != NONE;
                best[start..=front].iter_mut().filter(reached).for_each(|at| {
                    at.score = self.sums.round(at.score - far);
                });
            }
            let here = best[start].score;
            let one = start + c.len_utf8();
            let (mut node, mut single) = (Trie::ROOT, false);
            for end in start + 1..=bytes.len() {
                let Some(next) = self.trie.step(node, bytes[end - 1]) else { break };
                node = next;
                let Some(id) = self.trie.number(node) else { continue };
                single |= end == one;
                front = front.max(end);
                best[end].offer(self.sums.round(here + self.score(id, end - start)), start, id);
            }
            if !single {
                front = front.max(one);
                best[one].offer(self.sums.round(here + self.unk_score), start, self.unk);
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
        match (self.pieces[id as usize], self.sums) {
            (Piece::Scored(score), _) => score,
            (_, Sums::Single) => self.sums.round(0.1 * (bytes as f64 - 1.0)),
            (_, Sums::Double) => bytes as f64 * self.best_score - 0.1,
        }
    }
}

impl Model for Unigram {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// # Errors
    /// Where a character has no token and the model has none for the unknown.
    fn tokenize(&self, word: &str, _: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) -> Result<()> {
        self.cut(word, put)
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.vocab.write(to)?;
        for piece in &self.pieces {
            match piece {
                Piece::Scored(score) => {
                    to.u32(0);
                    to.f64(*score);
                }
                Piece::UserDefined => to.u32(1),
                Piece::Never => to.u32(2),
            }
        }
        to.u32(self.unk);
        to.flag(self.sums == Sums::Double);
        to.u32(match self.bytes {
            None => 0,
            Some((_, BytePlace::Character)) => 1,
            Some((_, BytePlace::Run)) => 2,
        });
        Ok(())
    }
}

impl Unigram {
    pub const NUMBER: usize = 1;

    /// What `write` wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Model>> {
        let vocab = Vocab::read(from)?;
        let pieces = from.list(vocab.len(), |from| {
            Ok(match from.count("the kind of a piece", 0, 2)? {
                0 => Piece::Scored(from.f64()?),
                1 => Piece::UserDefined,
                _ => Piece::Never,
            })
        })?;
        let unk = Some(from.u32()?).filter(|&id| id != NONE);
        let sums = from.one_of("how scores are added up", &[Sums::Single, Sums::Double])?;
        let places = [None, Some(BytePlace::Character), Some(BytePlace::Run)];
        let place = from.one_of("where bytes come from", &places)?;
        let model = Unigram::new(vocab, pieces, unk, sums)?;
        Ok(Box::new(match place {
            Some(place) => model.with_byte_fallback(place),
            None => model,
        }))
    }
}
