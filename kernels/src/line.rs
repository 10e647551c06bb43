//! The machine word of the engine: sixteen `f32`, on every machine.

use crate::int8::Quad;
use core::ops::{Deref, DerefMut};

/// Lanes of the machine word.
pub const LANES: usize = 16;

/// Sixteen `f32`, aligned to a cache line.
///
/// One AVX-512 register, two AVX2 registers, four NEON registers, one array. Packed matrices and
/// scratch are slices of lines; plain data stays `&[f32]` and is read as `&[f32; 16]`, which needs
/// no alignment.
///
/// ```
/// use samebits_kernels::{LANES, Line};
/// let mut lines = [Line::ZERO; 2];
/// Line::floats_mut(&mut lines)[17] = 5.0;
/// assert_eq!(lines[1][17 - LANES], 5.0);
/// assert_eq!(Line::floats(&lines).as_ptr() as usize % 64, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

impl Line {
    /// Sixteen times +0.
    pub const ZERO: Line = Line([0.0; LANES]);

    /// The floats of a slice of lines, in order.
    #[inline(always)]
    pub const fn floats(lines: &[Line]) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` around `[f32; 16]`: 64 bytes, no padding, and every
        // alignment of `Line` is one of `f32`. The length counts the same bytes.
        unsafe { core::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
    }

    /// The memory of quads of codes.
    #[inline(always)]
    pub(crate) const fn of_quads(quads: &[Quad]) -> &[Line] {
        // SAFETY: a quad is 64 bytes, aligned as a line is, and a line takes any bits.
        unsafe { core::slice::from_raw_parts(quads.as_ptr().cast(), quads.len()) }
    }

    /// The lines in the middle of `floats`, and what lies before and after them.
    #[inline(always)]
    pub fn split_mut(floats: &mut [f32]) -> (&mut [f32], &mut [Line], &mut [f32]) {
        // SAFETY: `Line` is `repr(C)` around `[f32; 16]`: sixteen floats at its alignment are one.
        unsafe { floats.align_to_mut() }
    }

    /// The floats of a slice of lines, in order, to write.
    #[inline(always)]
    pub const fn floats_mut(lines: &mut [Line]) -> &mut [f32] {
        // SAFETY: as for `floats`; the exclusive borrow passes on.
        unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LANES) }
    }
}

/// Reads something of each cache line of `x`, so that it is near when it is needed: what a prefetch may leave
/// undone.
#[inline(always)]
pub(crate) fn touch(x: &[u8]) {
    let n = x.len().div_ceil(64);
    if n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    // One instruction, again and again: it is by the address of the load that prefetchers know a stream, and
    // compilers unroll. SAFETY: reads x[0], x[64], … and nothing else, at least once.
    unsafe {
        core::arch::asm!(
            "2:",
            "movzx {it:e}, byte ptr [{end} + {at}]",
            "add {at}, 64",
            "jnz 2b",
            end = in(reg) x.as_ptr().wrapping_add(n * 64),
            at = inout(reg) -64 * n as isize => _,
            it = out(reg) _,
            options(nostack, readonly)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for line in x.chunks(64) {
        // SAFETY: the pointer comes from a reference. Volatile, so that the load is made.
        unsafe { line.as_ptr().read_volatile() };
    }
}

/// The same memory, byte by byte.
///
/// ```
/// use samebits_kernels::line::{Bits, bytes, bytes_mut, numbers};
/// let mut x = [1u16, 2];
/// bytes_mut(&mut x).fill(3);
/// assert_eq!(x, [0x303, 0x303]);
/// assert_eq!(numbers::<u16>(bytes(&x)), Some(&x[..]));
/// assert_eq!(numbers::<u16>(&bytes(&x)[..3]), None); // no whole number of them
/// /// Any such memory, as a file has it.
/// fn size<T: Bits>(x: &[T]) -> usize {
///     bytes(x).len()
/// }
/// assert_eq!(size(&[[1.0f32; 16]; 2]), 128);
/// ```
#[inline(always)]
pub const fn bytes<T: Bits>(x: &[T]) -> &[u8] {
    // SAFETY: `Bits` has no padding; the length counts the same bytes.
    unsafe { core::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x)) }
}

