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
use core::array::from_fn;

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
        panel(s, self.0, self.1);
    }
}

/// `b` (k, ≤ 16 columns) as one panel; rows and columns that are not there become +0.
#[inline(always)]
pub(super) fn panel<S: Simd>(s: S, b: MatRef<'_>, out: &mut [[Line; GROUP]]) {
    let (k, n) = (b.rows(), b.cols());
    let out = out.as_flattened_mut();
    if n > 0 && b.t().row(0).is_some() && b.row_stride() == 1 && k > 1 {
        panel_of_columns(s, b.t(), out);
    } else if k > 0 && b.row(0).is_some() {
        for (r, line) in out[..k].iter_mut().enumerate() {
            let row = b.row(r).unwrap_or(&[]);
            match row.first_chunk() {
                Some(row) => s.store(line, s.load(row)),
                None => s.store(line, s.load_tail(row, 0.0)),
            }
        }
    } else {
        for (r, line) in out[..k].iter_mut().enumerate() {
            *line = Line(from_fn(|c| if c < n { b.get(r, c) } else { 0.0 }));
        }
    }
    out[k..].fill(Line::ZERO);
}

/// `w` (n ≤ 16, k) with k side by side: sixteen steps of k at a time, transposed in registers.
#[inline(always)]
fn panel_of_columns<S: Simd>(s: S, w: MatRef<'_>, out: &mut [Line]) {
    let rows: [&[f32]; LANES] = from_fn(|c| if c < w.rows() { w.row(c).unwrap_or(&[]) } else { &[] });
    let k = w.cols();
    for (i, out) in out[..k].chunks_mut(LANES).enumerate() {
        for (line, column) in out.iter_mut().zip(columns(s, &rows, i * LANES)) {
            s.store(line, column);
        }
    }
}

/// Sixteen steps from `at` of sixteen rows: step i is word i, lane r its row r.
#[inline(always)]
fn columns<S: Simd>(s: S, rows: &[&[f32]; LANES], at: usize) -> [S::F32; LANES] {
    // A loop, not `from_fn`: a closure with a body of this size is not inlined, and so loses its tier.
    let mut lines = [s.splat(0.0); LANES];
    for (line, row) in lines.iter_mut().zip(rows) {
        *line = sixteen(s, row, at);
    }
    s.transpose(lines)
}

/// Elements `at..at + 16` of a row; those past its end are +0.
#[inline(always)]
fn sixteen<S: Simd>(s: S, row: &[f32], at: usize) -> S::F32 {
    let rest = row.get(at..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(line) => s.load(line),
        None => s.load_tail(rest, 0.0),
    }
}

/// `a` (rows ≤ MR, k) as a tile: `out[k·MR + r]`; rows that are not there become +0. `out` has 16 floats more
/// than the tile, which are overwritten.
#[inline(always)]
pub(super) fn tile<S: Simd, const MR: usize>(s: S, a: MatRef<'_>, out: &mut [f32]) {
    let (rows, k) = (a.rows(), a.cols());
    if rows > 0 && a.row(0).is_some() {
        let row: [&[f32]; LANES] = from_fn(|r| if r < rows { a.row(r).unwrap_or(&[]) } else { &[] });
        for at in (0..k).step_by(LANES) {
            for (i, column) in columns(s, &row, at).into_iter().take(k - at).enumerate() {
                // A whole line: what it writes past MR is written over by the next, or is the slack.
                let place = &mut out[(at + i) * MR..];
                s.store(place.first_chunk_mut().expect("sixteen floats of slack"), column);
            }
        }
    } else {
        for (i, place) in out.chunks_exact_mut(MR).take(k).enumerate() {
            for (r, x) in place.iter_mut().enumerate() {
                *x = if r < rows { a.get(r, i) } else { 0.0 };
            }
        }
    }
}
