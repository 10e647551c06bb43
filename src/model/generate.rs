//! A text being continued, token by token.

use super::beam::{Beam, BeamSearch, Hypothesis};
use super::cache::{CacheType, KvCache};
use super::decoder::{Decoder, Sequence, Workspace};
use super::lookup::PromptLookup;
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
///
/// ```
/// use samebits::model::{Generator, PromptLookup, Sampler};
/// use samebits::{Cpu, assets, io::tokenizer::EncodeOptions, run::Run};
/// let run = Run::here(Cpu::detect());
/// let (model, tokenizer) = (assets::model(run.cpu())?, assets::tokenizer()?);
/// let prompt = tokenizer.encode("Once upon a time", &EncodeOptions::default())?.ids;
/// let told = |mut generator: Generator| {
///     generator.feed(&run, &prompt, |_| Ok::<(), samebits::Error>(()))?;
///     (0..8).map(|_| generator.next(&run)).collect::<samebits::Result<Vec<u32>>>()
/// };
/// let ids = told(Generator::new(&model, Sampler::greedy(), 64))?;
/// assert!(tokenizer.decode(&ids, true).contains("there was"));
/// // Drafts change no token.
/// let drafted = Generator::new(&model, Sampler::greedy(), 64).with_lookup(PromptLookup::default());
/// assert_eq!(told(drafted)?, ids);
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Generator<'m> {
    model: &'m Decoder,
    sampler: Sampler,
    lookup: Option<PromptLookup>,
    cache: KvCache,
    workspace: Workspace,
    memory: Candidates,
    /// Everything fed or drawn; with drafts, some that nobody has asked for yet.
    tokens: Vec<u32>,
    /// So many were fed or given out.
    given: usize,
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
            lookup: None,
            cache: model.cache(capacity.min(PART)),
            workspace: Workspace::for_tokens(capacity),
            memory: Candidates::new(),
            tokens: Vec::with_capacity(capacity.min(PART)),
            given: 0,
            logits: vec![0.0; model.config().vocab],
            drawn: 0,
            capacity,
        }
    }

    /// Drafts tokens by looking into the text and computes a draft at once. What comes out is what would have come
    /// one by one, bit for bit: every choice is the sampler's own, from logits that no split changes.
    #[must_use]
    pub fn with_lookup(mut self, lookup: PromptLookup) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// Stores keys and values as `kind`; `f32` unless it is asked for, before any token was fed.
    #[must_use]
    pub fn with_cache(mut self, kind: CacheType) -> Self {
        self.cache = self.model.cache_of(kind, self.capacity.min(PART));
        self
    }

    /// Tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.given]
    }

    /// Tokens that may still come.
    pub const fn left(&self) -> usize {
        self.capacity - self.given
    }

    /// The logits that the last token was drawn from, one a token of the vocabulary; where a prompt was fed since, those
    /// after it. (With drafts, those of the last part that was computed without one.)
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Keys and values so far.
    pub const fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Bytes of what was computed in between and is kept: keys and values, rows, cos and sin, logits; each buffer in
    /// whole lines of 64. [`Shape::arena_len`](super::flat::Shape::arena_len) says it beforehand.
    pub fn bytes(&self) -> usize {
        self.cache.bytes() + self.workspace.bytes() + size_of_val(&self.logits[..]).next_multiple_of(64)
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
            let (all, most) = (self.given + tokens.len(), self.capacity);
            return Err(Error::invalid(format!("{all} tokens, the context has room for {most}")).into());
        }
        // What was drawn and not asked for was never said.
        self.drawn -= (self.tokens.len() - self.given) as u64;
        self.tokens.truncate(self.given);
        self.forget(self.given);
        self.tokens.extend(tokens);
        self.given = self.tokens.len();
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
        if self.given == self.tokens.len() {
            if self.tokens.is_empty() || self.left() == 0 {
                let (all, most) = (self.given, self.capacity);
                return Err(Error::invalid(format!("no next token after {all} of at most {most}")));
            }
            let draft = match self.lookup {
                // Only behind the last token: before, its logits are there already.
                Some(lookup) if self.cache.len() + 1 == self.tokens.len() => {
                    let draft = lookup.draft(&self.tokens, &self.model.config().eos);
                    draft[..draft.len().min(self.left() - 1)].to_vec()
                }
                _ => Vec::new(),
            };
            if draft.is_empty() {
                while self.cache.len() < self.tokens.len() {
                    self.compute(run)?;
                }
                let logits = core::mem::take(&mut self.logits);
                let drawn = self.draw(run, &logits);
                self.logits = logits;
                drawn?;
            } else {
                self.check_draft(run, &draft)?;
            }
        }
        self.given += 1;
        Ok(self.tokens[self.given - 1])
    }

    /// Computes the last token and a draft behind it, and draws as long as the draws are the draft's.
    fn check_draft(&mut self, run: &Run<'_>, draft: &[u32]) -> Result<()> {
        let (before, vocab) = (self.cache.len(), self.model.config().vocab);
        let tokens: Vec<u32> = self.tokens[before..].iter().chain(draft).copied().collect();
        let mut logits = vec![0.0; tokens.len() * vocab];
        let mut batch = [Sequence { tokens: &tokens, cache: &mut self.cache }];
        self.model.forward_all(run, &mut batch, &mut logits, &mut self.workspace)?;
        for (i, row) in logits.chunks_exact(vocab).enumerate() {
            let token = self.draw(run, row)?;
            if draft.get(i) != Some(&token) {
                break;
            }
        }
        // The last token that was drawn is none of the draft: its place in the cache is another's.
        self.forget(self.tokens.len() - 1);
        Ok(())
    }

    fn draw(&mut self, run: &Run<'_>, logits: &[f32]) -> Result<u32> {
        let draw = Draw { logits, context: &self.tokens, position: self.drawn };
        let token = self.sampler.sample(run.cpu(), &draw, &mut self.memory)?;
        self.drawn += 1;
        self.tokens.push(token);
        Ok(token)
    }

    /// Keeps the keys and values of the first `len` tokens.
    fn forget(&mut self, len: usize) {
        let kept = self.cache.truncate(len);
        assert!(kept, "a window drops nothing that the tokens after it see");
    }

    /// The next part of the tokens that are not in the cache.
    fn compute(&mut self, run: &Run<'_>) -> Result<()> {
        let from = self.cache.len();
        let tokens = &self.tokens[from..self.tokens.len().min(from + PART)];
        let mut batch = [Sequence { tokens, cache: &mut self.cache }];
        self.model.forward(run, &mut batch, &mut self.logits, &mut self.workspace)
    }
}

