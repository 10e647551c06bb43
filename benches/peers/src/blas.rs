//! Products by the libraries inside Python's packages, called without Python: MKL's Fortran `SGEMM` (in
//! PyTorch) and OpenBLAS's 64-bit `cblas_sgemm` (in NumPy). `peers.py` finds them and hands in their addresses.

use crate::{Job, Shape, job};
use std::ffi::{c_char, c_int};

type Sgemm = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_int,
    *const c_int,
    *const c_int,
    *const f32,
    *const f32,
    *const c_int,
    *const f32,
    *const c_int,
    *const f32,
    *mut f32,
    *const c_int,
    usize,
    usize,
);

type CblasSgemm64 = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    i64,
    i64,
    i64,
    f32,
    *const f32,
    i64,
    *const f32,
    i64,
    f32,
    *mut f32,
    i64,
);

/// `count` products by Fortran's SGEMM: column-major, so Cᵀ = Bᵀ · Aᵀ.
///
/// # Safety
/// `sgemm` is such a function; the rest as the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_fortran_gemm(
    sgemm: Sgemm,
    count: usize,
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let (m_, n_, k_) = (m as c_int, n as c_int, k as c_int);
    let plain = c"N".as_ptr() as usize;
    job(move || {
        let (plain, one, zero) = (plain as *const c_char, 1.0f32, 0.0f32);
        for i in 0..count {
            // SAFETY: the buffers hold `count` matrices each.
            unsafe {
                let (a, b, c) = (a.add(i * m * k), b.add(i * k * n), c.add(i * m * n));
                sgemm(plain, plain, &n_, &m_, &k_, &one, b, &n_, a, &k_, &zero, c, &n_, 1, 1);
            }
        }
    })
}

/// `count` products by `cblas_sgemm` with 64-bit integers.
///
/// # Safety
/// `sgemm` is such a function; the rest as the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_cblas64_gemm(
    sgemm: CblasSgemm64,
    count: usize,
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    const ROW_MAJOR: c_int = 101;
    const PLAIN: c_int = 111;
    let Shape { m, n, k } = shape;
    let (m_, n_, k_) = (m as i64, n as i64, k as i64);
    job(move || {
        for i in 0..count {
            // SAFETY: the buffers hold `count` matrices each.
            unsafe {
                let (a, b, c) = (a.add(i * m * k), b.add(i * k * n), c.add(i * m * n));
                sgemm(ROW_MAJOR, PLAIN, PLAIN, m_, n_, k_, 1.0, a, k_, b, n_, 0.0, c, n_);
            }
        }
    })
}
