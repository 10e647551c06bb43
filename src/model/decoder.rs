//! A decoder: tokens in, the logits of the next token out.
//!
//! ```text
//!   sequences   s₀: t t t t │ s₁: t │ s₂: t t          rows laid end to end; each sequence has its own cache
//!                   │
//!   embedding ─► blocks ─► norm of the last rows ─► head ─► logits (sequences, vocab)
//! ```
//!
//! **Law.** A row meets others in attention only, and there only those of its own sequence in the blocks of
//! clause 8. So the logits of a sequence have the same bits in any batch, for any split of its tokens over
//! calls, and on a restored cache.

use super::cache::{CacheType, KvCache};
use super::config::{Architecture, DecoderConfig};
use super::load::{Loader, Source};
use crate::kernels::elementwise::{self, Binary, Unary};
use crate::kernels::rope::Rope;
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{Cpu, Line};
use crate::nn::rotary::{RotaryEmbedding, RotaryTable};
use crate::nn::{Embedding, KeyValueStore, KeyValues, Linear, Norm, Room, TransformerBlock};
use crate::run::{Run, grown};
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

mod backward;
mod build;
mod flat;
mod modules;
mod named;
mod parameters;

pub use backward::{Examples, Keep, Tape};
pub use modules::{ModuleMut, Site};
pub use parameters::ParameterMut;

/// A causal language model.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: DecoderConfig,
    embedding: Embedding,
    positions: Option<Embedding>,
    rotary: Option<RotaryEmbedding>,
    blocks: Vec<TransformerBlock>,
    norm: Norm,
    head: Linear,
}

/// New tokens of a sequence, and what the model knows of those before.
pub struct Sequence<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// Keys and values of the tokens before; these are added.
    pub cache: &'a mut KvCache,
}

/// Memory that a model computes in; grown on demand and used again.
#[derive(Debug, Default)]
pub struct Workspace {
    lines: Vec<Line>,
    table: RotaryTable,
    /// Positions that there will be, at most; 0 where nobody said.
    positions: usize,
}

/// Positions of a table that is made whole at once, where there will be no more.
const AT_ONCE: usize = 512;

impl Workspace {
    /// Nothing yet.
    pub fn new() -> Workspace {
        Workspace::default()
    }

    /// The same for a conversation of at most `tokens` tokens: no table is longer.
    pub fn for_tokens(tokens: usize) -> Workspace {
        Workspace { positions: tokens, ..Workspace::default() }
    }

    /// Positions to make where those before `end` are needed.
    fn ahead(&self, end: usize) -> usize {
        match self.positions {
            // Some ahead: a table that grows token by token would be moved as often.
            0 => end.next_multiple_of(256),
            most @ 1..=AT_ONCE => most.max(end),
            most => end.next_multiple_of(256).min(most.max(end)),
        }
    }

    /// Bytes of its buffers, each in whole lines.
    pub fn bytes(&self) -> usize {
        64 * self.lines.len() + self.table.bytes()
    }

    /// `n` lines. What they hold is unspecified.
    pub(super) fn lines(&mut self, n: usize) -> &mut [Line] {
        grown(&mut self.lines, n)
    }
}

impl Decoder {
    /// Builds the model of `config` from a source's tensors.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape or type than the configuration says, or is left over.
    pub fn load(cpu: Cpu, config: DecoderConfig, source: &dyn Source) -> Result<Decoder> {
        let mut loader = Loader::new(cpu, source);
        let model = match config.architecture {
            Architecture::Gpt2 => build::gpt2(&mut loader, config)?,
            _ => build::llama(&mut loader, config)?,
        };
        loader.finish()?;
        Ok(model)
    }

    /// What it is made of.
    pub const fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The linear layers of all blocks, then the head.
    pub fn matrices(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(TransformerBlock::linears).chain([&self.head])
    }

    /// Bytes of weights that one token reads.
    pub fn weight_bytes(&self) -> usize {
        self.matrices().map(|l| l.weight.bytes()).sum()
    }

    /// Multiplications and additions of a prompt of `tokens`: two for each weight and token, and attention's.
    pub fn operations(&self, tokens: usize) -> f64 {
        let config = &self.config;
        let weights: usize = self.blocks.iter().map(TransformerBlock::weights).sum();
        let seen = |window: &Option<usize>| {
            let (n, w) = (tokens, window.unwrap_or(tokens).min(tokens));
            (w * (w + 1) / 2 + (n - w) * w) as f64
        };
        let scores: f64 = config.windows.iter().map(seen).sum();
        let attention = 4.0 * scores * (config.heads * config.head_dim) as f64;
        2.0 * weights as f64 * tokens as f64 + attention + 2.0 * (config.vocab * config.dim) as f64
    }

