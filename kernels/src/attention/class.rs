//! The arithmetic of the two products, q · k and p · v: of floats (clause 1), or of bfloat16 (clause 10).
//!
//! ```text
//!   F32    one chain over 256 components, one over 64 keys
//!   Bf16   q, k, p and v rounded first;  32 components or keys at a time an even chain and an odd one, and their sum
//!          k₀ ──► fma(q₀, ·, even)   k₁ ──► fma(q₁, ·, odd)   …   32 of them:   acc = acc + (even + odd)
//! ```
//!
//! All else is the same code for both. A masked key counts in its place: it is even or odd by its number in the block.
//! With p = +0 and v = +0 it changes no chain, but −0 to +0, and sums of groups, which begin with +0, are never −0.

#![allow(clippy::needless_range_loop)] // rows and words are indices into several arrays at once

use super::tile::{self, Mixed, masks_of, words_of};
use super::{BLOCK, K_BLOCK};
use crate::bf16::{rounded, settled};
use crate::simd::Simd;
use crate::{Line, attention::Products};
use core::array::from_fn;
use core::ops::Range;

/// Steps of two chains (clause 10).
pub(super) const GROUP: usize = 32;

/// How products are made.
pub(super) trait Class: Copy {
    /// Which of them it is.
    const PRODUCTS: Products;

    /// What takes the place of an operand.
    fn operand<S: Simd>(self, s: S, x: S::F32) -> S::F32;

    /// The same of what was a bfloat16 before.
    fn half<S: Simd>(self, s: S, x: S::F32) -> S::F32;

    /// q · k of `MR` keys and `NP` panels.
    fn dots<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        q: &[[Line; NP]],
        k: &[&[f32]; MR],
    ) -> [[S::F32; NP]; MR];

    /// Σ_j p[j] v[j][c..c + MR] over the keys `keys` of a block; with two chains they begin and end with a pair.
    fn chains<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        v: &[&[f32]; BLOCK],
        weights: &[[Line; NP]; BLOCK],
        keys: &Range<usize>,
        c: usize,
    ) -> [[S::F32; NP]; MR];

    /// The same over the keys of `mixed`, with v taken as +0 where a row does not see the key.
    fn masked_chains<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        v: &[&[f32]; BLOCK],
        weights: &[[Line; NP]; BLOCK],
        mixed: &Mixed<NP>,
        c: usize,
    ) -> [[S::F32; NP]; MR];
}

/// Products of floats.
#[derive(Clone, Copy)]
pub(super) struct F32;

impl Class for F32 {
    const PRODUCTS: Products = Products::F32;

    #[inline(always)]
    fn operand<S: Simd>(self, _: S, x: S::F32) -> S::F32 {
        x
    }

    #[inline(always)]
    fn half<S: Simd>(self, _: S, x: S::F32) -> S::F32 {
        x
    }

    #[inline(always)]
    fn dots<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        q: &[[Line; NP]],
        k: &[&[f32]; MR],
    ) -> [[S::F32; NP]; MR] {
        tile::dots(s, q, k)
    }

    #[inline(always)]
    fn chains<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        v: &[&[f32]; BLOCK],
        weights: &[[Line; NP]; BLOCK],
        keys: &Range<usize>,
        c: usize,
    ) -> [[S::F32; NP]; MR] {
        tile::chains(s, &v[keys.clone()], &weights[keys.clone()], c)
    }

    #[inline(always)]
    fn masked_chains<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        v: &[&[f32]; BLOCK],
        weights: &[[Line; NP]; BLOCK],
        mixed: &Mixed<NP>,
        c: usize,
    ) -> [[S::F32; NP]; MR] {
        tile::masked_chains(s, v, weights, c, mixed)
    }
}

/// Products of bfloat16.
#[derive(Clone, Copy)]
pub(super) struct Bf16;

impl Class for Bf16 {
    const PRODUCTS: Products = Products::Bf16;

