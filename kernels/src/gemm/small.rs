//! Small products (one block of k, A and B in the first caches): nothing is packed.
//!
//! At 64³ packing A alone would take a sixth of the time. Here rows of A are read where they lie, one pointer
//! a row, and lines of B straight from its rows: the same tile, the same chains, other addresses. At the lower
//! and right edge a tile is moved back until it is whole: what it computes twice comes out the same.

use super::{Accumulate, Gemm, K_BLOCK, Weights};
use crate::simd::{Floats, Simd};
use crate::view::{MatMut, MatRef};
use crate::{Kernel, LANES};

/// Floats of A, and of B, up to which they are read where they lie: 64 KiB each.
const MAX: usize = 1 << 14;
/// Rows and columns of the largest tile: no fewer, or it could not be moved back.
const MIN_ROWS: usize = 12;
const MIN_COLS: usize = 32;

/// Whether A, B and C are small, lie row by row, and C is overwritten with the sum alone; and the tier has the
/// registers (with sixteen, twelve row pointers and a tile do not go together: packing is faster there).
#[inline(always)]
pub(super) fn takes<S: Simd, W: Weights>(job: &Gemm<'_, W>) -> bool {
    let (m, k, n) = (job.a.rows(), job.a.cols(), job.c.cols());
    let small = m * k <= MAX && k * n <= MAX && m >= MIN_ROWS && n >= MIN_COLS && n.is_multiple_of(LANES);
    let plain = job.accumulate == Accumulate::Overwrite && job.epilogue.is_none();
    let by_rows = |x: MatRef<'_>| x.col_stride() == 1;
    S::TILE == (12, 2)
        && small
        && plain
        && (1..=K_BLOCK).contains(&k)
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
            let cols = col.min(n - MIN_COLS)..col.min(n - MIN_COLS) + MIN_COLS;
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

#[allow(clippy::needless_range_loop)]
impl<const MR: usize> Kernel for Tile<'_, MR> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const STEPS: usize = 8;
        let Tile { a, b, mut c } = self;
        let k = a.cols();
        let mut rows: [&[f32]; MR] = [&[]; MR];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &a.row(r).expect("a row that lies side by side")[..k];
        }
        let mut acc = [[s.splat(0.0); NP]; MR];
        for at in (0..k / STEPS * STEPS).step_by(STEPS) {
            let mut eight = [&[0.0; STEPS]; MR];
            for (eight, row) in eight.iter_mut().zip(&rows) {
                *eight = row[at..].first_chunk().expect("eight steps");
            }
            // Indices, not iterators: a loop whose length the compiler does not see keeps `acc` in memory.
            for i in 0..STEPS {
                let line = lines(s, &b, at + i);
                for r in 0..MR {
                    step(s, &mut acc[r], eight[r][i], &line);
                }
            }
        }
        for at in k / STEPS * STEPS..k {
            let line = lines(s, &b, at);
            for r in 0..MR {
                step(s, &mut acc[r], rows[r][at], &line);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            let row = c.row(r).expect("a row that lies side by side");
            let places: &mut [Floats; NP] = row.as_chunks_mut().0.first_chunk_mut().expect("NP lines");
            for p in 0..NP {
                s.store(&mut places[p], s.add(s.splat(0.0), acc[p]));
            }
        }
    }
}

/// Row `k` of B as lines.
#[inline(always)]
fn lines<S: Simd>(s: S, b: &MatRef<'_>, k: usize) -> [S::F32; NP] {
    let row = b.row(k).expect("a row that lies side by side");
    let places: &[Floats; NP] = row.as_chunks().0.first_chunk().expect("NP lines");
    let mut lines = [s.splat(0.0); NP];
    for p in 0..NP {
        lines[p] = s.load(&places[p]);
    }
    lines
}

/// One row's step of k.
#[inline(always)]
fn step<S: Simd>(s: S, acc: &mut [S::F32; NP], a: f32, line: &[S::F32; NP]) {
    let a = s.splat(a);
    for p in 0..NP {
        acc[p] = s.fma(a, line[p], acc[p]);
    }
}
