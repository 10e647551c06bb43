//! Picking and joining: index_select, gather, concat, stack.

use super::copy::Target;
use super::shape::Shape;
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
        let fits = |i: usize| i == a || index.shape[i] <= self.shape[i];
        let ok = index.rank() == self.rank() && (0..self.rank()).all(fits);
        assert!(ok, "index of shape {} along axis {axis} of shape {}", index.shape, self.shape);
        let indices = index.to_vec::<i32>();
        let n = self.shape[a];
        if let Some(i) = indices.iter().find(|&&i| i < 0 || i as usize >= n) {
            panic!("index {i} into axis {axis} of shape {}", self.shape);
        }
        let mut out = Target::new(self.dtype, index.shape);
        match self.dtype.size() {
            1 => self.pick::<u8>(a, &indices, &index.shape, out.elements()),
            2 => self.pick::<u16>(a, &indices, &index.shape, out.elements()),
            _ => self.pick::<u32>(a, &indices, &index.shape, out.elements()),
        }
        out.finish()
    }

    fn pick<T: Plain>(&self, axis: usize, indices: &[i32], shape: &Shape, out: &mut [T]) {
        let from = self.data.elements::<T>();
        let mut place = [0usize; super::MAX_RANK];
        for (to, &index) in out.iter_mut().zip(indices) {
            let at = (0..shape.rank()).fold(self.offset as isize, |at, a| {
                at + self.strides[a] * if a == axis { index as isize } else { place[a] as isize }
            });
            *to = from[at as usize];
            for a in (0..shape.rank()).rev() {
                place[a] += 1;
                if place[a] < shape[a] {
                    break;
                }
                place[a] = 0;
            }
        }
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
