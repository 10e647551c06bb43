//! Correctly rounded square root in integers, for targets without the instruction.

/// `√a`, correctly rounded: one bit of the root at a time.
///
/// ```
/// use samebits_kernels::math::soft::sqrt64;
/// assert_eq!(sqrt64(2.0), core::f64::consts::SQRT_2);
/// assert!(sqrt64(-1.0).is_nan());
/// ```
pub fn sqrt64(a: f64) -> f64 {
    if a.is_nan() || a == 0.0 || a == f64::INFINITY {
        return a;
    }
    if a < 0.0 {
        return f64::NAN;
    }
    let bits = a.to_bits();
    let (mut exponent, mut mantissa) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    if exponent == 0 {
        // Subnormal: bring the leading one to bit 52.
        let shift = mantissa.leading_zeros() as i32 - 11;
        mantissa <<= shift;
        exponent = 1 - shift;
    } else {
        mantissa |= 1 << 52;
    }
    // a = mantissa × 2^(exponent − 1075); an even exponent of two remains under the root.
    let mut power = exponent - 1075;
    if power & 1 != 0 {
        mantissa <<= 1;
        power -= 1;
    }
    // The root of mantissa × 2^54 has 54 bits: 53 and one to round by; the remainder is sticky.
    let n = (mantissa as u128) << 54;
    let (mut root, mut bit) = (0u128, 1u128 << 54);
    while bit != 0 {
        let trial = root | bit;
        if trial * trial <= n {
            root = trial;
        }
        bit >>= 1;
    }
    // √a = root × 2^(power/2 − 27); root has its leading one at bit 53.
    let half = root & 1 == 1; // a tie cannot be: the root of an integer is an integer or irrational
    let rounded = (root >> 1) as u64 + half as u64;
    let exponent = power / 2 - 27 + 1 + 52 + 1023;
    f64::from_bits(((exponent as u64) << 52) + (rounded - (1 << 52)))
}
