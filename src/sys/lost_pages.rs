//! SIGBUS: a page of a mapped file that is no longer there.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{MAP_PRIVATE_ANONYMOUS, PROT_READ_WRITE, mmap, page_size};
use crate::sys::memory::PLACES;

const SIGBUS: c_int = 7;
const SA_SIGINFO: c_int = 4;
const MAP_FIXED: c_int = 0x10;
/// The page does not exist (not: its memory is broken).
const BUS_ADRERR: c_int = 2;

/// `struct sigaction`, the same in glibc and musl on 64 bit.
#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

/// The beginning of `siginfo_t`.
#[repr(C)]
struct Info {
    number: c_int,
    errno: c_int,
    code: c_int,
    at: *mut c_void,
}

unsafe extern "C" {
    fn sigaction(number: c_int, new: *const Action, old: *mut Action) -> c_int;
}

/// What SIGBUS did before; `None` where that could not be learnt.
static BEFORE: OnceLock<Option<Action>> = OnceLock::new();
/// Asked once, for a handler should not.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// From now on a page that a mapped file has lost reads as zeros, and its map is marked. Any other SIGBUS does
/// what it did before.
pub fn catch_lost_pages() {
    BEFORE.get_or_init(|| {
        PAGE.store(page_size(), Ordering::Relaxed);
        let handler = on_bus as extern "C" fn(c_int, *const Info, *mut c_void) as usize;
        // On the stack of the thread that read, of which there is enough. The other one, which std makes for overflows,
        // holds what the system saves and no more: where it saves the tiles of a matrix unit, 11 KB, no call fits on it.
        let new = Action { handler, mask: [0; 16], flags: SA_SIGINFO, restorer: 0 };
        let mut old = MaybeUninit::uninit();
        // SAFETY: both are `struct sigaction`, and the handler does what handlers may. The old one is filled in
        // where the answer is 0.
        unsafe { (sigaction(SIGBUS, &new, old.as_mut_ptr()) == 0).then(|| old.assume_init()) }
    });
}

/// Loads and stores of atomics and two system calls: all of it allowed in a handler.
extern "C" fn on_bus(_: c_int, info: *const Info, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the system hands in a `siginfo_t`.
    let info = unsafe { &*info };
    let at = info.at.addr();
    let hit = PLACES.iter().find(|place| {
        let start = place.start.load(Ordering::Acquire);
        start != 0 && (start..place.end.load(Ordering::Relaxed)).contains(&at)
    });
    if let Some(place) = hit.filter(|_| info.code == BUS_ADRERR) {
        let page = PAGE.load(Ordering::Relaxed);
        let first = at / page * page;
        let len = place.end.load(Ordering::Relaxed) - first;
        place.gone.store(true, Ordering::Release);
        let from = info.at.wrapping_byte_sub(at - first);
        // SAFETY: pages of a map of our own, from the lost one to its end: a file that ends before a page ends
        // before those behind it. Readers see zeros, as in any page past the end of what a file has.
        let new = unsafe { mmap(from, len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0) };
        if new == from {
            return;
        }
    }
    // Not ours: as before. The instruction runs again and meets whoever was here first.
    let default = Action { handler: 0, mask: [0; 16], flags: 0, restorer: 0 };
    let before = BEFORE.get().copied().flatten().unwrap_or(default);
    // SAFETY: what the system gave, or its default.
    unsafe { sigaction(SIGBUS, &before, std::ptr::null_mut()) };
}
