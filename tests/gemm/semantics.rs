//! What gemm does at the edges: Overwrite never reads C, K = 0 is defined, NaN stays visible, the epilogue's order.

use crate::common::{Random, assert_same, cpus};
use crate::{packed, run, twin};
use samebits::kernels::activation::Activation;
use samebits::kernels::gemm::{self, Accumulate, Epilogue, Gemm, PackedMatrix, Strided};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{Cpu, Kernel, Line, simd::Simd};

#[test]
fn overwrite_never_reads_c_and_add_starts_from_it() {
    let mut random = Random::new(10);
    for (m, n, k) in [(1, 16, 8), (5, 17, 300), (12, 32, 513), (13, 33, 600), (25, 5, 40)] {
        let (a, b, c0) = (random.vec(m * k), random.vec(k * n), random.vec(m * n));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let (fresh, added) = (twin(a, b, |_, _| 0.0), twin(a, b, |i, j| c0[i * n + j]));
        for cpu in cpus() {
            let groups = packed(cpu, b);
            let pack = PackedMatrix::<f32>::new(&groups, k, n);
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0] {
                let mut c = vec![poison; m * n];
                run(cpu, Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n)));
                assert_same(&c, &fresh, format!("{cpu:?} over {poison}"));
                c.fill(poison);
                run(cpu, Gemm::new(a, pack, MatMut::new(&mut c, m, n)));
                assert_same(&c, &fresh, format!("{cpu:?} packed over {poison}"));
            }
            let mut c = c0.clone();
            let add = Accumulate::Add;
            run(cpu, Gemm { accumulate: add, ..Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n)) });
            assert_same(&c, &added, format!("{cpu:?} added {m}×{n}×{k}"));
            c.copy_from_slice(&c0);
            run(cpu, Gemm { accumulate: add, ..Gemm::new(a, pack, MatMut::new(&mut c, m, n)) });
            assert_same(&c, &added, format!("{cpu:?} packed, added {m}×{n}×{k}"));
        }
    }
}

#[test]
fn no_k_means_zero_or_the_prior_c_then_the_epilogue() {
    let bias = [1.0, -2.0, 3.0];
    let (a, b) = (MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 3));
    for cpu in cpus() {
        let mut c = [f32::NAN; 6];
        run(cpu, Gemm::new(a, Strided(b), MatMut::new(&mut c, 2, 3)));
        assert_same(&c, &[0.0; 6], "overwrite");
        let mut c = [-0.0, 1.0, f32::NAN, 2.0, -3.0, f32::INFINITY];
        let prior = c;
        let add = Accumulate::Add;
        run(cpu, Gemm { accumulate: add, ..Gemm::new(a, Strided(b), MatMut::new(&mut c, 2, 3)) });
        assert_same(&c, &prior, "add leaves C, -0 too");
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::NONE };
        run(cpu, Gemm { epilogue, ..Gemm::new(a, Strided(b), MatMut::new(&mut c, 2, 3)) });
        assert_same(&c, &[1.0, 0.0, 3.0, 1.0, 0.0, 3.0], "epilogue");
        for (m, n) in [(0, 3), (2, 0), (0, 0)] {
            let x = [0.0; 8];
            let (a, b) = (MatRef::new(&x, m, 2), MatRef::new(&x, 2, n));
            run(cpu, Gemm::new(a, Strided(b), MatMut::new(&mut [], m, n)));
        }
    }
}

/// 0 · ∞ and 0 · NaN are NaN: nothing is skipped because it is zero.
#[test]
fn nan_and_infinity_are_never_multiplied_away() {
    let (m, n, k) = (14, 35, 270);
    for cpu in cpus() {
        for (kk, bad) in [(0, f32::NAN), (255, f32::INFINITY), (256, f32::NEG_INFINITY), (269, f32::NAN)] {
            let a = vec![0.0; m * k];
            let mut b = vec![1.0; k * n];
            b[kk * n + 33] = bad;
            let mut c = vec![0.0; m * n];
            run(
                cpu,
                Gemm::new(MatRef::new(&a, m, k), Strided(MatRef::new(&b, k, n)), MatMut::new(&mut c, m, n)),
            );
            for (i, &x) in c.iter().enumerate() {
                assert_eq!(x.is_nan(), i % n == 33, "{cpu:?} {bad} at k = {kk}: element {i} is {x}");
            }
        }
    }
}

