//! Attention over whole sequences (arithmetic binds) and of one query over a cache (memory binds).

use super::{Body, Entry, Inputs, Run, Work};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::attention::{
    Attention, AttentionBackward, Options, Pattern, Products, attention, backward_scratch_len,
    fast_scratch_len, scratch_len,
};
use crate::kernels::view::{HeadsMut, HeadsRef};
use crate::kernels::{Line, half};

/// The entries; batch 1. Two operations a multiply-add of the two products; `exp` is not counted.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "attention",
        about: "softmax(q · kᵀ / √dim) · v, every key",
        dims: "HEADSxTOKENSxDIM",
        shapes: &[&[8, 512, 64], &[8, 2048, 64]],
        work: |d| work(d, 4.0 * (d[0] * d[1] * d[1]) as f64 * d[2] as f64),
        make: |d, i| State::body(d, d[1], Pattern::Full, i),
    },
    Entry {
        name: "attention_products_bf16",
        about: "attention, q, k, p and v rounded to bf16, sums in f32",
        dims: "HEADSxTOKENSxDIM",
        shapes: &[&[8, 512, 64], &[8, 2048, 64]],
        work: |d| work(d, 4.0 * (d[0] * d[1] * d[1]) as f64 * d[2] as f64),
        make: |d, i| {
            let mut state = State { products: Products::Bf16, ..State::new(d, d[1], Pattern::Full, i) };
            [&mut state.q, &mut state.k, &mut state.v].into_iter().flatten().for_each(round);
            Body::new(state, State::ours, State::plain, |s| s.out.clone())
        },
    },
    Entry {
        name: "attention_causal",
        about: "attention, keys up to the query's own",
        dims: "HEADSxTOKENSxDIM",
        shapes: &[&[8, 512, 64], &[8, 2048, 64]],
        work: |d| work(d, 2.0 * (d[0] * d[1] * (d[1] + 1)) as f64 * d[2] as f64),
        make: |d, i| State::body(d, d[1], Pattern::Causal, i),
    },
    Entry {
        name: "attention_backward",
        about: "gradients of causal attention; 7 products a pair, as computed",
        dims: "HEADSxTOKENSxDIM",
        shapes: &[&[8, 512, 64], &[2, 512, 64]],
        work: |d| work(d, 7.0 * (d[0] * d[1] * (d[1] + 1)) as f64 * d[2] as f64),
        make: |d, i| Back::body(d, i),
    },
    Entry {
        name: "attention_decode",
        about: "one query a head over a cache of keys and values",
        dims: "HEADSxKEYSxDIM",
        shapes: &[&[32, 4096, 128], &[8, 256, 64]],
        work: |d| {
            let n = d[0] * d[1] * d[2];
            Work::memory(4.0 * n as f64, Access::Read, 8 * n + 8 * d[0] * d[2])
        },
        make: |d, i| State::body(d, 1, Pattern::Causal, i),
    },
];

fn work(d: &[usize], flops: f64) -> Work {
    Work::arithmetic(flops, 16 * d[0] * d[1] * d[2])
}

/// To bfloat16 and back.
pub(super) fn round(x: &mut f32) {
    *x = half::bf16_to_f32(half::f32_to_bf16(*x));
}

/// q and out (1, heads, queries, dim), k and v (1, heads, keys, dim).
struct State {
    heads: usize,
    queries: usize,
    dim: usize,
    pattern: Pattern,
    products: Products,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
}

impl State {
    fn new(d: &[usize], queries: usize, pattern: Pattern, inputs: &mut Inputs) -> State {
        let (heads, keys, dim) = (d[0], d[1], d[2]);
        let (q, k) = (inputs.normal(heads * queries * dim), inputs.normal(heads * keys * dim));
        let (v, out) = (inputs.normal(heads * keys * dim), filled(0.0, heads * queries * dim));
        State { heads, queries, dim, pattern, products: Products::F32, q, k, v, out }
    }

    fn body(d: &[usize], queries: usize, pattern: Pattern, inputs: &mut Inputs) -> Body {
        let state = State::new(d, queries, pattern, inputs);
        Body::new(state, State::ours, State::plain, |s| s.out.clone())
    }

