//! Gradients: the products of a linear layer, a norm, a gated form, sums of columns, and cross-entropy.

use super::gemm::{multiply, packed, product};
use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::Line;
use crate::kernels::activation::{Activation, GatedInputs, gated_backward};
use crate::kernels::column_sum::ColumnSum;
use crate::kernels::cross_entropy::{CrossEntropy, cross_entropy};
use crate::kernels::gemm::{Accumulate, GROUP, Gemm, PackedMatrix, Strided, Transposed, Turned};
use crate::kernels::nf4::{
    CodeLine, DEFAULT_BLOCKSIZE as BLOCK, PackedNf4, RowNf4, block_count, code_bytes, dequantize, quantize,
};
use crate::kernels::norm::{LayerNorm, NormBackward, Stats, layer_norm_backward};
use crate::kernels::view::{MatMut, MatRef};

/// The entries. Of a layer y = x Wᵀ: M tokens, N outputs, K inputs.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "gemm_dx",
        about: "dX = dY · W, f32 weights in panels",
        dims: "MxNxK",
        shapes: &[&[1024, 512, 512], &[128, 512, 512]],
        work: |d| product(1, &[d[0], d[2], d[1]]),
        make: |d, i| {
            let p = Product::new(d, i, d[0] * d[2]);
            let groups = packed(i, MatRef::new(&p.w, p.n, p.k).t());
            Body::new((p, groups), Product::dx, |(p, _)| p.plain_dx(), |(p, _)| p.out.clone())
        },
    },
    Entry {
        name: "gemm_dw",
        about: "dW = dYᵀ · X",
        dims: "MxNxK",
        shapes: &[&[1024, 512, 512], &[128, 512, 512]],
        work: |d| product(1, &[d[1], d[2], d[0]]),
        make: |d, i| {
            Body::new(Product::new(d, i, d[1] * d[2]), Product::dw, Product::plain_dw, |p| p.out.clone())
        },
    },
    Entry {
        name: "nf4_dx",
        about: "dX = dY · W over 4-bit weights in panels",
        dims: "MxNxK",
        shapes: &[&[1024, 512, 512], &[128, 512, 512]],
        work: |d| product(1, &[d[0], d[2], d[1]]),
        make: |d, i| {
            let mut p = Product::new(d, i, d[0] * d[2]);
            let nf4 = Nf4::new(&mut p, i);
            Body::new((p, nf4), Nf4::dx, |(p, _)| p.plain_dx(), |(p, _)| p.out.clone())
        },
    },
    Entry {
        name: "layer_norm_backward",
        about: "gradient of LayerNorm",
        dims: "ROWSxN",
        shapes: &[&[4096, 1024], &[64, 1024]],
        work: |d| Work::memory(20.0 * (d[0] * d[1]) as f64, Access::Copy, 12 * d[0] * d[1]),
        make: |d, i| Body::new(Rows::new(d, i), Rows::norm, Rows::plain_norm, |r| r.out.clone()),
    },
    Entry {
        name: "swiglu_backward",
        about: "gradients of silu(gate) · up",
        dims: "ROWSxN",
        shapes: &[&[4096, 1024], &[64, 1024]],
        work: |d| Work::memory(20.0 * (d[0] * d[1]) as f64, Access::Copy, 20 * d[0] * d[1]),
        make: |d, i| Body::new(Rows::new(d, i), Rows::gated, Rows::plain_gated, |r| r.out.clone()),
    },
    Entry {
        name: "column_sum",
        about: "gradient of a bias",
        dims: "ROWSxN",
        shapes: &[&[4096, 1024], &[64, 1024]],
        work: |d| Work::memory((d[0] * d[1]) as f64, Access::Read, 4 * d[0] * d[1]),
        make: |d, i| Body::new(Rows::new(d, i), Rows::sums, Rows::plain_sums, |r| r.out[..r.n].to_vec()),
    },
    Entry {
        name: "cross_entropy",
        about: "loss and gradient of logits",
        dims: "ROWSxN",
        shapes: &[&[512, 8192], &[16, 8192]],
        work: |d| Work::memory(14.0 * (d[0] * d[1]) as f64, Access::Copy, 8 * d[0] * d[1]),
        make: |d, i| Body::new(Rows::new(d, i), Rows::entropy, Rows::plain_entropy, |r| r.out.clone()),
    },
];

/// dY (m, n), X (m, k), W (n, k); `out` is dX or dW.
struct Product {
    m: usize,
    n: usize,
    k: usize,
    dy: Vec<f32>,
    x: Vec<f32>,
    w: Vec<f32>,
    out: Vec<f32>,
}

