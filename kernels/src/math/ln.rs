//! # ln
//!
//! **Math.**  x = 2^e · (1 + m),  2/3 ≤ 1 + m < 4/3;  ln x = e · ln 2 + (m − m²/2 + m³ · L(m)),
//! L minimax of degree 7 (relative error 2⁻²⁷).
//!
//! **Law.**  Clause 3: integer operations take x apart, fma puts ln x together.
//!
//! ```text
//!   x ─(subnormal? · 2^23)─ bits ┬─ − bits of 2/3, exponent only ─► e ────────────┐
//!                                └─ − e in the exponent's field ─► m ─polynomial─► + ─► y
//! ```
//!
//! **Registers.**  x, m, m², e, two halves of the polynomial and 12 constants.
//!
//! **Cost.**  32 operations a line; the polynomial runs as two chains (even and odd) to halve its latency.
//!
//! **Error.**  0.943 ulp, the worst of all 2³² inputs (at 0.634 447 7); tests allow 1.
//! **Reference.**  Tang 1990, *Table-driven implementation of the logarithm*, [doi:10.1145/98267.98294](https://doi.org/10.1145/98267.98294).
//! **Next.**  `f64`'s own ln in `double.rs`

use crate::map::Lanewise;
use crate::simd::Simd;

/// `ln x` in every lane.
///
/// −∞ at ±0, +∞ at +∞, NaN below 0 and for NaN; subnormals are numbers like others.
#[inline(always)]
pub fn ln<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let small = s.gt(s.splat(f32::MIN_POSITIVE), x);
    let normal = s.select(small, s.mul(x, s.splat(8_388_608.0)), x);
    let lift = s.select(small, s.splat(-23.0), s.splat(0.0));
    // How many times 2 lies between 2/3 and x: the difference of the bits, exponent's field alone.
    let two_thirds = s.splat_i((2.0f32 / 3.0).to_bits() as i32);
    let field = s.and_i(s.sub_i(s.bits(normal), two_thirds), s.splat_i(0xff80_0000_u32 as i32));
    let e = s.add(s.of_i(s.sar::<23>(field)), lift);
    let m = s.sub(s.of_bits(s.sub_i(s.bits(normal), field)), s.splat(1.0)); // exact
    let m2 = s.mul(m, m);
    let (mut odd, mut even) = (s.splat(-0.128_916_17), s.splat(0.139_844_61));
    for (a, b) in
        [(-0.121_842_74, 0.140_058_64), (-0.166_804_87, 0.200_104_06), (-0.249_997_97, 0.333_332_15)]
    {
        odd = s.fma(odd, m2, s.splat(a));
        even = s.fma(even, m2, s.splat(b));
    }
    let p = s.fma(s.fma(odd, m, even), m, s.splat(-0.5));
    let log1p = s.fma(p, m2, m);
    let y = s.fma(e, s.splat(core::f32::consts::LN_2), log1p);
    // 0 → −∞, +∞ → itself, the rest of what is no positive number → NaN.
    let (zero, infinity) = (s.splat(0.0), s.splat(f32::INFINITY));
    let positive = s.gt(x, zero);
    let finite = s.mask_and(positive, s.gt(infinity, x));
    let odd_one =
        s.select(positive, x, s.select(s.eq(x, zero), s.splat(f32::NEG_INFINITY), s.splat(f32::NAN)));
    s.select(finite, y, odd_one)
}

/// [`ln`] as a function for [`crate::map`].
#[derive(Clone, Copy, Debug)]
pub struct Ln;

impl Lanewise for Ln {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        ln(s, x)
    }
}
