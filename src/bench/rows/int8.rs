//! Products of integers, and of rows quantised to eight bits with weights of eight and four; with one row, memory binds.

use super::{Body, Entry, Inputs, Run, Work};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::gemm::Accumulate;
use crate::kernels::ggml::{Format, Rows, dequantize, quantize_q4_0, quantize_q8_0};
use crate::kernels::int8::{
    BLOCK, Block8, Codes, Eight, GemmI8, GemmQ8, Nf4, Nibbles, OfFile, PackedBlocks, PackedI8, Q4K, Q6K,
    Quantized, Scaling, blocks_len, quantize_blocks, scales_len,
};
use crate::kernels::nf4::{LEVELS, RowNf4};
use crate::kernels::view::{MatMut, MatRef};

/// The entries.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "gemm_i8",
        about: "C = A · B of integers of eight bits, exact; B packed once",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[128, 1536, 384]],
        work: |d| product(d, 32),
        make: |d, i| Exact::body(d, i),
    },
    Entry {
        name: "gemm_q8_0",
        about: "C = A · W, A quantised in every call, W in Q8_0",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[128, 1536, 384]],
        work: |d| product(d, 34),
        make: |d, i| format::<Eight>(d, i),
    },
    Entry {
        name: "gemm_q4_0",
        about: "C = A · W, A quantised in every call, W in Q4_0",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[128, 1536, 384]],
        work: |d| product(d, 18),
        make: |d, i| format::<Nibbles>(d, i),
    },
    Entry {
        name: "gemm_q4_k",
        about: "C = A · W, A quantised in every call, W in Q4_K; k in 256ths",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[128, 1536, 512]],
        work: |d| product(d, 18),
        make: |d, i| format::<Q4K>(d, i),
    },
    Entry {
        name: "gemm_q6_k",
        about: "C = A · W, A quantised in every call, W in Q6_K; k in 256ths",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[128, 1536, 512]],
        work: |d| product(d, 26),
        make: |d, i| format::<Q6K>(d, i),
    },
    Entry {
        name: "gemv_q8_0",
        about: "y = W · x, x quantised in every call, W in Q8_0",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[512, 512]],
        work: |d| vector(d, 34),
        make: |d, i| format::<Eight>(&[1, d[0], d[1]], i),
    },
    Entry {
        name: "gemv_q4_0",
        about: "y = W · x, x quantised in every call, W in Q4_0",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[512, 512]],
        work: |d| vector(d, 18),
        make: |d, i| format::<Nibbles>(&[1, d[0], d[1]], i),
    },
    Entry {
        name: "gemv_q4_k",
        about: "y = W · x, x quantised in every call, W in Q4_K; k in 256ths",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[512, 512]],
        work: |d| vector(d, 18),
        make: |d, i| format::<Q4K>(&[1, d[0], d[1]], i),
    },
    Entry {
        name: "gemv_q6_k",
        about: "y = W · x, x quantised in every call, W in Q6_K; k in 256ths",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[512, 512]],
        work: |d| vector(d, 26),
        make: |d, i| format::<Q6K>(&[1, d[0], d[1]], i),
    },
    Entry {
        name: "gemv_nf4_int8",
        about: "y = W · x, x quantised in every call, W in NF4 through its nearest 127ths",
        dims: "NxK",
        shapes: &[&[4096, 4096], &[512, 512]],
        work: |d| vector(d, 20),
        make: |d, i| Scaled::<Nf4>::body(&[1, d[0], d[1]], i, nf4),
    },
];

/// `d` is m, n, k, whose k is filled up to blocks; 32 weights take so many bytes.
fn product(d: &[usize], bytes: usize) -> Work {
    let (m, n, k) = (d[0], d[1], d[2].next_multiple_of(BLOCK));
    Work::integers(2.0 * (m * n) as f64 * k as f64, m * k + n * k / BLOCK * bytes + 4 * m * n)
}

