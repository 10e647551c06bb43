//! Memory for elements, aligned to a cache line.

use crate::kernels::{Line, Plain};
#[cfg(feature = "std")]
use crate::sys::memory::{HugeBuf, Map};
use crate::{Error, Result};
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// From so many bytes on, memory comes from the system: zeroed already, and in huge pages where there are any.
#[cfg(feature = "std")]
const HUGE: usize = 4 << 20;

/// Bytes that start at a multiple of 64, zero at first; readable as any plain number.
///
/// ```
/// use samebits::tensor::{Buffer, Dtype, Shape, Tensor};
/// let mut buffer = Buffer::zeroed(12)?;
/// buffer.elements_mut::<f32>()[2] = 5.0;
/// let (data, shape) = (std::sync::Arc::new(buffer), Shape::new(&[2])?);
/// let window = Tensor::from_buffer(data.clone(), 4, Dtype::F32, shape).unwrap(); // from byte 4 on
/// assert_eq!(window.to_vec::<f32>(), [0.0, 5.0]);
/// assert!(Tensor::from_buffer(data, 6, Dtype::F32, shape).is_none()); // no multiple of 4
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Buffer {
    memory: Memory,
    /// Bytes in use; the last line may have more.
    len: usize,
}

enum Memory {
    Heap(Vec<Line>),
    #[cfg(feature = "std")]
    System(HugeBuf),
    /// A mapped file, and its name.
    #[cfg(feature = "std")]
    File(Map, alloc::string::String),
}

impl Buffer {
    /// `len` bytes of zero.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where memory does not suffice.
    pub fn zeroed(len: usize) -> Result<Buffer> {
        let count = len.div_ceil(size_of::<Line>());
        #[cfg(feature = "std")]
        if len >= HUGE {
            let memory = HugeBuf::new(count).map_err(|_| too_large(len))?;
            return Ok(Buffer { memory: Memory::System(memory), len });
        }
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| too_large(len))?;
        lines.resize(count, Line::ZERO);
        Ok(Buffer { memory: Memory::Heap(lines), len })
    }

    /// The bytes of a file as long as it is now: mapped, so that only what is touched is read. What is written to
    /// the buffer does not reach the file. Nobody should change it meanwhile: see [`Buffer::check`].
    /// The first map of a process sets its handler of SIGBUS: see [`Access::Map`](crate::io::bytes::Access::Map).
    ///
    /// # Errors
    /// [`Error::Io`] where the system does not map it.
    #[cfg(feature = "std")]
    pub fn map(file: std::fs::File, path: &std::path::Path) -> Result<Buffer> {
        let map = Map::new(file).map_err(|e| Error::io(path, "map", e))?;
        let len = map.file_len();
        Ok(Buffer { memory: Memory::File(map, alloc::format!("{}", path.display())), len })
    }

    /// An error where the buffer is a mapped file that was changed since: what was computed from it may be
    /// anything (a page that the file has lost reads as zeros). Ask before a result is shown.
    ///
    /// # Errors
    /// [`Error::Io`] that names the file.
    pub fn check(&self) -> Result<()> {
        match &self.memory {
            #[cfg(feature = "std")]
            Memory::File(map, name) => map.check().map_err(|e| Error::io(name, "go on using it", e)),
            _ => Ok(()),
        }
    }

    /// Lets go of the memory of some bytes, where the buffer is a mapped file that will not be read there again
    /// soon; elsewhere, and in what it holds, nothing changes.
    pub fn release(&self, bytes: core::ops::Range<usize>) {
        #[cfg(feature = "std")]
        if let Memory::File(map, _) = &self.memory {
            map.release(bytes);
        }
        #[cfg(not(feature = "std"))]
        let _ = bytes;
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
        &Line::elements(&self.memory)[..self.len / size_of::<T>()]
    }

    /// The bytes as numbers, to write.
    #[inline]
    pub fn elements_mut<T: Plain>(&mut self) -> &mut [T] {
        &mut Line::elements_mut(&mut self.memory)[..self.len / size_of::<T>()]
    }
}

fn too_large(len: usize) -> Error {
    Error::TooLarge { shape: alloc::vec![len] }
}

impl Deref for Memory {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match self {
            Memory::Heap(lines) => lines,
            #[cfg(feature = "std")]
            Memory::System(lines) => lines,
            #[cfg(feature = "std")]
            Memory::File(lines, _) => lines,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [Line] {
        match self {
            Memory::Heap(lines) => lines,
            #[cfg(feature = "std")]
            Memory::System(lines) => lines,
            #[cfg(feature = "std")]
            Memory::File(lines, _) => lines,
        }
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
