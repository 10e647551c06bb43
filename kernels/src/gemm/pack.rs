//! Copying, where it pays: B into panels of 16 columns, rows of A to where they do not drive each other out of a
//! cache.
//!
//! Both move elements and nothing else, so they cannot change a bit. Where a line of the copy lies across memory
//! (weights (n, k), a transposed A), sixteen by sixteen are transposed in registers; else lines are copied.
//!
//! ```text
//!   weights (n, k)       a panel: 16 columns, k by k         transpose 16×16: 64 shuffles on AVX-512
//!   n0 │ a b c d …       a e i m │ b f j n │ c g k o │ …     (a column past n is +0)
//!   n1 │ e f g h …
//!   n2 │ i j k l …
//! ```

use super::weights::{Bf16, Bf16Group, Element, GROUP};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Cpu, Kernel, LANES, Line};
use core::ops::Range;

/// Groups of a packed matrix (k, n).
pub const fn packed_len(k: usize, n: usize) -> usize {
    n.div_ceil(LANES) * k.div_ceil(GROUP)
}

/// Packs B (k, n) once, for [`PackedMatrix`](super::PackedMatrix).
///
/// ```
/// use samebits_kernels::gemm::{Bf16, Bf16Group, Element, F16, GROUP, Gemm, HalfGroup, PackedMatrix};
/// use samebits_kernels::gemm::{pack, packed_len};
/// use samebits_kernels::{Cpu, Line, half::f32_to_f16, view::{MatMut, MatRef}};
/// /// Σ of the columns of b (k, n), by a product with ones.
/// fn column_sums<E: Element>(b: MatRef<E>) -> Vec<f32> {
///     let (cpu, k, n) = (Cpu::detect(), b.rows(), b.cols());
///     let mut groups: Vec<E::Group> = vec![E::ZERO; packed_len(k, n)];
///     pack(cpu, b, &mut groups);
///     let (ones, mut c) = (vec![1.0; k], vec![0.0; n]);
///     let job = Gemm::new(MatRef::new(&ones, 1, k), PackedMatrix::<E>::new(&groups, k, n), MatMut::new(&mut c, 1, n));
///     job.run(cpu, &mut vec![Line::ZERO; 1000]);
///     c
/// }
/// assert_eq!(column_sums(MatRef::new(&[1.0, 2.0, 3.0, 4.0], 2, 2)), [4.0, 6.0]);
/// let halves = [1.5, 2.0].map(f32_to_f16);
/// assert_eq!(column_sums(MatRef::new(F16::slice(&halves), 2, 1)), [3.5]);
/// assert_eq!(column_sums(MatRef::new(&[Bf16(0x3f80), Bf16(0x4000)], 2, 1)), [3.0]); // 1 + 2
/// // Bytes of eight rows of sixteen: packed as they are stored.
/// let bytes = [size_of::<HalfGroup>(), size_of::<Bf16Group>(), size_of::<[Line; GROUP]>()];
/// assert_eq!(bytes, [256, 256, 512]);
/// ```
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
        panels(s, self.0, self.1.len(), self.1);
    }
}

/// One panel of bfloat16.
pub(super) struct PackPanelBf16<'a, 'o>(pub MatRef<'a, Bf16>, pub &'o mut [Bf16Group]);

impl Kernel for PackPanelBf16<'_, '_> {
    type Output = ();
    /// Weights (n, k) hold rows 2j and 2j + 1 of a column side by side, which is the word that the panel wants: words
    /// are transposed, sixteen by sixteen, as f32 are.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PackPanelBf16(b, out) = self;
        let (k, n) = (b.rows(), b.cols());
        let by_words = if b.row_stride() == 1 && k > 1 { k - k % (2 * LANES) } else { 0 };
        let mut columns: [&[Bf16]; LANES] = [&[]; LANES];
        for (c, column) in columns.iter_mut().enumerate().take(n) {
            *column = b.t().row(c).unwrap_or(&[]);
        }
        let (whole, rest) = out.split_at_mut(by_words / GROUP);
        let mut words = whole.iter_mut().flat_map(Bf16Group::words);
        for at in (0..by_words).step_by(2 * LANES) {
            let mut lines = [s.splat(0.0); LANES];
            for (line, column) in lines.iter_mut().zip(&columns).take(n) {
                let (pairs, _) = column[at..at + 2 * LANES].as_chunks::<2>();
                let mut word = [0; LANES];
                for (word, [low, high]) in word.iter_mut().zip(pairs) {
                    *word = i32::from(low.0) | i32::from(high.0) << 16;
                }
                *line = s.of_bits(s.load_i(&word));
            }
            for line in s.transpose(lines) {
                if let Some(word) = words.next() {
                    s.store_i(word, s.bits(line));
                }
            }
        }
        rest.fill(Bf16::ZERO);
        for r in by_words..k {
            for c in 0..n {
                Bf16::put(&mut rest[(r - by_words) / GROUP], r % GROUP, c, b.get(r, c));
            }
        }
    }
}

