//! Optimizers, schedules and FP4: twins on every tier; PyTorch, bitsandbytes and transformers, whose results
//! tests/reference/optimizers.py committed; what happens to gradients that are not finite; stop and start.

mod common;

use common::*;
use samebits::io::{json, safetensors::SafeTensors};
use samebits::kernels::nf4::fp4;
use samebits::kernels::optim::{AdamW, AdamWOptions, Direction, Lion, Momentum, Sgd, eight, sum_of_squares};
use samebits::pool::Pool;
use samebits::run::Run;
use samebits::train::{Curve, Method, Optimizer, Outcome, Parameter, Schedule, Shape};
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn reference() -> SafeTensors {
    SafeTensors::open(data("optimizers.safetensors")).unwrap()
}

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().bytes.as_chunks().0;
    bytes.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// The inputs of the script, by its own formulae.
const N: usize = 37;

fn gradient(t: usize) -> Vec<f32> {
    (0..N).map(|i| ((7 * i + 13 * t + i * t) % 31) as f32 / 16.0 - 15.0 / 16.0).collect()
}

fn weights() -> Vec<f32> {
    (0..N).map(|i| ((11 * i) % 29) as f32 / 8.0 - 14.0 / 8.0).collect()
}

const ADAMW: AdamWOptions = AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 };

/// One element of AdamW in plain Rust, the gradient scaled already; p, m, v.
fn adamw_twin(t: i32, lr: f64, g: f32, [p, m, v]: [f32; 3]) -> [f32; 3] {
    let [beta1, beta2] = ADAMW.betas;
    let m = ((1.0 - beta1) as f32).mul_add(g - m, m);
    let v = (beta2 as f32).mul_add(v, (1.0 - beta2) as f32 * g * g);
    // std's powi and the kernels' exp and ln agree to `f64`'s last bits, so to the bit once rounded to `f32`.
    let step = (lr / (1.0 - beta1.powi(t))) as f32;
    let root = v.sqrt().mul_add((1.0 / (1.0 - beta2.powi(t)).sqrt()) as f32, ADAMW.eps as f32);
    let p = p * (1.0 - lr * ADAMW.weight_decay) as f32;
    [(-step).mul_add(m / root, p), m, v]
}

/// Every step against loops without SIMD words, at every length.
#[test]
fn twins() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for n in (0..=67).chain([255, 1000]) {
            let (p, g) = (random.normal(n), random.normal(n));
            let (m, v) = (random.normal(n), random.normal(n).iter().map(|x| x * x).collect::<Vec<f32>>());
            let what = |name: &str| format!("{name} {cpu:?} n = {n}");
            let sgd = Sgd { lr: 0.1, weight_decay: 0.05, scale: 0.5 };
            let grad = |i: usize| 0.05f32.mul_add(p[i], g[i] * 0.5);
            let mut got = p.clone();
            sgd.run(cpu, &mut got, &g);
            let want: Vec<f32> = (0..n).map(|i| (-0.1f32).mul_add(grad(i), p[i])).collect();
            assert_same(&got, &want, what("sgd"));

            let (mut got, mut moment) = (p.clone(), m.clone());
            Momentum { sgd, momentum: 0.9, direction: Direction::Nesterov }.run(
                cpu,
                &mut got,
                &g,
                &mut moment,
            );
            let new: Vec<f32> = (0..n).map(|i| 0.9f32.mul_add(m[i], grad(i))).collect();
            let way = |i: usize| 0.9f32.mul_add(new[i], grad(i));
            let want: Vec<f32> = (0..n).map(|i| (-0.1f32).mul_add(way(i), p[i])).collect();
            assert_same(&moment, &new, what("nesterov's moment"));
            assert_same(&got, &want, what("nesterov"));

            let (mut got, mut moment) = (p.clone(), m.clone());
            Lion::new(0.01, [0.9, 0.99], 0.1, 0.5).run(cpu, &mut got, &g, &mut moment);
            let mix = |i: usize, beta: f64| (beta as f32).mul_add(m[i], (1.0 - beta) as f32 * (g[i] * 0.5));
            let sign = |x: f32| f32::from(i8::from(x > 0.0) - i8::from(x < 0.0));
            let decay = (1.0 - 0.01 * 0.1) as f32;
            let want: Vec<f32> = (0..n).map(|i| p[i] * decay - 0.01 * sign(mix(i, 0.9))).collect();
            assert_same(&got, &want, what("lion"));
            assert_same(&moment, &(0..n).map(|i| mix(i, 0.99)).collect::<Vec<_>>(), what("lion's moment"));

            let (mut got, mut got_m, mut got_v) = (p.clone(), m.clone(), v.clone());
            AdamW::at(3, 0.01, &ADAMW, 0.5).run(cpu, &mut got, &g, &mut got_m, &mut got_v);
            let twin: Vec<[f32; 3]> =
                (0..n).map(|i| adamw_twin(3, 0.01, g[i] * 0.5, [p[i], m[i], v[i]])).collect();
            for (k, got) in [got, got_m, got_v].iter().enumerate() {
                assert_same(got, &twin.iter().map(|x| x[k]).collect::<Vec<_>>(), what("adamw"));
            }
            let chains = common::chains::sum_f64(p.iter().map(|&x| f64::from(x) * f64::from(x)));
            assert_eq!(sum_of_squares(cpu, &p), chains, "{}", what("sum of squares"));
        }
    }
}

