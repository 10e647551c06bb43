//! What a register tile reads and writes of strided matrices: a band of rows, a stripe of sixteen columns, a tile of
//! whole lines. Each is checked once, when it is made, so that steps of k check nothing.

use super::{MatMut, MatRef, check_part};
use crate::LANES;
use crate::simd::Floats;
use core::marker::PhantomData;
use core::ops::Range;

impl<'a, T> MatRef<'a, T> {
    /// Columns `cols` of the first N rows, where the elements of a row lie side by side; past the last row, the
    /// last again.
    ///
    /// # Panics
    /// Where there is no row, or no such column.
    #[inline(always)]
    pub(crate) fn band<const N: usize>(&self, cols: Range<usize>) -> Option<[&'a [T]; N]> {
        check_part(&(0..1), self.rows, &cols, self.cols);
        if self.col_stride != 1 && self.cols > 1 {
            return None;
        }
        let mut band: [&[T]; N] = [&[]; N];
        for (r, row) in band.iter_mut().enumerate() {
            let r = r.min(self.rows - 1) as isize;
            // SAFETY: checked at the door: row r reaches these neighbours inside the borrowed slice; an empty
            // range is not read.
            *row = unsafe {
                core::slice::from_raw_parts(
                    self.base.wrapping_offset(r * self.row_stride).wrapping_add(cols.start),
                    cols.len(),
                )
            };
        }
        Some(band)
    }
}

/// Sixteen columns of a matrix, side by side in each row: a panel, wherever it lies.
#[derive(Clone, Copy)]
pub struct Stripe<'a> {
    base: *const f32,
    rows: usize,
    row_stride: isize,
    life: PhantomData<&'a [f32]>,
}

impl<'a> Stripe<'a> {
    /// Nothing.
    pub const EMPTY: Stripe<'static> =
        Stripe { base: core::ptr::null(), rows: 0, row_stride: 0, life: PhantomData };

    /// The first sixteen columns of `m`, where there are so many, side by side.
    #[inline(always)]
    pub fn of(m: MatRef<'a>) -> Option<Self> {
        let MatRef { base, rows, row_stride, .. } = m;
        (m.cols >= LANES && m.col_stride == 1).then_some(Stripe { base, rows, row_stride, life: PhantomData })
    }

    /// Rows `r..r + 8`.
    ///
    /// # Panics
    /// Where they are not all there.
    #[inline(always)]
    pub fn eight(&self, r: usize) -> Eight<'a> {
        assert!(r + 8 <= self.rows, "rows {r} to {} of {}", r + 8, self.rows);
        let Stripe { base, row_stride, life, .. } = *self;
        Eight { base: base.wrapping_offset(r as isize * row_stride), row_stride, life }
    }
}

/// Eight rows of a [`Stripe`].
#[derive(Clone, Copy)]
pub struct Eight<'a> {
    base: *const f32,
    row_stride: isize,
    life: PhantomData<&'a [f32]>,
}

impl<'a> Eight<'a> {
    /// Row `i` of them.
    ///
    /// # Panics
    /// Where `i` is 8 or more.
    #[inline(always)]
    pub fn line(&self, i: usize) -> &'a Floats {
        assert!(i < 8);
        // SAFETY: the matrix was checked at its door, that sixteen of its columns lie side by side in `of`, that
        // eight rows are there in `eight`.
        unsafe { &*self.base.offset(i as isize * self.row_stride).cast() }
    }
}

/// Panels of sixteen columns, as far from each other as the next one, wherever they lie.
#[derive(Clone, Copy)]
pub struct Stripes<'a> {
    base: *const f32,
    rows: usize,
    row_stride: isize,
    /// How many, and from one to the next.
    count: usize,
    step: isize,
    life: PhantomData<&'a [f32]>,
}

impl<'a> Stripes<'a> {
    /// Nothing.
    pub const NONE: Stripes<'static> =
        Stripes { base: core::ptr::null(), rows: 0, row_stride: 0, count: 0, step: 0, life: PhantomData };

    /// The whole panels of `m`, whose elements of a row lie side by side.
    #[inline(always)]
    pub fn of(m: MatRef<'a>) -> Option<Self> {
        let MatRef { base, rows, row_stride, .. } = m;
        let (count, step) = (m.cols / LANES, LANES as isize);
        (m.col_stride == 1).then_some(Stripes { base, rows, row_stride, count, step, life: PhantomData })
    }

    /// Each row of `m` is a panel: its rows of sixteen one after the other.
    #[inline(always)]
    pub fn packed(m: MatRef<'a>) -> Option<Self> {
        let MatRef { base, rows: count, row_stride: step, .. } = m;
        let (rows, row_stride) = (m.cols / LANES, LANES as isize);
        (m.col_stride == 1).then_some(Stripes { base, rows, row_stride, count, step, life: PhantomData })
    }

