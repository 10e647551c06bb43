//! Beam search: the likeliest continuations, not only the likeliest next tokens.
//!
//! ```text
//!   running beams ─ model ─► log-probabilities ─ + score ─► the best 2 × beams of all (beam, token)
//!        ▲                                                     │ among the first `beams`: at its end ─► finished,
//!        └── the best `beams` that go on ◄─────────────────────┘    score / length^penalty, the best `beams` kept
//! ```
//!
//! The rules – how many candidates, what counts as finished, when to stop – are those of transformers. Scores are
//! sums in `f64` of the law's log-softmax; equals go to the earlier beam, then to the lower token.
//!
//! Sutskever, Vinyals, Le 2014, [arXiv:1409.3215](https://arxiv.org/abs/1409.3215); length penalty: Wu et al. 2016, [arXiv:1609.08144](https://arxiv.org/abs/1609.08144), in the form
//! length^penalty.

use crate::kernels::math::pow64;
use crate::kernels::softmax::log_softmax_in_place;
use crate::kernels::topk::topk;
use crate::kernels::view::MatMut;
use crate::{Cpu, Error, Result};
use alloc::vec;
use alloc::vec::Vec;

/// When a search is over although beams still run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When the best running beam, were it to end now, is worse than every finished one: transformers' `False`.
    #[default]
    Heuristic,
    /// As soon as there are as many finished texts as beams: `True`.
    WhenFull,
    /// When no running beam can become better, however long it gets: `"never"`.
    Never,
}

/// What to search for.
///
/// ```
/// use samebits::model::{Beam, BeamSearch, EarlyStopping, Hypothesis, NextLogits};
/// use samebits::{Cpu, Result};
/// // A model of two tokens that likes to repeat the last one; 1 begins.
/// let mut next = |beams: &[Beam<'_>], logits: &mut [f32]| -> Result<()> {
///     for (beam, logits) in beams.iter().zip(logits.chunks_mut(2)) {
///         let last = beam.tokens.last().copied().unwrap_or(1);
///         logits.copy_from_slice(&[[1.0, 0.0], [0.0, 1.0]][last as usize]);
///     }
///     Ok(())
/// };
/// let model: &mut NextLogits = &mut next;
/// let search = BeamSearch { early_stopping: EarlyStopping::WhenFull, ..BeamSearch::new(2, 2, 3) };
/// let found: Vec<Hypothesis> = search.run(Cpu::detect(), model)?;
/// assert_eq!(found[0].tokens, [1, 1, 1]);
/// assert!(found[0].score > found[1].score);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BeamSearch {
    /// Texts followed at a time, and texts that come out.
    pub beams: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// The most tokens of a text.
    pub max_tokens: usize,
    /// Tokens that end a text; they belong to it.
    pub ends: Vec<u32>,
    /// A finished text has score Σ log p / length^this: above 0 longer texts are preferred, below 0 shorter ones.
    pub length_penalty: f64,
    /// When to stop.
    pub early_stopping: EarlyStopping,
}

/// A running beam, as the model gets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beam<'a> {
    /// Its place among the beams of the call before: whose cache to go on from.
    pub parent: usize,
    /// The tokens so far, without the prompt; all but the last were there in the call before.
    pub tokens: &'a [u32],
}

/// A text that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without the prompt.
    pub tokens: Vec<u32>,
    /// Σ log p / length^penalty.
    pub score: f64,
}

/// The model: fills the logits after each beam, (beams, vocabulary). The first call has one beam without tokens:
/// the prompt.
pub type NextLogits<'f> = dyn FnMut(&[Beam<'_>], &mut [f32]) -> Result<()> + 'f;

impl BeamSearch {
    /// Texts of up to `max_tokens` with no token to end them earlier, each score divided by its length.
    pub const fn new(beams: usize, vocabulary: usize, max_tokens: usize) -> BeamSearch {
        let early_stopping = EarlyStopping::Heuristic;
        BeamSearch { beams, vocabulary, max_tokens, ends: Vec::new(), length_penalty: 1.0, early_stopping }
    }

    /// The best texts, the best first.
    ///
    /// # Errors
    /// The model's; [`Error::Value`] where a logit is NaN or +∞; [`Error::Usage`] for a penalty that is no number.
    ///
    /// # Panics
    /// Where there are no beams or no vocabulary.
    ///
    /// ```
    /// use samebits::{Cpu, model::{Beam, BeamSearch}};
    /// // After 0 come 1 or 2, nearly as likely; after 1 anything, after 2 surely 0. Greedy takes 1 first.
    /// let after = |t| [[0.0, 1.0, 0.9], [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]][t as usize];
    /// let mut model = |beams: &[Beam], logits: &mut [f32]| {
    ///     for (beam, row) in beams.iter().zip(logits.chunks_exact_mut(3)) {
    ///         row.copy_from_slice(&after(*beam.tokens.last().unwrap_or(&0)));
    ///     }
    ///     Ok(())
    /// };
    /// let found = BeamSearch::new(2, 3, 2).run(Cpu::detect(), &mut model)?;
    /// assert_eq!(found[0].tokens, [2, 0]);
    /// # Ok::<(), samebits::Error>(())
    /// ```
    pub fn run(&self, cpu: Cpu, model: &mut NextLogits<'_>) -> Result<Vec<Hypothesis>> {
        assert!(self.beams > 0 && self.vocabulary > 0, "{} beams, {} tokens", self.beams, self.vocabulary);
        if !self.length_penalty.is_finite() {
            let what = alloc::format!("length penalty is {}, expected a number", self.length_penalty);
            return Err(Error::Usage { what, hint: None });
        }
        let mut search = Search { rules: self, running: vec![Text::default()], finished: Vec::new() };
        let mut logits = Vec::new();
        for length in 1..=self.max_tokens {
            let beams: Vec<Beam<'_>> = search.running.iter().map(Text::beam).collect();
            logits.clear();
            logits.resize(beams.len() * self.vocabulary, 0.0);
            model(&beams, &mut logits)?;
            self.check(&logits, length)?;
            log_softmax_in_place(cpu, MatMut::new(&mut logits, beams.len(), self.vocabulary));
            let candidates = search.candidates(cpu, &logits);
            if search.advance(candidates, length) {
                break;
            }
        }
        Ok(search.finished)
    }

