//! Packing: A into tiles whose rows step together through k, B into panels of 16 columns.
//!
//! Both move elements and nothing else, so they cannot change a bit. Where k lies side by side in memory
//! (rows of A, weights (n, k)), sixteen rows are transposed 16×16 in registers; where columns do, lines are
//! copied.
//!
//! ```text
//!   rows of A            a tile: MR rows, k by k             transpose 16×16: 64 shuffles on AVX-512
//!   r0 │ a b c d …       a e i m │ b f j n │ c g k o │ …     (an empty row of the tile is +0)
//!   r1 │ e f g h …
//!   r2 │ i j k l …
//! ```

use super::weights::{Element, GROUP};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Cpu, Kernel, LANES, Line};

/// Groups of a packed matrix (k, n).
pub const fn packed_len(k: usize, n: usize) -> usize {
    n.div_ceil(LANES) * k.div_ceil(GROUP)
}

/// Packs B (k, n) once, for [`PackedMatrix`](super::PackedMatrix).
///
/// # Panics
/// Where `out` does not have [`packed_len`]`(k, n)` groups.
pub fn pack<E: Element>(cpu: Cpu, b: MatRef<'_, E>, out: &mut [E::Group]) {
    let (k, n) = (b.rows(), b.cols());
    assert!(
        out.len() == packed_len(k, n),
        "pack ({k}, {n}): {} groups, {} needed",
        out.len(),
        packed_len(k, n)
    );
    if k == 0 {
        return;
    }
    let panels = out.chunks_exact_mut(k.div_ceil(GROUP));
    for (p, panel) in panels.enumerate() {
        let part = b.sub(0..k, p * LANES..((p + 1) * LANES).min(n));
        E::pack_panel(cpu, part, panel);
    }
}

/// One panel of f32.
pub(super) struct PackPanel<'a, 'o>(pub MatRef<'a>, pub &'o mut [[Line; GROUP]]);

impl Kernel for PackPanel<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        panels(s, self.0, self.1);
    }
}

/// `b` (k, n) as ⌈n/16⌉ panels, one after the other; rows and columns that are not there become +0.
#[inline(always)]
pub(super) fn panels<S: Simd>(s: S, b: MatRef<'_>, out: &mut [[Line; GROUP]]) {
    let (k, n) = (b.rows(), b.cols());
    let depth = k.next_multiple_of(GROUP);
    if k == 0 || n == 0 {
        return;
    }
    let out = out.as_flattened_mut();
    if b.row_stride() == 1 && k > 1 {
        for (p, out) in out.chunks_exact_mut(depth).take(n.div_ceil(LANES)).enumerate() {
            let cols = p * LANES..((p + 1) * LANES).min(n);
            panel_of_columns(s, b.sub(0..k, cols).t(), out);
        }
    } else if b.row(0).is_some() {
        panels_of_rows(s, b, out, depth);
    } else {
        for (p, out) in out.chunks_exact_mut(depth).take(n.div_ceil(LANES)).enumerate() {
            for (r, line) in out[..k].iter_mut().enumerate() {
                for (c, x) in line.iter_mut().enumerate() {
                    let c = p * LANES + c;
                    *x = if c < n { b.get(r, c) } else { 0.0 };
                }
            }
        }
    }
    for out in out.chunks_exact_mut(depth).take(n.div_ceil(LANES)) {
        out[k..].fill(Line::ZERO);
    }
}

/// Rows of B side by side in memory: read row by row, across all panels, since memory likes long runs.
#[inline(always)]
fn panels_of_rows<S: Simd>(s: S, b: MatRef<'_>, out: &mut [Line], depth: usize) {
    /// Rows further on that are asked for: what a memory latency takes to copy.
    const AHEAD: usize = 8;
    for r in 0..b.rows() {
        let (lines, rest) = b.row(r).unwrap_or(&[]).as_chunks::<LANES>();
        if r + AHEAD < b.rows() {
            for x in b.row(r + AHEAD).unwrap_or(&[]).iter().step_by(LANES) {
                s.prefetch(x);
            }
        }
        let mut at = r;
        for line in lines {
            s.store(&mut out[at], s.load(line));
            at += depth;
        }
        if !rest.is_empty() {
            s.store(&mut out[at], s.load_tail(rest, 0.0));
        }
    }
}

