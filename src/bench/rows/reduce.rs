//! Kernels that read much and write little: the read rate binds.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::view::MatRef;
use crate::kernels::{dot, reduce, topk};

/// The entries.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "dot_rows",
        about: "dot products of a query with many rows",
        dims: "ROWSxN",
        shapes: &[&[10_000, 384], &[512, 384]],
        work: |d| read(2.0, d[0] * d[1]),
        make: |d, i| DotRows::body(d[0], d[1], i),
    },
    vector(
        "dot",
        "dot product of two vectors",
        |d| read(1.0, 2 * d[0]),
        |d, i| {
            let xy = (i.normal(d[0]), i.normal(d[0]), 0.0);
            Body::new(
                xy,
                |(x, y, out), run| *out = dot::dot(run.cpu, x, y),
                |(x, y, out)| *out = x.iter().zip(&*y).map(|(x, y)| x * y).sum(),
                |(_, _, out)| vec![*out],
            )
        },
    ),
    vector(
        "sum",
        "sum, in f64",
        |d| read(1.0, d[0]),
        |d, i| {
            Body::new(
                (i.normal(d[0]), 0.0),
                |(x, out), run| *out = reduce::sum(run.cpu, x),
                |(x, out)| *out = x.iter().map(|&x| f64::from(x)).sum::<f64>() as f32,
                |(_, out)| vec![*out],
            )
        },
    ),
    vector(
        "norm2",
        "Euclidean length, in f64",
        |d| read(2.0, d[0]),
        |d, i| {
            Body::new(
                (i.normal(d[0]), 0.0),
                |(x, out), run| *out = reduce::norm2(run.cpu, x),
                |(x, out)| *out = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32,
                |(_, out)| vec![*out],
            )
        },
    ),
    vector(
        "max",
        "largest element",
        |d| read(1.0, d[0]),
        |d, i| {
            Body::new(
                (i.normal(d[0]), 0.0),
                |(x, out), run| *out = reduce::max(run.cpu, x),
                |(x, out)| *out = x.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                |(_, out)| vec![*out],
            )
        },
    ),
    Entry {
        name: "topk",
        about: "the K largest and their places",
        dims: "NxK",
        shapes: &[&[1 << 20, 10], &[32_000, 50]],
        work: |d| read(1.0, d[0]),
        make: |d, i| TopK::body(d[0], d[1], i),
    },
];

type Make = fn(&[usize], &mut Inputs) -> Body;

/// A reduction of one vector: no pieces, one thread.
const fn vector(name: &'static str, about: &'static str, work: fn(&[usize]) -> Work, make: Make) -> Entry {
    Entry { name, about, dims: "N", shapes: &[&[1 << 20], &[1 << 12]], work, make }
}

/// `n` floats are read, `flops` operations each.
fn read(flops: f64, n: usize) -> Work {
    Work::memory(flops * n as f64, Access::Read, 4 * n)
}

struct DotRows {
    query: Vec<f32>,
    rows: Vec<f32>,
    out: Vec<f32>,
}

impl DotRows {
    fn body(rows: usize, n: usize, inputs: &mut Inputs) -> Body {
        let (query, data) = (inputs.normal(n), inputs.normal(rows * n));
        let state = DotRows { query, rows: data, out: filled(0.0, rows) };
        Body::new(state, DotRows::ours, DotRows::plain, |s| s.out.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let DotRows { query, rows, out } = self;
        let n = query.len();
        let part = parts(out.len(), run);
        run.pool.run(rows.chunks(part * n).zip(out.chunks_mut(part)), |(rows, out), _| {
            dot::dot_rows(run.cpu, query, MatRef::new(rows, out.len(), n), out);
        });
    }

    fn plain(&mut self) {
        for (row, out) in self.rows.chunks(self.query.len()).zip(&mut self.out) {
            *out = row.iter().zip(&self.query).map(|(x, y)| x * y).sum();
        }
    }
}

struct TopK {
    scores: Vec<f32>,
    values: Vec<f32>,
    indices: Vec<u32>,
}

impl TopK {
    fn body(n: usize, k: usize, inputs: &mut Inputs) -> Body {
        let state = TopK { scores: inputs.normal(n), values: vec![0.0; k], indices: vec![0; k] };
        Body::new(state, TopK::ours, TopK::plain, |s| s.values.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        topk::topk(run.cpu, &self.scores, &mut self.values, &mut self.indices);
    }

    /// What one writes with the standard library: select, then sort the few.
    fn plain(&mut self) {
        let mut order: Vec<u32> = (0..self.scores.len() as u32).collect();
        let k = self.values.len().min(order.len());
        let descending =
            |&a: &u32, &b: &u32| self.scores[b as usize].total_cmp(&self.scores[a as usize]).then(a.cmp(&b));
        if k < order.len() {
            order.select_nth_unstable_by(k, descending);
        }
        order[..k].sort_unstable_by(descending);
        for (i, &place) in order[..k].iter().enumerate() {
            (self.values[i], self.indices[i]) = (self.scores[place as usize], place);
        }
    }
}
