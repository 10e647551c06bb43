//! The gradients of attention: clause 9 in plain loops, bit by bit, on every tier; against differences in `f64`.

#[path = "attention/array.rs"]
mod array;
mod common;
#[path = "attention/draw.rs"]
mod draw;
#[path = "attention/gradients.rs"]
mod gradients;
#[path = "attention/twin.rs"]
mod twin;

use array::{Array, ORDERS};
use common::differences::gradient;
use common::{Cpu, Random, U, assert_same, cpus, slow};
use draw::draw;
use gradients::{Gradients, Saved, gradients};
use samebits::kernels::Line;
use samebits::kernels::attention::{
    self, AttentionBackward, Pattern, attention_backward, backward_scratch_len,
};
use samebits::kernels::view::{HeadsMut, HeadsRef};
use samebits::pool::Pool;
use twin::Problem;

/// A problem with what its forward pass gave, and dO.
struct Case {
    problem: Problem,
    out: Array,
    lse: Array,
    d_out: Array,
}

impl Case {
    fn new(problem: Problem, seed: u64) -> Case {
        let [b, h, lq, v_dim] = problem.out_shape();
        let (of_out, of_lse) = problem.run(*cpus().last().unwrap());
        let order = problem.out_order;
        let filled = |shape: [usize; 4], values: Vec<f32>| {
            let mut array = Array::new(shape, order, || f32::NAN);
            let [_, h, t, c] = shape;
            for (i, x) in values.into_iter().enumerate() {
                array.set(i / (h * t * c), i / (t * c) % h, i / c % t, i % c, x);
            }
            array
        };
        let d_out = Random::new(seed + 77).normal(b * h * lq * v_dim);
        Case {
            out: filled([b, h, lq, v_dim], of_out),
            lse: filled([b, h, lq, 1], of_lse),
            d_out: filled([b, h, lq, v_dim], d_out),
            problem,
        }
    }

    fn backward(&self) -> AttentionBackward<'_> {
        let p = &self.problem;
        AttentionBackward {
            q: p.q.view(),
            k: p.k.view(),
            v: p.v.view(),
            out: self.out.view(),
            lse: self.lse.view(),
            d_out: self.d_out.view(),
            options: p.options(),
        }
    }

    fn twin(&self) -> Gradients {
        gradients(&self.problem, &Saved { out: &self.out, lse: &self.lse, d_out: &self.d_out })
    }

    /// On this thread (`None`), or in pieces on a number of threads.
    fn run(&self, cpu: Cpu, threads: Option<usize>) -> Gradients {
        let (p, problem) = (&self.problem, self.backward());
        let new = |shape| Array::new(shape, p.out_order, || f32::NAN);
        let (mut dq, mut dk, mut dv) = (new(p.q.shape), new(p.k.shape), new(p.v.shape));
        let [b, h, lq, _] = p.q.shape;
        let mut delta = vec![f32::NAN; b * h * lq];
        let lines = backward_scratch_len(p.q.shape[3], p.v.shape[3]);
        if let Some(threads) = threads {
            let (pool, shape) = (Pool::new(threads), [b, h, lq, 1]);
            let first = problem.queries(dq.view_mut(), HeadsMut::new(&mut delta, shape));
            pool.run(first, |piece, scratch| piece.run(cpu, scratch.lines(lines)));
            let second = problem.keys(HeadsRef::new(&delta, shape), dk.view_mut(), dv.view_mut());
            pool.run(second, |piece, scratch| piece.run(cpu, scratch.lines(lines)));
        } else {
            let to = attention::Gradients { dq: dq.view_mut(), dk: dk.view_mut(), dv: dv.view_mut() };
            let mut scratch = vec![Line([f32::NAN; 16]); lines];
            attention_backward(cpu, &problem, to, &mut delta, &mut scratch);
        }
        let mut dsinks = vec![0.0; h];
        if p.sinks.is_some() {
            problem.sinks(cpu, HeadsRef::new(&delta, [b, h, lq, 1]), &mut dsinks);
        }
        Gradients { dq: dq.values(), dk: dk.values(), dv: dv.values(), delta, dsinks }
    }
}

