//! The products of the backward pass: dX over weights of every kind, dW, and the sums of columns.

mod common;

use common::layouts::{Form, Mat};
use common::{Cpu, Random, U, assert_same, cpus, simd_cpus, slow};
use samebits::kernels::column_sum::ColumnSum;
use samebits::kernels::gemm::{
    self, Accumulate, Bf16, Element, F16, Gemm, PackedMatrix, Strided, Transposed, Turned, Weights,
};
use samebits::kernels::ggml::{self, Code8, Format, HalfLine, Packed4, Packed8, Rows};
use samebits::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4, block_count, code_bytes};
use samebits::kernels::simd::fma;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{Line, half};
use samebits::pool::Pool;

fn run<W: Weights>(cpu: Cpu, job: Gemm<'_, W>) {
    let mut scratch = vec![Line([f32::NAN; 16]); job.scratch_len()];
    job.run(cpu, &mut scratch);
}

/// Clause 1 in plain loops: a (m, k) · b (k, n), added to `prior`.
fn product(a: MatRef<'_>, b: MatRef<'_>, prior: &[f32]) -> Vec<f32> {
    let (k, n) = (a.cols(), b.cols());
    let mut c = prior.to_vec();
    for (i, c) in c.iter_mut().enumerate() {
        for first in (0..k).step_by(256) {
            let range = first..k.min(first + 256);
            *c += range.fold(0.0, |chain, kk| fma(a.get(i / n, kk), b.get(kk, i % n), chain));
        }
    }
    c
}

/// A weight (n, k) of one kind, packed, and what it decodes to.
struct Stored {
    name: String,
    n: usize,
    k: usize,
    decoded: Vec<f32>,
    form: Memory,
}

/// The memory of a [`Turned`].
enum Memory {
    F32(Vec<[Line; 8]>),
    Bf16(Vec<<Bf16 as Element>::Group>),
    F16(Vec<<F16 as Element>::Group>),
    Nf4(usize, Vec<CodeLine>, Vec<Line>),
    Eight(Vec<Code8>, Vec<HalfLine>),
    Four(Format, Vec<CodeLine>, Vec<HalfLine>),
    Blocks(Format, Vec<u8>),
}

