//! Many rows: a sliver of B, eight panels wide, stays in L2 while all of A passes it, tile by tile.
//!
//! ```text
//!   for each 512 of k          pack A (rows × 512): tiles of MR rows, in L3
//!     for each sliver of B     where it lies (packed f32), or packed / decoded into scratch: 512 × 8 lines, in L2
//!       for each tile of A     in L1; meanwhile the next one is asked for
//!         for each NP panels   for each 256 of k: acc ← chain; sum ← sum + acc
//!                              sum → C, or on to the next 512 of k through C
//! ```
//! The running sum of a tile lives in L1 between blocks of 256; C is touched once in 512 steps of k. A and B
//! are each packed once (B anew every 1,020 rows).

use super::epilogue::{Finish, Target};
use super::pack;
use super::tile::chain;
use super::weights::{GROUP, Lines, Weights};
use super::{Accumulate, Gemm, K_BLOCK, K_PACK, M_PIECE};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// Lines of the largest tile: 12 rows × 2 panels.
const TILE_LINES: usize = 24;

/// Panels of a sliver: 256 KiB, a part of L2; memory is read in runs of 512 bytes.
const SLIVER: usize = 8;

/// Lines of scratch: a block of A with slack for whole-line writes, a sliver, and a tile's running sums.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let rows = if m < M_PIECE { m.next_multiple_of(12) } else { M_PIECE };
    let depth = if k < K_PACK { k } else { K_PACK };
    (rows * depth).div_ceil(LANES) + 1 + SLIVER * depth.next_multiple_of(GROUP) + TILE_LINES
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
    if m == 0 {
        return;
    }
    let (sums, scratch) = scratch.split_at_mut(TILE_LINES);
    let (sliver, a_block) = scratch.split_at_mut(SLIVER * k.min(K_PACK).next_multiple_of(GROUP));
    let (sliver, _) = sliver.as_chunks_mut::<GROUP>();
    let a_block = Line::floats_mut(a_block);
    let panels = n.div_ceil(LANES);
    let mut k0 = 0;
    loop {
        let ks = k0..(k0 + K_PACK).min(k);
        s.outline(PackA(job.a.sub(0..m, ks.clone()), &mut *a_block));
        let base = if k0 > 0 { Accumulate::Add } else { job.accumulate };
        let mut target = Target { c: &mut job.c, base, last: (ks.end == k).then_some(&job.epilogue) };
        for p0 in (0..panels).step_by(SLIVER) {
            let here = p0..(p0 + SLIVER).min(panels);
            if job.b.in_place(p0, &ks).is_none() {
                s.outline(Fill(&job.b, here.clone(), ks.clone(), &mut *sliver));
            }
            let depth = ks.len().div_ceil(GROUP);
            let mut b = [Lines(&[]); SLIVER];
            for (p, b) in here.zip(&mut b) {
                *b = Lines(match job.b.in_place(p, &ks) {
                    Some(lines) => lines,
                    None => &sliver[(p - p0) * depth..][..depth],
                });
            }
            let b = &b[..SLIVER.min(panels - p0)];
            tiles::<S, NP>(s, (&*a_block, m, ks.len()), b, (&mut target, p0 * LANES, &mut *sums));
        }
        k0 = ks.end;
        if k0 == k {
            return;
        }
    }
}

/// [`Weights::fill`] as a function of its own.
struct Fill<'f, W>(&'f W, Range<usize>, Range<usize>, &'f mut [[Line; GROUP]]);

impl<W: Weights> Kernel for Fill<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.fill(s, self.1, self.2, self.3);
    }
}

/// Rows of the tile for the last `rows` rows: no more of it empty than need be.
#[inline(always)]
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
struct PackA<'f, 'a>(MatRef<'a>, &'f mut [f32]);

impl Kernel for PackA<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PackA(a, mut out) = self;
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
}

/// All tiles of the packed A (m, k) with one sliver: a tile of A stays in L1 while the sliver passes from L2.
#[inline(always)]
fn tiles<S: Simd, const NP: usize>(
    s: S,
    (mut a, m, k): (&[f32], usize, usize),
    panels: &[Lines<'_>],
    (target, col, sums): (&mut Target<'_, '_>, usize, &mut [Line]),
) {
    let mut r = 0;
    while r < m {
        let mr = tile_rows::<S>(m - r);
        let (tile, rest) = a.split_at(mr * k);
        // Each step of the sliver asks for its share of the next tile.
        let mut ahead = rest[..rest.len().min(mr * k)].chunks((mr * k * NP / SLIVER).max(1));
        for (p, panels) in panels.chunks(NP).enumerate() {
            // Past the last panel: the same again, its sums go nowhere.
            let mut b = [panels[0]; NP];
            b[..panels.len()].copy_from_slice(panels);
            let ahead = ahead.next().unwrap_or(&[]);
            let at = (r, col + p * NP * LANES);
            match mr {
                12 => s.outline(Tile::<12, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
                8 => s.outline(Tile::<8, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
                6 => s.outline(Tile::<6, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
                4 => s.outline(Tile::<4, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
                _ => s.outline(Tile::<2, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
            }
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
    /// Floats to ask for meanwhile.
    ahead: &'f [f32],
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
        let Tile { a, b, ahead, target, at, sums } = self;
        let sums = &mut sums[..MR * NP];
        let whole = target.takes_whole(at, (MR, NP));
        if a.is_empty() {
            target.begin(s, at, NP, sums);
        }
        if target.base == Accumulate::Add {
            target.prefetch(s, at, (MR, NP));
        }
        for (block, a) in a.chunks(K_BLOCK).enumerate() {
            let ahead = ahead.get(block * K_BLOCK * 4..).unwrap_or(&[]);
            let acc = chain::<S, Lines<'_>, MR, NP>(s, a, b, block * (K_BLOCK / GROUP), ahead);
            let last = block == (self.a.len() - 1) / K_BLOCK;
            if whole && last && block == 0 && target.base == Accumulate::Overwrite {
                return target.store_whole(s, at, None, &acc);
            }
            if block == 0 {
                target.begin(s, at, NP, sums); // C has come by now
            }
            if whole && last {
                return target.store_whole(s, at, Some(sums), &acc);
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
