//! Layers in the classes of bf16 and int8: the law in plain loops from what was stored, whatever it was stored as; what a
//! batch, a split, threads or a tier may not change.

mod common;

use common::formats::{self, Block};
use common::{Random, assert_same, cpus, slow, variants};
use samebits::Cpu;
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::gemm::{Accumulate, Bf16, F16};
use samebits::kernels::ggml::{self, Format, Rows};
use samebits::kernels::half::{bf16_to_f32, f32_to_bf16, f32_to_f16};
use samebits::kernels::nf4::{self, RowNf4};
use samebits::kernels::simd::fma;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::nn::{Compute, Linear, Weight, input_gradient, products, weight_gradient};
use samebits::pool::Pool;
use samebits::run::Run;

const CLASSES: [Compute; 2] = [Compute::Bf16, Compute::Int8];

/// What int8 is to multiply: blocks of 32 (n, k in whole blocks), and whether they have minima.
struct Codes {
    blocks: Vec<Block>,
    minima: bool,
}

impl Codes {
    /// Q8_0 as ggml makes it of floats, rows filled with 0 to whole blocks.
    fn q8_0(cpu: Cpu, w: &[f32], k: usize) -> Codes {
        let full = k.next_multiple_of(32);
        let rows = w.chunks(k).flat_map(|row| row.iter().copied().chain(vec![0.0; full - k]));
        let rows: Vec<f32> = rows.collect();
        let mut stored = vec![0; Format::Q8_0.bytes(rows.len())];
        ggml::quantize_q8_0(cpu, &rows, &mut stored).unwrap();
        Codes::of_file(Format::Q8_0, &stored)
    }

    /// Those of a file.
    fn of_file(format: Format, stored: &[u8]) -> Codes {
        Codes { blocks: formats::blocks(format, stored), minima: formats::with_minima(format) }
    }

    /// The values, all rows.
    fn decoded(&self) -> Vec<f32> {
        let of_block = |block: &Block| -> Vec<f32> {
            let product = |i: usize| block.integers[i] as f32 * block.scales[i / 16];
            (0..32).map(|i| if self.minima { product(i) + block.minimum } else { product(i) }).collect()
        };
        self.blocks.iter().flat_map(of_block).collect()
    }

    /// Clause 10 for row `j` and a row of A.
    fn law(&self, x: &[f32], j: usize) -> f32 {
        let (mut sum, mut chain, depth) = (0.0, 0.0, x.len().div_ceil(32));
        for (t, (x, w)) in x.chunks(32).zip(&self.blocks[j * depth..]).enumerate() {
            let scale = x.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
            let code = |x: f32| if scale == 0.0 { 0 } else { (x / scale).round_ties_even() as i32 };
            let codes: Vec<i32> = x.iter().map(|&x| code(x)).collect();
            for from in (0..32).step_by(w.run) {
                let pairs = codes.iter().skip(from).zip(&w.integers[from..from + w.run]);
                let dot: i32 = pairs.map(|(a, w)| a * w).sum();
                chain = fma(dot as f32, scale * w.scales[from / 16], chain);
            }
            if self.minima {
                chain = fma(scale * codes.iter().sum::<i32>() as f32, w.minimum, chain);
            }
            if t % 8 == 7 {
                (sum, chain) = (sum + chain, 0.0);
            }
        }
        sum + chain
    }
}

/// As bf16 sees it: rounded, and 0 where it is less than 2⁻⁵⁰.
fn seen(x: f32) -> f32 {
    let x = bf16_to_f32(f32_to_bf16(x));
    if x.abs() < f64::exp2(-50.0) as f32 { 0.0 } else { x }
}

/// Clause 10 for two rows that are rounded to bfloat16.
fn bf16_law(x: &[f32], w: &[f32]) -> f32 {
    bf16_chain(x, w, 0.0)
}

/// The same, added to `sum`.
fn bf16_chain(x: &[f32], w: &[f32], mut sum: f32) -> f32 {
    for (x, w) in x.chunks(256).zip(w.chunks(256)) {
        let mut block = 0.0;
        for (x, w) in x.chunks(32).zip(w.chunks(32)) {
            let mut chains = [0.0, 0.0];
            for (i, (&x, &w)) in x.iter().zip(w).enumerate() {
                chains[i % 2] = fma(seen(x), seen(w), chains[i % 2]);
            }
            block += chains[0] + chains[1];
        }
        sum += block;
    }
    sum
}

