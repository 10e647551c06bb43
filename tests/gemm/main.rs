//! gemm: twin, exact integers, strides, semantics, truth.

#[path = "../common/mod.rs"]
mod common;
mod exact;
mod low_rank;
mod semantics;
mod truth;
mod ways;

use common::{Random, assert_same, cpus};
use samebits::kernels::activation::Activation;
use samebits::kernels::gemm::{self, Bf16, Element, Epilogue, F16, Gemm, PackedMatrix, Strided, Weights};
use samebits::kernels::half;
use samebits::kernels::simd::fma;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{Cpu, Line};

/// Clause 1 in plain loops: blocks of 256 from k = 0, one chain each, added in order.
pub(crate) fn twin(a: MatRef<'_>, b: MatRef<'_>, c0: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    let mut c = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let mut sum = c0(i, j);
            for k0 in (0..k).step_by(256) {
                let mut chain = 0.0;
                for kk in k0..k.min(k0 + 256) {
                    chain = fma(a.get(i, kk), b.get(kk, j), chain);
                }
                sum += chain;
            }
            c[i * n + j] = sum;
        }
    }
    c
}

pub(crate) fn run<W: Weights>(cpu: Cpu, job: Gemm<'_, W>) {
    let mut scratch = vec![Line([f32::NAN; 16]); job.scratch_len()];
    job.run(cpu, &mut scratch);
}

pub(crate) fn packed(cpu: Cpu, b: MatRef<'_>) -> Vec<[Line; 8]> {
    let mut out = vec![[Line([f32::NAN; 16]); 8]; gemm::packed_len(b.rows(), b.cols())];
    gemm::pack(cpu, b, &mut out);
    out
}

#[test]
fn twin_on_every_tier_for_odd_shapes_packed_and_strided() {
    let mut random = Random::new(1);
    let shapes = [
        (1, 1, 1),
        (1, 17, 5),
        (2, 33, 257),
        (3, 16, 256),
        (4, 48, 511),
        (5, 31, 513),
        (6, 64, 64),
        (7, 15, 300),
        (8, 40, 1030),
        (9, 32, 12),
        (12, 32, 512),
        (13, 47, 520),
        (25, 70, 40),
        (250, 19, 9),
        // Slivers of eight, nine and eleven panels, two and three passes over k.
        (11, 160, 801),
        (17, 131, 1540),
        (195, 170, 770),
    ];
    for (m, n, k) in shapes {
        let (a, b) = (random.vec(m * k), random.vec(k * n));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let want = twin(a, b, |_, _| 0.0);
        for cpu in cpus() {
            let mut c = vec![f32::NAN; m * n];
            run(cpu, Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n)));
            assert_same(&c, &want, format!("{cpu:?} strided {m}×{n}×{k}"));
            let groups = packed(cpu, b);
            c.fill(f32::NAN);
            run(cpu, Gemm::new(a, PackedMatrix::<f32>::new(&groups, k, n), MatMut::new(&mut c, m, n)));
            assert_same(&c, &want, format!("{cpu:?} packed {m}×{n}×{k}"));
        }
    }
}

/// bf16 and f16 panels: the same bits as the product with the widened weights.
#[test]
fn half_weights_are_widened_exactly_then_go_the_same_way() {
    let mut random = Random::new(2);
    for (m, n, k) in [(1, 40, 300), (3, 16, 257), (8, 33, 64), (9, 50, 520)] {
        let a = random.vec(m * k);
        let bits: Vec<u16> = (0..k * n).map(|_| half::f32_to_bf16(random.unit())).collect();
        let halves: Vec<u16> = (0..k * n).map(|_| half::f32_to_f16(random.unit() * 1e-3)).collect();
        let wide = |bits: &[u16], f: fn(u16) -> f32| bits.iter().map(|&b| f(b)).collect::<Vec<f32>>();
        let (from_bf16, from_f16) = (wide(&bits, half::bf16_to_f32), wide(&halves, half::f16_to_f32));
        let a = MatRef::new(&a, m, k);
        for cpu in cpus() {
            let mut c = vec![f32::NAN; m * n];
            let mut groups = vec![Bf16::ZERO; gemm::packed_len(k, n)];
            gemm::pack::<Bf16>(cpu, MatRef::new(Bf16::slice(&bits), k, n), &mut groups);
            run(cpu, Gemm::new(a, PackedMatrix::<Bf16>::new(&groups, k, n), MatMut::new(&mut c, m, n)));
            let want = twin(a, MatRef::new(&from_bf16, k, n), |_, _| 0.0);
            assert_same(&c, &want, format!("{cpu:?} bf16 {m}×{n}×{k}"));
            let mut groups = vec![F16::ZERO; gemm::packed_len(k, n)];
            gemm::pack::<F16>(cpu, MatRef::new(F16::slice(&halves), k, n), &mut groups);
            run(cpu, Gemm::new(a, PackedMatrix::<F16>::new(&groups, k, n), MatMut::new(&mut c, m, n)));
            let want = twin(a, MatRef::new(&from_f16, k, n), |_, _| 0.0);
            assert_same(&c, &want, format!("{cpu:?} f16 {m}×{n}×{k}"));
        }
    }
}

