//! Attention of bfloat16 products against clauses 8 and 10 in plain loops, bit by bit, on every tier; against f64.

#[path = "attention/array.rs"]
mod array;
#[path = "attention/checks.rs"]
mod checks;
mod common;
#[path = "attention/draw.rs"]
mod draw;
#[path = "attention/twin.rs"]
mod twin;

use array::{FORMS, Form};
use checks::{check, check_decode, check_poisoned};
use common::{U, assert_same, cpus, slow};
use draw::draw;
use samebits::kernels::attention::{Align, AttentionBackward, Options, Pattern, Products, Span};
use samebits::kernels::view::{HeadsMut, HeadsRef};
use twin::{Problem, Sizes, Tokens, rounded};

/// The rounding of bfloat16, of eight binary places: 2⁻⁸ of a number at most.
const HALF: f64 = 1.0 / 256.0;

fn problem(seed: u64, sizes: Sizes) -> Problem {
    Problem { products: Products::Bf16, ..Problem::new(seed, sizes) }
}

/// Under an emulator a problem takes seconds: there the golden hashes carry the load.
fn few(emulated: u64, debug: u64, all: u64) -> u64 {
    match std::env::var_os("SAMEBITS_SLOW") {
        Some(_) => emulated,
        None if slow() => debug,
        None => all,
    }
}

#[test]
fn every_length() {
    for n in 1..=67 {
        if slow() && n % 9 != 0 {
            continue;
        }
        for pattern in [Pattern::Full, Pattern::Causal] {
            for sizes in [[1, 2, 1, n, n, n, 68 - n], [1, 1, 1, 3, 60 + 3 * n, 5, n]] {
                let mut p = problem(n as u64, sizes);
                p.pattern = pattern;
                check(&p, format!("{p}"));
            }
        }
    }
}

/// Every option, layout and form; values that a bfloat16 cannot hold, that become 0, or are infinite.
#[test]
fn random_problems() {
    for seed in 0..few(6, 60, 240) {
        let mut p = draw(seed);
        p.products = Products::Bf16;
        let (k, v) = (FORMS[seed as usize % 3], FORMS[seed as usize / 3 % 3]);
        p.k.store(k);
        p.v.store(v);
        if seed.is_multiple_of(7) && k == Form::F32 {
            p.k.data.iter_mut().step_by(3).for_each(|x| *x *= 2f32.powi(-50));
        }
        if seed.is_multiple_of(11) && v == Form::F32 {
            p.v.data.iter_mut().step_by(5).for_each(|x| *x *= f32::MAX);
        }
        check(&p, format!("seed {seed}: {p}"));
    }
}

/// Pieces of several parts, for which a matrix unit reads keys and values once: groups of heads, padding, values that are
/// not finite where some rows do not see them, scores that are biased.
#[test]
fn pieces_of_several_parts() {
    for seed in 0..few(0, 2, 6) {
        let mut p = problem(seed, [1, 4, 2, 800, 130, 8, 20]); // 3,200 rows
        p.align = Align::TopLeft;
        p.pattern = [Pattern::Causal, Pattern::Window(90), Pattern::Full][seed as usize % 3];
        if seed % 2 == 1 {
            let (queries, keys) =
                (Some(vec![Span { start: 37, len: 720 }]), vec![Span { start: 3, len: 120 }]);
            p.tokens = Tokens::Padded { queries, keys };
        }
        p.v.set(0, 1, 100, 4, f32::NAN);
        p.v.set(0, 0, 70, 17, f32::INFINITY);
        p.softcap = (seed == 3).then_some(2.0);
        check(&p, format!("seed {seed}: {p}"));
    }
}

/// Decode reads whole blocks of bfloat16 where they lie: rows of one line of memory, of several, past a block of 256.
#[test]
fn decode_reads_every_form() {
    for (i, d) in [16, 32, 48, 64, 96, 128, 320, 576].into_iter().enumerate() {
        for [heads, kv_heads] in [[1, 1], [4, 2], [6, 1]] {
            for (k, v) in FORMS.into_iter().flat_map(|k| FORMS.map(|v| (k, v))) {
                let keys = [64, 130, 200][(i + heads) % 3];
                let v_dim = [16, 64, 128, 80, 144][(i + heads / 2) % 5];
                let mut p = problem(d as u64, [1, heads, kv_heads, 1, keys, d, v_dim]);
                p.k.store(k);
                p.v.store(v);
                if few(0, 1, 1) > 0 || d < 64 && k != v {
                    check(&p, format!("{p}"));
                }
            }
        }
    }
}

/// A stored number less than 2⁻⁵⁰ is 0 as well, where it lies and copied.
#[test]
fn what_is_stored_becomes_0_too() {
    for lq in [1, 3, 20] {
        let mut p = problem(5, [1, 2, 1, lq, 128, 64, 32]);
        for x in [&mut p.k, &mut p.v] {
            x.data.iter_mut().step_by(2).for_each(|x| *x *= 2f32.powi(-51));
            x.store(Form::Bf16);
        }
        p.q.data.iter_mut().for_each(|x| *x *= 2f32.powi(20));
        check(&p, format!("{p}"));
    }
}