    fn check(&self, logits: &[f32], length: usize) -> Result<()> {
        let Some(at) = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) else { return Ok(()) };
        let (beam, index) = (at / self.vocabulary, at % self.vocabulary);
        let name = alloc::format!("logits of beam {beam} at token {length}");
        Err(Error::Value { name, index, value: f64::from(logits[at]), expected: "a number below infinity" })
    }

    /// A sum of log-probabilities as the score of a text of `length`.
    fn score(&self, sum: f64, length: usize) -> f64 {
        sum / pow64(length as f64, self.length_penalty)
    }

    /// Candidates looked at in each step: enough that `beams` are left when every end token is among the best.
    fn width(&self) -> usize {
        self.beams.saturating_mul(2.max(1 + self.ends.len()))
    }
}

/// A text on its way.
#[derive(Clone, Debug, Default)]
struct Text {
    tokens: Vec<u32>,
    /// Σ log p
    sum: f64,
    parent: usize,
}

impl Text {
    fn beam(&self) -> Beam<'_> {
        Beam { parent: self.parent, tokens: &self.tokens }
    }
}

/// A running beam with one more token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    sum: f64,
    parent: usize,
    token: u32,
}

struct Search<'r> {
    rules: &'r BeamSearch,
    running: Vec<Text>,
    /// The best first.
    finished: Vec<Hypothesis>,
}

impl Search<'_> {
    /// The best continuations of all beams, best first. `logs` is (beams, vocabulary).
    fn candidates(&self, cpu: Cpu, logs: &[f32]) -> Vec<Candidate> {
        let (width, vocabulary) = (self.rules.width(), self.rules.vocabulary);
        let k = width.min(vocabulary);
        let (mut best, mut tokens) = (vec![0.0; k], vec![0; k]);
        let mut all = Vec::with_capacity(self.running.len() * k);
        for (parent, (text, row)) in self.running.iter().zip(logs.chunks_exact(vocabulary)).enumerate() {
            topk(cpu, row, &mut best, &mut tokens);
            for (&log, &token) in best.iter().zip(&tokens) {
                if log > f32::NEG_INFINITY {
                    all.push(Candidate { sum: text.sum + f64::from(log), parent, token });
                }
            }
        }
        // Stable: equals stay in the order of beam, then token.
        all.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        all.truncate(width);
        all
    }

    /// One step of the search; whether it was the last.
    fn advance(&mut self, candidates: Vec<Candidate>, length: usize) -> bool {
        let rules = self.rules;
        let last = length == rules.max_tokens;
        let ended = |c: &Candidate| last || rules.ends.contains(&c.token);
        let mut next = Vec::with_capacity(rules.beams);
        for (rank, candidate) in candidates.iter().enumerate() {
            if ended(candidate) {
                // Those behind the first `beams` only stand in for texts that end.
                if rank < rules.beams {
                    self.finish(self.extend(candidate), length);
                }
            } else if next.len() < rules.beams {
                next.push(self.extend(candidate));
            }
        }
        self.running = next;
        self.finished.truncate(rules.beams);
        self.running.is_empty() || self.over(length)
    }

    fn extend(&self, candidate: &Candidate) -> Text {
        let mut tokens = self.running[candidate.parent].tokens.clone();
        tokens.push(candidate.token);
        Text { tokens, sum: candidate.sum, parent: candidate.parent }
    }

    /// Puts a text where its score belongs, after its equals.
    fn finish(&mut self, text: Text, length: usize) {
        let score = self.rules.score(text.sum, length);
        let at = self.finished.partition_point(|f| f.score >= score);
        self.finished.insert(at, Hypothesis { tokens: text.tokens, score });
    }

    /// Whether enough is finished, after `length` tokens.
    fn over(&self, length: usize) -> bool {
        let rules = self.rules;
        if self.finished.len() < rules.beams {
            return false;
        }
        if rules.early_stopping == EarlyStopping::WhenFull {
            return true;
        }
        // A positive penalty favours length: then the longest possible text is the one to beat.
        let longest = rules.early_stopping == EarlyStopping::Never && rules.length_penalty > 0.0;
        let hoped = if longest { rules.max_tokens } else { length };
        rules.score(self.running[0].sum, hoped) <= self.finished[rules.beams - 1].score
    }
}