    #[inline(always)]
    fn operand<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        rounded(s, x)
    }

    #[inline(always)]
    fn half<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        settled(s, x)
    }

    #[inline(always)]
    fn dots<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        q: &[[Line; NP]],
        k: &[&[f32]; MR],
    ) -> [[S::F32; NP]; MR] {
        let zero = s.splat(0.0);
        let mut sum = [[zero; NP]; MR];
        for (b, q) in q.chunks(K_BLOCK).enumerate() {
            let mut acc = [[zero; NP]; MR];
            for (g, q) in q.chunks(GROUP).enumerate() {
                let k: [&[f32]; MR] = from_fn(|r| &k[r][b * K_BLOCK + g * GROUP..][..q.len()]);
                let mut chains = [[[zero; NP]; MR]; 2];
                let (pairs, rest) = q.as_chunks::<2>();
                let k_pairs: [&[[f32; 2]]; MR] = from_fn(|r| &k[r].as_chunks().0[..pairs.len()]);
                for (i, pair) in pairs.iter().enumerate() {
                    for odd in 0..2 {
                        step(s, &mut chains[odd], from_fn(|r| k_pairs[r][i][odd]), &pair[odd]);
                    }
                }
                if let [q] = rest {
                    step(s, &mut chains[0], from_fn(|r| k[r][2 * pairs.len()]), q);
                }
                add_pair(s, &mut acc, &chains);
            }
            for r in 0..MR {
                for p in 0..NP {
                    sum[r][p] = s.add(sum[r][p], acc[r][p]);
                }
            }
        }
        sum
    }

    #[inline(always)]
    fn chains<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        v: &[&[f32]; BLOCK],
        weights: &[[Line; NP]; BLOCK],
        keys: &Range<usize>,
        c: usize,
    ) -> [[S::F32; NP]; MR] {
        let zero = s.splat(0.0);
        let mut acc = [[zero; NP]; MR];
        for first in (0..BLOCK).step_by(GROUP) {
            let group = keys.start.max(first)..keys.end.min(first + GROUP);
            if group.is_empty() {
                continue;
            }
            let mut chains = [[[zero; NP]; MR]; 2];
            let v = v[group.clone()].as_chunks::<2>().0;
            for (v, weight) in v.iter().zip(weights[group].as_chunks::<2>().0) {
                for odd in 0..2 {
                    let v: &[f32; MR] = v[odd][c..].first_chunk().expect("a row of values");
                    step(s, &mut chains[odd], *v, &weight[odd]);
                }
            }
            add_pair(s, &mut acc, &chains);
        }
        acc
    }

    #[inline(always)]
    fn masked_chains<S: Simd, const MR: usize, const NP: usize>(
        s: S,
        v: &[&[f32]; BLOCK],
        weights: &[[Line; NP]; BLOCK],
        mixed: &Mixed<NP>,
        c: usize,
    ) -> [[S::F32; NP]; MR] {
        let zero = s.splat(0.0);
        let mut acc = [[zero; NP]; MR];
        for first in (0..BLOCK).step_by(GROUP) {
            let mut chains = [[[zero; NP]; MR]; 2];
            for j in mixed.keys.start.max(first)..mixed.keys.end.min(first + GROUP) {
                let chain = &mut chains[j % 2];
                let v: &[f32; MR] = v[j][c..].first_chunk().expect("a row of values");
                let (weight, mask) = (words_of(s, &weights[j]), masks_of(s, mixed.mask(j)));
                for r in 0..MR {
                    for p in 0..NP {
                        let v = s.select(mask[p], s.splat(v[r]), zero);
                        chain[r][p] = s.fma(weight[p], v, chain[r][p]);
                    }
                }
            }
            add_pair(s, &mut acc, &chains);
        }
        acc
    }
}

/// One step of chains: x[r] times sixteen lanes of each panel.
#[inline(always)]
fn step<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    chain: &mut [[S::F32; NP]; MR],
    x: [f32; MR],
    lanes: &[Line; NP],
) {
    let lanes = words_of(s, lanes);
    for r in 0..MR {
        let x = s.splat(x[r]);
        for p in 0..NP {
            chain[r][p] = s.fma(x, lanes[p], chain[r][p]);
        }
    }
}

/// acc + (even + odd)
#[inline(always)]
pub(super) fn add_pair<S: Simd, const M: usize, const N: usize>(
    s: S,
    acc: &mut [[S::F32; N]; M],
    [even, odd]: &[[[S::F32; N]; M]; 2],
) {
    for r in 0..M {
        for p in 0..N {
            acc[r][p] = s.add(acc[r][p], s.add(even[r][p], odd[r][p]));
        }
    }
}