/// A row of a product is the product of that row, whatever stands beside it: gemv = gemm, any batch.
#[test]
fn a_row_does_not_know_its_batch() {
    let mut random = Random::new(3);
    let (m, n, k) = (33, 37, 600);
    let (a, b) = (random.vec(m * k), random.vec(n * k));
    let (a, w) = (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t());
    for cpu in cpus() {
        let groups = packed(cpu, w);
        let b = PackedMatrix::<f32>::new(&groups, k, n);
        let mut whole = vec![0.0; m * n];
        run(cpu, Gemm::new(a, b, MatMut::new(&mut whole, m, n)));
        for batch in [1, 2, 3, 8, 9, 33] {
            let mut part = vec![0.0; batch * n];
            run(cpu, Gemm::new(a.sub(0..batch, 0..k), b, MatMut::new(&mut part, batch, n)));
            assert_same(&part, &whole[..batch * n], format!("{cpu:?} packed, batch {batch}"));
            part.fill(f32::NAN);
            run(cpu, Gemm::new(a.sub(0..batch, 0..k), Strided(w), MatMut::new(&mut part, batch, n)));
            assert_same(&part, &whole[..batch * n], format!("{cpu:?} row-major (n, k), batch {batch}"));
        }
    }
}

/// Pieces in any order give what the whole gives.
#[test]
fn pieces_give_the_same_bits_as_the_whole() {
    let mut random = Random::new(4);
    let shapes: &[_] =
        if common::slow() { &[(300, 90, 33)] } else { &[(300, 600, 300), (700, 530, 260), (1, 5000, 300)] };
    for &(m, n, k) in shapes {
        let (a, b, r) = (random.vec(m * k), random.vec(n * k), random.vec(m * n));
        let bias = random.vec(n);
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Activation::Silu,
            residual: Some(MatRef::new(&r, m, n)),
            low_rank: None,
        };
        for cpu in common::simd_cpus() {
            let mut whole = vec![f32::NAN; m * n];
            run(cpu, Gemm { epilogue, ..Gemm::new(a, Strided(b), MatMut::new(&mut whole, m, n)) });
            let groups = packed(cpu, b);
            let mut parts = vec![f32::NAN; m * n];
            let job = Gemm { epilogue, ..Gemm::new(a, Strided(b), MatMut::new(&mut parts, m, n)) };
            let mut pieces: Vec<_> = job.pieces().collect();
            pieces.reverse();
            pieces.into_iter().for_each(|piece| run(cpu, piece));
            assert_same(&parts, &whole, format!("{cpu:?} strided pieces {m}×{n}×{k}"));
            parts.fill(f32::NAN);
            let b = PackedMatrix::<f32>::new(&groups, k, n);
            let job = Gemm { epilogue, ..Gemm::new(a, b, MatMut::new(&mut parts, m, n)) };
            let mut pieces: Vec<_> = job.pieces().collect();
            pieces.reverse();
            pieces.into_iter().for_each(|piece| run(cpu, piece));
            assert_same(&parts, &whole, format!("{cpu:?} packed pieces {m}×{n}×{k}"));
        }
    }
}