    fn problem(&mut self) -> Attention<'_> {
        let &mut State { heads, queries, dim, pattern, products, ref q, ref k, ref v, ref mut out } = self;
        let keys = k.len() / (heads * dim);
        let (few, many) = ([1, heads, queries, dim], [1, heads, keys, dim]);
        Attention {
            q: HeadsRef::new(q, few),
            k: HeadsRef::new(k, many).into(),
            v: HeadsRef::new(v, many).into(),
            out: HeadsMut::new(out, few),
            lse: None,
            options: Options { pattern, products, ..Options::for_head_dim(dim) },
        }
    }

    fn ours(&mut self, run: &Run<'_>) {
        let lines = fast_scratch_len(run.cpu, self.products, self.dim, self.dim);
        run.pool.run(self.problem().pieces(), |piece, scratch| piece.run(run.cpu, scratch.lines(lines)));
    }

    /// Query by query: scores, softmax, weighted sum of the values.
    fn plain(&mut self) {
        let &mut State { heads, queries, dim, pattern, products, ref q, ref k, ref v, ref mut out } = self;
        let keys = k.len() / (heads * dim);
        let scale = 1.0 / (dim as f32).sqrt();
        let mut scores = vec![0.0; keys];
        let heads = k.chunks(keys * dim).zip(v.chunks(keys * dim));
        let rows = q.chunks(queries * dim).zip(out.chunks_mut(queries * dim));
        for ((k, v), (q, out)) in heads.zip(rows) {
            for (i, (q, out)) in q.chunks(dim).zip(out.chunks_mut(dim)).enumerate() {
                let seen = if pattern == Pattern::Causal { keys - queries + i + 1 } else { keys };
                let scores = &mut scores[..seen];
                for (s, k) in scores.iter_mut().zip(k.chunks(dim)) {
                    *s = scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>();
                }
                let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores.iter_mut().for_each(|s| *s = (*s - max).exp());
                let sum = scores.iter().sum::<f32>();
                if products == Products::Bf16 {
                    scores.iter_mut().for_each(round);
                }
                out.fill(0.0);
                for (s, v) in scores.iter().zip(v.chunks(dim)) {
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += s / sum * v);
                }
            }
        }
    }
}

/// A computed causal attention, all (1, heads, tokens, dim), and its gradients.
struct Back {
    forward: State,
    lse: Vec<f32>,
    d_out: Vec<f32>,
    delta: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl Back {
    fn body(d: &[usize], inputs: &mut Inputs) -> Body {
        let (heads, tokens, dim) = (d[0], d[1], d[2]);
        let mut normal = || inputs.normal(heads * tokens * dim);
        let (q, k, v, d_out) = (normal(), normal(), normal(), normal());
        let out = filled(0.0, heads * tokens * dim);
        let (pattern, products) = (Pattern::Causal, Products::F32);
        let mut forward = State { heads, queries: tokens, dim, pattern, products, q, k, v, out };
        let mut lse = filled(0.0, heads * tokens);
        let scratch = &mut vec![Line::ZERO; scratch_len(dim, dim)];
        let mut problem = forward.problem();
        problem.lse = Some(HeadsMut::new(&mut lse, [1, heads, tokens, 1]));
        attention(inputs.cpu, problem, scratch);
        let [dq, dk, dv] = [(); 3].map(|()| filled(0.0, heads * tokens * dim));
        let delta = filled(0.0, heads * tokens);
        let state = Back { forward, lse, d_out, delta, dq, dk, dv };
        Body::new(state, Back::ours, Back::plain, |s| [&s.dq[..], &s.dk, &s.dv].concat())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let Back { forward, lse, d_out, delta, dq, dk, dv } = self;
        let (heads, tokens, dim) = (forward.heads, forward.queries, forward.dim);
        let (shape, one) = ([1, heads, tokens, dim], [1, heads, tokens, 1]);
        let backward = AttentionBackward {
            q: HeadsRef::new(&forward.q, shape),
            k: HeadsRef::new(&forward.k, shape),
            v: HeadsRef::new(&forward.v, shape),
            out: HeadsRef::new(&forward.out, shape),
            lse: HeadsRef::new(lse, one),
            d_out: HeadsRef::new(d_out, shape),
            options: Options { pattern: forward.pattern, ..Options::for_head_dim(dim) },
        };
        let lines = backward_scratch_len(dim, dim);
        let first = backward.queries(HeadsMut::new(dq, shape), HeadsMut::new(delta, one));
        run.pool.run(first, |piece, scratch| piece.run(run.cpu, scratch.lines(lines)));
        let to = (HeadsMut::new(dk, shape), HeadsMut::new(dv, shape));
        let second = backward.keys(HeadsRef::new(delta, one), to.0, to.1);
        run.pool.run(second, |piece, scratch| piece.run(run.cpu, scratch.lines(lines)));
    }

    /// Query by query, from the log-sum-exp.
    fn plain(&mut self) {
        let Back { forward, lse, d_out, dq, dk, dv, .. } = self;
        let (tokens, dim) = (forward.queries, forward.dim);
        let scale = 1.0 / (dim as f32).sqrt();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let add = |to: &mut [f32], x: f32, y: &[f32]| to.iter_mut().zip(y).for_each(|(to, y)| *to += x * y);
        dq.fill(0.0);
        dk.fill(0.0);
        dv.fill(0.0);
        for (i, (g, dq)) in d_out.chunks(dim).zip(dq.chunks_mut(dim)).enumerate() {
            let (head, query) = (i / tokens * tokens, i % tokens);
            let (q, delta) = (&forward.q[i * dim..][..dim], dot(g, &forward.out[i * dim..][..dim]));
            for j in head..=head + query {
                let at = j * dim..(j + 1) * dim;
                let (k, v) = (&forward.k[at.clone()], &forward.v[at.clone()]);
                let p = (dot(q, k) * scale - lse[i]).exp();
                let ds = p * (dot(g, v) - delta) * scale;
                add(dq, ds, k);
                add(&mut dk[at.clone()], ds, q);
                add(&mut dv[at], p, g);
            }
        }
    }
}
