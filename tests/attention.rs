//! Attention against clause 8 in plain loops, bit by bit, on every tier; against f64; decode against prefill.

#[path = "attention/array.rs"]
mod array;
#[path = "attention/checks.rs"]
mod checks;
mod common;
#[path = "attention/draw.rs"]
mod draw;
#[path = "attention/twin.rs"]
mod twin;

use array::{Array, FORMS, Form, ORDERS};
use checks::{check, check_decode, check_poisoned};
use common::{U, assert_same, cpus, slow};
use draw::draw;
use samebits::kernels::attention::{Align, Pattern, Span, alibi_slopes, scratch_len};
use samebits::pool::Pool;
use twin::{Problem, Tokens};

#[test]
fn every_length() {
    for n in 1..=67 {
        if slow() && n % 9 != 0 {
            continue;
        }
        for pattern in [Pattern::Full, Pattern::Causal] {
            let mut p = Problem::new(n as u64, [1, 2, 1, n, n, n, 68 - n]);
            p.pattern = pattern;
            check(&p, format!("n = {n}, {pattern:?}"));
            let mut p = Problem::new(n as u64, [1, 1, 1, 3, 60 + 3 * n, 5, n]);
            p.pattern = pattern;
            check(&p, format!("Lk = {}, {pattern:?}", 60 + 3 * n));
        }
    }
}

#[test]
fn random_problems() {
    // Under an emulator a problem takes seconds: there the golden hashes carry the load.
    let emulated = std::env::var_os("SAMEBITS_SLOW").is_some();
    for seed in 0..if emulated {
        6
    } else if slow() {
        60
    } else {
        600
    } {
        let p = draw(seed);
        check(&p, format!("seed {seed}: {p}"));
    }
}

/// Keys and values in other forms: the bits of attention over the floats that they decode to.
#[test]
fn stored_forms_are_read_as_the_floats_they_decode_to() {
    let forms = || FORMS.into_iter().flat_map(|k| FORMS.map(|v| (k, v))).skip(1);
    // Every option and layout.
    let emulated = std::env::var_os("SAMEBITS_SLOW").is_some();
    for seed in 0..if emulated {
        4
    } else if slow() {
        40
    } else {
        160
    } {
        let mut p = draw(seed);
        let (k, v) = forms().nth(seed as usize % 8).unwrap();
        p.k.store(k);
        p.v.store(v);
        check(&p, format!("seed {seed}: {p}"));
    }
    // Decode reads whole blocks where they lie: rows of one line of memory, of several, past a block of 256.
    for (i, d) in [16, 32, 48, 64, 96, 128, 320, 576].into_iter().enumerate() {
        for [heads, kv_heads] in [[1, 1], [4, 2], [6, 1]] {
            for (k, v) in forms() {
                let keys = [64, 130, 200][(i + heads) % 3];
                let v_dim = [16, 64, 128, 80, 144][(i + heads / 2) % 5];
                let mut p = Problem::new(d as u64, [1, heads, kv_heads, 1, keys, d, v_dim]);
                p.k.store(k);
                p.v.store(v);
                if !emulated || d < 64 {
                    check(&p, format!("{p}"));
                }
            }
        }
    }
}

/// A row whose scale is a NaN is a NaN to the rows that see it, and nothing to the others.
#[test]
fn a_scale_that_is_nan_reaches_the_rows_that_see_it() {
    for [lq, lk, d] in [[70, 70, 9], [1, 130, 64]] {
        for at in [0, lk / 2, lk - 1] {
            let mut p = Problem::new(7, [1, 1, 1, lq, lk, d, d]);
            p.pattern = Pattern::Causal;
            p.v.store(Form::Int8);
            let clean = p.run(cpus()[0]).0;
            p.v.lose_scale(0, at);
            let before = d * (at + lq).saturating_sub(lk);
            for cpu in cpus() {
                let got = p.run(cpu).0;
                assert_same(&got[..before], &clean[..before], format!("before {at} on {}", cpu.tier()));
                assert!(got[before..].iter().all(|x| x.is_nan()), "from {at} on, {}", cpu.tier());
            }
        }
    }
}