/// `b` (k, n) as ⌈n/16⌉ panels, `groups` apart; rows and columns that are not there become +0.
#[inline(always)]
pub(super) fn panels<S: Simd>(s: S, b: MatRef<'_>, groups: usize, out: &mut [[Line; GROUP]]) {
    let (k, n) = (b.rows(), b.cols());
    let depth = groups * GROUP;
    if k == 0 || n == 0 {
        return;
    }
    let out = out.as_flattened_mut();
    if b.row_stride() == 1 && k > 1 {
        for (p, out) in out.chunks_mut(depth).take(n.div_ceil(LANES)).enumerate() {
            let cols = p * LANES..((p + 1) * LANES).min(n);
            panel_of_columns(s, b.sub(0..k, cols).t(), out);
        }
    } else if b.row(0).is_some() {
        panels_of_rows(s, b, out, depth);
    } else {
        for (p, out) in out.chunks_mut(depth).take(n.div_ceil(LANES)).enumerate() {
            for (r, line) in out[..k].iter_mut().enumerate() {
                for (c, x) in line.iter_mut().enumerate() {
                    let c = p * LANES + c;
                    *x = if c < n { b.get(r, c) } else { 0.0 };
                }
            }
        }
    }
    for out in out.chunks_mut(depth).take(n.div_ceil(LANES)) {
        out[k..k.next_multiple_of(GROUP)].fill(Line::ZERO);
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

/// Lines from a row of a copy to the next: an odd number, so that sixteen rows side by side lie in sixteen sets of
/// the first cache.
pub(crate) const fn row_lines(k: usize) -> usize {
    k.div_ceil(LANES) | 1
}

/// Whether a tile can read its rows of A where they lie: side by side, and not all of them in the same few sets of
/// the first cache, where they would drive each other out.
pub(super) fn reads_in_place(a: MatRef<'_>) -> bool {
    let apart = !a.row_stride().unsigned_abs().is_multiple_of(SAME_SETS);
    (a.col_stride() == 1 || a.cols() <= 1) && (apart || a.rows() <= 1)
}

/// Floats after which the first cache's sets begin anew.
const SAME_SETS: usize = 1024;

/// Rows so many floats apart of which a line each can be in a second-level cache of 1 MiB and 8 ways.
pub(super) fn rows_in_l2(row_stride: isize) -> usize {
    const SETS: usize = 2048;
    const WAYS: usize = 8;
    let stride = row_stride.unsigned_abs();
    let lines = if stride.is_multiple_of(LANES) { stride / LANES } else { 1 };
    (SETS >> lines.trailing_zeros().min(SETS.trailing_zeros())) * WAYS
}

/// Whether rows `ks` of B can be read where they lie by one tile of A after the other: side by side, and not all of
/// them in the same few sets of the second cache. Where they share a set of the first, they come from the second each
/// time, which tiles of few rows have no time for.
#[inline(always)]
pub(super) fn stays_in_place<S: Simd>(b: &MatRef<'_>, ks: &Range<usize>) -> bool {
    let patient = S::TILE.1 == 3 || !b.row_stride().unsigned_abs().is_multiple_of(SAME_SETS);
    b.col_stride() == 1 && ks.len().is_multiple_of(GROUP) && ks.len() <= rows_in_l2(b.row_stride()) && patient
}

/// Copies rows of `a` (m, k), each to [`row_lines`] lines of its own.
pub(super) struct Rows<'a, 'o>(pub MatRef<'a>, pub &'o mut [Line]);

impl Kernel for Rows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows(a, out) = self;
        let (m, k, lines) = (a.rows(), a.cols(), row_lines(a.cols()));
        if a.row_stride() == 1 && m > 1 {
            return rows_of_columns(s, a, out);
        }
        for (r, out) in out.chunks_exact_mut(lines).take(m).enumerate() {
            if let Some(row) = a.row(r) {
                let (whole, rest) = row.as_chunks::<LANES>();
                for (out, line) in out.iter_mut().zip(whole) {
                    s.store(out, s.load(line));
                }
                if !rest.is_empty() {
                    s.store(&mut out[whole.len()], s.load_tail(rest, 0.0));
                }
            } else {
                gather(a, r, &mut Line::floats_mut(out)[..k]);
            }
        }
    }
}

/// Row `r`, whatever its strides.
fn gather(a: MatRef<'_>, r: usize, out: &mut [f32]) {
    for (c, x) in out.iter_mut().enumerate() {
        *x = a.get(r, c);
    }
}

/// `a` (m, k), its columns side by side in memory, to rows: transposed in registers, sixteen by sixteen. A column's
/// part is a few lines, and the next column's far away: no processor guesses that, so they are asked for.
#[inline(always)]
fn rows_of_columns<S: Simd>(s: S, a: MatRef<'_>, out: &mut [Line]) {
    /// Columns further on that are asked for.
    const AHEAD: usize = 2 * LANES;
    let (m, k, lines, columns) = (a.rows(), a.cols(), row_lines(a.cols()), a.t());
    for at in (0..k).step_by(LANES) {
        for c in at + AHEAD..(at + AHEAD + LANES).min(k) {
            for x in columns.row(c).unwrap_or(&[]).iter().step_by(LANES) {
                s.prefetch_far(x);
            }
        }
        for r in (0..m).step_by(LANES) {
            let mut steps = [s.splat(0.0); LANES];
            for (step, c) in steps.iter_mut().zip(at..k) {
                let column = columns.row(c).and_then(|column| column.get(r..)).unwrap_or(&[]);
                *step = match column.first_chunk() {
                    Some(line) => s.load(line),
                    None => s.load_tail(column, 0.0),
                };
            }
            let rows = s.transpose(steps);
            for (out, &row) in out[r * lines..].chunks_mut(lines).zip(&rows).take(m - r) {
                s.store(&mut out[at / LANES], row);
            }
        }
    }
}
