//! One step of the online softmax: what a block of scores does to (m, l), and what it does to o.

use super::BLOCK;
use crate::math::exp::{exp_nonpositive, exp_or_nothing};
use crate::math::ln::ln;
use crate::simd::Simd;
use crate::{LANES, Line};
use core::ops::Range;

/// Running maximum and denominator of sixteen rows.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// Largest score so far.
    pub m: Line,
    /// Σ exp(s − m) so far.
    pub l: Line,
    /// Rows that have seen a key: bit a lane.
    pub allowed: u32,
}

impl State {
    pub(super) const START: State = State { m: Line([f32::NEG_INFINITY; LANES]), l: Line::ZERO, allowed: 0 };

    /// m, and l = l·α + sum.
    #[inline(always)]
    pub(super) fn set<S: Simd>(&mut self, s: S, m: S::F32, alpha: S::F32, sum: S::F32) {
        let l = s.add(s.mul(s.load(&self.l), alpha), sum);
        s.store(&mut self.m, m);
        s.store(&mut self.l, l);
    }

    /// Back to the start in the lanes that have seen no key.
    #[inline(always)]
    pub(super) fn forget_others<S: Simd>(&mut self, s: S) {
        let allowed = s.mask_from_bits(self.allowed);
        let m = s.select(allowed, s.load(&self.m), s.splat(f32::NEG_INFINITY));
        let l = s.select(allowed, s.load(&self.l), s.splat(0.0));
        s.store(&mut self.m, m);
        s.store(&mut self.l, l);
    }

    /// m + ln l
    #[inline(always)]
    pub(super) fn log_sum_exp<S: Simd>(&self, s: S) -> [f32; LANES] {
        s.to_array(s.add(s.load(&self.m), ln(s, s.load(&self.l))))
    }
}

/// The new maximum, the base of the block's exponents, and α, from the old maximum and the block's.
#[inline(always)]
pub(super) fn rescale<S: Simd>(s: S, old: S::F32, block: S::F32) -> (S::F32, S::F32, S::F32) {
    let none = s.splat(f32::NEG_INFINITY);
    let zero = s.splat(0.0);
    let m = s.max(block, old);
    let base = s.select(s.eq(m, none), zero, m);
    let alpha = s.select(s.eq(old, none), zero, exp_or_nothing(s, s.sub(old, base)));
    (m, base, alpha)
}

/// Rows in lanes: turns the scores of the keys `keys` of a block into weights, moves the states on, and
/// returns α. With `HIDDEN` many scores are −∞.
#[inline(always)]
pub(super) fn columns<S: Simd, const NP: usize, const HIDDEN: bool>(
    s: S,
    scores: &mut [[Line; NP]; BLOCK],
    keys: &Range<usize>,
    states: &mut [State; NP],
) -> [S::F32; NP] {
    let mut alphas = [s.splat(0.0); NP];
    for p in 0..NP {
        let mut max = s.splat(f32::NEG_INFINITY);
        for x in &scores[keys.clone()] {
            max = s.max(s.load(&x[p]), max);
        }
        let (m, base, alpha) = rescale(s, s.load(&states[p].m), max);
        let mut chains = [s.splat(0.0); LANES];
        for (c, chain) in chains.iter_mut().enumerate() {
            for at in 0..BLOCK / LANES {
                let j = at * LANES + c;
                if keys.contains(&j) {
                    let x = s.sub(s.load(&scores[j][p]), base);
                    let weight = if HIDDEN { exp_or_nothing(s, x) } else { exp_nonpositive(s, x) };
                    s.store(&mut scores[j][p], weight);
                    *chain = s.add(*chain, weight);
                }
            }
        }
        states[p].set(s, m, alpha, tree_of(s, chains));
        alphas[p] = alpha;
    }
    alphas
}

/// Clause 2's tree over sixteen words.
#[inline(always)]
pub(super) fn tree_of<S: Simd>(s: S, mut x: [S::F32; LANES]) -> S::F32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            x[i] = s.add(x[i], x[i + half]);
        }
    }
    x[0]
}

/// A block of one key in each of sixteen rows: moves the state on, and returns α.
#[inline(always)]
pub(super) fn one_key<S: Simd>(s: S, state: &mut State, score: S::F32) -> S::F32 {
    let (m, base, alpha) = rescale(s, s.load(&state.m), score);
    state.set(s, m, alpha, exp_nonpositive(s, s.sub(score, base)));
    alpha
}
