//! Products of bfloat16: the law in plain loops, f64, inputs that are too small, what is not finite.

mod common;
use common::*;
use samebits::kernels::Line;
use samebits::kernels::activation::Activation;
use samebits::kernels::bf16::{GemmBf16, Left, PackedBf16};
use samebits::kernels::gemm::{Accumulate, Bf16, Element, Epilogue, LowRank, PackedMatrix, pack, packed_len};
use samebits::kernels::half::{bf16_to_f32, f32_to_bf16};
use samebits::kernels::simd::fma;
use samebits::kernels::simd::tiles::Plain;
use samebits::kernels::view::{MatMut, MatRef};

const LEAST: f32 = f32::from_bits((127 - 50) << 23);

/// As it is multiplied: rounded, and 0 where it is less than 2⁻⁵⁰.
fn seen(x: f32) -> f32 {
    let x = bf16_to_f32(f32_to_bf16(x));
    if x.abs() < LEAST { 0.0 } else { x }
}

/// The law for one element: `a` and `b` hold the k steps of a row and of a column.
fn law(a: &[f32], b: &[f32], prior: f32) -> f32 {
    let mut sum = prior;
    for (a, b) in a.chunks(256).zip(b.chunks(256)) {
        let mut block = 0.0;
        for (a, b) in a.chunks(32).zip(b.chunks(32)) {
            let mut chains = [0.0, 0.0];
            for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
                chains[i % 2] = fma(seen(a), seen(b), chains[i % 2]);
            }
            block += chains[0] + chains[1];
        }
        sum += block;
    }
    sum
}

/// Values over so many powers of two.
fn values(random: &mut Random, n: usize, powers: usize) -> Vec<f32> {
    let x = random.normal(n);
    x.iter().map(|x| x * f64::exp2(-(random.below(powers) as f64)) as f32).collect()
}

/// A (m, k), B (k, n) and its packed form.
struct Inputs {
    a: Vec<f32>,
    b: Vec<f32>,
    bits: Vec<u16>,
    shape: (usize, usize, usize),
}

impl Inputs {
    fn new((m, n, k): (usize, usize, usize), powers: usize, seed: u64) -> Inputs {
        let mut random = Random::new(seed);
        let a = values(&mut random, m * k, powers);
        let bits: Vec<u16> = values(&mut random, k * n, powers).into_iter().map(f32_to_bf16).collect();
        Inputs { a, b: bits.iter().map(|&b| bf16_to_f32(b)).collect(), bits, shape: (m, n, k) }
    }

    fn column(&self, j: usize) -> Vec<f32> {
        let (_, n, k) = self.shape;
        (0..k).map(|q| self.b[q * n + j]).collect()
    }

    fn want(&self, prior: &[f32]) -> Vec<f32> {
        let (m, n, k) = self.shape;
        let columns: Vec<Vec<f32>> = (0..n).map(|j| self.column(j)).collect();
        (0..m * n).map(|at| law(&self.a[at / n * k..][..k], &columns[at % n], prior[at])).collect()
    }

