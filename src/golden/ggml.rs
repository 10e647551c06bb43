//! The block formats of ggml: decoded values, quantised bytes, products.

use super::{Golden, Hash, Random};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::gemm::{Gemm, Weights};
use crate::kernels::ggml::{
    Code8, Format, HalfLine, Packed4, Packed8, Rows, code_len, dequantize, quantize_q4_0, quantize_q8_0,
    scale_len,
};
use crate::kernels::nf4::CodeLine;
use crate::kernels::view::{MatMut, MatRef};

pub const CASES: &[Golden] = &[
    Golden { name: "ggml/decoding of every format", hash: 0x897f5958755e89d9, run: decode },
    Golden { name: "ggml/quantising to Q8_0 and Q4_0", hash: 0xa9e0e1a0562e27b1, run: quantise },
    Golden { name: "ggml/gemv and gemm, Q8_0 panels", hash: 0x9cd119007e975e69, run: eight },
    Golden { name: "ggml/gemv and gemm, Q4_0 panels", hash: 0xe0dc8dd2b159ae09, run: four },
    Golden {
        name: "ggml/gemv and gemm, Q6_K rows",
        hash: 0x59156ee4e9a5e2d5,
        run: |cpu| rows(cpu, Format::Q6K, &[208]),
    },
    Golden {
        name: "ggml/gemv and gemm, Q5_1 rows",
        hash: 0x83a2c8e0cbac5bd2,
        run: |cpu| rows(cpu, Format::Q5_1, &[0, 2]),
    },
];

/// Bits drawn at random, scales among them: now and then infinite or no number.
fn blocks(format: Format, len: usize) -> Vec<u8> {
    let mut random = Random::new(len as u64 + format as u64);
    (0..format.bytes(len)).map(|_| random.bits() as u8).collect()
}

fn decode(cpu: Cpu) -> u64 {
    let each = |hash: Hash, format: Format| {
        let mut out = vec![0.0; 1024];
        dequantize(cpu, format, &blocks(format, 1024), &mut out);
        hash.floats(&out)
    };
    Format::ALL.into_iter().fold(Hash::default(), each).0
}

/// A weight's blocks, by quantising.
fn quantised(cpu: Cpu, format: Format, len: usize) -> Vec<u8> {
    let x = Random::new(len as u64).normal(len);
    let mut out = vec![0; format.bytes(len)];
    let quantize = if format == Format::Q8_0 { quantize_q8_0 } else { quantize_q4_0 };
    quantize(cpu, &x, &mut out).expect("finite");
    out
}

fn quantise(cpu: Cpu) -> u64 {
    let both = [Format::Q8_0, Format::Q4_0].map(|format| quantised(cpu, format, 4096));
    Hash::default().bytes(&both[0]).bytes(&both[1]).0
}

const N: usize = 40;
const K: usize = 512;

fn eight(cpu: Cpu) -> u64 {
    let blocks = quantised(cpu, Format::Q8_0, N * K);
    let (mut codes, mut scales) = (vec![Code8::ZERO; code_len(N, K)], vec![HalfLine::ZERO; scale_len(N, K)]);
    products(cpu, Packed8::pack(Rows::new(Format::Q8_0, N, K, &blocks), &mut codes, &mut scales))
}

fn four(cpu: Cpu) -> u64 {
    let blocks = quantised(cpu, Format::Q4_0, N * K);
    let mut codes = vec![CodeLine::ZERO; code_len(N, K)];
    let mut scales = vec![HalfLine::ZERO; scale_len(N, K)];
    products(cpu, Packed4::pack(Rows::new(Format::Q4_0, N, K, &blocks), &mut codes, &mut scales))
}

/// Blocks whose halves, at these places, are finite: their highest exponent bit is cleared.
fn rows(cpu: Cpu, format: Format, halves: &[usize]) -> u64 {
    let mut blocks = blocks(format, N * K);
    for block in blocks.chunks_exact_mut(format.block_bytes()) {
        halves.iter().for_each(|&at| block[at + 1] &= 0xbf);
    }
    products(cpu, Rows::new(format, N, K, &blocks))
}

/// One row, and nine.
fn products<W: Weights>(cpu: Cpu, w: W) -> u64 {
    let mut hash = Hash::default();
    for m in [1, 9] {
        let a = Random::new(m as u64).normal(m * K);
        let mut c = vec![0.0; m * N];
        let job = Gemm::new(MatRef::new(&a, m, K), w, MatMut::new(&mut c, m, N));
        let mut scratch = vec![Line::ZERO; job.scratch_len()];
        job.run(cpu, &mut scratch);
        hash = hash.floats(&c);
    }
    hash.0
}
