//! Functions in `f64` that are not in std, to judge the kernels by.

use std::f64::consts::{FRAC_2_SQRT_PI, PI, SQRT_2};

/// The error function, within 3e-16 of its value.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 1e-8 {
        return FRAC_2_SQRT_PI * x; // the next term is x³/3 of it
    }
    if a >= 3.0 {
        return (1.0 - erfc_tail(a)).copysign(x);
    }
    // 2/√π · e^−x² · Σ 2^n x^(2n+1) / (1·3·5…(2n+1)): all terms positive, so nothing cancels.
    let (mut term, mut sum, mut n) = (a, a, 0.0);
    while term > sum * 1e-18 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    (FRAC_2_SQRT_PI * (-x * x).exp() * sum).copysign(x)
}

/// `1 − erf(x)` for x ≥ 3 by its continued fraction (Abramowitz, Stegun 7.1.14), from the inside out.
fn erfc_tail(x: f64) -> f64 {
    if x > 27.3 {
        return 0.0; // below every f64
    }
    let fraction = (1..=60).rev().fold(x, |f, k| x + f64::from(k) / 2.0 / f);
    (-x * x).exp() / (PI.sqrt() * fraction)
}

/// `x · Φ(x)`.
pub fn gelu_erf(x: f64) -> f64 {
    let phi = if x < -3.0 * SQRT_2 { erfc_tail(-x / SQRT_2) / 2.0 } else { (1.0 + erf(x / SQRT_2)) / 2.0 };
    if phi == 0.0 { 0.0 } else { x * phi }
}

/// `1 / (1 + e^−x)`, also where it is tiny.
pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

/// `x · σ(x)`.
pub fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// `x · σ(1.702 x)`.
pub fn gelu_quick(x: f64) -> f64 {
    x * sigmoid(1.702 * x)
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
pub fn gelu_tanh(x: f64) -> f64 {
    x * sigmoid(2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x))
}

/// Distance of `got` from `want` in units in the last place of the `f32` nearest to `want`; infinite where only
/// one of them overflows or is a NaN.
pub fn ulps(got: f32, want: f64) -> f64 {
    if got.is_nan() || want.is_nan() {
        return if got.is_nan() && want.is_nan() { 0.0 } else { f64::INFINITY };
    }
    // The rounding limit of f32: from here on the right answer is infinity.
    const LIMIT: f64 = f32::MAX as f64 + (1u128 << 103) as f64;
    if want.abs() >= LIMIT || got.is_infinite() {
        let right = got.is_infinite() && want.abs() >= LIMIT && (got > 0.0) == (want > 0.0);
        return if right { 0.0 } else { f64::INFINITY };
    }
    // The exponent's field of the value, not below that of the least normal f32; 23 places further down.
    let field = (want.abs().to_bits() >> 52).max(1023 - 126);
    let ulp = f64::from_bits((field - 23) << 52);
    (f64::from(got) - want).abs() / ulp
}
