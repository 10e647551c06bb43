//! NEON: products of bytes to half words and their pairwise sums, DotProd's four at once, or I8MM's eight for two rows.
//!
//! SAFETY, once for the file: the intrinsics need NEON, which a `Neon` proves; `sdot` needs DotProd, which a `DotProd`
//! proves, and `smmla` I8MM, which a `Matrix` proves with it: they are made only by `Cpu::run_quads`, where the features
//! name them. (Their intrinsics are not stable: the instructions are written out.)

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
    bytes(s.xor_i(codes, s.splat_i(0x8080_8080_u32 as i32)))
}

#[inline(always)]
fn bytes(codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
    // SAFETY: see the top of this file.
    unsafe { each!(4, q => vreinterpretq_s8_s32(codes[q])) }
}

impl Quads<Neon> for Long {
    type Right = [int8x16_t; 4];
    /// Of a column the sums of the first two steps and of the last two, side by side.
    type Sums = [[int32x4_t; 2]; 4];
    const TAKEN: i32 = 128;
    const FLIP: u8 = 0;
    const SPLITS: bool = false;
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
    fn flipped(self, _: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
        bytes(codes)
    }
    #[inline(always)]
    fn start(self, _: Neon, x: i32) -> Self::Sums {
        // SAFETY: see the top of this file.
        unsafe { [[vreinterpretq_s32_u64(vdupq_n_u64(u64::from(x as u32))); 2]; 4] }
    }
    #[inline(always)]
    fn dot_each(
        self,
        _: Neon,
        [quads, _]: [[int32x4_t; 4]; 2],
        right: Self::Right,
        sums: Self::Sums,
    ) -> Self::Sums {
        // SAFETY: see the top of this file.
        unsafe {
            each!(4, q => {
                let quads = vreinterpretq_s8_s32(quads[q]);
                let low = vmull_s8(vget_low_s8(right[q]), vget_low_s8(quads));
                [vpadalq_s16(sums[q][0], low), vpadalq_s16(sums[q][1], vmull_high_s8(right[q], quads))]
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
    const FLIP: u8 = 0;
    const SPLITS: bool = false;
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
    fn flipped(self, _: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
        bytes(codes)
    }
    #[inline(always)]
    fn start(self, s: Neon, x: i32) -> [int32x4_t; 4] {
        s.splat_i(x)
    }
    #[inline(always)]
    fn dot_each(
        self,
        _: Neon,
        [quads, _]: [[int32x4_t; 4]; 2],
        right: Self::Right,
        sums: Self::Sums,
    ) -> Self::Sums {
        // SAFETY: `self` proves the feature.
        unsafe { each!(4, q => sdot(sums[q], right[q], vreinterpretq_s8_s32(quads[q]))) }
    }
    #[inline(always)]
    fn total(self, _: Neon, sums: Self::Sums) -> [int32x4_t; 4] {
        sums
    }
}

/// Proof that I8MM and DotProd run here.
#[derive(Clone, Copy, Debug)]
pub struct Matrix(DotProd);

impl Matrix {
    /// # Safety
    /// The processor must support I8MM and DotProd.
    pub(crate) const unsafe fn assume() -> Self {
        // SAFETY: the caller's promise.
        Matrix(unsafe { DotProd::assume() })
    }
}

/// Eight products of bytes to each of four sums: two rows of `a` with two columns of `b`, row by row.
#[target_feature(enable = "i8mm")]
#[inline]
fn smmla(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature; the instruction touches only its registers.
    unsafe {
        core::arch::asm!("smmla {sums:v}.4s, {a:v}.16b, {b:v}.16b", sums = inout(vreg) sums, a = in(vreg) a,
            b = in(vreg) b, options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

/// ```text
///   quads q, q + 1 of four columns    a a a a b b b b c c c c d d d d
///                                     A A A A B B B B C C C C D D D D
///   zipped by words                   a a a a A A A A b b b b B B B B │ c c c c C C C C d d d d D D D D
///   sums of two rows                  0a 0b 1a 1b                     │ 0c 0d 1c 1d
/// ```
/// The first of a pair of sums has columns 0 to 7 of both rows, the second 8 to 15.
impl Quads<Neon> for Matrix {
    type Right = [int8x16_t; 4];
    type Sums = [int32x4_t; 4];
    const TAKEN: i32 = 128;
    const FLIP: u8 = 0;
    const SPLITS: bool = false;
    const TILE: (usize, usize, usize) = (4, 1, 1);
    const SCALED: (usize, usize, usize) = (4, 1, 1);
    const PAIRS: bool = true;

    #[inline(always)]
    fn outline<K: QuadKernel>(self, s: Neon, kernel: K) -> K::Output {
        #[target_feature(enable = "dotprod,i8mm")]
        #[inline(never)]
        fn enter<K: QuadKernel>(kernel: K, s: Neon, q: Matrix) -> K::Output {
            kernel.run(s, q)
        }
        // SAFETY: `self` proves the features.
        unsafe { enter(kernel, s, self) }
    }
    #[inline(always)]
    fn split(self, s: Neon, quads: [int32x4_t; 4]) -> [[int32x4_t; 4]; 2] {
        self.0.split(s, quads)
    }
    #[inline(always)]
    fn right(self, s: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
        signed(s, codes)
    }
    #[inline(always)]
    fn flipped(self, _: Neon, codes: [int32x4_t; 4]) -> [int8x16_t; 4] {
        bytes(codes)
    }
    #[inline(always)]
    fn start(self, s: Neon, x: i32) -> [int32x4_t; 4] {
        self.0.start(s, x)
    }
    #[inline(always)]
    fn dot_each(
        self,
        s: Neon,
        quads: [[int32x4_t; 4]; 2],
        right: Self::Right,
        sums: Self::Sums,
    ) -> Self::Sums {
        self.0.dot_each(s, quads, right, sums)
    }
    #[inline(always)]
    fn total(self, _: Neon, sums: Self::Sums) -> [int32x4_t; 4] {
        sums
    }
    #[inline(always)]
    fn dot_pair(
        self,
        _: Neon,
        quads: [[[i32; 2]; 2]; 2],
        right: [Self::Right; 2],
        mut sums: [Self::Sums; 2],
    ) -> [Self::Sums; 2] {
        let eight = |row: [[i32; 2]; 2]| u64::from(row[0][0] as u32) | u64::from(row[1][0] as u32) << 32;
        let (first, second) = (eight(quads[0]), eight(quads[1]));
        // SAFETY: `self` proves the feature.
        unsafe {
            let rows = vcombine_s8(vcreate_s8(first), vcreate_s8(second));
            for q in 0..4 {
                let [near, far] = [vreinterpretq_s32_s8(right[0][q]), vreinterpretq_s32_s8(right[1][q])];
                let columns = [vzip1q_s32(near, far), vzip2q_s32(near, far)];
                for (i, columns) in columns.into_iter().enumerate() {
                    let sums = &mut sums[q / 2][q % 2 * 2 + i];
                    *sums = smmla(*sums, rows, vreinterpretq_s8_s32(columns));
                }
            }
        }
        sums
    }
    #[inline(always)]
    fn pair(self, _: Neon, rows: [Self::Sums; 2]) -> [Self::Sums; 2] {
        let mut pair = rows;
        for q in 0..4 {
            [pair[q / 2][q % 2 * 2], pair[q / 2][q % 2 * 2 + 1]] = halves(rows[0][q], rows[1][q]);
        }
        pair
    }
    #[inline(always)]
    fn unpair(self, _: Neon, pair: [Self::Sums; 2]) -> [Self::Sums; 2] {
        let mut rows = pair;
        for q in 0..4 {
            [rows[0][q], rows[1][q]] = halves(pair[q / 2][q % 2 * 2], pair[q / 2][q % 2 * 2 + 1]);
        }
        rows
    }
}

/// The lower halves of both, the upper ones.
#[inline(always)]
fn halves(a: int32x4_t, b: int32x4_t) -> [int32x4_t; 2] {
    // SAFETY: see the top of this file.
    unsafe {
        let (a, b) = (vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
        [vreinterpretq_s32_s64(vzip1q_s64(a, b)), vreinterpretq_s32_s64(vzip2q_s64(a, b))]
    }
}