/// A weight (n, k) in every form, and what int8 is to make of each: its own codes, or Q8_0 of its values.
fn forms(cpu: Cpu, w: &[f32], n: usize, k: usize) -> Vec<(&'static str, Weight, Codes)> {
    let bits = |f: fn(f32) -> u16| w.iter().map(|&x| f(x)).collect::<Vec<u16>>();
    let (bf16, f16) = (bits(f32_to_bf16), bits(f32_to_f16));
    let plain = Weight::from_f32(cpu, MatRef::new(w, n, k));
    let of_values = |name, weight: Weight| {
        let codes = Codes::q8_0(cpu, &weight.to_rows(cpu), k);
        (name, weight, codes)
    };
    let mut all = vec![
        of_values("trained", Weight::plain(n, k, w.to_vec())),
        of_values("bf16", Weight::from_bf16(cpu, MatRef::new(Bf16::slice(&bf16), n, k))),
        of_values("f16", Weight::from_f16(cpu, MatRef::new(F16::slice(&f16), n, k))),
        of_values("NF4 in blocks of 7", plain.to_nf4(cpu, 7).unwrap()),
    ];
    if k.is_multiple_of(32) {
        let mut stored = vec![0; Format::Q8_0.bytes(n * k)];
        ggml::quantize_q8_0(cpu, w, &mut stored).unwrap();
        let codes = Codes::of_file(Format::Q8_0, &stored);
        all.push(("Q8_0", Weight::from_ggml(Rows::new(Format::Q8_0, n, k, &stored)), codes));
        let mut stored = vec![0; Format::Q4_0.bytes(n * k)];
        ggml::quantize_q4_0(cpu, w, &mut stored).unwrap();
        let codes = Codes::of_file(Format::Q4_0, &stored);
        all.push(("Q4_0", Weight::from_ggml(Rows::new(Format::Q4_0, n, k, &stored)), codes));
        let codes = Codes::of_file(Format::Iq4Nl, &stored);
        all.push(("IQ4_NL", Weight::from_ggml(Rows::new(Format::Iq4Nl, n, k, &stored)), codes));
        let mut random = Random::new((n + k) as u64);
        let of_256 = [Format::Q4K, Format::Q5K, Format::Q6K, Format::Q3K];
        for format in [Format::Q4_1, Format::Q5_0, Format::Q5_1].into_iter().chain(of_256) {
            if !k.is_multiple_of(format.block_len()) {
                continue;
            }
            let stored = formats::any_blocks(format, n * k, &mut random);
            let weight = Weight::from_ggml(Rows::new(format, n, k, &stored));
            all.push(match format {
                Format::Q3K => of_values("Q3_K", weight),
                _ => (format.name(), weight, Codes::of_file(format, &stored)),
            });
        }
        let (mut codes, mut absmax) = (vec![0; n * k / 2], vec![0.0; (n * k).div_ceil(64)]);
        nf4::quantize(cpu, w, 64, &mut codes, &mut absmax).unwrap();
        let code = |at: usize| usize::from(codes[at / 2] >> (4 * (1 - at % 2)) & 15);
        let level = |at: usize| (127.0 * nf4::LEVELS[code(at)]).round() as i32;
        let block = |b: usize| Block {
            integers: (b * 32..(b + 1) * 32).map(level).collect(),
            scales: [absmax[b * 32 / 64] / 127.0; 2],
            minimum: 0.0,
            run: 32,
        };
        let blocks = (0..n * k / 32).map(block).collect();
        let weight = Weight::from_nf4(RowNf4::new(n, k, 64, &codes, &absmax));
        all.push(("NF4", weight, Codes { blocks, minima: false }));
    }
    all.push(of_values("f32", plain));
    all
}

#[test]
fn a_layer_obeys_the_law_whatever_its_weight_was_stored_as() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        for (n, k) in [(1, 1), (17, 33), (40, 64), (35, 288), (18, 300), (19, 512)] {
            let mut random = Random::new(k as u64);
            let w: Vec<f32> = random.normal(n * k).iter().map(|x| 0.3 * x).collect();
            let (bias, rows) = (random.normal(n), 9);
            let (x, beside) = (random.normal(rows * k), random.normal(rows * n));
            for (name, weight, codes) in forms(cpu, &w, n, k) {
                let values = weight.to_rows(cpu);
                for class in CLASSES {
                    let layer = Linear::new(weight.in_class(cpu, class).unwrap(), Some(bias.clone().into()));
                    assert_eq!(layer.weight.compute(), class);
                    let mut y = vec![0.0; rows * n];
                    let out = MatMut::new(&mut y, rows, n);
                    let product = layer.product(MatRef::new(&x, rows, k), out);
                    products(&run, [product.plus(MatRef::new(&beside, rows, n))]);
                    let want: Vec<f32> = (0..rows * n)
                        .map(|at| {
                            let (x, j) = (&x[at / n * k..][..k], at % n);
                            let sum = match class {
                                Compute::Bf16 => bf16_law(x, &values[j * k..][..k]),
                                _ => codes.law(x, j),
                            };
                            sum + bias[j] + beside[at]
                        })
                        .collect();
                    assert_same(&y, &want, format!("{name} ({n}, {k}) in {class:?}, {}", cpu.tier()));
                }
            }
        }
    }
}

