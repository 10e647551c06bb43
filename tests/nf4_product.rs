//! Products with NF4 weights: bit for bit decode, then multiply.

mod common;

use common::{Cpu, Random, Tier, assert_same, cpus, slow};
use samebits::kernels::activation::Activation;
use samebits::kernels::gemm::{Accumulate, Epilogue, Gemm, Strided};
use samebits::kernels::nf4::{
    self, CodeLine, PackedNf4, RowNf4, block_count, code_bytes, nf4_gemm, nf4_gemv,
};
use samebits::kernels::view::{Layout, MatMut, MatRef};
use samebits::kernels::{Line, gemm};

/// A weight (n, k), as rows, as panels, and decoded.
struct Weight {
    n: usize,
    k: usize,
    blocksize: usize,
    lines: Vec<CodeLine>,
    scales: Vec<Line>,
    decoded: Vec<f32>,
}

impl Weight {
    fn new(n: usize, k: usize, blocksize: usize) -> Self {
        let x = Random::new((n * 5000 + k) as u64).normal(n * k);
        let (mut codes, mut absmax) = (vec![0; code_bytes(n * k)], vec![0.0; block_count(n * k, blocksize)]);
        nf4::quantize(Cpu::detect(), &x, blocksize, &mut codes, &mut absmax).unwrap();
        Weight::of(n, k, blocksize, &codes, &absmax)
    }

    fn of(n: usize, k: usize, blocksize: usize, codes: &[u8], absmax: &[f32]) -> Self {
        let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
        let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, blocksize)];
        PackedNf4::pack(RowNf4::new(n, k, blocksize, codes, absmax), &mut lines, &mut scales);
        let mut decoded = vec![0.0; n * k];
        nf4::dequantize(Cpu::detect(), codes, absmax, blocksize, &mut decoded);
        Weight { n, k, blocksize, lines, scales, decoded }
    }

    fn packed(&self) -> PackedNf4<'_> {
        PackedNf4::new(self.n, self.k, self.blocksize, &self.lines, &self.scales)
    }

    /// Clause 1 in plain loops.
    fn twin(&self, a: &[f32], m: usize) -> Vec<f32> {
        let (n, k) = (self.n, self.k);
        let one = |i: usize, j: usize| {
            let (a, w) = (&a[i * k..][..k], &self.decoded[j * k..][..k]);
            a.chunks(256).zip(w.chunks(256)).fold(0.0f32, |sum, (a, w)| {
                sum + a.iter().zip(w).fold(0.0f32, |acc, (&a, &w)| a.mul_add(w, acc))
            })
        };
        (0..m * n).map(|i| one(i / n, i % n)).collect()
    }

    fn times(&self, cpu: Cpu, a: &[f32], m: usize) -> Vec<f32> {
        let mut c = vec![f32::NAN; m * self.n];
        let job = Gemm::new(MatRef::new(a, m, self.k), self.packed(), MatMut::new(&mut c, m, self.n));
        let mut scratch = vec![Line([f32::NAN; 16]); job.scratch_len()];
        job.run(cpu, &mut scratch);
        c
    }
}

/// Scale lines a block, a part of a block, and a row of k; n and k of every remainder.
const SHAPES: [(usize, usize, usize); 14] = [
    (16, 64, 64),
    (1, 8, 8),
    (17, 128, 64),
    (40, 256, 32),
    (70, 320, 64),
    (33, 264, 24),
    (65, 520, 4096),
    (16, 768, 512),
    (31, 7, 64),
    (9, 1, 3),
    (20, 100, 64),
    (48, 257, 100),
    (1, 300, 64),
    (5, 0, 64),
];

#[test]
fn every_shape_is_decode_then_multiply() {
    for (n, k, blocksize) in SHAPES {
        let weight = Weight::new(n, k, blocksize);
        for m in [0, 1, 2, 3, 5, 8, 9, 13, 25] {
            let a = Random::new(m as u64 + 7).normal(m * k);
            let want = weight.twin(&a, m);
            for cpu in cpus() {
                if cpu.tier() == Tier::Scalar && slow() && n * k * m > 60_000 {
                    continue;
                }
                let what = format!("({m}, {k}) · ({n}, {k})ᵀ in blocks of {blocksize} on {}", cpu.tier());
                assert_same(&weight.times(cpu, &a, m), &want, &what);
            }
        }
    }
}