/// The activation of one value by the lane word itself.
struct One(Activation, f32);
impl Kernel for One {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        s.to_array(self.0.apply(s, s.splat(self.1)))[0]
    }
}

#[test]
fn bias_then_activation_then_residual() {
    let mut random = Random::new(11);
    let all = [
        Activation::Identity,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::GeluQuick,
        Activation::Silu,
    ];
    for (m, n, k) in [(1, 50, 20), (7, 19, 300), (26, 40, 700)] {
        let (a, b, bias, r) = (random.vec(m * k), random.vec(k * n), random.vec(n), random.vec(m * n));
        let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
        let sums = twin(a, b, |_, _| 0.0);
        for cpu in cpus() {
            for activation in all {
                let want: Vec<f32> = (0..m * n)
                    .map(|i| cpu.run(One(activation, sums[i] + bias[i % n])) + r[i / n + i % n * m])
                    .collect();
                let residual = MatRef::new(&r, n, m).t(); // column-major: any strides
                let epilogue =
                    Epilogue { bias: Some(&bias), activation, residual: Some(residual), low_rank: None };
                let mut c = vec![f32::NAN; m * n];
                run(cpu, Gemm { epilogue, ..Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n)) });
                assert_same(&c, &want, format!("{cpu:?} {activation:?} {m}×{n}×{k}"));
                let groups = packed(cpu, b);
                let pack = PackedMatrix::<f32>::new(&groups, k, n);
                run(cpu, Gemm { epilogue, ..Gemm::new(a, pack, MatMut::new(&mut c, m, n)) });
                assert_same(&c, &want, format!("{cpu:?} packed {activation:?} {m}×{n}×{k}"));
            }
        }
    }
}

/// The i-th matrix (d, d) of a batch.
fn square(x: &[f32], i: usize, d: usize) -> MatRef<'_> {
    MatRef::new(&x[i * d * d..][..d * d], d, d)
}

#[test]
fn a_batch_of_small_products_is_each_of_them() {
    let mut random = Random::new(12);
    let (count, d) = (10, 32);
    let (a, b) = (random.vec(count * d * d), random.vec(count * d * d));
    for cpu in cpus() {
        let mut c = vec![f32::NAN; count * d * d];
        let mut scratch = vec![Line::ZERO; gemm::scratch_len::<Strided>(d, d)];
        let jobs = c
            .chunks_mut(d * d)
            .enumerate()
            .map(|(i, c)| Gemm::new(square(&a, i, d), Strided(square(&b, i, d)), MatMut::new(c, d, d)));
        gemm::gemm_each(cpu, jobs, &mut scratch);
        for i in 0..count {
            let want = twin(square(&a, i, d), square(&b, i, d), |_, _| 0.0);
            assert_same(&c[i * d * d..][..d * d], &want, format!("{cpu:?} {i}"));
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let x = [0.0; 100];
    let wrong = |job: fn(&[f32], &mut [f32])| {
        let message = std::panic::catch_unwind(|| job(&[0.0; 100], &mut [0.0; 100])).unwrap_err();
        message.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let _ = x;
    let inner = wrong(|x, c| {
        run(
            Cpu::detect(),
            Gemm::new(MatRef::new(x, 2, 3), Strided(MatRef::new(x, 4, 5)), MatMut::new(c, 2, 5)),
        );
    });
    assert!(inner.contains("A (2, 3) · B (4, 5) → C (2, 5)"), "{inner}");
    let bias = wrong(|x, c| {
        let epilogue = Epilogue { bias: Some(&x[..4]), ..Epilogue::NONE };
        let (a, b) = (MatRef::new(x, 2, 3), Strided(MatRef::new(x, 3, 5)));
        run(Cpu::detect(), Gemm { epilogue, ..Gemm::new(a, b, MatMut::new(c, 2, 5)) });
    });
    assert!(bias.contains("bias of 4 for n = 5"), "{bias}");
    let scratch = wrong(|x, c| {
        let (a, b) = (MatRef::new(x, 2, 3), Strided(MatRef::new(x, 3, 5)));
        Gemm::new(a, b, MatMut::new(c, 2, 5)).run(Cpu::detect(), &mut []);
    });
    assert!(scratch.contains("0 lines of scratch"), "{scratch}");
}