    /// An empty cache with room for `capacity` tokens, which holds `f32`.
    pub fn cache(&self, capacity: usize) -> KvCache {
        self.cache_of(CacheType::F32, capacity)
    }

    /// An empty cache with room for `capacity` tokens, stored as `kind`.
    pub fn cache_of(&self, kind: CacheType, capacity: usize) -> KvCache {
        KvCache::new(kind, self.config.kv_heads, self.config.head_dim, &self.config.windows, capacity)
    }

    /// Runs new tokens of some sequences; `logits` (sequences, vocab) are those after each one's last token.
    ///
    /// # Errors
    /// Where a token is not in the vocabulary, a sequence has none, its position is past the table of learned
    /// ones, or its cache is another model's. Then no cache was changed.
    ///
    /// # Panics
    /// Where `logits` has another shape.
    pub fn forward(
        &self,
        run: &Run<'_>,
        batch: &mut [Sequence<'_>],
        logits: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        assert!(logits.len() == batch.len() * self.config.vocab, "logits of {} floats", logits.len());
        let last: Vec<usize> = batch
            .iter()
            .scan(0, |end, s| {
                *end += s.tokens.len();
                Some(end.wrapping_sub(1))
            })
            .collect();
        self.forward_rows(run, batch, &last, logits, workspace)
    }

    /// The same, with the logits after every token: (tokens of all sequences, vocab).
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    ///
    /// # Panics
    /// Where `logits` has another shape.
    pub fn forward_all(
        &self,
        run: &Run<'_>,
        batch: &mut [Sequence<'_>],
        logits: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let rows = batch.iter().map(|s| s.tokens.len()).sum();
        assert!(
            logits.len() == rows * self.config.vocab,
            "logits of {} floats for {rows} rows",
            logits.len()
        );
        self.forward_rows(run, batch, &(0..rows).collect::<Vec<_>>(), logits, workspace)
    }

    /// Logits after the rows `wanted` of the batch.
    fn forward_rows(
        &self,
        run: &Run<'_>,
        batch: &mut [Sequence<'_>],
        wanted: &[usize],
        logits: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.check(batch)?;
        batch.iter_mut().for_each(|sequence| self.begin(run.cpu(), sequence.cache));
        let dim = self.config.dim;
        let tokens: Vec<u32> = batch.iter().flat_map(|s| s.tokens.iter().copied()).collect();
        let first = |s: &Sequence<'_>| s.cache.prefix() + s.cache.len();
        let positions: Vec<u32> =
            batch.iter().flat_map(|s| (first(s)..).take(s.tokens.len()).map(|p| p as u32)).collect();
        let rows = tokens.len();
        let blocks = self.blocks.iter().map(|b| b.room_len(rows)).max().unwrap_or(0);
        let need = Room::len(rows * dim) + blocks.max(Room::len(wanted.len() * dim));
        workspace.lines(need);
        let end = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let ahead = workspace.ahead(end);
        let Workspace { lines, table, .. } = workspace;
        let mut room = Room::new(lines);
        let x = room.floats(rows * dim);
        self.embed(run, &tokens, &positions, x);
        if let Some(rotary) = &self.rotary {
            table.grow(rotary, ahead.min(rotary.positions()));
        }
        let table = &*table;
        let rope = self.rotary.as_ref().map(|rotary| rotary.rope(table, &positions));
        self.run_blocks(run, batch, rope.as_ref(), x, &mut room);
        let h = room.floats(wanted.len() * dim);
        for (h, &row) in h.chunks_exact_mut(dim).zip(wanted) {
            h.copy_from_slice(&x[row * dim..][..dim]);
        }
        self.norm.forward_in_place(run, h);
        let (n, vocab) = (wanted.len(), self.config.vocab);
        self.head.forward(run, MatRef::new(h, n, dim), MatMut::new(&mut *logits, n, vocab));
        if let Some(cap) = self.config.logit_cap {
            cap_logits(run.cpu(), MatMut::new(&mut *logits, n, vocab), cap);
        }
        Ok(())
    }

    fn run_blocks(
        &self,
        run: &Run<'_>,
        batch: &mut [Sequence<'_>],
        rope: Option<&Rope<'_>>,
        x: &mut [f32],
        room: &mut Room<'_>,
    ) {
        let mut ends = vec![0];
        for sequence in batch.iter() {
            ends.push(ends[ends.len() - 1] + sequence.tokens.len());
        }
        for (i, block) in self.blocks.iter().enumerate() {
            let layers = batch.iter_mut().map(|s| s.cache.layer(i) as &mut dyn KeyValueStore);
            let mut caches: Vec<_> = layers.collect();
            let mut keys = KeyValues::Cached { ends: &ends, caches: &mut caches };
            block.forward(run, x, rope, &mut keys, None, room.rest());
        }
        batch.iter_mut().for_each(|s| s.cache.advance(s.tokens.len()));
    }

    fn check(&self, batch: &[Sequence<'_>]) -> Result<()> {
        for sequence in batch {
            let c = &self.config;
            if !sequence.cache.fits(c.kv_heads, c.head_dim, &c.windows) {
                return Err(Error::invalid("a cache of another model"));
            }
            if sequence.tokens.is_empty() {
                return Err(Error::invalid("a sequence without new tokens"));
            }
            if let Some(t) = sequence.tokens.iter().find(|&&t| t as usize >= self.config.vocab) {
                let vocab = self.config.vocab;
                return Err(Error::invalid(format!("token {t} of a vocabulary of {vocab}")));
            }
            let prefix = self.prefix_tokens();
            if !sequence.cache.is_blank() && sequence.cache.prefix() != prefix {
                let has = sequence.cache.prefix();
                return Err(Error::invalid(format!(
                    "a cache with a prefix of {has}, the model has {prefix}"
                )));
            }
            let end = prefix + sequence.cache.len() + sequence.tokens.len();
            let most = self.most_positions();
            if end > most {
                return Err(Error::invalid(format!("{end} tokens, the model has {most} positions")));
            }
        }
        Ok(())
    }

    /// Tokens of the learned prefix before every sequence: 0 where none counts.
    pub fn prefix_tokens(&self) -> usize {
        let first = self.blocks.iter().find_map(|block| block.attention.active_prefix());
        first.map_or(0, |prefix| prefix.tokens)
    }

    /// Puts the prefix into a cache that has nothing yet.
    fn begin(&self, cpu: Cpu, cache: &mut KvCache) {
        if !cache.is_blank() {
            return;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            if let Some(prefix) = block.attention.active_prefix() {
                cache.layer(i).push(cpu, &prefix.k, &prefix.v);
                cache.begin(prefix.tokens);
            }
        }
    }

    /// Tokens of the longest sequence that has positions.
    fn most_positions(&self) -> usize {
        let turned = self.rotary.as_ref().map_or(1 << 24, RotaryEmbedding::positions);
        self.positions.as_ref().map_or(turned, Embedding::entries)
    }

    /// The first rows (tokens, dim).
    fn embed(&self, run: &Run<'_>, tokens: &[u32], positions: &[u32], x: &mut [f32]) {
        let cpu = run.cpu();
        self.embedding.forward(cpu, tokens, x);
        if let Some(adapter) = &self.embedding.adapter {
            adapter.add(run, tokens, x);
        }
        if let Some(factor) = self.config.embedding_scale {
            let n = x.len();
            elementwise::scalar_in_place(cpu, Binary::Mul, MatMut::new(&mut *x, 1, n), factor);
        }
        if let Some(table) = &self.positions {
            let mut row = vec![0.0; self.config.dim];
            for (x, &p) in x.chunks_exact_mut(self.config.dim).zip(positions) {
                table.forward(cpu, &[p], &mut row);
                let n = row.len();
                elementwise::binary_in_place(cpu, Binary::Add, MatMut::new(x, 1, n), MatRef::new(&row, 1, n));
            }
        }
    }
}

/// c · tanh(x / c)
fn cap_logits(cpu: Cpu, mut logits: MatMut<'_>, cap: f32) {
    elementwise::scalar_in_place(cpu, Binary::Div, logits.reborrow(), cap);
    elementwise::unary_in_place(cpu, Unary::Tanh, logits.reborrow());
    elementwise::scalar_in_place(cpu, Binary::Mul, logits, cap);
}