/// What a weight of a class says of its rows is what its products see.
#[test]
fn rows_of_a_weight_are_the_values_of_its_class() {
    let cpu = cpus()[0];
    let (n, k) = (21, 256);
    let w = Random::new(4).normal(n * k);
    for (name, weight, codes) in forms(cpu, &w, n, k) {
        let rounded: Vec<f32> = weight.to_rows(cpu).iter().map(|&x| seen(x)).collect();
        assert_same(&weight.in_class(cpu, Compute::Bf16).unwrap().to_rows(cpu), &rounded, name);
        let decoded = codes.decoded();
        assert_same(&weight.in_class(cpu, Compute::Int8).unwrap().to_rows(cpu), &decoded, name);
        let as_stored = Format::ALL.iter().any(|format| format.name() == name) && name != "Q3_K";
        if as_stored {
            assert_same(&decoded, &weight.to_rows(cpu), "as they are stored");
            let own = weight.in_class(cpu, Compute::Int8).unwrap().stored();
            assert_eq!(own, weight.stored(), "{name} stays what it is");
        }
        assert!(format!("{:?}", weight.in_class(cpu, Compute::Int8).unwrap()).ends_with("in int8)"));
    }
}

/// Three layers of one input and one of another, of both classes and f32, with what may follow the sum.
fn together(run: &Run<'_>, layers: &[Linear; 4], x: &[f32], rows: usize) -> Vec<f32> {
    let (n, k) = (layers[0].out_features(), layers[0].in_features());
    let other: Vec<f32> = x.iter().map(|x| x - 0.5).collect();
    let mut y = [const { Vec::new() }; 4];
    y.iter_mut().for_each(|y| y.resize(rows * n, 0.0));
    let [a, b, c, d] = y.each_mut().map(|y| MatMut::new(y, rows, n));
    let (x, z) = (MatRef::new(x, rows, k), MatRef::new(&other, rows, k));
    let [p, q, r, s] = layers;
    products(
        run,
        [p.product(x, a).then(Activation::Silu), q.product(x, b), r.product(z, c), s.product(x, d)],
    );
    y.concat()
}

#[test]
fn no_batch_thread_or_tier_changes_a_bit() {
    let (n, k, rows) = (200, 300, 70);
    let mut random = Random::new(9);
    let w: Vec<Vec<f32>> = (0..4).map(|_| random.normal(n * k)).collect();
    let x = random.normal(rows * k);
    let layers = |cpu: Cpu| {
        let classes = [Compute::Int8, Compute::Bf16, Compute::Int8, Compute::F32];
        [0, 1, 2, 3].map(|i| {
            let weight = Weight::from_f32(cpu, MatRef::new(&w[i], n, k));
            Linear::new(weight.in_class(cpu, classes[i]).unwrap(), None)
        })
    };
    let first = cpus()[0];
    let want = together(&Run::here(first), &layers(first), &x, rows);
    for cpu in variants() {
        let layers = layers(cpu);
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            let run = Run::on(cpu, &pool);
            let what = format!("{threads} threads, {}", cpu.tier());
            assert_same(&together(&run, &layers, &x, rows), &want, &what);
            let some = if slow() { vec![0, 69] } else { vec![0, 1, 33, 69] };
            for r in some {
                let alone = together(&run, &layers, &x[r * k..][..k], 1);
                let row: Vec<f32> = want.chunks(rows * n).flat_map(|y| &y[r * n..][..n]).copied().collect();
                assert_same(&alone, &row, format!("row {r} alone, {what}"));
            }
        }
    }
    // The activation is that of the sums, as in f32.
    let run = Run::here(first);
    let layer = &layers(first)[0];
    let mut sums = vec![0.0; rows * n];
    layer.forward(&run, MatRef::new(&x, rows, k), MatMut::new(&mut sums, rows, n));
    activation::apply_in_place(first, Activation::Silu, MatMut::new(&mut sums, rows, n));
    assert_same(&sums, &want[..rows * n], "the activation after the sum");
}

