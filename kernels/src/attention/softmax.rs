//! One step of the online softmax: what a block of scores does to (m, l), and what it does to o.

use super::BLOCK;
use crate::math::exp::exp;
use crate::simd::{Simd, tree};
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
    fn set<S: Simd>(&mut self, s: S, m: S::F32, alpha: S::F32, sum: S::F32) {
        let l = s.add(s.mul(s.load(&self.l), alpha), sum);
        s.store(&mut self.m, m);
        s.store(&mut self.l, l);
    }
}

/// The new maximum, the base of the block's exponents, and α, from the old maximum and the block's.
#[inline(always)]
pub(super) fn rescale<S: Simd>(s: S, old: S::F32, block: S::F32) -> (S::F32, S::F32, S::F32) {
    let none = s.splat(f32::NEG_INFINITY);
    let zero = s.splat(0.0);
    let m = s.max(block, old);
    let base = s.select(s.eq(m, none), zero, m);
    let alpha = s.select(s.eq(old, none), zero, exp(s, s.sub(old, base)));
    (m, base, alpha)
}

/// Sixteen rows in lanes: turns the scores of panel `p`, keys `keys` of the block, into weights, moves the
/// state on, and returns α.
#[inline(always)]
pub(super) fn columns<S: Simd, const NP: usize>(
    s: S,
    scores: &mut [[Line; NP]; BLOCK],
    keys: Range<usize>,
    p: usize,
    state: &mut State,
) -> S::F32 {
    let mut max = s.splat(f32::NEG_INFINITY);
    for x in &scores[keys.clone()] {
        max = s.max(s.load(&x[p]), max);
    }
    let (m, base, alpha) = rescale(s, s.load(&state.m), max);
    let mut chains = [s.splat(0.0); LANES];
    for (c, chain) in chains.iter_mut().enumerate() {
        for j in (c..BLOCK).step_by(LANES) {
            if keys.contains(&j) {
                let weight = exp(s, s.sub(s.load(&scores[j][p]), base));
                s.store(&mut scores[j][p], weight);
                *chain = s.add(*chain, weight);
            }
        }
    }
    state.set(s, m, alpha, tree(chains, |a, b| s.add(a, b)));
    alpha
}

/// A block of one key in each of sixteen rows: moves the state on, and returns α.
#[inline(always)]
pub(super) fn one_key<S: Simd>(s: S, state: &mut State, score: S::F32) -> S::F32 {
    let (m, base, alpha) = rescale(s, s.load(&state.m), score);
    state.set(s, m, alpha, exp(s, s.sub(score, base)));
    alpha
}
