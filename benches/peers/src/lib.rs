//! samebits and its peers as jobs behind a small C interface, for `peers.py` to time in one process.
//!
//! A *job* is a closure over buffers that Python owns. `peers_run` repeats it, so that a call of three microseconds
//! is not measured through an interpreter. A constructor that returns null cannot do
//! what was asked (an absent instruction set, a library that was not found).
//!
//! Every pointer given to a constructor must be valid for the shape given beside it, until the job is dropped.

mod attend;
mod blas;
mod classes;
mod crates;
mod limits;
mod nf4;
mod ours;
mod rows;

use samebits::Cpu;
use samebits::pool::Pool;
use std::ffi::c_char;
use std::sync::OnceLock;

/// Something to repeat.
pub struct Job(Box<dyn FnMut()>);

/// A job for Python to hold.
fn job(f: impl FnMut() + 'static) -> *mut Job {
    Box::into_raw(Box::new(Job(Box::new(f))))
}

/// Runs a job `repeat` times.
///
/// # Safety
/// `job` comes from a constructor and was not dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_run(job: *mut Job, repeat: usize) {
    let Job(f) = unsafe { &mut *job };
    for _ in 0..repeat {
        f();
    }
}

/// # Safety
/// As for [`peers_run`]; the job is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_drop(job: *mut Job) {
    drop(unsafe { Box::from_raw(job) });
}

/// What runs here, for the head of the table: the tier's name, ended by a zero.
#[unsafe(no_mangle)]
pub extern "C" fn peers_tier() -> *const c_char {
    let name: &'static std::ffi::CStr = match cpu().tier() {
        samebits::Tier::Scalar => c"scalar",
        samebits::Tier::Simd128 => c"simd128",
        samebits::Tier::Neon => c"neon",
        samebits::Tier::Avx2 => c"avx2",
        samebits::Tier::Avx512 => c"avx512",
    };
    name.as_ptr()
}

/// Threads of every job made afterwards; said once.
#[unsafe(no_mangle)]
pub extern "C" fn peers_threads(threads: usize) {
    assert!(POOL.set(Pool::new(threads)).is_ok(), "peers_threads is said once");
}

static POOL: OnceLock<Pool> = OnceLock::new();

/// Our threads.
fn pool() -> &'static Pool {
    POOL.get_or_init(|| Pool::new(1))
}

/// Our tier: the best of this machine, or what `SAMEBITS_TIER` asks for.
fn cpu() -> Cpu {
    samebits::cpu::default().expect("a tier of this machine in SAMEBITS_TIER")
}

/// Memory of Python's, to read.
///
/// # Safety
/// `at` must be valid for `len` elements for as long as the job lives.
unsafe fn input<T>(at: *const T, len: usize) -> &'static [T] {
    unsafe { std::slice::from_raw_parts(at, len) }
}

/// Memory of Python's that a job writes: a new borrow each time that the job runs.
struct Output<T> {
    at: *mut T,
    len: usize,
}

impl<T> Output<T> {
    fn slice(&mut self) -> &mut [T] {
        // SAFETY: the constructor's caller vouches for it; `&mut self` keeps borrows apart.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// m, n and k of a product.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Shape {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
}