impl Decoder {
    /// The likeliest continuations of `prompt`, the best first; keys and values are stored as `kind`.
    ///
    /// # Errors
    /// As [`BeamSearch::run`] and [`Decoder::forward`].
    pub fn search(
        &self,
        run: &Run<'_>,
        search: &BeamSearch,
        prompt: &[u32],
        kind: CacheType,
    ) -> Result<Vec<Hypothesis>> {
        let mut caches = vec![self.cache_of(kind, prompt.len() + search.max_tokens.min(PART))];
        let (mut workspace, mut one) = (Workspace::new(), vec![0.0; self.config().vocab]);
        for part in prompt.chunks(PART) {
            let mut batch = [Sequence { tokens: part, cache: &mut caches[0] }];
            self.forward(run, &mut batch, &mut one, &mut workspace)?;
        }
        search.run(run.cpu(), &mut |beams: &[Beam<'_>], logits: &mut [f32]| {
            let [Beam { tokens: [], .. }] = beams else {
                caches = beams.iter().map(|beam| caches[beam.parent].clone()).collect();
                let last = |beam: &Beam<'_>| beam.tokens[beam.tokens.len() - 1];
                let last: Vec<[u32; 1]> = beams.iter().map(|beam| [last(beam)]).collect();
                let batch = last.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { tokens, cache });
                return self.forward(run, &mut batch.collect::<Vec<_>>(), logits, &mut workspace);
            };
            logits.copy_from_slice(&one);
            Ok(())
        })
    }
}
