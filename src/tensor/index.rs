//! Picking and joining: index_select, gather and scatter, concat, stack, triangles.

use super::copy::Target;
use super::shape::{MAX_RANK, Shape, Strides};
use super::{Dtype, Tensor};
use crate::kernels::Plain;
use alloc::vec::Vec;

impl Tensor {
    /// The places `indices` of an axis, in that order and as often as they are named: rows of an embedding.
    ///
    /// # Panics
    /// Where there is no such axis or place.
    #[track_caller]
    pub fn index_select(&self, axis: isize, indices: &[usize]) -> Tensor {
        let a = self.axis(axis);
        if let Some(i) = indices.iter().find(|&&i| i >= self.shape[a]) {
            panic!("place {i} of axis {axis} of shape {}", self.shape);
        }
        let mut dims = *self.shape.padded();
        dims[a] = indices.len();
        let mut out = Target::new(self.dtype, Shape::of(&dims[..self.rank()]));
        let strides = out.strides();
        for (to, &from) in indices.iter().enumerate() {
            out.fill(&self.slice(axis, from..from + 1), to * strides[a] as usize, &strides);
        }
        out.finish()
    }

    /// Element by element along an axis: `out[i][j] = self[index[i][j]][j]` for axis 0, and so on. `index` is
    /// i32, of the same rank, and no larger than this tensor along the other axes.
    ///
    /// # Panics
    /// Where that does not hold, or an index is no place of the axis.
    #[track_caller]
    pub fn gather(&self, axis: isize, index: &Tensor) -> Tensor {
        let a = self.axis(axis);
        let indices = self.places(a, index);
        let mut out = Target::new(self.dtype, index.shape);
        match self.dtype.size() {
            1 => self.pick::<u8>(a, &indices, &index.shape, out.elements()),
            2 => self.pick::<u16>(a, &indices, &index.shape, out.elements()),
            _ => self.pick::<u32>(a, &indices, &index.shape, out.elements()),
        }
        out.finish()
    }

    /// The numbers of `index`, checked to be places of the axis.
    #[track_caller]
    fn places(&self, axis: usize, index: &Tensor) -> Vec<i32> {
        let fits = |i: usize| i == axis || index.shape[i] <= self.shape[i];
        let ok = index.rank() == self.rank() && (0..self.rank()).all(fits);
        assert!(ok, "index of shape {} along axis {axis} of shape {}", index.shape, self.shape);
        let indices = index.to_vec::<i32>();
        let n = self.shape[axis];
        if let Some(i) = indices.iter().find(|&&i| i < 0 || i as usize >= n) {
            panic!("index {i} into axis {axis} of shape {}", self.shape);
        }
        indices
    }

    fn pick<T: Plain>(&self, axis: usize, indices: &[i32], shape: &Shape, out: &mut [T]) {
        let from = self.data.elements::<T>();
        let mut walk = Indexed::new(axis, shape, &self.strides);
        for (to, &index) in out.iter_mut().zip(indices) {
            *to = from[self.offset.wrapping_add_signed(walk.next(index))];
        }
    }

    /// A copy in which `out[index[i][j]][j] = updates[i][j]` for axis 0, and so on: the way back from
    /// [`Tensor::gather`]. Where an index comes twice, its last update stays.
    ///
    /// # Panics
    /// As [`Tensor::gather`], and where `updates` have another shape than `index` or another type than this tensor.
    #[track_caller]
    pub fn scatter(&self, axis: isize, index: &Tensor, updates: &Tensor) -> Tensor {
        let a = self.axis(axis);
        let (type_, other) = (self.dtype, updates.dtype);
        let same = updates.shape == index.shape && type_ == other;
        assert!(
            same,
            "{other} updates of shape {}, {type_} wanted for an index of {}",
            updates.shape, index.shape
        );
        let indices = self.places(a, index);
        let mut out = Target::new(self.dtype, self.shape);
        let strides = out.strides();
        out.fill(self, 0, &strides);
        let updates = updates.contiguous();
        match self.dtype.size() {
            1 => put::<u8>(&updates, &mut out, a, &indices),
            2 => put::<u16>(&updates, &mut out, a, &indices),
            _ => put::<u32>(&updates, &mut out, a, &indices),
        }
        out.finish()
    }

