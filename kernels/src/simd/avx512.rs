//! AVX-512 (F, BW, DQ, VL): sixteen lanes in one zmm register.
//!
//! SAFETY, once for the file: every intrinsic here needs AVX-512 F, BW, DQ or VL (or AVX2, FMA, F16C,
//! which they imply here). An `Avx512` can be made only where CPUID and XCR0 reported them all
//! (`cpu.rs`), so `self` is the proof. Pointers come from references to arrays of exactly the size that
//! is read or written; masked accesses touch only lanes inside the slice.

use super::{Floats, Simd};
use crate::LANES;
use core::arch::asm;
use core::arch::x86_64::*;

/// No instruction, of which a compiler knows that.
#[inline]
#[target_feature(enable = "avx512f")]
fn pinned(mut v: __m512) -> __m512 {
    // SAFETY: nothing is done.
    unsafe { asm!("/* {0} */", inout(zmm_reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

/// Proof that AVX-512 F, BW, DQ and VL run here.
///
/// ```
/// use samebits_kernels::simd::{Avx2, Avx512, Simd};
/// assert_eq!(<Avx512 as Simd>::TILE, (8, 3)); // 24 sums of 32 registers
/// assert_eq!(<Avx2 as Simd>::TILE, (6, 1)); // two registers a word: 12 sums of 16
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor and the system must support AVX-512 F, BW, DQ, VL, AVX2, FMA and F16C.
    pub(crate) const unsafe fn assume() -> Self {
        Avx512(())
    }
}

/// `name(a: In, …) -> Out = instruction;`
macro_rules! lanewise {
    ($($name:ident($($x:ident: $t:ident),+) -> $r:ident = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($x: Self::$t),+) -> Self::$r {
            // SAFETY: `self` proves the features; see the top of this file.
            unsafe { $e }
        }
    )*};
}

impl Simd for Avx512 {
    type F32 = __m512;
    type I32 = __m512i;
    type F64 = [__m512d; 2];
    type Mask = __mmask16;
    type Nibbles = __m512i;
    const TILE: (usize, usize) = (8, 3);

    lanewise! {
        add(a: F32, b: F32) -> F32 = _mm512_add_ps(a, b);
        sub(a: F32, b: F32) -> F32 = _mm512_sub_ps(a, b);
        mul(a: F32, b: F32) -> F32 = _mm512_mul_ps(a, b);
        div(a: F32, b: F32) -> F32 = _mm512_div_ps(a, b);
        sqrt(a: F32) -> F32 = _mm512_sqrt_ps(a);
        fma(a: F32, b: F32, c: F32) -> F32 = _mm512_fmadd_ps(a, b, c);
        nfma(a: F32, b: F32, c: F32) -> F32 = _mm512_fnmadd_ps(a, b, c);
        max(a: F32, b: F32) -> F32 = _mm512_max_ps(a, b);
        min(a: F32, b: F32) -> F32 = _mm512_min_ps(a, b);
        round(a: F32) -> F32 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        gt(a: F32, b: F32) -> Mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
        ge(a: F32, b: F32) -> Mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b);
        eq(a: F32, b: F32) -> Mask = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        unordered(a: F32, b: F32) -> Mask = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b);
        select(m: Mask, a: F32, b: F32) -> F32 = _mm512_mask_blend_ps(m, b, a);
        add_i(a: I32, b: I32) -> I32 = _mm512_add_epi32(a, b);
        sub_i(a: I32, b: I32) -> I32 = _mm512_sub_epi32(a, b);
        and_i(a: I32, b: I32) -> I32 = _mm512_and_si512(a, b);
        or_i(a: I32, b: I32) -> I32 = _mm512_or_si512(a, b);
        xor_i(a: I32, b: I32) -> I32 = _mm512_xor_si512(a, b);
        gt_i(a: I32, b: I32) -> Mask = _mm512_cmpgt_epi32_mask(a, b);
        select_i(m: Mask, a: I32, b: I32) -> I32 = _mm512_mask_blend_epi32(m, b, a);
        bits(a: F32) -> I32 = _mm512_castps_si512(a);
        of_bits(a: I32) -> F32 = _mm512_castsi512_ps(a);
        to_i(a: F32) -> I32 = _mm512_cvtps_epi32(a);
        of_i(a: I32) -> F32 = _mm512_cvtepi32_ps(a);
        ldexp(a: F32, n: F32) -> F32 = _mm512_scalef_ps(a, n);
        even_bytes(a: I32) -> I32 = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(a));
        odd_bytes(a: I32) -> I32 = _mm512_srai_epi16::<8>(a);
        dot_halves(a: I32, b: I32, c: I32) -> I32 = _mm512_add_epi32(_mm512_madd_epi16(a, b), c);
        lut_bytes(index: I32, table: I32) -> I32 = _mm512_shuffle_epi8(table, index);
        swap(a: F32) -> F32 = _mm512_permute_ps::<0b10_11_00_01>(a);
        // only the low four bits of each index count
        lut16(index: I32, table: F32) -> F32 = _mm512_permutexvar_ps(index, table);
    }
    #[inline(always)]
    fn outline<K: crate::Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        #[inline(never)]
        fn enter<K: crate::Kernel>(kernel: K, s: Avx512) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` proves the features; see the top of this file.
        unsafe { enter(kernel, self) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &Floats) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, out: &mut Floats, v: __m512) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32], fill: f32) -> __m512 {
        assert!(x.len() <= LANES);
        // An empty slice may point nowhere; a masked load from there costs hundreds of cycles of microcode.
        if x.is_empty() {
            return self.splat(fill);
        }
        // SAFETY: as above; the mask has a bit for each element of the slice and no other.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(x.len()), x.as_ptr()) }
    }
    #[inline(always)]
    fn store_tail(self, out: &mut [f32], v: __m512) {
        assert!(out.len() <= LANES);
        if out.is_empty() {
            return;
        }
        // SAFETY: as above; the mask has a bit for each element of the slice and no other.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), first(out.len()), v) }
    }
    #[inline(always)]
    fn stream(self, out: &mut crate::Line, v: __m512) {
        // SAFETY: as above; a `Line` has the alignment of 64 that the store needs.
        unsafe { _mm512_stream_ps(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_far<T>(self, p: *const T) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn pin(self, v: __m512) -> __m512 {
        // SAFETY: `self` proves the feature; see the top of this file.
        unsafe { pinned(v) }
    }
    #[inline(always)]
    fn mask_and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn mask_or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn mask_bits(self, m: __mmask16) -> u32 {
        u32::from(m)
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> __mmask16 {
        bits as __mmask16
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], v: __m512i) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), v) }
    }
    // The variable shifts take a splat of a constant: one immediate shift in the machine code. (The
    // immediate intrinsics want a `u32`, which a const generic `i32` cannot become.)
    #[inline(always)]
    fn shl<const N: i32>(self, a: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_sllv_epi32(a, _mm512_set1_epi32(N)) }
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_srlv_epi32(a, _mm512_set1_epi32(N)) }
    }
    #[inline(always)]
    fn sar<const N: i32>(self, a: __m512i) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_srav_epi32(a, _mm512_set1_epi32(N)) }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_u16(self, x: &[u16; LANES]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_u16(self, out: &mut [u16; LANES], v: __m512i) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(v)) }
    }
    #[inline(always)]
    fn store_u8(self, out: &mut [u8; LANES], v: __m512i) {
        // SAFETY: as above.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(v)) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [u16; LANES], v: __m512) {
        // SAFETY: as above.
        unsafe {
            let half = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), half);
        }
    }
    #[inline(always)]
    fn nibbles(self, words: Self::I32, _: Self::F32) -> Self::Nibbles {
        words
    }
    #[inline(always)]
    fn nibble(self, words: &mut Self::Nibbles, table: Self::F32, _: usize) -> Self::F32 {
        let found = self.lut16(*words, table);
        *words = self.shr::<4>(*words);
        found
    }
    #[inline(always)]
    fn transpose(self, r: [__m512; LANES]) -> [__m512; LANES] {
        // Loops, not closures: a closure of this size would not be inlined, and so would lose its tier.
        let (mut quads, mut out) = (r, r);
        // SAFETY: as above. Pairs, quads, then 128-bit blocks twice: 64 shuffles.
        unsafe {
            for g in (0..LANES).step_by(4) {
                let [a, b, c, d] = [r[g], r[g + 1], r[g + 2], r[g + 3]];
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab2, cd2) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                quads[g] = _mm512_shuffle_ps::<0x44>(ab, cd);
                quads[g + 1] = _mm512_shuffle_ps::<0xee>(ab, cd);
                quads[g + 2] = _mm512_shuffle_ps::<0x44>(ab2, cd2);
                quads[g + 3] = _mm512_shuffle_ps::<0xee>(ab2, cd2);
            }
            // quads[g + i], block b: column 4b + i of rows g..g + 4
            for i in 0..4 {
                let [a, b, c, d] = [quads[i], quads[4 + i], quads[8 + i], quads[12 + i]];
                let (ab, cd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
                let (ab2, cd2) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
                out[i] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                out[4 + i] = _mm512_shuffle_f32x4::<0x88>(ab2, cd2);
                out[8 + i] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
                out[12 + i] = _mm512_shuffle_f32x4::<0xdd>(ab2, cd2);
            }
        }
        out
    }
    #[inline(always)]
    fn sum_rows(self, r: [__m512; LANES]) -> __m512 {
        // Two rows meet in one register at each step of the tree, so that 30 shuffles do, not 64.
        let (mut halves, mut quarters, mut pairs) = ([r[0]; 8], [r[0]; 4], [r[0]; 2]);
        // SAFETY: as above.
        unsafe {
            for i in 0..4 {
                for h in 0..2 {
                    let (a, b) = (r[i + 8 * h], r[i + 8 * h + 4]);
                    let (low, high) =
                        (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                    halves[2 * i + h] = _mm512_add_ps(low, high);
                }
                let (a, b) = (halves[2 * i], halves[2 * i + 1]);
                let (low, high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                quarters[i] = _mm512_add_ps(low, high); // block b: row i + 4b
            }
            for i in 0..2 {
                let (a, b) = (quarters[2 * i], quarters[2 * i + 1]);
                let (low, high) = (_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xee>(a, b));
                pairs[i] = _mm512_add_ps(low, high);
            }
            let [a, b] = pairs;
            _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b))
        }
    }
    #[inline(always)]
    fn splat_bytes(self, x: &[u8; 16]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn splat_d(self, x: f64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { [_mm512_set1_pd(x); 2] }
    }
    #[inline(always)]
    fn widen(self, a: __m512) -> Self::F64 {
        // SAFETY: as above.
        unsafe {
            [_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(a))]
        }
    }
    #[inline(always)]
    fn narrow(self, a: Self::F64) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let [low, high] = each!(2, h => _mm512_cvtpd_ps(a[h]));
            _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
        }
    }
    #[inline(always)]
    fn store_d(self, out: &mut [f64; LANES], v: Self::F64) {
        let p = out.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            _mm512_storeu_pd(p, v[0]);
            _mm512_storeu_pd(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn add_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(2, h => _mm512_add_pd(a[h], b[h])) }
    }
    #[inline(always)]
    fn sub_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(2, h => _mm512_sub_pd(a[h], b[h])) }
    }
    #[inline(always)]
    fn mul_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(2, h => _mm512_mul_pd(a[h], b[h])) }
    }
}

/// A mask of the first `n <= 16` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}
