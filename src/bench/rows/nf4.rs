//! Weights of four bits, as bitsandbytes stores them.

use super::{Body, Entry, Inputs, Run, Weight, Work, parts};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::Line;
use crate::kernels::gemm::Gemm;
use crate::kernels::nf4::{
    CodeLine, DEFAULT_BLOCKSIZE as BLOCK, LEVELS, PackedNf4, RowNf4, THRESHOLDS, block_count, code_bytes,
    dequantize, quantize,
};
use crate::kernels::view::{MatMut, MatRef};

/// The entries; a weight is (n, k).
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "nf4_gemm",
        about: "C = A · Wᵀ from packed 4-bit weights",
        dims: "MxNxK",
        shapes: &[&[128, 1024, 1024], &[128, 4096, 4096], &[8, 4096, 4096]],
        work: |d| product_work(d[0], d[1], d[2]),
        make: |d, i| {
            let values = i.normal(d[1] * d[2]);
            product_of(d[0], &Weight { n: d[1], k: d[2], values }, i)
        },
    },
    Entry {
        name: "nf4_gemv",
        about: "y = W · x from packed 4-bit weights",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[512, 512]],
        work: |d| product_work(1, d[0], d[1]),
        make: |d, i| {
            let values = i.normal(d[0] * d[1]);
            vector_of(&Weight { n: d[0], k: d[1], values }, i)
        },
    },
    Entry {
        name: "nf4_quantize",
        about: "f32 to 4-bit codes and one scale for 64",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[256, 512]],
        work: |d| quantize_work(d[0], d[1]),
        make: |d, i| quantize_body(i.normal(d[0] * d[1])),
    },
    Entry {
        name: "nf4_dequantize",
        about: "4-bit codes to f32",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[256, 512]],
        work: |d| dequantize_work(d[0], d[1]),
        make: |d, i| dequantize_body(i.normal(d[0] * d[1])),
    },
];

/// Of `m` rows and a weight (n, k). Decoding takes no operation of the FMA units, but their ports.
pub fn product_work(m: usize, n: usize, k: usize) -> Work {
    let stored = code_bytes(n * k) + 4 * block_count(n * k, BLOCK);
    Work::arithmetic(2.0 * (m * n) as f64 * k as f64, stored + 4 * m * (n + k))
}

/// `m` rows times a given weight.
pub fn product_of(m: usize, w: &Weight, inputs: &mut Inputs) -> Body {
    Product::body(m, w, inputs)
}

/// One row times a given weight.
pub fn vector_of(w: &Weight, inputs: &mut Inputs) -> Body {
    Product::body(1, w, inputs)
}

/// Of a weight (n, k).
pub fn quantize_work(n: usize, k: usize) -> Work {
    Work::memory(18.0 * (n * k) as f64, Access::Read, bytes(n * k))
}

/// Of a weight (n, k).
pub fn dequantize_work(n: usize, k: usize) -> Work {
    Work::memory(2.0 * (n * k) as f64, Access::Write, bytes(n * k))
}

/// Quantises a given weight.
pub fn quantize_of(w: &Weight, _: &mut Inputs) -> Body {
    quantize_body(w.values.clone())
}

/// Dequantises a given weight.
pub fn dequantize_of(w: &Weight, _: &mut Inputs) -> Body {
    dequantize_body(w.values.clone())
}

fn quantize_body(x: Vec<f32>) -> Body {
    Body::new(Stored::new(x), Stored::quantize, Stored::plain_quantize, Stored::coded)
}

fn dequantize_body(x: Vec<f32>) -> Body {
    let mut stored = Stored::new(x);
    stored.plain_quantize();
    stored.x.fill(0.0);
    Body::new(stored, Stored::dequantize, Stored::plain_dequantize, |s| s.x.clone())
}

/// Of `n` weights: f32, codes and scales.
fn bytes(n: usize) -> usize {
    4 * n + code_bytes(n) + 4 * block_count(n, BLOCK)
}

/// A weight twice: in full and in four bits.
struct Stored {
    x: Vec<f32>,
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

impl Stored {
    fn new(x: Vec<f32>) -> Stored {
        let (codes, absmax) = (filled(0, code_bytes(x.len())), filled(0.0, block_count(x.len(), BLOCK)));
        Stored { x, codes, absmax }
    }

    /// Codes as numbers, then scales: what is hashed and compared.
    fn coded(&self) -> Vec<f32> {
        self.codes.iter().map(|&c| f32::from(c)).chain(self.absmax.iter().copied()).collect()
    }