    /// Tensors joined along an axis that exists.
    ///
    /// # Panics
    /// For no tensors, or where types differ or another axis than `axis` does.
    #[track_caller]
    pub fn concat(tensors: &[&Tensor], axis: isize) -> Tensor {
        let [first, ..] = tensors else { panic!("concat of no tensors") };
        let a = first.axis(axis);
        let mut dims = *first.shape.padded();
        dims[a] = 0;
        for t in tensors {
            let same = |i: usize| i == a || t.shape[i] == first.shape[i];
            let ok = t.dtype == first.dtype && t.rank() == first.rank() && (0..t.rank()).all(same);
            let (s, d) = (&first.shape, first.dtype);
            assert!(ok, "concat along axis {axis}: {d} {s} and {} {}", t.dtype, t.shape);
            dims[a] += t.shape[a];
        }
        let mut out = Target::new(first.dtype, Shape::of(&dims[..first.rank()]));
        let strides = out.strides();
        let mut at = 0;
        for t in tensors {
            out.fill(t, at * strides[a] as usize, &strides);
            at += t.shape[a];
        }
        out.finish()
    }

    /// Tensors of one shape joined along a new axis. Panics as [`Tensor::concat`] and [`Tensor::unsqueeze`].
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Tensor {
        let rows: Vec<Tensor> = tensors.iter().map(|t| t.unsqueeze(axis)).collect();
        Tensor::concat(&rows.iter().collect::<Vec<_>>(), axis)
    }

    /// The lower triangle of each matrix of the last two axes, any type: elements (i, j) with j − i ≤ `diagonal`;
    /// the others are 0.
    ///
    /// # Panics
    /// With fewer than two axes.
    #[track_caller]
    pub fn tril(&self, diagonal: isize) -> Tensor {
        self.triangle(|i, cols| (0, place(i, diagonal.saturating_add(1), cols)))
    }

    /// The upper triangle, as [`Tensor::tril`]: elements (i, j) with j − i ≥ `diagonal`.
    #[track_caller]
    pub fn triu(&self, diagonal: isize) -> Tensor {
        self.triangle(|i, cols| (place(i, diagonal, cols), cols))
    }

    /// What of row i of each matrix stays: columns `keep(i, cols)`, from and to.
    #[track_caller]
    fn triangle(&self, keep: impl Fn(usize, usize) -> (usize, usize)) -> Tensor {
        assert!(self.rank() >= 2, "a triangle of shape {}", self.shape);
        let mut out = Target::new(self.dtype, self.shape);
        let (rows, cols) = (self.shape[self.rank() - 2], self.shape[self.rank() - 1]);
        let (from, size) = (self.contiguous(), self.dtype.size());
        let bytes = from.offset * size..(from.offset + from.len()) * size;
        let from = &from.data.elements::<u8>()[bytes];
        let lines = out.elements::<u8>().chunks_exact_mut((cols * size).max(1));
        for (i, (to, from)) in lines.zip(from.chunks_exact((cols * size).max(1))).enumerate() {
            let (start, end) = keep(i % rows, cols);
            let kept = start * size..end.max(start) * size;
            to[kept.clone()].copy_from_slice(&from[kept]);
        }
        out.finish()
    }

    /// 0, 1, … n − 1, as i32.
    ///
    /// # Panics
    /// Where n does not fit.
    #[track_caller]
    pub fn arange(n: usize) -> Tensor {
        assert!(i32::try_from(n).is_ok(), "{n} numbers do not fit i32");
        let values: Vec<i32> = (0..n as i32).collect();
        Tensor::new(Dtype::I32, &values, &[n])
    }
}

/// Puts contiguous `updates` where `indices` say.
fn put<T: Plain>(updates: &Tensor, out: &mut Target, axis: usize, indices: &[i32]) {
    let strides = out.strides();
    let from = &updates.data.elements::<T>()[updates.offset..];
    let to = out.elements::<T>();
    let mut walk = Indexed::new(axis, &updates.shape, &strides);
    for (&x, &index) in from.iter().zip(indices) {
        to[walk.next(index) as usize] = x;
    }
}

/// The places of a strided tensor, row by row over a shape, with the place along one axis given from outside.
struct Indexed<'a> {
    axis: usize,
    shape: &'a Shape,
    strides: &'a Strides,
    place: [usize; MAX_RANK],
}

impl<'a> Indexed<'a> {
    fn new(axis: usize, shape: &'a Shape, strides: &'a Strides) -> Self {
        Indexed { axis, shape, strides, place: [0; MAX_RANK] }
    }

    /// The distance of the next element from the first, at `index` of the axis.
    fn next(&mut self, index: i32) -> isize {
        let along = |a: usize| if a == self.axis { index as isize } else { self.place[a] as isize };
        let at = (0..self.shape.rank()).map(|a| self.strides[a] * along(a)).sum();
        for a in (0..self.shape.rank()).rev() {
            self.place[a] += 1;
            if self.place[a] < self.shape[a] {
                break;
            }
            self.place[a] = 0;
        }
        at
    }
}

/// Column i + `offset` of a row of `cols`, brought inside.
fn place(i: usize, offset: isize, cols: usize) -> usize {
    usize::try_from(offset.saturating_add_unsigned(i)).unwrap_or(0).min(cols)
}
