//! Moving elements: row by row out of any layout, and into parts of another tensor.

use super::shape::{Shape, Strides};
use super::walk::Walk;
use super::{Buffer, Dtype, Tensor};
use crate::kernels::Plain;
use crate::kernels::view::Layout;

impl Tensor {
    /// The same elements, row by row without gaps: itself where they lie so, else a copy.
    pub fn contiguous(&self) -> Tensor {
        if self.is_contiguous() { self.clone() } else { self.copied() }
    }

    /// A copy in memory of its own, row by row.
    pub(super) fn copied(&self) -> Tensor {
        let mut out = Target::new(self.dtype, self.shape);
        let whole = out.strides();
        out.fill(self, 0, &whole);
        out.finish()
    }
}

/// A tensor that is being put together.
pub(super) struct Target {
    buffer: Buffer,
    dtype: Dtype,
    shape: Shape,
}

impl Target {
    /// # Panics
    /// Where memory does not suffice.
    #[track_caller]
    pub fn new(dtype: Dtype, shape: Shape) -> Target {
        let buffer = Buffer::zeroed(shape.elements() * dtype.size());
        Target { buffer: buffer.unwrap_or_else(|e| panic!("{e}")), dtype, shape }
    }

    /// Elements from one place of each axis to the next.
    pub fn strides(&self) -> Strides {
        super::row_major(&self.shape)
    }

    /// Copies `part` to the place whose first element is `at`.
    pub fn fill(&mut self, part: &Tensor, at: usize, strides: &Strides) {
        debug_assert_eq!(part.dtype, self.dtype);
        match self.dtype.size() {
            1 => self.copy::<u8>(part, at, strides),
            2 => self.copy::<u16>(part, at, strides),
            _ => self.copy::<u32>(part, at, strides),
        }
    }

    fn copy<T: Plain>(&mut self, part: &Tensor, at: usize, strides: &Strides) {
        let (from, to) = (part.data.elements::<T>(), self.buffer.elements_mut::<T>());
        let walk = Walk::new(part.shape(), [(part.offset, part.strides()), (at, strides)]);
        walk.for_each(|[src, dst], [src_layout, dst_layout]| {
            copy_matrix(from, (src, src_layout), to, (dst, dst_layout));
        });
    }

    /// The elements, to write.
    pub fn elements<T: Plain>(&mut self) -> &mut [T] {
        self.buffer.elements_mut()
    }

    pub fn finish(self) -> Tensor {
        Tensor::whole(self.buffer, self.dtype, self.shape)
    }
}

/// Copies a matrix, a tile at a time, so that a transpose uses the whole of each cache line it touches.
fn copy_matrix<T: Plain>(from: &[T], (src, s): (usize, Layout), to: &mut [T], (dst, d): (usize, Layout)) {
    const TILE: usize = 32;
    let place = |start: usize, l: &Layout, r: usize, c: usize| {
        start.wrapping_add_signed(l.row_stride * r as isize + l.col_stride * c as isize)
    };
    if s.col_stride == 1 && d.col_stride == 1 {
        for r in 0..s.rows {
            let (a, b) = (place(src, &s, r, 0), place(dst, &d, r, 0));
            to[b..b + s.cols].copy_from_slice(&from[a..a + s.cols]);
        }
        return;
    }
    for row in (0..s.rows).step_by(TILE) {
        for col in (0..s.cols).step_by(TILE) {
            for r in row..s.rows.min(row + TILE) {
                for c in col..s.cols.min(col + TILE) {
                    to[place(dst, &d, r, c)] = from[place(src, &s, r, c)];
                }
            }
        }
    }
}
