//! An allocator over memory that the program owns: for targets without one.
//!
//! ```text
//!   │ used │ free ──────► │ used │ used │ free ──────────────► ∎ │     in whole lines of 64 bytes; what is free is a list
//! ```
//! The first place that fits is taken, and what is given back joins its neighbours, so that memory after all was given
//! back is one piece again. Where nothing fits the allocation fails, as with any allocator.
//!
//! ```
//! use samebits::{arena::Arena, kernels::Line};
//! use std::alloc::{GlobalAlloc, Layout};
//! static ARENA: Arena = Arena::empty(); // in a program without a system: #[global_allocator]
//! ARENA.give(Box::leak(vec![Line::ZERO; 4].into())); // there: a static array
//! let (one, five) = (Layout::new::<[u8; 64]>(), Layout::new::<[u8; 320]>());
//! let first = unsafe { ARENA.alloc(one) };
//! assert!(!first.is_null() && unsafe { ARENA.alloc(five) }.is_null());
//! unsafe { ARENA.dealloc(first, one) };
//! assert_eq!((ARENA.used(), ARENA.most()), (0, 64));
//! ```
#![allow(unsafe_code)] // an allocator hands out addresses

use crate::kernels::Line;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a line: the unit of everything here, and the largest alignment that is given.
const LINE: usize = size_of::<Line>();

/// An allocator over memory that is [given](Arena::give) to it.
pub struct Arena {
    busy: AtomicBool,
    state: UnsafeCell<State>,
}

/// What is free, by ascending address; no two pieces touch.
struct State {
    free: Link,
    used: usize,
    most: usize,
}

type Link = Option<NonNull<Piece>>;

/// The beginning of a free piece of memory.
struct Piece {
    /// Bytes, this beginning among them: whole lines.
    len: usize,
    next: Link,
}

// SAFETY: the state is touched by whoever has set `busy`, and by nobody else; it points into memory that the arena owns.
unsafe impl Sync for Arena {}
// SAFETY: likewise.
unsafe impl Send for Arena {}

impl Arena {
    /// Without memory.
    pub const fn empty() -> Arena {
        let state = State { free: None, used: 0, most: 0 };
        Arena { busy: AtomicBool::new(false), state: UnsafeCell::new(state) }
    }

    /// Adds memory, for good.
    pub fn give(&self, memory: &'static mut [Line]) {
        let len = size_of_val(memory);
        if let Some(at) = NonNull::new(memory.as_mut_ptr().cast()) {
            // SAFETY: the exclusive borrow for ever is passed on to the arena.
            self.with(|state| unsafe { state.put(at, len) });
        }
    }

    /// Bytes that are lent out.
    pub fn used(&self) -> usize {
        self.with(|state| state.used)
    }

    /// The most bytes that ever were.
    pub fn most(&self) -> usize {
        self.with(|state| state.most)
    }

    /// Runs `f` while nobody else touches the state. Never allocate in `f`.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            core::hint::spin_loop();
        }
        // SAFETY: `busy` was ours to set.
        let done = f(unsafe { &mut *self.state.get() });
        self.busy.store(false, Ordering::Release);
        done
    }
}

impl State {
    /// The first free piece of `len` bytes, or null.
    fn take(&mut self, len: usize) -> *mut u8 {
        let mut link: *mut Link = &mut self.free;
        // SAFETY: every link is the list's head or lies in a free piece, which is ours alone.
        while let Some(piece) = unsafe { *link } {
            // SAFETY: a free piece begins with its description.
            let Piece { len: has, next } = unsafe { piece.as_ptr().read() };
            if has >= len {
                // SAFETY: what is left begins `len` bytes on, a whole number of lines, inside the piece.
                let left = (has > len).then(|| unsafe {
                    let left = piece.byte_add(len);
                    left.as_ptr().write(Piece { len: has - len, next });
                    left
                });
                // SAFETY: as above.
                unsafe { *link = left.or(next) };
                self.used += len;
                self.most = self.most.max(self.used);
                return piece.as_ptr().cast();
            }
            // SAFETY: as above.
            link = unsafe { &mut (*piece.as_ptr()).next };
        }
        null_mut()
    }

    /// Makes `len` bytes from `at` on a free piece, or part of its neighbours.
    ///
    /// # Safety
    /// They are whole lines, and nobody else's.
    unsafe fn put(&mut self, at: NonNull<Piece>, len: usize) {
        if len == 0 {
            return;
        }
        let (mut before, mut after): (Link, Link) = (None, self.free);
        while let Some(piece) = after.filter(|piece| *piece < at) {
            // SAFETY: a free piece begins with its description.
            (before, after) = (after, unsafe { (*piece.as_ptr()).next });
        }
        let mut piece = Piece { len, next: after };
        // SAFETY: the places compared are ends of free pieces.
        if let Some(next) = after.filter(|next| unsafe { at.byte_add(len) } == *next) {
            // SAFETY: as above.
            let next = unsafe { next.as_ptr().read() };
            piece = Piece { len: len + next.len, next: next.next };
        }
        match before {
            None => self.free = Some(at),
            Some(before) => {
                // SAFETY: as above.
                let previous = unsafe { &mut *before.as_ptr() };
                // SAFETY: as above.
                if unsafe { before.byte_add(previous.len) } == at {
                    (previous.len, previous.next) = (previous.len + piece.len, piece.next);
                    return;
                }
                previous.next = Some(at);
            }
        }
        // SAFETY: the caller says that the memory is nobody else's; lines are large enough, and aligned.
        unsafe { at.as_ptr().write(piece) };
    }
}

/// Bytes that a layout takes: whole lines. `None` where it asks for more than the arena can give.
fn len(layout: Layout) -> Option<usize> {
    let len = layout.size().checked_next_multiple_of(LINE)?;
    (layout.align() <= LINE).then_some(len.max(LINE))
}

// SAFETY: pieces are handed out once until they come back, aligned to a line, as long as the layout asks.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        len(layout).map_or(null_mut(), |len| self.with(|state| state.take(len)))
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let (Some(at), Some(len)) = (NonNull::new(at.cast()), len(layout)) {
            self.with(|state| {
                state.used -= len;
                // SAFETY: the caller gives back what `alloc` gave for this very layout.
                unsafe { state.put(at, len) };
            });
        }
    }
}
