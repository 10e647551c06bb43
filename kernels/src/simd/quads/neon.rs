//! NEON: products of bytes to half words and their pairwise sums, or DotProd's four at once.
//!
//! SAFETY, once for the file: the intrinsics need NEON, which a `Neon` proves; `sdot` needs DotProd, which a `DotProd`
//! proves: it is made only by `Cpu::run_quads`, where the features name it. (Its intrinsic is not stable: the
//! instruction is written out.)

use super::{QuadKernel, Quads};
use crate::simd::{Neon, Simd};
use core::arch::aarch64::*;

/// `smull` and `sadalp`: what every NEON has. A product of two bytes is at most 2¹⁴, so none is cut.
#[derive(Clone, Copy, Debug)]
pub struct Long;

/// Proof that DotProd runs here.
#[derive(Clone, Copy, Debug)]
pub struct DotProd(());

impl DotProd {
    /// # Safety
    /// The processor must support DotProd.
    pub(crate) const unsafe fn assume() -> Self {
        DotProd(())
    }
}

/// Codes less 128, as signed bytes.
#[inline(always)]
fn signed(s: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
    let codes = s.xor_i(codes, s.splat_i(0x8080_8080_u32 as i32));
    // SAFETY: see the top of this file.
    unsafe { each!(4, q => vreinterpretq_s8_s32(codes[q])) }
}

impl Quads<Neon> for Long {
    type Right = [int8x16_t; 4];
    /// Of a column the sums of the first two steps and of the last two, side by side.
    type Sums = [[int32x4_t; 2]; 4];
    const TAKEN: i32 = 128;
    const TILE: (usize, usize, usize) = (2, 1, 1);
    const SCALED: (usize, usize, usize) = (2, 1, 1);

    #[inline(always)]
    fn outline<K: QuadKernel>(self, s: Neon, kernel: K) -> K::Output {
        #[inline(never)]
        fn enter<K: QuadKernel>(kernel: K, s: Neon, q: Long) -> K::Output {
            kernel.run(s, q)
        }
        enter(kernel, s, self)
    }
    #[inline(always)]
    fn split(self, _: Neon, quads: [int32x4_t; 4]) -> [[int32x4_t; 4]; 2] {
        [quads; 2]
    }
    #[inline(always)]
    fn right(self, s: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
        signed(s, codes)
    }
    #[inline(always)]
    fn start(self, _: Neon, x: i32) -> Self::Sums {
        // SAFETY: see the top of this file.
        unsafe { [[vreinterpretq_s32_u64(vdupq_n_u64(u64::from(x as u32))); 2]; 4] }
    }
    #[inline(always)]
    fn dot(self, _: Neon, [quad, _]: [i32; 2], right: Self::Right, sums: Self::Sums) -> Self::Sums {
        // SAFETY: see the top of this file.
        unsafe {
            let quad = vreinterpretq_s8_s32(vdupq_n_s32(quad));
            each!(4, q => {
                let low = vmull_s8(vget_low_s8(right[q]), vget_low_s8(quad));
                [vpadalq_s16(sums[q][0], low), vpadalq_s16(sums[q][1], vmull_high_s8(right[q], quad))]
            })
        }
    }
    #[inline(always)]
    fn total(self, _: Neon, sums: Self::Sums) -> [int32x4_t; 4] {
        // SAFETY: see the top of this file.
        unsafe { each!(4, q => vpaddq_s32(sums[q][0], sums[q][1])) }
    }
}

/// Four products of bytes to each of four sums.
#[target_feature(enable = "dotprod")]
#[inline]
fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; the instruction touches only its registers.
    unsafe {
        core::arch::asm!("sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b", sums = inout(vreg) sums, a = in(vreg) a,
            b = in(vreg) b, options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

impl Quads<Neon> for DotProd {
    type Right = [int8x16_t; 4];
    type Sums = [int32x4_t; 4];
    const TAKEN: i32 = 128;
    const TILE: (usize, usize, usize) = (4, 1, 1);
    const SCALED: (usize, usize, usize) = (4, 1, 1);

    #[inline(always)]
    fn outline<K: QuadKernel>(self, s: Neon, kernel: K) -> K::Output {
        #[target_feature(enable = "dotprod")]
        #[inline(never)]
        fn enter<K: QuadKernel>(kernel: K, s: Neon, q: DotProd) -> K::Output {
            kernel.run(s, q)
        }
        // SAFETY: `self` proves the feature.
        unsafe { enter(kernel, s, self) }
    }
    #[inline(always)]
    fn split(self, _: Neon, quads: [int32x4_t; 4]) -> [[int32x4_t; 4]; 2] {
        [quads; 2]
    }
    #[inline(always)]
    fn right(self, s: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
        signed(s, codes)
    }
    #[inline(always)]
    fn start(self, s: Neon, x: i32) -> [int32x4_t; 4] {
        s.splat_i(x)
    }
    #[inline(always)]
    fn dot(self, _: Neon, [quad, _]: [i32; 2], right: Self::Right, sums: Self::Sums) -> Self::Sums {
        // SAFETY: `self` proves the feature.
        unsafe {
            let quad = vreinterpretq_s8_s32(vdupq_n_s32(quad));
            each!(4, q => sdot(sums[q], right[q], quad))
        }
    }
    #[inline(always)]
    fn total(self, _: Neon, sums: Self::Sums) -> [int32x4_t; 4] {
        sums
    }
}
