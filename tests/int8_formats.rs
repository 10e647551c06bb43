//! Products of codes as files hold them, in every format of ggml that int8 multiplies: the law in plain loops, from the
//! bytes of the file, and f64.

mod common;
use common::formats::{Block, any_blocks, blocks, with_minima};
use common::*;
use samebits::kernels::Line;
use samebits::kernels::gemm::Accumulate;
use samebits::kernels::ggml::{Format, Rows, dequantize};
use samebits::kernels::int8::{
    BLOCK, Codes, Eight, GemmQ8, Iq4Nl, Nibbles, OfFile, PackedBlocks, Q4K, Q5K, Q6K, Q41, Q50, Q51,
    Quantized, blocks_len, quantize_blocks, scales_len,
};
use samebits::kernels::simd::fma;
use samebits::kernels::simd::tiles::Plain;
use samebits::kernels::view::{MatMut, MatRef};

/// A weight as its file holds it: any codes, any scales and minima less than 2.
struct Weight {
    stored: Vec<u8>,
    blocks: Vec<Block>,
    k: usize,
}

impl Weight {
    fn new(format: Format, n: usize, k: usize, random: &mut Random) -> Weight {
        let stored = any_blocks(format, n * k, random);
        let blocks = blocks(format, &stored);
        Weight { stored, blocks, k }
    }

    /// Block `b` of row `j`.
    fn block(&self, j: usize, b: usize) -> &Block {
        &self.blocks[j * (self.k / BLOCK) + b]
    }

    /// Element `i` of row `j`.
    fn value(&self, j: usize, i: usize) -> f32 {
        let block = self.block(j, i / BLOCK);
        block.integers[i % BLOCK] as f32 * block.scales[i % BLOCK / 16] + block.minimum
    }
}

/// Rows that are quantised.
struct Left {
    x: Vec<f32>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    m: usize,
    k: usize,
}

impl Left {
    fn new(m: usize, k: usize, random: &mut Random) -> Left {
        let x: Vec<f32> = random.normal(m * k).iter().map(|x| x * (1 << random.below(9)) as f32).collect();
        let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
        quantize_blocks(cpus()[0], &x, &mut codes, &mut scales);
        Left { x, codes, scales, m, k }
    }

    fn view(&self) -> Quantized<'_> {
        let blocks = self.k / BLOCK;
        Quantized {
            codes: MatRef::new(&self.codes, self.m, self.k),
            scales: MatRef::new(&self.scales, self.m, blocks),
        }
    }
}

/// The law in plain loops, for one element of C.
fn law(a: &Left, i: usize, w: &Weight, j: usize, prior: f32, minima: bool) -> f32 {
    let (mut sum, depth) = (prior, a.k / BLOCK);
    for b0 in (0..depth).step_by(8) {
        let mut chain = 0.0;
        for b in b0..(b0 + 8).min(depth) {
            let (codes, of_a, block) =
                (&a.codes[i * a.k + BLOCK * b..], a.scales[i * depth + b], w.block(j, b));
            for from in (0..BLOCK).step_by(block.run) {
                let pairs = codes[from..].iter().zip(&block.integers[from..from + block.run]);
                let p: i32 = pairs.map(|(&a, &w)| i32::from(a) * w).sum();
                chain = fma(p as f32, of_a * block.scales[from / 16], chain);
            }
            if minima {
                let all: i32 = codes[..BLOCK].iter().map(|&a| i32::from(a)).sum();
                chain = fma(of_a * all as f32, block.minimum, chain);
            }
        }
        sum += chain;
    }
    sum
}

