//! AVX2 + FMA + F16C: sixteen lanes in two ymm registers.
//!
//! SAFETY, once for the file: every intrinsic here needs AVX2, FMA or F16C and nothing else. An
//! `Avx2` can be made only where CPUID and XCR0 reported all three (`cpu.rs`), so `self` is the proof.
//! Pointers come from references to arrays of exactly the size that is read or written.

use super::{Floats, Simd};
use crate::LANES;
use core::arch::x86_64::*;

/// Proof that AVX2, FMA and F16C run here.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor and the system must support AVX2, FMA and F16C.
    pub(crate) const unsafe fn assume() -> Self {
        Avx2(())
    }
}

/// `name(a: In, …) -> Out = instruction;` applies the instruction to both halves.
macro_rules! lanewise {
    ($($name:ident($($x:ident: $t:ident),+) -> $r:ident = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($x: Self::$t),+) -> Self::$r {
            // SAFETY: `self` proves the features; see the top of this file.
            each!(2, h => { $(let $x = $x[h];)+ unsafe { $e } })
        }
    )*};
}

impl Simd for Avx2 {
    type F32 = [__m256; 2];
    type I32 = [__m256i; 2];
    type F64 = [__m256d; 4];
    type Mask = [__m256; 2];
    type Nibbles = [Self::F32; 8];
    const TILE: (usize, usize) = (6, 1);

