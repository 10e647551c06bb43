//! A and C, in `f32` or in bfloat16.
//!
//! **Law.**   C in bfloat16 is C in `f32`, rounded as a row of A is on its way: to nearest even, what is less than 2⁻⁵⁰ to
//! 0. So a product whose result is A of the next one gives it the same bits, whichever of the two lies in memory.

use super::{rounded, settled};
use crate::gemm::epilogue::load_at;
use crate::gemm::{Accumulate, Bf16};
use crate::simd::Simd;
use crate::view::{Layout, MatMut, MatRef};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// A, (m, k), any strides.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// Rounded on its way.
    F32(MatRef<'a>),
    /// As it is, but for what is less than 2⁻⁵⁰: that is 0.
    Bf16(MatRef<'a, Bf16>),
}

impl<'a> From<MatRef<'a>> for Left<'a> {
    fn from(a: MatRef<'a>) -> Self {
        Left::F32(a)
    }
}

impl<'a> From<MatRef<'a, Bf16>> for Left<'a> {
    fn from(a: MatRef<'a, Bf16>) -> Self {
        Left::Bf16(a)
    }
}

impl Left<'_> {
    /// m.
    pub const fn rows(&self) -> usize {
        match self {
            Left::F32(a) => a.rows(),
            Left::Bf16(a) => a.rows(),
        }
    }

    /// k.
    pub const fn cols(&self) -> usize {
        match self {
            Left::F32(a) => a.cols(),
            Left::Bf16(a) => a.cols(),
        }
    }

    /// The part at `rows` and `cols`.
    ///
    /// # Panics
    /// Where it leaves the matrix.
    #[must_use]
    pub fn sub(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        match self {
            Left::F32(a) => Left::F32(a.sub(rows, cols)),
            Left::Bf16(a) => Left::Bf16(a.sub(rows, cols)),
        }
    }

    /// Row `r`, columns `cols` (at most 16), as they are multiplied, then +0.
    #[inline(always)]
    pub(super) fn load<S: Simd>(self, s: S, r: usize, cols: Range<usize>) -> S::F32 {
        match self {
            Left::F32(a) => rounded(s, load_at(s, a, r, cols)),
            Left::Bf16(a) => settled(s, load_halves(s, a, r, cols)),
        }
    }
}

/// Row `r`, columns `cols` (at most 16), then +0.
#[inline(always)]
fn load_halves<S: Simd>(s: S, a: MatRef<'_, Bf16>, r: usize, cols: Range<usize>) -> S::F32 {
    let mut line = [0; LANES];
    match a.row(r).map(|row| &row[cols.clone()]) {
        Some(row) => line.iter_mut().zip(row).for_each(|(x, half)| *x = half.0),
        None => line.iter_mut().zip(cols).for_each(|(x, c)| *x = a.get(r, c).0),
    }
    s.load_bf16(&line)
}

/// C, (m, n), any strides.
pub enum Out<'a> {
    /// The sums themselves.
    F32(MatMut<'a>),
    /// Rounded as rows of A are.
    Bf16(MatMut<'a, Bf16>),
}

impl<'a> From<MatMut<'a>> for Out<'a> {
    fn from(c: MatMut<'a>) -> Self {
        Out::F32(c)
    }
}

impl<'a> From<MatMut<'a, Bf16>> for Out<'a> {
    fn from(c: MatMut<'a, Bf16>) -> Self {
        Out::Bf16(c)
    }
}

impl<'a> Out<'a> {
    /// m.
    pub const fn rows(&self) -> usize {
        match self {
            Out::F32(c) => c.rows(),
            Out::Bf16(c) => c.rows(),
        }
    }

    /// n.
    pub const fn cols(&self) -> usize {
        match self {
            Out::F32(c) => c.cols(),
            Out::Bf16(c) => c.cols(),
        }
    }

    /// Bytes of all elements.
    pub(super) const fn bytes(&self) -> usize {
        let size = if matches!(self, Out::F32(_)) { 4 } else { 2 };
        size * self.rows() * self.cols()
    }

