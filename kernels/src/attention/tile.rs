//! The register tiles of prefill, lanes being queries, and what they need to know about masks.
//!
//! ```text
//!   scores   MR keys × NP words:        k[j][d] broadcast, Qᵀ[d] loaded, one FMA chain over d each
//!   values   MR components × NP words:  v[j][c] broadcast, Pᵀ[j] loaded, one FMA chain over 64 keys each
//! ```
//!
//! **Registers.**  avx512 8 × 3: 24 sums + 3 + 1 of 32 zmm, 11 loads for 24 FMAs · avx2 5 × 1: 10 + 2 + 1 of
//!   16 ymm, 7 loads for 10 FMAs · neon 5 × 1: 20 + 4 + 1 of 32 q.

#![allow(clippy::needless_range_loop)] // rows, words and lanes are indices into several arrays at once

use super::class::{Class, F32};
use super::mask::Live;
use super::{BLOCK, K_BLOCK};
use crate::simd::Simd;
use crate::{Kernel, LANES, Line};
use core::array::from_fn;
use core::ops::Range;

/// `MR` keys against `NP` panels: q · k, then the scale.
#[inline(always)]
pub(super) fn score_tile<S: Simd, C: Class, const MR: usize, const NP: usize>(
    s: S,
    q: &[[Line; NP]],
    k: &[&[f32]; MR],
    scale: f32,
    out: &mut [[Line; NP]; MR],
) {
    let sum = C::dots(s, q, k);
    let scale = s.splat(scale);
    for r in 0..MR {
        for p in 0..NP {
            s.store(&mut out[r][p], s.mul(sum[r][p], scale));
        }
    }
}

/// q · k of `MR` keys and `NP` panels by clause 1.
#[inline(always)]
pub(super) fn dots<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    q: &[[Line; NP]],
    k: &[&[f32]; MR],
) -> [[S::F32; NP]; MR] {
    let zero = s.splat(0.0);
    let mut sum = [[zero; NP]; MR];
    for (b, q) in q.chunks(K_BLOCK).enumerate() {
        let k: [&[f32]; MR] = from_fn(|r| &k[r][b * K_BLOCK..][..q.len()]);
        let mut acc = [[zero; NP]; MR];
        for (i, q) in q.iter().enumerate() {
            let q = words_of(s, q);
            for r in 0..MR {
                let k = s.splat(k[r][i]);
                for p in 0..NP {
                    acc[r][p] = s.fma(k, q[p], acc[r][p]);
                }
            }
        }
        for r in 0..MR {
            for p in 0..NP {
                sum[r][p] = s.add(sum[r][p], acc[r][p]);
            }
        }
    }
    sum
}

/// A block in which some row does not see some key.
pub(super) struct Mixed<const NP: usize> {
    /// Keys that some row sees, from the first to the last.
    pub keys: Range<usize>,
    /// The rows that see each key: bit a lane.
    masks: [[u16; NP]; BLOCK],
    /// The rows that see any.
    pub seen: [u16; NP],
}

impl<const NP: usize> Mixed<NP> {
    /// From one bit a key for each row, the panels from `panel` on.
    #[inline(always)]
    pub(super) fn new<S: Simd>(s: S, live: &Live, keys: Range<usize>, panel: usize) -> Self {
        let mut masks = [[0; NP]; BLOCK];
        for p in 0..NP {
            lanes_of(s, live, panel + p, p, &mut masks);
        }
        let mut seen = [0; NP];
        for p in 0..NP {
            masks.iter().for_each(|mask| seen[p] |= mask[p]);
        }
        Mixed { keys, masks, seen }
    }

    /// The rows that see key `j`.
    #[inline(always)]
    pub(super) fn mask(&self, j: usize) -> &[u16; NP] {
        &self.masks[j]
    }

    /// −∞ where a row does not see a key.
    #[inline(always)]
    pub(super) fn hide<S: Simd>(&self, s: S, scores: &mut [[Line; NP]; BLOCK]) {
        for j in self.keys.clone() {
            let seen = masks_of(s, &self.masks[j]);
            for p in 0..NP {
                let score = s.select(seen[p], s.load(&scores[j][p]), s.splat(f32::NEG_INFINITY));
                s.store(&mut scores[j][p], score);
            }
        }
    }
}

