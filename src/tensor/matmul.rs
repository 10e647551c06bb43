//! Products of matrices, one or a batch.

use super::copy::Target;
use super::elementwise::broadcast;
use super::shape::{MAX_RANK, Shape};
use super::walk::Walk;
use super::{Dtype, Tensor};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::gemm::{Gemm, Strided, scratch_len};
use crate::kernels::view::{Layout, MatMut, MatRef};
use alloc::vec;
use alloc::vec::Vec;

impl Tensor {
    /// The product of matrices: (…, m, k) · (…, k, n) = (…, m, n), the axes in front broadcast. A tensor of
    /// one axis is a row on the left and a column on the right, and its axis is dropped from the result.
    /// Clause 1 of the law: each result is the same in whatever batch it is computed.
    ///
    /// Transposes and other views are read where they lie; an activation of several axes times one matrix
    /// is computed as one product.
    ///
    /// # Panics
    /// Where the inner extents differ, the others do not broadcast, an operand has no axis, or a type is not
    /// f32.
    #[track_caller]
    pub fn matmul(&self, cpu: Cpu, other: &Tensor) -> Tensor {
        let (a, b) = match (self.rank(), other.rank()) {
            (0, _) | (_, 0) => panic!("matmul of shapes {} and {}", self.shape, other.shape),
            (1, 1) => (self.unsqueeze(0), other.unsqueeze(1)),
            (1, _) => (self.unsqueeze(0), other.clone()),
            (_, 1) => (self.clone(), other.unsqueeze(1)),
            _ => (self.clone(), other.clone()),
        };
        let (left, right) = (a.shape[a.rank() - 1], b.shape[b.rank() - 2]);
        assert!(left == right, "matmul of shapes {} and {}", self.shape, other.shape);
        let mut out = product(cpu, &a, &b);
        if other.rank() == 1 {
            out = out.squeeze(-1);
        }
        if self.rank() == 1 { out.squeeze(if other.rank() == 1 { -1 } else { -2 }) } else { out }
    }
}

/// The product of operands with two axes or more each.
#[track_caller]
fn product(cpu: Cpu, a: &Tensor, b: &Tensor) -> Tensor {
    let (a_front, b_front) = (front(a), front(b));
    let batch = broadcast(&a_front, &b_front);
    let (a, b) = (matrices(a, &batch), matrices(b, &batch));
    let (m, n, rank) = (a.shape[batch.rank()], b.shape[batch.rank() + 1], batch.rank());

    let mut dims = [0; MAX_RANK];
    dims[..rank].copy_from_slice(&batch);
    dims[rank..rank + 2].copy_from_slice(&[m, n]);
    let mut out = Target::new(Dtype::F32, Shape::of(&dims[..rank + 2]));
    let (from_a, from_b, to) = (a.buffer::<f32>(), b.buffer::<f32>(), out.elements::<f32>());
    if to.is_empty() {
        return out.finish();
    }

    let one_b = b.strides[..rank].iter().zip(&*batch).all(|(&s, &n)| s == 0 || n == 1);
    let joined = if one_b { join_rows(&a) } else { None };
    let (la, places) = match joined {
        Some(layout) => (layout, vec![[a.offset, b.offset]]),
        None => (last_two(&a), places(&a, &b, &batch)),
    };
    let lb = last_two(&b);
    let mut scratch = vec![Line::ZERO; scratch_len::<Strided<'_>>(la.rows, la.cols)];
    for (c, [at_a, at_b]) in to.chunks_exact_mut(la.rows * n).zip(places) {
        let weights = Strided(MatRef::strided(from_b, at_b, lb));
        let c = MatMut::new(c, la.rows, n);
        Gemm::new(MatRef::strided(from_a, at_a, la), weights, c).run(cpu, &mut scratch);
    }
    out.finish()
}

/// The axes in front of the last two.
fn front(t: &Tensor) -> Shape {
    Shape::of(&t.shape()[..t.rank() - 2])
}

/// The tensor with its front axes broadcast to `batch`.
#[track_caller]
fn matrices(t: &Tensor, batch: &Shape) -> Tensor {
    let mut dims = [0; MAX_RANK];
    let rank = batch.rank();
    dims[..rank].copy_from_slice(batch);
    dims[rank..rank + 2].copy_from_slice(&t.shape()[t.rank() - 2..]);
    t.broadcast_to(&dims[..rank + 2])
}

/// The matrix of the last two axes.
fn last_two(t: &Tensor) -> Layout {
    let r = t.rank();
    let (rows, cols) = (t.shape[r - 2], t.shape[r - 1]);
    Layout { rows, cols, row_stride: t.strides[r - 2], col_stride: t.strides[r - 1] }
}

/// All axes but the last as the rows of one matrix, where they are one axis in memory.
fn join_rows(t: &Tensor) -> Option<Layout> {
    let r = t.rank();
    let walk = Walk::new(&t.shape()[..r - 1], [(t.offset, &t.strides[..])]);
    let (rows, row_stride) = match *walk.dims() {
        [] => (1, 0),
        [n] => (n, walk.stride(0)),
        _ => return None,
    };
    Some(Layout { rows, cols: t.shape[r - 1], row_stride, col_stride: t.strides[r - 1] })
}

/// Where the matrices of both operands begin, batch by batch.
fn places(a: &Tensor, b: &Tensor, batch: &Shape) -> Vec<[usize; 2]> {
    let mut all = Vec::with_capacity(batch.elements());
    let walk = Walk::new(batch, [(a.offset, &a.strides[..]), (b.offset, &b.strides[..])]);
    walk.for_each(|at, layouts| {
        for r in 0..layouts[0].rows as isize {
            for c in 0..layouts[0].cols as isize {
                let place = |i: usize| {
                    at[i].wrapping_add_signed(layouts[i].row_stride * r + layouts[i].col_stride * c)
                };
                all.push([place(0), place(1)]);
            }
        }
    });
    all
}
