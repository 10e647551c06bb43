//! Several tensors of one shape, walked together, matrix by matrix.
//!
//! Kernels take matrices with two strides; a tensor may have eight axes. A walk drops the axes of extent 1
//! and joins neighbours that are one axis for every operand, so that most tensors come out as one matrix,
//! and steps through what axes remain outside of the last two.

use super::shape::MAX_RANK;
use crate::kernels::view::Layout;

/// A walk over `N` operands.
pub(super) struct Walk<const N: usize> {
    rank: usize,
    dims: [usize; MAX_RANK],
    /// The strides of each axis, operand by operand.
    strides: [[isize; N]; MAX_RANK],
    start: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// Operands of the extents `dims`, each given by its first element and its strides.
    pub fn new(dims: &[usize], operands: [(usize, &[isize]); N]) -> Self {
        let start = operands.map(|(start, _)| start);
        let mut walk = Walk { rank: 0, dims: [0; MAX_RANK], strides: [[0; N]; MAX_RANK], start };
        for (axis, &n) in dims.iter().enumerate() {
            walk.push(n, operands.map(|(_, strides)| strides[axis]));
        }
        walk
    }

    /// One axis more, inside of the others.
    fn push(&mut self, n: usize, strides: [isize; N]) {
        if n == 1 {
            return;
        }
        if let Some(outer) = self.rank.checked_sub(1) {
            let joins = |(o, i): (&isize, &isize)| *o == i.wrapping_mul(n as isize);
            if self.strides[outer].iter().zip(&strides).all(joins) {
                self.dims[outer] *= n;
                self.strides[outer] = strides;
                return;
            }
        }
        self.dims[self.rank] = n;
        self.strides[self.rank] = strides;
        self.rank += 1;
    }

    /// An axis of `n` inside of the others and never joined with them: the row that a kernel works on.
    pub fn with_rows(mut self, n: usize, strides: [isize; N]) -> Self {
        self.dims[self.rank] = n;
        self.strides[self.rank] = strides;
        self.rank += 1;
        self
    }

    /// The extents that remain, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The first operand's stride along each axis that remains.
    pub fn stride(&self, axis: usize) -> isize {
        self.strides[axis][0]
    }

    /// Calls `visit` for each matrix, outer axes in order, with the first element and the layout of each
    /// operand. Not at all where there is no element.
    pub fn for_each(&self, mut visit: impl FnMut([usize; N], [Layout; N])) {
        let outer = self.rank.saturating_sub(2);
        let (rows, cols) = match self.dims() {
            [] => (1, 1),
            [n] => (1, *n),
            [.., rows, cols] => (*rows, *cols),
        };
        if self.dims().contains(&0) {
            return;
        }
        let stride = |axis: Option<usize>, i: usize| axis.map_or(0, |a| self.strides[a][i]);
        let (row_axis, col_axis) = (self.rank.checked_sub(2), self.rank.checked_sub(1));
        let layouts = core::array::from_fn(|i| Layout {
            rows,
            cols,
            row_stride: stride(row_axis, i),
            col_stride: stride(col_axis, i),
        });
        let mut index = [0; MAX_RANK];
        let mut at = self.start;
        loop {
            visit(at, layouts);
            if !self.advance(&mut index[..outer], &mut at) {
                return;
            }
        }
    }

    /// The next place of the outer axes; `false` after the last.
    fn advance(&self, index: &mut [usize], at: &mut [usize; N]) -> bool {
        for axis in (0..index.len()).rev() {
            let back = if index[axis] + 1 < self.dims[axis] { 0 } else { self.dims[axis] };
            index[axis] = index[axis] + 1 - back;
            for (at, stride) in at.iter_mut().zip(&self.strides[axis]) {
                // Every place between is inside the operand's buffer; only sums of strides are not.
                *at = at.wrapping_add_signed(stride.wrapping_mul(1 - back as isize));
            }
            if back == 0 {
                return true;
            }
        }
        false
    }
}
