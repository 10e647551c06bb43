//! AVX-512 VNNI: sixty-four products and sixteen sums in one instruction.
//!
//! SAFETY, once for the file: `_mm512_dpbusd_epi32` needs AVX-512 VNNI; a `Vnni` is made only by `Cpu::run_quads`, for
//! a token of the AVX-512 tier whose features name it. Everything else is the tier's own words.

use super::{QuadKernel, Quads};
use crate::simd::{Avx512, Simd};
use core::arch::x86_64::*;

/// Proof that AVX-512 VNNI runs here.
///
/// ```
/// use samebits_kernels::simd::{Avx512, quads::{Quads, Vnni}};
/// assert_eq!(<Vnni as Quads<Avx512>>::TAKEN, 0); // codes without sign, as they are
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Vnni(());

impl Vnni {
    /// # Safety
    /// The processor and the system must support AVX-512 VNNI.
    pub(crate) const unsafe fn assume() -> Self {
        Vnni(())
    }
}

impl Quads<Avx512> for Vnni {
    type Right = __m512i;
    type Sums = __m512i;
    const TAKEN: i32 = 0;
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
    fn start(self, s: Avx512, x: i32) -> __m512i {
        s.splat_i(x)
    }
    #[inline(always)]
    fn dot(self, s: Avx512, [quad, _]: [i32; 2], right: __m512i, sums: __m512i) -> __m512i {
        // SAFETY: `self` proves the feature; see the top of this file.
        unsafe { _mm512_dpbusd_epi32(sums, right, s.splat_i(quad)) }
    }
    #[inline(always)]
    fn total(self, _: Avx512, sums: __m512i) -> __m512i {
        sums
    }
}
