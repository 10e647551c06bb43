//! Rows of int8 codes with one scale: against plain loops, the bound, and what is not finite.

mod common;
use common::*;
use samebits::kernels::int8::quantize;

/// The law in plain loops.
fn twin(x: &[f32]) -> (Vec<i8>, f32) {
    let most = x.iter().fold(0.0f32, |most, x| if x.abs() > most { x.abs() } else { most });
    if x.iter().any(|x| !x.is_finite()) {
        return (vec![0; x.len()], f32::NAN);
    }
    let scale = most / 127.0;
    if scale == 0.0 {
        return (vec![0; x.len()], scale);
    }
    (x.iter().map(|x| (x / scale).clamp(-127.0, 127.0).round_ties_even() as i8).collect(), scale)
}

#[track_caller]
fn check(x: &[f32], what: impl std::fmt::Display) {
    let want = twin(x);
    for cpu in cpus() {
        let mut codes = vec![99; x.len()];
        let scale = quantize(cpu, x, &mut codes);
        assert_same(&[scale], &[want.1], format!("{what} on {}: scale", cpu.tier()));
        assert_eq!(codes, want.0, "{what} on {}", cpu.tier());
    }
}

#[test]
fn every_length_and_magnitude() {
    for n in 0..=67 {
        for exponent in (-149..=127).step_by(23) {
            let gain = f64::exp2(f64::from(exponent)) as f32;
            let x: Vec<f32> = Random::new(n as u64).vec(n).iter().map(|x| x * gain).collect();
            check(&x, format!("n = {n}, 2^{exponent}"));
        }
    }
}

/// Every quotient that ends in 1/2, exactly.
#[test]
fn ties_go_to_even() {
    let x: Vec<f32> = (-254..=254).map(|i| 0.5 * i as f32).collect();
    check(&x, "halves");
    let (codes, scale) = twin(&x);
    assert_eq!((scale, codes[254 + 1], codes[254 + 3], codes[254 - 5]), (1.0, 0, 2, -2));
}

#[test]
fn rows_of_zeros_and_tiny_rows() {
    check(&[0.0, -0.0, 0.0], "zeros");
    check(&[1e-45, -1e-45], "a scale that rounds to zero");
    check(&[f32::from_bits(190), f32::from_bits(95), f32::from_bits(1)], "a scale of one ulp: codes are cut");
    check(&[f32::MAX, -f32::MAX, 1.0], "the largest");
}

/// What is not finite is not hidden: the whole row decodes to NaN.
#[test]
fn a_row_that_is_not_finite_is_a_nan() {
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for n in [1, 16, 17, 40] {
            for at in [0, n / 2, n - 1] {
                let mut x = Random::new(n as u64).vec(n);
                x[at] = poison;
                check(&x, format!("{poison} at {at} of {n}"));
            }
        }
    }
}

#[test]
fn codes_are_near() {
    for seed in 0..200 {
        let x = Random::new(seed).normal(128);
        let mut codes = [0; 128];
        let scale = f64::from(quantize(cpus().pop().unwrap(), &x, &mut codes));
        for (&x, &code) in x.iter().zip(&codes) {
            let error = (f64::from(code) * scale - f64::from(x)).abs();
            assert!(error <= (0.5 + f64::exp2(-15.0)) * scale, "{x}: code {code}, scale {scale:e}");
        }
    }
}

#[test]
#[should_panic(expected = "a row of 3 elements, 2 codes")]
fn lengths_that_differ_panic() {
    quantize(cpus()[0], &[1.0; 3], &mut [0; 2]);
}
