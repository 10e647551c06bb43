//! Many rows: a sliver of B, eight panels wide, stays in L2 while all of A passes it, tile by tile.
//!
//! ```text
//!   for each 512 of k
//!     for each sliver of B     where it lies (packed f32), or packed / decoded into scratch: 512 × 8 lines, in L2
//!       for each MR rows of A  where they lie, or copied when they are first needed
//!         for each NP panels   for each 256 of k: acc ← chain; sum ← sum + acc
//!                              sum → C, or on to the next 512 of k through C
//! ```
//! The running sum of a tile lives in L1 between blocks of 256; C is touched once in 512 steps of k. While a tile
//! computes, the next rows of A and the next sliver of B are asked for (`ahead.rs`), so that the copying finds
//! them in L2.

use super::ahead::{Ahead, Walk};
use super::epilogue::{Begin, Finish, Panels, Target};
use super::low_rank::LowRankTile;
use super::pack;
use super::tile::{add_to, begin, chain, store};
use super::weights::{GROUP, Weights, room_groups, stripe_of};
use super::{Accumulate, Gemm, K_BLOCK, K_PACK, M_PIECE};
use crate::simd::Simd;
use crate::view::{Layout, MatMut, MatRef, Stripe};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// Lines of the largest tile: 12 rows × 2 panels.
const TILE_LINES: usize = 24;

/// Panels of a sliver: 256 KiB, a part of L2; memory is read in runs of 512 bytes.
pub(super) const SLIVER: usize = 8;

/// Rows of A up to which B may be read where it lies: more of them pay for its packing.
const IN_PLACE: usize = 192;

/// Rows that are copied at once where they lie across memory (a transposed A): whole lines of every tier's tiles, so that
/// none is fetched twice.
const ACROSS: usize = 48;

/// Lines of scratch: a copy of 512 columns of A, a sliver, and a tile's running sums.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let rows = if m < M_PIECE { m } else { M_PIECE };
    let depth = if k < K_PACK { k } else { K_PACK };
    rows * pack::row_lines(depth) + SLIVER * room_groups(depth) * GROUP + TILE_LINES
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
    let (sliver, room) = scratch.split_at_mut(SLIVER * room_groups(k.min(K_PACK)) * GROUP);
    let (sliver, _) = sliver.as_chunks_mut::<GROUP>();
    let panels = n.div_ceil(LANES);
    let mut k0 = 0;
    loop {
        let ks = k0..(k0 + K_PACK).min(k);
        let a = job.a.sub(0..m, ks.clone());
        let once = S::TILE.0 < 8 && panels <= SLIVER && a.col_stride() == 1; // few rows, read once: no harm
        let in_place = once || pack::reads_in_place(a);
        let base = if k0 > 0 { Accumulate::Add } else { job.accumulate };
        let mut target = Target { c: &mut job.c, base, last: (ks.end == k).then_some(&job.epilogue) };
        for p0 in (0..panels).step_by(SLIVER) {
            let here = p0..(p0 + SLIVER).min(panels);
            let b = Right { b: &job.b, ks: ks.clone(), room: &mut *sliver }.panels(s, here.clone(), m);
            let copy = match () {
                () if in_place => Copying::Never,
                () if panels <= SLIVER => Copying::Passing,
                () if p0 == 0 => Copying::Keep,
                () => Copying::Never,
            };
            let left = match () {
                () if in_place || p0 == 0 => Left { a, room: &mut *room, copy },
                () => Left { a: copied(room, m, ks.len()), room: &mut [], copy },
            };
            let next = here.end..(here.end + SLIVER).min(panels);
            let next = if next.is_empty() { None } else { job.b.origin(next, &ks) };
            let walk = next.map_or(Walk::NONE, Walk::over::<S>);
            tiles::<S, NP>(s, left, &b[..here.len()], (&mut target, p0 * LANES, &mut *sums), walk);
        }
        k0 = ks.end;
        if k0 == k {
            return;
        }
    }
}

/// B's rows `ks`, and room for a sliver of them.
struct Right<'f, W> {
    b: &'f W,
    ks: Range<usize>,
    room: &'f mut [[Line; GROUP]],
}