    /// How many.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether a row of a panel begins where the one before ends.
    #[inline(always)]
    pub fn are_packed(&self) -> bool {
        self.row_stride == LANES as isize
    }

    /// The first `at`, and the others.
    ///
    /// # Panics
    /// Where there are not so many.
    #[inline(always)]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        assert!(at <= self.count, "{at} panels of {}", self.count);
        let rest = self.base.wrapping_offset(at as isize * self.step);
        (Stripes { count: at, ..self }, Stripes { base: rest, count: self.count - at, ..self })
    }

    /// N panels from panel `p` on, `n` of their rows from row `r` on.
    ///
    /// # Panics
    /// Where they are not all there.
    #[inline(always)]
    pub fn down<const N: usize>(&self, p: usize, r: usize, n: usize) -> Down<'a, N> {
        let there = p + N <= self.count && r + n <= self.rows;
        assert!(there, "panels {p} to {} of {}, rows {r} to {} of {}", p + N, self.count, r + n, self.rows);
        let Stripes { base, row_stride, step, life, .. } = *self;
        let at = base.wrapping_offset(p as isize * step).wrapping_offset(r as isize * row_stride);
        Down { at, left: n, row_stride, step, life }
    }
}

/// The way down the rows of N panels.
#[derive(Clone, Copy)]
pub struct Down<'a, const N: usize> {
    at: *const f32,
    left: usize,
    row_stride: isize,
    step: isize,
    life: PhantomData<&'a [f32]>,
}

impl<'a, const N: usize> Down<'a, N> {
    /// The same, said to a compiler: [`Stripes::are_packed`].
    ///
    /// # Panics
    /// Where they are not.
    #[inline(always)]
    pub fn packed(self) -> Self {
        assert!(self.row_stride == LANES as isize, "rows of a panel apart");
        Down { row_stride: LANES as isize, ..self }
    }

    /// The next R rows.
    ///
    /// # Panics
    /// Where there are not so many.
    #[inline(always)]
    pub fn take<const R: usize>(&mut self) -> Block<'a, R, N> {
        assert!(R <= self.left, "{R} rows of {}", self.left);
        let Down { at, row_stride, step, life, .. } = *self;
        self.at = at.wrapping_offset(R as isize * row_stride);
        self.left -= R;
        Block { at, row_stride, step, life }
    }
}

/// R rows of N panels.
#[derive(Clone, Copy)]
pub struct Block<'a, const R: usize, const N: usize> {
    at: *const f32,
    row_stride: isize,
    step: isize,
    life: PhantomData<&'a [f32]>,
}

impl<'a, const R: usize, const N: usize> Block<'a, R, N> {
    /// Row `r` of panel `p`.
    ///
    /// # Panics
    /// Where there is no such row, or no such panel.
    #[inline(always)]
    pub fn line(&self, r: usize, p: usize) -> &'a Floats {
        assert!(r < R && p < N);
        // SAFETY: the matrix was checked at its door, that a panel's columns lie side by side in `Stripes`, that N panels
        // and so many rows are there in `down`, that R of them are left in `take`.
        unsafe { &*self.at.offset(p as isize * self.step + r as isize * self.row_stride).cast() }
    }
}

impl<T> MatMut<'_, T> {
    /// The part of `shape` (rows, columns) from row `at.0`, column `at.1`, where all of it is there and the elements of
    /// a row lie side by side.
    #[inline(always)]
    pub(crate) fn part(&mut self, at: (usize, usize), shape: (usize, usize)) -> Option<MatMut<'_, T>> {
        let there = at.0 + shape.0 <= self.rows && at.1 + shape.1 <= self.cols && self.col_stride == 1;
        there.then(|| self.reborrow().sub(at.0..at.0 + shape.0, at.1..at.1 + shape.1))
    }
}

impl MatMut<'_> {
    /// All of it, as M rows of N times sixteen neighbours.
    ///
    /// # Panics
    /// Where that is not its shape, or a row's elements do not lie side by side.
    #[inline(always)]
    pub(crate) fn tile<const M: usize, const N: usize>(&mut self) -> [&mut [Floats; N]; M] {
        assert!(
            self.rows == M && self.cols == N * LANES && self.col_stride == 1,
            "a tile of ({M}, {N} lines)"
        );
        // SAFETY: checked at the door: every element of the shape lies inside the slice and has a place of its own;
        // the borrow of `self` is exclusive.
        core::array::from_fn(|i| unsafe { &mut *self.base.offset(i as isize * self.row_stride).cast() })
    }
}
