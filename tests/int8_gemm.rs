//! Products of integers of eight bits with scales, against the law in plain loops and f64.

mod common;
use common::*;
use samebits::kernels::Line;
use samebits::kernels::activation::Activation;
use samebits::kernels::gemm::{Accumulate, Epilogue};
use samebits::kernels::ggml::{Format, HalfLine, Rows, dequantize};
use samebits::kernels::half::f16_to_f32;
use samebits::kernels::int8::{
    BLOCK, Codes, Eight, GemmQ8, Nf4, Nibbles, PackedBlocks, Quantized, blocks_len, quantize, quantize_blocks,
};
use samebits::kernels::nf4::{LEVELS, RowNf4};
use samebits::kernels::simd::fma;
use samebits::kernels::simd::tiles::Plain;
use samebits::kernels::view::{MatMut, MatRef};

/// A weight as its file holds it: any codes, any finite scales.
struct Weight {
    format: Format,
    stored: Vec<u8>,
    n: usize,
    k: usize,
}

impl Weight {
    fn new(format: Format, n: usize, k: usize, random: &mut Random) -> Weight {
        let mut stored: Vec<u8> = (0..format.bytes(n * k)).map(|_| random.bits() as u8).collect();
        for block in stored.chunks_mut(format.block_bytes()) {
            block[1] &= 0xbf; // |d| < 2
        }
        Weight { format, stored, n, k }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(self.format, self.n, self.k, &self.stored)
    }

    /// Scale and integers of block `b` of row `j`.
    fn block(&self, j: usize, b: usize) -> (f32, Vec<i32>) {
        let bytes = self.format.block_bytes();
        let block = &self.stored[(j * self.k / BLOCK + b) * bytes..][..bytes];
        let codes = match self.format {
            Format::Q8_0 => block[2..].iter().map(|&x| i32::from(x as i8)).collect(),
            _ => (0..BLOCK).map(|i| i32::from(block[2 + i % 16] >> (i / 16 * 4) & 15) - 8).collect(),
        };
        (f16_to_f32(u16::from_le_bytes([block[0], block[1]])), codes)
    }
}

/// The law in plain loops, for one element of C.
fn law(codes: &[i8], scales: &[f32], w: &Weight, j: usize, prior: f32) -> f32 {
    let mut sum = prior;
    for b0 in (0..scales.len()).step_by(8) {
        let mut chain = 0.0;
        for b in b0..(b0 + 8).min(scales.len()) {
            let (d, integers) = w.block(j, b);
            let p: i32 = codes[BLOCK * b..].iter().zip(&integers).map(|(&a, w)| i32::from(a) * w).sum();
            chain = fma(p as f32, scales[b] * d, chain);
        }
        sum += chain;
    }
    sum
}

/// Calls `check` with both kinds of weight of a shape, packed.
fn packed(n: usize, k: usize, seed: u64, check: &mut dyn Check) {
    let mut random = Random::new(seed);
    let mut scales = vec![HalfLine::ZERO; blocks_len(n, k)];
    let w = Weight::new(Format::Q8_0, n, k, &mut random);
    let mut blocks = vec![Eight::EMPTY; blocks_len(n, k)];
    check.eight(&w, PackedBlocks::<Eight>::pack(w.rows(), &mut blocks, &mut scales));
    let w = Weight::new(Format::Q4_0, n, k, &mut random);
    let mut blocks = vec![Nibbles::EMPTY; blocks_len(n, k)];
    check.four(&w, PackedBlocks::<Nibbles>::pack(w.rows(), &mut blocks, &mut scales));
}

