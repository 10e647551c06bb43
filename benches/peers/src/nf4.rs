//! Our NF4: quantise, dequantise, and products straight from packed weights.

use crate::ours::product;
use crate::{Job, Output, Shape, cpu, input, job, pool};
use samebits::kernels::Line;
use samebits::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4};

/// Elements of a piece: whole blocks and whole bytes.
const PIECE: usize = 1 << 16;

/// x (len) to codes, two a byte, and absmax.
///
/// # Safety
/// As the crate says; `blocksize` is a power of two up to 2¹⁶.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_quantize(
    len: usize,
    blocksize: usize,
    x: *const f32,
    codes: *mut u8,
    absmax: *mut f32,
) -> *mut Job {
    let x = unsafe { input(x, len) };
    let mut codes = Output { at: codes, len: nf4::code_bytes(len) };
    let mut absmax = Output { at: absmax, len: nf4::block_count(len, blocksize) };
    job(move || {
        let out = codes.slice().chunks_mut(PIECE / 2).zip(absmax.slice().chunks_mut(PIECE / blocksize));
        pool().run(x.chunks(PIECE).zip(out), |(x, (codes, absmax)), _| {
            nf4::quantize(cpu(), x, blocksize, codes, absmax).expect("finite weights");
        });
    })
}

/// Codes and absmax to x (len).
///
/// # Safety
/// As for [`peers_ours_quantize`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_dequantize(
    len: usize,
    blocksize: usize,
    codes: *const u8,
    absmax: *const f32,
    x: *mut f32,
) -> *mut Job {
    let codes = unsafe { input(codes, nf4::code_bytes(len)) };
    let absmax = unsafe { input(absmax, nf4::block_count(len, blocksize)) };
    let mut x = Output { at: x, len };
    job(move || {
        let read = codes.chunks(PIECE / 2).zip(absmax.chunks(PIECE / blocksize));
        pool().run(read.zip(x.slice().chunks_mut(PIECE)), |((codes, absmax), x), _| {
            nf4::dequantize(cpu(), codes, absmax, blocksize, x);
        });
    })
}

/// C = A · Wᵀ from W (n, k) as codes and absmax, brought into panels before the clock starts.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_nf4(
    shape: Shape,
    blocksize: usize,
    a: *const f32,
    codes: *const u8,
    absmax: *const f32,
    c: *mut f32,
) -> *mut Job {
    let Shape { n, k, .. } = shape;
    let codes = unsafe { input(codes, nf4::code_bytes(n * k)) };
    let absmax = unsafe { input(absmax, nf4::block_count(n * k, blocksize)) };
    let weight = RowNf4::new(n, k, blocksize, codes, absmax);
    let lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)].leak();
    let scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, blocksize)].leak();
    PackedNf4::pack(weight, lines, scales);
    let (lines, scales): (&'static [_], &'static [_]) = (lines, scales);
    product(shape, a, move || PackedNf4::new(n, k, blocksize, lines, scales), c)
}
