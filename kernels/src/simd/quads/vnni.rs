//! VNNI: four products to each sum in one instruction, of AVX-512's registers or of AVX2's.
//!
//! SAFETY, once for the file: `_mm512_dpbusd_epi32` needs AVX-512 VNNI, `_mm256_dpbusd_avx_epi32` AVX-VNNI; a [`Vnni`]
//! or a [`VnniShort`] is made only by `Cpu::run_quads`, for a token of the tier whose features name it. Everything else
//! is the tier's own words.

use super::{QuadKernel, Quads};
#[cfg(feature = "avx512")]
use crate::simd::Avx512;
use crate::simd::{Avx2, Simd};
use core::arch::x86_64::*;

/// Proof that AVX-512 VNNI runs here.
///
/// ```
/// use samebits_kernels::simd::{Avx512, quads::{Quads, Vnni}};
/// assert_eq!(<Vnni as Quads<Avx512>>::TAKEN, 0); // codes without sign, as they are
/// ```
#[cfg(feature = "avx512")]
#[derive(Clone, Copy, Debug)]
pub struct Vnni(());

#[cfg(feature = "avx512")]
impl Vnni {
    /// # Safety
    /// The processor and the system must support AVX-512 VNNI.
    pub(crate) const unsafe fn assume() -> Self {
        Vnni(())
    }
}

#[cfg(feature = "avx512")]
impl Quads<Avx512> for Vnni {
    type Right = __m512i;
    type Sums = __m512i;
    const TAKEN: i32 = 0;
    const FLIP: u8 = 0x80;
    const SPLITS: bool = false;
    const TILE: (usize, usize, usize) = (12, 2, 4);
    const SCALED: (usize, usize, usize) = (6, 2, 4);

    #[inline(always)]
    fn outline<K: QuadKernel>(self, s: Avx512, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        #[inline(never)]
        fn enter<K: QuadKernel>(kernel: K, s: Avx512, q: Vnni) -> K::Output {
            kernel.run(s, q)
        }
        // SAFETY: `self` and `s` prove the features; see the top of this file.
        unsafe { enter(kernel, s, self) }
    }
    #[inline(always)]
    fn split(self, _: Avx512, quads: __m512i) -> [__m512i; 2] {
        [quads; 2]
    }
    #[inline(always)]
    fn right(self, _: Avx512, codes: __m512i) -> __m512i {
        codes
    }
    #[inline(always)]
    fn flipped(self, _: Avx512, codes: __m512i) -> __m512i {
        codes
    }
    #[inline(always)]
    fn start(self, s: Avx512, x: i32) -> __m512i {
        s.splat_i(x)
    }
    #[inline(always)]
    fn dot_each(self, _: Avx512, [quads, _]: [__m512i; 2], right: __m512i, sums: __m512i) -> __m512i {
        // SAFETY: `self` proves the feature; see the top of this file.
        unsafe { _mm512_dpbusd_epi32(sums, right, quads) }
    }
    #[inline(always)]
    fn total(self, _: Avx512, sums: __m512i) -> __m512i {
        sums
    }
}

/// Proof that AVX-VNNI runs here: the instruction on the registers of AVX2, where AVX-512 is not or is not used.
///
/// ```
/// use samebits_kernels::simd::{Avx2, quads::{Quads, VnniShort}};
/// assert_eq!(<VnniShort as Quads<Avx2>>::FLIP, 0x80); // of stored rows too it wants codes without sign
/// ```
#[derive(Clone, Copy, Debug)]
pub struct VnniShort(());

impl VnniShort {
    /// # Safety
    /// The processor and the system must support AVX-VNNI.
    pub(crate) const unsafe fn assume() -> Self {
        VnniShort(())
    }
}

impl Quads<Avx2> for VnniShort {
    type Right = [__m256i; 2];
    type Sums = [__m256i; 2];
    const TAKEN: i32 = 0;
    const FLIP: u8 = 0x80;
    const SPLITS: bool = false;
    const TILE: (usize, usize, usize) = (4, 1, 1);
    const SCALED: (usize, usize, usize) = (4, 1, 1);

    #[inline(always)]
    fn outline<K: QuadKernel>(self, s: Avx2, kernel: K) -> K::Output {
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        #[inline(never)]
        fn enter<K: QuadKernel>(kernel: K, s: Avx2, q: VnniShort) -> K::Output {
            kernel.run(s, q)
        }
        // SAFETY: `self` and `s` prove the features; see the top of this file.
        unsafe { enter(kernel, s, self) }
    }
    #[inline(always)]
    fn split(self, _: Avx2, quads: [__m256i; 2]) -> [[__m256i; 2]; 2] {
        [quads; 2]
    }
    #[inline(always)]
    fn right(self, _: Avx2, codes: [__m256i; 2]) -> [__m256i; 2] {
        codes
    }
    #[inline(always)]
    fn flipped(self, _: Avx2, codes: [__m256i; 2]) -> [__m256i; 2] {
        codes
    }
    #[inline(always)]
    fn start(self, s: Avx2, x: i32) -> [__m256i; 2] {
        s.splat_i(x)
    }
    #[inline(always)]
    fn dot_each(
        self,
        _: Avx2,
        [quads, _]: [[__m256i; 2]; 2],
        right: [__m256i; 2],
        sums: [__m256i; 2],
    ) -> [__m256i; 2] {
        // SAFETY: `self` proves the feature; see the top of this file.
        unsafe { each!(2, h => _mm256_dpbusd_avx_epi32(sums[h], right[h], quads[h])) }
    }
    #[inline(always)]
    fn total(self, _: Avx2, sums: [__m256i; 2]) -> [__m256i; 2] {
        sums
    }
}
