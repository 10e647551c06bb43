//! The tokens that are still in the running, and what each stage does to them.

use super::{Draw, Penalties, Stage, no_token};
use crate::kernels::elementwise::{Unary, unary_in_place};
use crate::kernels::softmax::{log_softmax, softmax};
use crate::kernels::topk::topk;
use crate::kernels::view::{MatMut, MatRef};
use crate::{Cpu, Error, Result};
use alloc::vec::Vec;

/// The memory of a draw, kept from one to the next: some 30 bytes a token of the vocabulary where nothing is cut,
/// 8 where top-k comes first.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// One a token of the vocabulary, by id; once ranked, one a candidate, the largest first.
    logits: Vec<f32>,
    /// One a candidate, once ranked.
    tokens: Vec<u32>,
    ranked: bool,
    probabilities: Vec<f32>,
    logs: Vec<f32>,
    /// What is sorted: a key in the high half, an index in the low one; or numbers alone, so that all sorts but one are the
    /// same code.
    keys: Vec<u64>,
    /// (surprise, rank) of the typical stage: bits of a non-negative `f64`, which sort as it does.
    surprises: Vec<(u64, u32)>,
}

impl Candidates {
    /// No memory yet.
    pub const fn new() -> Candidates {
        Candidates {
            logits: Vec::new(),
            tokens: Vec::new(),
            ranked: false,
            probabilities: Vec::new(),
            logs: Vec::new(),
            keys: Vec::new(),
            surprises: Vec::new(),
        }
    }

    /// Every token of the vocabulary.
    pub(super) fn start(&mut self, draw: &Draw<'_>) -> Result<()> {
        sound(draw)?;
        self.logits.clear();
        self.logits.extend_from_slice(draw.logits);
        self.ranked = false;
        Ok(())
    }

    /// The likeliest token alone, without a copy of the logits.
    pub(super) fn likeliest(&mut self, cpu: Cpu, draw: &Draw<'_>) -> Result<()> {
        sound(draw)?;
        let one = draw.logits.len().min(1);
        for floats in [&mut self.logits, &mut self.probabilities] {
            floats.clear();
            floats.resize(one, 0.0);
        }
        self.tokens.clear();
        self.tokens.resize(one, 0);
        topk(cpu, draw.logits, &mut self.logits, &mut self.tokens);
        self.ranked = true;
        Ok(())
    }

    pub(super) fn apply(&mut self, cpu: Cpu, stage: &Stage, draw: &Draw<'_>) -> Result<()> {
        match stage {
            Stage::LogitBias(bias) => return self.add(bias),
            Stage::Penalties(penalties) => return self.penalise(penalties, draw),
            Stage::Temperature(0.0) => self.rank(cpu, 1),
            Stage::Temperature(t) => return self.divide(*t, draw.position),
            Stage::TopK(0) => {}
            Stage::TopK(k) => self.rank(cpu, *k),
            Stage::Typical(1.0) | Stage::TopP(1.0) | Stage::MinP(0.0) => {}
            Stage::Typical(mass) => self.keep_typical(cpu, *mass, draw.position)?,
            Stage::TopP(mass) => self.keep_likeliest(cpu, *mass, draw.position)?,
            Stage::MinP(share) => self.keep_from_share(cpu, *share, draw.position)?,
        }
        Ok(())
    }

    /// The candidates and their probabilities.
    pub(super) fn finish(&mut self, cpu: Cpu, position: u64) -> Result<(&[u32], &[f32])> {
        self.weigh(cpu, position)?;
        Ok((&self.tokens, &self.probabilities))
    }

    fn add(&mut self, bias: &[(u32, f32)]) -> Result<()> {
        for (i, &(token, x)) in bias.iter().enumerate() {
            match self.logits.get_mut(token as usize) {
                Some(logit) => *logit += x,
                None => return Err(no_such_token("logit bias", i, token)),
            }
        }
        Ok(())
    }

    /// llama.cpp's rule: the repetition penalty first, then what is subtracted.
    fn penalise(&mut self, penalties: &Penalties, draw: &Draw<'_>) -> Result<()> {
        let Penalties { last_n, repeat, frequency, presence } = *penalties;
        if repeat == 1.0 && frequency == 0.0 && presence == 0.0 {
            return Ok(());
        }
        let first = draw.context.len().saturating_sub(last_n);
        self.keys.clear();
        self.keys.extend(draw.context[first..].iter().map(|&token| u64::from(token)));
        self.keys.sort_unstable(); // each token's occurrences lie together
        for same in self.keys.chunk_by(|a, b| a == b) {
            let token = same[0] as u32;
            let Some(logit) = self.logits.get_mut(token as usize) else {
                let place = draw.context.iter().rposition(|&t| t == token);
                return Err(no_such_token("context", place.unwrap_or(0), token));
            };
            *logit = if *logit > 0.0 { *logit / repeat } else { *logit * repeat };
            *logit -= same.len() as f32 * frequency + presence;
        }
        Ok(())
    }

    /// The largest logit, which must be a number: else there is nothing to choose from.
    fn largest(&self, position: u64) -> Result<f32> {
        let all = if self.ranked { &self.logits[..self.logits.len().min(1)] } else { &self.logits[..] };
        let largest = all.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
        if largest == f32::NEG_INFINITY {
            return Err(no_token(position));
        }
        if largest == f32::INFINITY {
            let what = "bias or penalties drive a logit to infinity";
            return Err(Error::invalid(alloc::format!("logits at position {position}: {what}")));
        }
        Ok(largest)
    }

    /// Distances from the largest logit, so that no temperature is too small: what overflows goes to −∞.
    fn divide(&mut self, temperature: f32, position: u64) -> Result<()> {
        if temperature != 1.0 {
            let largest = self.largest(position)?;
            self.logits.iter_mut().for_each(|x| *x = (*x - largest) / temperature);
        }
        Ok(())
    }