#[track_caller]
fn assert_equal(got: &Gradients, want: &Gradients, what: impl std::fmt::Display) {
    assert_same(&got.delta, &want.delta, format!("{what}: D"));
    assert_same(&got.dq, &want.dq, format!("{what}: dQ"));
    assert_same(&got.dk, &want.dk, format!("{what}: dK"));
    assert_same(&got.dv, &want.dv, format!("{what}: dV"));
    assert_same(&got.dsinks, &want.dsinks, format!("{what}: dsinks"));
}

#[track_caller]
fn check(problem: Problem, seed: u64, what: impl std::fmt::Display) {
    let case = Case::new(problem, seed);
    let want = case.twin();
    for cpu in cpus() {
        assert_equal(&case.run(cpu, None), &want, format!("{what} on {}", cpu.tier()));
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
            check(p, n as u64, format!("n = {n}, {pattern:?}"));
            if n % 4 != 0 {
                continue;
            }
            let mut p = Problem::new(n as u64, [1, 1, 1, 40 + 2 * n, 3 * n, 5, 9]);
            p.pattern = pattern;
            check(p, n as u64, format!("Lq = {}, {pattern:?}", 40 + 2 * n));
        }
    }
}

#[test]
fn random_problems() {
    let emulated = std::env::var_os("SAMEBITS_SLOW").is_some();
    let count = if emulated { 6 } else { if slow() { 20 } else { 150 } };
    for seed in 0..count {
        let p = draw(seed);
        let what = format!("seed {seed}: {p}");
        check(p, seed, what);
    }
}

#[test]
fn threads_change_nothing() {
    let cpu = *cpus().last().unwrap();
    for seed in 0..if slow() { 4 } else { 40 } {
        let case = Case::new(draw(seed), seed);
        let want = case.run(cpu, None);
        for threads in [1, 2, 3, 7] {
            assert_equal(&case.run(cpu, Some(threads)), &want, format!("seed {seed}, {threads} threads"));
        }
    }
}

/// A key that no query sees is not read and gets +0; a query that sees no key gets +0.
#[test]
fn what_is_not_seen_is_not_read() {
    let n = 70;
    let mut p = Problem::new(5, [1, 1, 1, n, n, 8, 9]);
    p.pattern = Pattern::Causal;
    let clean = Case::new(p.clone(), 5);
    let want = clean.run(cpus()[0], None);
    let mut poisoned = Case::new(p, 5);
    for c in 0..8 {
        poisoned.problem.k.set(0, 0, n - 1, c, f32::NAN);
        poisoned.problem.v.set(0, 0, n - 1, c, f32::INFINITY);
    }
    for cpu in cpus() {
        let got = poisoned.run(cpu, None);
        // Only the last query sees the last key.
        assert_same(&got.dq[..(n - 1) * 8], &want.dq[..(n - 1) * 8], format!("dQ on {}", cpu.tier()));
        assert!(got.dq[(n - 1) * 8..].iter().all(|x| x.is_nan()), "dQ of the last query");
    }
    let mut hidden = Problem::new(6, [1, 2, 1, 50, 60, 8, 8]);
    hidden.additive = Some(Array::new([1, 2, 50, 60], ORDERS[0], || f32::NEG_INFINITY));
    hidden.k.data.fill(f32::NAN);
    let case = Case::new(hidden, 6);
    for cpu in cpus() {
        let got = case.run(cpu, None);
        let all = got.dq.iter().chain(&got.dk).chain(&got.dv);
        assert!(all.into_iter().all(|x| x.to_bits() == 0), "nothing seen on {}", cpu.tier());
    }
}

