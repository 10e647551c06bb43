//! Small products (one block of k, A and B in the first caches): nothing is packed.
//!
//! The tile of `many.rs` without what a small product has no need of: sums between blocks, slivers, edges. At the
//! lower edge a tile is moved back until it is whole: what it computes twice comes out the same.

use super::tile::{chain, store};
use super::weights::GROUP;
use super::{Accumulate, Gemm, K_BLOCK, Weights};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef, Stripe};
use crate::{Kernel, LANES, Line};

/// Floats of A, and of B, up to which they are read where they lie: 64 KiB each.
const MAX: usize = 1 << 14;
/// Rows of the largest tile: no fewer, or it could not be moved back. And its columns.
const MIN_ROWS: usize = 12;
const MIN_COLS: usize = 32;

/// Whether A, B and C are small, lie row by row, and C is overwritten with the sum alone; and the tier has the
/// registers (with sixteen, twelve row pointers and a tile do not go together: packing is faster there).
#[inline(always)]
pub(super) fn takes<S: Simd, W: Weights>(job: &Gemm<'_, W>) -> bool {
    let (m, k, n) = (job.a.rows(), job.a.cols(), job.c.cols());
    let small = m * k <= MAX && k * n <= MAX && m >= MIN_ROWS && n.is_multiple_of(MIN_COLS);
    let plain = job.accumulate == Accumulate::Overwrite && job.epilogue.is_none();
    let by_rows = |x: MatRef<'_>| x.col_stride() == 1;
    S::TILE.1 == 3
        && small
        && plain
        && (1..=K_BLOCK).contains(&k)
        && k.is_multiple_of(GROUP)
        && by_rows(job.a)
        && job.c.col_stride() == 1
        && job.b.as_rows().is_some_and(by_rows)
}

#[inline(always)]
pub(super) fn run<S: Simd>(s: S, a: MatRef<'_>, b: MatRef<'_>, mut c: MatMut<'_>) {
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    let mut r = 0;
    while r < m {
        let mr = match m - r {
            9.. => 12,
            5.. => 8,
            _ => 4,
        };
        let rows = r.min(m - mr)..r.min(m - mr) + mr;
        for col in (0..n).step_by(MIN_COLS) {
            let cols = col..col + MIN_COLS;
            let (a, b) = (a.sub(rows.clone(), 0..k), b.sub(0..k, cols.clone()));
            let c = c.reborrow().sub(rows.clone(), cols);
            match mr {
                12 => s.outline(Tile::<12> { a, b, c }),
                8 => s.outline(Tile::<8> { a, b, c }),
                _ => s.outline(Tile::<4> { a, b, c }),
            }
        }
        r += mr;
    }
}

/// Panels of 16 columns in a tile.
const NP: usize = 2;

/// MR rows of A (MR, k), two panels of B (k, 32), their place in C.
struct Tile<'a, const MR: usize> {
    a: MatRef<'a>,
    b: MatRef<'a>,
    c: MatMut<'a>,
}

impl<const MR: usize> Kernel for Tile<'_, MR> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { a, b, mut c } = self;
        let k = a.cols();
        let rows = a.band::<MR>(0..k).expect("rows side by side");
        let mut panels = [Stripe::EMPTY; NP];
        for (p, panel) in panels.iter_mut().enumerate() {
            *panel = Stripe::of(b.sub(0..k, p * LANES..(p + 1) * LANES)).expect("sixteen columns");
        }
        let acc = chain(s, rows, panels, 0);
        store(s, &mut c.tile::<MR, NP>(), const { &[[Line::ZERO; NP]; MR] }, &acc);
    }
}
