//! # tanh
//!
//! **Math.**  tanh|x| = (1 − F) / (1 + F) with F = e^{−2|x|};  −2|x| = n ln 2 + r,  F = 2^n + 2^n · (e^r − 1),
//! e^r − 1 = r + r² · h(r) with a minimax h of degree 4 (relative error 2⁻²⁶); then the sign of x.
//!
//! **Law.**  Clause 3: fma, one division.
//!
//! ```text
//!   x ─ −2|·| clamp ─ round ─► n ─► 2^n ──────────────┐
//!                  └─ − n ln 2 ─► r ─polynomial─► e^r − 1 ─► 1 − F ─┐
//!                                                        └─► 1 + F ─ ÷ ─ sign of x ─► y
//! ```
//!
//! **Registers.**  x, n, r, p, 2^n and 10 constants.
//!
//! **Cost.**  22 operations a line, one a division; no branch, no select: one formula for small and large x,
//! because 1 − F = (1 − 2^n) − 2^n · (e^r − 1) never cancels (n = 0 leaves 1 − e^r itself). Numerator and
//! denominator are each rounded once; taking one from the other would count its error twice (2.5 ulp).
//!
//! **Error.**  1.933 ulp, the worst of all 2³² inputs (at 0.517 457 25); tests allow 2.5.
//! **Reference.**  Kahan's tanh by expm1.   **Next.**  `erf.rs`

use crate::map::Lanewise;
use crate::simd::Simd;

/// `tanh x` in every lane.
///
/// Odd; ±1 from |x| = 9.02 on; NaN is NaN; subnormals come back as they are.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let shift = s.splat(12_582_912.0);
    let a = s.neg(s.abs(x));
    // From 9.1 on the quotient rounds to 1; a NaN passes through `max` as b.
    let t = s.max(s.splat(-18.2), s.add(a, a));
    let shifted = s.fma(t, s.splat(core::f32::consts::LOG2_E), shift);
    let n = s.sub(shifted, shift);
    // One part of ln 2 is enough: the lower n, the less e^r matters.
    let r = s.nfma(n, s.splat(core::f32::consts::LN_2), t);
    let mut h = s.splat(1.388_251_4e-3);
    for c in [8.366_558e-3, 4.166_72e-2, 0.166_665_43, 0.499_999_97] {
        h = s.fma(h, r, s.splat(c));
    }
    let expm1 = s.fma(s.mul(r, r), h, r);
    // The low bits of `shifted` are n as an integer: into the exponent's field of 1 with it.
    let power = s.of_bits(s.add_i(s.shl::<23>(s.bits(shifted)), s.splat_i(127 << 23)));
    let one = s.splat(1.0);
    let top = s.nfma(power, expm1, s.sub(one, power));
    let bottom = s.fma(power, expm1, s.add(one, power));
    s.copysign(s.div(top, bottom), x)
}

/// [`tanh`] as a function for [`crate::map`].
#[derive(Clone, Copy, Debug)]
pub struct Tanh;

impl Lanewise for Tanh {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        tanh(s, x)
    }
}