impl<const NP: usize> Mixed<NP> {
    /// +0 where a row does not see a key.
    #[inline(always)]
    pub(super) fn clear<S: Simd>(&self, s: S, weights: &mut [[Line; NP]; BLOCK]) {
        for j in self.keys.clone() {
            let seen = masks_of(s, &self.masks[j]);
            for p in 0..NP {
                let weight = s.select(seen[p], s.load(&weights[j][p]), s.splat(0.0));
                s.store(&mut weights[j][p], weight);
            }
        }
    }
}

/// o = α·o + the chain of p·v, where every row sees every key. `o` is (v_dim, lanes), `v` 64 rows.
#[inline(always)]
pub(super) fn values<S: Simd, C: Class, const MR: usize, const NP: usize>(
    s: S,
    o: &mut [[Line; NP]],
    v: &[&[f32]; BLOCK],
    weights: &[[Line; NP]; BLOCK],
    alpha: [S::F32; NP],
) {
    for (c, skip) in cuts::<MR>(o.len()) {
        let acc: [[S::F32; NP]; MR] = C::chains(s, v, weights, &(0..BLOCK), c);
        // Numbered, not iterated over: the sums never leave their registers.
        if let (0, Some(o)) = (skip, o[c..].first_chunk_mut::<MR>()) {
            for r in 0..MR {
                for p in 0..NP {
                    let new = s.fma(s.load(&o[r][p]), alpha[p], acc[r][p]);
                    s.store(&mut o[r][p], new);
                }
            }
            continue;
        }
        let o = &mut o[c..];
        for r in 0..MR {
            if (skip..o.len()).contains(&r) {
                for p in 0..NP {
                    let new = s.fma(s.load(&o[r][p]), alpha[p], acc[r][p]);
                    s.store(&mut o[r][p], new);
                }
            }
        }
    }
}

/// The same where some row does not see some key: its p and v are +0 there, and a row that sees none keeps
/// its o.
#[inline(always)]
pub(super) fn mixed_values<S: Simd, C: Class, const MR: usize, const NP: usize>(
    s: S,
    o: &mut [[Line; NP]],
    v: &[&[f32]; BLOCK],
    weights: &[[Line; NP]; BLOCK],
    alpha: [S::F32; NP],
    mixed: &Mixed<NP>,
) {
    let zero = s.splat(0.0);
    let seen = masks_of(s, &mixed.seen);
    let keys = mixed.keys.clone();
    for (c, skip) in cuts::<MR>(o.len()) {
        // With p = +0, a v that is not taken as +0 shows only where it is not finite, and in the sign of a
        // zero. So the plain chain stands where it has neither NaN nor zero.
        let mut acc: [[S::F32; NP]; MR] = C::chains(s, v, weights, &keys, c);
        let mut plain = seen;
        for r in 0..MR {
            for p in 0..NP {
                plain[p] = s.mask_and(plain[p], s.gt(s.abs(acc[r][p]), zero));
            }
        }
        if (0..NP).any(|p| s.mask_bits(plain[p]) != u32::from(mixed.seen[p])) {
            acc = C::masked_chains(s, v, weights, mixed, c);
        }
        let o = &mut o[c..];
        for r in 0..MR {
            if (skip..o.len()).contains(&r) {
                for p in 0..NP {
                    // Masked keys after the last seen one add +0 × +0: once does for all.
                    let sum = if keys.end < BLOCK { s.add(acc[r][p], zero) } else { acc[r][p] };
                    let old = s.load(&o[r][p]);
                    let new = s.fma(old, alpha[p], sum);
                    s.store(&mut o[r][p], s.select(seen[p], new, old));
                }
            }
        }
    }
}

/// o = o + the chain of p·v, in a function of its own: what gradients are added up with, several times a block.
pub(super) struct AddValues<'f, const MR: usize, const NP: usize> {
    /// (dim, lanes)
    pub o: &'f mut [[Line; NP]],
    pub v: &'f [&'f [f32]; BLOCK],
    pub weights: &'f [[Line; NP]; BLOCK],
    /// `None` where every lane sees every row.
    pub mixed: Option<&'f Mixed<NP>>,
}

