//! No kernel allocates: what it needs beside its arguments is the scratch that its caller hands in.
#![cfg(target_os = "linux")]

mod common;
use common::cases::CASES;
use common::cpus;
use common::guard::{Guarded, Side};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::nn::{Compute, Linear, Weight};
use samebits::run::Run;
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

/// Layers of every class take what they need beside their arguments from what the run has: nothing, once it is there.
#[test]
fn layers_do_not_allocate_again() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        for class in Compute::ALL {
            let layers = [(40, 64), (24, 100)].map(|(n, k)| {
                let weight = Weight::from_f32(cpu, MatRef::new(&vec![0.5; n * k], n, k));
                Linear::new(weight.in_class(cpu, class).unwrap(), None)
            });
            let (x, mut y) = (vec![1.0; 9 * 100], vec![0.0; 9 * 40]);
            let mut requests = 0;
            for turn in 0..3 {
                let before = REQUESTS.get();
                for layer in &layers {
                    for rows in [9, 1] {
                        let (n, k) = (layer.out_features(), layer.in_features());
                        let x = MatRef::new(&x[..rows * k], rows, k);
                        layer.forward(&run, x, MatMut::new(&mut y[..rows * n], rows, n));
                    }
                }
                requests = REQUESTS.get() - before;
                let first = class == Compute::Int8 && turn == 0;
                assert!(!first || requests > 0, "the first time there are no codes yet");
            }
            assert_eq!(requests, 0, "{class:?} on {cpu:?}");
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