#[test]
fn gemv_and_gemm_by_name() {
    let weight = Weight::new(40, 128, 64);
    let x = Random::new(1).normal(128);
    let mut scratch = vec![Line::ZERO; gemm::scratch_len::<PackedNf4<'_>>(1, 128)];
    for cpu in cpus() {
        let (mut y, mut c) = (vec![0.0; 40], vec![0.0; 40]);
        nf4_gemv(cpu, &x, weight.packed(), &mut y, &mut scratch);
        nf4_gemm(cpu, MatRef::new(&x, 1, 128), weight.packed(), MatMut::new(&mut c, 1, 40), &mut scratch);
        assert_same(&y, &weight.twin(&x, 1), cpu.tier());
        assert_same(&y, &c, cpu.tier());
    }
}

#[test]
fn views_epilogues_and_pieces_are_those_of_gemm() {
    let (m, n, k) = (11, 300, 192);
    for blocksize in [64, 100] {
        let weight = Weight::new(n, k, blocksize);
        let mut random = Random::new(3);
        let (a, prior, bias) = (random.normal(m * k), random.normal(m * n), random.normal(n));
        // A lies column after column, C has gaps.
        let layout = Layout { rows: m, cols: k, row_stride: 1, col_stride: m as isize };
        let gaps = Layout { rows: m, cols: n, row_stride: n as isize + 3, col_stride: 1 };
        for rows in [m, 1, 4] {
            let a = MatRef::strided(&a, 0, layout).sub(0..rows, 0..k);
            let prepare = || {
                let mut c = vec![7.0; m * (n + 3)];
                for (c, prior) in c.chunks_mut(n + 3).zip(prior.chunks(n)) {
                    c[..n].copy_from_slice(prior);
                }
                c
            };
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::NONE };
            for cpu in cpus() {
                let mut want = prepare();
                let mut scratch = vec![Line::ZERO; 1 << 14];
                Gemm {
                    a,
                    b: Strided(MatRef::new(&weight.decoded, n, k).t()),
                    c: MatMut::strided(&mut want, 0, gaps).sub(0..rows, 0..n),
                    accumulate: Accumulate::Add,
                    epilogue,
                }
                .run(cpu, &mut scratch);
                let mut whole = prepare();
                let mut parts = prepare();
                for (got, cut) in [(&mut whole, None), (&mut parts, Some(()))] {
                    let job = Gemm {
                        a,
                        b: weight.packed(),
                        c: MatMut::strided(got, 0, gaps).sub(0..rows, 0..n),
                        accumulate: Accumulate::Add,
                        epilogue,
                    };
                    match cut {
                        None => job.run(cpu, &mut scratch),
                        Some(()) => job.pieces().for_each(|piece| piece.run(cpu, &mut scratch)),
                    }
                }
                assert_same(&whole, &want, format!("{rows} rows on {}", cpu.tier()));
                assert_same(&parts, &want, format!("{rows} rows in pieces on {}", cpu.tier()));
            }
        }
    }
}

#[test]
fn padding_is_never_seen_and_bad_scales_stay_where_they_are() {
    // x holds an infinity: a padded column would be NaN. An absmax of NaN or ∞ spoils its own column alone.
    let (n, k) = (5, 72);
    let codes: Vec<u8> = (0..n * k / 2).map(|i| (i * 89 % 256) as u8 & 0xee).collect();
    let mut absmax = vec![1.0; n * k / 8];
    (absmax[9 + 3], absmax[2 * 9]) = (f32::NAN, f32::INFINITY);
    let weight = Weight::of(n, k, 8, &codes, &absmax);
    for at in [0, 31, 71] {
        let mut x = Random::new(2).normal(3 * k);
        x[at] = f32::INFINITY;
        for m in [1, 3] {
            let want = weight.twin(&x, m);
            assert!(want[0].is_infinite() && want[1].is_nan(), "{want:?}");
            for cpu in cpus() {
                assert_same(&weight.times(cpu, &x, m), &want, cpu.tier());
            }
        }
    }
}

#[test]
fn truth_in_f64() {
    let (n, k) = (24, 1024);
    let weight = Weight::new(n, k, 64);
    let a = Random::new(9).normal(k);
    let got = weight.times(Cpu::detect(), &a, 1);
    for (j, got) in got.iter().enumerate() {
        let terms = |f: fn(f64) -> f64| {
            let w = &weight.decoded[j * k..][..k];
            a.iter().zip(w).map(|(&a, &w)| f(f64::from(a) * f64::from(w))).sum::<f64>()
        };
        let error = (f64::from(*got) - terms(|x| x)).abs();
        assert!(error <= 32.0 * common::U * terms(f64::abs), "column {j}: {error:e}");
    }
}