/// Every variant gives the law's bits: whole, in pieces, added to C, on tiles.
fn twin<C: OfFile>((m, n, k): (usize, usize, usize)) {
    let mut random = Random::new((m + 3 * n + k) as u64);
    let w = Weight::new(C::FORMAT, n, k, &mut random);
    let (mut blocks, mut scales) =
        (vec![C::EMPTY; blocks_len(n, k)], vec![C::NO_SCALES; scales_len::<C>(n, k)]);
    let packed = PackedBlocks::<C>::pack(Rows::new(C::FORMAT, n, k, &w.stored), &mut blocks, &mut scales);
    let (a, prior, minima) = (Left::new(m, k, &mut random), random.normal(m * n), with_minima(C::FORMAT));
    let want = |prior: &dyn Fn(usize) -> f32| -> Vec<f32> {
        (0..m * n).map(|at| law(&a, at / n, &w, at % n, prior(at), minima)).collect()
    };
    let (fresh, added) = (want(&|_| 0.0), want(&|at| prior[at]));
    for cpu in variants() {
        let what = || format!("{} {m}x{n}x{k} on {cpu:?} {:?}", C::FORMAT, cpu.features());
        let mut scratch = vec![Line([f32::NAN; 16]); GemmQ8::<C>::scratch_len(m, k)];
        let mut c = vec![f32::NAN; m * n];
        GemmQ8::new(a.view(), packed, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
        assert_same(&c, &fresh, what());
        let mut c = prior.clone();
        let job = GemmQ8::new(a.view(), packed, MatMut::new(&mut c, m, n));
        let job = GemmQ8 { accumulate: Accumulate::Add, ..job };
        job.pieces().for_each(|piece| piece.run(cpu, &mut scratch));
        assert_same(&c, &added, what());
    }
    for cpu in cpus() {
        let what = || format!("{} {m}x{n}x{k} in tiles on {cpu:?}", C::FORMAT);
        let mut scratch = vec![Line([f32::NAN; 16]); GemmQ8::<C>::scratch_len(m.max(8), k)];
        let mut c = vec![f32::NAN; m * n];
        GemmQ8::new(a.view(), packed, MatMut::new(&mut c, m, n)).run_on_tiles(cpu, Plain, &mut scratch);
        assert_same(&c, &fresh, what());
        let mut c = prior.clone();
        let job = GemmQ8::new(a.view(), packed, MatMut::new(&mut c, m, n));
        let job = GemmQ8 { accumulate: Accumulate::Add, ..job };
        job.pieces().for_each(|piece| piece.run_on_tiles(cpu, Plain, &mut scratch));
        assert_same(&c, &added, what());
    }
}

/// In each format whose blocks are so long.
fn in_32(check: (usize, usize, usize)) {
    [twin::<Iq4Nl>, twin::<Q41>, twin::<Q50>, twin::<Q51>].iter().for_each(|twin| twin(check));
}

fn in_256(check: (usize, usize, usize)) {
    [twin::<Q4K>, twin::<Q5K>, twin::<Q6K>].iter().for_each(|twin| twin(check));
}

#[test]
fn products_follow_the_law_at_every_width() {
    for n in (0..=67).step_by(if slow() { 11 } else { 1 }) {
        in_32((1, n, 64));
        in_256((1, n, 256));
    }
}

#[test]
fn products_follow_the_law_at_every_height() {
    for m in (1..=27).step_by(if slow() { 5 } else { 1 }) {
        in_32((m, 21, 96));
        in_256((m, 21, 256));
    }
}

#[test]
fn products_follow_the_law_at_every_depth() {
    for blocks in 0..=11 {
        in_32((5, 18, 32 * blocks));
        in_256((5, 18, 256 * (blocks % 6)));
    }
    // Past what is prepared at once, of many rows and of one.
    in_32((9, 17, 1056));
    in_256((9, 17, 1280));
    in_256((1, 33, 8448));
    if !slow() {
        in_256((100, 35, 512));
        in_32((100, 35, 96));
    }
}

/// Decoded by ggml's rules, by the plain loops here and from panels: the same values.
#[test]
fn codes_decode_to_the_values_of_their_format() {
    fn check<C: OfFile>() {
        let (n, k) = (19, 512);
        let w = Weight::new(C::FORMAT, n, k, &mut Random::new(8));
        let (mut blocks, mut scales) =
            (vec![C::EMPTY; blocks_len(n, k)], vec![C::NO_SCALES; scales_len::<C>(n, k)]);
        let packed = PackedBlocks::<C>::pack(Rows::new(C::FORMAT, n, k, &w.stored), &mut blocks, &mut scales);
        let mut decoded = vec![0.0; n * k];
        dequantize(cpus()[0], C::FORMAT, &w.stored, &mut decoded);
        for (at, x) in decoded.into_iter().enumerate() {
            let (j, i) = (at / k, at % k);
            assert_eq!([packed.get(j, i), w.value(j, i)], [x; 2], "{} ({j}, {i})", C::FORMAT);
        }
    }
    check::<Eight>();
    check::<Nibbles>();
    check::<Iq4Nl>();
    check::<Q41>();
    check::<Q50>();
    check::<Q51>();
    check::<Q4K>();
    check::<Q5K>();
    check::<Q6K>();
}

/// Against f64: the header's bound over the codes' own values, and that of quantising over the floats.
#[test]
fn errors_stay_within_the_bound() {
    fn check<C: OfFile>((m, n, k): (usize, usize, usize), links: usize) {
        const U: f64 = 1.0 / (1 << 24) as f64;
        let mut random = Random::new(k as u64);
        let (w, a) = (Weight::new(C::FORMAT, n, k, &mut random), Left::new(m, k, &mut random));
        let (mut blocks, mut scales) =
            (vec![C::EMPTY; blocks_len(n, k)], vec![C::NO_SCALES; scales_len::<C>(n, k)]);
        let packed = PackedBlocks::<C>::pack(Rows::new(C::FORMAT, n, k, &w.stored), &mut blocks, &mut scales);
        let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmQ8::<C>::scratch_len(m, k)]);
        GemmQ8::new(a.view(), packed, MatMut::new(&mut c, m, n)).run(cpus()[0], &mut scratch);
        for (at, &c) in c.iter().enumerate() {
            let (mut of_codes, mut size, mut of_floats, mut lost) = (0.0, 0.0, 0.0, 0.0);
            for q in 0..k {
                let (i, block) = (at / n * k + q, w.block(at % n, q / BLOCK));
                let (d_a, minimum) = (f64::from(a.scales[i / BLOCK]), f64::from(block.minimum));
                let product = f64::from(block.integers[q % BLOCK]) * f64::from(block.scales[q % BLOCK / 16]);
                let of_a = f64::from(a.codes[i]) * d_a;
                of_codes += of_a * (product + minimum);
                size += of_a.abs() * (product.abs() + minimum.abs());
                of_floats += f64::from(a.x[i]) * (product + minimum);
                lost += (0.5 + 1.0 / 32768.0) * d_a * (product + minimum).abs();
            }
            let steps = (links * k.min(256) / BLOCK + k.div_ceil(256) + 2) as f64;
            let format = C::FORMAT;
            assert!((f64::from(c) - of_codes).abs() <= steps * U * size, "{format} {at}: {c} {of_codes}");
            assert!((f64::from(c) - of_floats).abs() <= lost + steps * U * size, "{format} {at} of floats");
        }
    }
    for shape in [(3, 33, 256), (2, 17, 2048)] {
        check::<Q41>(shape, 2);
        check::<Q50>(shape, 1);
        check::<Q51>(shape, 2);
        check::<Iq4Nl>(shape, 1);
        check::<Q4K>(shape, 2);
        check::<Q5K>(shape, 2);
        check::<Q6K>(shape, 2);
    }
}

