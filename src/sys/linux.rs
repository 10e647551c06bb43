//! Linux, 64 bit: declarations as in glibc's and musl's headers.

use std::ffi::{c_int, c_long, c_void};
use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use super::INTERRUPTED;

#[path = "lost_pages.rs"]
mod lost_pages;
pub use lost_pages::catch_lost_pages;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn _exit(status: c_int) -> !;
    fn write(fd: c_int, bytes: *const c_void, len: usize) -> isize;
    fn sysconf(name: c_int) -> c_long;
    fn sched_getaffinity(pid: c_int, bytes: usize, mask: *mut u64) -> c_int;
    fn sched_setaffinity(pid: c_int, bytes: usize, mask: *const u64) -> c_int;
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
    fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
}

const SIGINT: c_int = 2;
const SIG_IGN: usize = 1;
const SC_PAGESIZE: c_int = 30;
const MADV_HUGEPAGE: c_int = 14;
const PROT_READ_WRITE: c_int = 1 | 2;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x02 | 0x20;

/// The end of a pipe that the handler rings.
static ALARM: AtomicI32 = AtomicI32::new(-1);

/// Processors that an affinity mask can name here.
const MASK_BITS: usize = 8192;
type Mask = [u64; MASK_BITS / 64];

/// What a command may take to end by itself after Ctrl-C.
const GRACE: Duration = Duration::from_millis(150);

/// From now on Ctrl-C sets [`super::interrupted`]. A command that has not ended soon after is ended: what it
/// leaves half-written is removed by `clean_up`, and the exit code is 130. Ctrl-C once more ends it at once.
pub fn catch_interrupt(clean_up: fn()) {
    extern "C" fn on_interrupt(_: c_int) {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            // SAFETY: ends the process; allowed in a signal handler.
            unsafe { _exit(130) };
        }
        // SAFETY: writes one byte; allowed in a signal handler. A pipe that is full or closed is no matter.
        unsafe { write(ALARM.load(Ordering::Relaxed), [0u8].as_ptr().cast(), 1) };
    }
    // A handler may do little: it rings a thread, which may do all. Without it, Ctrl-C stays as it was.
    let Ok((mut alarm, ring)) = io::pipe() else { return };
    let watch = move || {
        if matches!(alarm.read(&mut [0]), Ok(1)) {
            thread::sleep(GRACE);
            clean_up();
            // SAFETY: ends the process.
            unsafe { _exit(130) };
        }
    };
    if thread::Builder::new().name("samebits-ctrl-c".into()).spawn(watch).is_err() {
        return;
    }
    ALARM.store(ring.into_raw_fd(), Ordering::Relaxed);
    let handler = on_interrupt as extern "C" fn(c_int) as usize;
    // SAFETY: the handler does what handlers may. A process started to ignore Ctrl-C goes on ignoring it.
    unsafe {
        if signal(SIGINT, handler) == SIG_IGN {
            signal(SIGINT, SIG_IGN);
        }
    }
}

/// Bytes in a page of memory.
pub fn page_size() -> usize {
    // SAFETY: reads a constant of the system.
    usize::try_from(unsafe { sysconf(SC_PAGESIZE) }).unwrap_or(4096)
}

/// The processors that this thread may run on, where the system says.
pub fn affinity() -> Option<Vec<usize>> {
    let mut mask: Mask = [0; MASK_BITS / 64];
    // SAFETY: the mask has as many bytes as the call is told; 0 is the calling thread.
    let bytes = unsafe { sched_getaffinity(0, size_of::<Mask>(), mask.as_mut_ptr()) };
    let allowed = |&cpu: &usize| mask[cpu / 64] >> (cpu % 64) & 1 == 1;
    (bytes >= 0).then(|| (0..MASK_BITS).filter(allowed).collect())
}

/// Keeps this thread on one processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= MASK_BITS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut mask: Mask = [0; MASK_BITS / 64];
    mask[cpu / 64] = 1 << (cpu % 64);
    // SAFETY: as for `affinity`.
    let result = unsafe { sched_setaffinity(0, size_of::<Mask>(), mask.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Anonymous memory, zeroed, in huge pages where the system has them to give.
pub fn map_memory(len: usize) -> io::Result<*mut u8> {
    // SAFETY: a new mapping, wherever the system likes.
    let at = unsafe { mmap(std::ptr::null_mut(), len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
    let at = mapped(at)?;
    // SAFETY: advice on a mapping of our own. If it is not taken, pages are small and all else the same.
    unsafe { madvise(at.cast(), len, MADV_HUGEPAGE) };
    Ok(at)
}

/// Asks for huge pages behind memory that exists already; what it holds stays as it is.
pub fn use_huge_pages(at: *mut u8, len: usize) {
    const MADV_COLLAPSE: c_int = 25;
    let page = page_size();
    let start = at.addr().next_multiple_of(page);
    let end = (at.addr() + len) / page * page;
    if start >= end {
        return;
    }
    let from = at.wrapping_add(start - at.addr()).cast();
    // SAFETY: whole pages inside memory of the caller; the advice moves them, not what they hold. Where it
    // is refused, nothing changes.
    unsafe {
        madvise(from, end - start, MADV_HUGEPAGE);
        madvise(from, end - start, MADV_COLLAPSE);
    }
}

/// Lets go of the whole pages in a part of a mapped file: they are read again when they are touched again.
///
/// # Safety
/// The part belongs to a mapping of a file, and nothing was written to it.
pub unsafe fn release_pages(at: *mut u8, len: usize) {
    const MADV_DONTNEED: c_int = 4;
    let page = page_size();
    let (start, end) = (at.addr().next_multiple_of(page), (at.addr() + len) / page * page);
    if start < end {
        // SAFETY: whole pages of a mapping, as the caller promises; they hold what the file holds.
        unsafe { madvise(at.wrapping_add(start - at.addr()).cast(), end - start, MADV_DONTNEED) };
    }
}

/// The first `len` bytes of a file; what is written there does not reach it.
pub fn map_file(file: &std::fs::File, len: usize) -> io::Result<*mut u8> {
    use std::os::fd::AsRawFd;
    const MAP_PRIVATE: c_int = 0x02;
    // SAFETY: a new mapping, wherever the system likes, of a file that is open.
    let at = unsafe { mmap(std::ptr::null_mut(), len, PROT_READ_WRITE, MAP_PRIVATE, file.as_raw_fd(), 0) };
    mapped(at)
}

fn mapped(at: *mut c_void) -> io::Result<*mut u8> {
    if at.addr() == usize::MAX { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

/// Gives a mapping back.
///
/// # Safety
/// `at` and `len` are those of one mapping, and nothing borrows from it.
pub unsafe fn unmap(at: *mut u8, len: usize) {
    // SAFETY: as the caller promises.
    unsafe { munmap(at.cast(), len) };
}
