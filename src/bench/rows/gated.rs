//! Kernels with two matrices to read and one to write.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::activation::{self, Activation};
use crate::kernels::view::{MatMut, MatRef};

/// The entries.
pub const FAMILY: &[Entry] = &[Entry {
    name: "swiglu",
    about: "silu(gate) · up",
    dims: "ROWSxN",
    shapes: &[&[4096, 1024], &[64, 1024]],
    work: |d| Work::memory(13.0 * (d[0] * d[1]) as f64, Access::Copy, 12 * d[0] * d[1]),
    make: |d, i| Gated::body(d[0], d[1], i),
}];

/// All (rows, n).
struct Gated {
    gate: Vec<f32>,
    up: Vec<f32>,
    y: Vec<f32>,
    n: usize,
}

impl Gated {
    fn body(rows: usize, n: usize, inputs: &mut Inputs) -> Body {
        let (gate, up) = (inputs.normal(rows * n), inputs.normal(rows * n));
        let state = Gated { gate, up, y: filled(0.0, rows * n), n };
        Body::new(state, Gated::ours, Gated::plain, |s| s.y.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let &mut Gated { ref gate, ref up, ref mut y, n } = self;
        let part = parts(y.len() / n, run) * n;
        let pieces = gate.chunks(part).zip(up.chunks(part)).zip(y.chunks_mut(part));
        run.pool.run(pieces, |((gate, up), y), _| {
            let rows = y.len() / n;
            let (gate, up) = (MatRef::new(gate, rows, n), MatRef::new(up, rows, n));
            activation::gated(run.cpu, Activation::Silu, gate, up, MatMut::new(y, rows, n));
        });
    }

    fn plain(&mut self) {
        for ((y, gate), up) in self.y.iter_mut().zip(&self.gate).zip(&self.up) {
            *y = gate / (1.0 + (-gate).exp()) * up;
        }
    }
}