    /// The `k` largest logits, the largest first, equals by id.
    fn rank(&mut self, cpu: Cpu, k: usize) {
        let n = self.logits.len();
        if self.ranked {
            self.truncate(k);
        } else if k < n / 8 {
            // A small heap beats a sort.
            self.tokens.clear();
            self.tokens.resize(k, 0);
            self.probabilities.clear();
            self.probabilities.resize(k, 0.0);
            topk(cpu, &self.logits, &mut self.probabilities, &mut self.tokens);
            core::mem::swap(&mut self.logits, &mut self.probabilities);
        } else {
            self.sort();
            self.truncate(k);
        }
        self.ranked = true;
    }

    fn sort(&mut self) {
        self.keys.clear();
        let key = |(id, &x): (usize, &f32)| u64::from(descending(x)) << 32 | id as u64;
        self.keys.extend(self.logits.iter().enumerate().map(key));
        self.keys.sort_unstable();
        self.tokens.clear();
        self.tokens.extend(self.keys.iter().map(|&key| key as u32));
        self.probabilities.clear();
        self.probabilities.extend(self.tokens.iter().map(|&t| self.logits[t as usize]));
        core::mem::swap(&mut self.logits, &mut self.probabilities);
    }

    fn truncate(&mut self, k: usize) {
        self.logits.truncate(k);
        self.tokens.truncate(k);
    }

    /// Ranks, and computes the probability of each candidate.
    fn weigh(&mut self, cpu: Cpu, position: u64) -> Result<()> {
        if !self.ranked {
            self.rank(cpu, usize::MAX);
        }
        self.largest(position)?;
        let n = self.logits.len();
        self.probabilities.clear();
        self.probabilities.resize(n, 0.0);
        softmax(cpu, MatRef::new(&self.logits, 1, n), MatMut::new(&mut self.probabilities, 1, n));
        Ok(())
    }

    fn keep_likeliest(&mut self, cpu: Cpu, mass: f32, position: u64) -> Result<()> {
        self.weigh(cpu, position)?;
        let kept = reach(mass, self.probabilities.iter().copied());
        self.truncate(kept);
        Ok(())
    }

    /// p ≥ share · p of the first, as exp(logit − first logit) ≥ share: no sum enters.
    fn keep_from_share(&mut self, cpu: Cpu, share: f32, position: u64) -> Result<()> {
        if !self.ranked {
            self.rank(cpu, usize::MAX);
        }
        let largest = self.largest(position)?;
        self.probabilities.clear();
        self.probabilities.extend(self.logits.iter().map(|x| x - largest));
        let n = self.probabilities.len();
        unary_in_place(cpu, Unary::Exp, MatMut::new(&mut self.probabilities, 1, n));
        let kept = self.probabilities.iter().take_while(|&&p| p >= share).count();
        self.truncate(kept);
        Ok(())
    }

    /// Surprise −ln p, nearest to its mean (the entropy) first; of equals the likelier.
    fn keep_typical(&mut self, cpu: Cpu, mass: f32, position: u64) -> Result<()> {
        self.weigh(cpu, position)?;
        let n = self.logits.len();
        self.logs.clear();
        self.logs.resize(n, 0.0);
        log_softmax(cpu, MatRef::new(&self.logits, 1, n), MatMut::new(&mut self.logs, 1, n));
        let mut entropy = 0.0;
        for (&p, &log) in self.probabilities.iter().zip(&self.logs) {
            if p > 0.0 {
                entropy -= f64::from(p) * f64::from(log);
            }
        }
        self.surprises.clear();
        let off = |(rank, &log): (usize, &f32)| ((-f64::from(log) - entropy).abs().to_bits(), rank as u32);
        self.surprises.extend(self.logs.iter().enumerate().map(off));
        self.surprises.sort_unstable();
        let kept = reach(mass, self.surprises.iter().map(|&(_, rank)| self.probabilities[rank as usize]));
        // Back to the order of rank.
        self.keys.clear();
        self.keys.extend(self.surprises[..kept].iter().map(|&(_, rank)| u64::from(rank)));
        self.keys.sort_unstable();
        for (to, &from) in self.keys.iter().enumerate() {
            self.logits[to] = self.logits[from as usize];
            self.tokens[to] = self.tokens[from as usize];
        }
        self.truncate(kept);
        Ok(())
    }
}

/// How many of the first probabilities it takes to reach `mass`; all, where rounding keeps them below it.
fn reach(mass: f32, probabilities: impl ExactSizeIterator<Item = f32>) -> usize {
    let n = probabilities.len();
    let mut sum = 0.0;
    for (i, p) in probabilities.enumerate() {
        sum += f64::from(p);
        if sum >= f64::from(mass) {
            return i + 1;
        }
    }
    n
}

/// A key that sorts larger numbers first; both zeros have the same.
fn descending(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    // Two's complement of a sort: negative numbers have their order already, positive ones are turned round.
    if bits >> 31 == 1 { bits } else { !bits & 0x7fff_ffff }
}

/// An error where a logit is none.
fn sound(draw: &Draw<'_>) -> Result<()> {
    // True of NaN and +∞.
    let wrong = |x: &f32| x.is_nan() || *x == f32::INFINITY;
    let Some(index) = draw.logits.iter().position(wrong) else { return Ok(()) };
    let name = alloc::format!("logits at position {}", draw.position);
    let value = f64::from(draw.logits[index]);
    Err(Error::Value { name, index, value, expected: "a number below infinity" })
}

fn no_such_token(name: &str, index: usize, token: u32) -> Error {
    let expected = "a token of the vocabulary";
    Error::Value { name: name.into(), index, value: f64::from(token), expected }
}
