//! Attention's gradients, alone and as a layer, from what the forward pass kept.

use super::{MultiHeadAttention, attend, rotate, rotate_back};
use crate::kernels::attention::{Attention, AttentionBackward, Gradients, Sequences};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use crate::nn::adapter::AdapterCache;
use crate::nn::block::Pass;
use crate::nn::gradients::attention_gradients;
use crate::nn::linear::products_train;
use crate::nn::trained::{Scope, sized};
use crate::run::Run;
use alloc::vec::Vec;

/// What a layer's forward pass keeps for its backward pass; memory is used again.
///
/// ```
/// use samebits::kernels::attention::Pattern;
/// use samebits::nn::{AttentionCache, Gradients, Linear, Mixing, MultiHeadAttention, Pass, Weight};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// let of = |w: f32| Linear::new(Weight::plain(1, 1, vec![w]), None);
/// let (q, k, v, o, mixing) = (of(1.0), of(1.0), of(2.0), of(3.0), Mixing::new(1, Pattern::Causal));
/// let layer = MultiHeadAttention { q, k, v, o, heads: 1, kv_heads: 1, head_dim: 1, qk_norm: None, mixing, prefix: None };
/// let pass = Pass { run: &run, rope: None, ends: &[0, 1], draw: None };
/// let (mut cache, mut gradients, mut out, mut dx) = (AttentionCache::default(), Gradients::default(), [0.0], [0.0]);
/// gradients.train("v.weight", 1);
/// layer.forward_train(pass, &[5.0], None, &mut out, &mut cache);
/// layer.backward(pass, (&[5.0], &[1.0]), &cache, &mut dx, &mut gradients.scope());
/// assert_eq!((out, dx), ([30.0], [6.0])); // a token alone: o · v · x, whatever q and k are
/// assert_eq!(gradients.get("v.weight"), Some(&[15.0][..])); // o · x
/// ```
#[derive(Clone, Debug, Default)]
pub struct AttentionCache {
    /// (rows, heads · head_dim) and (rows, kv_heads · head_dim), before their norms, where there are some.
    raw: [Vec<f32>; 2],
    /// q, k, v as attention reads them.
    qkv: [Vec<f32>; 3],
    /// (rows, heads · head_dim): what `o` is given.
    mixed: Vec<f32>,
    /// (heads, rows)
    lse: Vec<f32>,
    /// Of the adapters of q, k, v and o.
    adapters: [AdapterCache; 4],
}

impl AttentionCache {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let all = self.raw.iter().chain(&self.qkv).chain([&self.mixed, &self.lse]);
        let adapters: usize = self.adapters.iter().map(AdapterCache::bytes).sum();
        4 * all.map(Vec::capacity).sum::<usize>() + adapters
    }
}