trait Check {
    fn eight(&mut self, w: &Weight, packed: PackedBlocks<'_, Eight>);
    fn four(&mut self, w: &Weight, packed: PackedBlocks<'_, Nibbles>);
}

/// Every variant gives the law's bits: whole, in pieces, added to C.
struct Twin {
    m: usize,
}

impl Twin {
    fn check<C: Codes>(&self, w: &Weight, packed: PackedBlocks<'_, C>) {
        let (m, n, k) = (self.m, w.n, w.k);
        let mut random = Random::new(7);
        let x: Vec<f32> = random.normal(m * k).iter().map(|x| x * (1 << random.below(9)) as f32).collect();
        let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
        quantize_blocks(cpus()[0], &x, &mut codes, &mut scales);
        let prior = random.normal(m * n);
        let blocks = k / BLOCK;
        let want = |from: &[f32]| -> Vec<f32> {
            let row = |i: usize| (&codes[i * k..(i + 1) * k], &scales[i * blocks..(i + 1) * blocks]);
            (0..m * n).map(|at| law(row(at / n).0, row(at / n).1, w, at % n, from[at])).collect()
        };
        let (fresh, added) = (want(&vec![0.0; m * n]), want(&prior));
        let a = Quantized { codes: MatRef::new(&codes, m, k), scales: MatRef::new(&scales, m, blocks) };
        for cpu in variants() {
            let what = || format!("{} {m}x{n}x{k} on {cpu:?} {:?}", w.format, cpu.features().avx512_vnni);
            let mut scratch = vec![Line([f32::NAN; 16]); GemmQ8::<C>::scratch_len(m, k)];
            let mut c = vec![f32::NAN; m * n];
            GemmQ8::new(a, packed, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
            assert_same(&c, &fresh, what());
            let mut c = prior.clone();
            let job =
                GemmQ8 { accumulate: Accumulate::Add, ..GemmQ8::new(a, packed, MatMut::new(&mut c, m, n)) };
            job.pieces().for_each(|piece| piece.run(cpu, &mut scratch));
            assert_same(&c, &added, what());
        }
        for cpu in cpus() {
            let what = || format!("{} {m}x{n}x{k} in tiles on {cpu:?}", w.format);
            let mut scratch = vec![Line([f32::NAN; 16]); GemmQ8::<C>::scratch_len(m.max(8), k)];
            let mut c = vec![f32::NAN; m * n];
            GemmQ8::new(a, packed, MatMut::new(&mut c, m, n)).run_on_tiles(cpu, Plain, &mut scratch);
            assert_same(&c, &fresh, what());
            let mut c = prior.clone();
            let job =
                GemmQ8 { accumulate: Accumulate::Add, ..GemmQ8::new(a, packed, MatMut::new(&mut c, m, n)) };
            job.pieces().for_each(|piece| piece.run_on_tiles(cpu, Plain, &mut scratch));
            assert_same(&c, &added, what());
        }
    }
}

impl Check for Twin {
    fn eight(&mut self, w: &Weight, packed: PackedBlocks<'_, Eight>) {
        self.check(w, packed);
    }
    fn four(&mut self, w: &Weight, packed: PackedBlocks<'_, Nibbles>) {
        self.check(w, packed);
    }
}

#[test]
fn scaled_products_follow_the_law() {
    for n in 1..=67 {
        packed(n, 96, n as u64, &mut Twin { m: 1 });
    }
    for m in 1..=27 {
        packed(37, 64, m as u64, &mut Twin { m });
    }
    for blocks in 0..=11 {
        packed(20, 32 * blocks, blocks as u64, &mut Twin { m: 5 });
    }
    for (m, n, k) in [(1, 70, 2144), (13, 35, 1056), (8, 48, 1280), (100, 17, 96)] {
        if !slow() || m == 1 {
            packed(n, k, 3, &mut Twin { m });
        }
    }
}

/// Bias, activation, residual; C in columns.
#[test]
fn what_follows_the_sum() {
    let (m, n, k) = (7, 40, 320);
    let mut random = Random::new(4);
    let w = Weight::new(Format::Q8_0, n, k, &mut random);
    let (mut blocks, mut of_w) =
        (vec![Eight::EMPTY; blocks_len(n, k)], vec![HalfLine::ZERO; blocks_len(n, k)]);
    let packed = PackedBlocks::<Eight>::pack(w.rows(), &mut blocks, &mut of_w);
    let (x, bias, residual) = (random.normal(m * k), random.vec(n), random.vec(m * n));
    let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
    quantize_blocks(cpus()[0], &x, &mut codes, &mut scales);
    let a = Quantized { codes: MatRef::new(&codes, m, k), scales: MatRef::new(&scales, m, k / BLOCK) };
    for cpu in variants() {
        let mut c = vec![0.0; n * m];
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Activation::Relu,
            residual: Some(MatRef::new(&residual, m, n)),
            ..Epilogue::NONE
        };
        let mut scratch = vec![Line::ZERO; GemmQ8::<Eight>::scratch_len(m, k)];
        let out = MatMut::new(&mut c, n, m).t();
        GemmQ8 { epilogue, ..GemmQ8::new(a, packed, out) }.run(cpu, &mut scratch);
        for i in 0..m {
            for j in 0..n {
                let sum =
                    law(&codes[i * k..][..k], &scales[i * k / BLOCK..][..k / BLOCK], &w, j, 0.0) + bias[j];
                let want = (if sum > 0.0 { sum } else { 0.0 }) + residual[i * n + j];
                assert_same(&[c[j * m + i]], &[want], format!("({i}, {j}) on {cpu:?}"));
            }
        }
    }
}

/// Rows in blocks are rows of 32, and weights decode to ggml's values.
#[test]
fn codes_are_those_of_rows_and_of_files() {
    for cpu in cpus() {
        let x = Random::new(6).normal(640);
        let (mut codes, mut scales) = (vec![0; 640], vec![0.0; 20]);
        quantize_blocks(cpu, &x, &mut codes, &mut scales);
        for ((x, got), scale) in x.chunks(BLOCK).zip(codes.chunks(BLOCK)).zip(scales) {
            let mut want = vec![0; BLOCK];
            assert_eq!(quantize(cpu, x, &mut want), scale);
            assert_eq!(got, want);
        }
    }
    for format in [Format::Q8_0, Format::Q4_0] {
        let w = Weight::new(format, 3, 64, &mut Random::new(8));
        let mut decoded = vec![0.0; 192];
        dequantize(cpus()[0], format, &w.stored, &mut decoded);
        for (i, &x) in decoded.iter().enumerate() {
            let (d, integers) = w.block(i / 64, i % 64 / BLOCK);
            assert_eq!(x, d * integers[i % BLOCK] as f32, "{format} {i}");
        }
    }
}

/// NF4's levels in 127ths: the law over the integers nearest to them, and the header's bound against the levels.
#[test]
fn nf4_through_its_integers() {
    for (m, n, k, blocksize) in
        [(1, 40_usize, 320, 64), (7, 21, 96, 32), (5, 17, 1344, 64), (3, 16, 64, 4096)]
    {
        let mut random = Random::new(n as u64);
        let stored: Vec<u8> = (0..n * k / 2).map(|_| random.bits() as u8).collect();
        let absmax: Vec<f32> = random.vec((n * k).div_ceil(blocksize)).iter().map(|x| x.abs()).collect();
        let level = |i: usize| LEVELS[usize::from(stored[i / 2] >> (4 * (1 - i % 2)) & 15)];
        let nearest = |i: usize| (f64::from(level(i)) * 127.0).round() as i32;
        let (mut blocks, mut of_w) = (vec![Nf4::EMPTY; blocks_len(n, k)], vec![Line::ZERO; blocks_len(n, k)]);
        let w = RowNf4::new(n, k, blocksize, &stored, &absmax);
        let w = PackedBlocks::<Nf4>::pack(w, &mut blocks, &mut of_w);
        let x = random.normal(m * k);
        let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
        quantize_blocks(cpus()[0], &x, &mut codes, &mut scales);
        let mut want = Vec::new();
        for at in 0..m * n {
            let (i, j, mut sum, mut lost) = (at / n, at % n, 0.0, 0.0);
            let (mut of_levels, mut size) = (0.0, 0.0);
            for b0 in (0..k / BLOCK).step_by(8) {
                let mut chain = 0.0;
                for b in b0..(b0 + 8).min(k / BLOCK) {
                    let (left, right) = (i * k + BLOCK * b, j * k + BLOCK * b);
                    let p: i32 = (0..BLOCK).map(|q| i32::from(codes[left + q]) * nearest(right + q)).sum();
                    let (d_a, absmax) = (scales[left / BLOCK], absmax[right / blocksize]);
                    chain = fma(p as f32, d_a * (absmax / 127.0), chain);
                    for q in 0..BLOCK {
                        let a = f64::from(codes[left + q]) * f64::from(d_a);
                        let product = a * f64::from(level(right + q)) * f64::from(absmax);
                        (of_levels, size) = (of_levels + product, size + product.abs());
                        lost += a.abs() * 0.0037 * f64::from(absmax);
                    }
                }
                sum += chain;
            }
            let bound = lost + 1e-5 * size;
            assert!((f64::from(sum) - of_levels).abs() <= bound, "{sum} {of_levels}, at most {bound} apart");
            want.push(sum);
        }
        let a = Quantized { codes: MatRef::new(&codes, m, k), scales: MatRef::new(&scales, m, k / BLOCK) };
        for cpu in variants() {
            let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmQ8::<Nf4>::scratch_len(m, k)]);
            GemmQ8::new(a, w, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
            assert_same(&c, &want, format!("{m}x{n}x{k} on {cpu:?}"));
            let mut scratch = vec![Line::ZERO; GemmQ8::<Nf4>::scratch_len(8, k)];
            GemmQ8::new(a, w, MatMut::new(&mut c, m, n)).run_on_tiles(cpu, Plain, &mut scratch);
            assert_same(&c, &want, format!("{m}x{n}x{k} in tiles on {cpu:?}"));
        }
    }
}

/// What is not finite is not hidden.
#[test]
fn a_row_with_a_nan_gives_nan_and_no_other_does() {
    let (m, n, k) = (3, 20, 96);
    let mut random = Random::new(4);
    let w = Weight::new(Format::Q8_0, n, k, &mut random);
    let (mut blocks, mut of_w) =
        (vec![Eight::EMPTY; blocks_len(n, k)], vec![HalfLine::ZERO; blocks_len(n, k)]);
    let packed = PackedBlocks::<Eight>::pack(w.rows(), &mut blocks, &mut of_w);
    let mut x = random.normal(m * k);
    x[k + 40] = f32::INFINITY;
    for cpu in variants() {
        let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
        quantize_blocks(cpu, &x, &mut codes, &mut scales);
        let a = Quantized { codes: MatRef::new(&codes, m, k), scales: MatRef::new(&scales, m, k / BLOCK) };
        let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmQ8::<Eight>::scratch_len(m, k)]);
        GemmQ8::new(a, packed, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
        let nan: Vec<bool> = c.chunks(n).map(|row| row.iter().all(|c| c.is_nan())).collect();
        assert_eq!(nan, [false, true, false], "{cpu:?}");
        assert!(c.iter().enumerate().all(|(i, c)| c.is_nan() == (i / n == 1)));
    }
}