/// NaN and infinity in a key that a row does not see change nothing; in one that it sees, its row is NaN.
#[test]
fn a_nan_reaches_the_rows_that_see_it_and_no_other() {
    let n = 70;
    for at in (0..n).step_by(if slow() { 23 } else { 1 }) {
        let mut p = Problem::new(7, [1, 1, 1, n, n, 8, 9]);
        p.pattern = Pattern::Causal;
        p.alibi = Some(vec![0.1]);
        check_poisoned(&p, at);
    }
}

/// One query over the keys so far, as decoding goes, has the bits of its row in the whole.
#[test]
fn decode_is_prefill() {
    for (seed, sizes, form) in [
        (0, [1, 8, 2, 70, 140, 33, 20], Form::F32),
        (1, [1, 2, 2, 20, 300, 64, 64], Form::F32),
        (2, [1, 17, 1, 9, 70, 300, 8], Form::F32),
        (3, [1, 4, 1, 20, 300, 64, 64], Form::Bf16),
        (4, [1, 4, 4, 20, 300, 64, 64], Form::Int8),
        (5, [1, 8, 2, 30, 140, 33, 20], Form::Int8),
    ] {
        for pattern in [Pattern::Causal, Pattern::Window(65)] {
            let mut whole = Problem::new(seed, sizes);
            whole.pattern = pattern;
            whole.k.store(form);
            whole.v.store(form);
            whole.alibi = Some((0..sizes[1]).map(|h| 0.01 * h as f32).collect());
            check_decode(&whole);
        }
    }
}

/// A batch row alone, a sequence cut out of a packed batch, and padding taken away: the same bits.
#[test]
fn neighbours_and_padding_change_nothing() {
    let cpu = cpus().pop().unwrap();
    let [h, d] = [2, 16];
    let mut whole = Problem::new(3, [1, h, 1, 61, 190, d, d]);
    whole.pattern = Pattern::Causal;
    let (queries, keys) = (vec![0, 7, 8, 61], vec![0, 40, 41, 190]);
    whole.tokens = Tokens::Packed { queries: queries.clone(), keys: keys.clone() };
    let packed = whole.run(cpu).0;
    for s in 0..3 {
        let (q, k) = (queries[s]..queries[s + 1], keys[s]..keys[s + 1]);
        let mut one = whole.clone();
        one.tokens = Tokens::Whole;
        one.q = whole.q.tokens(q.start, q.len());
        one.k = whole.k.tokens(k.start, k.len());
        one.v = whole.v.tokens(k.start, k.len());
        let alone = one.run(cpu).0;
        let mut padded = whole.clone();
        padded.tokens = Tokens::Padded {
            queries: Some(vec![Span { start: q.start, len: q.len() }]),
            keys: vec![Span { start: k.start, len: k.len() }],
        };
        let padded = padded.run(cpu).0;
        for head in 0..h {
            let of = |all: &[f32]| all[(head * 61 + q.start) * d..(head * 61 + q.end) * d].to_vec();
            let want = &alone[head * q.len() * d..(head + 1) * q.len() * d];
            assert_same(&of(&packed), want, format!("packed sequence {s}"));
            assert_same(&of(&padded), want, format!("padded sequence {s}"));
        }
    }
}

/// Pieces run by any number of threads, and how many there are.
#[test]
fn threads_change_nothing() {
    for seed in 0..if slow() { 8 } else { 60 } {
        let p = draw(seed);
        let lines = scratch_len(p.q.shape[3], p.v.shape[3]);
        let cpu = cpus().pop().unwrap();
        let want = p.run(cpu);
        for threads in [1, 2, 3, 7] {
            let got = p.with(|problem| {
                let pieces = problem.pieces();
                let count = std::sync::atomic::AtomicUsize::new(0);
                let expected = pieces.len();
                Pool::new(threads).run(pieces, |piece, scratch| {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    piece.run(cpu, scratch.lines(lines));
                });
                assert_eq!(count.into_inner(), expected, "pieces of seed {seed}");
            });
            assert_same(&got.0, &want.0, format!("seed {seed}, {threads} threads"));
            assert_same(&got.1, &want.1, format!("seed {seed}, {threads} threads, log-sum-exp"));
        }
    }
}