impl Stored {
    fn turned(&self) -> Turned<'_> {
        let (n, k) = (self.n, self.k);
        match &self.form {
            Memory::F32(groups) => Turned::F32(PackedMatrix::new(groups, k, n)),
            Memory::Bf16(groups) => Turned::Bf16(PackedMatrix::new(groups, k, n)),
            Memory::F16(groups) => Turned::F16(PackedMatrix::new(groups, k, n)),
            Memory::Nf4(blocksize, codes, scales) => {
                Turned::Nf4(PackedNf4::new(n, k, *blocksize, codes, scales))
            }
            Memory::Eight(codes, scales) => Turned::Ggml8(Packed8::new(n, k, codes, scales)),
            Memory::Four(format, codes, scales) => {
                Turned::Ggml4(Packed4::new(*format, (n, k), codes, scales))
            }
            Memory::Blocks(format, blocks) => Turned::Blocks(Rows::new(*format, n, k, blocks)),
        }
    }

    fn floats(n: usize, k: usize) -> Vec<Stored> {
        let cpu = Cpu::detect();
        let x = Random::new((n * 1000 + k) as u64).normal(n * k);
        let bf16: Vec<u16> = x.iter().map(|&x| half::f32_to_bf16(x)).collect();
        let f16: Vec<u16> = x.iter().map(|&x| half::f32_to_f16(x)).collect();
        fn packed<E: Element>(cpu: Cpu, w: &[E], n: usize, k: usize) -> Vec<E::Group> {
            let mut groups = vec![E::ZERO; gemm::packed_len(k, n)];
            gemm::pack::<E>(cpu, MatRef::new(w, n, k).t(), &mut groups);
            groups
        }
        let stored = |name: &str, decoded, form| Stored { name: name.into(), n, k, decoded, form };
        vec![
            stored(
                "bf16",
                bf16.iter().map(|&x| half::bf16_to_f32(x)).collect(),
                Memory::Bf16(packed(cpu, Bf16::slice(&bf16), n, k)),
            ),
            stored(
                "f16",
                f16.iter().map(|&x| half::f16_to_f32(x)).collect(),
                Memory::F16(packed(cpu, F16::slice(&f16), n, k)),
            ),
            stored("f32", x.clone(), Memory::F32(packed(cpu, &x, n, k))),
        ]
    }

    /// With absmax as it is, or itself quantised (nested).
    fn nf4(n: usize, k: usize, blocksize: usize, nested: bool) -> Stored {
        let cpu = Cpu::detect();
        let x = Random::new((n * 5000 + k) as u64).normal(n * k);
        let blocks = block_count(n * k, blocksize);
        let (mut codes, mut absmax) = (vec![0; code_bytes(n * k)], vec![0.0; blocks]);
        nf4::quantize(cpu, &x, blocksize, &mut codes, &mut absmax).unwrap();
        if nested {
            let (mut bytes, mut second) = (vec![0; blocks], vec![0.0; blocks.div_ceil(256)]);
            let offset = nf4::quantize_absmax(cpu, &absmax, &mut bytes, &mut second).unwrap();
            nf4::dequantize_absmax(cpu, &bytes, &second, offset, &mut absmax);
        }
        let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
        let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, blocksize)];
        PackedNf4::pack(RowNf4::new(n, k, blocksize, &codes, &absmax), &mut lines, &mut scales);
        let mut decoded = vec![0.0; n * k];
        nf4::dequantize(cpu, &codes, &absmax, blocksize, &mut decoded);
        let name = format!("nf4/{blocksize}{}", if nested { ", nested" } else { "" });
        Stored { name, n, k, decoded, form: Memory::Nf4(blocksize, lines, scales) }
    }

    /// k is whole blocks.
    fn ggml(format: Format, n: usize, k: usize) -> Stored {
        let mut random = Random::new((n * 7000 + k) as u64);
        let mut blocks: Vec<u8> = (0..format.bytes(n * k)).map(|_| random.bits() as u8).collect();
        for block in blocks.chunks_exact_mut(format.block_bytes()) {
            // Scales that are small and finite, wherever a format has them.
            let last = block.len() - 1;
            [1, 3, last].into_iter().for_each(|i| block[i] &= 0x2f);
        }
        let mut decoded = vec![0.0; n * k];
        ggml::dequantize(Cpu::detect(), format, &blocks, &mut decoded);
        let rows = Rows::new(format, n, k, &blocks);
        let (code_len, scale_len) = (ggml::code_len(n, k), ggml::scale_len(n, k));
        let mut scales = vec![HalfLine::ZERO; scale_len];
        let form = match format {
            Format::Q8_0 => {
                let mut codes = vec![Code8::ZERO; code_len];
                Packed8::pack(rows, &mut codes, &mut scales);
                Memory::Eight(codes, scales)
            }
            Format::Q4_0 | Format::Iq4Nl => {
                let mut codes = vec![CodeLine::ZERO; code_len];
                Packed4::pack(rows, &mut codes, &mut scales);
                Memory::Four(format, codes, scales)
            }
            _ => Memory::Blocks(format, blocks),
        };
        Stored { name: format!("{format}"), n, k, decoded, form }
    }

    /// Weights of every kind and of shapes with every remainder.
    fn all() -> Vec<Stored> {
        let mut all = Vec::new();
        for (n, k) in [(1, 1), (17, 5), (16, 16), (40, 33), (300, 70), (515, 141), (33, 300)] {
            all.extend(Stored::floats(n, k));
        }
        for (n, k, blocksize) in [(16, 64, 64), (17, 128, 64), (300, 70, 64), (530, 192, 32), (31, 7, 64)] {
            all.push(Stored::nf4(n, k, blocksize, false));
            all.push(Stored::nf4(n, k, blocksize, true));
        }
        for format in Format::ALL {
            all.push(Stored::ggml(format, 35, 512));
        }
        all.push(Stored::ggml(Format::Q8_0, 300, 160));
        all.push(Stored::ggml(Format::Q5_1, 300, 160));
        all
    }
}

