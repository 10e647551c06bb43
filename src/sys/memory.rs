//! Memory from the system itself: huge pages, and files as memory.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::system;
use crate::kernels::Line;

/// Lines of zeroed memory, page-aligned, in huge pages where the system has them: on large buffers a read
/// is then some 1.3 times as fast, for the processor looks up 512 times fewer pages.
pub struct HugeBuf {
    at: NonNull<Line>,
    lines: usize,
}

// SAFETY: a `HugeBuf` owns its memory as a `Box<[Line]>` does.
unsafe impl Send for HugeBuf {}
// SAFETY: likewise.
unsafe impl Sync for HugeBuf {}

impl HugeBuf {
    /// `lines` lines, all +0.
    ///
    /// # Errors
    /// Where the system has no such memory.
    pub fn new(lines: usize) -> io::Result<HugeBuf> {
        if lines == 0 {
            return Ok(HugeBuf { at: NonNull::dangling(), lines });
        }
        let bytes = lines.checked_mul(size_of::<Line>()).filter(|&bytes| bytes <= isize::MAX as usize);
        let at = system::map_memory(bytes.ok_or(io::ErrorKind::OutOfMemory)?)?;
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(HugeBuf { at, lines })
    }
}

impl Deref for HugeBuf {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        // SAFETY: `lines` lines of zeroed memory of our own, page-aligned (or none).
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.lines) }
    }
}

impl DerefMut for HugeBuf {
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as for `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.lines) }
    }
}

impl Drop for HugeBuf {
    fn drop(&mut self) {
        if self.lines > 0 {
            // SAFETY: the mapping made by `new`, and nothing borrows from a value that is dropped.
            unsafe { system::unmap(self.at.as_ptr().cast(), self.lines * size_of::<Line>()) };
        }
    }
}

/// Exchanges the pages behind `memory` for huge ones, where there are at least two of those in it and the
/// system has them. What it holds stays as it is.
pub fn use_huge_pages<T>(memory: &mut [T]) {
    const HUGE: usize = 2 << 20;
    if size_of_val(memory) >= 2 * HUGE {
        system::use_huge_pages(memory.as_mut_ptr().cast(), size_of_val(memory));
    }
}

#[path = "map.rs"]
mod map;
#[path = "part.rs"]
mod part;
pub use map::Map;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use map::PLACES;
pub use part::Part;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_zero() {
        let mut buffer = HugeBuf::new(1000).expect("64 kB");
        assert_eq!(buffer.as_ptr().addr() % 4096, 0);
        assert!(Line::floats(&buffer).iter().all(|x| x.to_bits() == 0));
        Line::floats_mut(&mut buffer)[15_999] = 1.0;
        assert_eq!(buffer[999].0[15], 1.0);
        assert!(HugeBuf::new(0).expect("nothing").is_empty());
        assert!(HugeBuf::new(usize::MAX / 64).is_err());
    }
}