/// dx = dy W in bf16: clause 10 with the outputs as k, however W was stored.
#[test]
fn the_gradient_of_an_input_obeys_the_law() {
    for cpu in cpus() {
        for (n, k) in [(1, 1), (33, 17), (64, 40), (300, 21)] {
            let mut random = Random::new(n as u64);
            let (w, rows) = (random.normal(n * k), 9);
            let (dy, prior) = (random.normal(rows * n), random.normal(rows * k));
            let weight = Weight::from_f32(cpu, MatRef::new(&w, n, k)).in_class(cpu, Compute::Bf16).unwrap();
            let column = |i: usize| (0..n).map(|o| w[o * k + i]).collect::<Vec<f32>>();
            let columns: Vec<_> = (0..k).map(column).collect();
            for (accumulate, threads) in [(Accumulate::Overwrite, 1), (Accumulate::Add, 3)] {
                let pool = Pool::new(threads);
                let (run, mut dx) = (Run::on(cpu, &pool), prior.clone());
                let to = MatMut::new(&mut dx, rows, k);
                input_gradient(&run, &weight, MatRef::new(&dy, rows, n), accumulate, to);
                let law = |at: usize| {
                    let start = if accumulate == Accumulate::Add { prior[at] } else { 0.0 };
                    bf16_chain(&dy[at / k * n..][..n], &columns[at % k], start)
                };
                let want: Vec<f32> = (0..rows * k).map(law).collect();
                assert_same(&dx, &want, format!("({n}, {k}), {accumulate:?}, {}", cpu.tier()));
            }
        }
    }
}

/// dW = dyᵀ x in bf16: clause 10 with the rows as k, whichever of the two is packed.
#[test]
fn the_gradient_of_a_weight_obeys_the_law() {
    for cpu in cpus() {
        for (rows, n, k) in [(1, 1, 1), (33, 17, 40), (9, 70, 8), (300, 21, 33), (64, 40, 100)] {
            let mut random = Random::new((rows + n) as u64);
            let (mut x, dy, prior) = (random.normal(rows * k), random.normal(rows * n), random.normal(n * k));
            x.iter_mut().step_by(5).for_each(|x| *x *= f64::exp2(-51.0) as f32);
            let column = |all: &[f32], width: usize, c: usize| -> Vec<f32> {
                all.iter().skip(c).step_by(width).copied().collect()
            };
            for (accumulate, threads) in [(Accumulate::Overwrite, 1), (Accumulate::Add, 3)] {
                let pool = Pool::new(threads);
                let (run, mut dw) = (Run::on(cpu, &pool), prior.clone());
                let (x_view, dy_view) = (MatRef::new(&x, rows, k), MatRef::new(&dy, rows, n));
                let to = MatMut::new(&mut dw, n, k);
                weight_gradient(&run, Compute::Bf16, (x_view, dy_view), accumulate, to);
                let law = |at: usize| {
                    let start = if accumulate == Accumulate::Add { prior[at] } else { 0.0 };
                    bf16_chain(&column(&dy, n, at / k), &column(&x, k, at % k), start)
                };
                let want: Vec<f32> = (0..n * k).map(law).collect();
                assert_same(&dw, &want, format!("{rows} rows, ({n}, {k}), {accumulate:?}, {}", cpu.tier()));
            }
        }
    }
}

#[test]
fn codes_of_what_is_not_finite_are_refused_by_its_place() {
    let cpu = cpus()[0];
    let mut w = vec![0.5; 3 * 40];
    w[2 * 40 + 33] = f32::NAN;
    let weight = Weight::from_f32(cpu, MatRef::new(&w, 3, 40));
    let error = weight.in_class(cpu, Compute::Int8).unwrap_err();
    assert_eq!(error.to_string(), nf4::NotFinite { index: 2 * 40 + 33 }.to_string());
    assert!(weight.in_class(cpu, Compute::Bf16).is_ok(), "bfloat16 has a NaN of its own");
}

#[test]
fn classes_have_names() {
    for class in Compute::ALL {
        assert_eq!(Compute::from_name(class.name()), Some(class));
    }
    assert_eq!((Compute::default(), Compute::from_name("fp8")), (Compute::F32, None));
}