/// `d` is n, k.
fn vector(d: &[usize], bytes: usize) -> Work {
    let (n, k) = (d[0], d[1].next_multiple_of(BLOCK));
    Work::memory(2.0 * (n * k) as f64, Access::Read, n * k / BLOCK * bytes + 4 * (n + k))
}

/// Bytes drawn at random.
fn codes(n: usize, inputs: &mut Inputs) -> Vec<i8> {
    inputs.below(256, n).into_iter().map(|x| x as u8 as i8).collect()
}

struct Exact {
    a: Vec<i8>,
    b: Vec<i8>,
    blocks: Vec<Block8>,
    c: Vec<i32>,
    /// (m, n, k)
    shape: (usize, usize, usize),
}

impl Exact {
    fn body(d: &[usize], inputs: &mut Inputs) -> Body {
        let (m, n, k) = (d[0], d[1], d[2].next_multiple_of(BLOCK));
        let (a, b) = (codes(m * k, inputs), codes(k * n, inputs));
        let mut blocks = filled(Eight::EMPTY, blocks_len(n, k));
        PackedI8::pack(MatRef::new(&b, k, n), &mut blocks);
        let state = Exact { a, b, blocks, c: filled(0, m * n), shape: (m, n, k) };
        Body::new(state, Exact::ours, Exact::plain, |s| s.c.iter().map(|&c| c as f32).collect())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let (m, n, k) = self.shape;
        let (a, b) = (MatRef::new(&self.a, m, k), PackedI8::new(n, k, &self.blocks));
        let c = MatMut::new(&mut self.c, m, n);
        let job = GemmI8 { a, b, c, accumulate: Accumulate::Overwrite };
        let lines = GemmI8::scratch_len(m, k, n);
        super::cut(run, job, GemmI8::pieces, |job, scratch| job.run(run.cpu, scratch.lines(lines)));
    }

    fn plain(&mut self) {
        let (_, n, k) = self.shape;
        for (a, c) in self.a.chunks(k).zip(self.c.chunks_mut(n)) {
            c.fill(0);
            for (&a, b) in a.iter().zip(self.b.chunks(n)) {
                for (c, &b) in c.iter_mut().zip(b) {
                    *c += i32::from(a) * i32::from(b);
                }
            }
        }
    }
}

/// A weight (n, k) packed to codes and scales, and its own values.
type Drawn<C> = (Vec<<C as Codes>::Block>, Vec<<C as Codes>::Scales>, Vec<f32>);

/// Room for a weight, packed and decoded.
fn room<C: Codes>(n: usize, k: usize) -> Drawn<C> {
    (filled(C::EMPTY, blocks_len(n, k)), filled(C::NO_SCALES, scales_len::<C>(n, k)), filled(0.0, n * k))
}

/// A weight of ggml's, as its file holds it: of those that we make, drawn floats; else any bits, with small scales.
fn of_file<C: OfFile>(n: usize, k: usize, inputs: &mut Inputs) -> Drawn<C> {
    let (mut blocks, mut scales, mut w) = room::<C>(n, k);
    let (format, mut stored) = (C::FORMAT, vec![0; C::FORMAT.bytes(n * k)]);
    match format {
        Format::Q8_0 => quantize_q8_0(inputs.cpu, &inputs.normal(n * k), &mut stored).expect("finite"),
        Format::Q4_0 => quantize_q4_0(inputs.cpu, &inputs.normal(n * k), &mut stored).expect("finite"),
        _ => {
            let bits = inputs.below(256, stored.len());
            stored.iter_mut().zip(bits).for_each(|(byte, bits)| *byte = bits as u8);
            let halves: &[usize] = if format == Format::Q6K { &[208] } else { &[0, 2] };
            for block in stored.chunks_exact_mut(format.block_bytes()) {
                halves.iter().for_each(|&at| block[at + 1] = 0x10);
            }
        }
    }
    dequantize(inputs.cpu, format, &stored, &mut w);
    PackedBlocks::<C>::pack(Rows::new(format, n, k, &stored), &mut blocks, &mut scales);
    (blocks, scales, w)
}

