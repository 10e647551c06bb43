//! A block's gradients, from what its forward pass kept.

use super::{Join, Placement, TransformerBlock};
use crate::kernels::gemm::Accumulate;
use crate::kernels::rope::Rope;
use crate::nn::adapter::{AdapterCache, BranchAdapter, Draw, Read};
use crate::nn::add::add;
use crate::nn::attention::AttentionCache;
use crate::nn::feed_forward::FeedForwardCache;
use crate::nn::norm::Norm;
use crate::nn::trained::{Scope, sized};
use crate::run::{Lent, Run};
use alloc::vec::Vec;

/// What a block's forward pass keeps for its backward pass, each (rows, features); memory is used again.
///
/// The gradient of a block against the difference quotient:
/// ```
/// use samebits::kernels::{activation::Activation, attention::Pattern};
/// use samebits::nn::{BlockCache, FeedForwardNetwork, Gradients, Linear, Mixing, MultiHeadAttention};
/// use samebits::nn::{LayerNorm, Norm, Pass, Placement, TransformerBlock, Weight, adapter::BranchAdapters};
/// use samebits::{Cpu, run::Run};
/// let of = |seed: usize, n: usize, k: usize| {
///     let values = (0..n * k).map(|i| ((i * 7 + seed) % 11) as f32 / 11.0 - 0.4).collect();
///     Linear::new(Weight::plain(n, k, values), None)
/// };
/// let norm = || Norm::Layer(LayerNorm { weight: vec![1.0; 4].into(), bias: None, eps: 1e-5 });
/// let (q, k, v, o, mixing) = (of(1, 4, 4), of(2, 4, 4), of(3, 4, 4), of(4, 4, 4), Mixing::new(2, Pattern::Causal));
/// let block = TransformerBlock {
///     placement: Placement::Pre,
///     attention_norm: norm(),
///     attention: MultiHeadAttention { q, k, v, o, heads: 2, kv_heads: 2, head_dim: 2, qk_norm: None, mixing, prefix: None },
///     attention_after: None,
///     cross: None,
///     network_norm: Some(norm()),
///     network: FeedForwardNetwork { gate: None, up: of(5, 8, 4), down: of(6, 4, 8), activation: Activation::GeluErf },
///     network_after: None,
///     adapters: BranchAdapters::default(),
/// };
/// let (run, mut cache) = (Run::here(Cpu::detect()), BlockCache::default());
/// let pass = Pass { run: &run, rope: None, ends: &[0, 2], draw: None };
/// let mut sum = |first: f32| {
///     let mut x = [first, 0.2, -1.0, 0.4, 0.7, -0.3, 0.5, 0.1];
///     block.forward_train(pass, &mut x, &mut cache);
///     x[0] + x[6]
/// };
/// let quotient = (sum(0.91) - sum(0.89)) / 0.02;
/// sum(0.9);
/// let mut d = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]; // of the sum
/// block.backward(pass, &cache, &mut d, &mut Gradients::default().scope());
/// assert!((d[0] - quotient).abs() < 2e-3, "{} and {quotient}", d[0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct BlockCache {
    /// What the block was given.
    x: Vec<f32>,
    /// What attention was given, and the network.
    inputs: [Vec<f32>; 2],
    attention: AttentionCache,
    network: FeedForwardCache,
    /// Of attention's way into the stream, and the network's.
    joins: [JoinCache; 2],
    /// The rows between both: before the norm where it stands there.
    middle: Vec<f32>,
    /// The rows before a last norm.
    end: Vec<f32>,
}

/// What a branch keeps where it joins the stream.
#[derive(Clone, Debug, Default)]
struct JoinCache {
    /// What it gave, where a norm follows.
    raw: Vec<f32>,
    /// Of the adapter.
    adapter: AdapterCache,
}

/// What all branches of a block share on the way back.
#[derive(Clone, Copy)]
pub struct Pass<'p, 'r> {
    /// Who computes.
    pub run: &'p Run<'r>,
    /// How queries and keys are turned.
    pub rope: Option<&'p Rope<'p>>,
    /// (sequences + 1), from 0 to the number of rows: sequences lie end to end.
    pub ends: &'p [usize],
    /// Where adapters' random numbers come from.
    pub draw: Option<Draw>,
}

impl BlockCache {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let raw = self.joins.iter().map(|join| &join.raw);
        let own = self.inputs.iter().chain(raw).chain([&self.x, &self.middle, &self.end]);
        let adapters: usize = self.joins.iter().map(|join| join.adapter.bytes()).sum();
        4 * own.map(Vec::capacity).sum::<usize>() + self.attention.bytes() + self.network.bytes() + adapters
    }
}

