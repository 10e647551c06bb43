//! The matrix product: odd shapes over both sides of a block of 256, every kind of weights, the epilogue.

use super::{Golden, Random, hash};
use crate::Cpu;
use crate::kernels::activation::Activation;
use crate::kernels::bf16::{GemmBf16, PackedBf16};
use crate::kernels::gemm::{
    self, Accumulate, Bf16, Element, Epilogue, F16, Gemm, LowRank, PackedMatrix, Strided, Weights,
};
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{Line, half};

pub const CASES: &[Golden] = &[
    Golden { name: "gemm/13×37×600", hash: 0x7276c2d7660f8b39, run: |cpu| strided(cpu, 13, 37, 600) },
    Golden { name: "gemm/1×65×300", hash: 0x65669daff31af4de, run: |cpu| strided(cpu, 1, 65, 300) },
    Golden { name: "gemm/epilogue", hash: 0xaa7e195d1c5a15d6, run: epilogue },
    Golden { name: "gemm/bf16", hash: 0x2e489cac797ad82f, run: bf16 },
    Golden { name: "gemm/low rank", hash: 0x67fd864ef7a896ab, run: low_rank },
    Golden { name: "gemm_bf16/1, 7 and 20 rows", hash: 0x0c1777ce48603fda, run: both_bf16 },
    Golden { name: "gemm/f16", hash: 0x78678f1180bf5ff3, run: f16 },
];

fn run<W: Weights>(cpu: Cpu, job: Gemm<'_, W>) {
    let mut scratch = vec![Line::ZERO; job.scratch_len()];
    job.run(cpu, &mut scratch);
}

fn strided(cpu: Cpu, m: usize, n: usize, k: usize) -> u64 {
    let (a, b) = (Random::new(1).normal(m * k), Random::new(2).normal(n * k));
    let mut c = vec![0.0; m * n];
    let w = MatRef::new(&b, n, k).t();
    run(cpu, Gemm::new(MatRef::new(&a, m, k), Strided(w), MatMut::new(&mut c, m, n)));
    hash(&c)
}

/// Added to C, then bias, GELU, residual.
fn epilogue(cpu: Cpu) -> u64 {
    let (m, n, k) = (14, 35, 270);
    let (a, b, r) = (Random::new(3).vec(m * k), Random::new(4).vec(k * n), Random::new(5).vec(m * n));
    let (bias, mut c) = (Random::new(6).vec(n), Random::new(7).vec(m * n));
    let residual = Some(MatRef::new(&r, m, n));
    let job = Gemm {
        accumulate: Accumulate::Add,
        epilogue: Epilogue { bias: Some(&bias), activation: Activation::GeluErf, residual, low_rank: None },
        ..Gemm::new(MatRef::new(&a, m, k), Strided(MatRef::new(&b, k, n)), MatMut::new(&mut c, m, n))
    };
    run(cpu, job);
    hash(&c)
}

/// An adapter's product added to that of its base.
fn low_rank(cpu: Cpu) -> u64 {
    let (m, n, k, r) = (27, 70, 270, 9);
    let (a, b) = (Random::new(10).vec(m * k), Random::new(11).vec(k * n));
    let (h, low) = (Random::new(12).vec(m * r), Random::new(13).vec(n * r));
    let mut groups = vec![[Line::ZERO; gemm::GROUP]; gemm::packed_len(r, n)];
    gemm::pack::<f32>(cpu, MatRef::new(&low, n, r).t(), &mut groups);
    let low_rank = LowRank { h: MatRef::new(&h, m, r), b: PackedMatrix::new(&groups, r, n) };
    let mut c = vec![0.0; m * n];
    let job = Gemm::new(MatRef::new(&a, m, k), Strided(MatRef::new(&b, k, n)), MatMut::new(&mut c, m, n));
    run(cpu, Gemm { epilogue: Epilogue { low_rank: Some(low_rank), ..Epilogue::NONE }, ..job });
    hash(&c)
}

fn bf16(cpu: Cpu) -> u64 {
    let bits: Vec<u16> = Random::new(9).normal(33 * 300).into_iter().map(half::f32_to_bf16).collect();
    packed::<Bf16>(cpu, Bf16::slice(&bits))
}

/// Both sides rounded, some of them too small to count.
fn both_bf16(cpu: Cpu) -> u64 {
    let (n, k) = (40, 1350);
    let small = |x: Vec<f32>| -> Vec<f32> {
        x.iter().enumerate().map(|(i, x)| x / (1u64 << (i % 57)) as f32).collect()
    };
    let bits: Vec<u16> = small(Random::new(9).normal(n * k)).into_iter().map(half::f32_to_bf16).collect();
    let mut groups = vec![Bf16::ZERO; gemm::packed_len(k, n)];
    let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&bits), k, n), &mut groups);
    let mut out = Vec::new();
    for m in [1, 7, 20] {
        let a = small(Random::new(8).normal(m * k));
        let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmBf16::scratch_len(m, k, n)]);
        GemmBf16::new(MatRef::new(&a, m, k), b, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
        out.extend(c);
    }
    hash(&out)
}

fn f16(cpu: Cpu) -> u64 {
    let bits: Vec<u16> = Random::new(9).normal(33 * 300).into_iter().map(half::f32_to_f16).collect();
    packed::<F16>(cpu, F16::slice(&bits))
}

/// (9, 300) times packed halves (300, 33).
fn packed<E: Element>(cpu: Cpu, b: &[E]) -> u64 {
    let (m, n, k) = (9, 33, 300);
    let a = Random::new(8).vec(m * k);
    let mut groups = vec![E::ZERO; gemm::packed_len(k, n)];
    gemm::pack::<E>(cpu, MatRef::new(b, k, n), &mut groups);
    let mut c = vec![0.0; m * n];
    run(
        cpu,
        Gemm::new(MatRef::new(&a, m, k), PackedMatrix::<E>::new(&groups, k, n), MatMut::new(&mut c, m, n)),
    );
    hash(&c)
}
