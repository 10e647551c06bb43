//! Our products of the other classes of arithmetic, the weight packed before the clock starts.

use crate::{Job, Output, Shape, cpu, input, job, pool};
use samebits::kernels::Line;
use samebits::kernels::bf16::{GemmBf16, PackedBf16};
use samebits::kernels::gemm::{Accumulate, Bf16, Element, packed_len};
use samebits::kernels::int8::{Codes, Eight, GemmI8, PackedI8, blocks_len};
use samebits::kernels::view::{MatMut, MatRef};
use std::alloc::{Layout, alloc};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

/// Memory as a loaded model takes it for weights: on huge pages, where it is large and the system has them.
fn huge_pages<T: Clone>(x: T, n: usize) -> &'static mut [T] {
    unsafe extern "C" {
        fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
    }
    const HUGE: usize = 2 << 20;
    const MADV_HUGEPAGE: c_int = 14;
    let layout =
        Layout::array::<T>(n).and_then(|l| l.align_to(HUGE)).expect("memory for a weight").pad_to_align();
    unsafe {
        let at = alloc(layout);
        assert!(!at.is_null(), "no memory");
        madvise(at.cast(), layout.size(), MADV_HUGEPAGE);
        let room: &mut [MaybeUninit<T>] = std::slice::from_raw_parts_mut(at.cast(), n);
        room.fill_with(|| MaybeUninit::new(x.clone()));
        &mut *(std::ptr::from_mut(room) as *mut [T])
    }
}

/// C = A · Bᵀ, all in bfloat16; B is (n, k).
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_gemm_bf16(
    shape: Shape,
    a: *const u16,
    b: *const u16,
    c: *mut u16,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let (a, bits) = unsafe { (input(a, m * k), input(b, k * n)) };
    let groups = huge_pages(Bf16::ZERO, packed_len(k, n));
    let b = PackedBf16::pack(cpu(), MatRef::new(Bf16::slice(bits), n, k).t(), groups);
    let mut c = Output { at: c.cast::<Bf16>(), len: m * n };
    let need = GemmBf16::scratch_len(m, k, n);
    let scratch = huge_pages(Line::ZERO, need);
    job(move || {
        let gemm = GemmBf16::new(MatRef::new(Bf16::slice(a), m, k), b, MatMut::<Bf16>::new(c.slice(), m, n));
        match pool().threads() {
            1 => gemm.run(cpu(), scratch),
            _ => pool().run(gemm.pieces(), |piece, scratch| piece.run(cpu(), scratch.lines(need))),
        }
    })
}

/// C = A · Bᵀ, integers of eight bits, sums of 32; B is (n, k).
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_gemm_i8(
    shape: Shape,
    a: *const i8,
    b: *const i8,
    c: *mut i32,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let (a, b) = unsafe { (input(a, m * k), input(b, k * n)) };
    let b = PackedI8::pack(MatRef::new(b, n, k).t(), huge_pages(Eight::EMPTY, blocks_len(n, k)));
    let mut c = Output { at: c, len: m * n };
    let need = GemmI8::scratch_len(m, k, n);
    let scratch = huge_pages(Line::ZERO, need);
    job(move || {
        let c = MatMut::new(c.slice(), m, n);
        let gemm = GemmI8 { a: MatRef::new(a, m, k), b, c, accumulate: Accumulate::Overwrite };
        match pool().threads() {
            1 => gemm.run(cpu(), scratch),
            _ => pool().run(gemm.pieces(), |piece, scratch| piece.run(cpu(), scratch.lines(need))),
        }
    })
}