impl<const MR: usize, const NP: usize> Kernel for AddValues<'_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AddValues { o, v, weights, mixed } = self;
        let one = [s.splat(1.0); NP];
        match mixed {
            None => values::<S, F32, MR, NP>(s, o, v, weights, one),
            Some(mixed) => mixed_values::<S, F32, MR, NP>(s, o, v, weights, one, mixed),
        }
    }
}

/// Σ_j p[j] v[j][c..c + MR], j ascending from +0.
#[inline(always)]
pub(super) fn chains<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    v: &[&[f32]],
    weights: &[[Line; NP]],
    c: usize,
) -> [[S::F32; NP]; MR] {
    let mut acc = [[s.splat(0.0); NP]; MR];
    for (v, weight) in v.iter().zip(weights) {
        let v: &[f32; MR] = v[c..].first_chunk().expect("a row of values");
        let weight = words_of(s, weight);
        for r in 0..MR {
            let v = s.splat(v[r]);
            for p in 0..NP {
                acc[r][p] = s.fma(weight[p], v, acc[r][p]);
            }
        }
    }
    acc
}

/// The same with v taken as +0 where a row does not see the key.
#[inline(always)]
pub(super) fn masked_chains<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    v: &[&[f32]; BLOCK],
    weights: &[[Line; NP]; BLOCK],
    c: usize,
    mixed: &Mixed<NP>,
) -> [[S::F32; NP]; MR] {
    let zero = s.splat(0.0);
    let mut acc = [[zero; NP]; MR];
    for j in mixed.keys.clone() {
        let v: &[f32; MR] = v[j][c..].first_chunk().expect("a row of values");
        let weight = words_of(s, &weights[j]);
        let mask = masks_of(s, &mixed.masks[j]);
        for r in 0..MR {
            for p in 0..NP {
                let v = s.select(mask[p], s.splat(v[r]), zero);
                acc[r][p] = s.fma(weight[p], v, acc[r][p]);
            }
        }
    }
    acc
}

/// Where tiles of `MR` components begin among `n`, and how many of their components the tile before has done:
/// the last tile is moved back to end with the row. Fewer than `MR` are read from rows padded to it.
#[inline(always)]
fn cuts<const MR: usize>(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(MR).map(move |c| {
        let start = c.min(n.saturating_sub(MR));
        (start, c - start)
    })
}

/// The words of `NP` lines. (Loops, not closures over words: one that is not inlined would be slow.)
#[inline(always)]
pub(super) fn words_of<S: Simd, const NP: usize>(s: S, lines: &[Line; NP]) -> [S::F32; NP] {
    let mut words = [s.splat(0.0); NP];
    for p in 0..NP {
        words[p] = s.load(&lines[p]);
    }
    words
}

/// The lanes of `NP` bit sets.
#[inline(always)]
pub(super) fn masks_of<S: Simd, const NP: usize>(s: S, bits: &[u16; NP]) -> [S::Mask; NP] {
    let mut masks = [s.mask_from_bits(0); NP];
    for p in 0..NP {
        masks[p] = s.mask_from_bits(u32::from(bits[p]));
    }
    masks
}

/// Which of the sixteen rows of `panel` see each key, from one bit a key for each row: column `p` of `masks`.
#[inline(always)]
fn lanes_of<S: Simd, const NP: usize>(
    s: S,
    live: &Live,
    panel: usize,
    p: usize,
    masks: &mut [[u16; NP]; BLOCK],
) {
    let live: &[u64; LANES] = live[panel * LANES..].first_chunk().expect("sixteen rows");
    for half in 0..2 {
        let mut bits = s.load_i(&live.map(|live| (live >> (32 * half)) as i32));
        for j in (0..32).rev() {
            // The sign is the bit of key j.
            masks[32 * half + j][p] = s.mask_bits(s.gt_i(s.splat_i(0), bits)) as u16;
            bits = s.add_i(bits, bits);
        }
    }
}
