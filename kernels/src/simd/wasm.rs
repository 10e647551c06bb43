//! WebAssembly: sixteen lanes in four `v128`.
//!
//! A module that names SIMD anywhere is refused whole by an engine without it, so there is nothing to detect: this
//! table exists where the module is compiled with `-C target-feature=+simd128`, and is then the tier.
//!
//! **The price of `fma`.** The instruction set has none that rounds once (relaxed SIMD's may round once or twice, as
//! the engine likes). So the word is the scalar tier's definition, two lanes at a time in `f64`:
//!
//! ```text
//!   p = a · b            exact: 24 + 24 bits fit 53
//!   s = p + c            rounded; t = what it lost, by Knuth's two-sum: exact
//!   s to odd             one ulp towards zero where t points there, then the last bit set where t ≠ 0
//!   s to f32             the only rounding that counts: the last bit of s stands for every bit that was lost
//! ```
//! That is 15 operations for two lanes, and 48 to widen and narrow a word: 168, where NEON needs four instructions. In
//! node all golden cases together take 3.7 s so, and 6.4 s on the scalar tier (`.ci/run wasm` prints both).
//!
//! SAFETY, once for the file: a `Wasm` exists only where the target has the instructions. Pointers come from
//! references to arrays of exactly the size that is read or written; WebAssembly asks for no alignment.

use super::{Floats, Simd};
use crate::LANES;
use core::arch::wasm32::*;

/// Proof that `simd128` runs here.
#[derive(Clone, Copy, Debug)]
pub struct Wasm(());

impl Wasm {
    /// # Safety
    /// The engine must support SIMD: always so where this is compiled.
    pub(crate) const unsafe fn assume() -> Self {
        Wasm(())
    }
}

/// `name(a: In, …) -> Out = instruction;` applies the instruction to all four quarters, or eighths.
macro_rules! lanewise {
    ($parts:tt: $($name:ident($($x:ident: $t:ident),+) -> $r:ident = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($x: Self::$t),+) -> Self::$r {
            each!($parts, q => { $(let $x = $x[q];)+ $e })
        }
    )*};
}

impl Simd for Wasm {
    type F32 = [v128; 4];
    type I32 = [v128; 4];
    type F64 = [v128; 8];
    type Mask = [v128; 4];
    type Nibbles = [v128; 4];
    const TILE: (usize, usize) = (2, 1);