/// One query over the keys so far, as decoding goes, has the bits of its row in the whole.
#[test]
fn decode_is_prefill() {
    let shapes = [[1, 8, 2, 70, 140, 33, 20], [1, 2, 2, 20, 300, 64, 64], [1, 17, 1, 9, 70, 300, 8]];
    for (seed, sizes) in shapes.into_iter().enumerate() {
        for (form, pattern) in [(FORMS[seed], Pattern::Causal), (Form::Bf16, Pattern::Window(65))] {
            let mut whole = problem(seed as u64, sizes);
            whole.pattern = pattern;
            whole.k.store(form);
            whole.v.store(form);
            check_decode(&whole);
        }
    }
}

/// Rounding twice is rounding once: a cache of bfloat16 changes no bit against one of floats.
#[test]
fn keys_and_values_may_be_rounded_before() {
    for lq in [1, 4, 60] {
        let mut floats = problem(3, [1, 4, 2, lq, 200, 64, 48]);
        floats.pattern = Pattern::Causal;
        let mut halves = floats.clone();
        for x in [&mut halves.k, &mut halves.v] {
            x.data.iter_mut().for_each(|x| *x = rounded(*x));
            x.store(Form::Bf16);
        }
        for cpu in cpus() {
            let (got, want) = (halves.run(cpu), floats.run(cpu));
            assert_same(&got.0, &want.0, format!("{lq} queries on {}", cpu.tier()));
            assert_same(&got.1, &want.1, format!("{lq} queries on {}, log-sum-exp", cpu.tier()));
        }
    }
}

/// NaN and infinity in a key that a row does not see change nothing; in one that it sees, its row is NaN.
#[test]
fn a_nan_reaches_the_rows_that_see_it_and_no_other() {
    let n = 70;
    for at in (0..n).step_by(if slow() { 23 } else { 1 }) {
        let mut p = problem(7, [1, 1, 1, n, n, 8, 9]);
        p.pattern = Pattern::Causal;
        check_poisoned(&p, at);
    }
}

/// Against f64 over the rounded q, k and v: (2⁻⁸ + 4u (1 + Gs)) Σ p|v|; the log-sum-exp knows nothing of p's rounding.
#[test]
fn near_the_truth() {
    for (seed, gain) in [(1, 1.0), (2, 4.0), (3, 9.0)] {
        let (n, d, v_dim) = (if slow() { 150 } else { 600 }, 128, 32);
        let mut p = problem(seed, [1, 2, 2, 12, n, d, v_dim]);
        p.q.data.iter_mut().for_each(|x| *x *= gain);
        let got = p.run(cpus().pop().unwrap());
        let exact = |x: f32| f64::from(rounded(x));
        p.rows(|row| {
            let at = row.head * 12 + row.token;
            let term = |j: usize, c: usize| {
                exact(p.q.get(0, row.head, row.token, c)) * exact(p.k.get(0, row.head, j, c))
            };
            let dot = |j: usize, f: fn(f64) -> f64| -> f64 {
                (0..d).map(|c| f(term(j, c))).sum::<f64>() * f64::from(p.scale)
            };
            let scores: Vec<f64> = (0..n).map(|j| dot(j, |x| x)).collect();
            let gs = (0..n).map(|j| dot(j, f64::abs)).fold(0.0, f64::max);
            let m = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let l: f64 = scores.iter().map(|s| (s - m).exp()).sum();
            for c in 0..v_dim {
                let mean = |f: fn(f64) -> f64| -> f64 {
                    (0..n).map(|j| (scores[j] - m).exp() / l * f(exact(p.v.get(0, row.head, j, c)))).sum()
                };
                let error = (f64::from(got.0[at * v_dim + c]) - mean(|v| v)).abs();
                let bound = (HALF + 4.0 * U * (1.0 + gs)) * mean(f64::abs);
                assert!(error <= bound, "row {at}, component {c}: error {error:e}, bound {bound:e}");
            }
            let error = (f64::from(got.1[at]) - (m + l.ln())).abs();
            assert!(error <= 4.0 * U * (1.0 + gs + m.abs()), "row {at}: log-sum-exp off by {error:e}");
        });
    }
}

#[test]
#[should_panic(expected = "attention: gradients are made of floats")]
fn gradients_of_this_class_are_refused() {
    let (x, mut dq, mut delta) = ([1.0; 4], [0.0; 4], [0.0; 1]);
    let (shape, one) = ([1, 1, 1, 4], [1, 1, 1, 1]);
    let all = HeadsRef::new(&x, shape);
    let lse = HeadsRef::new(&x[..1], one);
    let options = Options { products: Products::Bf16, ..Options::for_head_dim(4) };
    let problem = AttentionBackward { q: all, k: all, v: all, out: all, lse, d_out: all, options };
    problem.queries(HeadsMut::new(&mut dq, shape), HeadsMut::new(&mut delta, one));
}
