//! NEON: sixteen lanes in four q registers.
//!
//! SAFETY, once for the file: every intrinsic here needs NEON and nothing else; a `Neon` exists only
//! where the target has it (every aarch64 with floating point), so `self` is the proof. Pointers come
//! from references to arrays of exactly the size that is read or written.

use super::{Floats, Simd};
use crate::LANES;
use core::arch::aarch64::*;
use core::arch::asm;

/// Proof that NEON runs here.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// # Safety
    /// The processor must support NEON.
    pub(crate) const unsafe fn assume() -> Self {
        Neon(())
    }
}

/// `name(a: In, …) -> Out = instruction;` applies the instruction to all four quarters.
macro_rules! lanewise {
    ($($name:ident($($x:ident: $t:ident),+) -> $r:ident = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($x: Self::$t),+) -> Self::$r {
            // SAFETY: `self` proves the features; see the top of this file.
            each!(4, q => { $(let $x = $x[q];)+ unsafe { $e } })
        }
    )*};
}

impl Simd for Neon {
    type F32 = [float32x4_t; 4];
    type I32 = [int32x4_t; 4];
    type F64 = [float64x2_t; 8];
    type Mask = [uint32x4_t; 4];
    type Nibbles = [int32x4_t; 4];
    const TILE: (usize, usize) = (6, 1);
    #[inline(always)]
    fn pin(self, v: [float32x4_t; 4]) -> [float32x4_t; 4] {
        each!(4, q => {
            let mut quarter = v[q];
            // SAFETY: no instruction, of which a compiler knows that.
            unsafe { asm!("/* {0:v} */", inout(vreg) quarter, options(nomem, nostack, preserves_flags)) };
            quarter
        })
    }

