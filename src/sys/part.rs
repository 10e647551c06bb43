//! Parts of huge pages: where many arrays of less than a huge page lie side by side.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::HugeBuf;
use crate::kernels::Line;

/// Lines of a slab that several parts share: 16 MiB. Only what is used of it takes memory.
const SLAB: usize = (16 << 20) / size_of::<Line>();
/// Lines below which an array is left to the allocator: 32 KiB, for which nobody looks up many pages.
const SMALL: usize = (32 << 10) / size_of::<Line>();

/// Elements with memory of their own, as a `Vec` of fixed length has; large ones are cut from huge pages that
/// they share with others, which live until the last of their parts is dropped.
///
/// An allocator's pieces of a few megabytes end within a page that begins another piece, so that the system
/// cannot put huge pages under them; and a model of a hundred such matrices is read a third slower for it.
pub struct Part<T>(Place<T>);

enum Place<T> {
    Heap(Vec<T>),
    /// `len` elements from `at` on, in lines of the slab that no other part has.
    Slab {
        at: NonNull<T>,
        len: usize,
        _slab: Arc<HugeBuf>,
    },
}

// SAFETY: a part owns its elements as a `Vec` does; what it shares is the release of the pages.
unsafe impl<T: Send> Send for Part<T> {}
// SAFETY: likewise.
unsafe impl<T: Sync> Sync for Part<T> {}

impl<T: Copy> Part<T> {
    /// `value`, `len` times.
    ///
    /// # Panics
    /// Where an element is aligned to more than a line.
    pub fn filled(value: T, len: usize) -> Part<T> {
        assert!(align_of::<T>() <= align_of::<Line>(), "elements at multiples of {}", align_of::<T>());
        let lines = len.checked_mul(size_of::<T>()).map(|bytes| bytes.div_ceil(size_of::<Line>()));
        let Some(lines) = lines.filter(|&lines| lines >= SMALL) else {
            return Part(Place::Heap(vec![value; len])); // also where there are more bytes than numbers
        };
        let (slab, start) = cut(lines);
        // SAFETY: `start` lies in the slab, which is one allocation.
        let at = unsafe { slab.at.add(start) }.cast::<T>();
        for i in 0..len {
            // SAFETY: within the lines from `start` on that `cut` gives away once; aligned, since a line is.
            unsafe { at.add(i).write(value) };
        }
        Part(Place::Slab { at, len, _slab: slab })
    }
}

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl<T> Deref for Part<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Heap(all) => all,
            // SAFETY: elements that `filled` wrote, of this part alone, on pages that the slab keeps.
            Place::Slab { at, len, .. } => unsafe { slice::from_raw_parts(at.as_ptr(), *len) },
        }
    }
}

impl<T> DerefMut for Part<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Place::Heap(all) => all,
            // SAFETY: as for `deref`; the borrow is exclusive.
            Place::Slab { at, len, .. } => unsafe { slice::from_raw_parts_mut(at.as_ptr(), *len) },
        }
    }
}

/// The slab that has room left, if any part of it is still there, and how many of its lines are given away.
static OPEN: Mutex<(Weak<HugeBuf>, usize)> = Mutex::new((Weak::new(), 0));

/// `lines` lines that nobody else has: a slab, and where in it they begin.
fn cut(lines: usize) -> (Arc<HugeBuf>, usize) {
    const HUGE: usize = (2 << 20) / size_of::<Line>();
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(slab), used) = (open.0.upgrade(), open.1)
        && slab.lines - used >= lines
    {
        open.1 += lines;
        return (slab, used);
    }
    let slab = HugeBuf::new(lines.max(SLAB).next_multiple_of(HUGE));
    let slab = Arc::new(slab.unwrap_or_else(|_| {
        let layout = Layout::array::<Line>(lines).unwrap_or(Layout::new::<Line>());
        handle_alloc_error(layout)
    }));
    if lines < SLAB {
        *open = (Arc::downgrade(&slab), lines);
    }
    (slab, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_apart_aligned_and_live_as_long_as_they_are_held() {
        let mut parts: Vec<Part<[u16; 32]>> =
            (0..40u16).map(|i| Part::filled([i; 32], 700 + 97 * usize::from(i))).collect();
        let big = Part::filled(7.0f32, (SLAB + 1) * 16);
        for (i, part) in parts.iter_mut().enumerate() {
            assert_eq!((part.len(), part.as_ptr().addr() % 2), (700 + 97 * i, 0));
            assert!(part.iter().flatten().all(|&x| usize::from(x) == i), "part {i} holds another's elements");
            part.fill([1000 + i as u16; 32]);
        }
        for i in (0..20).rev() {
            drop(parts.remove(2 * i)); // every other one; the rest must stay as it is
        }
        for (j, part) in parts.iter().enumerate() {
            assert!(
                part.iter().flatten().all(|&x| usize::from(x) == 1000 + 2 * j + 1),
                "part {j} after drops"
            );
        }
        assert!(big.iter().all(|&x| x == 7.0));
        assert!(Part::filled(1u8, 0).is_empty());
    }

    #[test]
    fn large_parts_begin_at_a_line() {
        let parts: Vec<Part<u8>> =
            (0..5).map(|i| Part::filled(i, (SMALL + 1) * size_of::<Line>() + 3)).collect();
        assert!(parts.iter().all(|part| part.as_ptr().addr() % 64 == 0));
    }
}
