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
use core::ops::Range;

/// Lines of the largest tile: 12 rows × 2 panels.
const TILE_LINES: usize = 24;

/// Panels of a sliver that is packed at once: memory is read in runs of 512 bytes, and the sliver stays in L2
/// beside the block of A.
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
            for p in here.clone().step_by(NP) {
                let mut b = [Lines(&[]); NP];
                for (i, b) in b.iter_mut().enumerate() {
                    // Past the last panel: any other, its sums go nowhere.
                    let p = (p + i).min(here.end - 1);
                    *b = Lines(match job.b.in_place(p, &ks) {
                        Some(lines) => lines,
                        None => &sliver[(p - p0) * depth..][..depth],
                    });
                }
                let next = Ahead(&job.b, (p + NP).min(panels)..(p + 2 * NP).min(panels), ks.clone());
                let target = (&mut target, p * LANES, &mut *sums);
                tiles::<S, W, NP>(s, (&*a_block, m, ks.len()), b, next, target);
            }
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

/// The panels that come next, where they already lie somewhere as lines: B comes from far, and each tile of
/// this sliver asks for a share of the next.
struct Ahead<'f, W>(&'f W, Range<usize>, Range<usize>);

impl<W: Weights> Ahead<'_, W> {
    /// The lines that tile `t` of the sliver asks for, two in eight steps: four tiles ask for a panel.
    #[inline(always)]
    fn share(&self, t: usize) -> &[Line] {
        let Ahead(weights, panels, k) = self;
        let Some(lines) = panels.clone().nth(t / 4).and_then(|p| weights.in_place(p, k)) else { return &[] };
        let lines = lines.as_flattened();
        let each = lines.len() / 4;
        &lines[t % 4 * each..][..each]
    }
}

/// All tiles of the packed A (m, k) with one sliver.
#[inline(always)]
fn tiles<S: Simd, W: Weights, const NP: usize>(
    s: S,
    (mut a, m, k): (&[f32], usize, usize),
    b: [Lines<'_>; NP],
    next: Ahead<'_, W>,
    (target, col, sums): (&mut Target<'_, '_>, usize, &mut [Line]),
) {
    let (mut r, mut t) = (0, 0);
    while r < m {
        let mr = tile_rows::<S>(m - r);
        let (tile, rest) = a.split_at(mr * k);
        let (at, ahead) = ((r, col), next.share(t));
        match mr {
            12 => s.outline(Tile::<12, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
            8 => s.outline(Tile::<8, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
            6 => s.outline(Tile::<6, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
            4 => s.outline(Tile::<4, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
            _ => s.outline(Tile::<2, NP> { a: tile.as_chunks().0, b, ahead, target, at, sums }),
        }
        a = rest;
        r += mr;
        t += 1;
    }
}

/// One tile: its blocks of 256 in order, then C. A function of its own, so that its 24 accumulators are all
/// that the registers have to hold.
struct Tile<'f, 't, 'a, const MR: usize, const NP: usize> {
    /// (k, MR)
    a: &'f [[f32; MR]],
    b: [Lines<'f>; NP],
    /// Lines to ask for meanwhile.
    ahead: &'f [Line],
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
            let ahead = ahead.get(block * (K_BLOCK / 4)..).unwrap_or(&[]);
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
