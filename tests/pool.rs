//! The pool: every piece runs once, whoever runs it; panics, forks, nesting and odd floating-point modes
//! change nothing.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use samebits::pool::{Pool, available_threads};

/// Every output gets its own sum of inverse squares, which takes a moment and rounds at each step.
fn fill(pool: &Pool, out: &mut [f32]) {
    pool.run(out.iter_mut().enumerate(), |(i, y), scratch| {
        let terms = scratch.lines(1 + i % 7);
        terms[0].0 = [0.0; 16];
        for k in 1..=100 + i % 50 {
            terms[0].0[0] += 1.0 / ((k * k + i) as f32);
        }
        *y += terms[0].0[0];
    });
}

fn filled(threads: usize, n: usize) -> Vec<u32> {
    let mut out = vec![0.0f32; n];
    fill(&Pool::new(threads), &mut out);
    out.iter().map(|y| y.to_bits()).collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for n in [0, 1, 2, 3, 17, 1000] {
        let one = filled(1, n);
        for threads in [2, 3, 7] {
            assert_eq!(filled(threads, n), one, "{threads} threads, {n} pieces");
        }
    }
}

#[test]
fn every_piece_runs_once_call_after_call() {
    let pool = Pool::new(4);
    assert_eq!(pool.threads(), 4);
    for round in 0..2000 {
        let counts: Vec<AtomicUsize> = (0..round % 40).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&counts, |count, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
        if round % 500 == 0 {
            thread::sleep(Duration::from_millis(5)); // let the workers fall asleep
        }
    }
}

#[test]
fn workers_take_part() {
    let pool = Pool::new(3);
    let seen = Mutex::new(HashSet::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen.lock().unwrap().len() < 3 {
        assert!(Instant::now() < deadline, "only {:?} ever ran a piece", seen.lock().unwrap());
        pool.run(0..12, |_, _| {
            seen.lock().unwrap().insert(thread::current().id());
            thread::sleep(Duration::from_millis(1));
        });
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives() {
    let pool = Pool::new(3);
    let piece_panics = |which: fn(usize) -> bool| {
        let run = || pool.run(0..100usize, |i, _| assert!(!which(i), "piece {i}"));
        catch_unwind(AssertUnwindSafe(run)).expect_err("the panic goes on")
    };
    let start = Instant::now();
    for which in [(|i| i == 0) as fn(usize) -> bool, |i| i == 99, |_| true] {
        let payload = piece_panics(which);
        let message = payload.downcast_ref::<String>().expect("the piece's own message");
        assert!(message.starts_with("piece "), "{message}");
        let mut out = vec![0.0; 300];
        fill(&pool, &mut out);
        assert_eq!(out.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), filled(1, 300));
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// An iterator that fails half-way: the pieces before are run, the panic goes on.
#[test]
fn a_panic_of_the_iterator_reaches_the_caller() {
    let pool = Pool::new(3);
    let pieces = (0..50).inspect(|&i| assert!(i < 30, "no piece {i}"));
    let result = catch_unwind(AssertUnwindSafe(|| pool.run(pieces, |_, _| {})));
    assert!(result.is_err());
    fill(&pool, &mut [0.0; 20]);
}

#[test]
fn sixteen_callers_and_nested_calls() {
    let pool = Pool::new(3);
    let want = filled(1, 64);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut outer = vec![vec![0.0f32; 64]; 5];
                    pool.run(&mut outer, |inner, scratch| {
                        scratch.lines(3)[2].0[0] = 7.0;
                        fill(&pool, inner);
                        assert_eq!(scratch.lines(3)[2].0[0], 7.0, "a nested call has scratch of its own");
                    });
                    for inner in outer {
                        assert_eq!(inner.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), want);
                    }
                }
            });
        }
    });
}

#[test]
fn scratch_grows_and_keeps_what_it_holds() {
    Pool::new(1).run([1usize, 100, 10], |len, scratch| {
        let lines = scratch.lines(len);
        assert_eq!(lines.len(), len);
        assert_eq!(lines.as_ptr().addr() % 64, 0);
    });
}

