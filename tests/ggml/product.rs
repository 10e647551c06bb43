//! Products: bit for bit decode, then multiply.

use super::common::{self, Cpu, Random, Tier, assert_same, cpus, slow};
use super::{blocks, twin};
use samebits::kernels::activation::Activation;
use samebits::kernels::gemm::{Accumulate, Epilogue, Gemm, Strided, Weights};
use samebits::kernels::ggml::{
    Code8, Format, HalfLine, Packed4, Packed8, Rows, code_len, dequantize, scale_len,
};
use samebits::kernels::nf4::CodeLine;
use samebits::kernels::view::{Layout, MatMut, MatRef};
use samebits::kernels::{Line, gemm};

/// A weight (n, k): its blocks, packed where there are panels, and decoded.
struct Weight {
    format: Format,
    n: usize,
    k: usize,
    blocks: Vec<u8>,
    eight: Vec<Code8>,
    four: Vec<CodeLine>,
    scales: Vec<HalfLine>,
    decoded: Vec<f32>,
}

impl Weight {
    fn new(format: Format, n: usize, k: usize) -> Self {
        Weight::of(format, n, k, blocks(format, n * k / format.block_len(), (n * 5000 + k) as u64))
    }

    fn of(format: Format, n: usize, k: usize, blocks: Vec<u8>) -> Self {
        let decoded = twin::decode(format, &blocks);
        let rows = Rows::new(format, n, k, &blocks);
        let (mut eight, mut four) = (Vec::new(), Vec::new());
        let mut scales = vec![HalfLine([1; 16]); scale_len(n, k)];
        match format {
            Format::Q8_0 => {
                eight = vec![Code8([[9; 16]; 8]); code_len(n, k)];
                Packed8::pack(rows, &mut eight, &mut scales);
            }
            Format::Q4_0 | Format::Iq4Nl => {
                four = vec![CodeLine([9; 16]); code_len(n, k)];
                Packed4::pack(rows, &mut four, &mut scales);
            }
            _ => {}
        }
        Weight { format, n, k, blocks, eight, four, scales, decoded }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(self.format, self.n, self.k, &self.blocks)
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

    /// The product with rows of blocks, and with panels where the format has them.
    fn times(&self, cpu: Cpu, a: &[f32], m: usize) -> Vec<(&'static str, Vec<f32>)> {
        let (n, k) = (self.n, self.k);
        let mut all = vec![("rows", product(cpu, a, m, self.rows()))];
        match self.format {
            Format::Q8_0 => {
                all.push(("panels", product(cpu, a, m, Packed8::new(n, k, &self.eight, &self.scales))))
            }
            Format::Q4_0 | Format::Iq4Nl => {
                let w = Packed4::new(self.format, (n, k), &self.four, &self.scales);
                all.push(("panels", product(cpu, a, m, w)));
            }
            _ => {}
        }
        all
    }
}

fn product<W: Weights>(cpu: Cpu, a: &[f32], m: usize, w: W) -> Vec<f32> {
    let (k, n) = w.shape();
    let mut c = vec![f32::NAN; m * n];
    let job = Gemm::new(MatRef::new(a, m, k), w, MatMut::new(&mut c, m, n));
    let mut scratch = vec![Line([f32::NAN; 16]); job.scratch_len()];
    assert!(gemm::scratch_len::<W>(m, k) >= job.scratch_len());
    job.run(cpu, &mut scratch);
    c
}

#[test]
fn every_format_is_decode_then_multiply() {
    for format in Format::ALL {
        let shapes: &[(usize, usize)] = match format.block_len() {
            32 => &[(16, 64), (1, 32), (17, 128), (40, 256), (33, 288), (65, 544), (70, 1056), (5, 0)],
            _ => &[(16, 256), (1, 256), (33, 512), (40, 768), (5, 0)],
        };
        for &(n, k) in shapes {
            let weight = Weight::new(format, n, k);
            for m in [0, 1, 2, 3, 5, 8, 9, 13, 25] {
                let a = Random::new(m as u64 + 7).normal(m * k);
                let want = weight.twin(&a, m);
                for cpu in cpus() {
                    if cpu.tier() == Tier::Scalar && slow() && n * k * m > 60_000 {
                        continue;
                    }
                    for (way, got) in weight.times(cpu, &a, m) {
                        let what = format!("({m}, {k}) · {format} ({n}, {k})ᵀ, {way}, on {}", cpu.tier());
                        assert_same(&got, &want, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn views_epilogues_and_pieces_are_those_of_gemm() {
    let (m, n, k) = (11, 300, 256);
    for format in [Format::Q8_0, Format::Q4_0, Format::Q6K] {
        let weight = Weight::new(format, n, k);
        match format {
            Format::Q8_0 => as_gemm(m, &weight, Packed8::new(n, k, &weight.eight, &weight.scales)),
            Format::Q4_0 => as_gemm(m, &weight, Packed4::new(format, (n, k), &weight.four, &weight.scales)),
            _ => {}
        }
        as_gemm(m, &weight, weight.rows());
    }
}

fn as_gemm<W: Weights>(m: usize, weight: &Weight, w: W) {
    let (n, k) = (weight.n, weight.k);
    let mut random = Random::new(3);
    let (a, prior, bias) = (random.normal(m * k), random.normal(m * n), random.normal(n));
    // A lies column after column, C has gaps.
    let layout = Layout { rows: m, cols: k, row_stride: 1, col_stride: m as isize };
    let gaps = Layout { rows: m, cols: n, row_stride: n as isize + 3, col_stride: 1 };
    for rows in [m, 1, 4] {
        let a = MatRef::strided(&a, 0, layout).sub(0..rows, 0..k);
        let row: Vec<f32> = (0..k).map(|i| a.get(0, i)).collect();
        // One row side by side too: it goes another way.
        for a in [a, MatRef::new(&row, 1, k)] {
            let rows = a.rows();
            let prepare = || {
                let mut c = vec![7.0; m * (n + 3)];
                for (c, prior) in c.chunks_mut(n + 3).zip(prior.chunks(n)) {
                    c[..n].copy_from_slice(prior);
                }
                c
            };
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::NONE };
            for cpu in cpus() {
                let mut scratch = vec![Line::ZERO; 1 << 14];
                let (mut want, mut whole, mut parts) = (prepare(), prepare(), prepare());
                let c = MatMut::strided(&mut want, 0, gaps).sub(0..rows, 0..n);
                let b = Strided(MatRef::new(&weight.decoded, n, k).t());
                Gemm { a, b, c, accumulate: Accumulate::Add, epilogue }.run(cpu, &mut scratch);
                let job = |c| Gemm { a, b: w, c, accumulate: Accumulate::Add, epilogue };
                job(MatMut::strided(&mut whole, 0, gaps).sub(0..rows, 0..n)).run(cpu, &mut scratch);
                let cut = job(MatMut::strided(&mut parts, 0, gaps).sub(0..rows, 0..n)).pieces();
                cut.for_each(|piece| piece.run(cpu, &mut scratch));
                assert_same(&whole, &want, format!("{}, {rows} rows on {}", weight.format, cpu.tier()));
                assert_same(
                    &parts,
                    &want,
                    format!("{}, {rows} rows in pieces on {}", weight.format, cpu.tier()),
                );
            }
        }
    }
}

#[test]
fn bad_scales_stay_where_they_are() {
    // x holds an infinity: a padded column would be NaN. A scale of NaN or ∞ spoils its own column alone.
    let (n, k) = (5, 96);
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1] {
        let mut blocks = blocks(format, n * k / 32, 1);
        let mut spoil = |block: usize, half: u16| {
            blocks[block * format.block_bytes()..][..2].copy_from_slice(&half.to_le_bytes());
        };
        spoil(4, 0x7e00);
        spoil(7, 0x7c00);
        let weight = Weight::of(format, n, k, blocks);
        for at in [0, 31, 95] {
            let mut x = Random::new(2).normal(3 * k);
            x[at] = f32::INFINITY;
            for m in [1, 3] {
                let want = weight.twin(&x, m);
                assert!(want[1].is_nan(), "{want:?}");
                for cpu in cpus() {
                    for (way, got) in weight.times(cpu, &x, m) {
                        assert_same(&got, &want, format!("{format}, {way}, on {}", cpu.tier()));
                    }
                }
            }
        }
    }
}

#[test]
fn truth_in_f64() {
    let (n, k) = (24, 2048);
    for format in [Format::Q8_0, Format::Q4_0, Format::Q5_1, Format::Q2K, Format::Q6K] {
        let weight = Weight::new(format, n, k);
        let a = Random::new(9).normal(k);
        let mut decoded = vec![0.0; n * k];
        dequantize(Cpu::detect(), format, &weight.blocks, &mut decoded);
        for (way, got) in weight.times(Cpu::detect(), &a, 1) {
            for (j, got) in got.iter().enumerate() {
                let terms = |f: fn(f64) -> f64| {
                    let w = &decoded[j * k..][..k];
                    a.iter().zip(w).map(|(&a, &w)| f(f64::from(a) * f64::from(w))).sum::<f64>()
                };
                let error = (f64::from(*got) - terms(|x| x)).abs();
                assert!(
                    error <= 32.0 * common::U * terms(f64::abs),
                    "{format}, {way}, column {j}: {error:e}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "(2, 48) of Q8_0 needs 68 bytes in rows of whole blocks of 32, not 102")]
fn rows_of_half_a_block() {
    Rows::new(Format::Q8_0, 2, 48, &[0; 102]);
}

#[test]
#[should_panic(expected = "panels of four bits from Q4_1")]
fn panels_of_another_format() {
    Packed4::new(Format::Q4_1, (16, 32), &[CodeLine([0; 16]); 4], &[HalfLine::ZERO]);
}