/// QLoRA's promise: dX = dY · W over stored weights has the bits of dX over the dequantised matrix, whatever the
/// kind, the tier, and where it is cut.
#[test]
fn dx_over_stored_weights_is_dx_over_the_dequantised() {
    for w in Stored::all() {
        let (n, k) = (w.n, w.k);
        let matrix = MatRef::new(&w.decoded, n, k);
        for m in [1, 3, 13, 50] {
            if slow() && m * n * k > 100_000 {
                continue;
            }
            let dy = Random::new(m as u64).normal(m * n);
            let dy = MatRef::new(&dy, m, n);
            let prior = Random::new(9).normal(m * k);
            let want = product(dy, matrix, &vec![0.0; m * k]);
            let added = product(dy, matrix, &prior);
            for cpu in cpus() {
                let what = format!("{} ({m}, {n}) · ({n}, {k}) on {}", w.name, cpu.tier());
                let mut dx = vec![f32::NAN; m * k];
                let turned = Transposed::new(w.turned());
                run(cpu, Gemm::new(dy, turned, MatMut::new(&mut dx, m, k)));
                assert_same(&dx, &want, &what);
                let mut strided = vec![f32::NAN; m * k];
                run(cpu, Gemm::new(dy, Strided(matrix), MatMut::new(&mut strided, m, k)));
                assert_same(&dx, &strided, format!("{what}, against the dequantised matrix"));
                dx.copy_from_slice(&prior);
                let job =
                    Gemm { accumulate: Accumulate::Add, ..Gemm::new(dy, turned, MatMut::new(&mut dx, m, k)) };
                run(cpu, job);
                assert_same(&dx, &added, format!("{what}, added"));
            }
        }
    }
}

#[test]
fn dx_in_pieces_on_any_number_of_threads() {
    let (m, n, k) = if slow() { (30, 300, 480) } else { (130, 700, 1504) };
    let dy = Random::new(1).normal(m * n);
    let dy = MatRef::new(&dy, m, n);
    let mut all = Stored::floats(n, k);
    all.push(Stored::nf4(n, k, 32, false));
    all.push(Stored::ggml(Format::Q8_0, n, k));
    all.push(Stored::ggml(Format::Q4_1, n, k));
    for w in all {
        for cpu in simd_cpus() {
            let mut want = vec![f32::NAN; m * k];
            let whole = Strided(MatRef::new(&w.decoded, n, k));
            run(cpu, Gemm::new(dy, whole, MatMut::new(&mut want, m, k)));
            for threads in [1, 2, 3, 7] {
                let mut dx = vec![f32::NAN; m * k];
                let job = Gemm::new(dy, Transposed::new(w.turned()), MatMut::new(&mut dx, m, k));
                Pool::new(threads).run(job.pieces(), |piece, scratch| {
                    let need = piece.scratch_len();
                    piece.run(cpu, scratch.lines(need));
                });
                assert_same(&dx, &want, format!("{} on {}, {threads} threads", w.name, cpu.tier()));
            }
        }
    }
}

/// dW = dYᵀ · X with token rows as k; in batches of a multiple of 256 tokens, accumulated, the bits of the whole.
#[test]
fn dw_is_the_same_in_batches_of_256_tokens() {
    let mut random = Random::new(2);
    for (tokens, n, k) in [(1, 5, 3), (256, 17, 40), (700, 33, 18), (1030, 20, 21)] {
        let (dy, x) = (random.normal(tokens * n), random.normal(tokens * k));
        let (dy, x) = (MatRef::new(&dy, tokens, n), MatRef::new(&x, tokens, k));
        let want = product(dy.t(), x, &vec![0.0; n * k]);
        for cpu in cpus() {
            let mut dw = vec![f32::NAN; n * k];
            run(cpu, Gemm::new(dy.t(), Strided(x), MatMut::new(&mut dw, n, k)));
            assert_same(&dw, &want, format!("{tokens} tokens, ({n}, {k}) on {}", cpu.tier()));
            let mut parts = vec![0.0; n * k];
            for first in (0..tokens).step_by(256) {
                let rows = first..tokens.min(first + 256);
                let (dy, x) = (dy.sub(rows.clone(), 0..n), x.sub(rows, 0..k));
                let job = Gemm::new(dy.t(), Strided(x), MatMut::new(&mut parts, n, k));
                run(cpu, Gemm { accumulate: Accumulate::Add, ..job });
            }
            assert_same(&parts, &want, format!("{tokens} tokens in batches on {}", cpu.tier()));
        }
    }
}