impl<'f, W: Weights> Right<'f, W> {
    /// The panels `here` of a product of `m` rows: where they lie, or packed or decoded.
    #[inline(always)]
    fn panels<S: Simd>(self, s: S, here: Range<usize>, m: usize) -> [Stripe<'f>; SLIVER] {
        let Right { b, ks, room } = self;
        let mut panels = [Stripe::EMPTY; SLIVER];
        let rows = b.as_rows().filter(|b| m <= IN_PLACE && pack::stays_in_place::<S>(b, &ks));
        // Panels that lie there whole need no copy.
        let mut whole = 0;
        for (p, panel) in here.clone().zip(&mut panels) {
            let lies = match (rows, b.in_place(p, &ks)) {
                (Some(b), _) => Stripe::of(b.sub(ks.clone(), p * LANES..((p + 1) * LANES).min(b.cols()))),
                (None, lines) => lines.map(stripe_of),
            };
            let Some(lies) = lies else { break };
            *panel = lies;
            whole += 1;
        }
        let rest = here.start + whole..here.end;
        if !rest.is_empty() {
            s.outline(Fill(b, rest, ks.clone(), &mut *room));
            let room: &[[Line; GROUP]] = room;
            for (panel, room) in panels[whole..here.len()].iter_mut().zip(room.chunks(room_groups(ks.len())))
            {
                *panel = stripe_of(&room[..ks.len().div_ceil(GROUP)]);
            }
        }
        panels
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

/// How rows of A come to lie as a tile reads them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copying {
    /// They do.
    Never,
    /// Copied for this one sliver, to the same place, which so stays in L1.
    Passing,
    /// Copied, and kept for the slivers to come.
    Keep,
}

/// A (m, ≤ 512) and room for its copy.
struct Left<'f> {
    a: MatRef<'f>,
    room: &'f mut [Line],
    copy: Copying,
}

impl Left<'_> {
    /// `mr` rows from `r` on, as far as there are so many, side by side in memory.
    #[inline(always)]
    fn rows<S: Simd>(&mut self, s: S, r: usize, mr: usize) -> MatRef<'_> {
        let part = self.a.sub(r..(r + mr).min(self.a.rows()), 0..self.a.cols());
        if self.copy == Copying::Never {
            return part;
        }
        let lines = pack::row_lines(part.cols());
        let across = part.row_stride() == 1 && part.rows() > 1;
        let place = if self.copy == Copying::Passing && !across { 0 } else { r };
        let room = &mut self.room[place * lines..];
        if !across {
            s.outline(pack::Rows(part, &mut room[..part.rows() * lines]));
        } else if r.is_multiple_of(ACROSS) {
            let band = self.a.sub(r..(r + ACROSS).min(self.a.rows()), 0..self.a.cols());
            s.outline(pack::Rows(band, &mut room[..band.rows() * lines]));
        }
        copied(&room[..part.rows() * lines], part.rows(), part.cols())
    }

    /// `mr` rows from `r` on, to be asked for.
    #[inline(always)]
    fn walk<S: Simd>(&self, r: usize, mr: usize) -> Walk {
        let m = self.a.rows();
        if r >= m {
            return Walk::NONE;
        }
        let part = self.a.sub(r..(r + mr).min(m), 0..self.a.cols());
        Walk::over::<S>(if part.row_stride() == 1 { part.t() } else { part })
    }
}

/// A copy (m, k) made by [`pack::Rows`].
#[inline(always)]
fn copied(room: &[Line], rows: usize, cols: usize) -> MatRef<'_> {
    let row_stride = (pack::row_lines(cols) * LANES) as isize;
    MatRef::strided(Line::floats(room), 0, Layout { rows, cols, row_stride, col_stride: 1 })
}

