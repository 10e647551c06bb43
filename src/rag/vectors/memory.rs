//! Bytes that grow and shrink, and start at a multiple of 64.

use crate::kernels::Line;
use crate::sys::memory::use_huge_pages;

/// Rows of bytes side by side.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes {
    lines: Vec<Line>,
    len: usize,
}

impl Bytes {
    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        &Line::elements(&self.lines)[..self.len]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut Line::elements_mut(&mut self.lines)[..self.len]
    }

    /// More or fewer; new ones are 0.
    pub fn resize(&mut self, len: usize) {
        let (lines, before) = (len.div_ceil(size_of::<Line>()), self.lines.capacity());
        self.lines.resize(lines, Line::ZERO);
        if len < self.len {
            self.len = len;
            // What lies behind the end of the last line must be 0 when it is grown again.
            let rest = &mut Line::elements_mut::<u8>(&mut self.lines)[len..];
            rest.fill(0);
        }
        if self.lines.capacity() > 2 * lines + 64 {
            self.lines.shrink_to(lines + lines / 4);
        }
        self.len = len;
        if self.lines.capacity() != before {
            use_huge_pages(&mut self.lines);
        }
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        let start = self.len;
        self.resize(start + bytes.len());
        self.as_mut_slice()[start..].copy_from_slice(bytes);
    }

    /// Writes over row `r`.
    pub fn put(&mut self, r: usize, row: &[u8]) {
        self.as_mut_slice()[r * row.len()..][..row.len()].copy_from_slice(row);
    }

    /// Row `to` becomes what row `from` is.
    pub fn copy_row(&mut self, from: usize, to: usize, width: usize) {
        self.as_mut_slice().copy_within(from * width..(from + 1) * width, to * width);
    }

    /// The last row of `width` bytes takes the place of row `r`.
    pub fn swap_remove(&mut self, r: usize, width: usize) {
        let last = self.len - width;
        self.as_mut_slice().copy_within(last.., r * width);
        self.resize(last);
    }
}
