//! Systems that are not asked: plain memory, and "unknown" for the rest.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;

/// Does nothing: Ctrl-C ends the process.
pub fn catch_interrupt(_clean_up: fn()) {}

/// Bytes in a page of memory: the usual number.
pub fn page_size() -> usize {
    4096
}

/// The processors that this thread may run on: unknown.
pub fn affinity() -> Option<Vec<usize>> {
    None
}

/// Keeps this thread on one processor: not here.
pub fn pin(_cpu: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn layout(len: usize) -> io::Result<Layout> {
    Layout::from_size_align(len, 4096).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// Zeroed memory, aligned to 4096 bytes; `len` is not 0.
pub fn map_memory(len: usize) -> io::Result<*mut u8> {
    // SAFETY: the length is not 0.
    let at = unsafe { alloc_zeroed(layout(len)?) };
    if at.is_null() { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(at) }
}

/// Huge pages behind memory that exists already: not here.
pub fn use_huge_pages(_at: *mut u8, _len: usize) {}

/// Mapping of files: not here.
pub fn map_file(_file: &std::fs::File, _len: usize) -> io::Result<*mut u8> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Mapped files are not here, nor is anything to let go of.
///
/// # Safety
/// None is needed.
pub unsafe fn release_pages(_at: *mut u8, _len: usize) {}

/// Nothing to catch where files are not mapped.
pub fn catch_lost_pages() {}

/// Gives the memory back.
///
/// # Safety
/// `at` and `len` are those of one `map_memory`, and nothing borrows from it.
pub unsafe fn unmap(at: *mut u8, len: usize) {
    if let Ok(layout) = layout(len) {
        // SAFETY: as the caller promises; the layout is the one of the allocation.
        unsafe { dealloc(at, layout) };
    }
}