/// Σ dO · O in `f64`, of q, k and v end to end.
fn loss(p: &Problem, d_out: &Array, x: &[f64]) -> f64 {
    let ([_, h, lq, d], [_, kv, lk, _], v_dim) = (p.q.shape, p.k.shape, p.v.shape[3]);
    let (q, rest) = x.split_at(h * lq * d);
    let (k, rest) = rest.split_at(kv * lk * d);
    let (v, sinks) = rest.split_at(kv * lk * v_dim);
    let mut total = 0.0;
    p.rows(|row| {
        let (at, kv_head) = (row.head * lq + row.token, row.head / (h / kv));
        let score = |key: &twin::Key| {
            let k = &k[(kv_head * lk + key.row) * d..][..d];
            let dot: f64 = q[at * d..][..d].iter().zip(k).map(|(q, k)| q * k).sum();
            let s = dot * f64::from(p.scale);
            let s = p.softcap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh());
            let bias = p.alibi.as_ref().map_or(0.0, |a| f64::from(a[row.head]) * f64::from(key.distance));
            s + bias + f64::from(key.bias)
        };
        let mut l = sinks.get(row.head).map_or(0.0, |s| s.exp());
        let mut sum = 0.0;
        for key in row.keys.iter().flatten() {
            let p = score(key).exp();
            let v = &v[(kv_head * lk + key.row) * v_dim..][..v_dim];
            let dot = |c: usize| f64::from(d_out.get(0, row.head, row.token, c)) * v[c];
            (l, sum) = (l + p, sum + p * (0..v_dim).map(dot).sum::<f64>());
        }
        total += if l > 0.0 { sum / l } else { 0.0 };
    });
    total
}

/// Against differences in `f64`, every option among them. The gauge is the sum of the absolute terms, in which those
/// of dP − D and of the scores have sums of their own.
#[test]
fn near_the_truth() {
    for (seed, sizes) in
        [[1, 2, 1, 5, 9, 3, 4], [1, 2, 2, 7, 7, 5, 3], [1, 4, 2, 3, 70, 4, 5]].into_iter().enumerate()
    {
        for options in 0..4 {
            let mut p = Problem::new(seed as u64, sizes);
            p.pattern = [Pattern::Full, Pattern::Causal, Pattern::Window(3), Pattern::Full][options];
            let h = sizes[1];
            if options >= 2 {
                p.softcap = Some(1.5);
                p.alibi = Some((0..h).map(|h| 0.25 / (h + 1) as f32).collect());
                p.sinks = Some((0..h).map(|h| 0.5 - h as f32).collect());
            }
            let case = Case::new(p, seed as u64);
            let p = &case.problem;
            let mut x = [p.q.values(), p.k.values(), p.v.values()].concat();
            x.extend(p.sinks.iter().flatten());
            let want = gradient(&x, |x| loss(p, &case.d_out, x));
            let size = |x: &Array| x.values().iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
            let [b, h, lq, v_dim] = p.out_shape();
            // p ≤ 1; |dP − D| ≤ 2 v_dim |dO| |v|, of as many rows as meet.
            let meet = (h / p.k.shape[1] * lq).max(p.k.shape[2]) as f64;
            let slope = 2.0 * v_dim as f64 * size(&case.d_out) * size(&p.v);
            let gauge = meet * (slope * size(&p.q).max(size(&p.k)) + size(&case.d_out)) * b as f64;
            for cpu in cpus() {
                let got = case.run(cpu, None);
                let mut all = [got.dq, got.dk, got.dv].concat();
                if p.sinks.is_some() {
                    all.extend(got.dsinks);
                }
                assert_eq!(all.len(), want.len());
                let worst = all.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(worst <= 2.0 * U * gauge, "{p} on {}: off by {worst:e}, {gauge}", cpu.tier());
            }
        }
    }
}

#[test]
#[should_panic(expected = "attention: out, d_out, lse of shapes")]
fn shapes_that_disagree_panic() {
    let mut case = Case::new(Problem::new(1, [1, 1, 1, 3, 3, 4, 4]), 1);
    case.lse = Array::new([1, 1, 2, 1], ORDERS[0], || 0.0);
    case.run(cpus()[0], None);
}
