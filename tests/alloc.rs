//! No kernel allocates: what it needs beside its arguments is the scratch that its caller hands in.
#![cfg(target_os = "linux")]

mod common;
use common::cases::CASES;
use common::cpus;
use common::guard::{Guarded, Side};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting the requests of each thread.
struct Counting;

thread_local! {
    static REQUESTS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every request goes to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.set(REQUESTS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn kernels_do_not_allocate() {
    let mut at = Guarded::new();
    for cpu in cpus() {
        for (name, run) in CASES {
            for n in [0, 1, 16, 257] {
                at.reset(Side::Right, 0);
                let before = REQUESTS.get();
                run(cpu, n, &mut at);
                assert_eq!(REQUESTS.get(), before, "{name} {cpu:?} n = {n} allocates");
            }
        }
    }
}

/// The count itself: an allocation is seen.
#[test]
fn an_allocation_is_seen() {
    let before = REQUESTS.get();
    std::hint::black_box(Vec::<u8>::with_capacity(1));
    assert_eq!(REQUESTS.get(), before + 1);
}
