//! Rotary embedding: reads once, writes once.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::bench::memory::{Aligned, filled};
use crate::bench::peak::Access;
use crate::kernels::rope::{Pairing, Rope, Table, apply, fill_table, frequencies};
use crate::kernels::view::{HeadsMut, HeadsRef};

/// The entries; head_dim is even.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "rope",
        about: "rotary embedding, halves paired",
        dims: "TOKENSxHEADSxDIM",
        shapes: &[&[4096, 16, 64], &[64, 16, 64]],
        work,
        make: |d, i| State::body(d, Pairing::Half, i),
    },
    Entry {
        name: "rope_interleaved",
        about: "rotary embedding, neighbours paired",
        dims: "TOKENSxHEADSxDIM",
        shapes: &[&[4096, 16, 64], &[64, 16, 64]],
        work,
        make: |d, i| State::body(d, Pairing::Interleaved, i),
    },
];

fn work(d: &[usize]) -> Work {
    let n = d[0] * d[1] * d[2];
    Work::memory(3.0 * n as f64, Access::Copy, 8 * n)
}

/// x and y (tokens, heads, dim); cos and sin (tokens, dim / 2).
struct State {
    heads: usize,
    dim: usize,
    pairing: Pairing,
    positions: Vec<u32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    x: Aligned<f32>,
    y: Aligned<f32>,
}

impl State {
    fn body(d: &[usize], pairing: Pairing, inputs: &mut Inputs) -> Body {
        let (tokens, heads, dim) = (d[0], d[1], d[2]);
        let n = tokens * heads * dim;
        let mut state = State {
            heads,
            dim,
            pairing,
            positions: (0..tokens as u32).collect(),
            cos: filled(0.0, tokens * (dim / 2)),
            sin: filled(0.0, tokens * (dim / 2)),
            x: inputs.normal(n).into(),
            y: vec![0.0; n].into(),
        };
        let mut turns = vec![0.0; dim / 2];
        frequencies(10_000.0, &mut turns);
        fill_table(0, &turns, 1.0, &mut state.cos, &mut state.sin);
        Body::new(state, State::ours, State::plain, |s| s.y.to_vec())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let &mut State { heads, dim, pairing, ref positions, ref cos, ref sin, ref x, ref mut y } = self;
        let table = Table { cos, sin, pairs: dim / 2 };
        let part = parts(positions.len(), run);
        let pieces = positions.chunks(part).zip(x.chunks(part * heads * dim));
        run.pool.run(pieces.zip(y.chunks_mut(part * heads * dim)), |((positions, x), y), _| {
            let tokens = positions.len();
            let (x, y) =
                (HeadsRef::by_token(x, tokens, heads, dim), HeadsMut::by_token(y, tokens, heads, dim));
            apply(run.cpu, &Rope { table, pairing, positions }, x, y);
        });
    }

    fn plain(&mut self) {
        let &mut State { heads, dim, pairing, ref cos, ref sin, ref x, ref mut y, .. } = self;
        let half = dim / 2;
        let tables = cos.chunks(half.max(1)).zip(sin.chunks(half.max(1)));
        let tokens = x.chunks(heads * dim).zip(y.chunks_mut(heads * dim)).zip(tables);
        for ((x, y), (cos, sin)) in tokens {
            for (x, y) in x.chunks(dim).zip(y.chunks_mut(dim)) {
                for (i, (cos, sin)) in cos.iter().zip(sin).enumerate() {
                    let (a, b) = if pairing == Pairing::Half { (i, i + half) } else { (2 * i, 2 * i + 1) };
                    y[a] = x[a] * cos - x[b] * sin;
                    y[b] = x[b] * cos + x[a] * sin;
                }
            }
        }
    }
}