impl Product {
    fn new(d: &[usize], inputs: &mut Inputs, out: usize) -> Product {
        let (m, n, k) = (d[0], d[1], d[2]);
        let (dy, x, w) = (inputs.normal(m * n), inputs.normal(m * k), inputs.normal(n * k));
        Product { m, n, k, dy, x, w, out: filled(0.0, out) }
    }

    fn dx((p, groups): &mut (Product, Vec<[Line; GROUP]>), run: &Run<'_>) {
        let w = Transposed::new(Turned::F32(PackedMatrix::new(groups, p.k, p.n)));
        multiply(run, Gemm::new(MatRef::new(&p.dy, p.m, p.n), w, MatMut::new(&mut p.out, p.m, p.k)));
    }

    fn dw(&mut self, run: &Run<'_>) {
        let &mut Product { m, n, k, ref dy, ref x, ref mut out, .. } = self;
        let x = Strided(MatRef::new(x, m, k));
        multiply(run, Gemm::new(MatRef::new(dy, m, n).t(), x, MatMut::new(out, n, k)));
    }

    fn plain_dx(&mut self) {
        for (dy, dx) in self.dy.chunks(self.n).zip(self.out.chunks_mut(self.k)) {
            dx.fill(0.0);
            for (dy, w) in dy.iter().zip(self.w.chunks(self.k)) {
                dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += dy * w);
            }
        }
    }

    fn plain_dw(&mut self) {
        self.out.fill(0.0);
        for (dy, x) in self.dy.chunks(self.n).zip(self.x.chunks(self.k)) {
            for (dy, dw) in dy.iter().zip(self.out.chunks_mut(self.k)) {
                dw.iter_mut().zip(x).for_each(|(dw, x)| *dw += dy * x);
            }
        }
    }
}

/// W in four bits, in panels.
struct Nf4 {
    codes: Vec<CodeLine>,
    scales: Vec<Line>,
}

impl Nf4 {
    /// W of `p`, which becomes what its codes mean.
    fn new(p: &mut Product, inputs: &Inputs) -> Nf4 {
        let (n, k) = (p.n, p.k);
        let (mut codes, mut absmax) = (vec![0; code_bytes(n * k)], vec![0.0; block_count(n * k, BLOCK)]);
        quantize(inputs.cpu, &p.w, BLOCK, &mut codes, &mut absmax).expect("the inputs are finite");
        dequantize(inputs.cpu, &codes, &absmax, BLOCK, &mut p.w);
        let mut lines = filled(CodeLine::ZERO, PackedNf4::code_lines(n, k));
        let mut scales = filled(Line::ZERO, PackedNf4::scale_lines(n, k, BLOCK));
        PackedNf4::pack(RowNf4::new(n, k, BLOCK, &codes, &absmax), &mut lines, &mut scales);
        Nf4 { codes: lines, scales }
    }

    fn dx((p, nf4): &mut (Product, Nf4), run: &Run<'_>) {
        let w = Transposed::new(Turned::Nf4(PackedNf4::new(p.n, p.k, BLOCK, &nf4.codes, &nf4.scales)));
        multiply(run, Gemm::new(MatRef::new(&p.dy, p.m, p.n), w, MatMut::new(&mut p.out, p.m, p.k)));
    }
}

/// Inputs (rows, n), a weight (n), a target for each row, an output (rows, n) or two.
struct Rows {
    n: usize,
    x: Vec<f32>,
    up: Vec<f32>,
    dy: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<i32>,
    out: Vec<f32>,
    second: Vec<f32>,
}

const EPS: f32 = 1e-5;

impl Rows {
    fn new(d: &[usize], inputs: &mut Inputs) -> Rows {
        let (rows, n) = (d[0], d[1]);
        let [x, up, dy] = [(); 3].map(|()| inputs.normal(rows * n));
        let targets = inputs.below(n, rows).into_iter().map(|t| t as i32).collect();
        let (out, second) = (filled(0.0, rows * n), filled(0.0, rows * n));
        Rows { n, x, up, dy, weight: inputs.normal(n), targets, out, second }
    }

    fn part(&self, run: &Run<'_>) -> usize {
        parts(self.x.len() / self.n, run) * self.n
    }