    lanewise! {
        add(a: F32, b: F32) -> F32 = _mm256_add_ps(a, b);
        sub(a: F32, b: F32) -> F32 = _mm256_sub_ps(a, b);
        mul(a: F32, b: F32) -> F32 = _mm256_mul_ps(a, b);
        div(a: F32, b: F32) -> F32 = _mm256_div_ps(a, b);
        sqrt(a: F32) -> F32 = _mm256_sqrt_ps(a);
        fma(a: F32, b: F32, c: F32) -> F32 = _mm256_fmadd_ps(a, b, c);
        nfma(a: F32, b: F32, c: F32) -> F32 = _mm256_fnmadd_ps(a, b, c);
        max(a: F32, b: F32) -> F32 = _mm256_max_ps(a, b);
        min(a: F32, b: F32) -> F32 = _mm256_min_ps(a, b);
        round(a: F32) -> F32 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        gt(a: F32, b: F32) -> Mask = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
        ge(a: F32, b: F32) -> Mask = _mm256_cmp_ps::<_CMP_GE_OQ>(a, b);
        eq(a: F32, b: F32) -> Mask = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
        unordered(a: F32, b: F32) -> Mask = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b);
        select(m: Mask, a: F32, b: F32) -> F32 = _mm256_blendv_ps(b, a, m);
        mask_and(a: Mask, b: Mask) -> Mask = _mm256_and_ps(a, b);
        mask_or(a: Mask, b: Mask) -> Mask = _mm256_or_ps(a, b);
        add_i(a: I32, b: I32) -> I32 = _mm256_add_epi32(a, b);
        sub_i(a: I32, b: I32) -> I32 = _mm256_sub_epi32(a, b);
        and_i(a: I32, b: I32) -> I32 = _mm256_and_si256(a, b);
        or_i(a: I32, b: I32) -> I32 = _mm256_or_si256(a, b);
        xor_i(a: I32, b: I32) -> I32 = _mm256_xor_si256(a, b);
        gt_i(a: I32, b: I32) -> Mask = _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b));
        select_i(m: Mask, a: I32, b: I32) -> I32 = _mm256_blendv_epi8(b, a, _mm256_castps_si256(m));
        bits(a: F32) -> I32 = _mm256_castps_si256(a);
        of_bits(a: I32) -> F32 = _mm256_castsi256_ps(a);
        to_i(a: F32) -> I32 = _mm256_cvtps_epi32(a);
        of_i(a: I32) -> F32 = _mm256_cvtepi32_ps(a);
        swap(a: F32) -> F32 = _mm256_permute_ps::<0b10_11_00_01>(a);
        even_bytes(a: I32) -> I32 = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a));
        odd_bytes(a: I32) -> I32 = _mm256_srai_epi16::<8>(a);
        dot_halves(a: I32, b: I32, c: I32) -> I32 = _mm256_add_epi32(_mm256_madd_epi16(a, b), c);
        lut_bytes(index: I32, table: I32) -> I32 = _mm256_shuffle_epi8(table, index);
    }
    #[inline(always)]
    fn add_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(4, i => _mm256_add_pd(a[i], b[i])) }
    }
    #[inline(always)]
    fn sub_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(4, i => _mm256_sub_pd(a[i], b[i])) }
    }
    #[inline(always)]
    fn mul_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(4, i => _mm256_mul_pd(a[i], b[i])) }
    }
    #[inline(always)]
    fn outline<K: crate::Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn enter<K: crate::Kernel>(kernel: K, s: Avx2) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: `self` proves the features; see the top of this file.
        unsafe { enter(kernel, self) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, x: &Floats) -> Self::F32 {
        let p = x.as_ptr();
        // SAFETY: as above.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    fn store(self, out: &mut Floats, v: Self::F32) {
        let p = out.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn stream(self, out: &mut crate::Line, v: Self::F32) {
        let p = out.as_mut_ptr();
        // SAFETY: as above; a `Line` has the alignment of 32 that the store needs.
        unsafe {
            _mm256_stream_ps(p, v[0]);
            _mm256_stream_ps(p.add(8), v[1]);
        }
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
    fn mask_bits(self, m: Self::Mask) -> u32 {
        // SAFETY: as above.
        unsafe { (_mm256_movemask_ps(m[0]) | _mm256_movemask_ps(m[1]) << 8) as u32 }
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> Self::Mask {
        // SAFETY: as above.
        unsafe {
            let lane = [
                _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128),
                _mm256_setr_epi32(256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
            ];
            let all = _mm256_set1_epi32(bits as i32);
            each!(2, h => _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(all, lane[h]), lane[h])))
        }
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { [_mm256_set1_epi32(x); 2] }
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I32 {
        let p = x.as_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))] }
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], v: Self::I32) {
        let p = out.as_mut_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_si256(p, v[0]);
            _mm256_storeu_si256(p.add(1), v[1]);
        }
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: Self::I32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(2, h => _mm256_slli_epi32::<N>(a[h])) }
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: Self::I32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(2, h => _mm256_srli_epi32::<N>(a[h])) }
    }
    #[inline(always)]
    fn sar<const N: i32>(self, a: Self::I32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(2, h => _mm256_srai_epi32::<N>(a[h])) }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            [_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))]
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            [_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))]
        }
    }
    #[inline(always)]
    fn load_u16(self, x: &[u16; LANES]) -> Self::I32 {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: as above.
        unsafe { each!(2, h => _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(h)))) }
    }
    #[inline(always)]
    fn store_u16(self, out: &mut [u16; LANES], v: Self::I32) {
        // SAFETY: as above. The mask keeps `packus` from saturating; it packs within 128-bit
        // halves, so the quarters come out as 0 2 1 3.
        unsafe {
            let low = each!(2, h => _mm256_and_si256(v[h], _mm256_set1_epi32(0xffff)));
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low[0], low[1]));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), packed);
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F32 {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: as above.
        unsafe { each!(2, h => _mm256_cvtph_ps(_mm_loadu_si128(p.add(h)))) }
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [u16; LANES], v: Self::F32) {
        let p = out.as_mut_ptr().cast::<__m128i>();
        for (h, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(p.add(h), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
        }
    }
    #[inline(always)]
    fn lut16(self, index: Self::I32, table: Self::F32) -> Self::F32 {
        // `vpermps` reads three bits of each index; bit 3, moved to the sign, picks the half.
        // SAFETY: as above.
        unsafe {
            each!(2, h => {
                let low = _mm256_permutevar8x32_ps(table[0], index[h]);
                let high = _mm256_permutevar8x32_ps(table[1], index[h]);
                _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index[h])))
            })
        }
    }
    #[inline(always)]
    fn nibbles(self, words: Self::I32, table: Self::F32) -> Self::Nibbles {
        // A byte look-up (`vpshufb`) takes 32 indices at once, so four of them, one a byte of the floats, and
        // eight interleavings make 32 floats: 12 instructions where `lut16` takes 20.
        // SAFETY: as above.
        unsafe {
            let planes = planes(table);
            // Bytes in columns of words, so that floats come out in lines.
            let low4 = _mm256_set1_epi8(15);
            let bytes = each!(2, h => by_byte(words[h]));
            let even = each!(2, h => lookup(planes, _mm256_and_si256(bytes[h], low4)));
            let odd = each!(2, h => lookup(planes, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes[h]), low4)));
            each!(8, i => if i % 2 == 0 { [even[0][i / 2], even[1][i / 2]] } else { [odd[0][i / 2], odd[1][i / 2]] })
        }
    }
    #[inline(always)]
    fn nibble(self, nibbles: &mut Self::Nibbles, _: Self::F32, i: usize) -> Self::F32 {
        nibbles[i]
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::F32; LANES]) -> [Self::F32; LANES] {
        // Four 8×8 blocks; block (i, j) goes to (j, i). Loops, not closures: those would not be inlined.
        let mut out = rows;
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut block = [rows[0][0]; 8];
            for (r, block) in block.iter_mut().enumerate() {
                *block = rows[8 * i + r][j];
            }
            for (c, column) in transpose8(block).into_iter().enumerate() {
                out[8 * j + c][i] = column;
            }
        }
        out
    }
    #[inline(always)]
    fn sum_rows(self, r: [Self::F32; LANES]) -> Self::F32 {
        // Two rows meet in one register at each step of the tree, so that 28 shuffles do, not 96.
        // SAFETY: as above.
        unsafe {
            each!(2, h => {
                let halves = each!(8, i => _mm256_add_ps(r[8 * h + i][0], r[8 * h + i][1]));
                let quarters = each!(4, i => { // half b: row 8h + i + 4b
                    let (a, b) = (halves[i], halves[i + 4]);
                    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
                });
                let pairs = each!(2, i => {
                    let (a, b) = (quarters[2 * i], quarters[2 * i + 1]);
                    _mm256_add_ps(_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b))
                });
                let [a, b] = pairs;
                _mm256_add_ps(_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xdd>(a, b))
            })
        }
    }
    #[inline(always)]
    fn splat_bytes(self, x: &[u8; 16]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { [_mm256_broadcastsi128_si256(_mm_loadu_si128(x.as_ptr().cast())); 2] }
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> Self::I32 {
        let p = x.as_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe { [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))] }
    }
    #[inline(always)]
    fn fma_rows<const R: usize>(
        self,
        mut acc: [Self::F32; R],
        rows: &[&Floats; LANES],
        x: [&Floats; R],
    ) -> [Self::F32; R] {
        // Four columns of eight rows at a time: what sixteen registers hold. Rows i and i + 4 meet as they are
        // loaded, so that shuffles stay within halves.
        for h in 0..2 {
            for quad in 0..4 {
                let c = 4 * quad;
                // SAFETY: `self` proves the features; see the top of this file. Four floats from c <= 12 on.
                unsafe {
                    let columns = quads(each!(4, i => {
                        let low = _mm_loadu_ps(rows[8 * h + i][c..c + 4].as_ptr());
                        _mm256_set_m128(_mm_loadu_ps(rows[8 * h + 4 + i][c..c + 4].as_ptr()), low)
                    }));
                    for r in 0..R {
                        for i in 0..4 {
                            acc[r][h] = _mm256_fmadd_ps(columns[i], _mm256_set1_ps(x[r][c + i]), acc[r][h]);
                        }
                    }
                }
            }
        }
        acc
    }
    #[inline(always)]
    fn splat_d(self, x: f64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { [_mm256_set1_pd(x); 4] }
    }
    #[inline(always)]
    fn widen(self, a: Self::F32) -> Self::F64 {
        // SAFETY: as above.
        unsafe {
            let [low, high] = each!(2, h => _mm256_castps256_ps128(a[h]));
            let [low2, high2] = each!(2, h => _mm256_extractf128_ps::<1>(a[h]));
            let q = [low, low2, high, high2];
            each!(4, i => _mm256_cvtps_pd(q[i]))
        }
    }
    #[inline(always)]
    fn narrow(self, a: Self::F64) -> Self::F32 {
        // SAFETY: as above.
        unsafe {
            let q = each!(4, i => _mm256_cvtpd_ps(a[i]));
            [_mm256_set_m128(q[1], q[0]), _mm256_set_m128(q[3], q[2])]
        }
    }
    #[inline(always)]
    fn store_d(self, out: &mut [f64; LANES], v: Self::F64) {
        for (q, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm256_storeu_pd(out.as_mut_ptr().add(4 * q), v) }
        }
    }
}

