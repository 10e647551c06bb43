//! What a tile does with a block of 32 steps, and which tile a number of rows takes.

#![allow(clippy::needless_range_loop)] // rows, panels and steps are indices into several arrays at once

use super::codes::Codes;
use super::left::{Left, More, Row};
use super::scaling::Scaling;
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
pub(super) fn rows_of<'a, const MR: usize>(left: &Left<'a>, r: usize, more: More) -> [Row<'a>; MR] {
    let mut rows = [left.row(r, more); MR];
    for i in 1..MR {
        rows[i] = left.row(r + i, more);
    }
    for row in &mut rows {
        row.of(left.blocks(), more);
    }
    rows
}

/// Sums of MR rows and NP panels.
type Sums<S, Q, const MR: usize, const NP: usize> = [[<Q as Quads<S>>::Sums; NP]; MR];
/// The words of a block of MR rows.
type Words<'f, const MR: usize> = [[&'f [i32; 8]; 2]; MR];

/// Part PART of block `b` of MR rows with one of NP panels: 32 steps on from `sums`, or 16, [`paired`].
#[inline(always)]
pub(super) fn part<S: Simd, Q: Quads<S>, C: Codes, const MR: usize, const NP: usize, const PART: usize>(
    (s, q): (S, Q),
    (rows, b): (&[Row<'_>; MR], usize),
    blocks: [&C::Block; NP],
    mut sums: Sums<S, Q, MR, NP>,
) -> Sums<S, Q, MR, NP> {
    let mut words = [[&rows[0].words[0][b]; 2]; MR];
    for r in 0..MR {
        words[r] = [&rows[r].words[0][b], &rows[r].words[1][b]];
    }
    // Constants all of them: codes of fewer bits want to know the number of their quad.
    if const { within::<C>(PART, 0) } {
        sums = pair::<S, Q, C, MR, NP, 0>((s, q), words, blocks, sums);
    }
    if const { within::<C>(PART, 1) } {
        sums = pair::<S, Q, C, MR, NP, 1>((s, q), words, blocks, sums);
    }
    if const { within::<C>(PART, 2) } {
        sums = pair::<S, Q, C, MR, NP, 2>((s, q), words, blocks, sums);
    }
    if const { within::<C>(PART, 3) } {
        sums = pair::<S, Q, C, MR, NP, 3>((s, q), words, blocks, sums);
    }
    sums
}

/// Whether quads 2j and 2j + 1 are of a part.
const fn within<C: Codes>(part: usize, j: usize) -> bool {
    j * C::Scales::PARTS / 4 == part
}

/// Quads 2J and 2J + 1.
#[inline(always)]
fn pair<S: Simd, Q: Quads<S>, C: Codes, const MR: usize, const NP: usize, const J: usize>(
    (s, q): (S, Q),
    words: Words<'_, MR>,
    blocks: [&C::Block; NP],
    mut sums: Sums<S, Q, MR, NP>,
) -> Sums<S, Q, MR, NP> {
    if const { by_pairs::<S, Q, MR>() } {
        return pair_of_rows::<S, Q, C, MR, NP, J>((s, q), words, blocks, sums);
    }
    let mut pairs = [C::pair::<S, J>(s, blocks[0]); NP];
    for p in 1..NP {
        pairs[p] = C::pair::<S, J>(s, blocks[p]);
    }
    for h in 0..2 {
        let mut right = [q.right(s, pairs[0][h]); NP];
        for p in 1..NP {
            right[p] = q.right(s, pairs[p][h]);
        }
        for r in 0..MR {
            let quad = [words[r][0][2 * J + h], words[r][1][2 * J + h]];
            for p in 0..NP {
                sums[r][p] = q.dot(s, quad, right[p], sums[r][p]);
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

/// [`pair`] of rows two by two.
#[inline(always)]
fn pair_of_rows<S: Simd, Q: Quads<S>, C: Codes, const MR: usize, const NP: usize, const J: usize>(
    (s, q): (S, Q),
    words: Words<'_, MR>,
    blocks: [&C::Block; NP],
    mut sums: Sums<S, Q, MR, NP>,
) -> Sums<S, Q, MR, NP> {
    for p in 0..NP {
        let codes = C::pair::<S, J>(s, blocks[p]);
        let right = [q.right(s, codes[0]), q.right(s, codes[1])];
        for r in (0..MR).step_by(2) {
            let mut quads = [[[0; 2]; 2]; 2];
            for i in 0..2 {
                for h in 0..2 {
                    quads[i][h] = [words[r + i][0][2 * J + h], words[r + i][1][2 * J + h]];
                }
            }
            [sums[r][p], sums[r + 1][p]] = q.dot_pair(s, quads, right, [sums[r][p], sums[r + 1][p]]);
        }
    }
    sums
}

/// Sums of MR rows, for [`part`] where they go by pairs.
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

/// Sums of MR rows, from [`part`] where they go by pairs.
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
