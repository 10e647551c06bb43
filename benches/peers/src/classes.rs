//! Our products of the other classes of arithmetic, the weight packed before the clock starts.

use crate::{Job, Output, Shape, cpu, input, job, pool};
use samebits::kernels::Line;
use samebits::kernels::bf16::{GemmBf16, PackedBf16};
use samebits::kernels::gemm::{Accumulate, Bf16, Element, packed_len};
use samebits::kernels::int8::{Codes, Eight, GemmI8, PackedI8, blocks_len};
use samebits::kernels::view::{MatMut, MatRef};

/// C = A · Bᵀ, A in `f32`, B (n, k) in bfloat16.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_gemm_bf16(
    shape: Shape,
    a: *const f32,
    b: *const u16,
    c: *mut f32,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let (a, bits) = unsafe { (input(a, m * k), input(b, k * n)) };
    let groups = vec![Bf16::ZERO; packed_len(k, n)].leak();
    let b = PackedBf16::pack(cpu(), MatRef::new(Bf16::slice(bits), n, k).t(), groups);
    let mut c = Output { at: c, len: m * n };
    let need = GemmBf16::scratch_len(m, k);
    let mut scratch = vec![Line::ZERO; need];
    job(move || {
        let gemm = GemmBf16::new(MatRef::new(a, m, k), b, MatMut::new(c.slice(), m, n));
        match pool().threads() {
            1 => gemm.run(cpu(), &mut scratch),
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
    let b = PackedI8::pack(MatRef::new(b, n, k).t(), vec![Eight::EMPTY; blocks_len(n, k)].leak());
    let mut c = Output { at: c, len: m * n };
    let need = GemmI8::scratch_len(m, k);
    let mut scratch = vec![Line::ZERO; need];
    job(move || {
        let c = MatMut::new(c.slice(), m, n);
        let gemm = GemmI8 { a: MatRef::new(a, m, k), b, c, accumulate: Accumulate::Overwrite };
        match pool().threads() {
            1 => gemm.run(cpu(), &mut scratch),
            _ => pool().run(gemm.pieces(), |piece, scratch| piece.run(cpu(), scratch.lines(need))),
        }
    })
}
