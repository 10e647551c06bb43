//! # exp, ln, pow, sin and cos in `f64`, for tables and schedules
//!
//! **Math.**
//! - exp: x = n ln 2 + r, and Remez's rational form of e^r (fdlibm).
//! - ln: x = 2^e · m, √½ ≤ m < √2; ln m = 2 artanh s = 2s · (1 + s²/3 + s⁴/5 + …), s = (m − 1) / (m + 1). The
//!   leading terms are carried as sums of two doubles, because
//! - pow: x^y = exp(y · ln x) multiplies the error of ln x by y: ln x is needed to 2⁻⁶⁴.
//! - sin, cos: x = n π/2 + r with π/2 in three parts, the first two of 29 bits: exact products up to n = 2²⁴,
//!   and r as a sum of two doubles; then minimax polynomials on |r| ≤ π/4 (fdlibm).
//!
//! **Law.**  Clause 3: + − × ÷ in `f64`, one after the other. No fma: a target without one would have to
//! emulate it; the exact product of two doubles is Dekker's, in 17 operations.
//!
//! ```text
//!   pow   x ─ ln ─► h + l ─ · y ─► p + q ─► exp(p) · (1 + q)
//!   sin   x ─ − n·A − n·B − n·C ─► r + t ─► n mod 4 picks ± sin r, ± cos r
//! ```
//!
//! **Registers.**  One number at a time.   **Cost.**  30 (exp, sin and cos) to 200 (pow) operations.
//!
//! **Error.**  2 ulp (tests/double.rs); for sin and cos, |x| ≤ 2²⁴, 2 ulp or 2⁻⁸⁵, whichever is more.
//!
//! **Reference.**  Sun Microsystems, *fdlibm* 5.3 (the constants of exp, sin and cos); Dekker 1971, *A
//! floating-point technique for extending the available precision*, [doi:10.1007/BF01397083](https://doi.org/10.1007/BF01397083).   **Next.**  `rope.rs`

/// Adding 1.5 × 2^52 leaves no room for a fraction: the addition itself rounds to an integer.
const SHIFT: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, the first with 42 bits: its products with exponents are exact.
const LN2: (f64, f64) = (0.693_147_180_559_890_3, 5.497_923_018_708_371e-14);
/// π/2 in three parts of 29, 29 and 53 bits.
const HALF_PI: [f64; 3] = [1.570_796_325_802_803, 9.920_935_774_287_987e-10, 2.251_741_774_156_217_6e-18];
/// What the low 53 bits of a third leave.
const THIRD: (f64, f64) = (1.0 / 3.0, 1.850_371_707_708_594e-17);

/// `e^x`; 0 below −745.2, +∞ above 709.79, NaN for NaN. Subnormal results are kept.
///
/// ```
/// use samebits_kernels::math::{cos64, double, exp64, ln64, pow64, sin_cos64, sin64};
/// assert_eq!(exp64(0.0), 1.0);
/// assert!((exp64(ln64(3.0)) - 3.0).abs() < 1e-15);
/// assert_eq!(pow64(2.0, 10.0), 1024.0);
/// let x = 100.0; // a position, in radians
/// assert_eq!(sin_cos64(x), (sin64(x), cos64(x)));
/// assert!((sin64(x) * sin64(x) + cos64(x) * cos64(x) - 1.0).abs() < 1e-15);
/// assert!(double::sin64(1e9).is_nan()); // rather than a wrong value
/// ```
pub fn exp64(x: f64) -> f64 {
    const P: [f64; 5] = [
        4.138_136_797_057_238_5e-8,
        -1.653_390_220_546_525_2e-6,
        6.613_756_321_437_934e-5,
        -2.777_777_777_701_559_3e-3,
        1.666_666_666_666_660_2e-1,
    ];
    let x = if x < -750.0 { -750.0 } else { x };
    let x = if x > 710.0 { 710.0 } else { x }; // a NaN passes both, and all that follows
    let n = x * core::f64::consts::LOG2_E + SHIFT - SHIFT;
    let (high, low) = (x - n * LN2.0, n * LN2.1);
    let r = high - low;
    let c = r - r * r * horner(r * r, &P);
    let y = 1.0 - ((low - r * c / (2.0 - c)) - high);
    // Two exact powers: only the last product can round, be it to a subnormal or to infinity.
    let half = (n / 2.0) as i64;
    y * power_of_two(half) * power_of_two(n as i64 - half)
}

/// `2^n` for |n| <= 1022.
fn power_of_two(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// `c[0] x^(n−1) + … + c[n−1]`.
fn horner(x: f64, c: &[f64]) -> f64 {
    c.iter().fold(0.0, |p, c| p * x + c)
}

/// `ln x`: −∞ at 0, +∞ at +∞, NaN below 0 and for NaN.
pub fn ln64(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if !(x > 0.0 && x < f64::INFINITY) {
        return if x > 0.0 { x } else { f64::NAN };
    }
    let (high, low) = ln_pair(x);
    high + low
}

/// `x^y` of a base that is not negative: NaN below 0 (also at −0), else as IEEE 754 says.
pub fn pow64(x: f64, y: f64) -> f64 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_sign_negative() || x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    if x == 0.0 || x == f64::INFINITY {
        return if (x == 0.0) == (y > 0.0) { 0.0 } else { f64::INFINITY };
    }
    let (high, low) = ln_pair(x);
    if y.abs() * high.abs() >= 800.0 {
        return if (high > 0.0) == (y > 0.0) { f64::INFINITY } else { 0.0 };
    }
    let (p, q) = product(y, high);
    let e = exp64(p);
    // Past the ends of exp, e is 0 or ∞ whatever q is.
    if e == 0.0 || e == f64::INFINITY { e } else { e + e * (q + y * low) }
}