/// The largest difference in units u of the larger of the weight and the whole way that weights went.
fn off(got: &[f32], want: &[f32], least: f32) -> f64 {
    let units =
        got.iter().zip(want).map(|(g, w)| f64::from((g - w).abs()) / f64::from(w.abs().max(least)) / U);
    units.fold(0.0, f64::max)
}

/// Five steps of each method, the weights after every step, on one thread and on three.
#[test]
fn pytorch_and_bitsandbytes() {
    let file = reference();
    let sgd = |weight_decay, momentum, direction| Method::Sgd { weight_decay, momentum, direction };
    let cases = [
        ("sgd", 0.1, sgd(0.0, 0.0, Direction::Moment)),
        ("sgd_decay", 0.1, sgd(0.05, 0.0, Direction::Moment)),
        ("momentum", 0.1, sgd(0.05, 0.9, Direction::Moment)),
        ("nesterov", 0.1, sgd(0.0, 0.9, Direction::Nesterov)),
        ("adamw", 0.01, Method::AdamW(ADAMW)),
        ("lion", 0.01, Method::Lion { betas: [0.9, 0.99], weight_decay: 0.1 }),
    ];
    let pool = Pool::new(3);
    for cpu in cpus() {
        for run in [Run::here(cpu), Run::on(cpu, &pool)] {
            for (name, lr, method) in cases {
                let (mut p, mut optimizer) = (weights(), Optimizer::new(method));
                for (t, want) in floats(&file, name).chunks(N).enumerate() {
                    let g = gradient(t);
                    optimizer.step(&run, lr, None, &mut [Parameter::new("p", &mut p, &g)]).unwrap();
                    let units = off(&p, want, 0.125);
                    assert!(units <= 4.0, "{name} {cpu:?} step {t}: {units} u");
                }
                assert_eq!(optimizer.steps(), 5);
            }
        }
    }
}

/// A thousand steps stay as near to the same in `f64` as PyTorch's in `f32` do.
#[test]
fn a_thousand_steps() {
    let file = reference();
    let double = file.tensor("adamw_1000_double").unwrap().bytes.as_chunks().0;
    let double: Vec<f32> = double.iter().map(|&b| f64::from_le_bytes(b) as f32).collect();
    let torch = off(&floats(&file, "adamw_1000"), &double, 0.125);
    let run = Run::here(Cpu::detect());
    let method = Method::AdamW(AdamWOptions { betas: [0.9, 0.95], ..ADAMW });
    let (mut p, mut optimizer) = (weights(), Optimizer::new(method));
    for t in 0..1000 {
        let g = gradient(t);
        optimizer.step(&run, 1e-3, None, &mut [Parameter::new("p", &mut p, &g)]).unwrap();
    }
    let ours = off(&p, &double, 0.125);
    println!("after 1,000 steps: {ours:.1} u here, {torch:.1} u in PyTorch");
    assert!(ours <= 1.25 * torch + 4.0, "{ours} u, PyTorch {torch} u");
}

