//! What is done to a block of scores before masks, the rows being in the lanes: softcap, ALiBi, an additive mask.

#![allow(clippy::needless_range_loop)] // panels and lanes are indices into several arrays at once

use super::{Additive, BLOCK, Piece};
use crate::math::tanh::tanh;
use crate::simd::Simd;
use crate::{LANES, Line};
use core::array::from_fn;

/// s = tanh(s ÷ cap) · cap
#[inline(always)]
pub(super) fn cap<S: Simd, const NP: usize>(s: S, cap: f32, scores: &mut [[Line; NP]; BLOCK]) {
    let cap = s.splat(cap);
    for line in scores.iter_mut().flatten() {
        let capped = s.mul(tanh(s, s.div(s.load(line), cap)), cap);
        s.store(line, capped);
    }
}

/// + ALiBi + the additive mask, for the rows of the panels from `panel` on and the keys from `start` on.
#[inline(always)]
pub(super) fn add<S: Simd, const NP: usize>(
    s: S,
    piece: &Piece<'_>,
    (panel, start): (usize, usize),
    scores: &mut [[Line; NP]; BLOCK],
) {
    for p in 0..NP {
        let first = (panel + p) * LANES;
        if let Some(slopes) = piece.options.alibi {
            let row = |lane: usize| (first + lane).min(piece.rows() - 1);
            let slope = s.load(&from_fn(|lane| slopes[piece.head(row(lane))]));
            let from = s.load_i(&from_fn(|lane| (start as isize - piece.position(row(lane))) as i32));
            for (j, line) in scores.iter_mut().enumerate() {
                let distance = s.of_i(s.add_i(from, s.splat_i(j as i32)));
                let biased = s.fma(slope, distance, s.load(&line[p]));
                s.store(&mut line[p], biased);
            }
        }
        if let Some(Additive(mask)) = piece.options.additive {
            for (at, lines) in scores.chunks_exact_mut(LANES).enumerate() {
                let mut rows = [s.splat(0.0); LANES];
                for (row, r) in rows.iter_mut().zip(first..piece.rows()) {
                    let mask = piece.mask_head(&mask, r);
                    *row = s.load(&piece.mask_word(mask, r, start + at * LANES));
                }
                let columns = s.transpose(rows);
                for (line, column) in lines.iter_mut().zip(columns) {
                    let biased = s.add(s.load(&line[p]), column);
                    s.store(&mut line[p], biased);
                }
            }
        }
    }
}
