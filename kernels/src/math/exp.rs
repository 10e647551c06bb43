//! # exp
//!
//! **Math.**  e^x = 2^n · e^r,  n = round(x · log₂e),  r = x − n · ln 2 in two parts, |r| ≤ 0.347,
//! e^r = 1 + r + r² · q(r) with a minimax q of degree 4 (relative error 2⁻²⁸).
//!
//! **Law.**  Clause 3: fma, min, max, and one rounding by 2^n (the word `ldexp`), so that subnormal results
//! are kept.
//!
//! ```text
//!   x ─clamp─ x ──· log₂e ─round─► n ──────────────┐
//!             └── − n · ln 2 ──► r ─polynomial─► e^r ─· 2^n─► y
//! ```
//!
//! **Registers.**  x, n, r, p and 12 constants: all stay in registers on AVX-512, on AVX2 constants come from
//! the first-level cache.
//!
//! **Cost.**  13 operations a line on AVX-512 (10 of them multiply), 20 elsewhere; no table, no branch.
//!
//! **Error.**  0.892 ulp, the worst of all 2³² inputs (at 5.201 638 7); tests allow 1.5.
//! **Reference.**  Cody, Waite, *Software Manual for the Elementary Functions*
//! (1980), chapter 6.   **Next.**  `tanh.rs`, `softmax`

use crate::map::Lanewise;
use crate::simd::Simd;

/// `e^x` in every lane.
///
/// `exp(-∞)` is +0, `exp(+∞)` and everything above 88.72283 is +∞, NaN is NaN.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Past these ends the result is +∞ or +0 whatever the input; a NaN passes through `min` and `max` as b.
    exp_nonpositive(s, s.min(s.splat(89.0), x))
}

/// [`exp`] where no x is above 0 (89 in truth), as that of a score less the largest: one operation less, the same
/// bits.
#[inline(always)]
pub(crate) fn exp_nonpositive<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let x = s.max(s.splat(-104.0), x);
    exp_bounded(s, x)
}

/// [`exp_nonpositive`] where many x are −∞, those of keys that nobody sees: one operation more, the same bits. Their e^x is
/// never computed, for a result that underflows costs an Intel processor 150 cycles.
#[inline(always)]
pub(crate) fn exp_or_nothing<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (nothing, zero) = (s.gt(s.splat(-104.0), x), s.splat(0.0));
    s.select(nothing, zero, exp_bounded(s, s.select(nothing, zero, x)))
}

/// [`exp`] where it is neither +0 nor +∞.
#[inline(always)]
fn exp_bounded<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Adding 1.5 × 2^23 leaves no room for a fraction: the addition itself rounds to an integer.
    let shift = s.splat(12_582_912.0);
    let n = s.sub(s.fma(x, s.splat(core::f32::consts::LOG2_E), shift), shift);
    // ln 2 in two parts, the first with 16 bits, so that n × it is exact.
    let r = s.nfma(n, s.splat(0.693_145_75), x);
    let r = s.nfma(n, s.splat(1.428_606_8e-6), r);
    let mut p = s.splat(1.381_454e-3);
    for c in [8.368_745e-3, 4.166_839e-2, 0.166_665_21, 0.499_999_94, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.ldexp(p, n)
}

/// `2^x` in every lane for |x| <= 240, where nothing has to be clamped; within 1 ulp, subnormals included.
#[inline(always)]
pub(crate) fn exp2_bounded<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let shift = s.splat(12_582_912.0);
    let n = s.sub(s.add(x, shift), shift);
    let r = s.sub(x, n); // exact
    let mut p = s.splat(1.535_33e-4);
    for c in [1.339_895_2e-3, 9.618_438e-3, 5.550_332_4e-2, 0.240_226_48, core::f32::consts::LN_2, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.ldexp(p, n)
}

/// [`exp`] as a function for [`crate::map`].
#[derive(Clone, Copy, Debug)]
pub struct Exp;

impl Lanewise for Exp {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        exp(s, x)
    }
}
