//! Few rows (m ≤ 8) times a large B (k, n) that lies row by row: B is read once, in long runs.
//!
//! ```text
//!                1024 columns
//!          k0 │ ──────────────► │   eight rows at a time, two panels of 16 after the other;
//!             │ ──────────────► │   the m chains of all 1024 columns wait meanwhile
//!          k0+8 ──────────────► │   these are asked for while those are computed with
//! ```
//!
//! **Law.**  A chain that waits in memory is the same chain: f32 in, f32 out.
//!
//! A lies as it likes: a transposed one is what the gradient of a low rank has, dA = hᵀ x.
//!
//! **Cost.**  k·n floats read once: memory binds, at eight rows the FMA as much. Sums cost a load and a store in
//! eight steps.

#![allow(clippy::needless_range_loop)] // see `tile.rs`

use super::epilogue::{Begin, Finish, Panels, Target};
use super::weights::GROUP;
use super::{FEW, Gemm, K_BLOCK, Weights};
use crate::simd::{Floats, Simd};
use crate::view::MatRef;
use crate::{Kernel, LANES, Line};

/// Panels of 16 columns side by side.
const NP: usize = 2;
/// Lines of a strip: a page.
const STRIP: usize = 64;
/// Floats of B from which on this pays: what does not stay in L2.
const LARGE: usize = 1 << 18;

/// Lines of a block of A, step by step.
const STEPS: usize = FEW * K_BLOCK / LANES;

/// Lines of scratch: a block of A, the chains of a strip, and its running sums.
pub(super) const SCRATCH: usize = STEPS + 2 * FEW * STRIP;

/// How many columns of such a product go this way: as far as there are pairs of panels.
#[inline(always)]
pub(super) fn columns<W: Weights>(job: &Gemm<'_, W>) -> usize {
    let few = (1..=FEW).contains(&job.a.rows());
    let large = |b: &MatRef<'_>| b.col_stride() == 1 && b.rows() > 1 && b.rows() * b.cols() >= LARGE;
    match job.b.as_rows().filter(large) {
        Some(b) if few => b.cols() / (NP * LANES) * (NP * LANES),
        _ => 0,
    }
}

/// The product with `b` (k, n), n a multiple of 32.
#[inline(always)]
pub(super) fn run<S: Simd>(s: S, a: MatRef<'_>, b: MatRef<'_>, target: Target<'_, '_>, room: &mut [Line]) {
    match a.rows() {
        1 => s.outline(Strips::<1> { a, b, target, room }),
        2 => s.outline(Strips::<2> { a, b, target, room }),
        _ if S::TILE.1 < 3 => s.outline(Strips::<2> { a, b, target, room }),
        3..=4 => s.outline(Strips::<4> { a, b, target, room }),
        _ => s.outline(Strips::<8> { a, b, target, room }),
    }
}

/// Strip after strip, MR rows at a time.
struct Strips<'f, 't, 'a, const MR: usize> {
    /// (m, k)
    a: MatRef<'f>,
    /// (k, n)
    b: MatRef<'f>,
    target: Target<'t, 'a>,
    room: &'f mut [Line],
}

