//! What is asked for while a tile computes, so that it has come from memory when its turn comes.
//!
//! A tile of 512 steps of k takes thousands of cycles and leaves the memory idle: in every eight steps two lines are asked
//! for, to come as far as L2. Not more at once: a core waits for sixteen lines or so, and what waits for memory would keep
//! out what waits for L2 only.

use super::pack;
use crate::LANES;
use crate::simd::Simd;
use crate::view::MatRef;
use core::ptr;

/// Floats of a run: two lines in the 48 cycles or more that eight steps of a tile take.
const RUN: usize = 2 * LANES;

/// A matrix that is asked for row by row, run by run. It is never read, so its address is all that is kept.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// Where the next run begins: this many floats into a row.
    next: *const f32,
    col: usize,
    cols: usize,
    row_stride: isize,
    /// Runs that are still to be asked for.
    pub left: usize,
}

impl Walk {
    /// Nothing to ask for.
    pub(super) const NONE: Walk = Walk { next: ptr::null(), col: 0, cols: 0, row_stride: 0, left: 0 };

    /// All of `m`; nothing where the elements of a row do not lie side by side, or so many rows lie in the same sets
    /// of the second cache that they would drive each other out before they are needed.
    #[inline(always)]
    pub(super) fn over(m: MatRef<'_>) -> Self {
        if m.col_stride() != 1 || m.rows() == 0 || m.rows() > pack::rows_in_l2(m.row_stride()) / 2 {
            return Walk::NONE;
        }
        Walk {
            next: m.row(0).map_or(ptr::null(), <[f32]>::as_ptr),
            col: 0,
            cols: m.cols(),
            row_stride: m.row_stride(),
            left: m.rows() * m.cols().div_ceil(RUN),
        }
    }

    /// Asks for the next run.
    #[inline(always)]
    fn step<S: Simd>(&mut self, s: S) {
        let run = RUN.min(self.cols - self.col);
        for x in (0..run).step_by(LANES) {
            s.prefetch_far(self.next.wrapping_add(x));
        }
        (self.left, self.col, self.next) = (self.left - 1, self.col + run, self.next.wrapping_add(run));
        if self.col == self.cols {
            self.next = self.next.wrapping_sub(self.cols).wrapping_offset(self.row_stride);
            self.col = 0;
        }
    }
}

/// The tile's place in C, the next rows of A, and the next sliver of B.
pub(super) struct Ahead {
    pub c: Walk,
    pub rows: Walk,
    pub sliver: Walk,
}

impl Ahead {
    /// Nothing to ask for.
    pub(super) fn nothing() -> Self {
        Ahead { c: Walk::NONE, rows: Walk::NONE, sliver: Walk::NONE }
    }

    /// Asks for one run.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, s: S) {
        for walk in [&mut self.c, &mut self.rows, &mut self.sliver] {
            if walk.left > 0 {
                return walk.step(s);
            }
        }
    }
}
