//! A number of rows, read a line of each, or some lines of one, at a time: checked once, so that inner loops are
//! loads and little else.

use super::MatRef;
use crate::{LANES, Plain};
use core::marker::PhantomData;

/// `N` rows and their whole lines; see [`MatRef::strip`].
#[derive(Clone, Copy)]
pub struct Strip<'a, const N: usize, T = f32> {
    base: *const T,
    row_stride: isize,
    cols: usize,
    life: PhantomData<&'a [T]>,
}

impl<'a, const N: usize, T> Strip<'a, N, T> {
    /// Whole lines of a row.
    #[inline(always)]
    pub const fn lines(&self) -> usize {
        self.cols / LANES
    }

    /// The rows, whole.
    #[inline(always)]
    pub fn rows(&self) -> [&'a [T]; N] {
        core::array::from_fn(|r| {
            let row = self.base.wrapping_offset(r as isize * self.row_stride);
            // SAFETY: as for `column`, of all columns; a row of none may lie anywhere that is aligned.
            unsafe { core::slice::from_raw_parts(row, self.cols) }
        })
    }

    /// Line `w` of each row.
    ///
    /// # Panics
    /// Where rows have no such line.
    #[inline(always)]
    pub fn column(&self, w: usize) -> [&'a [T; LANES]; N] {
        assert!(w < self.lines(), "line {w} of {}", self.lines());
        core::array::from_fn(|r| {
            let line = self.base.wrapping_offset(r as isize * self.row_stride).wrapping_add(w * LANES);
            // SAFETY: `N` rows of so many lines were checked when the strip was cut.
            unsafe { &*line.cast() }
        })
    }

    /// Lines `w`, `w + 1`, … of row `r`.
    ///
    /// # Panics
    /// Where there are not `M` of them.
    #[inline(always)]
    pub fn row<const M: usize>(&self, r: usize, w: usize) -> &'a [[T; LANES]; M] {
        assert!(r < N && w < self.lines() && M <= self.lines() - w, "lines {w}.. of row {r}");
        let line = self.base.wrapping_offset(r as isize * self.row_stride).wrapping_add(w * LANES);
        // SAFETY: as for `column`.
        unsafe { &*line.cast() }
    }
}

impl<T: Plain, const N: usize> Strip<'_, N, T> {
    /// Whole lines of 64 bytes in a row.
    #[inline(always)]
    pub const fn byte_lines(&self) -> usize {
        self.cols * size_of::<T>() / 64
    }

    /// The 64 bytes of line `w` of row `r`, in words of the machine's byte order.
    ///
    /// # Panics
    /// Where the row has no such line.
    #[inline(always)]
    pub fn bits(&self, r: usize, w: usize) -> [i32; LANES] {
        assert!(r < N && w < self.byte_lines(), "line {w} of row {r}");
        let line = self.base.wrapping_offset(r as isize * self.row_stride).wrapping_byte_add(64 * w);
        // SAFETY: as for `column`: 64 bytes of a row; `Plain` has no padding, and any bits are integers.
        unsafe { line.cast::<[i32; LANES]>().read_unaligned() }
    }
}

impl<'a, T> MatRef<'a, T> {
    /// Rows `r..r + n` as one slice, where they lie without gaps.
    ///
    /// # Panics
    /// Where there are no such rows.
    #[inline(always)]
    pub(crate) fn neighbours(&self, r: usize, n: usize) -> Option<&'a [T]> {
        assert!(r <= self.rows && n <= self.rows - r, "rows {r}.. {n} of {}", self.rows);
        if self.col_stride != 1 || self.row_stride != self.cols as isize || n == 0 {
            return None;
        }
        // SAFETY: checked at the door: `n × cols` neighbours inside the borrowed slice.
        Some(unsafe {
            core::slice::from_raw_parts(self.base.offset(r as isize * self.row_stride), n * self.cols)
        })
    }

    /// `N` rows from `r` on, their whole lines.
    ///
    /// # Panics
    /// Where there are no such rows, or the elements of a row do not lie side by side.
    #[inline(always)]
    pub(crate) fn strip<const N: usize>(&self, r: usize) -> Strip<'a, N, T> {
        let inside = r < self.rows && N <= self.rows - r;
        assert!(inside && self.has_rows(), "{N} rows from {r} on of {self:?}");
        let base = self.base.wrapping_offset(r as isize * self.row_stride);
        Strip { base, row_stride: self.row_stride, cols: self.cols, life: PhantomData }
    }
}
