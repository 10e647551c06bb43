//! A block's gradients, from what its forward pass kept.

use super::{Placement, TransformerBlock, add};
use crate::kernels::gemm::Accumulate;
use crate::kernels::rope::Rope;
use crate::nn::adapter::Draw;
use crate::nn::attention::AttentionCache;
use crate::nn::feed_forward::FeedForwardCache;
use crate::nn::norm::Norm;
use crate::nn::trained::{Scope, sized};
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// What a block's forward pass keeps for its backward pass, each (rows, features); memory is used again.
#[derive(Clone, Debug, Default)]
pub struct BlockCache {
    /// What the block was given.
    x: Vec<f32>,
    /// What attention was given, and the network.
    inputs: [Vec<f32>; 2],
    attention: AttentionCache,
    network: FeedForwardCache,
    /// What attention gave, and the network, where a norm follows.
    raw: [Vec<f32>; 2],
    /// The rows between both: before the norm where it stands there.
    middle: Vec<f32>,
    /// The rows before a last norm.
    end: Vec<f32>,
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
        let own = self.inputs.iter().chain(&self.raw).chain([&self.x, &self.middle, &self.end]);
        4 * own.map(Vec::capacity).sum::<usize>() + self.attention.bytes() + self.network.bytes()
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
        self.attend(pass, (h, x), middle, &mut cache.attention, &mut cache.raw[0]);
        match self.placement {
            Placement::Pre => self.network_norm().forward(run, middle, h2),
            Placement::Post => self.attention_norm.forward(run, middle, h2),
            Placement::Parallel => match &self.network_norm {
                Some(norm) => norm.forward(run, x, h2),
                None => h2.copy_from_slice(h),
            },
        }
        let residual: &[f32] = if post { h2 } else { middle };
        self.feed(pass, (h2, residual), x, &mut cache.network, &mut cache.raw[1]);
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
        raw: &mut Vec<f32>,
    ) {
        let run = pass.run;
        match &self.attention_after {
            None => self.attention.forward_train(pass, h, Some(x), out, cache),
            Some(norm) => {
                let raw = sized(raw, h.len());
                self.attention.forward_train(pass, h, None, raw, cache);
                norm.forward(run, raw, out);
                add(run, out, x);
            }
        }
    }

    fn feed(
        &self,
        pass: Pass<'_, '_>,
        (h, x): (&[f32], &[f32]),
        out: &mut [f32],
        cache: &mut FeedForwardCache,
        raw: &mut Vec<f32>,
    ) {
        match &self.network_after {
            None => self.network.forward_train((pass.run, pass.draw), h, Some(x), out, cache),
            Some(norm) => {
                let raw = sized(raw, h.len());
                self.network.forward_train((pass.run, pass.draw), h, None, raw, cache);
                norm.forward(pass.run, raw, out);
                add(pass.run, out, x);
            }
        }
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
                let mut dh = vec![0.0; d.len()];
                self.feed_back(pass, cache, d, (&mut dh, Accumulate::Overwrite), to);
                let norm = self.network_norm();
                norm.backward(
                    pass.run,
                    (&cache.middle, &dh),
                    d,
                    Accumulate::Add,
                    &mut to.inner("network_norm"),
                );
                self.attend_back(pass, cache, d, &mut dh, to);
                let to = &mut to.inner("attention_norm");
                self.attention_norm.backward(pass.run, (&cache.x, &dh), d, Accumulate::Add, to);
            }
            Placement::Post => self.backward_post(pass, cache, d, to),
            Placement::Parallel => self.backward_parallel(pass, cache, d, to),
        }
    }

    fn backward_post(&self, pass: Pass<'_, '_>, cache: &BlockCache, d: &mut [f32], to: &mut Scope<'_>) {
        let run = pass.run;
        let mut inner = vec![0.0; d.len()];
        let norm = self.network_norm();
        norm.backward(run, (&cache.end, d), &mut inner, Accumulate::Overwrite, &mut to.inner("network_norm"));
        d.copy_from_slice(&inner);
        self.feed_back(pass, cache, &inner, (d, Accumulate::Add), to);
        let at = &mut to.inner("attention_norm");
        self.attention_norm.backward(run, (&cache.middle, d), &mut inner, Accumulate::Overwrite, at);
        self.attend_back(pass, cache, &inner, d, to);
        add(run, d, &inner);
    }

    fn backward_parallel(&self, pass: Pass<'_, '_>, cache: &BlockCache, d: &mut [f32], to: &mut Scope<'_>) {
        let run = pass.run;
        let (mut of_network, mut of_attention) = (vec![0.0; d.len()], vec![0.0; d.len()]);
        self.feed_back(pass, cache, d, (&mut of_network, Accumulate::Overwrite), to);
        self.attend_back(pass, cache, d, &mut of_attention, to);
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

    /// From the gradient of x + attention(h) to that of h.
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
            (&cache.raw[0], d),
            &mut to.inner("attention_after"),
        );
        let given = (&cache.inputs[0][..], raw.as_deref().unwrap_or(d));
        self.attention.backward(pass, given, &cache.attention, dh, &mut to.inner("attention"));
    }

    /// From the gradient of x + network(h) to that of h.
    fn feed_back(
        &self,
        pass: Pass<'_, '_>,
        cache: &BlockCache,
        d: &[f32],
        dh: (&mut [f32], Accumulate),
        to: &mut Scope<'_>,
    ) {
        let raw =
            after(pass.run, self.network_after.as_ref(), (&cache.raw[1], d), &mut to.inner("network_after"));
        let given = (&cache.inputs[1][..], raw.as_deref().unwrap_or(d));
        self.network.backward((pass.run, pass.draw), given, &cache.network, dh, &mut to.inner("network"));
    }
}

/// Back through a norm of a branch's result, where there is one.
fn after(
    run: &Run<'_>,
    norm: Option<&Norm>,
    (x, d): (&[f32], &[f32]),
    to: &mut Scope<'_>,
) -> Option<Vec<f32>> {
    let norm = norm?;
    let mut dx = vec![0.0; d.len()];
    norm.backward(run, (x, d), &mut dx, Accumulate::Overwrite, to);
    Some(dx)
}