fn column_twin(x: MatRef<'_>, prior: &[f32]) -> Vec<f32> {
    let mut sums = prior.to_vec();
    for (j, sum) in sums.iter_mut().enumerate() {
        for first in (0..x.rows()).step_by(256) {
            *sum += (first..x.rows().min(first + 256)).fold(0.0f32, |chain, r| chain + x.get(r, j));
        }
    }
    sums
}

#[test]
fn column_sums_in_every_layout_and_in_pieces() {
    let mut random = Random::new(3);
    let shapes = (0..=67).map(|n| (5, n)).chain([(0, 4), (256, 130), (257, 9), (700, 300), (1, 64)]);
    for (rows, n) in shapes {
        let (x, prior) = (random.normal(rows * n), random.normal(n));
        let zero = vec![0.0; n];
        for form in Form::ALL {
            let x = Mat::new(form, rows, n, &x);
            let (want, added) = (column_twin(x.view(), &zero), column_twin(x.view(), &prior));
            for cpu in cpus() {
                let what = format!("({rows}, {n}) {form:?} on {}", cpu.tier());
                let mut out = vec![f32::NAN; n];
                ColumnSum { x: x.view(), accumulate: Accumulate::Overwrite, out: &mut out }.run(cpu);
                assert_same(&out, &want, &what);
                let mut out = prior.clone();
                let sum = ColumnSum { x: x.view(), accumulate: Accumulate::Add, out: &mut out };
                let mut pieces: Vec<_> = sum.pieces().collect();
                pieces.reverse();
                pieces.into_iter().for_each(|piece| piece.run(cpu));
                assert_same(&out, &added, format!("{what}, added in pieces"));
            }
        }
    }
}

/// 32 u Σ|terms| of all three, on positive data, where errors do not cancel.
#[test]
fn truth_in_f64() {
    let (tokens, n, k) = if slow() { (300, 20, 17) } else { (4100, 40, 33) };
    let positive = |seed, len| Random::new(seed).vec(len).iter().map(|x: &f32| x.abs()).collect::<Vec<_>>();
    let (dy, x) = (positive(1, tokens * n), positive(2, tokens * k));
    let cpu = *cpus().last().unwrap();
    let (mut dw, mut db) = (vec![0.0; n * k], vec![0.0; n]);
    let dy_view = MatRef::new(&dy, tokens, n);
    run(cpu, Gemm::new(dy_view.t(), Strided(MatRef::new(&x, tokens, k)), MatMut::new(&mut dw, n, k)));
    ColumnSum { x: dy_view, accumulate: Accumulate::Overwrite, out: &mut db }.run(cpu);
    for j in 0..n {
        let one = |r: usize| f64::from(dy[r * n + j]);
        let sum: f64 = (0..tokens).map(one).sum();
        assert!((f64::from(db[j]) - sum).abs() <= 32.0 * U * sum, "db {j}");
        for i in 0..k {
            let sum: f64 = (0..tokens).map(|r| one(r) * f64::from(x[r * k + i])).sum();
            assert!((f64::from(dw[j * k + i]) - sum).abs() <= 32.0 * U * sum, "dw {j}, {i}");
        }
    }
    let w = Stored::nf4(515, 64, 64, false);
    let dy = positive(4, 515);
    let mut dx = vec![0.0; 64];
    run(cpu, Gemm::new(MatRef::new(&dy, 1, 515), Transposed::new(w.turned()), MatMut::new(&mut dx, 1, 64)));
    for (i, &dx) in dx.iter().enumerate() {
        let term = |j: usize| f64::from(dy[j]) * f64::from(w.decoded[j * 64 + i]);
        let (sum, size) = (0..515).fold((0.0, 0.0), |(s, a), j| (s + term(j), a + term(j).abs()));
        assert!((f64::from(dx) - sum).abs() <= 32.0 * U * size, "dx {i}");
    }
}

#[test]
#[should_panic(expected = "column sums of (2, 3) into 4")]
fn a_wrong_output_is_refused() {
    let x = [0.0; 6];
    ColumnSum { x: MatRef::new(&x, 2, 3), accumulate: Accumulate::Add, out: &mut [0.0; 4] }.run(cpus()[0]);
}