/// All rows of A with one sliver: MR rows stay in L1 while the sliver passes from L2.
#[inline(always)]
fn tiles<S: Simd, const NP: usize>(
    s: S,
    mut a: Left<'_>,
    panels: &[Stripe<'_>],
    (target, col, sums): (&mut Target<'_, '_>, usize, &mut [Line]),
    mut next: Walk,
) {
    let (m, k) = (a.a.rows(), a.a.cols());
    let mut ahead = Ahead::nothing();
    let mut r = 0;
    while r < m {
        let mr = tile_rows::<S>(m - r);
        ahead.rows = a.walk::<S>(r + mr, mr);
        // The next sliver comes late, or it would drive out this one.
        let chances = (m - r).div_ceil(mr) * panels.len().div_ceil(NP) * k.div_ceil(GROUP);
        if chances <= 2 * next.left {
            ahead.sliver = core::mem::replace(&mut next, Walk::NONE);
        }
        let rows = a.rows(s, r, mr);
        let (pairs, odd) = panels.split_at(panels.len() / NP * NP);
        for (panels, col) in [(pairs, col), (odd, col + pairs.len() * LANES)] {
            if panels.is_empty() {
                continue;
            }
            let at = (r, col);
            let (target, sums, ahead) = (&mut *target, &mut *sums, &mut ahead);
            match (mr, panels.len() % NP) {
                (12, 0) => s.outline(Band::<12, NP> { rows, panels, target, at, sums, ahead }),
                (8, 0) => s.outline(Band::<8, NP> { rows, panels, target, at, sums, ahead }),
                (6, 0) => s.outline(Band::<6, NP> { rows, panels, target, at, sums, ahead }),
                (4, 0) => s.outline(Band::<4, NP> { rows, panels, target, at, sums, ahead }),
                (_, 0) => s.outline(Band::<2, NP> { rows, panels, target, at, sums, ahead }),
                (12, _) => s.outline(Band::<12, 1> { rows, panels, target, at, sums, ahead }),
                (8, _) => s.outline(Band::<8, 1> { rows, panels, target, at, sums, ahead }),
                _ => s.outline(Band::<4, 1> { rows, panels, target, at, sums, ahead }),
            }
        }
        r += mr;
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

/// MR rows of A with one sliver, NP panels at a time. A function of its own, so that its 24 accumulators are all
/// that the registers have to hold.
struct Band<'f, 't, 'a, const MR: usize, const NP: usize> {
    /// (≤ MR, k), rows side by side in memory.
    rows: MatRef<'f>,
    panels: &'f [Stripe<'f>],
    target: &'f mut Target<'t, 'a>,
    /// Row and column of C.
    at: (usize, usize),
    /// Room for the running sums.
    sums: &'f mut [Line],
    ahead: &'f mut Ahead,
}

impl<const MR: usize, const NP: usize> Kernel for Band<'_, '_, '_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Band { rows, panels, target, at: (r, col), sums, ahead } = self;
        let sums: &mut [[Line; NP]; MR] = sums.as_chunks_mut().0.first_chunk_mut().expect("room");
        let (ends, low) = (target.ends_here(), target.low_rank_alone());
        let begun = target.base == Accumulate::Add || rows.cols() == 0;
        for (i, panels) in panels.as_chunks::<NP>().0.iter().enumerate() {
            let at = (r, col + i * NP * LANES);
            if begun {
                s.outline(Begin { target, at, panels: Panels::beside(NP), sums: sums.as_flattened_mut() });
            }
            let mut place = target.c.part(at, (MR, NP * LANES));
            ahead.c = place.as_ref().map_or(Walk::NONE, |c| Walk::over::<S>(c.as_ref()));
            let end = if ends { place.as_mut() } else { None };
            if !tile(s, (rows, *panels), ahead, (begun, &mut *sums), end) {
                if let (Some(low), Some(mut place)) = (low, place) {
                    s.outline(LowRankTile { low, at, sums, place: &mut place });
                } else {
                    s.outline(Finish { target, at, panels: Panels::beside(NP), sums: sums.as_flattened() });
                }
            }
        }
    }
}

/// One tile: its blocks of 256 in order, added to `sums` where they are begun, to +0 else. The result goes to its
/// place in C, if that is given and all of it there, or stays in `sums`; says which.
#[inline(always)]
fn tile<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    (a, b): (MatRef<'_>, [Stripe<'_>; NP]),
    ahead: &mut Ahead,
    (mut begun, sums): (bool, &mut [[Line; NP]; MR]),
    place: Option<&mut MatMut<'_>>,
) -> bool {
    let k = a.cols();
    let mut places = place.map(|c| c.tile::<MR, NP>());
    for k0 in (0..k).step_by(K_BLOCK) {
        let end = (k0 + K_BLOCK).min(k);
        let rows = a.band::<MR>(k0..end).expect("rows side by side");
        let acc = chain(s, rows, b, k0 / GROUP, ahead);
        if end == k
            && let Some(places) = &mut places
        {
            let before = if begun { &*sums } else { const { &[[Line::ZERO; NP]; MR] } };
            store(s, places, before, &acc);
            return true;
        }
        if begun {
            add_to(s, sums, &acc);
        } else {
            begin(s, sums, &acc);
        }
        begun = true;
    }
    false
}