    /// The rows before `at` and the rest.
    pub(super) fn split_rows(self, at: usize) -> (Out<'a>, Out<'a>) {
        match self {
            Out::F32(c) => {
                let (upper, lower) = c.split_rows(at);
                (Out::F32(upper), Out::F32(lower))
            }
            Out::Bf16(c) => {
                let (upper, lower) = c.split_rows(at);
                (Out::Bf16(upper), Out::Bf16(lower))
            }
        }
    }

    /// The columns before `at` and the rest.
    pub(super) fn split_cols(self, at: usize) -> (Out<'a>, Out<'a>) {
        match self {
            Out::F32(c) => {
                let (left, right) = c.split_cols(at);
                (Out::F32(left), Out::F32(right))
            }
            Out::Bf16(c) => {
                let (left, right) = c.split_cols(at);
                (Out::Bf16(left), Out::Bf16(right))
            }
        }
    }

    /// Where `rows` are summed, where they go to after the last step if that is elsewhere, and what is left of the scratch.
    #[inline(always)]
    pub(super) fn sums<'t, S: Simd>(
        &'t mut self,
        s: S,
        rows: Range<usize>,
        begins: Option<Accumulate>,
        scratch: &'t mut [Line],
    ) -> (MatMut<'t>, Option<MatMut<'t, Bf16>>, &'t mut [Line]) {
        let n = self.cols();
        let len = if matches!(self, Out::F32(_)) { 0 } else { sums_len(rows.len(), n) };
        let (room, scratch) = scratch.split_at_mut(len);
        if len > 0 && begins == Some(Accumulate::Add) {
            let to = (&mut *room, n.div_ceil(LANES));
            s.outline(Prior { c: self, rows: rows.clone(), cols: 0..n, to });
        }
        match self {
            Out::F32(c) => (c.reborrow().sub(rows, 0..n), None, scratch),
            Out::Bf16(c) => {
                let sums = in_lines(room, rows.len(), n);
                (sums, Some(c.reborrow().sub(rows, 0..n)), scratch)
            }
        }
    }
}

/// Lines of the sums of C in bfloat16.
pub(super) const fn sums_len(rows: usize, n: usize) -> usize {
    rows * n.div_ceil(LANES)
}

/// A matrix in [`sums_len`] lines.
fn in_lines(room: &mut [Line], rows: usize, cols: usize) -> MatMut<'_> {
    let row_stride = cols.next_multiple_of(LANES) as isize;
    MatMut::strided(Line::floats_mut(room), 0, Layout { rows, cols, row_stride, col_stride: 1 })
}

/// What C was, from a row and column on, to lines, `width` of them a row; past the last column +0.
pub(super) struct Prior<'f, 'a> {
    pub c: &'f Out<'a>,
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    pub to: (&'f mut [Line], usize),
}

impl Kernel for Prior<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Prior { c, rows, cols, to: (lines, width) } = self;
        for (r, lines) in rows.zip(lines.chunks_exact_mut(width.max(1))) {
            for (line, at) in lines.iter_mut().zip(cols.clone().step_by(LANES)) {
                let cols = at..(at + LANES).min(cols.end);
                let x = match c {
                    Out::F32(c) => load_at(s, c.as_ref(), r, cols),
                    Out::Bf16(c) => load_halves(s, c.as_ref(), r, cols),
                };
                s.store(line, x);
            }
        }
    }
}

/// Sums to C in bfloat16.
pub(super) struct Round<'f> {
    pub from: MatRef<'f>,
    pub to: MatMut<'f, Bf16>,
}

impl Kernel for Round<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Round { from, mut to } = self;
        for r in 0..from.rows() {
            for at in (0..from.cols()).step_by(LANES) {
                let cols = at..(at + LANES).min(from.cols());
                let mut halves = [0; LANES];
                s.store_bf16(&mut halves, rounded(s, load_at(s, from, r, cols.clone())));
                for (c, half) in cols.zip(halves) {
                    *to.at(r, c) = Bf16(half);
                }
            }
        }
    }
}