/// The same memory, byte by byte, to write.
#[inline(always)]
pub const fn bytes_mut<T: Bits>(x: &mut [T]) -> &mut [u8] {
    // SAFETY: as for `bytes`; whatever is written is a value.
    unsafe { core::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), size_of_val(x)) }
}

/// What memory can be read as: numbers, and the groups of them that packed weights are made of.
///
/// # Safety
/// Every bit pattern is a value, and there is no padding.
pub unsafe trait Bits: Copy + Send + Sync + 'static {}

// SAFETY: sixteen floats.
unsafe impl Bits for Line {}
// SAFETY: 64 bytes of words at an alignment of 64.
unsafe impl Bits for crate::nf4::CodeLine {}
// SAFETY: 128 bytes at an alignment of 64.
unsafe impl Bits for crate::ggml::Code8 {}
// SAFETY: 16 half words, 32 bytes, at an alignment of 32.
unsafe impl Bits for crate::ggml::HalfLine {}
// SAFETY: several of what takes any bits, without a gap.
unsafe impl<T: Bits, const N: usize> Bits for [T; N] {}
// SAFETY: every number takes any bits.
unsafe impl<T: Plain> Bits for T {}

/// A number that lines can be read as.
///
/// # Safety
/// Every bit pattern is a value, there is no padding, and size and alignment divide 64.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: integers and IEEE floats of 1, 2, 4 and 8 bytes.
unsafe impl Plain for u8 {}
// SAFETY: likewise.
unsafe impl Plain for i8 {}
// SAFETY: likewise.
unsafe impl Plain for u16 {}
// SAFETY: likewise.
unsafe impl Plain for i32 {}
// SAFETY: likewise.
unsafe impl Plain for u32 {}
// SAFETY: likewise.
unsafe impl Plain for f32 {}
// SAFETY: likewise.
unsafe impl Plain for f64 {}
// SAFETY: a `u16`, transparent.
unsafe impl Plain for crate::gemm::Bf16 {}

impl Line {
    /// The memory of a slice of lines as numbers of another type, in the machine's byte order.
    ///
    /// ```
    /// use samebits_kernels::line::{Line, Plain};
    /// /// Scratch of lines, lent as what is needed.
    /// fn room<T: Plain>(lines: &mut [Line], n: usize) -> &mut [T] {
    ///     &mut Line::elements_mut(lines)[..n]
    /// }
    /// let mut lines = [Line::ZERO; 1];
    /// room::<i8>(&mut lines, 64).fill(-1);
    /// assert_eq!(Line::elements::<i32>(&lines), [-1; 16]);
    /// ```
    #[inline(always)]
    pub const fn elements<T: Plain>(lines: &[Line]) -> &[T] {
        // SAFETY: `Plain` divides the 64 bytes of a line, aligned to 64, without remainder, and takes any
        // bits. The length counts the same bytes.
        unsafe { core::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * (64 / size_of::<T>())) }
    }

    /// The memory of a slice of lines as numbers of another type, to write.
    #[inline(always)]
    pub const fn elements_mut<T: Plain>(lines: &mut [Line]) -> &mut [T] {
        let n = lines.len() * (64 / size_of::<T>());
        // SAFETY: as for `elements`; the exclusive borrow passes on, and every bit pattern is an `f32` too.
        unsafe { core::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), n) }
    }
}

/// Bytes as numbers of another type, in the machine's byte order; `None` where they do not lie as such numbers must,
/// or are no whole number of them.
#[inline(always)]
pub fn numbers<T: Bits>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: `Bits` takes any bits.
    let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(numbers)
}

impl Default for Line {
    fn default() -> Self {
        Line::ZERO
    }
}

impl Deref for Line {
    type Target = [f32; LANES];
    #[inline(always)]
    fn deref(&self) -> &[f32; LANES] {
        &self.0
    }
}

impl DerefMut for Line {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32; LANES] {
        &mut self.0
    }
}
