//! A text being continued, token by token.

use super::cache::KvCache;
use super::decoder::{Decoder, Sequence, Workspace};
use super::sampling::{Candidates, Draw, Sampler};
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Tokens of a prompt that are computed at once: what the rows in between take stays small, and no bit depends
/// on it.
const PART: usize = 512;

/// A conversation with a decoder: the tokens so far, their keys and values, and the rule for the next.
///
/// Nothing depends on how tokens were fed: one at a time or a thousand.
pub struct Generator<'m> {
    model: &'m Decoder,
    sampler: Sampler,
    cache: KvCache,
    workspace: Workspace,
    memory: Candidates,
    /// Everything fed or drawn.
    tokens: Vec<u32>,
    /// After the last token that was computed.
    logits: Vec<f32>,
    /// Tokens that were drawn so far.
    drawn: u64,
    capacity: usize,
}

impl<'m> Generator<'m> {
    /// Nothing was said yet; at most `capacity` tokens will be.
    pub fn new(model: &'m Decoder, sampler: Sampler, capacity: usize) -> Generator<'m> {
        Generator {
            model,
            sampler,
            cache: model.cache(capacity.min(PART)),
            workspace: Workspace::new(),
            memory: Candidates::new(),
            tokens: Vec::new(),
            logits: vec![0.0; model.config().vocab],
            drawn: 0,
            capacity,
        }
    }

    /// Tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that may still come.
    pub fn left(&self) -> usize {
        self.capacity - self.tokens.len()
    }

    /// Keys and values so far.
    pub const fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Adds tokens that somebody else said. `each` hears how many are computed and may end it.
    ///
    /// # Errors
    /// As [`Decoder::forward`], where there are more tokens than the capacity, or what `each` returns.
    pub fn feed<E: From<Error>>(
        &mut self,
        run: &Run<'_>,
        tokens: &[u32],
        mut each: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        if tokens.len() > self.left() {
            let (all, most) = (self.tokens.len() + tokens.len(), self.capacity);
            return Err(Error::invalid(format!("{all} tokens, the context has room for {most}")).into());
        }
        self.tokens.extend(tokens);
        while self.cache.len() < self.tokens.len() {
            self.compute(run)?;
            each(self.cache.len())?;
        }
        Ok(())
    }

    /// Draws the next token; it is computed when more is asked for.
    ///
    /// # Errors
    /// As [`Decoder::forward`] and [`Sampler::sample`]; where no token was fed, or the capacity is reached.
    pub fn next(&mut self, run: &Run<'_>) -> Result<u32> {
        if self.tokens.is_empty() || self.left() == 0 {
            let (all, most) = (self.tokens.len(), self.capacity);
            return Err(Error::invalid(format!("no next token after {all} of at most {most}")));
        }
        while self.cache.len() < self.tokens.len() {
            self.compute(run)?;
        }
        let draw = Draw { logits: &self.logits, context: &self.tokens, position: self.drawn };
        let token = self.sampler.sample(run.cpu(), &draw, &mut self.memory)?;
        self.drawn += 1;
        self.tokens.push(token);
        Ok(token)
    }

    /// The next part of the tokens that are not in the cache.
    fn compute(&mut self, run: &Run<'_>) -> Result<()> {
        let from = self.cache.len();
        let tokens = &self.tokens[from..self.tokens.len().min(from + PART)];
        let mut batch = [Sequence { tokens, cache: &mut self.cache }];
        self.model.forward(run, &mut batch, &mut self.logits, &mut self.workspace)
    }
}