/// Rows to columns of an 8×8 block: pairs, then quads, then halves.
#[inline(always)]
fn transpose8([a, b, c, d, e, f, g, h]: [__m256; 8]) -> [__m256; 8] {
    let (q, p, mut out) = (quads([a, b, c, d]), quads([e, f, g, h]), [a; 8]);
    for i in 0..4 {
        // SAFETY: called by the words above alone; they hold an `Avx2`.
        unsafe {
            out[i] = _mm256_permute2f128_ps::<0x20>(q[i], p[i]);
            out[4 + i] = _mm256_permute2f128_ps::<0x31>(q[i], p[i]);
        }
    }
    out
}

/// Rows to columns of 4×4 blocks, one in each half.
#[inline(always)]
fn quads([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    // SAFETY: called by the words above alone; they hold an `Avx2`.
    unsafe {
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ab2, cd2) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        let (first, second) = (_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd));
        [first, second, _mm256_shuffle_ps::<0x44>(ab2, cd2), _mm256_shuffle_ps::<0xee>(ab2, cd2)]
    }
}

/// Byte 0, 1, 2, 3 of each of sixteen floats, in both halves of a register.
#[inline(always)]
fn planes(table: [__m256; 2]) -> [__m256i; 4] {
    // SAFETY: called by the words above alone; they hold an `Avx2`.
    unsafe {
        // Quads of byte 0, of byte 1, … of floats 0..4 and 4..8, then of 8..12 and 12..16.
        let q = each!(2, h => by_byte(_mm256_castps_si256(table[h])));
        // From four quads (two registers) the same byte of all sixteen.
        let pick = each!(4, j => _mm256_permutevar8x32_epi32(q[0], _mm256_setr_epi32(j, j + 4, j, j + 4, j, j + 4, j, j + 4)));
        let rest = each!(4, j => _mm256_permutevar8x32_epi32(q[1], _mm256_setr_epi32(j, j + 4, j, j + 4, j, j + 4, j, j + 4)));
        each!(4, j => _mm256_unpacklo_epi64(pick[j], rest[j]))
    }
}

/// In each half, four words to: byte 0 of each, byte 1 of each, byte 2, byte 3.
#[inline(always)]
fn by_byte(words: __m256i) -> __m256i {
    // SAFETY: called by the words above alone; they hold an `Avx2`.
    unsafe {
        let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
    }
}

/// 32 floats, looked up by 32 bytes below 16: result j has those of bytes 4j..4j + 4 of each half.
#[inline(always)]
fn lookup(planes: [__m256i; 4], index: __m256i) -> [__m256; 4] {
    // SAFETY: called by the words above alone; they hold an `Avx2`.
    unsafe {
        let b = each!(4, j => _mm256_shuffle_epi8(planes[j], index));
        let (low01, high01) = (_mm256_unpacklo_epi8(b[0], b[1]), _mm256_unpackhi_epi8(b[0], b[1]));
        let (low23, high23) = (_mm256_unpacklo_epi8(b[2], b[3]), _mm256_unpackhi_epi8(b[2], b[3]));
        [
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(low01, low23)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(low01, low23)),
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(high01, high23)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(high01, high23)),
        ]
    }
}
