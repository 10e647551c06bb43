//! Weights of four bits, as bitsandbytes stores them.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::nf4::{
    DEFAULT_BLOCKSIZE as BLOCK, LEVELS, THRESHOLDS, block_count, code_bytes, dequantize, quantize,
};

/// The entries; a weight is (n, k).
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "nf4_quantize",
        about: "f32 to 4-bit codes and one scale for 64",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[256, 512]],
        work: |d| Work::memory(18.0 * (d[0] * d[1]) as f64, Access::Read, bytes(d[0] * d[1])),
        make: |d, i| {
            Body::new(Stored::new(d[0] * d[1], i), Stored::quantize, Stored::plain_quantize, Stored::coded)
        },
    },
    Entry {
        name: "nf4_dequantize",
        about: "4-bit codes to f32",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[256, 512]],
        work: |d| Work::memory(2.0 * (d[0] * d[1]) as f64, Access::Write, bytes(d[0] * d[1])),
        make: |d, i| {
            let mut stored = Stored::new(d[0] * d[1], i);
            stored.plain_quantize();
            stored.x.fill(0.0);
            Body::new(stored, Stored::dequantize, Stored::plain_dequantize, |s| s.x.clone())
        },
    },
];

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
    fn new(n: usize, inputs: &mut Inputs) -> Stored {
        let (codes, absmax) = (filled(0, code_bytes(n)), filled(0.0, block_count(n, BLOCK)));
        Stored { x: inputs.normal(n), codes, absmax }
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
