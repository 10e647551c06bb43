//! Windows: slices, steps, transposes, broadcasts and reshapes. Nothing is copied, but by a reshape that no
//! strides can express.

use super::Tensor;
use super::shape::{MAX_RANK, Shape, row_major};
use super::walk::Walk;
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

impl Tensor {
    /// The axis that `axis` names; a negative one counts from the end.
    ///
    /// # Panics
    /// Where there is no such axis.
    #[track_caller]
    pub(super) fn axis(&self, axis: isize) -> usize {
        let rank = self.rank() as isize;
        let found = if axis < 0 { axis + rank } else { axis };
        assert!((0..rank).contains(&found), "axis {axis} of shape {}", self.shape);
        found as usize
    }

    /// The places `range` of an axis: `x[a:b]`.
    ///
    /// # Panics
    /// Where there is no such axis or the range leaves it.
    #[track_caller]
    pub fn slice(&self, axis: isize, range: impl RangeBounds<usize>) -> Tensor {
        let a = self.axis(axis);
        let n = self.shape[a];
        let start = match range.start_bound() {
            Bound::Included(&i) => i,
            Bound::Excluded(&i) => i.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&i) => i.saturating_add(1),
            Bound::Excluded(&i) => i,
            Bound::Unbounded => n,
        };
        assert!(start <= end && end <= n, "{start}..{end} of axis {axis} of shape {}", self.shape);
        self.window(a, start, end - start, 1)
    }

    /// The axis cut into parts of these extents, in order: views.
    ///
    /// # Panics
    /// Where there is no such axis, or `extents` do not add up to its own.
    #[track_caller]
    pub fn split(&self, axis: isize, extents: &[usize]) -> Vec<Tensor> {
        let (n, sum) = (self.shape[self.axis(axis)], extents.iter().sum::<usize>());
        assert!(sum == n, "parts {extents:?} of axis {axis} of shape {}", self.shape);
        let mut end = 0;
        let part = |&n| {
            end += n;
            self.slice(axis, end - n..end)
        };
        extents.iter().map(part).collect()
    }

    /// Every `step`-th place of an axis from the first, or, for a negative step, from the last: `x[::step]`.
    ///
    /// # Panics
    /// Where there is no such axis or `step` is 0.
    #[track_caller]
    pub fn step_by(&self, axis: isize, step: isize) -> Tensor {
        let a = self.axis(axis);
        assert!(step != 0, "a step of 0 along axis {axis} of shape {}", self.shape);
        let n = self.shape[a];
        let start = if step < 0 { n.saturating_sub(1) } else { 0 };
        self.window(a, start, n.div_ceil(step.unsigned_abs()), step)
    }

    /// The axis backwards.
    ///
    /// # Panics
    /// Where there is no such axis.
    #[track_caller]
    pub fn flip(&self, axis: isize) -> Tensor {
        self.step_by(axis, -1)
    }

    /// Place `i` of an axis, which is dropped: `x[i]`.
    ///
    /// # Panics
    /// Where there is no such axis or place.
    #[track_caller]
    pub fn select(&self, axis: isize, i: usize) -> Tensor {
        let a = self.axis(axis);
        assert!(i < self.shape[a], "place {i} of axis {axis} of shape {}", self.shape);
        self.window(a, i, 1, 1).without(a)
    }

    /// `count` places of an axis from `start`, each `step` further.
    fn window(&self, axis: usize, start: usize, count: usize, step: isize) -> Tensor {
        let mut out = self.clone();
        let mut dims = *self.axes();
        dims[axis] = count;
        out.shape = Shape::of(&dims[..self.rank()]);
        if !self.is_empty() && count > 0 {
            out.offset = self.offset.wrapping_add_signed(self.strides[axis] * start as isize);
        }
        // A step past the end is never taken, so its stride may be anything that fits.
        out.strides[axis] = self.strides[axis].saturating_mul(if count > 1 { step } else { 1 });
        out
    }

    /// The extents, then zeros.
    fn axes(&self) -> &[usize; MAX_RANK] {
        self.shape.padded()
    }

    /// Two axes exchanged.
    ///
    /// # Panics
    /// Where there is no such axis.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Tensor {
        let mut order = core::array::from_fn::<usize, MAX_RANK, _>(|i| i);
        order.swap(self.axis(a), self.axis(b));
        self.permute(&order[..self.rank()])
    }

    /// The last two axes exchanged: the transpose of a matrix.
    ///
    /// # Panics
    /// With fewer than two axes.
    #[track_caller]
    pub fn t(&self) -> Tensor {
        self.transpose(-2, -1)
    }

    /// The axes in another order: axis i of the result is axis `order[i]` of this tensor.
    ///
    /// # Panics
    /// Where `order` does not name every axis once.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Tensor {
        let once = |a: usize| order.iter().filter(|&&o| o == a).count() == 1;
        let all = order.len() == self.rank() && (0..self.rank()).all(once);
        assert!(all, "axes {order:?} of shape {}", self.shape);
        let (mut dims, mut out) = ([0; MAX_RANK], self.clone());
        for (to, &from) in order.iter().enumerate() {
            dims[to] = self.shape[from];
            out.strides[to] = self.strides[from];
        }
        out.shape = Shape::of(&dims[..self.rank()]);
        out
    }

    /// The tensor seen at every place of a larger shape, as NumPy broadcasts: axes are matched from the last,
    /// missing ones and those of extent 1 are repeated by a stride of 0.
    ///
    /// # Panics
    /// Where another axis has another extent.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Tensor {
        let to = Shape::of(shape);
        let new = to.rank().checked_sub(self.rank());
        let fits = new.is_some_and(|new| {
            let pairs = self.shape().iter().zip(&to[new..]);
            pairs.into_iter().all(|(&have, &want)| have == want || have == 1)
        });
        let (Some(new), true) = (new, fits) else {
            panic!("shape {} does not broadcast to {to}", self.shape)
        };
        let mut out = Tensor { shape: to, strides: [0; MAX_RANK], ..self.clone() };
        for (a, &n) in self.shape().iter().enumerate() {
            if n == to[new + a] {
                out.strides[new + a] = self.strides[a];
            }
        }
        out
    }

    /// Another shape of the same elements, row by row: a window where strides can express it, else a copy.
    ///
    /// # Panics
    /// Where the number of elements differs.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Tensor {
        let to = Shape::of(shape);
        assert!(self.len() == to.elements(), "shape {} has not as many elements as {to}", self.shape);
        if self.is_empty() {
            return Tensor { shape: to, strides: row_major(&to), ..self.clone() };
        }
        self.reshaped(to).unwrap_or_else(|| Tensor { shape: to, strides: row_major(&to), ..self.copied() })
    }

    /// The reshape as a window, where that is possible: each joined run of old axes must split into whole
    /// new ones.
    fn reshaped(&self, to: Shape) -> Option<Tensor> {
        let runs = Walk::new(self.shape(), [(self.offset, self.strides())]);
        let mut out = Tensor { shape: to, strides: [0; MAX_RANK], ..self.clone() };
        let mut axis = to.rank();
        for (run, &n) in runs.dims().iter().enumerate().rev() {
            let (mut left, mut step) = (n, runs.stride(run));
            while left > 1 {
                axis = axis.checked_sub(1)?;
                if left % to[axis] != 0 {
                    return None;
                }
                out.strides[axis] = step;
                left /= to[axis];
                step *= to[axis] as isize;
            }
        }
        // What axes are left have extent 1: any stride will do.
        Some(out)
    }

    /// An axis of extent 1 put in before `axis`; -1 puts it last.
    ///
    /// # Panics
    /// Where `axis` is past the end, or there are [`MAX_RANK`] axes already.
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Tensor {
        let rank = self.rank();
        let a = if axis < 0 { axis + rank as isize + 1 } else { axis };
        assert!((0..=rank as isize).contains(&a), "new axis {axis} of shape {}", self.shape);
        assert!(rank < MAX_RANK, "one axis more than the {MAX_RANK} of shape {}", self.shape);
        let (a, mut dims, mut out) = (a as usize, *self.axes(), self.clone());
        dims[a..].rotate_right(1);
        dims[a] = 1;
        out.strides[a..].rotate_right(1);
        out.strides[a] = 0;
        out.shape = Shape::of(&dims[..rank + 1]);
        out
    }

    /// An axis of extent 1 taken out.
    ///
    /// # Panics
    /// Where there is no such axis, or its extent is not 1.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Tensor {
        let a = self.axis(axis);
        assert!(self.shape[a] == 1, "axis {axis} of shape {} is not 1", self.shape);
        self.without(a)
    }

    /// The axis taken out; its first place stays.
    fn without(&self, axis: usize) -> Tensor {
        let (mut dims, mut out) = (*self.axes(), self.clone());
        dims[axis..].rotate_left(1);
        out.strides[axis..].rotate_left(1);
        out.strides[MAX_RANK - 1] = 0;
        out.shape = Shape::of(&dims[..self.rank() - 1]);
        out
    }
}
