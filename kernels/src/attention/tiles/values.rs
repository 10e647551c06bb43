//! Weighted values, block by block.

use super::super::BLOCK;
use super::super::class::{GROUP, add_pair};
use super::super::tile::{Mixed, masks_of};
use super::weigh::Way;
use super::{Scores, Two};
use crate::bf16::rounded;
use crate::simd::Simd;
use crate::{Kernel, Line};

/// o = α·o + v · p, for rows that see a key.
pub(super) struct Add<'f, 'k> {
    pub o: &'f mut [[Line; 1]],
    pub way: &'f Way,
    pub weights: &'f Scores,
    pub v: &'f [&'k [f32]; BLOCK],
    pub products: &'f mut [Two],
}

impl Kernel for Add<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Add { o, way: Way { alpha, mixed, .. }, weights, v, products } = self;
        let sums = products.as_flattened_mut().as_flattened_mut().iter_mut();
        let alpha = s.load(alpha);
        let Some(mixed) = mixed else {
            for ([o], sum) in o.iter_mut().zip(sums) {
                let new = s.fma(s.load(o), alpha, s.load(sum));
                s.store(o, new);
            }
            return;
        };
        let [seen] = masks_of(s, &mixed.seen);
        for (c, ([o], sum)) in o.iter_mut().zip(sums).enumerate() {
            // With p = +0, a v that is not taken as +0 shows only where it is not finite, and then as a NaN.
            let numbers = s.mask_and(seen, s.ge(s.abs(s.load(sum)), s.splat(0.0)));
            if s.mask_bits(numbers) != s.mask_bits(seen) {
                s.outline(Anew { mixed, weights, v, c, sum });
            }
            let old = s.load(o);
            let new = s.fma(old, alpha, s.load(sum));
            s.store(o, s.select(seen, new, old));
        }
    }
}

/// Component `c` of v · p, with v taken as +0 where a row does not see the key.
struct Anew<'f, 'k> {
    mixed: &'f Mixed<1>,
    weights: &'f Scores,
    v: &'f [&'k [f32]; BLOCK],
    c: usize,
    sum: &'f mut Line,
}

impl Kernel for Anew<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Anew { mixed, weights, v, c, sum } = self;
        let zero = s.splat(0.0);
        let mut acc = [[zero]];
        for first in (0..BLOCK).step_by(GROUP) {
            let mut chains = [[[zero]]; 2];
            for j in mixed.keys.start.max(first)..mixed.keys.end.min(first + GROUP) {
                let [[chain]] = &mut chains[j % 2];
                let (v, [mask]) = (rounded(s, s.splat(v[j][c])), masks_of(s, mixed.mask(j)));
                *chain = s.fma(rounded(s, s.load(&weights[j][0])), s.select(mask, v, zero), *chain);
            }
            add_pair(s, &mut acc, &chains);
        }
        s.store(sum, acc[0][0]);
    }
}
