//! Attention against clause 8 in plain loops, bit by bit, on every tier; against f64; decode against prefill.

mod common;
#[path = "attention/twin.rs"]
mod twin;

use common::{Random, assert_same, cpus, slow};
use samebits::kernels::attention::{Align, Pattern, Span};
use twin::{Array, ORDERS, Problem, Tokens, twin};

#[track_caller]
fn check(problem: &Problem, what: impl std::fmt::Display) {
    let want = twin(problem);
    for cpu in cpus() {
        let got = problem.run(cpu);
        assert_same(&got.0, &want.0, format!("{what} on {}", cpu.tier()));
        assert_same(&got.1, &want.1, format!("{what} on {}, log-sum-exp", cpu.tier()));
    }
}

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

/// A problem drawn at random: shapes, layouts and every option.
fn draw(seed: u64) -> Problem {
    let mut r = Random::new(1000 + seed);
    let kv = 1 + r.below(3);
    let dims = [1, 3, 7, 8, 16, 21, 33, 64];
    let sizes = [
        1 + r.below(2),
        kv * [1, 1, 2, 3, 5, 17][r.below(6)],
        kv,
        [1, 1, 2, 5, 17, 50][r.below(6)],
        r.below(200),
        dims[r.below(8)],
        dims[r.below(8)],
    ];
    let [b, h, kv, lq, lk, d, v_dim] = sizes;
    let mut p = Problem::new(seed, sizes);
    let mut order = || ORDERS[r.below(ORDERS.len())];
    let mut random = Random::new(2000 + seed);
    let mut normal = || 2.0 * random.normal(1)[0];
    p.q = Array::new([b, h, lq, d], order(), &mut normal);
    p.k = Array::new([b, kv, lk, d], order(), &mut normal);
    p.v = Array::new([b, kv, lk, v_dim], order(), &mut normal);
    p.out_order = order();
    let mask_order = order();
    p.pattern = [Pattern::Full, Pattern::Causal, Pattern::Window(1 + r.below(100))][r.below(3)];
    p.align = [Align::BottomRight, Align::TopLeft, Align::Offset(r.below(90) as isize - 20)][r.below(3)];
    let mut span = |n: usize| {
        let start = r.below(n + 1);
        Span { start, len: r.below(n - start + 1) }
    };
    match seed % 4 {
        0 => {
            let queries = (seed.is_multiple_of(8)).then(|| (0..b).map(|_| span(lq)).collect());
            p.tokens = Tokens::Padded { queries, keys: (0..b).map(|_| span(lk)).collect() };
        }
        1 if b == 1 => {
            let mut ends = |n: usize| {
                let mut ends = vec![0, r.below(n + 1), r.below(n + 1), n];
                ends.sort_unstable();
                ends
            };
            p.tokens = Tokens::Packed { queries: ends(lq), keys: ends(lk) };
        }
        _ => {}
    }
    let rows = if matches!(p.tokens, Tokens::Packed { .. }) { 3 } else { b };
    if r.below(3) == 0 {
        let odds = [2, 10, 300][r.below(3)];
        let bytes = (0..rows * h * lq * lk).map(|_| (r.below(odds) != 0) as u8).collect();
        let mut strides = [h * lq * lk, lq * lk, lk, 1].map(|s| s as isize);
        strides[r.below(3)] = 0;
        p.keep = Some((bytes, [rows, h, lq, lk], strides));
    }
    if r.below(3) == 0 {
        let mut bias = || if r.below(4) == 0 { f32::NEG_INFINITY } else { r.unit() };
        p.additive = Some(Array::new([rows, h, lq, lk], mask_order, &mut bias));
    }
    p.softcap = (r.below(4) == 0).then_some(1.5);
    p.alibi = (r.below(4) == 0).then(|| (0..h).map(|h| 1.0 / (h + 2) as f32).collect());
    p.sinks = (r.below(4) == 0).then(|| r.normal(h));
    p
}

#[test]
fn random_problems() {
    for seed in 0..if slow() { 60 } else { 600 } {
        let p = draw(seed);
        check(&p, format!("seed {seed}: {p}"));
    }
}

/// NaN and infinity in a key that a row does not see change nothing; in one that it sees, its row is NaN.
#[test]
fn a_nan_reaches_the_rows_that_see_it_and_no_other() {
    let n = 70;
    for at in (0..n).step_by(if slow() { 23 } else { 1 }) {
        for poison in [f32::NAN, f32::INFINITY] {
            let mut p = Problem::new(7, [1, 1, 1, n, n, 8, 9]);
            p.pattern = Pattern::Causal;
            p.alibi = Some(vec![0.1]);
            let clean = p.run(cpus()[0]).0;
            p.v.set(0, 0, at, 4, poison);
            p.k.set(0, 0, at, 3, f32::NAN);
            for cpu in cpus() {
                let got = p.run(cpu).0;
                assert_same(&got[..at * 9], &clean[..at * 9], format!("rows before {at} on {}", cpu.tier()));
                assert!(got[at * 9..].iter().all(|x| x.is_nan()), "rows from {at} on, {}", cpu.tier());
            }
        }
    }
}