/// No key at all, none by a mask, none by a window: +0, and a log-sum-exp of −∞ or the sink.
#[test]
fn a_row_without_keys_is_plus_zero() {
    let mut empty = Problem::new(1, [1, 2, 1, 3, 0, 4, 5]);
    let mut hidden = Problem::new(2, [1, 2, 1, 60, 70, 4, 5]);
    hidden.additive = Some(Array::new([1, 2, 60, 70], ORDERS[0], || f32::NEG_INFINITY));
    hidden.k.data.fill(f32::NAN);
    hidden.v.data.fill(f32::NAN);
    let mut window = Problem::new(3, [1, 1, 1, 4, 70, 4, 5]);
    window.pattern = Pattern::Window(3);
    window.align = Align::Offset(-10);
    for p in [&mut empty, &mut hidden, &mut window] {
        for sinks in [None, Some(vec![1.5; p.q.shape[1]])] {
            let lse = if sinks.is_some() { 1.5 } else { f32::NEG_INFINITY };
            p.sinks = sinks;
            for cpu in cpus() {
                let got = p.run(cpu);
                assert!(got.0.iter().all(|x| x.to_bits() == 0), "{p} on {}", cpu.tier());
                assert!(got.1.iter().all(|&x| x == lse), "{p} on {}: {:?}", cpu.tier(), &got.1);
            }
        }
    }
}

/// Against f64: 4u (1 + Gs) Σ p|v|, also with scores that are large, and with the largest one last.
#[test]
fn near_the_truth() {
    for (seed, gain) in [(1, 1.0), (2, 4.0), (3, 9.0)] {
        let n = if slow() { 150 } else { 600 };
        let mut p = Problem::new(seed, [1, 2, 2, 12, n, 128, 32]);
        p.q.data.iter_mut().for_each(|x| *x *= gain);
        (0..128).for_each(|c| p.k.set(0, 0, n - 1, c, 0.3 * p.q.get(0, 0, 5, c)));
        let got = p.run(cpus().pop().unwrap());
        p.rows(|row| {
            let at = row.head * 12 + row.token;
            let dot = |j: usize, abs: bool| -> f64 {
                let term =
                    |c| f64::from(p.q.get(0, row.head, row.token, c)) * f64::from(p.k.get(0, row.head, j, c));
                (0..128).map(|c| if abs { term(c).abs() } else { term(c) }).sum::<f64>() * f64::from(p.scale)
            };
            let scores: Vec<f64> = (0..n).map(|j| dot(j, false)).collect();
            let gs = (0..n).map(|j| dot(j, true)).fold(0.0, f64::max);
            let m = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let l: f64 = scores.iter().map(|s| (s - m).exp()).sum();
            for c in 0..32 {
                let v = |j| f64::from(p.v.get(0, row.head, j, c));
                let mean = |f: &dyn Fn(f64) -> f64| -> f64 {
                    (0..n).map(|j| (scores[j] - m).exp() / l * f(v(j))).sum()
                };
                let (want, size) = (mean(&|v| v), mean(&f64::abs));
                let error = (f64::from(got.0[at * 32 + c]) - want).abs();
                let bound = 4.0 * U * (1.0 + gs) * size;
                assert!(error <= bound, "row {at}, component {c}: error {error:e}, bound {bound:e}");
            }
            let error = (f64::from(got.1[at]) - (m + l.ln())).abs();
            assert!(error <= 4.0 * U * (1.0 + gs + m.abs()), "row {at}: log-sum-exp off by {error:e}");
        });
    }
}

#[test]
fn slopes_of_alibi() {
    let slopes = |n: usize| {
        let mut slopes = vec![0.0; n];
        alibi_slopes(8.0, &mut slopes);
        slopes
    };
    assert_eq!(slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
    // 8 heads as above, then every second slope of 16 heads: 2^(−1/2), 2^(−3/2), …
    let want = [0.70710677, 0.35355338, 0.17677669, 0.088388346];
    assert_eq!(slopes(12)[8..], want);
    assert_eq!(slopes(0), []);
}

#[test]
#[should_panic(expected = "attention: q, k, v of shapes")]
fn shapes_that_disagree_panic() {
    let mut p = Problem::new(1, [1, 3, 2, 1, 1, 4, 4]);
    p.scale = 1.0;
    p.run(cpus()[0]);
}

#[test]
#[should_panic(expected = "attention: ends")]
fn sequences_that_do_not_cover_the_tokens_panic() {
    let mut p = Problem::new(1, [1, 1, 1, 5, 5, 4, 4]);
    p.tokens = Tokens::Packed { queries: vec![0, 4], keys: vec![0, 5] };
    p.run(cpus()[0]);
}
