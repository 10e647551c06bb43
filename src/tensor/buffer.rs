//! Memory for elements, aligned to a cache line.

use crate::kernels::{Line, Plain};
use crate::{Error, Result};
use alloc::vec::Vec;

/// Bytes that start at a multiple of 64, zero at first; readable as any plain number.
///
/// The end is rounded up to whole lines, so that a kernel may be handed full ones.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    /// Bytes in use.
    len: usize,
}

impl Buffer {
    /// `len` bytes of zero.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where memory does not suffice.
    pub fn zeroed(len: usize) -> Result<Buffer> {
        let count = len.div_ceil(size_of::<Line>());
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| Error::TooLarge { shape: alloc::vec![len] })?;
        lines.resize(count, Line::ZERO);
        Ok(Buffer { lines, len })
    }

    /// Bytes in use.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes as numbers; a rest shorter than one is left out.
    #[inline]
    pub fn elements<T: Plain>(&self) -> &[T] {
        &Line::elements(&self.lines)[..self.len / size_of::<T>()]
    }

    /// The bytes as numbers, to write.
    #[inline]
    pub fn elements_mut<T: Plain>(&mut self) -> &mut [T] {
        &mut Line::elements_mut(&mut self.lines)[..self.len / size_of::<T>()]
    }
}

impl<T: Plain> From<&[T]> for Buffer {
    /// A copy.
    ///
    /// # Panics
    /// Where memory does not suffice.
    fn from(elements: &[T]) -> Buffer {
        let mut buffer = Buffer::zeroed(size_of_val(elements)).unwrap_or_else(|e| panic!("{e}"));
        buffer.elements_mut().copy_from_slice(elements);
        buffer
    }
}