    lanewise! { 4:
        add(a: F32, b: F32) -> F32 = f32x4_add(a, b);
        sub(a: F32, b: F32) -> F32 = f32x4_sub(a, b);
        mul(a: F32, b: F32) -> F32 = f32x4_mul(a, b);
        div(a: F32, b: F32) -> F32 = f32x4_div(a, b);
        sqrt(a: F32) -> F32 = f32x4_sqrt(a);
        // `pmax(x, y)` is `if x < y { y } else { x }`
        max(a: F32, b: F32) -> F32 = f32x4_pmax(b, a);
        min(a: F32, b: F32) -> F32 = f32x4_pmin(b, a);
        round(a: F32) -> F32 = f32x4_nearest(a);
        gt(a: F32, b: F32) -> Mask = f32x4_gt(a, b);
        ge(a: F32, b: F32) -> Mask = f32x4_ge(a, b);
        eq(a: F32, b: F32) -> Mask = f32x4_eq(a, b);
        unordered(a: F32, b: F32) -> Mask = v128_or(f32x4_ne(a, a), f32x4_ne(b, b));
        select(m: Mask, a: F32, b: F32) -> F32 = v128_bitselect(a, b, m);
        mask_and(a: Mask, b: Mask) -> Mask = v128_and(a, b);
        mask_or(a: Mask, b: Mask) -> Mask = v128_or(a, b);
        add_i(a: I32, b: I32) -> I32 = i32x4_add(a, b);
        sub_i(a: I32, b: I32) -> I32 = i32x4_sub(a, b);
        and_i(a: I32, b: I32) -> I32 = v128_and(a, b);
        or_i(a: I32, b: I32) -> I32 = v128_or(a, b);
        xor_i(a: I32, b: I32) -> I32 = v128_xor(a, b);
        gt_i(a: I32, b: I32) -> Mask = i32x4_gt(a, b);
        select_i(m: Mask, a: I32, b: I32) -> I32 = v128_bitselect(a, b, m);
        bits(a: F32) -> I32 = a;
        of_bits(a: I32) -> F32 = a;
        to_i(a: F32) -> I32 = i32x4_trunc_sat_f32x4(f32x4_nearest(a));
        of_i(a: I32) -> F32 = f32x4_convert_i32x4(a);
        swap(a: F32) -> F32 = i32x4_shuffle::<1, 0, 3, 2>(a, a);
        even_bytes(a: I32) -> I32 = i16x8_shr(i16x8_shl(a, 8), 8);
        odd_bytes(a: I32) -> I32 = i16x8_shr(a, 8);
        dot_halves(a: I32, b: I32, c: I32) -> I32 = i32x4_add(i32x4_dot_i16x8(a, b), c);
        lut_bytes(index: I32, table: I32) -> I32 = i8x16_swizzle(table, index);
    }
    lanewise! { 8:
        add_d(a: F64, b: F64) -> F64 = f64x2_add(a, b);
        sub_d(a: F64, b: F64) -> F64 = f64x2_sub(a, b);
        mul_d(a: F64, b: F64) -> F64 = f64x2_mul(a, b);
    }
    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        fma(&a, &b, &c)
    }
    #[inline(always)]
    fn outline<K: crate::Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn enter<K: crate::Kernel>(kernel: K, s: Wasm) -> K::Output {
            kernel.run(s)
        }
        enter(kernel, self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [f32x4_splat(x); 4]
    }
    #[inline(always)]
    fn load(self, x: &Floats) -> Self::F32 {
        // SAFETY: as above.
        unsafe { each!(4, q => v128_load(x.as_ptr().add(4 * q).cast())) }
    }
    #[inline(always)]
    fn store(self, out: &mut Floats, v: Self::F32) {
        for (q, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { v128_store(out.as_mut_ptr().add(4 * q).cast(), v) }
        }
    }
    #[inline(always)]
    fn mask_bits(self, m: Self::Mask) -> u32 {
        let [a, b, c, d] = each!(4, q => u32::from(i32x4_bitmask(m[q])) << (4 * q));
        a | b | c | d
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> Self::Mask {
        let weight = i32x4(1, 2, 4, 8);
        each!(4, q => i32x4_eq(v128_and(u32x4_splat(bits >> (4 * q)), weight), weight))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I32 {
        [i32x4_splat(x); 4]
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => v128_load(x.as_ptr().add(4 * q).cast())) }
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], v: Self::I32) {
        for (q, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { v128_store(out.as_mut_ptr().add(4 * q).cast(), v) }
        }
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: Self::I32) -> Self::I32 {
        each!(4, q => i32x4_shl(a[q], N as u32))
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: Self::I32) -> Self::I32 {
        each!(4, q => u32x4_shr(a[q], N as u32))
    }
    #[inline(always)]
    fn sar<const N: i32>(self, a: Self::I32) -> Self::I32 {
        each!(4, q => i32x4_shr(a[q], N as u32))
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::I32 {
        // SAFETY: as above.
        let x = unsafe { v128_load(x.as_ptr().cast()) };
        let (low, high) = (u16x8_extend_low_u8x16(x), u16x8_extend_high_u8x16(x));
        [
            u32x4_extend_low_u16x8(low),
            u32x4_extend_high_u16x8(low),
            u32x4_extend_low_u16x8(high),
            u32x4_extend_high_u16x8(high),
        ]
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::I32 {
        // SAFETY: as above.
        let x = unsafe { v128_load(x.as_ptr().cast()) };
        let (low, high) = (i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x));
        [
            i32x4_extend_low_i16x8(low),
            i32x4_extend_high_i16x8(low),
            i32x4_extend_low_i16x8(high),
            i32x4_extend_high_i16x8(high),
        ]
    }
    #[inline(always)]
    fn load_u16(self, x: &[u16; LANES]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => u32x4_load_extend_u16x4(x.as_ptr().add(4 * q))) }
    }
    #[inline(always)]
    fn store_u16(self, out: &mut [u16; LANES], v: Self::I32) {
        let low = self.and_i(v, self.splat_i(0xffff)); // so that narrowing, which saturates, has nothing to do
        for q in [0, 2] {
            // SAFETY: as above.
            unsafe { v128_store(out.as_mut_ptr().add(4 * q).cast(), u16x8_narrow_i32x4(low[q], low[q + 1])) }
        }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F32 {
        // By integers and one exact multiplication, as in `half.rs`.
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
        // `swizzle` looks up bytes, and 0 for those past the sixteenth: entry i of the table is its bytes 4i … 4i + 3,
        // in one of four quarters.
        each!(4, q => {
            let i = v128_and(index[q], i32x4_splat(15));
            let byte = i32x4_add(i32x4_mul(i, i32x4_splat(0x0404_0404)), i32x4_splat(0x0302_0100));
            let low = v128_or(
                i8x16_swizzle(table[0], byte),
                i8x16_swizzle(table[1], i8x16_sub(byte, i8x16_splat(16))),
            );
            let high = v128_or(
                i8x16_swizzle(table[2], i8x16_sub(byte, i8x16_splat(32))),
                i8x16_swizzle(table[3], i8x16_sub(byte, i8x16_splat(48))),
            );
            v128_or(low, high)
        })
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
        unsafe { [v128_load(x.as_ptr().cast()); 4] }
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> Self::I32 {
        // SAFETY: as above.
        unsafe { each!(4, q => v128_load(x.as_ptr().add(16 * q).cast())) }
    }
    #[inline(always)]
    fn splat_d(self, x: f64) -> Self::F64 {
        [f64x2_splat(x); 8]
    }
    #[inline(always)]
    fn widen(self, a: Self::F32) -> Self::F64 {
        each!(8, i => if i % 2 == 0 { low(a[i / 2]) } else { high(a[i / 2]) })
    }
    #[inline(always)]
    fn narrow(self, a: Self::F64) -> Self::F32 {
        each!(4, q => join(a[2 * q], a[2 * q + 1]))
    }
    #[inline(always)]
    fn store_d(self, out: &mut [f64; LANES], v: Self::F64) {
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { v128_store(out.as_mut_ptr().add(2 * i).cast(), v) }
        }
    }
}