/// Against f64: the header's bound over the codes' own values, and that of quantising over the floats.
#[test]
fn errors_stay_within_the_bound() {
    const U: f64 = 1.0 / (1 << 24) as f64;
    for (m, n, k) in [(4, 33, 256), (2, 17, 2048), (1, 16, 32)] {
        let mut random = Random::new(k as u64);
        let w = Weight::new(Format::Q8_0, n, k, &mut random);
        let (mut blocks, mut of_w) =
            (vec![Eight::EMPTY; blocks_len(n, k)], vec![HalfLine::ZERO; blocks_len(n, k)]);
        let packed = PackedBlocks::<Eight>::pack(w.rows(), &mut blocks, &mut of_w);
        let x = random.normal(m * k);
        let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
        quantize_blocks(cpus()[0], &x, &mut codes, &mut scales);
        let a = Quantized { codes: MatRef::new(&codes, m, k), scales: MatRef::new(&scales, m, k / BLOCK) };
        let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmQ8::<Eight>::scratch_len(m, k)]);
        GemmQ8::new(a, packed, MatMut::new(&mut c, m, n)).run(cpus()[0], &mut scratch);
        for (at, &c) in c.iter().enumerate() {
            let (mut of_codes, mut size, mut of_floats, mut lost) = (0.0, 0.0, 0.0, 0.0);
            for q in 0..k {
                let i = at / n * k + q;
                let (d, integers) = w.block(at % n, q / BLOCK);
                let (w, d_a) = (f64::from(d) * f64::from(integers[q % BLOCK]), f64::from(scales[i / BLOCK]));
                let product = f64::from(codes[i]) * d_a * w;
                (of_codes, size) = (of_codes + product, size + product.abs());
                of_floats += f64::from(x[i]) * w;
                lost += (0.5 + 1.0 / 32768.0) * d_a * w.abs();
            }
            let steps = (k.min(256) / BLOCK + k.div_ceil(256) + 2) as f64;
            assert!((f64::from(c) - of_codes).abs() <= steps * U * size, "{m}x{n}x{k} {at}: {c} {of_codes}");
            assert!(
                (f64::from(c) - of_floats).abs() <= lost + steps * U * size,
                "{m}x{n}x{k} {at} of floats"
            );
        }
    }
}
