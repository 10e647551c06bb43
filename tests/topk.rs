//! topk: against a sort, with ties, NaN and every k.

mod common;
use common::*;
use samebits::kernels::topk::{Best, Places, topk};

/// A stable sort in the order that `topk` promises.
fn twin(scores: &[f32], k: usize) -> (Vec<f32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    // total_cmp puts −0 under +0 and orders NaN by payload: make them equal first
    let key = |i: u32| match scores[i as usize] {
        x if x.is_nan() => f32::NAN,
        x => x + 0.0,
    };
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    order.truncate(k);
    (order.iter().map(|&i| scores[i as usize]).collect(), order)
}

fn check(cpu: Cpu, scores: &[f32], k: usize, what: &str) {
    let (mut values, mut indices) = (vec![-77.0; k], vec![77; k]);
    let found = topk(cpu, scores, &mut values, &mut indices);
    let (want, order) = twin(scores, k);
    let what = format!("{what} {cpu:?} n = {}, k = {k}", scores.len());
    assert_eq!(found, order.len(), "{what}");
    assert_eq!(indices[..found], order, "{what}");
    assert_same(&values[..found], &want, &what);
    assert!(values[found..].iter().all(|&v| v == -77.0), "{what}: written behind the end");
}

#[test]
fn every_length_and_k() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for n in (0..=67).chain([130, 200]) {
            let distinct = random.normal(n);
            let ties: Vec<f32> = (0..n).map(|_| random.below(4) as f32 - 2.0).collect();
            let specials: Vec<f32> = (0..n).map(|_| SPECIALS[random.below(16)]).collect();
            for k in [0, 1, 2, 3, 7, 16, 33, 64, 65, 66, 67, 100, 250] {
                check(cpu, &distinct, k, "distinct");
                check(cpu, &ties, k, "ties");
                check(cpu, &specials, k, "specials");
            }
        }
    }
}

/// The scores in parts, their places in an order that is drawn: as if they had come at once, and stood there.
fn check_parts(cpu: Cpu, scores: &[f32], k: usize, random: &mut Random) {
    let n = scores.len();
    let mut places: Vec<u32> = (0..n as u32).collect();
    (1..n).for_each(|i| places.swap(i, random.below(i + 1)));
    let moved: Vec<f32> = places.iter().map(|&place| scores[place as usize]).collect();
    let (mut values, mut indices) = ([vec![-77.0; k], vec![-77.0; k]], [vec![77; k], vec![77; k]]);
    let ([in_order, drawn], [first, second]) = (&mut values, &mut indices);
    let (mut in_order, mut drawn) = (Best::new(in_order, first), Best::new(drawn, second));
    let mut at = 0;
    while at < n {
        let end = n.min(at + random.below(150));
        in_order.offer(cpu, &scores[at..end], Places::From(at as u32));
        drawn.offer(cpu, &moved[at..end], Places::At(&places[at..end]));
        assert_eq!(in_order.worst().is_some(), k > 0 && end >= k);
        at = end;
    }
    let (want, order) = twin(scores, k);
    for found in [in_order.finish(), drawn.finish()] {
        assert_eq!(found, order.len());
    }
    for (values, indices) in values.iter().zip(&indices) {
        assert_eq!(indices[..order.len()], order, "{cpu:?} n = {n}, k = {k}, in parts");
        assert_same(&values[..order.len()], &want, "in parts");
    }
}

#[test]
fn scores_may_come_in_parts_and_with_places() {
    let mut random = Random::new(3);
    for cpu in cpus() {
        for _ in 0..if slow() { 20 } else { 300 } {
            let n = random.below(700);
            let ties: Vec<f32> = (0..n).map(|_| random.below(4) as f32 - 2.0).collect();
            let specials: Vec<f32> = (0..n).map(|_| SPECIALS[random.below(16)]).collect();
            let k = random.below(n + 20);
            for scores in [random.normal(n), ties, specials] {
                check_parts(cpu, &scores, k, &mut random);
            }
        }
    }
}

#[test]
fn any_order() {
    let mut random = Random::new(2);
    let n = if slow() { 700 } else { 20_000 };
    let rising: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let falling: Vec<f32> = rising.iter().rev().copied().collect();
    let noise = random.normal(n);
    let mut poisoned = noise.clone();
    poisoned.iter_mut().step_by(97).for_each(|x| *x = f32::NAN);
    for cpu in cpus() {
        for k in [1, 10, 100, n / 2, n] {
            check(cpu, &rising, k, "rising");
            check(cpu, &falling, k, "falling");
            check(cpu, &noise, k, "noise");
            check(cpu, &poisoned, k, "NaN among noise");
            check(cpu, &vec![f32::NEG_INFINITY; n], k, "all −∞");
            check(cpu, &vec![f32::NAN; n], k, "all NaN");
        }
    }
}

#[test]
fn a_nan_is_found_at_every_place() {
    for cpu in cpus() {
        for n in 1..=140 {
            for at in 0..n {
                let mut x = vec![1.0; n];
                x[at] = f32::NAN;
                let (mut value, mut index) = ([0.0], [0]);
                topk(cpu, &x, &mut value, &mut index);
                assert!(value[0].is_nan() && index[0] as usize == at, "{cpu:?} n = {n}, NaN at {at}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "2 values, 3 indices")]
fn outputs_must_agree() {
    topk(cpus()[0], &[1.0], &mut [0.0; 2], &mut [0; 3]);
}