    fn norm(&mut self, run: &Run<'_>) {
        let part = self.part(run);
        let Rows { n, x, dy, weight, out, .. } = self;
        let n = *n;
        let norm = LayerNorm { weight: Some(weight), bias: None, eps: EPS };
        let mut stats = vec![Stats::default(); x.len() / n];
        let inputs = x.chunks(part).zip(dy.chunks(part));
        let pieces = inputs.zip(out.chunks_mut(part).zip(stats.chunks_mut(part / n)));
        run.pool.run(pieces, |((x, dy), (dx, stats)), _| {
            let rows = stats.len();
            let (x, dy, dx) = (MatRef::new(x, rows, n), MatRef::new(dy, rows, n), MatMut::new(dx, rows, n));
            let rows = NormBackward { x, dy, dx, accumulate: Accumulate::Overwrite, stats };
            layer_norm_backward(run.cpu, &norm, rows);
        });
    }

    fn plain_norm(&mut self) {
        let n = self.n as f32;
        let rows = self.x.chunks(self.n).zip(self.dy.chunks(self.n)).zip(self.out.chunks_mut(self.n));
        for ((x, dy), dx) in rows {
            let mean = x.iter().sum::<f32>() / n;
            let scale = 1.0 / (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n + EPS).sqrt();
            let g = || dy.iter().zip(&self.weight).map(|(dy, w)| dy * w);
            let (plain, slope) =
                (g().sum::<f32>() / n, g().zip(x).map(|(g, x)| g * (x - mean) * scale).sum::<f32>() / n);
            for ((dx, g), x) in dx.iter_mut().zip(g()).zip(x) {
                *dx = scale * (g - plain - (x - mean) * scale * slope);
            }
        }
    }

    fn gated(&mut self, run: &Run<'_>) {
        let part = self.part(run);
        let Rows { n, x, up, dy, out, second, .. } = self;
        let n = *n;
        let inputs = x.chunks(part).zip(up.chunks(part)).zip(dy.chunks(part));
        let pieces = inputs.zip(out.chunks_mut(part).zip(second.chunks_mut(part)));
        run.pool.run(pieces, |(((gate, up), dy), (dgate, dup)), _| {
            let rows = gate.len() / n;
            let [gate, up, dy] = [gate, up, dy].map(|x| MatRef::new(x, rows, n));
            let (dgate, dup) = (MatMut::new(dgate, rows, n), MatMut::new(dup, rows, n));
            gated_backward(run.cpu, Activation::Silu, GatedInputs { gate, up, dy }, dgate, dup);
        });
    }

    fn plain_gated(&mut self) {
        let inputs = self.x.iter().zip(&self.up).zip(&self.dy);
        for (((gate, up), dy), (dgate, dup)) in inputs.zip(self.out.iter_mut().zip(&mut self.second)) {
            let sigma = 1.0 / (1.0 + (-gate).exp());
            *dgate = dy * up * sigma * (1.0 + gate * (1.0 - sigma));
            *dup = dy * gate * sigma;
        }
    }

    fn sums(&mut self, run: &Run<'_>) {
        let Rows { n, x, out, .. } = self;
        let sums = ColumnSum {
            x: MatRef::new(x, x.len() / *n, *n),
            accumulate: Accumulate::Overwrite,
            out: &mut out[..*n],
        };
        run.pool.run(sums.pieces(), |piece, _| piece.run(run.cpu));
    }

    fn plain_sums(&mut self) {
        let sums = &mut self.out[..self.n];
        sums.fill(0.0);
        for x in self.x.chunks(self.n) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
    }

    fn entropy(&mut self, run: &Run<'_>) {
        let part = self.part(run);
        let Rows { n, x, targets, out, .. } = self;
        let n = *n;
        let pieces = x.chunks(part).zip(out.chunks_mut(part)).zip(targets.chunks(part / n));
        run.pool.run(pieces, |((x, logits), targets), _| {
            logits.copy_from_slice(x);
            let losses = &mut vec![0.0; targets.len()];
            let logits = MatMut::new(logits, targets.len(), n);
            cross_entropy(run.cpu, &CrossEntropy::default(), logits, targets, losses);
        });
    }

    fn plain_entropy(&mut self) {
        let rows = self.x.chunks(self.n).zip(self.out.chunks_mut(self.n)).zip(&self.targets);
        for ((x, dx), &target) in rows {
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            dx.iter_mut().zip(x).for_each(|(dx, x)| *dx = (x - max).exp());
            let scale = 1.0 / dx.iter().sum::<f32>();
            dx.iter_mut().for_each(|dx| *dx *= scale);
            dx[target as usize] -= 1.0;
        }
    }
}
