//! What a tile does with a block of 32 steps, and which tile a number of rows takes.

#![allow(clippy::needless_range_loop)] // rows, panels and steps are indices into several arrays at once

use super::codes::Codes;
use super::left::{Left, Row};
use crate::simd::Simd;
use crate::simd::quads::Quads;

/// Rows of the tile for the last `left` rows, where the largest has `tall`: no more of it empty than need be.
#[inline(always)]
pub(super) const fn rows(tall: usize, left: usize) -> usize {
    match (tall, left) {
        (_, 1) => 1,
        (12, 9..) => 12,
        (6, 5 | 6 | 9..) => 6,
        (2, _) => 2,
        _ => 4,
    }
}

/// MR rows from `r` on; past the last, the last again.
#[inline(always)]
pub(super) fn rows_of<'a, const MR: usize>(left: &Left<'a>, r: usize) -> [Row<'a>; MR] {
    let mut rows = [left.row(r); MR];
    for i in 1..MR {
        rows[i] = left.row(r + i);
    }
    rows
}

/// Block `b` of MR rows with one of NP panels: 32 steps on from `sums`, [`paired`].
#[inline(always)]
pub(super) fn block<S: Simd, Q: Quads<S>, C: Codes, const MR: usize, const NP: usize>(
    (s, q): (S, Q),
    (rows, b): (&[Row<'_>; MR], usize),
    blocks: [&C::Block; NP],
    mut sums: [[Q::Sums; NP]; MR],
) -> [[Q::Sums; NP]; MR] {
    let mut words = [[&rows[0].words[0][b]; 2]; MR];
    for r in 0..MR {
        words[r] = [&rows[r].words[0][b], &rows[r].words[1][b]];
    }
    if const { by_pairs::<S, Q, MR>() } {
        return pairs::<S, Q, C, MR, NP>((s, q), words, blocks, sums);
    }
    for j in 0..4 {
        let mut pairs = [C::pair(s, blocks[0], j); NP];
        for p in 1..NP {
            pairs[p] = C::pair(s, blocks[p], j);
        }
        for h in 0..2 {
            let mut right = [q.right(s, pairs[0][h]); NP];
            for p in 1..NP {
                right[p] = q.right(s, pairs[p][h]);
            }
            for r in 0..MR {
                let quad = [words[r][0][2 * j + h], words[r][1][2 * j + h]];
                for p in 0..NP {
                    sums[r][p] = q.dot(s, quad, right[p], sums[r][p]);
                }
            }
        }
    }
    sums
}

/// Whether the rows of a tile go two by two: asked as a constant, so that other tables' tiles have no trace of it.
#[inline(always)]
pub(super) const fn by_pairs<S: Simd, Q: Quads<S>, const MR: usize>() -> bool {
    Q::PAIRS && MR.is_multiple_of(2)
}

/// [`block`] of rows two by two.
#[inline(always)]
fn pairs<S: Simd, Q: Quads<S>, C: Codes, const MR: usize, const NP: usize>(
    (s, q): (S, Q),
    words: [[&[i32; 8]; 2]; MR],
    blocks: [&C::Block; NP],
    mut sums: [[Q::Sums; NP]; MR],
) -> [[Q::Sums; NP]; MR] {
    for j in 0..4 {
        for p in 0..NP {
            let codes = C::pair(s, blocks[p], j);
            let right = [q.right(s, codes[0]), q.right(s, codes[1])];
            for r in (0..MR).step_by(2) {
                let mut quads = [[[0; 2]; 2]; 2];
                for i in 0..2 {
                    for h in 0..2 {
                        quads[i][h] = [words[r + i][0][2 * j + h], words[r + i][1][2 * j + h]];
                    }
                }
                [sums[r][p], sums[r + 1][p]] = q.dot_pair(s, quads, right, [sums[r][p], sums[r + 1][p]]);
            }
        }
    }
    sums
}

/// Sums of MR rows, for [`block`] where they go by pairs.
#[inline(always)]
pub(super) fn paired<S: Simd, Q: Quads<S>, const MR: usize, const NP: usize>(
    (s, q): (S, Q),
    mut sums: [[Q::Sums; NP]; MR],
) -> [[Q::Sums; NP]; MR] {
    for r in (0..MR).step_by(2) {
        for p in 0..NP {
            [sums[r][p], sums[r + 1][p]] = q.pair(s, [sums[r][p], sums[r + 1][p]]);
        }
    }
    sums
}

/// Sums of MR rows, from [`block`] where they go by pairs.
#[inline(always)]
pub(super) fn unpaired<S: Simd, Q: Quads<S>, const MR: usize, const NP: usize>(
    (s, q): (S, Q),
    mut sums: [[Q::Sums; NP]; MR],
) -> [[Q::Sums; NP]; MR] {
    for r in (0..MR).step_by(2) {
        for p in 0..NP {
            [sums[r][p], sums[r + 1][p]] = q.unpair(s, [sums[r][p], sums[r + 1][p]]);
        }
    }
    sums
}