    #[track_caller]
    fn check(&self) {
        let (m, n, k) = self.shape;
        let prior = Random::new(3).normal(m * n);
        let (fresh, added) = (self.want(&vec![0.0; m * n]), self.want(&prior));
        for cpu in cpus() {
            let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
            let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&self.bits), k, n), &mut groups);
            let mut scratch = vec![Line([f32::NAN; 16]); GemmBf16::scratch_len(m, k, n)];
            let mut c = vec![f32::NAN; m * n];
            let a = MatRef::new(&self.a, m, k);
            GemmBf16::new(a, b, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
            assert_same(&c, &fresh, format!("{m}x{n}x{k} on {cpu:?}"));
            let mut c = vec![f32::NAN; m * n];
            GemmBf16::new(a, b, MatMut::new(&mut c, m, n)).run_on_tiles(cpu, Plain, &mut scratch);
            assert_same(&c, &fresh, format!("{m}x{n}x{k} in tiles on {cpu:?}"));
            let mut c = prior.clone();
            let job =
                GemmBf16 { accumulate: Accumulate::Add, ..GemmBf16::new(a, b, MatMut::new(&mut c, m, n)) };
            job.pieces().for_each(|piece| piece.run(cpu, &mut scratch));
            assert_same(&c, &added, format!("{m}x{n}x{k} added on {cpu:?}"));
            let mut c = prior.clone();
            let job =
                GemmBf16 { accumulate: Accumulate::Add, ..GemmBf16::new(a, b, MatMut::new(&mut c, m, n)) };
            job.pieces().for_each(|piece| piece.run_on_tiles(cpu, Plain, &mut scratch));
            assert_same(&c, &added, format!("{m}x{n}x{k} added in tiles on {cpu:?}"));
        }
    }

    /// A, C or both in bfloat16: C is what it is in `f32`, rounded as A is on its way.
    #[track_caller]
    fn check_halves(&self) {
        let (m, n, k) = self.shape;
        let halves = |x: &[f32]| -> Vec<u16> { x.iter().map(|&x| f32_to_bf16(x)).collect() };
        let (bits, prior) = (halves(&self.a), halves(&Random::new(3).normal(m * n)));
        let widened: Vec<f32> = prior.iter().map(|&x| bf16_to_f32(x)).collect();
        let fresh = self.want(&vec![0.0; m * n]);
        let rounded = |c: &[f32]| -> Vec<f32> { c.iter().map(|&c| seen(c)).collect() };
        let (short, added) = (rounded(&fresh), rounded(&self.want(&widened)));
        for cpu in cpus() {
            let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
            let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&self.bits), k, n), &mut groups);
            let mut scratch = vec![Line([f32::NAN; 16]); GemmBf16::scratch_len(m, k, n)];
            let sides: [Left<'_>; 2] =
                [MatRef::new(&self.a, m, k).into(), MatRef::new(Bf16::slice(&bits), m, k).into()];
            for (a, side) in sides.into_iter().zip(["f32", "bfloat16"]) {
                for on_tiles in [false, true] {
                    let what = format!("{m}x{n}x{k} of {side} on {cpu:?}, in tiles: {on_tiles}");
                    let mut run = |job: GemmBf16<'_>| match on_tiles {
                        false => job.pieces().for_each(|piece| piece.run(cpu, &mut scratch)),
                        true => job.run_on_tiles(cpu, Plain, &mut scratch),
                    };
                    let mut c = vec![f32::NAN; m * n];
                    run(GemmBf16::new(a, b, MatMut::new(&mut c, m, n)));
                    assert_same(&c, &fresh, format!("C in f32: {what}"));
                    let mut c = vec![Bf16(0x7fc0); m * n];
                    run(GemmBf16::new(a, b, MatMut::new(&mut c, m, n)));
                    assert_same(&floats(&c), &short, format!("C in bfloat16: {what}"));
                    let mut c = Bf16::slice(&prior).to_vec();
                    let job = GemmBf16::new(a, b, MatMut::new(&mut c, m, n));
                    run(GemmBf16 { accumulate: Accumulate::Add, ..job });
                    assert_same(&floats(&c), &added, format!("C in bfloat16, added: {what}"));
                }
            }
        }
    }
}

fn floats(halves: &[Bf16]) -> Vec<f32> {
    halves.iter().map(|x| bf16_to_f32(x.0)).collect()
}

/// Of every side a form of its own; more columns than sums are kept of, more rows than a strip has, more steps than are
/// prepared at once; what is too small in A, and what comes out too small.
#[test]
fn sides_in_bfloat16_give_the_bits_of_f32() {
    for shape in [(1, 1, 1), (3, 21, 40), (8, 64, 256), (17, 35, 70), (32, 32, 32), (33, 20, 600)] {
        Inputs::new(shape, 8, 5).check_halves();
    }
    Inputs::new((33, 37, 290), 110, 1).check_halves();
    for shape in [(64, 64, 1088), (400, 40, 520), (32, 4140, 1030)] {
        if !slow() {
            Inputs::new(shape, 8, 6).check_halves();
        }
    }
}

/// C that begins at a line of memory and is larger than 2 MB goes past the caches; with what follows, and without.
#[test]
fn a_large_result_has_the_bits_of_a_small_one() {
    if slow() {
        return;
    }
    let (m, n, k) = (64, 16_416, 300);
    let inputs = Inputs::new((m, n, k), 8, 7);
    let bias = Random::new(1).vec(n);
    let mut want = inputs.want(&vec![0.0; m * n]);
    want.iter_mut().enumerate().for_each(|(at, c)| *c += bias[at % n]);
    let short: Vec<f32> = want.iter().map(|&c| seen(c)).collect();
    for cpu in cpus() {
        let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
        let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&inputs.bits), k, n), &mut groups);
        let mut scratch = vec![Line::ZERO; GemmBf16::scratch_len(m, k, n)];
        let (a, epilogue) = (MatRef::new(&inputs.a, m, k), Epilogue { bias: Some(&bias), ..Epilogue::NONE });
        let mut memory = vec![Line([f32::NAN; 16]); m * n / 16];
        let c = MatMut::new(Line::floats_mut(&mut memory), m, n);
        GemmBf16 { epilogue, ..GemmBf16::new(a, b, c) }.run(cpu, &mut scratch);
        assert_same(Line::floats(&memory), &want, format!("f32 on {cpu:?}"));
        let c: MatMut<'_, Bf16> = MatMut::new(&mut Line::elements_mut(&mut memory)[..m * n], m, n);
        GemmBf16 { epilogue, ..GemmBf16::new(a, b, c) }.run(cpu, &mut scratch);
        assert_same(&floats(&Line::elements(&memory)[..m * n]), &short, format!("bfloat16 on {cpu:?}"));
    }
}