/// The states that bitsandbytes had before a step give the weights that it had after; codes are the nearest, which
/// bitsandbytes' table of 65,536 bins over [−1, 1] misses now and then, by no more than two bins.
#[test]
fn eight_bits_as_bitsandbytes() {
    let file = reference();
    assert_same(&eight::UNSIGNED, &floats(&file, "map_unsigned"), "unsigned map");
    let bytes = |name: &str| file.tensor(name).unwrap().bytes.to_vec();
    for cpu in cpus() {
        for t in 0..3 {
            let at = |t: usize, part: &str| format!("eight/{t}/{part}");
            let [mut p, g, mut am, mut av] = ["p", "g", "am", "av"].map(|x| floats(&file, &at(t, x)));
            let [mut m, mut v] = ["m", "v"].map(|x| bytes(&at(t, x)));
            let step = AdamW::at(t as u64 + 1, 0.01, &ADAMW, 1.0);
            let moments = eight::Moments { m: &mut m, v: &mut v, m_absmax: &mut am, v_absmax: &mut av };
            eight::adamw(cpu, step, &mut p, &g, moments);
            let units = off(&p, &floats(&file, &at(t + 1, "p")), 0.125);
            assert!(units <= 4.0, "{cpu:?} step {t}: weights {units} u away");
            for (got, part) in [(&am, "am"), (&av, "av")] {
                let units = off(got, &floats(&file, &at(t + 1, part)), f32::MIN_POSITIVE);
                assert!(units <= 4.0, "{cpu:?} step {t}: {part} {units} u away");
            }
            // What the moments were before they were rounded to codes.
            let before = |part: &str, map: &[f32; 256], absmax: &str| -> Vec<f64> {
                let absmax = floats(&file, &at(t, absmax));
                let codes = bytes(&at(t, part));
                codes
                    .iter()
                    .enumerate()
                    .map(|(i, &c)| f64::from(map[usize::from(c)] * absmax[i / 256]))
                    .collect()
            };
            let (m_was, v_was) = (before("m", &eight::SIGNED, "am"), before("v", &eight::UNSIGNED, "av"));
            let g = |i: usize| f64::from(g[i]);
            let new_m: Vec<f64> = m_was.iter().enumerate().map(|(i, m)| 0.9 * m + 0.1 * g(i)).collect();
            let new_v: Vec<f64> =
                v_was.iter().enumerate().map(|(i, v)| 0.999 * v + 0.001 * g(i) * g(i)).collect();
            for (part, got, map, exact, absmax) in
                [("m", &m, &eight::SIGNED, new_m, &am), ("v", &v, &eight::UNSIGNED, new_v, &av)]
            {
                let want = bytes(&at(t + 1, part));
                let mut other = 0;
                for i in (0..got.len()).filter(|&i| got[i] != want[i]) {
                    let far = |code: u8| {
                        (f64::from(map[usize::from(code)]) - exact[i] / f64::from(absmax[i / 256])).abs()
                    };
                    other += 1;
                    assert!(
                        far(got[i]) <= far(want[i]) + 1e-7,
                        "{cpu:?} step {t}: {part} {i} is not the nearest"
                    );
                    assert!(far(want[i]) <= far(got[i]) + 1.0 / 16_384.0, "{cpu:?} step {t}: {part} {i}");
                }
                // Second moments spread over so many decades that many lie within the first bins.
                let most = if part == "m" { got.len() / 10 } else { got.len() };
                assert!(other <= most, "{cpu:?} step {t}: {other} codes of {part} differ");
            }
        }
    }
}

