//! # sigmoid
//!
//! **Math.**  σ(x) = 1 / (1 + e^−x) for x ≥ 0, e^x / (1 + e^x) below, both from e = e^−|x| ≤ 1.
//!
//! **Law.**  Clause 3: exp, one division.
//!
//! ```text
//!   x ─ −|·| ─ exp ─► e ┬─ x ≥ 0 ? 1 : e ─┐
//!                       └─ 1 + · ─────────┴─ ÷ ─► y
//! ```
//!
//! **Registers.**  Those of exp, and x.   **Cost.**  18 operations a line, one a division.
//!
//! **Error.**  2.402 ulp, the worst of all 2³² inputs (at −4.157 294); tests allow 3. The small e, not 1 + e^−x
//! that overflows, keeps σ right down to subnormals.
//! **Reference.**  As exp.   **Next.**  `activation.rs`

use super::exp::exp;
use crate::map::Lanewise;
use crate::simd::Simd;

/// `1 / (1 + e^−x)` in every lane.
///
/// 0 at −∞, 1 at +∞, NaN is NaN.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let e = exp(s, s.neg(s.abs(x)));
    let top = s.select(s.ge(x, s.splat(0.0)), one, e);
    s.div(top, s.add(one, e))
}

/// [`sigmoid`] as a function for [`crate::map`].
#[derive(Clone, Copy, Debug)]
pub struct Sigmoid;

impl Lanewise for Sigmoid {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        sigmoid(s, x)
    }
}
