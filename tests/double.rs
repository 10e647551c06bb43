//! exp, ln, pow, sin and cos in `f64`: within their bounds of std's, which are within one ulp of the truth.

mod common;

use common::Random;
use samebits::kernels::math::{exp64, ln64, pow64, sin_cos64};

/// Distance in units in the last place of `want`.
fn ulps(got: f64, want: f64) -> f64 {
    if got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan() {
        return 0.0;
    }
    let exponent = ((want.abs().to_bits() >> 52) as i32).max(1) - 1023;
    (got - want).abs() / 2f64.powi((exponent - 52).max(-1022)) / 2f64.powi((exponent - 52).min(-1022) + 1022)
}

/// Uniform in [low, high).
fn uniform(random: &mut Random, low: f64, high: f64) -> f64 {
    low + (high - low) * (random.bits() >> 11) as f64 / (1u64 << 53) as f64
}

fn count() -> usize {
    if common::slow() { 2_000 } else { 2_000_000 }
}

#[test]
fn exp_within_two_ulp() {
    let mut random = Random::new(1);
    for i in 0..count() {
        let range = [1.0, 20.0, 745.0][i % 3];
        let x = uniform(&mut random, -range, range);
        let error = ulps(exp64(x), x.exp());
        assert!(error <= 2.0, "exp {x:e}: {error} ulp");
    }
    let cases = [0.0, -0.0, 1e-300, 709.78, 709.79, -745.13, -745.2, 1e300, -1e300];
    for x in cases.into_iter().chain([f64::INFINITY, f64::NEG_INFINITY, f64::NAN]) {
        assert!(ulps(exp64(x), x.exp()) <= 1.0, "exp {x:e} = {:e}", exp64(x));
    }
}

#[test]
fn ln_within_two_ulp() {
    let mut random = Random::new(2);
    for i in 0..count() {
        let x = match i % 3 {
            0 => f64::from_bits(random.bits() >> 2), // every positive exponent below 2
            1 => uniform(&mut random, 0.5, 2.0),
            _ => uniform(&mut random, 0.0, 1e9),
        };
        let error = ulps(ln64(x), x.ln());
        assert!(error <= 2.0, "ln {x:e}: {error} ulp");
    }
    for x in [0.0, -0.0, 1.0, -1.0, 5e-324, f64::MAX, f64::INFINITY, f64::NAN, f64::NEG_INFINITY] {
        assert!(ulps(ln64(x), x.ln()) <= 1.0, "ln {x:e} = {:e}", ln64(x));
    }
}

#[test]
fn pow_within_two_ulp() {
    let mut random = Random::new(3);
    for i in 0..count() {
        let (x, y) = match i % 4 {
            // inverse frequencies of rotary tables
            0 => (uniform(&mut random, 500.0, 5e6), -uniform(&mut random, 0.0, 1.0)),
            // decays of optimisers
            1 => (uniform(&mut random, 0.9, 1.0), (random.below(1 << 20)) as f64),
            2 => (uniform(&mut random, 0.0, 10.0), uniform(&mut random, -300.0, 300.0)),
            _ => (uniform(&mut random, 0.99, 1.01), uniform(&mut random, -7e4, 7e4)),
        };
        let (got, want) = (pow64(x, y), x.powf(y));
        let error = ulps(got, want);
        assert!(error <= 2.0, "{x:e} ^ {y:e} = {got:e}, {error} ulp");
    }
    let edge = [0.0, 1.0, 0.5, 2.0, 1e300, 5e-324, f64::INFINITY, f64::NAN];
    for x in edge {
        for y in edge.into_iter().flat_map(|y| [y, -y]) {
            let (got, want) = (pow64(x, y), x.powf(y));
            assert!(ulps(got, want) <= 1.0, "{x:e} ^ {y:e} = {got:e}, want {want:e}");
        }
    }
    assert!(pow64(-1.0, 2.0).is_nan());
}

#[test]
fn sin_and_cos_of_every_position() {
    let mut random = Random::new(4);
    for i in 0..count() {
        let x = match i % 3 {
            0 => random.below(1 << 24) as f64,
            1 => random.below(1 << 24) as f64 * pow64(10_000.0, -uniform(&mut random, 0.0, 1.0)),
            // next to a multiple of π/2, where all but the last bits cancel
            _ => random.below(10_680_000) as f64 * std::f64::consts::FRAC_PI_2,
        };
        for x in [x, -x] {
            let (sin, cos) = sin_cos64(x);
            for (got, want) in [(sin, x.sin()), (cos, x.cos())] {
                // π/2 in 111 bits: what cancels past 2⁻⁸⁵ is lost
                let error = ulps(got, want);
                let lost = (got - want).abs() <= 2f64.powi(-85);
                assert!(error <= 2.0 || lost, "sin, cos {x:e}: {got:e}, want {want:e}, {error} ulp");
            }
        }
    }
    assert_eq!(sin_cos64(0.0), (0.0, 1.0));
    assert!(sin_cos64(-0.0).0.is_sign_negative());
    for x in [16_777_217.0, f64::INFINITY, f64::NAN] {
        assert!(sin_cos64(x).0.is_nan() && sin_cos64(-x).1.is_nan());
    }
}