/// `w` (n ≤ 16, k) with k side by side: sixteen steps of k at a time, transposed in registers.
#[inline(always)]
fn panel_of_columns<S: Simd>(s: S, w: MatRef<'_>, out: &mut [Line]) {
    let k = w.cols();
    let rows = rows_of::<LANES>(w);
    let (whole, rest) = out[..k].as_chunks_mut::<LANES>();
    for (i, out) in whole.iter_mut().enumerate() {
        let steps = sixteen_steps(s, &rows, w.rows(), i * LANES);
        for (line, &step) in out.iter_mut().zip(&steps) {
            s.store(line, step);
        }
    }
    for (i, line) in rest.iter_mut().enumerate() {
        for (x, row) in line.iter_mut().zip(rows) {
            *x = row.get(k - k % LANES + i).copied().unwrap_or(0.0);
        }
    }
}

/// The first N rows as slices; empty where there is none.
#[inline(always)]
fn rows_of<const N: usize>(a: MatRef<'_>) -> [&[f32]; N] {
    let mut rows: [&[f32]; N] = [&[]; N];
    for (r, row) in rows.iter_mut().enumerate().take(a.rows()) {
        *row = a.row(r).unwrap_or(&[]);
    }
    rows
}

/// Steps `at..at + 16` of `n` ≤ N rows, transposed: word i is step `at + i`, lane r its row r (+0 past N and n).
#[inline(always)]
fn sixteen_steps<S: Simd, const N: usize>(s: S, rows: &[&[f32]; N], n: usize, at: usize) -> [S::F32; LANES] {
    let mut lines = [s.splat(0.0); LANES];
    if n == N {
        for (line, row) in lines.iter_mut().zip(rows) {
            *line = s.load(row[at..].first_chunk().expect("sixteen steps"));
        }
    } else {
        for (line, row) in lines.iter_mut().zip(&rows[..n]) {
            *line = s.load(row[at..].first_chunk().expect("sixteen steps"));
        }
    }
    s.transpose(lines)
}

/// [`tile`] as a function of its own.
pub(super) struct Tile<'a, 'o, const MR: usize>(pub MatRef<'a>, pub &'o mut [f32]);

impl<const MR: usize> Kernel for Tile<'_, '_, MR> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        tile::<S, MR>(s, self.0, self.1);
    }
}

/// `a` (rows ≤ MR, k) as a tile: `out[k·MR + r]`; rows that are not there become +0. `out` has 16 floats more
/// than the tile, which are overwritten.
#[inline(always)]
pub(super) fn tile<S: Simd, const MR: usize>(s: S, a: MatRef<'_>, out: &mut [f32]) {
    let (n, k) = (a.rows(), a.cols());
    let whole = if n > 0 && a.row(0).is_some() { k / LANES * LANES } else { 0 };
    let rows = rows_of::<MR>(a);
    for at in (0..whole).step_by(LANES) {
        let steps = sixteen_steps(s, &rows, n, at);
        // Whole lines: what one writes past MR is written over by the next, or is the slack.
        let out = &mut out[at * MR..][..LANES * MR + LANES];
        for (i, &step) in steps.iter().enumerate() {
            s.store(out[i * MR..].first_chunk_mut().expect("sixteen floats of slack"), step);
        }
    }
    for (k, out) in out.chunks_exact_mut(MR).enumerate().take(k).skip(whole) {
        for (r, x) in out.iter_mut().enumerate() {
            *x = if r < n { a.get(r, k) } else { 0.0 };
        }
    }
}
