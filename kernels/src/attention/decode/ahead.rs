//! Reading ahead: memory is shown whole pages, in order, by ordinary loads.
//!
//! Sixteen keys are read crosswise, a line of each in turn, which prefetchers do not recognise; and prefetch
//! instructions are dropped while all places for misses are taken (24 a core on Zen 4: half of what memory could
//! deliver). Loads of neighbouring lines by one and the same instruction start a stream, which runs on while the
//! page before is computed with. Two pages ahead is best here; more leaves the first-level cache too soon.
//!
//! Zen 4, (1, 32, 1, 128) over 4,096 keys in a program of its own, GB/s, where reading alone reaches 32: 16.4 with
//! prefetch instructions and K and V block by block, 22 with pages, 28.5 with pages and runs of 32 blocks. AVX2: 17
//! before, 24.5 after. It is touchy: the loops that stream must have few other loads, or streams are lost.

use super::super::stored::StoredRows;
use crate::Plain;
use crate::line::{bytes, touch};
use crate::view::MatRef;
use core::ops::Range;

/// Bytes of a page, as prefetchers see it.
const PAGE: usize = 4096;

/// Rows that will soon be read.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'x> {
    /// What has not been touched.
    rest: &'x [u8],
    /// The row after the last.
    end: usize,
    /// Bytes of a row.
    row: usize,
}

impl<'x> Ahead<'x> {
    /// No rows.
    pub(super) const fn none() -> Self {
        Ahead { rest: &[], end: 0, row: 0 }
    }

    /// The rows `rows` of `x`; none where they do not lie without gaps.
    pub(super) fn new(x: &StoredRows<'x>, rows: Range<usize>) -> Self {
        match x {
            StoredRows::F32(cells) => Ahead::of(cells.x, rows),
            StoredRows::Bf16(cells) => Ahead::of(cells.x, rows),
            StoredRows::Int8(cells) => Ahead::of(cells.x, rows),
        }
    }

    fn of<T: Plain>(x: MatRef<'x, T>, rows: Range<usize>) -> Self {
        let rest = x.neighbours(rows.start, rows.len()).map_or(&[][..], bytes);
        Ahead { rest, end: rows.end, row: x.cols() * size_of::<T>() }
    }

    /// How many rows to be ahead by: two pages, at least `rows`.
    #[inline(always)]
    pub(super) fn early(&self, rows: usize) -> usize {
        (2 * PAGE).checked_div(self.row).unwrap_or(0).max(rows)
    }

    /// Reads page after page until all rows before `until` have been touched.
    #[inline(always)]
    pub(super) fn reach(&mut self, until: usize) {
        let left = self.end.saturating_sub(until) * self.row;
        while self.rest.len() > left {
            let n = PAGE - self.rest.as_ptr() as usize % PAGE;
            let (page, rest) = self.rest.split_at(n.min(self.rest.len()));
            touch(page);
            self.rest = rest;
        }
    }
}