/// Codes of eight bits are the nearest entries, for blocks of any content; a block of zeros stays zero.
#[test]
fn eight_bit_codes_are_the_nearest() {
    let mut random = Random::new(7);
    let n = 1000;
    for cpu in cpus() {
        let g: Vec<f32> = (0..n).map(|i| if i < 256 { 0.0 } else { random.unit().powi(9) }).collect();
        let (mut p, mut m, mut v) = (vec![0.0; n], vec![127; n], vec![0; n]);
        let (mut am, mut av) = (vec![0.0; 4], vec![0.0; 4]);
        let moments = eight::Moments { m: &mut m, v: &mut v, m_absmax: &mut am, v_absmax: &mut av };
        eight::adamw(cpu, AdamW::at(1, 0.1, &ADAMW, 1.0), &mut p, &g, moments);
        assert!(m[..256].iter().all(|&c| c == 127) && v[..256].iter().all(|&c| c == 0) && am[0] == 0.0);
        for i in 256..n {
            let nearest = |map: &[f32; 256], x: f32| {
                map.iter().map(|e| (f64::from(*e) - f64::from(x)).abs()).fold(f64::MAX, f64::min)
            };
            let moment = ((1.0 - 0.9f64) as f32) * g[i];
            let q = moment / am[i / 256];
            let distance = (f64::from(eight::SIGNED[usize::from(m[i])]) - f64::from(q)).abs();
            assert!(distance <= nearest(&eight::SIGNED, q) + 1e-9, "{cpu:?} element {i}: {q}");
        }
    }
}

/// A gradient that is not finite leaves all as it is; three in a row are an error; the norm of 1e30 is finite.
#[test]
fn gradients_that_are_not_finite() {
    let run = Run::here(Cpu::detect());
    for method in [
        Method::ADAMW,
        Method::AdamW8bit(ADAMW),
        Method::Lion { betas: [0.9, 0.99], weight_decay: 0.1 },
        Method::Sgd { weight_decay: 0.0, momentum: 0.9, direction: Direction::Moment },
    ] {
        let n = 5000;
        let mut random = Random::new(3);
        let (mut a, mut b) = (random.normal(n), random.normal(3));
        let (good_a, good_b) = (random.normal(n), random.normal(3));
        let mut optimizer = Optimizer::new(method);
        let mut step = |optimizer: &mut Optimizer, g: &[f32]| {
            let all = &mut [Parameter::new("a", &mut a, g), Parameter::new("b", &mut b, &good_b)];
            let outcome = optimizer.step(&run, 0.1, Some(1.0), all);
            (outcome, hash(&a), optimizer.save().unwrap())
        };
        let (outcome, weights, moments) = step(&mut optimizer, &good_a);
        assert!(matches!(outcome, Ok(Outcome::Stepped { norm }) if norm > 1.0));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut g = good_a.clone();
            g[4321] = bad;
            let (outcome, after, state) = step(&mut optimizer, &g);
            assert!(after == weights && state == moments, "{method:?}: {bad} moved something");
            match outcome {
                Ok(outcome) => assert_eq!(outcome, Outcome::Skipped),
                Err(e) => {
                    assert!(bad == f32::NEG_INFINITY, "an error too early");
                    assert_eq!(e.to_string(), "gradients were NaN or infinite in 3 steps in a row");
                }
            }
        }
        let (outcome, ..) = step(&mut optimizer, &vec![1e30; n]);
        let Ok(Outcome::Stepped { norm }) = outcome else { panic!("{outcome:?}") };
        assert!((norm / (1e30 * (n as f64).sqrt()) - 1.0).abs() < 1e-6);
        assert_eq!(optimizer.steps(), 2);
    }
}