#[test]
fn the_default_pool_follows_the_machine() {
    let pool = samebits::pool::default().expect("SAMEBITS_THREADS is sound here");
    assert!(pool.threads() >= 1 && available_threads() >= 1);
    assert!(std::ptr::eq(pool, samebits::pool::default().unwrap()), "one pool a process");
}

#[test]
#[should_panic(expected = "0 threads")]
fn no_threads_are_no_pool() {
    Pool::new(0);
}

/// More threads than processors must not cost more than half as much again.
#[test]
fn too_many_threads_cost_little() {
    let (one, many) = (Pool::new(1), Pool::new(8 * available_threads()));
    let time = |pool: &Pool| {
        let start = Instant::now();
        for _ in 0..50 {
            fill(pool, &mut vec![0.0; 2000]);
        }
        start.elapsed()
    };
    let best = |pool: &Pool| (0..5).map(|_| time(pool)).min().unwrap();
    // Threads that share the machine with other tests vary: the best of five, and thrice at most.
    let ratios: Vec<f64> = (0..3).map(|_| best(&many).div_duration_f64(best(&one))).collect();
    assert!(ratios.iter().any(|&r| r < 1.5), "slowdowns {ratios:?}");
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn _exit(status: i32) -> !;
        fn alarm(seconds: u32) -> u32;
    }

    #[test]
    fn a_forked_child_runs_alone() {
        let pool = Pool::new(4);
        let want = filled(1, 200);
        fill(&pool, &mut [0.0; 200]);
        // SAFETY: the child computes, without a lock that another thread may have held, and leaves.
        let child = unsafe { fork() };
        if child == 0 {
            // SAFETY: a child that hangs is ended by the alarm and so fails the test.
            unsafe { alarm(5) };
            let mut out = vec![0.0; 200];
            fill(&pool, &mut out);
            let same = out.iter().zip(&want).all(|(y, w)| y.to_bits() == *w);
            drop(pool);
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { _exit(if same { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: the child just made, and a place for its status.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child's exit");
        fill(&pool, &mut [0.0; 200]);
    }
}

#[cfg(target_arch = "x86_64")]
mod mode {
    use super::*;
    use std::arch::asm;

    fn mxcsr() -> u32 {
        let mut value = 0u32;
        // SAFETY: stores a register into a local.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
        value
    }

    fn set_mxcsr(value: u32) {
        // SAFETY: loads a register from a local; the thread ends with the test that calls this.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
    }

    const FLUSH: u32 = 0x8040;

    /// 1e-40 / 2 is a subnormal number, or 0 where they are flushed.
    fn halves(pool: &Pool, n: usize) -> Vec<f32> {
        let tiny = std::hint::black_box(1e-40f32);
        let mut out = vec![0.0f32; n];
        pool.run(&mut out, |y, _| *y = tiny * std::hint::black_box(0.5));
        out
    }

    #[test]
    fn a_caller_that_flushes_subnormals_changes_nothing() {
        let flushing = || {
            let strange = mxcsr() | FLUSH;
            set_mxcsr(strange);
            let tiny = std::hint::black_box(1e-40f32) * std::hint::black_box(0.5);
            assert_eq!(tiny.to_bits(), 0, "this thread flushes");
            for threads in [1, 4] {
                let pool = Pool::new(threads);
                for n in [1, 300] {
                    let bits: Vec<u32> = halves(&pool, n).iter().map(|y| y.to_bits()).collect();
                    assert!(bits.iter().all(|&b| b == 0x0000_8b61 || b == 0x0000_8b60), "{bits:x?}");
                }
            }
            assert_eq!(mxcsr() & 0xe040, strange & 0xe040, "the caller's mode is its own");
        };
        thread::spawn(flushing).join().unwrap();
    }

    #[test]
    fn the_mode_of_every_thread_stays_the_default() {
        let pool = Pool::new(4);
        let before = mxcsr() & 0xffc0;
        pool.run(0..200, |_, _| assert_eq!(mxcsr() & 0xe040, 0));
        assert_eq!(mxcsr() & 0xffc0, before);
    }
}
