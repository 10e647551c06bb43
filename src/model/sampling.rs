//! From logits to a token.
//!
//! A [`Sampler`] is a list of stages, run in order, and a draw:
//!
//! ```text
//!   logits ─ bias ─ penalties ─► ranked ─ top-k ─ typical ─ top-p ─ min-p ─ temperature ─► softmax ─ draw ─► token
//!            every token           │ larger first, equals: lower id first; each stage cuts what it does not keep
//! ```
//!
//! That order and the values of [`Settings::default`] are those of llama.cpp (its DRY, top-n-sigma and XTC, off
//! by default there, do not exist here); [`Sampler::of_stages`] takes any other, such as that of transformers, which
//! divides by the temperature first.
//!
//! **The same text on every machine.** exp and ln are the law's, softmax sums by clause 2 over the ranked
//! candidates, what accumulates does so in `f64` in order of rank, ties go to the lower id, and the draw at a
//! position is a function of the seed and that position alone ([`Philox`]).

mod candidates;
mod stage;

pub use candidates::Candidates;
pub use stage::{Penalties, Settings, Stage};

use crate::random::Philox;
use crate::{Cpu, Error, Result};
use alloc::vec::Vec;

/// What one draw is made from.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// One a token of the vocabulary. −∞ is a token that cannot come; NaN and +∞ are errors.
    pub logits: &'a [f32],
    /// The tokens before, of which penalties see the last ones.
    pub context: &'a [u32],
    /// The place of the new token in its own text, from 0 on: with the seed, all that chance depends on.
    pub position: u64,
}

/// A rule for choosing the next token.
///
/// ```
/// use samebits::{Cpu, model::{Candidates, Sampler, Settings, sampling::Draw}};
/// let cpu = Cpu::detect();
/// let draw = Draw { logits: &[0.5, 3.0, 2.9, -1.0], context: &[1, 1], position: 2 };
/// let mut memory = Candidates::new();
/// assert_eq!(Sampler::greedy().sample(cpu, &draw, &mut memory)?, 1);
///
/// let settings = Settings { repeat_penalty: 1.3, temperature: 0.0, ..Settings::default() };
/// assert_eq!(Sampler::new(&settings, 0)?.sample(cpu, &draw, &mut memory)?, 2);
///
/// let sampler = Sampler::new(&Settings::default(), 42)?;
/// let token = sampler.sample(cpu, &draw, &mut memory)?;
/// assert_eq!(token, sampler.sample(cpu, &draw, &mut Candidates::new())?);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    stages: Vec<Stage>,
    random: Philox,
}

impl Sampler {
    /// The stages of `settings` in llama.cpp's order.
    ///
    /// # Errors
    /// [`Error::Usage`] that names a setting outside its range.
    pub fn new(settings: &Settings, seed: u64) -> Result<Sampler> {
        Sampler::of_stages(settings.stages(), seed)
    }

    /// Any stages, in any order but one: bias and penalties come before what cuts.
    ///
    /// # Errors
    /// [`Error::Usage`] that names a stage with a value outside its range or in the wrong place.
    pub fn of_stages(stages: Vec<Stage>, seed: u64) -> Result<Sampler> {
        stage::check(&stages)?;
        Ok(Sampler { stages, random: Philox::new(seed) })
    }

    /// The largest logit; of equals the lower id.
    pub fn greedy() -> Sampler {
        Sampler { stages: [Stage::Temperature(0.0)].into(), random: Philox::new(0) }
    }

    /// The stages, in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The next token.
    ///
    /// # Errors
    /// [`Error::Value`] where a logit is NaN or +∞ or a token of the context is none of the vocabulary,
    /// [`Error::Malformed`] where no token can come. Both name the position.
    pub fn sample(&self, cpu: Cpu, draw: &Draw<'_>, memory: &mut Candidates) -> Result<u32> {
        let (tokens, probabilities) = self.distribution(cpu, draw, memory)?;
        let total = probabilities.iter().fold(0.0, |sum, &p| sum + f64::from(p));
        let threshold = self.random.uniform(draw.position, 0) * total;
        let mut sum = 0.0;
        for (&token, &p) in tokens.iter().zip(probabilities) {
            sum += f64::from(p);
            if sum > threshold {
                return Ok(token);
            }
        }
        Err(no_token(draw.position)) // the last sum is the total, and the threshold below it
    }

    /// What [`sample`](Sampler::sample) draws from: the tokens that are left, the likeliest first, and their
    /// probabilities.
    ///
    /// # Errors
    /// Those of [`sample`](Sampler::sample).
    pub fn distribution<'m>(
        &self,
        cpu: Cpu,
        draw: &Draw<'_>,
        memory: &'m mut Candidates,
    ) -> Result<(&'m [u32], &'m [f32])> {
        if let [Stage::Temperature(0.0)] = self.stages[..] {
            memory.likeliest(cpu, draw)?;
            return memory.finish(cpu, draw.position);
        }
        memory.start(draw)?;
        for stage in &self.stages {
            memory.apply(cpu, stage, draw)?;
        }
        memory.finish(cpu, draw.position)
    }
}

fn no_token(position: u64) -> Error {
    Error::invalid(alloc::format!("logits at position {position}: every token has logit −∞, none can come"))
}
