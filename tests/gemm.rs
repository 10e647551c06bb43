//! gemm: twin, exact integers, strides, semantics, truth.

mod common;

use common::{Random, assert_same, cpus};
use samebits::kernels::gemm::{self, Gemm, PackedMatrix, Strided, Weights};
use samebits::kernels::simd::fma;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{Cpu, Line};

/// Clause 1 in plain loops: blocks of 256 from k = 0, one chain each, added in order.
fn twin(a: MatRef<'_>, b: MatRef<'_>, c0: impl Fn(usize, usize) -> f32) -> Vec<f32> {
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

fn run<W: Weights>(cpu: Cpu, job: Gemm<'_, W>) {
    let mut scratch = vec![Line([f32::NAN; 16]); job.scratch_len()];
    job.run(cpu, &mut scratch);
}

fn packed(cpu: Cpu, b: MatRef<'_>) -> Vec<[Line; 8]> {
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