/// Clipping is `clip_grad_norm_`: the scaled gradients' step; neither threads nor the order of tensors matter.
#[test]
fn clipping_and_order() {
    let pool = Pool::new(3);
    let n = 70_000; // more than one piece
    let mut random = Random::new(5);
    let (a, b, ga, gb) = (random.normal(n), random.normal(77), random.normal(n), random.normal(77));
    let norm = ga.iter().chain(&gb).map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let scale = (1.0 / (norm + 1e-6)) as f32;
    let clipped = |g: &[f32]| g.iter().map(|g| g * scale).collect::<Vec<f32>>();
    let mut first = None;
    for cpu in cpus() {
        for run in [Run::here(cpu), Run::on(cpu, &pool)] {
            for swapped in [false, true] {
                let (mut x, mut y) = (a.clone(), b.clone());
                let mut optimizer = Optimizer::new(Method::AdamW8bit(ADAMW));
                let mut all = [Parameter::new("a", &mut x, &ga), Parameter::new("b", &mut y, &gb)];
                if swapped {
                    all.reverse();
                }
                let Ok(Outcome::Stepped { norm: got }) = optimizer.step(&run, 0.1, Some(1.0), &mut all)
                else {
                    panic!("a step was skipped")
                };
                assert!((got / norm - 1.0).abs() < 1e-12);
                let hash = (hash(&x), hash(&y), got.to_bits());
                assert_eq!(*first.get_or_insert(hash), hash, "{cpu:?} swapped {swapped}");
                let (mut x2, mut y2) = (a.clone(), b.clone());
                let (ga, gb) = (clipped(&ga), clipped(&gb));
                let mut all = [Parameter::new("a", &mut x2, &ga), Parameter::new("b", &mut y2, &gb)];
                Optimizer::new(Method::AdamW8bit(ADAMW)).step(&run, 0.1, None, &mut all).unwrap();
                assert_same(&x, &x2, "clipped in the step or before");
            }
        }
    }
    let run = Run::here(Cpu::detect());
    let (mut x, mut y) = ([1.0], [1.0]);
    let twice = &mut [Parameter::new("a", &mut x, &[1.0]), Parameter::new("a", &mut y, &[1.0])];
    let error = Optimizer::new(Method::ADAMW).step(&run, 0.1, None, twice).unwrap_err();
    assert_eq!(error.to_string(), "two parameters are named \"a\"");
}

/// Five steps, saved and loaded, and five more are ten steps in every bit.
#[test]
fn stop_and_start() {
    let run = Run::here(Cpu::detect());
    let n = 5000;
    for method in
        [Method::ADAMW, Method::AdamW8bit(ADAMW), Method::Lion { betas: [0.9, 0.99], weight_decay: 0.1 }]
    {
        let train = |p: &mut [f32], optimizer: &mut Optimizer, steps: std::ops::Range<u64>| {
            for t in steps {
                let g = Random::new(t + 100).normal(n);
                optimizer.step(&run, 0.01, Some(1.0), &mut [Parameter::new("p", p, &g)]).unwrap();
            }
        };
        let start = Random::new(1).normal(n);
        let (mut whole, mut optimizer) = (start.clone(), Optimizer::new(method));
        train(&mut whole, &mut optimizer, 0..10);
        let saved = optimizer.save().unwrap();

        let (mut parts, mut before) = (start, Optimizer::new(method));
        train(&mut parts, &mut before, 0..5);
        let file = SafeTensors::from_bytes(&before.save().unwrap()).unwrap();
        let mut after = Optimizer::load(method, &file, &[("p", n)]).unwrap();
        assert_eq!(after.bytes(), before.bytes());
        train(&mut parts, &mut after, 5..10);
        assert_same(&parts, &whole, "weights");
        assert_eq!(after.save().unwrap(), saved, "moments");
        assert!(Optimizer::load(method, &file, &[("q", n)]).is_err());
        assert!(Optimizer::load(method, &file, &[("p", n + 1)]).is_err());
        assert!(Optimizer::load(method, &file, &[]).is_err());
    }
    assert!(Optimizer::new(Method::ADAMW).bytes() == 0);
}

