//! Many rows: a sliver of B, nine panels wide, stays in L2 while all of A passes it, tile by tile. A few rows pass slivers
//! of panels no wider than a tile: they would not come back for more.
//!
//! ```text
//!   for each 768 of k
//!     for each sliver of B     where it lies (packed f32), or packed / decoded into scratch: 768 × 9 lines, in L2
//!       for each MR rows of A  where they lie, or copied when they are first needed
//!         for each NP panels   for each 256 of k: acc ← chain; sum ← sum + acc
//!                              sum → C, or on to the next 768 of k through C
//! ```
//! The running sum of a tile lives in L1 between blocks of 256; C is touched once in 768 steps of k. While a tile
//! computes, the next rows of A and the next sliver of B are asked for (`ahead.rs`), so that the copying finds
//! them in L2.

use super::ahead::{Ahead, Walk};
use super::epilogue::{Begin, Finish, Panels, Target};
use super::low_rank::LowRankTile;
use super::pack;
use super::tile::{add_to, begin, descend, store};
use super::weights::{GROUP, Weights, room_groups};
use super::{Accumulate, FEW, Gemm, K_BLOCK, K_PACK, M_PIECE};
use crate::simd::Simd;
use crate::view::{Down, Layout, MatMut, MatRef, Stripes};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// Lines of the largest tile: 8 rows × 3 panels.
const TILE_LINES: usize = 24;

/// Panels of a sliver, three tiles: 432 KiB, a part of L2; memory is read in runs of 576 bytes.
pub(super) const SLIVER: usize = 9;

/// Rows of A up to which B may be read where it lies: more of them pay for its packing.
const IN_PLACE: usize = 192;

/// Rows that are copied at once where they lie across memory (a transposed A): whole lines of every tier's tiles, so that
/// none is fetched twice.
const ACROSS: usize = 48;

/// Lines of scratch: a copy of 768 columns of A, a sliver, and a tile's running sums.
pub(super) const fn scratch_len((panels, wide): (bool, bool), m: usize, k: usize) -> usize {
    let rows = if m < M_PIECE { m } else { M_PIECE };
    let depth = if k < K_PACK { k } else { K_PACK };
    let sliver = sliver(panels, m, if wide { 3 } else { 1 });
    rows * pack::row_lines(depth) + sliver * room_groups(depth) * GROUP + TILE_LINES
}

/// Panels of a sliver for `m` rows, with tiles of `np`. Weights that are panels already are read in long runs however few are
/// decoded at once; of others nine panels are read side by side.
const fn sliver(panels: bool, m: usize, np: usize) -> usize {
    if panels && m <= FEW { np } else { SLIVER }
}

/// At most [`M_PIECE`] rows.
#[inline(always)]
pub(super) fn run<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, scratch: &mut [Line]) {
    match S::TILE {
        (_, 3) => blocks::<S, W, 3>(s, job, scratch),
        _ => blocks::<S, W, 1>(s, job, scratch),
    }
}

#[inline(always)]
fn blocks<S: Simd, W: Weights, const NP: usize>(s: S, mut job: Gemm<'_, W>, scratch: &mut [Line]) {
    let (m, k, n) = (job.a.rows(), job.a.cols(), job.c.cols());
    if m == 0 {
        return;
    }
    let most = sliver(job.b.panels(), m, NP);
    let (sums, scratch) = scratch.split_at_mut(TILE_LINES);
    let (sliver, room) = scratch.split_at_mut(most * room_groups(k.min(K_PACK)) * GROUP);
    let (sliver, _) = sliver.as_chunks_mut::<GROUP>();
    let panels = n.div_ceil(LANES);
    // As many passes as have to be, of even depth.
    let depth = k.div_ceil(k.div_ceil(K_PACK).max(1)).next_multiple_of(K_BLOCK);
    let mut k0 = 0;
    loop {
        let ks = k0..(k0 + depth).min(k);
        let a = job.a.sub(0..m, ks.clone());
        let once = S::TILE.1 < 3 && panels <= most && a.col_stride() == 1; // few rows, read once: no harm
        let in_place = once || pack::reads_in_place(a);
        let base = if k0 > 0 { Accumulate::Add } else { job.accumulate };
        let mut target = Target { c: &mut job.c, base, last: (ks.end == k).then_some(&job.epilogue) };
        let mut p0 = 0;
        while p0 < panels {
            let here = sliver_from(p0, panels, most);
            let b = Right { b: &job.b, ks: ks.clone(), room: &mut *sliver }.panels(s, here.clone(), m);
            let copy = match () {
                () if in_place => Copying::Never,
                () if panels <= most => Copying::Passing,
                () if here.start == 0 => Copying::Keep,
                () => Copying::Never,
            };
            let left = match () {
                () if in_place || here.start == 0 => Left { a, room: &mut *room, copy },
                () => Left { a: copied(room, m, ks.len()), room: &mut [], copy },
            };
            let next = sliver_from(here.end, panels, most);
            p0 = here.end;
            let next = if next.is_empty() { None } else { job.b.origin(next, &ks) };
            let walk = next.map_or(Walk::NONE, Walk::over);
            tiles::<S, NP>(s, left, b, (&mut target, here.start * LANES, &mut *sums), walk);
        }
        k0 = ks.end;
        if k0 == k {
            return;
        }
    }
}

