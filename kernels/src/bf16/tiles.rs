//! The same product on a matrix unit.
//!
//! **Law.**   Clause 10, whose first line is what the unit does to a tile; eight tiles of k, a block, are one chain.
//!
//! The way past the unit is that of `gemm/walk.rs`. A tile of A is sixteen rows of 32 steps, rounded; one of B lies in
//! memory as it was packed.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

use super::{GemmBf16, PackedBf16};
use crate::gemm::epilogue::{Begin, FinishProducts, Panels, Target, load_at};
use crate::gemm::walk::{self, ROWS, Strip, Walk, rows};
use crate::gemm::{Accumulate, Bf16, Bf16Group, GROUP, K_BLOCK};
use crate::pieces::strips;
use crate::simd::Simd;
use crate::simd::tiles::{BLOCK, Products, Rounds, Rows, STEPS, Tile, WIDE};
use crate::view::MatRef;
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// A block of the unit is one of the law.
const _: () = assert!(BLOCK * STEPS == K_BLOCK);

/// k that is prepared at once: with the rows 1 MB, half of L2. More of it spares C a way to memory and back.
const DEPTH: usize = 2048;

/// Fewer rows than these leave most of a tile empty, and the memory of B binds.
pub(super) const LEAST_ROWS: usize = 8;

/// Lines of scratch.
pub(super) const fn scratch_len(m: usize, k: usize) -> usize {
    let (rows, depth) = (if m < ROWS { m } else { ROWS }, if k < DEPTH { k } else { DEPTH });
    walk::scratch_len(rows, depth.div_ceil(STEPS))
}

/// The whole product.
pub(super) struct OnTiles<'a, 's, T> {
    pub job: GemmBf16<'a>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

impl<T: Rounds> Kernel for OnTiles<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OnTiles { job: GemmBf16 { a, b, mut c, accumulate, epilogue }, scratch, mut tiles } = self;
        let (m, k, n) = (c.rows(), a.cols(), c.cols());
        for (rows, ks) in strips((m, ROWS), (k, DEPTH)) {
            let (epilogue, mut part) =
                (epilogue.sub(rows.clone(), 0..n), c.reborrow().sub(rows.clone(), 0..n));
            let last = (ks.end == k).then_some(&epilogue);
            let target = Target { c: &mut part, base: accumulate.after(ks.start), last };
            let groups = ks.start / GROUP..ks.end.div_ceil(GROUP);
            let strip = Rounded { a: a.sub(rows, ks), b: &b, groups, target };
            Walk { strip, scratch: &mut *scratch, tiles: &mut tiles }.run::<Bf16, S>(s);
        }
    }
}

/// Some rows and steps, rounded on their way.
struct Rounded<'f, 't, 'a> {
    a: MatRef<'a>,
    b: &'f PackedBf16<'a>,
    /// Of eight steps.
    groups: Range<usize>,
    target: Target<'t, 'a>,
}

impl<'a, T: Rounds> Strip<'a, T> for Rounded<'_, '_, 'a> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.a.rows(), self.a.cols().div_ceil(STEPS), self.target.c.cols().div_ceil(LANES))
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, (s, unit): (S, &T), tile: &mut Tile, r: usize, k: usize) {
        let (rows, steps, k0) = (self.a.rows(), self.a.cols(), k * STEPS);
        for (line, r) in tile.iter_mut().zip(r..) {
            let row = if r < rows { self.a.row(r) } else { None };
            if let Some(x) = row.and_then(|row| row[k0..].first_chunk()) {
                unit.round(x, line);
                continue;
            }
            let mut x = [0.0; STEPS];
            if r < rows {
                for (x, k0) in x.as_chunks_mut().0.iter_mut().zip((k0..steps).step_by(LANES)) {
                    s.store(x, load_at(s, self.a, r, k0..(k0 + LANES).min(steps)));
                }
            }
            unit.round(&x, line);
        }
    }

    fn panel(&self, p: usize) -> &'a [Line] {
        Bf16Group::lines(&self.b.0.panel_groups(p)[self.groups.clone()])
    }

    #[inline(always)]
    fn begin<S: Simd>(&self, s: S, (r, p): (usize, usize), sums: &mut Products) -> bool {
        if self.target.base == Accumulate::Overwrite {
            return false;
        }
        let (at, panels) = ((r, p * LANES), Panels::beside(WIDE));
        s.outline(Begin { target: &self.target, at, panels, sums: sums.as_flattened_mut() });
        true
    }

    fn bias(&self, p: usize) -> Option<[Line; WIDE]> {
        self.target.bias_alone(p * LANES)
    }

    #[inline(always)]
    fn rows(&mut self, r: usize, p: usize) -> Option<Rows<'_>> {
        rows(self.target.c.reborrow(), r, p)
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, (r, p): (usize, usize), sums: &Products) {
        s.outline(FinishProducts { target: &mut self.target, at: (r, p * LANES), sums });
    }
}
