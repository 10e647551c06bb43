//! Many rows: a block of A stays in L2 while all of B passes through it, a sliver of NP panels at a time.
//!
//! ```text
//!   for each 512 of k          pack A (rows × 512): tiles of MR rows
//!     for each sliver of B     where it lies (packed f32), or packed / decoded into scratch: 512 × NP lines
//!       for each tile of A     for each 256 of k: acc ← chain; sum ← sum + acc
//!                              sum → C, or on to the next 512 of k through C
//! ```
//! The running sum of a tile lives in L1 between blocks of 256; C is touched once in 512 steps of k.

use super::epilogue::{Finish, Target};
use super::pack;
use super::tile::chain;
use super::weights::{GROUP, Lines, Weights};
use super::{Accumulate, Gemm, K_BLOCK, K_PACK, M_PIECE};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Kernel, LANES, Line};

/// Lines of the largest tile: 12 rows × 2 panels.
const TILE_LINES: usize = 24;
/// Panels of the widest sliver.
const MAX_NP: usize = 2;

/// Lines of scratch: a block of A with slack for whole-line writes, a sliver, and a tile's running sums.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let rows = if m < M_PIECE { m.next_multiple_of(12) } else { M_PIECE };
    let depth = if k < K_PACK { k } else { K_PACK };
    (rows * depth).div_ceil(LANES) + 1 + MAX_NP * depth.next_multiple_of(GROUP) + TILE_LINES
}

/// At most [`M_PIECE`] rows.
#[inline(always)]
pub(super) fn run<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, scratch: &mut [Line]) {
    match S::TILE {
        (12, 2) => blocks::<S, W, 2>(s, job, scratch),
        _ => blocks::<S, W, 1>(s, job, scratch),
    }
}

#[inline(always)]
fn blocks<S: Simd, W: Weights, const NP: usize>(s: S, mut job: Gemm<'_, W>, scratch: &mut [Line]) {
    let (m, k, n) = (job.a.rows(), job.a.cols(), job.c.cols());
    let (sums, scratch) = scratch.split_at_mut(TILE_LINES);
    let depth = k.min(K_PACK).next_multiple_of(GROUP);
    let (sliver, a_block) = scratch.split_at_mut(NP * depth);
    let a_block = Line::floats_mut(a_block);
    let mut k0 = 0;
    loop {
        let k1 = (k0 + K_PACK).min(k);
        pack_a(s, job.a.sub(0..m, k0..k1), a_block);
        let base = if k0 > 0 { Accumulate::Add } else { job.accumulate };
        let mut target = Target { c: &mut job.c, base, last: (k1 == k).then_some(&job.epilogue) };
        for col in (0..n).step_by(NP * LANES) {
            let (groups, _) = sliver.as_chunks_mut::<GROUP>();
            let mut rooms = groups.chunks_mut((depth / GROUP).max(1));
            let mut b = [Lines(&[]); NP];
            for (p, b) in b.iter_mut().enumerate() {
                // Past the last panel: any other, its sums go nowhere.
                let panel = (col / LANES + p).min(n.div_ceil(LANES) - 1);
                *b = Lines(job.b.lines(s, panel, k0..k1, rooms.next().unwrap_or(&mut [])));
            }
            tiles::<S, NP>(s, a_block, (m, k1 - k0), b, (&mut target, col, &mut *sums));
        }
        k0 = k1;
        if k0 == k {
            return;
        }
    }
}

/// Rows of the tile for the last `rows` rows: no more of it empty than need be.
const fn tile_rows<S: Simd>(rows: usize) -> usize {
    match (S::TILE.0, rows) {
        (12, 9..) => 12,
        (12, 5..) => 8,
        (6, 5..) => 6,
        (12 | 6, 3..) => 4,
        _ => 2,
    }
}

/// A (m, ≤ 512) as tiles, one after the other.
#[inline(always)]
fn pack_a<S: Simd>(s: S, a: MatRef<'_>, mut out: &mut [f32]) {
    let (m, k) = (a.rows(), a.cols());
    let mut r = 0;
    while r < m {
        let mr = tile_rows::<S>(m - r);
        let rows = a.sub(r..(r + mr).min(m), 0..k);
        match mr {
            12 => pack::tile::<S, 12>(s, rows, out),
            8 => pack::tile::<S, 8>(s, rows, out),
            6 => pack::tile::<S, 6>(s, rows, out),
            4 => pack::tile::<S, 4>(s, rows, out),
            _ => pack::tile::<S, 2>(s, rows, out),
        }
        out = &mut out[mr * k..];
        r += mr;
    }
}

/// All tiles of the packed A (m, k) with one sliver.
#[inline(always)]
fn tiles<S: Simd, const NP: usize>(
    s: S,
    a: &[f32],
    (m, k): (usize, usize),
    b: [Lines<'_>; NP],
    (target, col, sums): (&mut Target<'_, '_>, usize, &mut [Line]),
) {
    let mut a = a;
    let mut r = 0;
    while r < m {
        let mr = tile_rows::<S>(m - r);
        let (tile, rest) = a.split_at(mr * k);
        let at = (r, col);
        match mr {
            12 => s.outline(Tile::<12, NP> { a: tile.as_chunks().0, b, target, at, sums }),
            8 => s.outline(Tile::<8, NP> { a: tile.as_chunks().0, b, target, at, sums }),
            6 => s.outline(Tile::<6, NP> { a: tile.as_chunks().0, b, target, at, sums }),
            4 => s.outline(Tile::<4, NP> { a: tile.as_chunks().0, b, target, at, sums }),
            _ => s.outline(Tile::<2, NP> { a: tile.as_chunks().0, b, target, at, sums }),
        }
        a = rest;
        r += mr;
    }
}

/// One tile: its blocks of 256 in order, then C. A function of its own, so that its 24 accumulators are all
/// that the registers have to hold.
struct Tile<'f, 't, 'a, const MR: usize, const NP: usize> {
    /// (k, MR)
    a: &'f [[f32; MR]],
    b: [Lines<'f>; NP],
    target: &'f mut Target<'t, 'a>,
    /// Row and column of C.
    at: (usize, usize),
    /// Room for the running sums.
    sums: &'f mut [Line],
}

impl<const MR: usize, const NP: usize> Kernel for Tile<'_, '_, '_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { a, b, target, at, sums } = self;
        let sums = &mut sums[..MR * NP];
        let whole = (1..=K_BLOCK).contains(&a.len()) && target.takes_whole(at, (MR, NP));
        if !whole {
            target.begin(s, at, NP, sums);
        }
        for (block, a) in a.chunks(K_BLOCK).enumerate() {
            let acc = chain::<S, Lines<'_>, MR, NP>(s, a, b, block * (K_BLOCK / GROUP));
            if whole {
                return target.store_whole(s, at, &acc);
            }
            add_to::<S, MR, NP>(s, sums, &acc);
        }
        s.outline(Finish { target, at, np: NP, sums });
    }
}

/// Adds a block's sums to what stands in L1.
#[inline(always)]
pub(super) fn add_to<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    sums: &mut [Line],
    acc: &[[S::F32; NP]; MR],
) {
    for (sums, acc) in sums.chunks_exact_mut(NP).zip(acc) {
        for (sum, &acc) in sums.iter_mut().zip(acc) {
            let before = s.load(sum);
            s.store(sum, s.add(before, acc));
        }
    }
}
