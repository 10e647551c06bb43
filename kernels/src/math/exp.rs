//! # exp
//!
//! **Math.**  e^x = 2^n · e^r,  n = round(x · log₂e),  r = x − n · ln 2 in two parts, |r| ≤ 0.35.

use crate::simd::Simd;

/// `e^x` in every lane.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Past these ends the result is +inf or +0 whatever the input; a NaN passes through `min`/`max` as b.
    let x = s.min(s.splat(89.0), x);
    let x = s.max(s.splat(-104.0), x);
    let n = s.round(s.mul(x, s.splat(core::f32::consts::LOG2_E)));
    let r = s.nfma(n, s.splat(0.693_359_4), x);
    let r = s.nfma(n, s.splat(-2.121_944_4e-4), r);
    let mut p = s.splat(1.0 / 720.0);
    for e in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(e));
    }
    let n = s.to_i(n);
    let half = s.sar::<1>(n);
    let rest = s.sub_i(n, half);
    let scale = |n| s.of_bits(s.shl::<23>(s.add_i(n, s.splat_i(127))));
    s.mul(s.mul(p, scale(half)), scale(rest))
}
