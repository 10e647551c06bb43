//! exp, ln, tanh, erf, sigmoid: the same bits on every tier, and the bounds in ulp that their files state.

mod common;

use common::{SPECIALS, assert_same, cpus, elementary, truth};
use samebits::kernels::Cpu;
use samebits::kernels::map::{self, Lanewise};
use samebits::kernels::math::{Erf, Exp, Ln, Sigmoid, Tanh};

/// Worst error in ulp over every `stride`th `f32`, and where it is.
fn worst<F: Lanewise>(cpu: Cpu, f: F, truth: fn(f64) -> f64, stride: usize) -> (f64, f32) {
    let (mut worst, mut at) = (0.0, 0.0);
    let mut inputs = (0..=u32::MAX).step_by(stride).map(f32::from_bits);
    let mut x = [0.0f32; 4096];
    loop {
        let mut n = 0;
        for (x, bits) in x.iter_mut().zip(&mut inputs) {
            *x = bits;
            n += 1;
        }
        let mut y = x;
        map::slice(cpu, f, &mut y[..n]);
        for (&x, &y) in x[..n].iter().zip(&y) {
            let error = truth::ulps(y, truth(f64::from(x)));
            if error > worst {
                (worst, at) = (error, x);
            }
        }
        if n < x.len() {
            return (worst, at);
        }
    }
}

#[track_caller]
fn check<F: Lanewise>(name: &str, f: F, truth: fn(f64) -> f64, bound: f64) {
    // A prime: the sample meets every exponent and every part of the significand.
    let stride = if common::slow() { 1_000_003 } else { 503 };
    let cpu = common::cpus().pop().expect("scalar at least");
    let (worst, at) = worst(cpu, f, truth, stride);
    eprintln!("{name}: {worst:.4} ulp at {at:e}");
    assert!(worst <= bound, "{name}: {worst} ulp at {at:e}, bound {bound}");
}

/// All 2³² inputs on the fastest tier: minutes a function.
#[track_caller]
fn check_all<F: Lanewise>(name: &str, f: F, truth: fn(f64) -> f64, bound: f64) {
    let (worst, at) = worst(Cpu::detect(), f, truth, 1);
    eprintln!("{name}: {worst:.4} ulp at {at:e} ({:#010x}) over all inputs", at.to_bits());
    assert!(worst <= bound, "{name}: {worst} ulp at {at:e}, bound {bound}");
}

/// Every tier against the plain definition: every length, then a stride through all inputs.
fn twin<F: Lanewise>(name: &str, f: F, definition: fn(f32) -> f32) {
    let stride = if common::slow() { 4_000_037 } else { 40_009 };
    let mut all: Vec<f32> = (0..=u32::MAX).step_by(stride).map(f32::from_bits).collect();
    all.extend(SPECIALS);
    let want: Vec<f32> = all.iter().map(|&x| definition(x)).collect();
    for cpu in cpus() {
        for n in 0..=67 {
            let mut got = all[..n].to_vec();
            map::slice(cpu, f, &mut got);
            assert_same(&got, &want[..n], format!("{name}, {n} numbers on {cpu:?}"));
        }
        let mut got = all.clone();
        map::slice(cpu, f, &mut got);
        assert_same(&got, &want, format!("{name} on {cpu:?}"));
        // a NaN stays in its own place, wherever it is
        for at in 0..=70 {
            let mut x = [0.5; 71];
            x[at] = f32::NAN;
            let want = x.map(definition);
            assert!(want[at].is_nan());
            map::slice(cpu, f, &mut x);
            assert_same(&x, &want, format!("{name}, NaN at {at} on {cpu:?}"));
        }
    }
}

#[test]
fn every_tier_gives_the_bits_of_the_definition() {
    twin("exp", Exp, elementary::exp);
    twin("ln", Ln, elementary::ln);
    twin("tanh", Tanh, elementary::tanh);
    twin("erf", Erf, elementary::erf);
    twin("sigmoid", Sigmoid, elementary::sigmoid);
}

#[test]
fn the_ends_are_exact() {
    let (inf, tiny) = (f32::INFINITY, f32::from_bits(1));
    let of = |f: fn(&mut [f32]), x: f32| {
        let mut x = [x];
        f(&mut x);
        x[0].to_bits()
    };
    let exp = |x: &mut [f32]| map::slice(Cpu::detect(), Exp, x);
    let ln = |x: &mut [f32]| map::slice(Cpu::detect(), Ln, x);
    let tanh = |x: &mut [f32]| map::slice(Cpu::detect(), Tanh, x);
    let erf = |x: &mut [f32]| map::slice(Cpu::detect(), Erf, x);
    let sigmoid = |x: &mut [f32]| map::slice(Cpu::detect(), Sigmoid, x);
    for (name, f, x, want) in [
        ("exp", exp as fn(&mut [f32]), -inf, 0.0),
        ("exp", exp, inf, inf),
        ("exp", exp, 0.0, 1.0),
        ("exp", exp, -0.0, 1.0),
        ("exp", exp, f32::from_bits(0x42b1_7218), inf), // 88.722839: e^x is past f32::MAX
        ("exp", exp, -104.0, 0.0),
        ("exp", exp, -103.0, f32::from_bits(1)),
        ("ln", ln, 0.0, -inf),
        ("ln", ln, -0.0, -inf),
        ("ln", ln, 1.0, 0.0),
        ("ln", ln, inf, inf),
        ("ln", ln, tiny, -103.278_93),
        ("tanh", tanh, -0.0, -0.0),
        ("tanh", tanh, -tiny, -tiny),
        ("tanh", tanh, inf, 1.0),
        ("tanh", tanh, -f32::MAX, -1.0),
        ("erf", erf, -0.0, -0.0),
        ("erf", erf, tiny, tiny),
        ("erf", erf, -inf, -1.0),
        ("erf", erf, f32::MAX, 1.0),
        ("sigmoid", sigmoid, -inf, 0.0),
        ("sigmoid", sigmoid, inf, 1.0),
        ("sigmoid", sigmoid, 0.0, 0.5),
        ("sigmoid", sigmoid, -103.0, f32::from_bits(1)),
    ] {
        assert_eq!(of(f, x), want.to_bits(), "{name}({x:e})");
    }
    assert!(f32::from_bits(of(exp, f32::from_bits(0x42b1_7217))).is_finite(), "88.722832");
    assert!(f32::from_bits(of(ln, -tiny)).is_nan() && f32::from_bits(of(ln, -inf)).is_nan());
}

#[test]
fn exp_within_its_bound() {
    check("exp", Exp, f64::exp, 1.5);
}
#[test]
fn ln_within_its_bound() {
    check("ln", Ln, f64::ln, 1.0);
}
#[test]
fn tanh_within_its_bound() {
    check("tanh", Tanh, f64::tanh, 2.5);
}
#[test]
fn erf_within_its_bound() {
    check("erf", Erf, truth::erf, 2.0);
}
#[test]
fn sigmoid_within_its_bound() {
    check("sigmoid", Sigmoid, truth::sigmoid, 3.0);
}
#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn exp_of_all_inputs() {
    check_all("exp", Exp, f64::exp, 1.5);
}
#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn ln_of_all_inputs() {
    check_all("ln", Ln, f64::ln, 1.0);
}
#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn tanh_of_all_inputs() {
    check_all("tanh", Tanh, f64::tanh, 2.5);
}
#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn erf_of_all_inputs() {
    check_all("erf", Erf, truth::erf, 2.0);
}
#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn sigmoid_of_all_inputs() {
    check_all("sigmoid", Sigmoid, truth::sigmoid, 3.0);
}
