//! Four-dimensional views, (batch, heads, tokens, dim): what attention reads and writes.
//!
//! The same promises as for matrices: checked once at the door, any strides on the read side (0 repeats, so
//! that a mask or a key head can stand for many), a place of its own for every element that is written.

use super::{MatMut, MatRef};
use core::marker::PhantomData;

/// The axis of the batch.
///
/// ```
/// use samebits_kernels::view::{BATCH, DIM, HEADS, HeadsMut, HeadsRef, TOKENS};
/// let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
/// let heads = HeadsRef::by_token(&x, 4, 3, 2); // 4 tokens of 3 heads of 2
/// assert_eq!((heads.shape()[BATCH], heads.shape()[HEADS], heads.shape()[DIM]), (1, 3, 2));
/// assert_eq!(heads.part(TOKENS, 1, 2).get([0, 2, 0, 1]), 11.0); // token 1, head 2, component 1
/// let mut y = [0.0; 24];
/// let mut rest = HeadsMut::new(&mut y, [1, 3, 4, 2]);
/// let first = rest.take_front(HEADS, 1); // for another thread
/// assert_eq!((first.shape(), rest.shape()), ([1, 1, 4, 2], [1, 2, 4, 2]));
/// ```
pub const BATCH: usize = 0;
/// The axis of the heads.
pub const HEADS: usize = 1;
/// The axis of the tokens.
pub const TOKENS: usize = 2;
/// The axis of a head's components.
pub const DIM: usize = 3;

/// (batch, heads, tokens, dim) to read, any strides.
#[derive(Clone, Copy)]
pub struct HeadsRef<'a, T = f32> {
    base: *const T,
    shape: [usize; 4],
    strides: [isize; 4],
    life: PhantomData<&'a [T]>,
}

/// (batch, heads, tokens, dim) to write; no two elements share a place.
pub struct HeadsMut<'a, T = f32> {
    base: *mut T,
    shape: [usize; 4],
    strides: [isize; 4],
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a `HeadsRef` is a shared borrow of elements, as `&[T]` is.
unsafe impl<T: Sync> Send for HeadsRef<'_, T> {}
// SAFETY: likewise.
unsafe impl<T: Sync> Sync for HeadsRef<'_, T> {}
// SAFETY: a `HeadsMut` is the exclusive borrow of its elements, as `&mut [T]` is.
unsafe impl<T: Send> Send for HeadsMut<'_, T> {}
// SAFETY: through `&HeadsMut` nothing can be reached.
unsafe impl<T: Sync> Sync for HeadsMut<'_, T> {}

/// Strides of an array without gaps, the last axis innermost.
const fn contiguous(shape: [usize; 4]) -> [isize; 4] {
    let [_, heads, tokens, dim] = shape;
    [(heads * tokens * dim) as isize, (tokens * dim) as isize, dim as isize, 1]
}

/// Strides of (tokens, heads, dim) without gaps.
const fn token_strides(tokens: usize, heads: usize, dim: usize) -> [isize; 4] {
    [(tokens * heads * dim) as isize, dim as isize, (heads * dim) as isize, 1]
}

