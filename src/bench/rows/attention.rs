//! Attention over whole sequences (arithmetic binds) and of one query over a cache (memory binds).

use super::{Body, Entry, Inputs, Run, Work};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::attention::{Attention, Options, Pattern, scratch_len};
use crate::kernels::view::{HeadsMut, HeadsRef};

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
        name: "attention_causal",
        about: "the same, keys up to the query's own",
        dims: "HEADSxTOKENSxDIM",
        shapes: &[&[8, 512, 64], &[8, 2048, 64]],
        work: |d| work(d, 2.0 * (d[0] * d[1] * (d[1] + 1)) as f64 * d[2] as f64),
        make: |d, i| State::body(d, d[1], Pattern::Causal, i),
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

/// q and out (1, heads, queries, dim), k and v (1, heads, keys, dim).
struct State {
    heads: usize,
    queries: usize,
    dim: usize,
    pattern: Pattern,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
}

impl State {
    fn body(d: &[usize], queries: usize, pattern: Pattern, inputs: &mut Inputs) -> Body {
        let (heads, keys, dim) = (d[0], d[1], d[2]);
        let (q, k) = (inputs.normal(heads * queries * dim), inputs.normal(heads * keys * dim));
        let (v, out) = (inputs.normal(heads * keys * dim), filled(0.0, heads * queries * dim));
        let state = State { heads, queries, dim, pattern, q, k, v, out };
        Body::new(state, State::ours, State::plain, |s| s.out.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let &mut State { heads, queries, dim, pattern, ref q, ref k, ref v, ref mut out } = self;
        let keys = k.len() / (heads * dim);
        let (few, many) = ([1, heads, queries, dim], [1, heads, keys, dim]);
        let problem = Attention {
            q: HeadsRef::new(q, few),
            k: HeadsRef::new(k, many).into(),
            v: HeadsRef::new(v, many).into(),
            out: HeadsMut::new(out, few),
            lse: None,
            options: Options { pattern, ..Options::for_head_dim(dim) },
        };
        run.pool.run(problem.pieces(), |piece, scratch| {
            piece.run(run.cpu, scratch.lines(scratch_len(dim, dim)));
        });
    }

    /// Query by query: scores, softmax, weighted sum of the values.
    fn plain(&mut self) {
        let &mut State { heads, queries, dim, pattern, ref q, ref k, ref v, ref mut out } = self;
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
                out.fill(0.0);
                for (s, v) in scores.iter().zip(v.chunks(dim)) {
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += s / sum * v);
                }
            }
        }
    }
}
