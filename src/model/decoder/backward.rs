//! A decoder's loss and its gradients: what training needs of it.
//!
//! ```text
//!   sequences end to end ─► embedding ─► blocks, each keeping what it needs ─► norm ─► head, a chunk of rows at a time
//!        targets ───────────────────────────────────────────────────────────────────────► cross-entropy
//!   gradients ◄─ scatter-add ◄─ blocks, the last first ◄─ norm ◄─ dW, dx of the head ◄──────────┘
//! ```
//!
//! **Law.** The layers'. The logits of a chunk of 512 rows are in memory at a time; chunks are blocks of clause 1's
//! sum over rows, so they change no bit.

use super::Decoder;
use crate::kernels::cross_entropy::{CrossEntropy, cross_entropy};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{LANES, Line};
use crate::nn::adapter::{AdapterCache, Draw};
use crate::nn::rotary::RotaryTable;
use crate::nn::{BlockCache, Gradients, Pass, embedding_gradient, products_train};
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Rows whose logits are in memory at a time: two blocks of clause 1, so that the head's gradient is gone through as
/// seldom as a product does.
const CHUNK: usize = 512;

/// Sequences to learn from, end to end.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    /// All tokens.
    pub tokens: &'a [u32],
    /// (tokens): what follows each; [`CrossEntropy::ignore_index`] where nothing is to be learned.
    pub targets: &'a [i32],
    /// (sequences + 1): where each begins, from 0 to the number of tokens.
    pub ends: &'a [usize],
}

/// What the blocks keep on the way forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All that they need on the way back.
    #[default]
    All,
    /// What each was given; the rest is computed again, the same bits (Chen et al. 2016, [arXiv:1604.06174](https://arxiv.org/abs/1604.06174)).
    Inputs,
}

/// Memory of training passes, used again from call to call.
///
/// ```
/// use samebits::kernels::cross_entropy::CrossEntropy;
/// use samebits::model::{Examples, Keep, Tape};
/// use samebits::{Cpu, assets, nn::Gradients, run::Run};
/// let run = Run::here(Cpu::detect());
/// let mut model = assets::model(run.cpu())?;
/// let examples = Examples { tokens: &[5, 6, 7], targets: &[6, 7, -100], ends: &[0, 3] }; // what follows each
/// let mut learn = |keep| {
///     let (mut gradients, mut tape) = (Gradients::default(), Tape::new(keep));
///     gradients.train("norm.weight", model.config().dim);
///     let loss = model.learn(&run, examples, &CrossEntropy::default(), &mut gradients, &mut tape)?;
///     Ok::<_, samebits::Error>((loss, gradients.get("norm.weight").unwrap().to_vec(), tape.bytes()))
/// };
/// let (all, inputs) = (learn(Keep::All)?, learn(Keep::Inputs)?);
/// assert!(all.0 > 0.0 && all.2 > inputs.2); // less is kept …
/// assert_eq!((all.0, all.1), (inputs.0, inputs.1)); // … and computed again: the same bits
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Tape {
    keep: Keep,
    /// Where adapters' random numbers come from; `None`: nothing is dropped.
    pub draw: Option<Draw>,
    caches: Vec<BlockCache>,
    inputs: Vec<Vec<f32>>,
    table: RotaryTable,
}

impl Tape {
    /// Nothing yet; blocks will keep as much as `keep` says.
    pub fn new(keep: Keep) -> Tape {
        Tape { keep, ..Tape::default() }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let inputs: usize = self.inputs.iter().map(|x| 4 * x.capacity()).sum();
        inputs + self.caches.iter().map(BlockCache::bytes).sum::<usize>()
    }
}

impl Decoder {
    /// The sum of `how.scale` × the loss of every target, in `f64`; its gradients are added to `gradients`.
    ///
    /// # Errors
    /// Where a token or a target is not in the vocabulary, a sequence is empty, or too long for the model.
    ///
    /// # Panics
    /// Where `ends` does not end at the number of tokens, or there are not as many targets.
    pub fn learn(
        &self,
        run: &Run<'_>,
        examples: Examples<'_>,
        how: &CrossEntropy,
        gradients: &mut Gradients,
        tape: &mut Tape,
    ) -> Result<f64> {
        let positions = self.check_examples(&examples, how)?;
        let mut x = run.floats(positions.len() * self.config.dim);
        self.embed(run, examples.tokens, &positions, &mut x);
        let mut table = core::mem::take(&mut tape.table);
        let rope = self.rotary.as_ref().map(|rotary| {
            table.clear();
            table.grow(rotary, positions.iter().max().map_or(0, |&p| p as usize + 1));
            rotary.rope(&table, &positions)
        });
        let pass = Pass { run, rope: rope.as_ref(), ends: examples.ends, draw: tape.draw };
        self.blocks_forward(pass, &mut x, tape);
        let mut d = run.floats(x.len());
        let loss = self.backward_head((run, tape.draw), &x, examples.targets, how, (&mut d, gradients));
        self.blocks_backward(pass, &mut d, gradients, tape);
        self.backward_embedding(run, &examples, &positions, &mut d, gradients);
        tape.table = table;
        Ok(loss)
    }