#[test]
fn products_follow_the_law_at_every_length_and_odd_shapes() {
    for k in 0..=67 {
        Inputs::new((3, 21, k), 8, k as u64).check();
    }
    for m in 1..=19 {
        Inputs::new((m, 35, 70), 8, m as u64).check();
    }
    for n in 1..=67 {
        Inputs::new((1, n, 37), 8, n as u64).check();
    }
    for shape in [(7, 37, 1100), (1, 70, 2085), (53, 17, 300), (8, 130, 257)] {
        if !slow() || shape.0 * shape.1 * shape.2 < 1 << 18 {
            Inputs::new(shape, 8, 5).check();
        }
    }
}

/// Below 2⁻⁵⁰ an input is 0, from there on it counts.
#[test]
fn what_is_too_small_is_zero() {
    Inputs::new((5, 33, 290), 110, 1).check();
    let below = f32::from_bits(LEAST.to_bits() - (1 << 16));
    for (x, want) in [(LEAST, LEAST), (-LEAST, -LEAST), (below, 0.0), (1e-40, 0.0), (-below, 0.0)] {
        for cpu in cpus() {
            for (a, b) in [(x, 1.0), (1.0, x)] {
                let bits = [f32_to_bf16(b)];
                let mut groups = vec![Bf16::ZERO; packed_len(1, 1)];
                let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&bits), 1, 1), &mut groups);
                let (mut c, mut scratch) = ([9.0], vec![Line::ZERO; GemmBf16::scratch_len(1, 1, 1)]);
                GemmBf16::new(MatRef::new(&[a], 1, 1), b, MatMut::new(&mut c, 1, 1)).run(cpu, &mut scratch);
                assert_same(&c, &[want], format!("{a:e} · {x:e} on {cpu:?}"));
            }
        }
    }
}

/// Bias, activation, residual; A and C in columns.
#[test]
fn what_follows_the_sum_and_strides() {
    let (m, n, k) = (7, 40, 300);
    let inputs = Inputs::new((m, n, k), 4, 8);
    let (bias, residual) = (Random::new(1).vec(n), Random::new(2).vec(m * n));
    let turned: Vec<f32> = (0..k * m).map(|at| inputs.a[at % m * k + at / m]).collect();
    let sums = inputs.want(&vec![0.0; m * n]);
    for cpu in cpus() {
        let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
        let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&inputs.bits), k, n), &mut groups);
        let (mut c, mut scratch) = (vec![0.0; n * m], vec![Line::ZERO; GemmBf16::scratch_len(m, k, n)]);
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Activation::Relu,
            residual: Some(MatRef::new(&residual, m, n)),
            ..Epilogue::NONE
        };
        let (a, out) = (MatRef::new(&turned, k, m).t(), MatMut::new(&mut c, n, m).t());
        GemmBf16 { epilogue, ..GemmBf16::new(a, b, out) }.run(cpu, &mut scratch);
        for at in 0..m * n {
            let sum = sums[at] + bias[at % n];
            let want = (if sum > 0.0 { sum } else { 0.0 }) + residual[at];
            assert_same(&[c[at % n * m + at / n]], &[want], format!("{at} on {cpu:?}"));
        }
        let mut halves = vec![Bf16(0); n * m];
        let out = MatMut::new(&mut halves, n, m).t();
        GemmBf16 { epilogue, ..GemmBf16::new(a, b, out) }.run(cpu, &mut scratch);
        let rounded: Vec<f32> = c.iter().map(|&c| seen(c)).collect();
        assert_same(&floats(&halves), &rounded, format!("in bfloat16 on {cpu:?}"));
    }
}