/// Lanes 0 and 1 as `f64`.
#[inline(always)]
fn low(a: v128) -> v128 {
    f64x2_promote_low_f32x4(a)
}

/// Lanes 2 and 3 as `f64`.
#[inline(always)]
fn high(a: v128) -> v128 {
    f64x2_promote_low_f32x4(i64x2_shuffle::<1, 1>(a, a))
}

/// Two pairs of `f64` as four `f32`, each rounded once.
#[inline(always)]
fn join(a: v128, b: v128) -> v128 {
    i64x2_shuffle::<0, 2>(f32x4_demote_f64x2_zero(a), f32x4_demote_f64x2_zero(b))
}

/// The word: see the top of this file. A function of its own, as the scalar tier's: inlined into every tile of every
/// kernel it would be most of the module.
#[inline(never)]
fn fma(a: &[v128; 4], b: &[v128; 4], c: &[v128; 4]) -> [v128; 4] {
    each!(4, q => {
        let (a, b, c) = (a[q], b[q], c[q]);
        join(to_odd(low(a), low(b), low(c)), to_odd(high(a), high(b), high(c)))
    })
}

/// `a × b + c` of two lanes, rounded to odd: to itself where that is exact, else to its neighbour with the last bit set.
#[inline(always)]
fn to_odd(a: v128, b: v128, c: v128) -> v128 {
    let product = f64x2_mul(a, b);
    let sum = f64x2_add(product, c);
    let back = f64x2_sub(sum, product);
    let lost = f64x2_add(f64x2_sub(product, f64x2_sub(sum, back)), f64x2_sub(c, back));
    // False where the sum is no number, for then `lost` is none.
    let inexact = f64x2_gt(f64x2_abs(lost), f64x2_splat(0.0));
    let inward = i64x2_lt(v128_xor(lost, sum), i64x2_splat(0));
    let truncated = i64x2_add(sum, v128_and(inward, inexact)); // + all ones: − 1
    v128_or(truncated, v128_and(inexact, i64x2_splat(1)))
}

/// `√a`, correctly rounded.
#[inline(always)]
pub fn sqrt64(a: f64) -> f64 {
    f64x2_extract_lane::<0>(f64x2_sqrt(f64x2_splat(a)))
}

/// Rows to columns of a 4×4 block: pairs, then halves.
#[inline(always)]
fn transpose4(r: [v128; 4]) -> [v128; 4] {
    let pairs = [
        i32x4_shuffle::<0, 4, 1, 5>(r[0], r[1]),
        i32x4_shuffle::<2, 6, 3, 7>(r[0], r[1]),
        i32x4_shuffle::<0, 4, 1, 5>(r[2], r[3]),
        i32x4_shuffle::<2, 6, 3, 7>(r[2], r[3]),
    ];
    [
        i64x2_shuffle::<0, 2>(pairs[0], pairs[2]),
        i64x2_shuffle::<1, 3>(pairs[0], pairs[2]),
        i64x2_shuffle::<0, 2>(pairs[1], pairs[3]),
        i64x2_shuffle::<1, 3>(pairs[1], pairs[3]),
    ]
}