impl MultiHeadAttention {
    /// [`MultiHeadAttention::forward`] of sequences that lie end to end, from row `ends[s]` to `ends[s + 1]`: the
    /// same bits, keeping what the backward pass needs.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_train(
        &self,
        pass: Pass<'_, '_>,
        x: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        cache: &mut AttentionCache,
    ) {
        let (Pass { run, rope, ends, draw }, n) = (pass, self.q.in_features());
        let rows = x.len() / n.max(1);
        let (wide, narrow) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let AttentionCache { raw, qkv: [q, all_k, all_v], mixed, lse, adapters: [of_q, of_k, of_v, of_o] } =
            cache;
        let (q, k) = (sized(q, rows * wide), sized(all_k, rows * narrow));
        let (v, mixed) = (sized(all_v, rows * narrow), sized(mixed, rows * wide));
        let x = MatRef::new(x, rows, n);
        products_train(
            (run, draw),
            [
                self.q.product(x, MatMut::new(q, rows, wide)),
                self.k.product(x, MatMut::new(k, rows, narrow)),
                self.v.product(x, MatMut::new(v, rows, narrow)),
            ],
            [of_q, of_k, of_v],
        );
        if let Some((of_q, of_k)) = &self.qk_norm {
            sized(&mut raw[0], q.len()).copy_from_slice(q);
            sized(&mut raw[1], k.len()).copy_from_slice(k);
            of_q.forward_in_place(run, q);
            of_k.forward_in_place(run, k);
        }
        if let Some(rope) = rope {
            rotate(run, rope, self.head_dim, q);
            rotate(run, rope, self.head_dim, k);
        }
        let lse = sized(lse, rows * self.heads);
        let keys = self.active_prefix().map(|prefix| prefix.ends(ends));
        if let Some(prefix) = self.active_prefix() {
            [*all_k, *all_v] = prefix.before([k, v], ends);
        }
        let keys = keys.as_deref().unwrap_or(ends);
        let all = all_k.len() / narrow.max(1);
        let problem = Attention {
            q: self.by_token(q, self.heads, 0..rows),
            k: self.by_token(all_k, self.kv_heads, 0..all).into(),
            v: self.by_token(all_v, self.kv_heads, 0..all).into(),
            out: self.by_token_mut(mixed, self.heads, rows),
            lse: Some(HeadsMut::new(lse, [1, self.heads, rows, 1])),
            options: self.mixing.options(Sequences::Packed { queries: ends, keys }),
        };
        attend(run, self.mixing.kernel, problem);
        let (width, mixed) = (self.o.out_features(), MatRef::new(mixed, rows, wide));
        let residual = residual.map(|residual| MatRef::new(residual, rows, width));
        let product = self.o.product(mixed, MatMut::new(out, rows, width)).plus_any(residual);
        products_train((run, draw), [product], [of_o]);
    }

    /// `dx` (rows, features) from `dy` (rows, features), and the gradients of the parameters, as far as they are
    /// trained; `x` is what the layer was given. The parts of dx by q, k and v are added in this order.
    ///
    /// # Panics
    /// Where the shapes disagree with the forward pass of `cache`.
    pub fn backward(
        &self,
        pass: Pass<'_, '_>,
        (x, dy): (&[f32], &[f32]),
        cache: &AttentionCache,
        dx: &mut [f32],
        to: &mut Scope<'_>,
    ) {
        let (Pass { run, rope, ends, draw }, n) = (pass, self.q.in_features());
        let rows = x.len() / n.max(1);
        let wide = self.heads * self.head_dim;
        let (who, [of_q, of_k, of_v, of_o]) = ((run, draw), &cache.adapters);
        let dy = MatRef::new(dy, rows, self.o.out_features());
        let mut d_mixed = run.floats(rows * wide);
        let given = (MatRef::new(&cache.mixed, rows, wide), dy);
        let to_mixed = (MatMut::new(&mut d_mixed, rows, wide), Accumulate::Overwrite);
        self.o.backward(who, given, of_o, to_mixed, &mut to.inner("o"));
        let keys = cache.qkv[1].len();
        let [mut dq, mut dk, mut dv] = [rows * wide, keys, keys].map(|n| run.floats(n));
        self.backward_mix(run, &d_mixed, ends, cache, [&mut dq, &mut dk, &mut dv], to);
        if let Some(prefix) = self.active_prefix() {
            prefix.backward(run.cpu(), [&mut dk, &mut dv], ends, &mut to.inner("prefix"));
        }
        if let Some(rope) = rope {
            rotate_back(run, rope, self.head_dim, &mut dq);
            rotate_back(run, rope, self.head_dim, &mut dk);
        }
        if let Some((of_q, of_k)) = &self.qk_norm {
            for (norm, name, raw, d) in
                [(of_q, "q_norm", &cache.raw[0], &mut dq), (of_k, "k_norm", &cache.raw[1], &mut dk)]
            {
                let mut before = run.floats(d.len());
                norm.backward(run, (raw, d), &mut before, Accumulate::Overwrite, &mut to.inner(name));
                *d = before;
            }
        }
        let x = MatRef::new(x, rows, n);
        let mut dx = MatMut::new(dx, rows, n);
        let layers = [(&self.q, "q", of_q), (&self.k, "k", of_k), (&self.v, "v", of_v)];
        let mut accumulate = Accumulate::Overwrite;
        for ((layer, name, cache), d) in layers.into_iter().zip([&dq, &dk, &dv]) {
            let d = MatRef::new(d, rows, layer.out_features());
            layer.backward(who, (x, d), cache, (dx.reborrow(), accumulate), &mut to.inner(name));
            accumulate = Accumulate::Add;
        }
    }

    /// From the gradient of what `o` was given to those of q, k and v.
    fn backward_mix(
        &self,
        run: &Run<'_>,
        d_mixed: &[f32],
        ends: &[usize],
        cache: &AttentionCache,
        [dq, dk, dv]: [&mut [f32]; 3],
        to: &mut Scope<'_>,
    ) {
        let AttentionCache { qkv: [q, k, v], mixed, lse, .. } = cache;
        let rows = d_mixed.len() / (self.heads * self.head_dim).max(1);
        let (shape, all) = ([1, self.heads, rows, 1], k.len() / (self.kv_heads * self.head_dim).max(1));
        let keys = self.active_prefix().map(|prefix| prefix.ends(ends));
        let keys = keys.as_deref().unwrap_or(ends);
        let problem = AttentionBackward {
            q: self.by_token(q, self.heads, 0..rows),
            k: self.by_token(k, self.kv_heads, 0..all),
            v: self.by_token(v, self.kv_heads, 0..all),
            out: self.by_token(mixed, self.heads, 0..rows),
            lse: HeadsRef::new(lse, shape),
            d_out: self.by_token(d_mixed, self.heads, 0..rows),
            options: self.mixing.options(Sequences::Packed { queries: ends, keys }),
        };
        let gradients = Gradients {
            dq: self.by_token_mut(dq, self.heads, rows),
            dk: self.by_token_mut(dk, self.kv_heads, all),
            dv: self.by_token_mut(dv, self.kv_heads, all),
        };
        let mut delta = run.floats(rows * self.heads);
        attention_gradients(run, &problem, gradients, &mut delta, to.add("sinks"));
    }
}