/// A product of low rank is added last: one chain of FMAs in f32, then the sum.
#[test]
fn a_low_rank_is_added_last() {
    for (m, n, k, rank) in [(40, 70, 300, 8), (64, 64, 40, 3), (9, 33, 270, 16)] {
        let inputs = Inputs::new((m, n, k), 4, 8);
        let (h, b) = (Random::new(1).vec(m * rank), Random::new(2).vec(rank * n));
        let low = |i: usize, j: usize| (0..rank).fold(0.0, |c, q| fma(h[i * rank + q], b[q * n + j], c));
        let sums = inputs.want(&vec![0.0; m * n]);
        let want: Vec<f32> = sums.iter().enumerate().map(|(at, c)| c + low(at / n, at % n)).collect();
        for cpu in cpus() {
            let mut low = vec![f32::ZERO; packed_len(rank, n)];
            pack(cpu, MatRef::new(&b, rank, n), &mut low);
            let low = LowRank { h: MatRef::new(&h, m, rank), b: PackedMatrix::new(&low, rank, n) };
            let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
            let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&inputs.bits), k, n), &mut groups);
            let mut scratch = vec![Line::ZERO; GemmBf16::scratch_len(m, k, n)];
            let epilogue = Epilogue { low_rank: Some(low), ..Epilogue::NONE };
            for on_tiles in [false, true] {
                let mut c = vec![f32::NAN; m * n];
                let job = GemmBf16::new(MatRef::new(&inputs.a, m, k), b, MatMut::new(&mut c, m, n));
                let job = GemmBf16 { epilogue, ..job };
                match on_tiles {
                    false => job.run(cpu, &mut scratch),
                    true => job.run_on_tiles(cpu, Plain, &mut scratch),
                }
                assert_same(&c, &want, format!("{m}x{n}x{k} + rank {rank} on {cpu:?}, in tiles: {on_tiles}"));
            }
        }
    }
}

/// What is not finite reaches its row, or its column, and nothing else.
#[test]
fn what_is_not_finite_comes_through() {
    let (m, n, k) = (3, 20, 70);
    let mut inputs = Inputs::new((m, n, k), 1, 2);
    inputs.a[k + 33] = f32::NAN;
    inputs.bits[5 * n + 17] = f32_to_bf16(f32::INFINITY);
    inputs.b[5 * n + 17] = f32::INFINITY;
    inputs.check();
}

/// Against f64 of the rounded inputs: the header's bound.
#[test]
fn errors_stay_within_the_bound() {
    const U: f64 = 1.0 / (1 << 24) as f64;
    for (m, n, k) in [(4, 33, 256), (2, 17, 4096), (1, 16, 31)] {
        let inputs = Inputs::new((m, n, k), 6, k as u64);
        let cpu = cpus()[0];
        let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
        let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&inputs.bits), k, n), &mut groups);
        let (mut c, mut scratch) = (vec![0.0; m * n], vec![Line::ZERO; GemmBf16::scratch_len(m, k, n)]);
        GemmBf16::new(MatRef::new(&inputs.a, m, k), b, MatMut::new(&mut c, m, n)).run(cpu, &mut scratch);
        for (at, &c) in c.iter().enumerate() {
            let (mut sum, mut size) = (0.0, 0.0);
            for (a, b) in inputs.a[at / n * k..][..k].iter().zip(inputs.column(at % n)) {
                let product = f64::from(seen(*a)) * f64::from(seen(b));
                (sum, size) = (sum + product, size + product.abs());
            }
            let steps = (k.min(32).div_ceil(2) + k.div_ceil(32).min(8) + k.div_ceil(256) + 2) as f64;
            assert!((f64::from(c) - sum).abs() <= steps * U * size, "{m}x{n}x{k} {at}: {c} {sum}");
        }
    }
}

/// Packing floats rounds as everything else does: what is no number stays none, wherever its payload lies.
#[test]
fn floats_are_packed_as_they_are_seen() {
    let mut random = Random::new(9);
    for (k, n) in [(1, 1), (9, 17), (40, 33)] {
        let mut x = values(&mut random, k * n, 60);
        let hard =
            [0x7f80_0001, 0xff80_ffff, 0x7fc0_0000, 0x7f80_0000, 0x7f7f_ffff, 0x8000_0000, 0x3f80_8000];
        x.iter_mut().step_by(3).zip(hard).for_each(|(x, bits)| *x = f32::from_bits(bits));
        let want: Vec<f32> = x.iter().map(|&x| seen(x)).collect();
        for cpu in cpus() {
            let mut groups = vec![Bf16::ZERO; packed_len(k, n)];
            PackedBf16::pack_floats(cpu, MatRef::new(&x, k, n), &mut groups);
            let depth = k.div_ceil(8);
            let at = |i: usize, j: usize| groups[j / 16 * depth + i / 8].get(i % 8, j % 16);
            let got: Vec<f32> = (0..k * n).map(|e| bf16_to_f32(at(e / n, e % n).0)).collect();
            assert_same(&got, &want, format!("{cpu:?} ({k}, {n})"));
        }
    }
}