/// What is not finite is not hidden, neither in a product nor in a minimum.
#[test]
fn a_row_with_a_nan_gives_nan_and_no_other_does() {
    fn check<C: OfFile>() {
        let (m, n, k) = (3, 20, 256);
        let mut random = Random::new(4);
        let (w, mut a) = (Weight::new(C::FORMAT, n, k, &mut random), Left::new(m, k, &mut random));
        a.x[k + 40] = f32::INFINITY;
        quantize_blocks(cpus()[0], &a.x, &mut a.codes, &mut a.scales);
        let (mut blocks, mut scales) =
            (vec![C::EMPTY; blocks_len(n, k)], vec![C::NO_SCALES; scales_len::<C>(n, k)]);
        let packed = PackedBlocks::<C>::pack(Rows::new(C::FORMAT, n, k, &w.stored), &mut blocks, &mut scales);
        for cpu in variants() {
            let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmQ8::<C>::scratch_len(m, k)]);
            GemmQ8::new(a.view(), packed, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
            assert!(c.iter().enumerate().all(|(i, c)| c.is_nan() == (i / n == 1)), "{} {cpu:?}", C::FORMAT);
        }
    }
    check::<Q41>();
    check::<Q5K>();
    check::<Q6K>();
}

#[test]
#[should_panic(expected = "(3, 288) in blocks of 256 packs to 9 blocks and 1 lines of scales, not 9 and 1")]
fn blocks_of_256_are_whole() {
    PackedBlocks::<Q4K>::new(3, 288, &[Q4K::EMPTY; 9], &[Q4K::NO_SCALES]);
}

#[test]
#[should_panic(expected = "codes of Q4_K from Q5_K")]
fn another_format_is_refused() {
    let stored = vec![0; Format::Q5K.bytes(256)];
    let (mut blocks, mut scales) = ([Q4K::EMPTY; 8], [Q4K::NO_SCALES; 1]);
    PackedBlocks::<Q4K>::pack(Rows::new(Format::Q5K, 1, 256, &stored), &mut blocks, &mut scales);
}