    /// The position of every token in its own sequence, behind the prefix.
    fn check_examples(&self, examples: &Examples<'_>, how: &CrossEntropy) -> Result<Vec<u32>> {
        let Examples { tokens, targets, ends } = examples;
        assert!(tokens.len() == targets.len(), "{} tokens, {} targets", tokens.len(), targets.len());
        assert!(ends.first() == Some(&0) && ends.last() == Some(&tokens.len()), "sequences end at {ends:?}");
        let vocab = self.config.vocab;
        if let Some(t) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::invalid(format!("token {t} of a vocabulary of {vocab}")));
        }
        if let Err(at) = how.check_targets(targets, vocab) {
            return Err(Error::invalid(format!("target {} of a vocabulary of {vocab}", targets[at])));
        }
        let (most, first) = (self.most_positions(), self.prefix_tokens());
        let mut positions = Vec::with_capacity(tokens.len());
        for (from, to) in ends.iter().zip(&ends[1..]) {
            match to.checked_sub(*from) {
                None | Some(0) => return Err(Error::invalid("a sequence without tokens")),
                Some(n) if first + n > most => {
                    let n = first + n;
                    return Err(Error::invalid(format!("{n} tokens, the model has {most} positions")));
                }
                Some(n) => positions.extend(first as u32..(first + n) as u32),
            }
        }
        Ok(positions)
    }

    fn blocks_forward(&self, pass: Pass<'_, '_>, x: &mut [f32], tape: &mut Tape) {
        let n = self.blocks.len();
        match tape.keep {
            Keep::All => {
                tape.caches.resize_with(n, BlockCache::default);
                for (block, cache) in self.blocks.iter().zip(&mut tape.caches) {
                    block.forward_train(pass, x, cache);
                }
            }
            Keep::Inputs => {
                tape.caches.resize_with(1, BlockCache::default);
                tape.inputs.resize_with(n, Vec::new);
                for (block, input) in self.blocks.iter().zip(&mut tape.inputs) {
                    input.clear();
                    input.extend_from_slice(x);
                    block.forward_train(pass, x, &mut tape.caches[0]);
                }
            }
        }
    }

    /// Down to the lowest block below which anything is trained.
    fn blocks_backward(&self, pass: Pass<'_, '_>, d: &mut [f32], gradients: &mut Gradients, tape: &mut Tape) {
        for (i, block) in self.blocks.iter().enumerate().rev() {
            if !self.trained_below(i + 1, gradients) {
                return;
            }
            let mut scope = gradients.scope();
            let (mut scope, name) = (scope.inner("blocks"), format!("{i}"));
            match tape.keep {
                Keep::All => block.backward(pass, &tape.caches[i], d, &mut scope.inner(&name)),
                Keep::Inputs => {
                    let mut x = pass.run.floats(d.len());
                    x.copy_from_slice(&tape.inputs[i]);
                    block.forward_train(pass, &mut x, &mut tape.caches[0]);
                    block.backward(pass, &tape.caches[0], d, &mut scope.inner(&name));
                }
            }
        }
    }

    /// Whether a gradient has to reach the input of block `i`.
    fn trained_below(&self, i: usize, gradients: &mut Gradients) -> bool {
        let below = |g: &mut Gradients, name: &str| g.scope().inner(name).any();
        let mut names = (0..i).map(|i| format!("blocks.{i}"));
        below(gradients, "embedding") || below(gradients, "positions") || names.any(|n| below(gradients, &n))
    }

    /// The loss, the gradient of the rows `x` before the last norm, and those of norm and head.
    fn backward_head(
        &self,
        (run, draw): (&Run<'_>, Option<Draw>),
        x: &[f32],
        targets: &[i32],
        how: &CrossEntropy,
        (d, gradients): (&mut [f32], &mut Gradients),
    ) -> f64 {
        let (dim, vocab, learns) = (self.config.dim, self.config.vocab, gradients.elements() > 0);
        let mut normed = run.floats(x.len());
        self.norm.forward(run, x, &mut normed);
        let mut d_normed = run.floats(x.len());
        let mut logits = run.floats(targets.len().min(CHUNK) * vocab);
        let mut losses = vec![0.0; targets.len()];
        let (mut draw, mut kept) = (draw, AdapterCache::default());
        let rows = normed.chunks(CHUNK * dim).zip(d_normed.chunks_mut(CHUNK * dim));
        let targets = targets.chunks(CHUNK).zip(losses.chunks_mut(CHUNK));
        for ((x, dx), (targets, losses)) in rows.zip(targets) {
            let n = targets.len();
            let logits = &mut logits[..n * vocab];
            let x = MatRef::new(x, n, dim);
            let product = self.head.product(x, MatMut::new(&mut *logits, n, vocab));
            products_train((run, draw), [product], [&mut kept]);
            self.lose(run, logits, targets, how, losses);
            let dy = MatRef::new(logits, n, vocab);
            if learns {
                self.backward_table((run, draw), (x, dy), &kept, MatMut::new(dx, n, dim), gradients);
            }
            draw.iter_mut().for_each(|draw| draw.first_row += n as u64);
        }
        if learns {
            let scope = &mut gradients.scope();
            self.norm.backward(run, (x, &d_normed), d, Accumulate::Overwrite, &mut scope.inner("norm"));
        }
        how.scale * losses.iter().sum::<f64>()
    }

    /// The gradient of the head. Where it is the table of the embedding, it goes to that parameter's, unless
    /// `head.weight` has one of its own: to be [folded](Gradients::fold) in when all batches are through, so that
    /// what both uses give is summed apart, however the batch was cut.
    fn backward_table(
        &self,
        who: (&Run<'_>, Option<Draw>),
        given: (MatRef<'_>, MatRef<'_>),
        kept: &AdapterCache,
        dx: MatMut<'_>,
        gradients: &mut Gradients,
    ) {
        let apart = gradients.get("head.weight").is_some();
        let name =
            if self.config.tied && !apart && self.head.adapter.is_none() { "embedding" } else { "head" };
        let (to, dx) = (&mut gradients.scope(), (dx, Accumulate::Overwrite));
        self.head.backward(who, given, kept, dx, &mut to.inner(name));
    }

    /// Losses of logits, which become their gradients.
    fn lose(
        &self,
        run: &Run<'_>,
        logits: &mut [f32],
        targets: &[i32],
        how: &CrossEntropy,
        losses: &mut [f64],
    ) {
        let (vocab, cpu, cap) = (self.config.vocab, run.cpu(), self.config.logit_cap);
        let rows = logits.chunks_mut(vocab).zip(targets.chunks(1)).zip(losses.chunks_mut(1));
        run.pieces(rows, |((logits, target), loss), scratch| {
            let Some(cap) = cap else {
                return cross_entropy(cpu, how, MatMut::new(logits, 1, vocab), target, loss);
            };
            super::cap_logits(cpu, MatMut::new(&mut *logits, 1, vocab), cap);
            let lines = scratch.lines(vocab.div_ceil(LANES));
            let slope = &mut Line::floats_mut(lines)[..vocab]; // 1 − tanh² of each
            slope.iter_mut().zip(&*logits).for_each(|(slope, y)| *slope = 1.0 - (y / cap) * (y / cap));
            cross_entropy(cpu, how, MatMut::new(&mut *logits, 1, vocab), target, loss);
            let slope = MatRef::new(slope, 1, vocab);
            elementwise::binary_in_place(cpu, Binary::Mul, MatMut::new(logits, 1, vocab), slope);
        });
    }

    fn backward_embedding(
        &self,
        run: &Run<'_>,
        examples: &Examples<'_>,
        positions: &[u32],
        d: &mut [f32],
        gradients: &mut Gradients,
    ) {
        let (dim, rows, cpu) = (self.config.dim, positions.len(), run.cpu());
        let mut scope = gradients.scope();
        if let (Some(table), Some(out)) = (&self.positions, scope.inner("positions").add("weight")) {
            let out = MatMut::new(out, table.entries(), dim);
            embedding_gradient(run, positions, MatRef::new(d, rows, dim), out);
        }
        let mut scope = scope.inner("embedding");
        if let Some(factor) = self.config.embedding_scale.filter(|_| scope.any()) {
            let n = d.len();
            elementwise::scalar_in_place(cpu, Binary::Mul, MatMut::new(&mut *d, 1, n), factor);
        }
        if let Some(adapter) = &self.embedding.adapter {
            adapter.backward(run, examples.tokens, d, &mut scope);
        }
        if let Some(out) = scope.add("weight") {
            let out = MatMut::new(out, self.embedding.entries(), dim);
            embedding_gradient(run, examples.tokens, MatRef::new(d, rows, dim), out);
        }
    }
}
