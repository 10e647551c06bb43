//! Few rows (m ≤ 8) times weights (n, k) as they lie, row by row: `Linear` without packing.
//!
//! ```text
//!   weights (n, k)               sixteen steps of sixteen rows         m chains of sixteen columns
//!   n0  │ a b c d … │ …          a e i m …      lane j: row n0 + j      acc₀ ← x₀ₖ · step + acc₀
//!   n1  │ e f g h … │ …   ──►    b f j n …                       ──►    acc₁ ← x₁ₖ · step + acc₁
//!   ⋮     16 rows, each read on  ⋮  transposed in registers             ⋮
//! ```
//!
//! **Cost.**  Weights are read once: memory binds. Sixteen rows side by side are no stream that prefetchers run far
//! ahead of, so each row is asked for a KiB before, into L2: in L1 rows of a round length would drive each other out.
//! A KiB of weights costs 64 shuffles and 16·m FMAs; from four rows on these bind. 4096²
//! on Zen 4: 21 GB/s of the 21 to 26 that plain reading has there (avx2: 16, the transposing binds).

#![allow(clippy::needless_range_loop)] // see `tile.rs`

use super::epilogue::{Begin, Finish, Panels, Target};
use super::{FEW, Gemm, K_BLOCK, Weights};
use crate::simd::{Floats, Simd};
use crate::view::MatRef;
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// Floats between what is read of a row and what is asked for.
const AHEAD: usize = 256;

/// Whether this is such a product.
#[inline(always)]
pub(super) fn takes<W: Weights>(job: &Gemm<'_, W>) -> bool {
    let by_columns = |b: MatRef<'_>| b.row_stride() == 1 && b.rows() > 1;
    (1..=FEW).contains(&job.a.rows()) && job.a.col_stride() == 1 && job.b.as_rows().is_some_and(by_columns)
}

#[inline(always)]
pub(super) fn run<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, sums: &mut [Line]) {
    let Gemm { a, b, mut c, accumulate, epilogue } = job;
    let Some(w) = b.as_rows().map(MatRef::t) else { return };
    let target = Target { c: &mut c, base: accumulate, last: Some(&epilogue) };
    match a.rows() {
        1 => s.outline(Sixteens::<1> { a, w, target, sums }),
        2 => s.outline(Sixteens::<2> { a, w, target, sums }),
        3..=4 => s.outline(Sixteens::<4> { a, w, target, sums }),
        _ => s.outline(Sixteens::<8> { a, w, target, sums }),
    }
}

/// Sixteen columns of C after the other.
struct Sixteens<'f, 't, 'a, const MR: usize> {
    /// (≤ MR, k)
    a: MatRef<'f>,
    /// (n, k)
    w: MatRef<'f>,
    target: Target<'t, 'a>,
    sums: &'f mut [Line],
}

impl<const MR: usize> Kernel for Sixteens<'_, '_, '_, MR> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sixteens { a, w, mut target, sums } = self;
        let (n, k) = (w.rows(), w.cols());
        let sums = &mut sums[..MR];
        for col in (0..n).step_by(LANES) {
            s.outline(Begin { target: &target, at: (0, col), panels: Panels::beside(1), sums: &mut *sums });
            let here = w.sub(col..(col + LANES).min(n), 0..k);
            for k0 in (0..k).step_by(K_BLOCK) {
                let acc = chain::<S, MR>(s, here, a, k0..(k0 + K_BLOCK).min(k));
                for r in 0..MR {
                    let sum = s.add(s.load(&sums[r]), acc[r]);
                    s.store(&mut sums[r], sum);
                }
            }
            s.outline(Finish { target: &mut target, at: (0, col), panels: Panels::beside(1), sums: &*sums });
        }
    }
}

/// Chains over one block of k: MR rows of x with sixteen rows of weights; past the last row, the last again.
#[inline(always)]
fn chain<S: Simd, const MR: usize>(s: S, w: MatRef<'_>, x: MatRef<'_>, ks: Range<usize>) -> [S::F32; MR] {
    let k = ks.len();
    // Past the end of these rows come the next sixteen.
    let next = w.row_stride().wrapping_mul(LANES as isize).wrapping_sub(w.cols() as isize);
    let left = w.cols() - ks.start;
    let rows: [&[f32]; LANES] = w.band(ks.clone()).expect("rows side by side");
    let x: [&[f32]; MR] = x.band(ks).expect("rows side by side");
    let mut acc = [s.splat(0.0); MR];
    for at in (0..k / LANES * LANES).step_by(LANES) {
        let (mut w16, mut x16) = ([&[0.0; LANES]; LANES], [&[0.0; LANES]; MR]);
        let ahead = if at + AHEAD < left { 0 } else { next };
        for (line, row) in w16.iter_mut().zip(&rows) {
            *line = row[at..].first_chunk().expect("sixteen steps");
            s.prefetch_far(line.as_ptr().wrapping_add(AHEAD).wrapping_offset(ahead));
        }
        for (line, row) in x16.iter_mut().zip(&x) {
            *line = row[at..].first_chunk().expect("sixteen steps");
        }
        acc = s.fma_rows(acc, &w16, x16);
    }
    if !k.is_multiple_of(LANES) {
        let rest = k / LANES * LANES;
        let mut steps = [[0.0; LANES]; LANES];
        for (r, row) in rows.iter().enumerate() {
            for (step, &w) in steps.iter_mut().zip(&row[rest..]) {
                step[r] = w;
            }
        }
        for (i, step) in steps.iter().enumerate().take(k - rest) {
            let step: &Floats = step;
            for r in 0..MR {
                acc[r] = s.fma(s.splat(x[r][rest + i]), s.load(step), acc[r]);
            }
        }
    }
    acc
}
