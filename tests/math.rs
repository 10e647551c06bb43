//! exp, ln, tanh, erf, sigmoid: the same bits on every tier, and the bounds in ulp that their files state.

mod common;

use common::truth;
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