    lanewise! {
        add(a: F32, b: F32) -> F32 = vaddq_f32(a, b);
        sub(a: F32, b: F32) -> F32 = vsubq_f32(a, b);
        mul(a: F32, b: F32) -> F32 = vmulq_f32(a, b);
        div(a: F32, b: F32) -> F32 = vdivq_f32(a, b);
        sqrt(a: F32) -> F32 = vsqrtq_f32(a);
        fma(a: F32, b: F32, c: F32) -> F32 = vfmaq_f32(c, a, b);
        nfma(a: F32, b: F32, c: F32) -> F32 = vfmsq_f32(c, a, b);
        // not `fmax`: it takes the number from (number, NaN) in both orders
        max(a: F32, b: F32) -> F32 = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a: F32, b: F32) -> F32 = vbslq_f32(vcgtq_f32(b, a), a, b);
        round(a: F32) -> F32 = vrndnq_f32(a);
        gt(a: F32, b: F32) -> Mask = vcgtq_f32(a, b);
        ge(a: F32, b: F32) -> Mask = vcgeq_f32(a, b);
        eq(a: F32, b: F32) -> Mask = vceqq_f32(a, b);
        unordered(a: F32, b: F32) -> Mask = vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b)));
        select(m: Mask, a: F32, b: F32) -> F32 = vbslq_f32(m, a, b);
        mask_and(a: Mask, b: Mask) -> Mask = vandq_u32(a, b);
        mask_or(a: Mask, b: Mask) -> Mask = vorrq_u32(a, b);
        add_i(a: I32, b: I32) -> I32 = vaddq_s32(a, b);
        sub_i(a: I32, b: I32) -> I32 = vsubq_s32(a, b);
        and_i(a: I32, b: I32) -> I32 = vandq_s32(a, b);
        or_i(a: I32, b: I32) -> I32 = vorrq_s32(a, b);
        xor_i(a: I32, b: I32) -> I32 = veorq_s32(a, b);
        gt_i(a: I32, b: I32) -> Mask = vcgtq_s32(a, b);
        select_i(m: Mask, a: I32, b: I32) -> I32 = vbslq_s32(m, a, b);
        bits(a: F32) -> I32 = vreinterpretq_s32_f32(a);
        of_bits(a: I32) -> F32 = vreinterpretq_f32_s32(a);
        to_i(a: F32) -> I32 = vcvtnq_s32_f32(a);
        of_i(a: I32) -> F32 = vcvtq_f32_s32(a);
        swap(a: F32) -> F32 = vrev64q_f32(a);
        even_bytes(a: I32) -> I32 = {
            let pairs = vreinterpretq_s16_s32(a);
            vreinterpretq_s32_s16(vshrq_n_s16::<8>(vshlq_n_s16::<8>(pairs)))
        };
        odd_bytes(a: I32) -> I32 = vreinterpretq_s32_s16(vshrq_n_s16::<8>(vreinterpretq_s16_s32(a)));
        dot_halves(a: I32, b: I32, c: I32) -> I32 = {
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            vaddq_s32(vpaddq_s32(low, vmull_high_s16(a, b)), c)
        };
        lut_bytes(index: I32, table: I32) -> I32 = {
            vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(index)))
        };
    }
    #[inline(always)]
    fn add_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(8, i => vaddq_f64(a[i], b[i])) }
    }
    #[inline(always)]
    fn sub_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(8, i => vsubq_f64(a[i], b[i])) }
    }
    #[inline(always)]
    fn mul_d(self, a: Self::F64, b: Self::F64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { each!(8, i => vmulq_f64(a[i], b[i])) }
    }
    #[inline(always)]
    fn outline<K: crate::Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn enter<K: crate::Kernel>(kernel: K, s: Neon) -> K::Output {
            kernel.run(s)
        }
        enter(kernel, self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: as above.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, x: &Floats) -> Self::F32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vld1q_f32(x.as_ptr().add(4 * q))) }
    }
    #[inline(always)]
    fn store(self, out: &mut Floats, v: Self::F32) {
        for (q, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { vst1q_f32(out.as_mut_ptr().add(4 * q), v) }
        }
    }
    #[inline(always)]
    fn mask_bits(self, m: Self::Mask) -> u32 {
        // SAFETY: as above.
        unsafe {
            let weight = vld1q_u32([1, 2, 4, 8].as_ptr());
            let [a, b, c, d] = each!(4, q => vaddvq_u32(vandq_u32(m[q], weight)) << (4 * q));
            a | b | c | d
        }
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> Self::Mask {
        // SAFETY: as above.
        unsafe {
            let weight = vld1q_u32([1, 2, 4, 8].as_ptr());
            each!(4, q => vtstq_u32(vdupq_n_u32(bits >> (4 * q)), weight))
        }
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vld1q_s32(x.as_ptr().add(4 * q))) }
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], v: Self::I32) {
        for (q, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { vst1q_s32(out.as_mut_ptr().add(4 * q), v) }
        }
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: Self::I32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vshlq_n_s32::<N>(a[q])) }
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: Self::I32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vreinterpretq_s32_u32(vshrq_n_u32::<N>(vreinterpretq_u32_s32(a[q])))) }
    }
    #[inline(always)]
    fn sar<const N: i32>(self, a: Self::I32) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vshrq_n_s32::<N>(a[q])) }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe {
            let x = vld1q_u8(x.as_ptr());
            let [low, high] = [vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x)];
            let wide = [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ];
            each!(4, q => vreinterpretq_s32_u32(wide[q]))
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe {
            let x = vreinterpretq_s8_u8(vld1q_u8(x.as_ptr()));
            let [low, high] = [vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x)];
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
        }
    }
    #[inline(always)]
    fn load_u16(self, x: &[u16; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vreinterpretq_s32_u32(vmovl_u16(vld1_u16(x.as_ptr().add(4 * q))))) }
    }
    #[inline(always)]
    fn store_u16(self, out: &mut [u16; LANES], v: Self::I32) {
        for (q, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { vst1_u16(out.as_mut_ptr().add(4 * q), vmovn_u32(vreinterpretq_u32_s32(v))) }
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F32 {
        // By integers and one exact multiplication, as in `half.rs`: the type `f16` is not stable.
        let h = self.load_u16(x);
        let magnitude = self.shl::<13>(self.and_i(h, self.splat_i(0x7fff)));
        let scaled = self.mul(self.of_bits(magnitude), self.splat(f32::from_bits((127 + 112) << 23)));
        let special = self.gt_i(magnitude, self.splat_i(0x0f7f_ffff));
        let nan = self.gt_i(magnitude, self.splat_i(0x0f80_0000));
        let quiet = self.select_i(nan, self.splat_i(0x7fc0_0000), self.splat_i(0x7f80_0000));
        let bits = self.select_i(special, self.or_i(magnitude, quiet), self.bits(scaled));
        self.of_bits(self.or_i(bits, self.shl::<16>(self.and_i(h, self.splat_i(0x8000)))))
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [u16; LANES], v: Self::F32) {
        *out = self.to_array(v).map(crate::half::f32_to_f16);
    }
    #[inline(always)]
    fn lut16(self, index: Self::I32, table: Self::F32) -> Self::F32 {
        // `tbl` looks up bytes: entry i of the table is its bytes 4i, 4i + 1, 4i + 2, 4i + 3.
        // SAFETY: as above.
        unsafe {
            let bytes = uint8x16x4_t(
                vreinterpretq_u8_f32(table[0]),
                vreinterpretq_u8_f32(table[1]),
                vreinterpretq_u8_f32(table[2]),
                vreinterpretq_u8_f32(table[3]),
            );
            each!(4, q => {
                let i = vandq_s32(index[q], vdupq_n_s32(15));
                let byte = vmlaq_s32(vdupq_n_s32(0x0302_0100), i, vdupq_n_s32(0x0404_0404));
                vreinterpretq_f32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_s32(byte)))
            })
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
    fn transpose(self, rows: [Self::F32; LANES]) -> [Self::F32; LANES] {
        // Sixteen 4×4 blocks; block (i, j) goes to (j, i).
        let mut out = rows;
        for i in 0..4 {
            for j in 0..4 {
                let r = &rows[4 * i..4 * i + 4];
                for (c, column) in transpose4([r[0][j], r[1][j], r[2][j], r[3][j]]).into_iter().enumerate() {
                    out[4 * j + c][i] = column;
                }
            }
        }
        out
    }
    #[inline(always)]
    fn splat_bytes(self, x: &[u8; 16]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { [vreinterpretq_s32_u8(vld1q_u8(x.as_ptr())); 4] }
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vreinterpretq_s32_u8(vld1q_u8(x.as_ptr().add(16 * q)))) }
    }
    #[inline(always)]
    fn splat_d(self, x: f64) -> Self::F64 {
        // SAFETY: as above.
        unsafe { [vdupq_n_f64(x); 8] }
    }
    #[inline(always)]
    fn widen(self, a: Self::F32) -> Self::F64 {
        // SAFETY: as above.
        unsafe {
            let [a0, a2, a4, a6] = each!(4, q => vcvt_f64_f32(vget_low_f32(a[q])));
            let [a1, a3, a5, a7] = each!(4, q => vcvt_high_f64_f32(a[q]));
            [a0, a1, a2, a3, a4, a5, a6, a7]
        }
    }
    #[inline(always)]
    fn narrow(self, a: Self::F64) -> Self::F32 {
        // SAFETY: as above.
        unsafe { each!(4, q => vcvt_high_f32_f64(vcvt_f32_f64(a[2 * q]), a[2 * q + 1])) }
    }
    #[inline(always)]
    fn store_d(self, out: &mut [f64; LANES], v: Self::F64) {
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { vst1q_f64(out.as_mut_ptr().add(2 * i), v) }
        }
    }
}

/// Rows to columns of a 4×4 block: pairs, then halves.
#[inline(always)]
fn transpose4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: called by the words above alone; they hold a `Neon`.
    unsafe {
        let pairs =
            [vtrn1q_f32(r[0], r[1]), vtrn2q_f32(r[0], r[1]), vtrn1q_f32(r[2], r[3]), vtrn2q_f32(r[2], r[3])];
        let [a0, a1, b0, b1] = each!(4, q => vreinterpretq_f64_f32(pairs[q]));
        let halves = [vtrn1q_f64(a0, b0), vtrn1q_f64(a1, b1), vtrn2q_f64(a0, b0), vtrn2q_f64(a1, b1)];
        each!(4, q => vreinterpretq_f32_f64(halves[q]))
    }
}
