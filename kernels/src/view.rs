//! Strided matrices over borrowed memory: what kernels read and write where a tensor would be.
//!
//! A view is a pointer, a shape and two strides in elements, checked once at the door: every element that
//! the shape can reach lies inside the slice. Strides may be 0 or negative on the read side; a writable
//! view must give every element a place of its own, so that parts of it can go to different threads.
//!
//! ```
//! use samebits_kernels::view::MatRef;
//! let x = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
//! let m = MatRef::new(&x, 2, 3);
//! assert_eq!(m.t().get(2, 1), 6.0);
//! ```

use crate::gemm::{Bf16, F16};
use core::marker::PhantomData;
use core::ops::Range;

mod bands;
mod heads;
mod strip;
mod tiles;
pub use bands::{Bands, BandsMut};
pub use heads::{BATCH, DIM, HEADS, HeadsMut, HeadsRef, TOKENS};
pub(crate) use strip::Strip;
pub(crate) use tiles::{Down, Eight, Stripe, Stripes};

/// A matrix to read, (rows, cols), any strides.
#[derive(Clone, Copy)]
pub struct MatRef<'a, T = f32> {
    base: *const T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    life: PhantomData<&'a [T]>,
}

/// A matrix to write, (rows, cols); no two elements share a place.
pub struct MatMut<'a, T = f32> {
    base: *mut T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatRef` is a shared borrow of elements, as `&[T]` is.
unsafe impl<T: Sync> Send for MatRef<'_, T> {}
// SAFETY: likewise.
unsafe impl<T: Sync> Sync for MatRef<'_, T> {}
// SAFETY: a `MatMut` is the exclusive borrow of its elements, as `&mut [T]` is.
unsafe impl<T: Send> Send for MatMut<'_, T> {}
// SAFETY: through `&MatMut` elements can only be read.
unsafe impl<T: Sync> Sync for MatMut<'_, T> {}

/// Shape and strides of a strided view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from a row to the next.
    pub row_stride: isize,
    /// Elements from a column to the next.
    pub col_stride: isize,
}

impl Layout {
    /// Row after row without gaps.
    pub const fn contiguous(rows: usize, cols: usize) -> Layout {
        Layout { rows, cols, row_stride: cols as isize, col_stride: 1 }
    }

    /// The lowest and highest element that the view reaches from `offset`; `None` where it reaches none or
    /// past what an `isize` can count.
    fn span(&self, offset: usize) -> Option<(isize, isize)> {
        let reach = |n: usize, stride: isize| isize::try_from(n - 1).ok()?.checked_mul(stride);
        let offset = isize::try_from(offset).ok()?;
        let (r, c) = (reach(self.rows, self.row_stride)?, reach(self.cols, self.col_stride)?);
        let low = offset.checked_add(r.min(0))?.checked_add(c.min(0))?;
        let high = offset.checked_add(r.max(0))?.checked_add(c.max(0))?;
        Some((low, high))
    }

    fn check(&self, len: usize, offset: usize) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let inside = self.span(offset).is_some_and(|(low, high)| low >= 0 && (high as usize) < len);
        assert!(inside, "view {self:?} from element {offset} leaves its slice of {len} elements");
    }

    /// No two elements in one place: the outer stride steps over the whole inner extent.
    fn check_distinct(&self) {
        let (r, c) = (self.row_stride.unsigned_abs(), self.col_stride.unsigned_abs());
        let apart = |n: usize, stride: usize| n <= 1 || stride > 0;
        let over = |inner: (usize, usize), outer: (usize, usize)| {
            outer.0 <= 1 || inner.0 <= 1 || outer.1 > (inner.0 - 1) * inner.1
        };
        let (rows, cols) = ((self.rows, r), (self.cols, c));
        let ok = apart(self.rows, r) && apart(self.cols, c) && (over(cols, rows) || over(rows, cols));
        let empty = self.rows == 0 || self.cols == 0;
        assert!(empty || ok, "writable view {self:?} has two elements in one place");
    }
}

impl<'a> MatRef<'a, u16> {
    /// The same bits as bfloat16 numbers.
    pub const fn as_bf16(self) -> MatRef<'a, Bf16> {
        let MatRef { base, rows, cols, row_stride, col_stride, .. } = self;
        // `Bf16` is `repr(transparent)` over `u16`.
        MatRef { base: base.cast(), rows, cols, row_stride, col_stride, life: PhantomData }
    }

    /// The same bits as IEEE halves.
    pub const fn as_f16(self) -> MatRef<'a, F16> {
        let MatRef { base, rows, cols, row_stride, col_stride, .. } = self;
        // `F16` is `repr(transparent)` over `u16`.
        MatRef { base: base.cast(), rows, cols, row_stride, col_stride, life: PhantomData }
    }
}

impl<'a, T> MatRef<'a, T> {
    /// Row-major and contiguous.
    ///
    /// # Panics
    /// Where `data` does not hold `rows × cols` elements.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        MatRef::strided(data, 0, Layout::contiguous(rows, cols))
    }

    /// Any layout from element `offset` on.
    ///
    /// # Panics
    /// Where the view would leave `data`.
    pub fn strided(data: &'a [T], offset: usize, layout: Layout) -> Self {
        layout.check(data.len(), offset);
        let Layout { rows, cols, row_stride, col_stride } = layout;
        let base = if rows == 0 || cols == 0 { data.as_ptr() } else { data[offset..].as_ptr() };
        MatRef { base, rows, cols, row_stride, col_stride, life: PhantomData }
    }

    /// Number of rows.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline(always)]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from a row to the next.
    #[inline(always)]
    pub const fn row_stride(&self) -> isize {
        self.row_stride
    }

    /// Elements from a column to the next.
    #[inline(always)]
    pub const fn col_stride(&self) -> isize {
        self.col_stride
    }

    /// Rows for columns.
    pub const fn t(self) -> Self {
        MatRef {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The part at `rows` and `cols`.
    ///
    /// # Panics
    /// Where it leaves the matrix.
    #[inline]
    pub fn sub(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        check_part(&rows, self.rows, &cols, self.cols);
        let base = offset(self.base, rows.start, self.row_stride, cols.start, self.col_stride);
        MatRef { base, rows: rows.len(), cols: cols.len(), ..self }
    }

    /// Row `r` where its elements lie side by side.
    ///
    /// # Panics
    /// Where there is no such row.
    #[inline(always)]
    pub fn row(&self, r: usize) -> Option<&'a [T]> {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        if self.col_stride != 1 && self.cols > 1 {
            return None;
        }
        if self.cols == 0 {
            return Some(&[]);
        }
        // SAFETY: checked at the door: row r reaches `cols` neighbours inside the borrowed slice.
        Some(unsafe {
            core::slice::from_raw_parts(self.base.offset(r as isize * self.row_stride), self.cols)
        })
    }

    /// Whether the elements of a row lie side by side.
    #[inline(always)]
    pub const fn has_rows(&self) -> bool {
        self.col_stride == 1 || self.cols <= 1
    }

    /// The whole matrix as one slice, where it is row-major without gaps.
    pub fn contiguous(&self) -> Option<&'a [T]> {
        if self.rows == 0 || self.cols == 0 {
            return Some(&[]);
        }
        let rows = self.rows == 1 || self.row_stride == self.cols as isize;
        let cols = self.cols == 1 || self.col_stride == 1;
        // SAFETY: checked at the door: `rows × cols` neighbours inside the borrowed slice.
        (rows && cols).then(|| unsafe { core::slice::from_raw_parts(self.base, self.rows * self.cols) })
    }
}

impl<T: Copy> MatRef<'_, T> {
    /// The element at row `r`, column `c`.
    ///
    /// # Panics
    /// Where there is none.
    #[inline(always)]
    pub fn get(&self, r: usize, c: usize) -> T {
        assert!(r < self.rows && c < self.cols, "({r}, {c}) of ({}, {})", self.rows, self.cols);
        // SAFETY: checked at the door for every element of the shape.
        unsafe { *self.base.offset(r as isize * self.row_stride + c as isize * self.col_stride) }
    }
}

impl<'a, T> MatMut<'a, T> {
    /// Row-major and contiguous.
    ///
    /// # Panics
    /// Where `data` does not hold `rows × cols` elements.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatMut::strided(data, 0, Layout::contiguous(rows, cols))
    }

    /// Any layout from element `offset` on.
    ///
    /// # Panics
    /// Where the view would leave `data`, or two of its elements would share a place.
    pub fn strided(data: &'a mut [T], offset: usize, layout: Layout) -> Self {
        layout.check(data.len(), offset);
        layout.check_distinct();
        let Layout { rows, cols, row_stride, col_stride } = layout;
        let base = if rows == 0 || cols == 0 { data.as_mut_ptr() } else { data[offset..].as_mut_ptr() };
        MatMut { base, rows, cols, row_stride, col_stride, life: PhantomData }
    }

    /// Number of rows.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline(always)]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from a row to the next.
    #[inline(always)]
    pub const fn row_stride(&self) -> isize {
        self.row_stride
    }

    /// Elements from a column to the next.
    #[inline(always)]
    pub const fn col_stride(&self) -> isize {
        self.col_stride
    }

    /// The same matrix, to read.
    #[inline(always)]
    pub const fn as_ref(&self) -> MatRef<'_, T> {
        MatRef {
            base: self.base,
            rows: self.rows,
            cols: self.cols,
            row_stride: self.row_stride,
            col_stride: self.col_stride,
            life: PhantomData,
        }
    }

    /// A shorter borrow of the same matrix.
    #[inline(always)]
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { life: PhantomData, ..*self }
    }

    /// Rows for columns.
    pub fn t(self) -> Self {
        MatMut {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The part at `rows` and `cols`, for as long as the whole.
    ///
    /// # Panics
    /// Where it leaves the matrix.
    #[inline]
    pub fn sub(self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'a, T> {
        check_part(&rows, self.rows, &cols, self.cols);
        let base = offset(self.base.cast_const(), rows.start, self.row_stride, cols.start, self.col_stride);
        MatMut { base: base.cast_mut(), rows: rows.len(), cols: cols.len(), ..self }
    }

    /// The rows before `at` and the rest: two disjoint parts.
    ///
    /// # Panics
    /// Where `at` is past the end.
    pub fn split_rows(self, at: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        let (rows, cols) = (self.rows, self.cols);
        // `reborrow` would shorten the life: both halves are exclusive over their own elements.
        let twin = MatMut { life: PhantomData, ..self };
        (self.sub(0..at, 0..cols), twin.sub(at..rows, 0..cols))
    }

    /// The columns before `at` and the rest: two disjoint parts.
    ///
    /// # Panics
    /// Where `at` is past the end.
    pub fn split_cols(self, at: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        let (left, right) = self.t().split_rows(at);
        (left.t(), right.t())
    }

    /// Row `r` where its elements lie side by side.
    ///
    /// # Panics
    /// Where there is no such row.
    #[inline(always)]
    pub fn row(&mut self, r: usize) -> Option<&mut [T]> {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        if self.col_stride != 1 && self.cols > 1 {
            return None;
        }
        if self.cols == 0 {
            return Some(&mut []);
        }
        // SAFETY: checked at the door: row r reaches `cols` neighbours inside the borrowed slice, and the
        // borrow of `self` is exclusive.
        Some(unsafe {
            core::slice::from_raw_parts_mut(self.base.offset(r as isize * self.row_stride), self.cols)
        })
    }

    /// The whole matrix as one slice, where it is row-major without gaps; else itself.
    ///
    /// # Errors
    /// The matrix, where it is not.
    pub fn into_contiguous(self) -> Result<&'a mut [T], Self> {
        if self.as_ref().contiguous().is_none() {
            return Err(self);
        }
        if self.rows == 0 || self.cols == 0 {
            return Ok(&mut []);
        }
        // SAFETY: `contiguous` found `rows × cols` neighbours inside the slice, and the borrow is exclusive.
        Ok(unsafe { core::slice::from_raw_parts_mut(self.base, self.rows * self.cols) })
    }

    /// The element at row `r`, column `c`.
    ///
    /// # Panics
    /// Where there is none.
    #[inline(always)]
    pub fn at(&mut self, r: usize, c: usize) -> &mut T {
        assert!(r < self.rows && c < self.cols, "({r}, {c}) of ({}, {})", self.rows, self.cols);
        // SAFETY: checked at the door for every element of the shape; the borrow is exclusive.
        unsafe { &mut *self.base.offset(r as isize * self.row_stride + c as isize * self.col_stride) }
    }
}

fn check_part(rows: &Range<usize>, of_rows: usize, cols: &Range<usize>, of_cols: usize) {
    let ok = rows.start <= rows.end && rows.end <= of_rows && cols.start <= cols.end && cols.end <= of_cols;
    assert!(ok, "rows {rows:?}, columns {cols:?} of a ({of_rows}, {of_cols}) matrix");
}

/// The address of an element, or of the place just past the last: never dereferenced for an empty part.
#[inline(always)]
fn offset<T>(base: *const T, r: usize, row_stride: isize, c: usize, col_stride: isize) -> *const T {
    // Wrapping: an empty part may start one row past the end, which a stride could carry out of bounds.
    base.wrapping_offset((r as isize).wrapping_mul(row_stride))
        .wrapping_offset((c as isize).wrapping_mul(col_stride))
}

impl<T> core::fmt::Debug for MatRef<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let MatRef { rows, cols, row_stride, col_stride, .. } = self;
        write!(f, "MatRef({rows} × {cols}, strides {row_stride}, {col_stride})")
    }
}