/// The sliver of at most `most` panels that begins at `from`: one of a single panel would be a tile with too few chains.
#[inline(always)]
const fn sliver_from(from: usize, panels: usize, most: usize) -> Range<usize> {
    match panels - from {
        left if left == most + 1 && most > 1 => from..from + most - 1,
        left if left < most => from..panels,
        _ => from..from + most,
    }
}

/// B's rows `ks`, and room for a sliver of them.
struct Right<'f, W> {
    b: &'f W,
    ks: Range<usize>,
    room: &'f mut [[Line; GROUP]],
}

impl<'f, W: Weights> Right<'f, W> {
    /// The panels `here` of a product of `m` rows: those that stay where they lie, and those packed or decoded.
    #[inline(always)]
    fn panels<S: Simd>(self, s: S, here: Range<usize>, m: usize) -> [Stripes<'f>; 2] {
        let Right { b, ks, room } = self;
        let rows = b.as_rows().filter(|b| m <= IN_PLACE && pack::stays_in_place::<S>(b, &ks));
        let there = match rows {
            // Panels that lie there whole need no copy.
            Some(b) => Stripes::of(b.sub(ks.clone(), here.start * LANES..(here.end * LANES).min(b.cols()))),
            None => b.in_place(here.clone(), &ks).and_then(Stripes::packed),
        };
        let there = there.unwrap_or(Stripes::NONE);
        let rest = here.start + there.len()..here.end;
        if rest.is_empty() {
            return [there, Stripes::NONE];
        }
        let panels = rest.len();
        s.outline(Fill(b, rest, ks.clone(), &mut *room));
        let (cols, from) = (ks.len().next_multiple_of(GROUP) * LANES, room_groups(ks.len()) * GROUP * LANES);
        let layout = Layout { rows: panels, cols, row_stride: from as isize, col_stride: 1 };
        let room: &[[Line; GROUP]] = room;
        let packed = MatRef::strided(Line::floats(room.as_flattened()), 0, layout);
        [there, Stripes::packed(packed).unwrap_or(Stripes::NONE)]
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

/// A (m, ≤ 768) and room for its copy.
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
    fn walk(&self, r: usize, mr: usize) -> Walk {
        let m = self.a.rows();
        if r >= m {
            return Walk::NONE;
        }
        let part = self.a.sub(r..(r + mr).min(m), 0..self.a.cols());
        Walk::over(if part.row_stride() == 1 { part.t() } else { part })
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
    panels: [Stripes<'_>; 2],
    (target, col, sums): (&mut Target<'_, '_>, usize, &mut [Line]),
    mut next: Walk,
) {
    let (m, k) = (a.a.rows(), a.a.cols());
    let turns: usize = panels.iter().map(|panels| panels.len().div_ceil(NP)).sum();
    let mut ahead = Ahead::nothing();
    let mut r = 0;
    while r < m {
        let mr = tile_rows::<S>(m - r);
        ahead.rows = a.walk(r + mr, mr);
        // The next sliver comes late, or it would drive out this one.
        let chances = (m - r).div_ceil(mr) * turns * k.div_ceil(GROUP);
        if chances <= 2 * next.left {
            ahead.sliver = core::mem::replace(&mut next, Walk::NONE);
        }
        let rows = a.rows(s, r, mr);
        let mut col = col;
        for panels in panels {
            let (whole, rest) = panels.split_at(whole::<NP>(panels.len()));
            for panels in [whole, rest] {
                let (packed, at) = (S::TILE.1 == 3 && panels.are_packed(), (r, col));
                let (target, sums, ahead) = (&mut *target, &mut *sums, &mut ahead);
                let job = Job { rows, panels, target, at, sums, ahead };
                match (packed, mr, panels.len() % NP, panels.len()) {
                    (_, _, _, 0) => {}
                    (true, 8, 0, _) => s.outline(Band::<8, NP, true>(job)),
                    (_, 8, 0, _) => s.outline(Band::<8, NP, false>(job)),
                    (_, 6, 0, _) => s.outline(Band::<6, NP, false>(job)),
                    (_, 4, 0, _) => s.outline(Band::<4, NP, false>(job)),
                    (_, _, 0, _) => s.outline(Band::<2, NP, false>(job)),
                    (_, 8, _, 1) => s.outline(Band::<8, 1, false>(job)),
                    (_, _, _, 1) => s.outline(Band::<4, 1, false>(job)),
                    (true, 8, ..) => s.outline(Band::<8, 2, true>(job)),
                    (_, 8, ..) => s.outline(Band::<8, 2, false>(job)),
                    _ => s.outline(Band::<4, 2, false>(job)),
                }
                col += panels.len() * LANES;
            }
        }
        r += mr;
    }
}

/// Of `panels`, those that go NP at a time; what is left of three is 0, 2 or 4, which go two by two, or the only one.
#[inline(always)]
const fn whole<const NP: usize>(panels: usize) -> usize {
    match (NP, panels % NP) {
        (3, 1) if panels > 1 => panels - 4,
        (_, rest) => panels - rest,
    }
}

/// Rows of the tile for the last `rows` rows: no more of it empty than need be.
#[inline(always)]
const fn tile_rows<S: Simd>(rows: usize) -> usize {
    match (S::TILE.0, rows) {
        (8, 5..) => 8,
        (6, 5..) => 6,
        (8 | 6, 3..) => 4,
        _ => 2,
    }
}

/// Some rows of A with panels of one sliver.
struct Job<'f, 't, 'a> {
    /// (≤ MR, k), rows side by side in memory.
    rows: MatRef<'f>,
    panels: Stripes<'f>,
    target: &'f mut Target<'t, 'a>,
    /// Row and column of C.
    at: (usize, usize),
    /// Room for the running sums.
    sums: &'f mut [Line],
    ahead: &'f mut Ahead,
}

/// MR rows of A with one sliver, NP panels at a time, `PACKED` or wherever they lie. A function of its own, so that its 24
/// accumulators are all that the registers have to hold.
struct Band<'f, 't, 'a, const MR: usize, const NP: usize, const PACKED: bool>(Job<'f, 't, 'a>);

impl<const MR: usize, const NP: usize, const PACKED: bool> Kernel for Band<'_, '_, '_, MR, NP, PACKED> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { rows, panels, target, at: (r, col), sums, ahead } = self.0;
        let sums: &mut [[Line; NP]; MR] = sums.as_chunks_mut().0.first_chunk_mut().expect("room");
        let (ends, low) = (target.ends_here(), target.low_rank_alone());
        let begun = target.base == Accumulate::Add || rows.cols() == 0;
        for p in (0..panels.len()).step_by(NP) {
            let at = (r, col + p * LANES);
            if begun {
                s.outline(Begin { target, at, panels: Panels::beside(NP), sums: sums.as_flattened_mut() });
            }
            let mut place = target.c.part(at, (MR, NP * LANES));
            ahead.c = place.as_ref().map_or(Walk::NONE, |c| Walk::over(c.as_ref()));
            let end = if ends { place.as_mut() } else { None };
            let down = panels.down(p, 0, rows.cols());
            if !tile::<S, MR, NP, PACKED>(s, (rows, down), ahead, (begun, &mut *sums), end) {
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
fn tile<S: Simd, const MR: usize, const NP: usize, const PACKED: bool>(
    s: S,
    (a, mut b): (MatRef<'_>, Down<'_, NP>),
    ahead: &mut Ahead,
    (mut begun, sums): (bool, &mut [[Line; NP]; MR]),
    place: Option<&mut MatMut<'_>>,
) -> bool {
    let k = a.cols();
    let mut places = place.map(|c| c.tile::<MR, NP>());
    for k0 in (0..k).step_by(K_BLOCK) {
        let end = (k0 + K_BLOCK).min(k);
        let rows = a.band::<MR>(k0..end).expect("rows side by side");
        let acc = descend::<S, MR, NP, PACKED>(s, rows, &mut b, ahead);
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