impl<const MR: usize> Kernel for Strips<'_, '_, '_, MR> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Strips { a, b, mut target, room } = self;
        let (m, k, n) = (a.rows(), b.rows(), b.cols());
        let rows = m.next_multiple_of(MR);
        let (x, room) = room.split_at_mut(STEPS);
        let (x, _) = Line::floats_mut(x).as_chunks_mut::<FEW>();
        for col in (0..n).step_by(STRIP * LANES) {
            let b = b.sub(0..k, col..(col + STRIP * LANES).min(n));
            let lines = b.cols() / LANES;
            let (acc, sums) = room[..2 * rows * lines].split_at_mut(rows * lines);
            s.outline(Begin {
                target: &target,
                at: (0, col),
                panels: Panels::beside(lines),
                sums: &mut *sums,
            });
            for k0 in (0..k).step_by(K_BLOCK) {
                let ks = k0..(k0 + K_BLOCK).min(k);
                by_steps(a.sub(0..m, ks.clone()), x);
                acc.fill(Line::ZERO);
                for (x, g) in x.chunks(GROUP).zip(ks.clone().step_by(GROUP)) {
                    group::<S, MR>(s, &x[..GROUP.min(ks.end - g)], (b, g), acc);
                }
                for (sum, acc) in sums.iter_mut().zip(&*acc) {
                    let v = s.add(s.load(sum), s.load(acc));
                    s.store(sum, v);
                }
            }
            s.outline(Finish {
                target: &mut target,
                at: (0, col),
                panels: Panels::beside(lines),
                sums: &sums[..m * lines],
            });
        }
    }
}

/// A block of A (m, k), transposed: a step of all rows lies together; past the last row, the last again.
fn by_steps(a: MatRef<'_>, x: &mut [[f32; FEW]]) {
    let (last, columns) = (a.rows() - 1, a.t());
    for r in 0..FEW {
        for (step, &a) in x.iter_mut().zip(a.row(r.min(last)).unwrap_or(&[])) {
            step[r] = a;
        }
    }
    if a.row(0).is_some() {
        return;
    }
    for (k, step) in x.iter_mut().enumerate().take(a.cols()) {
        match columns.row(k) {
            Some(column) => step[..=last].copy_from_slice(column),
            None => (0..=last).for_each(|r| step[r] = a.get(r, k)),
        }
        let copy = step[last];
        step[last..].fill(copy);
    }
}

/// Eight steps of k, or fewer, from row `g` of B on, of all chains of a strip: `acc` (rows, lines of the strip).
#[inline(always)]
fn group<S: Simd, const MR: usize>(s: S, x: &[[f32; FEW]], (b, g): (MatRef<'_>, usize), acc: &mut [Line]) {
    let (k, lines) = (b.rows(), b.cols() / LANES);
    let end = g + x.len();
    for col in (0..lines).step_by(NP) {
        for next in end..(end + GROUP).min(k) {
            let row = b.row(next).unwrap_or(&[]);
            for p in 0..NP {
                s.prefetch_far(&row[(col + p) * LANES]);
            }
        }
        let part = b.sub(g..end, col * LANES..(col + NP) * LANES);
        for (r, acc) in acc.chunks_mut(MR * lines).enumerate() {
            eight::<S, MR>(s, (x, r * MR), part, (&mut acc[col..], lines));
        }
    }
}

/// MR rows of x, from the given one on, with the eight or fewer rows of two panels; the chains' lines are `stride`
/// apart from row to row.
#[inline(always)]
fn eight<S: Simd, const MR: usize>(
    s: S,
    (x, row): (&[[f32; FEW]], usize),
    b: MatRef<'_>,
    (lines, stride): (&mut [Line], usize),
) {
    let mut acc = [[s.splat(0.0); NP]; MR];
    for r in 0..MR {
        for p in 0..NP {
            acc[r][p] = s.load(&lines[r * stride + p]);
        }
    }
    for (i, x) in x.iter().enumerate() {
        let x: &[f32; MR] = x[row..].first_chunk().expect("MR rows");
        let b: &[Floats; NP] = b.row(i).unwrap_or(&[]).as_chunks().0.first_chunk().expect("NP lines");
        let mut line = [s.splat(0.0); NP];
        for p in 0..NP {
            line[p] = s.load(&b[p]);
        }
        for r in 0..MR {
            let x = s.splat(x[r]);
            for p in 0..NP {
                acc[r][p] = s.fma(x, line[p], acc[r][p]);
            }
        }
    }
    for r in 0..MR {
        for p in 0..NP {
            s.store(&mut lines[r * stride + p], acc[r][p]);
        }
    }
}