impl TransformerBlock {
    /// [`TransformerBlock::forward`] of sequences that lie end to end: the same bits, keeping what the backward pass
    /// needs. `x` (rows, features) becomes the output.
    ///
    /// # Panics
    /// Where the shapes disagree, or the block has cross-attention, which has no backward pass.
    pub fn forward_train(&self, pass: Pass<'_, '_>, x: &mut [f32], cache: &mut BlockCache) {
        assert!(self.cross.is_none(), "cross-attention has no backward pass");
        let (run, n) = (pass.run, x.len());
        sized(&mut cache.x, n).copy_from_slice(x);
        let post = self.placement == Placement::Post;
        let [h, h2] = &mut cache.inputs;
        let (h, h2) = (sized(h, n), sized(h2, n));
        if post {
            h.copy_from_slice(x);
        } else {
            self.attention_norm.forward(run, x, h);
        }
        let middle = sized(&mut cache.middle, n);
        self.attend(pass, (h, x), middle, &mut cache.attention, &mut cache.joins[0]);
        match self.placement {
            Placement::Pre => self.network_norm().forward(run, middle, h2),
            Placement::Post => self.attention_norm.forward(run, middle, h2),
            Placement::Parallel => match &self.network_norm {
                Some(norm) => norm.forward(run, x, h2),
                None => h2.copy_from_slice(h),
            },
        }
        let residual: &[f32] = if post { h2 } else { middle };
        self.feed(pass, (h2, residual), x, &mut cache.network, &mut cache.joins[1]);
        if post {
            sized(&mut cache.end, n).copy_from_slice(x);
            self.network_norm().forward_in_place(run, x);
        }
    }

    fn attend(
        &self,
        pass: Pass<'_, '_>,
        (h, x): (&[f32], &[f32]),
        out: &mut [f32],
        cache: &mut AttentionCache,
        kept: &mut JoinCache,
    ) {
        let join = Join::of(&self.attention_after, &self.adapters.attention);
        if join.is_sum() {
            return self.attention.forward_train(pass, h, Some(x), out, cache);
        }
        self.attention.forward_train(pass, h, None, out, cache);
        join.run_train(pass.run, x, out, kept);
    }

    fn feed(
        &self,
        pass: Pass<'_, '_>,
        (h, x): (&[f32], &[f32]),
        out: &mut [f32],
        cache: &mut FeedForwardCache,
        kept: &mut JoinCache,
    ) {
        let (join, who) = (Join::of(&self.network_after, &self.adapters.network), (pass.run, pass.draw));
        if join.is_sum() {
            return self.network.forward_train(who, h, Some(x), out, cache);
        }
        self.network.forward_train(who, h, None, out, cache);
        join.run_train(pass.run, x, out, kept);
    }

    fn network_norm(&self) -> &Norm {
        self.network_norm.as_ref().unwrap_or(&self.attention_norm)
    }

    /// `d` (rows, features), the gradient of the output, becomes that of the input; the gradients of the parameters
    /// are added, as far as they are trained. A branch's gradient is added to that of the residual stream.
    ///
    /// # Panics
    /// Where the shapes disagree with the forward pass of `cache`.
    pub fn backward(&self, pass: Pass<'_, '_>, cache: &BlockCache, d: &mut [f32], to: &mut Scope<'_>) {
        match self.placement {
            Placement::Pre => {
                let mut dh = pass.run.floats(d.len());
                let branch = self.part_network(pass.run, cache, d, to);
                let of_branch = branch.as_deref().unwrap_or(d);
                self.feed_back(pass, cache, of_branch, (&mut dh, Accumulate::Overwrite), to);
                let norm = self.network_norm();
                norm.backward(
                    pass.run,
                    (&cache.middle, &dh),
                    d,
                    Accumulate::Add,
                    &mut to.inner("network_norm"),
                );
                let branch = self.part_attention(pass.run, cache, d, to);
                self.attend_back(pass, cache, branch.as_deref().unwrap_or(d), &mut dh, to);
                let to = &mut to.inner("attention_norm");
                self.attention_norm.backward(pass.run, (&cache.x, &dh), d, Accumulate::Add, to);
            }
            Placement::Post => self.backward_post(pass, cache, d, to),
            Placement::Parallel => self.backward_parallel(pass, cache, d, to),
        }
    }

    fn backward_post(&self, pass: Pass<'_, '_>, cache: &BlockCache, d: &mut [f32], to: &mut Scope<'_>) {
        let run = pass.run;
        let mut inner = run.floats(d.len());
        let norm = self.network_norm();
        norm.backward(run, (&cache.end, d), &mut inner, Accumulate::Overwrite, &mut to.inner("network_norm"));
        let branch = self.part_network(run, cache, &mut inner, to);
        d.copy_from_slice(&inner);
        self.feed_back(pass, cache, branch.as_deref().unwrap_or(&inner), (d, Accumulate::Add), to);
        let at = &mut to.inner("attention_norm");
        self.attention_norm.backward(run, (&cache.middle, d), &mut inner, Accumulate::Overwrite, at);
        let branch = self.part_attention(run, cache, &mut inner, to);
        self.attend_back(pass, cache, branch.as_deref().unwrap_or(&inner), d, to);
        add(run, d, &inner);
    }