/// Whether every element of the view from `offset` lies in `0..len`; an empty view always does.
fn inside(len: usize, offset: usize, shape: [usize; 4], strides: [isize; 4]) -> bool {
    let ends = || {
        let (mut low, mut high) = (isize::try_from(offset).ok()?, isize::try_from(offset).ok()?);
        for (n, stride) in shape.into_iter().zip(strides) {
            let reach = isize::try_from(n - 1).ok()?.checked_mul(stride)?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        Some((low, high))
    };
    shape.contains(&0) || ends().is_some_and(|(low, high)| low >= 0 && (high as usize) < len)
}

/// Whether each axis, from the smallest stride up, steps over the whole extent of those below it.
fn distinct(shape: [usize; 4], strides: [isize; 4]) -> bool {
    let mut axes = [0, 1, 2, 3];
    axes.sort_unstable_by_key(|&a| (strides[a].unsigned_abs(), shape[a]));
    let mut extent = 0; // distance from the first to the last element so far
    for a in axes {
        if shape[a] > 1 {
            let stride = strides[a].unsigned_abs();
            if stride <= extent {
                return false;
            }
            extent += (shape[a] - 1) * stride;
        }
    }
    true
}

impl<'a, T> HeadsRef<'a, T> {
    /// Contiguous, the last axis innermost.
    ///
    /// # Panics
    /// Where `data` does not hold an element for each place of `shape`.
    pub fn new(data: &'a [T], shape: [usize; 4]) -> Self {
        HeadsRef::strided(data, 0, shape, contiguous(shape))
    }

    /// One batch row of tokens after tokens, (tokens, heads, dim) without gaps.
    ///
    /// # Panics
    /// Where `data` does not hold as many elements.
    pub fn by_token(data: &'a [T], tokens: usize, heads: usize, dim: usize) -> Self {
        HeadsRef::strided(data, 0, [1, heads, tokens, dim], token_strides(tokens, heads, dim))
    }

    /// Any strides, from element `offset` on.
    ///
    /// # Panics
    /// Where the view would leave `data`.
    pub fn strided(data: &'a [T], offset: usize, shape: [usize; 4], strides: [isize; 4]) -> Self {
        let len = data.len();
        assert!(
            inside(len, offset, shape, strides),
            "view of shape {shape:?}, strides {strides:?} from element {offset} leaves its {len} elements"
        );
        let base = if shape.contains(&0) { data.as_ptr() } else { data[offset..].as_ptr() };
        HeadsRef { base, shape, strides, life: PhantomData }
    }

    /// (batch, heads, tokens, dim)
    #[inline(always)]
    pub const fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Elements from one place to the next along each axis.
    #[inline(always)]
    pub const fn strides(&self) -> [isize; 4] {
        self.strides
    }

    /// The matrix (tokens, dim) of one head.
    ///
    /// # Panics
    /// Where there is no such head.
    #[inline(always)]
    pub fn head(&self, batch: usize, head: usize) -> MatRef<'a, T> {
        let [b, h, rows, cols] = self.shape;
        assert!(batch < b && head < h, "head ({batch}, {head}) of ({b}, {h})");
        MatRef {
            base: place(self.base, [batch, head], [self.strides[0], self.strides[1]]),
            rows,
            cols,
            row_stride: self.strides[2],
            col_stride: self.strides[3],
            life: PhantomData,
        }
    }

    /// The matrix (heads, dim) of one token.
    ///
    /// # Panics
    /// Where there is no such token.
    #[inline(always)]
    pub fn token(&self, batch: usize, token: usize) -> MatRef<'a, T> {
        let [b, rows, n, cols] = self.shape;
        assert!(batch < b && token < n, "token ({batch}, {token}) of ({b}, {n})");
        MatRef {
            base: place(self.base, [batch, token], [self.strides[0], self.strides[2]]),
            rows,
            cols,
            row_stride: self.strides[1],
            col_stride: self.strides[3],
            life: PhantomData,
        }
    }

    /// The part `start..start + len` of one axis.
    ///
    /// # Panics
    /// Where it leaves the view.
    pub fn part(mut self, axis: usize, start: usize, len: usize) -> Self {
        let n = self.shape[axis];
        assert!(start <= n && len <= n - start, "{start}..{start} + {len} of {n} along axis {axis}");
        self.base = place(self.base, [start, 0], [self.strides[axis], 0]);
        self.shape[axis] = len;
        self
    }
}

impl<'a, T> HeadsMut<'a, T> {
    /// Contiguous, the last axis innermost.
    ///
    /// # Panics
    /// Where `data` does not hold an element for each place of `shape`.
    pub fn new(data: &'a mut [T], shape: [usize; 4]) -> Self {
        HeadsMut::strided(data, 0, shape, contiguous(shape))
    }

    /// One batch row of tokens after tokens, (tokens, heads, dim) without gaps.
    ///
    /// # Panics
    /// Where `data` does not hold as many elements.
    pub fn by_token(data: &'a mut [T], tokens: usize, heads: usize, dim: usize) -> Self {
        HeadsMut::strided(data, 0, [1, heads, tokens, dim], token_strides(tokens, heads, dim))
    }

