//! Products by other Rust crates: `gemm`, `matrixmultiply`, `rten-gemm`. Their threads come from the
//! environment (`RAYON_NUM_THREADS`, `MATMUL_NUM_THREADS`), which `peers.py` sets before it loads this library.

use crate::{Job, Output, Shape, input, job, pool};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

/// Which crate multiplies.
const GEMM: usize = 0;
const MATRIXMULTIPLY: usize = 1;
const RTEN: usize = 2;

/// `count` products side by side, one call each. rten-gemm's executor is made before the clock starts.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_crate_gemm(
    which: usize,
    count: usize,
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let one: Box<dyn Fn(*const f32, *const f32, *mut f32)> = match which {
        GEMM => {
            let threads = pool().threads();
            let how = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
            let (n_, k_) = (n as isize, k as isize);
            // SAFETY: row-major (m, k), (k, n), (m, n), as this function's caller vouches.
            Box::new(move |a, b, c| unsafe {
                gemm::gemm(m, n, k, c, 1, n_, false, a, 1, k_, b, 1, n_, 0.0, 1.0, false, false, false, how);
            })
        }
        MATRIXMULTIPLY => {
            let (n_, k_) = (n as isize, k as isize);
            // SAFETY: as above.
            Box::new(move |a, b, c| unsafe {
                matrixmultiply::sgemm(m, k, n, 1.0, a, k_, 1, b, n_, 1, 0.0, c, n_, 1);
            })
        }
        RTEN => {
            let executor = GemmExecutor::<f32>::new();
            Box::new(move |a, b, c| {
                // SAFETY: as above.
                let (a, b) = unsafe { (input(a, m * k), input(b, k * n)) };
                let a = NdTensorView::from_data([m, k], a);
                let b = NdTensorView::from_data([k, n], b);
                let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Unpacked(b));
                let mut c = Output { at: c, len: m * n };
                executor.gemm(c.slice(), a, b, GemmOptions::default()).expect("shapes agree");
            })
        }
        _ => return std::ptr::null_mut(),
    };
    job(move || {
        for i in 0..count {
            // SAFETY: the buffers hold `count` matrices each.
            unsafe { one(a.add(i * m * k), b.add(i * k * n), c.add(i * m * n)) }
        }
    })
}

/// rten-gemm with B (n, k) packed before the clock starts.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_rten_packed(
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let executor = GemmExecutor::<f32>::new();
    let (a, b) = unsafe { (input(a, m * k), input(b, k * n)) };
    let packed = executor.prepack_b(NdTensorView::from_data([n, k], b).transposed());
    let mut c = Output { at: c, len: m * n };
    job(move || {
        let a = GemmInputA::Unpacked(NdTensorView::from_data([m, k], a));
        executor
            .gemm(c.slice(), a, GemmInputB::Packed(&packed), GemmOptions::default())
            .expect("shapes agree");
    })
}