    /// An even number of blocks a piece.
    fn part(&self, run: &Run<'_>) -> usize {
        parts(self.absmax.len(), run).next_multiple_of(2)
    }

    fn quantize(&mut self, run: &Run<'_>) {
        let part = self.part(run);
        let outputs = self.codes.chunks_mut(part * BLOCK / 2).zip(self.absmax.chunks_mut(part));
        run.pool.run(self.x.chunks(part * BLOCK).zip(outputs), |(x, (codes, absmax)), _| {
            quantize(run.cpu, x, BLOCK, codes, absmax).expect("the inputs are finite");
        });
    }

    fn dequantize(&mut self, run: &Run<'_>) {
        let part = self.part(run);
        let stored = self.codes.chunks(part * BLOCK / 2).zip(self.absmax.chunks(part));
        run.pool.run(self.x.chunks_mut(part * BLOCK).zip(stored), |(x, (codes, absmax)), _| {
            dequantize(run.cpu, codes, absmax, BLOCK, x);
        });
    }

    fn plain_quantize(&mut self) {
        let blocks = self.x.chunks(BLOCK).zip(self.codes.chunks_mut(BLOCK / 2)).zip(&mut self.absmax);
        for ((x, codes), absmax) in blocks {
            *absmax = x.iter().fold(0.0, |max, x| x.abs().max(max));
            let scale = if *absmax > 0.0 { 1.0 / *absmax } else { 0.0 };
            let code = |x: f32| THRESHOLDS.partition_point(|&t| t < x * scale) as u8;
            for (pair, out) in x.chunks(2).zip(codes) {
                *out = code(pair[0]) << 4 | pair.get(1).map_or(7, |&x| code(x));
            }
        }
    }

    fn plain_dequantize(&mut self) {
        let blocks = self.x.chunks_mut(BLOCK).zip(self.codes.chunks(BLOCK / 2)).zip(&self.absmax);
        for ((x, codes), absmax) in blocks {
            for (pair, code) in x.chunks_mut(2).zip(codes) {
                pair[0] = LEVELS.0[usize::from(code >> 4)] * absmax;
                if let Some(second) = pair.get_mut(1) {
                    *second = LEVELS.0[usize::from(code & 15)] * absmax;
                }
            }
        }
    }
}

/// C (m, n) = A (m, k) · Wᵀ, W (n, k) twice: in rows and in panels.
struct Product {
    m: usize,
    n: usize,
    k: usize,
    rows: Stored,
    codes: Vec<CodeLine>,
    scales: Vec<Line>,
    a: Vec<f32>,
    c: Vec<f32>,
}

impl Product {
    fn body(m: usize, w: &Weight, inputs: &mut Inputs) -> Body {
        let (n, k) = (w.n, w.k);
        let mut rows = Stored::new(w.values.clone());
        rows.plain_quantize();
        rows.x = Vec::new();
        let mut codes = filled(CodeLine::ZERO, PackedNf4::code_lines(n, k));
        let mut scales = filled(Line::ZERO, PackedNf4::scale_lines(n, k, BLOCK));
        PackedNf4::pack(RowNf4::new(n, k, BLOCK, &rows.codes, &rows.absmax), &mut codes, &mut scales);
        let (a, c) = (inputs.normal(m * k), filled(0.0, m * n));
        let state = Product { m, n, k, rows, codes, scales, a, c };
        Body::new(state, Product::ours, Product::plain, |p| p.c.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let &mut Product { m, n, k, ref codes, ref scales, ref a, ref mut c, .. } = self;
        let w = PackedNf4::new(n, k, BLOCK, codes, scales);
        super::gemm::multiply(run, Gemm::new(MatRef::new(a, m, k), w, MatMut::new(c, m, n)));
    }

    /// A row of W is decoded into a buffer, then multiplied with each row of A.
    fn plain(&mut self) {
        let &mut Product { n, k, ref rows, ref a, ref mut c, .. } = self;
        let mut w = vec![0.0; k];
        for j in 0..n {
            for (i, w) in w.iter_mut().enumerate() {
                let at = j * k + i;
                let code = rows.codes[at / 2] >> (4 * (1 - at % 2)) & 15;
                *w = LEVELS.0[usize::from(code)] * rows.absmax[at / BLOCK];
            }
            for (a, c) in a.chunks(k).zip(c.chunks_mut(n)) {
                c[j] = a.iter().zip(&w).map(|(a, w)| a * w).sum();
            }
        }
    }
}