#[test]
fn schedules_of_transformers() {
    let text = std::fs::read(data("schedules.json")).unwrap();
    let rates = json::parse(&text).unwrap();
    let stable = |warmup, decay, curve, floor| Schedule {
        shape: Shape::StableThenFall { decay, curve },
        warmup,
        total: 20,
        floor,
    };
    let fall = |curve, floor| Schedule { shape: Shape::Fall(curve), warmup: 4, total: 20, floor };
    let cases = [
        ("constant", Schedule { shape: Shape::Constant, warmup: 4, total: 20, floor: 0.0 }),
        ("linear", fall(Curve::Linear, 0.0)),
        ("cosine", fall(Curve::Cosine, 0.0)),
        ("cosine_min", fall(Curve::Cosine, 0.1)),
        ("wsd", stable(4, 5, Curve::OneMinusSqrt, 0.0)),
        ("wsd_min", stable(4, 5, Curve::Linear, 0.1)),
        ("wsd_cosine", stable(0, 6, Curve::Cosine, 0.0)),
    ];
    for (name, schedule) in cases {
        // Past the end transformers lets a cosine rise again; here the rate stays at its floor.
        let steps = if name.starts_with("cosine") { 21 } else { 25 };
        for (step, want) in rates.get(name).unwrap().elements().unwrap().take(steps).enumerate() {
            let (got, want) = (schedule.factor(step as u64), want.as_f64().unwrap());
            assert!((got - want).abs() <= 4e-16, "{name} step {step}: {got}, transformers {want}");
        }
        assert_eq!(schedule.factor(1000), if name == "constant" { 1.0 } else { schedule.floor });
    }
}

/// Codes, absmax and decoded values as bitsandbytes has them; the two zeros count as one code.
#[test]
fn fp4_as_bitsandbytes() {
    let file = reference();
    for cpu in cpus() {
        for (n, blocksize) in [(64usize, 64), (200, 64), (333, 128)] {
            let name = format!("fp4/{blocksize}/{n}");
            let x = floats(&file, &format!("{name}/x"));
            let want = file.tensor(&format!("{name}/codes")).unwrap().bytes;
            let (mut codes, mut absmax) = (vec![0; want.len()], vec![0.0; n.div_ceil(blocksize)]);
            fp4::quantize(cpu, &x, blocksize, &mut codes, &mut absmax).unwrap();
            assert_same(&absmax, &floats(&file, &format!("{name}/absmax")), &name);
            let nibbles = |bytes: &[u8]| bytes.iter().flat_map(|b| [b >> 4, b & 15]).collect::<Vec<u8>>();
            for (i, (got, want)) in nibbles(&codes).iter().zip(nibbles(want)).enumerate() {
                assert!(*got == want || got & 7 == 0 && want & 7 == 0, "{name} {i}: code {got}, want {want}");
            }
            let mut back = vec![0.0; n];
            fp4::dequantize(cpu, &codes, &absmax, blocksize, &mut back);
            assert_eq!(back, floats(&file, &format!("{name}/back")), "{name} on {cpu:?}"); // +0 == −0
        }
    }
}

/// FP4 against its definition in plain loops: every length, blocks of any size, ties, zeros, what has no code.
#[test]
fn fp4_twin() {
    let mut random = Random::new(9);
    for cpu in cpus() {
        for (n, blocksize) in (0..=67).map(|n| (n, 64)).chain([(67, 3), (1001, 32), (300, 4096)]) {
            let mut x = random.normal(n);
            x.iter_mut().step_by(7).for_each(|x| *x = 0.0);
            let (mut codes, mut absmax) = (vec![0; n.div_ceil(2)], vec![0.0; n.div_ceil(blocksize)]);
            fp4::quantize(cpu, &x, blocksize, &mut codes, &mut absmax).unwrap();
            let mut back = vec![f32::NAN; n];
            fp4::dequantize(cpu, &codes, &absmax, blocksize, &mut back);
            for i in 0..n {
                let block = &x[i / blocksize * blocksize..][..blocksize.min(n - i / blocksize * blocksize)];
                let a = block.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                let q = if a > 0.0 { x[i] * (1.0 / a) } else { 0.0 };
                let rank = fp4::THRESHOLDS.iter().filter(|t| q.abs() > **t).count();
                let code = [0, 1, 6, 7, 4, 5, 2, 3][rank] | if q < 0.0 { 8 } else { 0 };
                assert_eq!(
                    codes[i / 2] >> (4 * (1 - i % 2)) & 15,
                    code,
                    "{cpu:?} n = {n} / {blocksize}: {i}"
                );
                assert_eq!(back[i].to_bits(), (fp4::LEVELS.0[usize::from(code)] * a).to_bits());
            }
        }
        let error = fp4::quantize(cpu, &[1.0, f32::NAN], 64, &mut [0], &mut [0.0]).unwrap_err();
        assert_eq!(error.index, 1);
    }
}
