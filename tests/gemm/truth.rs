//! Against f64: at most 32 u Σ|a||b| for every k to 65,536, on data that hides nothing.

use crate::common::{self, Random, U, simd_cpus};
use crate::run;
use samebits::kernels::gemm::{Gemm, Strided};
use samebits::kernels::view::{MatMut, MatRef};

/// netlib's gate (16 eps = 32 u), at depths far beyond its own.
const GATE: f64 = 32.0 * U;

#[test]
fn within_the_gate_for_every_depth_and_kind_of_data() {
    let mut random = Random::new(20);
    let all = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127, 255, 256, 257, 511, 513, 4095, 65536];
    let depths = if common::slow() { &all[..19] } else { &all[..] };
    let (m, n) = (7, 35);
    for &k in depths {
        for kind in ["positive", "mixed", "cancelling"] {
            let value = |random: &mut Random, i: usize| match kind {
                "positive" => random.unit().abs(),
                "mixed" => random.unit(),
                _ => (1.0 + random.unit() * 1e-3) * if i.is_multiple_of(2) { 1.0 } else { -1.0 },
            };
            let a: Vec<f32> = (0..m * k).map(|i| value(&mut random, i)).collect();
            let b: Vec<f32> = (0..n * k).map(|_| value(&mut random, 0)).collect();
            for cpu in simd_cpus() {
                let mut c = vec![f32::NAN; m * n];
                let (a_view, b_view) = (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t());
                run(cpu, Gemm::new(a_view, Strided(b_view), MatMut::new(&mut c, m, n)));
                check(&a, &b, &c, (m, n, k), &format!("{cpu:?} {kind} k = {k}"));
            }
        }
    }
}

fn check(a: &[f32], b: &[f32], c: &[f32], (m, n, k): (usize, usize, usize), what: &str) {
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut gauge) = (0.0, 0.0);
            for (x, y) in a[i * k..][..k].iter().zip(&b[j * k..][..k]) {
                let product = f64::from(*x) * f64::from(*y);
                sum += product;
                gauge += product.abs();
            }
            let error = (f64::from(c[i * n + j]) - sum).abs();
            assert!(error <= GATE * gauge, "{what}: error {:.1} u Σ|a||b| at ({i}, {j})", error / gauge / U);
        }
    }
}