/// NF4: codes and absmax as they are drawn.
fn nf4(n: usize, k: usize, inputs: &mut Inputs) -> Drawn<Nf4> {
    let (mut blocks, mut scales, mut w) = room::<Nf4>(n, k);
    let (codes, absmax) = (inputs.below(256, n * k / 2), inputs.normal(n * k / BLOCK));
    let codes: Vec<u8> = codes.into_iter().map(|x| x as u8).collect();
    PackedBlocks::<Nf4>::pack(RowNf4::new(n, k, BLOCK, &codes, &absmax), &mut blocks, &mut scales);
    // The plain loop has the levels as they are multiplied.
    for (i, w) in w.iter_mut().enumerate() {
        let level = LEVELS[usize::from(codes[i / 2] >> (4 * (1 - i % 2)) & 15)];
        *w = (level * 127.0).round() / 127.0 * absmax[i / BLOCK];
    }
    (blocks, scales, w)
}

/// A product with a format of ggml's.
fn format<C: OfFile>(d: &[usize], inputs: &mut Inputs) -> Body {
    Scaled::<C>::body(d, inputs, of_file::<C>)
}

struct Scaled<C: Codes> {
    x: Vec<f32>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    blocks: Vec<C::Block>,
    of_w: Vec<C::Scales>,
    /// The weight's own values, (n, k): what the plain loop reads.
    w: Vec<f32>,
    c: Vec<f32>,
    /// (m, n, k)
    shape: (usize, usize, usize),
}

impl<C: Codes> Scaled<C> {
    fn body(
        d: &[usize],
        inputs: &mut Inputs,
        draw: impl FnOnce(usize, usize, &mut Inputs) -> Drawn<C>,
    ) -> Body {
        let (m, n, k) = (d[0], d[1], d[2].next_multiple_of(BLOCK * C::Scales::BLOCKS));
        let (blocks, of_w, w) = draw(n, k, inputs);
        let (codes, scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
        // 64ths, the first of a block the largest: quantising loses nothing, so that the plain loop computes the same.
        let mut x: Vec<f32> =
            inputs.below(255, m * k).into_iter().map(|x| (x as f32 - 127.0) / 64.0).collect();
        x.iter_mut().step_by(BLOCK).for_each(|x| *x = 127.0 / 64.0);
        let c = filled(0.0, m * n);
        let state = Scaled { x, codes, scales, blocks, of_w, w, c, shape: (m, n, k) };
        Body::new(state, Scaled::<C>::ours, Scaled::<C>::plain, |s| s.c.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let (m, n, k) = self.shape;
        let part = super::parts(m, run) * k;
        let rows = self.x.chunks(part).zip(self.codes.chunks_mut(part));
        run.pool.run(rows.zip(self.scales.chunks_mut(part / BLOCK)), |((x, codes), scales), _| {
            quantize_blocks(run.cpu, x, codes, scales);
        });
        let a = Quantized {
            codes: MatRef::new(&self.codes, m, k),
            scales: MatRef::new(&self.scales, m, k / BLOCK),
        };
        let w = PackedBlocks::<C>::new(n, k, &self.blocks, &self.of_w);
        let job = GemmQ8::new(a, w, MatMut::new(&mut self.c, m, n));
        let lines = GemmQ8::<C>::scratch_len(m, k);
        super::cut(run, job, GemmQ8::pieces, |job, scratch| job.run(run.cpu, scratch.lines(lines)));
    }

    /// The product of the floats.
    fn plain(&mut self) {
        let (_, n, k) = self.shape;
        for (x, c) in self.x.chunks(k).zip(self.c.chunks_mut(n)) {
            for (w, c) in self.w.chunks(k).zip(c) {
                *c = w.iter().zip(x).map(|(w, x)| w * x).sum();
            }
        }
    }
}