    fn backward_parallel(&self, pass: Pass<'_, '_>, cache: &BlockCache, d: &mut [f32], to: &mut Scope<'_>) {
        let run = pass.run;
        let (mut of_network, mut of_attention) = (run.floats(d.len()), run.floats(d.len()));
        let branch = self.part_network(run, cache, d, to);
        let of_branch = branch.as_deref().unwrap_or(d);
        self.feed_back(pass, cache, of_branch, (&mut of_network, Accumulate::Overwrite), to);
        let branch = self.part_attention(run, cache, d, to);
        self.attend_back(pass, cache, branch.as_deref().unwrap_or(d), &mut of_attention, to);
        match &self.network_norm {
            None => add(run, &mut of_attention, &of_network),
            Some(norm) => {
                let to = &mut to.inner("network_norm");
                norm.backward(run, (&cache.x, &of_network), d, Accumulate::Add, to);
            }
        }
        let to = &mut to.inner("attention_norm");
        self.attention_norm.backward(run, (&cache.x, &of_attention), d, Accumulate::Add, to);
    }

    /// From the gradient of the stream after attention, in `d`, to that of the stream before it, and the gradient of
    /// what attention gave, where that is another.
    fn part_attention(
        &self,
        run: &Run<'_>,
        cache: &BlockCache,
        d: &mut [f32],
        to: &mut Scope<'_>,
    ) -> Option<Vec<f32>> {
        let adapter = self.adapters.attention.as_deref()?;
        part(run, adapter, &cache.joins[0].adapter, d, &mut to.inner("attention_adapter"))
    }

    /// [`TransformerBlock::part_attention`] of the network.
    fn part_network(
        &self,
        run: &Run<'_>,
        cache: &BlockCache,
        d: &mut [f32],
        to: &mut Scope<'_>,
    ) -> Option<Vec<f32>> {
        let adapter = self.adapters.network.as_deref()?;
        part(run, adapter, &cache.joins[1].adapter, d, &mut to.inner("network_adapter"))
    }

    /// From the gradient of attention(h), normed where a norm follows, to that of h.
    fn attend_back(
        &self,
        pass: Pass<'_, '_>,
        cache: &BlockCache,
        d: &[f32],
        dh: &mut [f32],
        to: &mut Scope<'_>,
    ) {
        let raw = after(
            pass.run,
            self.attention_after.as_ref(),
            (&cache.joins[0].raw, d),
            &mut to.inner("attention_after"),
        );
        let given = (&cache.inputs[0][..], raw.as_deref().unwrap_or(d));
        self.attention.backward(pass, given, &cache.attention, dh, &mut to.inner("attention"));
    }

    /// From the gradient of network(h), likewise, to that of h.
    fn feed_back(
        &self,
        pass: Pass<'_, '_>,
        cache: &BlockCache,
        d: &[f32],
        dh: (&mut [f32], Accumulate),
        to: &mut Scope<'_>,
    ) {
        let raw = after(
            pass.run,
            self.network_after.as_ref(),
            (&cache.joins[1].raw, d),
            &mut to.inner("network_after"),
        );
        let given = (&cache.inputs[1][..], raw.as_deref().unwrap_or(d));
        self.network.backward((pass.run, pass.draw), given, &cache.network, dh, &mut to.inner("network"));
    }
}

impl Join<'_> {
    /// [`Join::run`], keeping what the backward pass needs.
    fn run_train(self, run: &Run<'_>, stream: &[f32], rows: &mut [f32], cache: &mut JoinCache) {
        if let Some(norm) = self.norm {
            sized(&mut cache.raw, rows.len()).copy_from_slice(rows);
            norm.forward_in_place(run, rows);
        }
        match self.adapter {
            Some(adapter) => adapter.join_train(run, stream, rows, &mut cache.adapter),
            None => add(run, rows, stream),
        }
    }
}

/// Back through an adapter of a branch: `d` of the sum becomes that of the stream; that of the branch where it differs.
fn part(
    run: &Run<'_>,
    adapter: &dyn BranchAdapter,
    cache: &AdapterCache,
    d: &mut [f32],
    to: &mut Scope<'_>,
) -> Option<Vec<f32>> {
    match adapter.backward(run, d, cache, to) {
        Read::Nothing => None,
        Read::Branch(mut own) => {
            add(run, &mut own, d);
            Some(own)
        }
        Read::Stream(own) => {
            let branch = d.to_vec();
            add(run, d, &own);
            Some(branch)
        }
        Read::Sum(own) => {
            add(run, d, &own);
            None
        }
    }
}

/// Back through a norm of a branch's result, where there is one.
fn after<'r>(
    run: &'r Run<'_>,
    norm: Option<&Norm>,
    (x, d): (&[f32], &[f32]),
    to: &mut Scope<'_>,
) -> Option<Lent<'r>> {
    let norm = norm?;
    let mut dx = run.floats(d.len());
    norm.backward(run, (x, d), &mut dx, Accumulate::Overwrite, to);
    Some(dx)
}