/// `ln x` of a positive finite number as an unevaluated sum; relative error 2⁻⁶⁴.
fn ln_pair(x: f64) -> (f64, f64) {
    let (lift, x) = if x < f64::MIN_POSITIVE { (-54, x * power_of_two(54)) } else { (0, x) };
    // The exponent's field of x over √½: m is in [√½, √2).
    let field = x.to_bits().wrapping_sub(core::f64::consts::FRAC_1_SQRT_2.to_bits()) as i64 >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub((field << 52) as u64));
    let e = (field + lift) as f64;
    // s = (m − 1) / (m + 1)
    let (d, d_low) = sum(m, 1.0);
    let s = (m - 1.0) / d;
    let (back, back_low) = product(s, d);
    let s_low = ((m - 1.0 - back) - back_low - s * d_low) / d;
    // q = s²/3 + s⁴/5 + …: the first term as a pair, the rest is small.
    let (s2, mut s2_low) = product(s, s);
    s2_low += 2.0 * s * s_low;
    let rest = (2..=13).rev().fold(0.0, |p, k| p * s2 + 1.0 / f64::from(2 * k + 1)) * s2 * s2;
    let (third, mut third_low) = product(s2, THIRD.0);
    third_low += s2 * THIRD.1 + s2_low * THIRD.0;
    let (q, mut q_low) = sum(third, rest);
    q_low += third_low;
    // e ln 2 + 2s + 2s q
    let (w, mut w_low) = product(2.0 * s, q);
    w_low += 2.0 * (s * q_low + s_low * q);
    let (a, a_low) = sum(e * LN2.0, 2.0 * s);
    let (b, b_low) = sum(a, w);
    let low = a_low + b_low + (e * LN2.1 + (2.0 * s_low + w_low));
    let high = b + low;
    (high, (b - high) + low)
}

/// `a + b` and what it lost (Knuth).
fn sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let back = s - a;
    (s, (a - (s - back)) + (b - back))
}

/// `a × b` and what it lost (Dekker); |a|, |b| < 2^990.
fn product(a: f64, b: f64) -> (f64, f64) {
    let split = |x: f64| {
        let t = x * 134_217_729.0; // 2^27 + 1
        let high = t - (t - x);
        (high, x - high)
    };
    let p = a * b;
    let ((a, a_low), (b, b_low)) = (split(a), split(b));
    (p, ((a * b - p) + a * b_low + a_low * b) + a_low * b_low)
}

/// `(sin x, cos x)` for |x| ≤ 2²⁴ in radians: any position of a sequence. NaN beyond, rather than a wrong value.
pub fn sin_cos64(x: f64) -> (f64, f64) {
    if x.is_nan() || x.abs() > 16_777_216.0 {
        return (f64::NAN, f64::NAN);
    }
    if x == 0.0 {
        return (x, 1.0); // −0 too
    }
    let n = x * core::f64::consts::FRAC_2_PI + SHIFT - SHIFT;
    let [a, b, c] = HALF_PI;
    let first = x - n * a; // exact: both have few bits below 1 and nearly cancel
    let (r, r_low) = sum(first, -(n * b));
    let (high, low) = sum(r, r_low - n * c);
    let (sin, cos) = (sin_part(high, low), cos_part(high, low));
    match n as i64 & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// `sin x` for |x| ≤ 2²⁴ in radians; NaN beyond.
pub fn sin64(x: f64) -> f64 {
    sin_cos64(x).0
}

/// `cos x` for |x| ≤ 2²⁴ in radians; NaN beyond.
pub fn cos64(x: f64) -> f64 {
    sin_cos64(x).1
}

/// sin(r + t) for |r| ≤ π/4 and a tiny t.
fn sin_part(r: f64, t: f64) -> f64 {
    const S: [f64; 5] = [
        1.589_690_995_211_55e-10,
        -2.505_076_025_340_686_3e-8,
        2.755_731_370_707_006_8e-6,
        -1.984_126_982_985_795e-4,
        8.333_333_333_322_49e-3,
    ];
    let z = r * r;
    let v = z * r;
    r - ((z * (0.5 * t - v * horner(z, &S)) - t) + v * 1.666_666_666_666_663_2e-1)
}

/// cos(r + t) for |r| ≤ π/4 and a tiny t.
fn cos_part(r: f64, t: f64) -> f64 {
    const C: [f64; 6] = [
        -1.135_964_755_778_819_5e-11,
        2.087_572_321_298_175e-9,
        -2.755_731_435_139_066_3e-7,
        2.480_158_728_947_673e-5,
        -1.388_888_888_887_411e-3,
        4.166_666_666_666_66e-2,
    ];
    let z = r * r;
    let half = 0.5 * z;
    let w = 1.0 - half;
    w + (((1.0 - w) - half) + (z * z * horner(z, &C) - r * t))
}