    /// Any strides, from element `offset` on.
    ///
    /// # Panics
    /// Where the view would leave `data`, or two of its elements might share a place.
    pub fn strided(data: &'a mut [T], offset: usize, shape: [usize; 4], strides: [isize; 4]) -> Self {
        let len = data.len();
        assert!(
            inside(len, offset, shape, strides),
            "view of shape {shape:?}, strides {strides:?} from element {offset} leaves its {len} elements"
        );
        let empty = shape.contains(&0);
        assert!(
            empty || distinct(shape, strides),
            "writable view of shape {shape:?}, strides {strides:?} has two elements in one place"
        );
        let base = if empty { data.as_mut_ptr() } else { data[offset..].as_mut_ptr() };
        HeadsMut { base, shape, strides, life: PhantomData }
    }

    /// (batch, heads, tokens, dim)
    #[inline(always)]
    pub const fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The matrix (tokens, dim) of one head.
    ///
    /// # Panics
    /// Where there is no such head.
    #[inline(always)]
    pub fn head(&mut self, batch: usize, head: usize) -> MatMut<'_, T> {
        let [b, h, rows, cols] = self.shape;
        assert!(batch < b && head < h, "head ({batch}, {head}) of ({b}, {h})");
        let base = place(self.base.cast_const(), [batch, head], [self.strides[0], self.strides[1]]);
        MatMut {
            base: base.cast_mut(),
            rows,
            cols,
            row_stride: self.strides[2],
            col_stride: self.strides[3],
            life: PhantomData,
        }
    }

    /// The matrix (heads, dim) of one token.
    ///
    /// # Panics
    /// Where there is no such token.
    #[inline(always)]
    pub fn token(&mut self, batch: usize, token: usize) -> MatMut<'_, T> {
        let [b, rows, n, cols] = self.shape;
        assert!(batch < b && token < n, "token ({batch}, {token}) of ({b}, {n})");
        let base = place(self.base.cast_const(), [batch, token], [self.strides[0], self.strides[2]]);
        MatMut {
            base: base.cast_mut(),
            rows,
            cols,
            row_stride: self.strides[1],
            col_stride: self.strides[3],
            life: PhantomData,
        }
    }

    /// Takes the first `n` places of an axis away, as a view of their own; `self` keeps the others.
    ///
    /// # Panics
    /// Where there are fewer.
    #[must_use]
    pub fn take_front(&mut self, axis: usize, n: usize) -> HeadsMut<'a, T> {
        let all = self.shape[axis];
        assert!(n <= all, "{n} of {all} along axis {axis}");
        let mut front = HeadsMut { life: PhantomData, ..*self };
        front.shape[axis] = n;
        self.base = place(self.base.cast_const(), [n, 0], [self.strides[axis], 0]).cast_mut();
        self.shape[axis] = all - n;
        front
    }
}

impl<T: Copy> HeadsRef<'_, T> {
    /// The element at (batch, head, token, component).
    ///
    /// # Panics
    /// Where there is none.
    #[inline(always)]
    pub fn get(&self, at: [usize; 4]) -> T {
        self.head(at[0], at[1]).get(at[2], at[3])
    }
}

/// The address `at · strides` away: never dereferenced for an empty view.
#[inline(always)]
fn place<T>(base: *const T, at: [usize; 2], strides: [isize; 2]) -> *const T {
    // Wrapping: an empty view may start one place past the end, which a stride could carry out of bounds.
    base.wrapping_offset((at[0] as isize).wrapping_mul(strides[0]))
        .wrapping_offset((at[1] as isize).wrapping_mul(strides[1]))
}

impl<T> core::fmt::Debug for HeadsRef<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HeadsRef({:?}, strides {:?})", self.shape, self.strides)
    }
}

impl<T> core::fmt::Debug for HeadsMut<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HeadsMut({:?}, strides {:?})", self.shape, self.strides)
    }
}
