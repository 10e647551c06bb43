//! # erf
//!
//! **Math.**  |x| < 0.95: erf x = x + x · p(x²), p of degree 6 (relative error 2⁻³⁰).
//! Beyond: erf|x| = 1 − 2^G(|x|), G ≈ log₂ erfc of degree 6 (absolute error of the power 10⁻⁸); then the sign.
//!
//! **Law.**  Clause 3: fma, and the 2^· of `exp.rs`. Both branches are computed, one is taken.
//!
//! ```text
//!   x ┬ x² ─ p ─► x + x·p ────────────────┐
//!     └ |x| ─ G ─ 2^· ─► 1 − · ─ sign ────┴─ |x| < 0.95 ? ─► y
//! ```
//!
//! **Registers.**  x, |x|, x², p, g and 22 constants.
//!
//! **Cost.**  32 operations a line, no division. GELU does not use it: `activation.rs` says why.
//!
//! **Error.**  1.377 ulp, the worst of all 2³² inputs (at 0.957 668 07); tests allow 2.
//! **Reference.**  Abramowitz, Stegun, chapter 7.   **Next.**  `sigmoid.rs`

use super::exp::exp2_bounded;
use crate::map::Lanewise;
use crate::simd::Simd;

/// `erf x` in every lane.
///
/// Odd; ±1 from |x| = 3.92 on; NaN is NaN; subnormals come back times 2/√π, rounded once.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const P: [f32; 7] = [
        7.853_876e-5,
        -8.010_198e-4,
        5.188_328e-3,
        -2.685_381_3e-2,
        0.112_835_854,
        -0.376_126_26,
        0.128_379_17,
    ];
    const G: [f32; 7] = [
        2.762_819_6e-4,
        -4.327_421_5e-3,
        3.181_430_3e-2,
        -0.149_415_43,
        -0.919_862_45,
        -1.626_532_1,
        -3.699_739e-4,
    ];
    let x2 = s.mul(x, x);
    // erfc(4.5) is far below half an ulp of 1; a NaN passes through `min` as b.
    let a = s.min(s.splat(4.5), s.abs(x));
    let (mut p, mut g) = (s.splat(P[0]), s.splat(G[0]));
    for i in 1..7 {
        p = s.fma(p, x2, s.splat(P[i]));
        g = s.fma(g, a, s.splat(G[i]));
    }
    let near = s.fma(x, p, x);
    let far = s.copysign(s.sub(s.splat(1.0), exp2_bounded(s, g)), x);
    s.select(s.gt(s.splat(0.95), a), near, far)
}

/// [`erf`] as a function for [`crate::map`].
#[derive(Clone, Copy, Debug)]
pub struct Erf;

impl Lanewise for Erf {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        erf(s, x)
    }
}
