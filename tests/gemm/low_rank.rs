//! A product of low rank that is added on the way to C: the bits of two products one after the other, whatever follows the
//! sum before it and however the product goes.

use super::common::{self, Random, assert_same, cpus};
use super::{packed, run, twin};
use samebits::kernels::Cpu;
use samebits::kernels::activation::Activation;
use samebits::kernels::gemm::{
    Accumulate, Epilogue, Gemm, LowRank, PackedMatrix, Strided, Transposed, Turned, Weights,
};
use samebits::kernels::view::{MatMut, MatRef};

/// One product, the epilogue before its low rank, and what C held.
struct Case<'a> {
    a: MatRef<'a>,
    h: MatRef<'a>,
    low: MatRef<'a>,
    epilogue: Epilogue<'a>,
    prior: &'a [f32],
}

impl Case<'_> {
    /// In C, whole and in pieces, over the weights `b`; `want` are the bits of two products.
    fn check<W: Weights>(&self, cpu: Cpu, b: W, what: &str) {
        let Case { a, h, low, epilogue, prior } = *self;
        let (m, n) = (a.rows(), b.shape().1);
        let mut base = prior.to_vec();
        let job = Gemm::new(a, b, MatMut::new(&mut base, m, n));
        run(cpu, Gemm { accumulate: Accumulate::Add, epilogue, ..job });
        let want = twin(h, low, |i, j| base[i * n + j]);
        let groups = packed(cpu, low);
        let low_rank = Some(LowRank { h, b: PackedMatrix::new(&groups, low.rows(), n) });
        let epilogue = Epilogue { low_rank, ..epilogue };
        let mut c = prior.to_vec();
        let job = Gemm::new(a, b, MatMut::new(&mut c, m, n));
        run(cpu, Gemm { accumulate: Accumulate::Add, epilogue, ..job });
        assert_same(&c, &want, what);
        c.copy_from_slice(prior);
        let job = Gemm::new(a, b, MatMut::new(&mut c, m, n));
        let job = Gemm { accumulate: Accumulate::Add, epilogue, ..job };
        let mut pieces: Vec<_> = job.pieces().collect();
        pieces.reverse();
        pieces.into_iter().for_each(|piece| run(cpu, piece));
        assert_same(&c, &want, format!("{what}, in pieces"));
    }
}

#[test]
fn a_low_rank_is_a_second_product() {
    let mut random = Random::new(71);
    let shapes: &[_] = match common::slow() {
        true => &[(13, 50, 40, 8), (14, 33, 530, 3)],
        false => &[
            (1, 50, 20, 8),
            (3, 70, 300, 1),
            (8, 33, 40, 16),
            (13, 32, 520, 8),
            (14, 50, 40, 300),
            (26, 167, 600, 5),
            (100, 160, 264, 8),
            (5, 1040, 300, 4),
            (230, 400, 64, 64),
        ],
    };
    for &(m, n, k, r) in shapes {
        let (a, b) = (random.vec(m * k), random.vec(n * k));
        let (h, low) = (random.vec(m * r), random.vec(n * r));
        let (bias, residual, prior) = (random.vec(n), random.vec(m * n), random.vec(m * n));
        let (a, b, h) = (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t(), MatRef::new(&h, m, r));
        let low = MatRef::new(&low, n, r).t();
        let residual = Some(MatRef::new(&residual, m, n));
        let full = Epilogue { bias: Some(&bias), activation: Activation::Silu, residual, low_rank: None };
        for cpu in cpus() {
            for (epilogue, after) in [(Epilogue::NONE, "alone"), (full, "after all")] {
                let case = Case { a, h, low, epilogue, prior: &prior };
                let what = |kind| format!("{cpu:?} {m}×{n}×{k}, rank {r} {after}, {kind}");
                case.check(cpu, Strided(b), &what("strided"));
                let groups = packed(cpu, b);
                case.check(cpu, PackedMatrix::<f32>::new(&groups, k, n), &what("packed"));
                let groups = packed(cpu, b.t());
                let turned = Turned::F32(PackedMatrix::new(&groups, n, k));
                case.check(cpu, Transposed::new(turned), &what("turned"));
            }
        }
    }
}

#[test]
fn a_low_rank_that_does_not_fit_is_named() {
    let x = [0.0; 64];
    let wrong = |h: MatRef<'_>, rank: usize, n: usize| {
        let groups = packed(Cpu::detect(), MatRef::new(&x[..rank * n], rank, n));
        let low_rank = Some(LowRank { h, b: PackedMatrix::new(&groups, rank, n) });
        let epilogue = Epilogue { low_rank, ..Epilogue::NONE };
        let mut c = [0.0; 10];
        let job = Gemm::new(
            MatRef::new(&x[..6], 2, 3),
            Strided(MatRef::new(&x[..15], 3, 5)),
            MatMut::new(&mut c, 2, 5),
        );
        let go = std::panic::AssertUnwindSafe(|| run(Cpu::detect(), Gemm { epilogue, ..job }));
        let message = std::panic::catch_unwind(go).unwrap_err();
        message.downcast_ref::<String>().cloned().unwrap_or_default()
            + message.downcast_ref::<&str>().unwrap_or(&"")
    };
    let message = wrong(MatRef::new(&x[..6], 3, 2), 2, 5);
    assert!(message.contains("low rank (3, 2) · (2, 5) for C (2, 5)"), "{message}");
    let message = wrong(MatRef::new(&x[..4], 2, 2), 2, 6);
    assert!(message.contains("low rank (2, 2) · (2, 6) for C (2, 5)"), "{message}");
    let message = wrong(MatRef::new(&x[..4], 2, 2).t(), 2, 5);
    assert!(message.contains("lie across memory"), "{message}");
}
