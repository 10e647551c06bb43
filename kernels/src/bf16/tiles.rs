//! The same product on a matrix unit, sixteen rows and columns at a time.
//!
//! **Law.**   Clause 10, whose first line is what the unit does to a tile; sums of blocks are added outside.
//!
//! ```text
//!   A, 128 × 1024   rounded, in stripes of tiles:   16 rows × 32 steps │ the next 32 steps │ …     256 KB, in L2
//!   B               panels as they were packed:     16 columns × 32 steps are 1,024 bytes in a row: a tile
//!   32 × 32 sums    eight tiles of k from +0 (2 × 2 at once), then added to what was before: a block of 256
//! ```
//!
//! **Registers.**  Four tiles of sums, two of A, two of B.
//!
//! **Cost.**  2·m·n·k operations, 32,768 in the 16 cycles of an instruction; 4 KB read for four of those, and 8 KB of
//! sums written, added and read again in 32 of them. B is read once for 128 rows: eight bytes a cycle.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

use super::{DEPTH, GemmBf16, PackedBf16, rounded};
use crate::gemm::epilogue::{Begin, Finish, Panels, Target, load_at};
use crate::gemm::{Bf16, Bf16Group, GROUP, K_BLOCK};
use crate::pieces::strips;
use crate::simd::Simd;
use crate::simd::tiles::{NOTHING, Panel, STEPS, Sums, TALL, Tile, Tiles, WIDE, add, two};
use crate::view::MatRef;
use crate::{Kernel, LANES, Line};

/// Rows that are prepared at once.
const ROWS: usize = 128;
/// Tiles along k in a block of the law.
const BLOCK: usize = K_BLOCK / STEPS;

/// Fewer rows than these leave most of a tile empty, and the memory of B binds.
pub(super) const LEAST_ROWS: usize = 8;

/// Lines of scratch.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let (rows, depth) = (if m < ROWS { m } else { ROWS }, if k < DEPTH { k } else { DEPTH });
    rows.next_multiple_of(LANES) * depth.div_ceil(STEPS)
}

/// The whole product.
pub(super) struct OnTiles<'a, 's, T> {
    pub job: GemmBf16<'a>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

impl<T: Tiles<Bf16>> Kernel for OnTiles<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OnTiles { job: GemmBf16 { a, b, mut c, accumulate, epilogue }, scratch, mut tiles } = self;
        let (m, k, n) = (c.rows(), a.cols(), c.cols());
        for (rows, ks) in strips((m, ROWS), (k, DEPTH)) {
            let room: &mut [Tile] = scratch.as_chunks_mut().0;
            let depth = ks.len().div_ceil(STEPS);
            s.outline(Prepare { a: a.sub(rows.clone(), ks.clone()), depth, room: &mut *room });
            let stripes = &room[..rows.len().div_ceil(LANES) * depth];
            let b = PanelsOf { b: &b, first: ks.start / GROUP, groups: ks.len().div_ceil(GROUP) };
            let (epilogue, mut part) = (epilogue.sub(rows.clone(), 0..n), c.reborrow().sub(rows, 0..n));
            let last = (ks.end == k).then_some(&epilogue);
            let target = Target { c: &mut part, base: accumulate.after(ks.start), last };
            s.outline(Passes { stripes, depth, b, target, tiles: &mut tiles });
        }
    }
}

/// Rows of A as stripes of tiles: rounded, +0 past the last row and the last step.
struct Prepare<'a, 'o> {
    a: MatRef<'a>,
    /// Tiles in a stripe.
    depth: usize,
    room: &'o mut [Tile],
}

impl Kernel for Prepare<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Prepare { a, depth, room } = self;
        let (m, k) = (a.rows(), a.cols());
        for (r, stripe) in (0..m).step_by(LANES).zip(room.chunks_exact_mut(depth.max(1))) {
            for (tile, k0) in stripe.iter_mut().zip((0..k).step_by(STEPS)) {
                for (line, r) in tile.iter_mut().zip(r..) {
                    *line = Line::ZERO;
                    if r >= m {
                        continue;
                    }
                    let halves = Line::elements_mut(core::slice::from_mut(line)).as_chunks_mut::<LANES>().0;
                    for (half, k0) in halves.iter_mut().zip((k0..k).step_by(LANES)) {
                        let x = load_at(s, a, r, k0..(k0 + LANES).min(k));
                        s.store_u16(half, s.shr::<16>(s.bits(rounded(s, x))));
                    }
                }
            }
        }
    }
}

/// Some steps of all panels of B.
struct PanelsOf<'b, 'a> {
    b: &'b PackedBf16<'a>,
    /// In groups of eight steps.
    first: usize,
    groups: usize,
}

impl<'a> PanelsOf<'_, 'a> {
    #[inline(always)]
    fn tiles(&self, p: usize) -> Panel<'a> {
        Panel::new(Bf16Group::lines(&self.b.0.panel_groups(p)[self.first..][..self.groups]))
    }
}

/// All panels past the prepared rows.
struct Passes<'f, 't, 'a, T> {
    stripes: &'f [Tile],
    depth: usize,
    b: PanelsOf<'f, 'a>,
    target: Target<'t, 'a>,
    tiles: &'f mut T,
}

impl<T: Tiles<Bf16>> Kernel for Passes<'_, '_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Passes { stripes, depth, b, mut target, tiles } = self;
        let (rows, panels) = (target.c.rows(), target.c.cols().div_ceil(LANES));
        for p in (0..panels).step_by(WIDE) {
            // Past the last panel and the last stripe the last again: those sums go nowhere.
            let of_b = [b.tiles(p), b.tiles((p + 1).min(panels - 1))];
            for r in (0..rows).step_by(TALL) {
                let (of_a, at) = (two(stripes, depth, (r, rows)), (r, p * LANES));
                let mut sums = [[Line::ZERO; WIDE]; TALL];
                let beside = Panels::beside(WIDE);
                s.outline(Begin { target: &target, at, panels: beside, sums: sums.as_flattened_mut() });
                for first in (0..depth).step_by(BLOCK) {
                    let mut block = [NOTHING; 4];
                    add(tiles, (of_a, &of_b), first..(first + BLOCK).min(depth), &mut block);
                    s.outline(Add { block: &block, sums: &mut sums });
                }
                s.outline(Finish { target: &mut target, at, panels: beside, sums: sums.as_flattened() });
            }
        }
    }
}

/// A block's sums, to what was before them.
struct Add<'f> {
    block: &'f Sums,
    sums: &'f mut [[Line; WIDE]; TALL],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (r, sums) in self.sums.iter_mut().enumerate() {
            for (p, sum) in sums.iter_mut().enumerate() {
                let more = s.load(&self.block[r / LANES * WIDE + p][r % LANES]);
                let both = s.add(s.load(sum), more);
                s.store(sum, both);
            }
        }
    }
}
