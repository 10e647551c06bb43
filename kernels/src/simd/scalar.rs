//! The portable tier: sixteen lanes as an array, each word as its definition.
//!
//! This table is the specification. It runs everywhere, also where no other tier does; its floor is
//! a 32-bit target with IEEE arithmetic. Where the target has a fused multiply-add for certain, `fma`
//! is that instruction; elsewhere it goes through `f64` rounded to odd, which gives the same bits.

use super::{Floats, Simd};
use crate::LANES;
use core::array::from_fn;

/// The portable tier; always available.
///
/// ```
/// use samebits_kernels::simd::{Scalar, Simd, fma, sqrt, sqrt64};
/// let x = 1.0 + f32::EPSILON;
/// assert_eq!(fma(x, x, -(x * x)), f32::EPSILON * f32::EPSILON); // what rounding took from x · x
/// assert_eq!((sqrt(2.0), sqrt64(9.0)), (core::f32::consts::SQRT_2, 3.0));
/// assert_eq!(<Scalar as Simd>::TILE, (2, 1)); // no registers to fill
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Scalar(());

impl Scalar {
    pub(crate) const fn new() -> Self {
        Scalar(())
    }
}

/// `a × b + c`, rounded once.
#[inline]
#[cfg(not(any(target_arch = "aarch64", all(target_arch = "arm", target_feature = "vfp4"))))]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let product = a as f64 * b as f64; // exact: 24 + 24 bits fit 53
    let c = c as f64;
    let sum = product + c;
    // Knuth's two-sum: what `sum` lost.
    let back = sum - product;
    let lost = (product - (sum - back)) + (c - back);
    let bits = sum.to_bits();
    // Rounding the sum to odd makes the second rounding, to f32, see every lost bit as sticky.
    let odd = if lost != 0.0 && bits & 1 == 0 && sum.is_finite() {
        if (lost > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 }
    } else {
        bits
    };
    f64::from_bits(odd) as f32
}

/// `a × b + c`, rounded once.
#[inline(always)]
#[cfg(target_arch = "aarch64")]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let r: f32;
    // SAFETY: FMADD is part of the base instruction set; it touches only its registers.
    unsafe {
        core::arch::asm!("fmadd {r:s}, {a:s}, {b:s}, {c:s}", r = lateout(vreg) r, a = in(vreg) a,
            b = in(vreg) b, c = in(vreg) c, options(pure, nomem, nostack, preserves_flags));
    }
    r
}

/// `a × b + c`, rounded once.
#[inline(always)]
#[cfg(all(target_arch = "arm", target_feature = "vfp4"))]
pub fn fma(a: f32, b: f32, mut c: f32) -> f32 {
    // SAFETY: the target has VFPv4; VFMA touches only its registers.
    unsafe {
        core::arch::asm!("vfma.f32 {c}, {a}, {b}", c = inout(sreg) c, a = in(sreg) a, b = in(sreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    c
}

/// The word: a function of its own, since it may be twenty instructions a lane, in every loop of every kernel.
#[inline(never)]
fn fma_lanes(a: &Floats, b: &Floats, c: &Floats) -> Floats {
    from_fn(|i| fma(a[i], b[i], c[i]))
}

/// `√a`, correctly rounded.
#[inline(always)]
pub fn sqrt(a: f32) -> f32 {
    // Rounding √ first to f64 and then to f32 is right: 53 >= 2 × 24 + 2 (Figueroa 1995).
    sqrt64(a as f64) as f32
}

/// `√a`, correctly rounded.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub fn sqrt64(a: f64) -> f64 {
    use core::arch::x86_64::{_mm_cvtsd_f64, _mm_set_sd, _mm_sqrt_pd};
    // SAFETY: SSE2 is on at compile time.
    unsafe { _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set_sd(a))) }
}

/// `√a`, correctly rounded.
#[inline(always)]
#[cfg(target_arch = "aarch64")]
pub fn sqrt64(a: f64) -> f64 {
    let r: f64;
    // SAFETY: FSQRT is part of the base instruction set; it touches only its registers.
    unsafe {
        core::arch::asm!("fsqrt {r:d}, {a:d}", r = lateout(vreg) r, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    r
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use super::wasm::sqrt64;

/// `√a`, correctly rounded.
#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
pub fn sqrt64(a: f64) -> f64 {
    crate::math::soft::sqrt64(a)
}

/// Defines lane-wise words: `name(a, b) = expression over one lane`.
macro_rules! lanewise {
    (#[$inline:meta] $($name:ident($($x:ident: $t:ident),+) -> $r:ident = $e:expr;)*) => {$(
        #[$inline]
        fn $name(self, $($x: Self::$t),+) -> Self::$r { from_fn(|i| { $(let $x = $x[i];)+ $e }) }
    )*};
}

impl Simd for Scalar {
    type F32 = Floats;
    type I32 = [i32; LANES];
    type F64 = [f64; LANES];
    type Mask = [bool; LANES];
    type Nibbles = [i32; LANES];
    const TILE: (usize, usize) = (2, 1);
    const SMALL: bool = true;

    lanewise! {
        #[inline(always)]
        add(a: F32, b: F32) -> F32 = a + b;
        sub(a: F32, b: F32) -> F32 = a - b;
        mul(a: F32, b: F32) -> F32 = a * b;
        mask_and(a: Mask, b: Mask) -> Mask = a & b;
        mask_or(a: Mask, b: Mask) -> Mask = a | b;
        add_i(a: I32, b: I32) -> I32 = a.wrapping_add(b);
        sub_i(a: I32, b: I32) -> I32 = a.wrapping_sub(b);
        and_i(a: I32, b: I32) -> I32 = a & b;
        or_i(a: I32, b: I32) -> I32 = a | b;
        xor_i(a: I32, b: I32) -> I32 = a ^ b;
        bits(a: F32) -> I32 = a.to_bits() as i32;
        of_bits(a: I32) -> F32 = f32::from_bits(a as u32);
        add_d(a: F64, b: F64) -> F64 = a + b;
        sub_d(a: F64, b: F64) -> F64 = a - b;
        mul_d(a: F64, b: F64) -> F64 = a * b;
    }
    // Each a function of its own: lane by lane these are long, and inlined into every loop they would be most
    // of the binary.
    lanewise! {
        #[inline(never)]
        div(a: F32, b: F32) -> F32 = a / b;
        sqrt(a: F32) -> F32 = sqrt(a);
        max(a: F32, b: F32) -> F32 = if a > b { a } else { b };
        min(a: F32, b: F32) -> F32 = if a < b { a } else { b };
        round(a: F32) -> F32 = round(a);
        gt(a: F32, b: F32) -> Mask = a > b;
        ge(a: F32, b: F32) -> Mask = a >= b;
        eq(a: F32, b: F32) -> Mask = a == b;
        unordered(a: F32, b: F32) -> Mask = a.is_nan() || b.is_nan();
        select(m: Mask, a: F32, b: F32) -> F32 = if m { a } else { b };
        gt_i(a: I32, b: I32) -> Mask = a > b;
        select_i(m: Mask, a: I32, b: I32) -> I32 = if m { a } else { b };
        even_bytes(a: I32) -> I32 = halves(a << 8 >> 24, a << 24 >> 24);
        odd_bytes(a: I32) -> I32 = halves(a >> 24, a << 16 >> 24);
        to_i(a: F32) -> I32 = round_big(a);
        of_i(a: I32) -> F32 = a as f32;
        widen(a: F32) -> F64 = a as f64;
        narrow(a: F64) -> F32 = a as f32;
    }
    #[inline(always)]
    fn outline<K: crate::Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn enter<K: crate::Kernel>(kernel: K, s: Scalar) -> K::Output {
            kernel.run(s)
        }
        enter(kernel, self)
    }
    #[inline(always)]
    fn fma(self, a: Floats, b: Floats, c: Floats) -> Floats {
        fma_lanes(&a, &b, &c)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &Floats) -> Floats {
        *x
    }
    #[inline(always)]
    fn store(self, out: &mut Floats, v: Floats) {
        *out = v;
    }
    #[inline(always)]
    fn mask_bits(self, m: [bool; LANES]) -> u32 {
        (0..LANES).fold(0, |bits, l| bits | (m[l] as u32) << l)
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> [bool; LANES] {
        from_fn(|l| bits >> l & 1 == 1)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> [i32; LANES] {
        [x; LANES]
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> [i32; LANES] {
        *x
    }
    #[inline(always)]
    fn store_i(self, out: &mut [i32; LANES], v: [i32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: [i32; LANES]) -> [i32; LANES] {
        a.map(|a| a << N)
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: [i32; LANES]) -> [i32; LANES] {
        a.map(|a| (a as u32 >> N) as i32)
    }
    #[inline(always)]
    fn sar<const N: i32>(self, a: [i32; LANES]) -> [i32; LANES] {
        a.map(|a| a >> N)
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> [i32; LANES] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> [i32; LANES] {
        x.map(|x| i32::from(x as i8))
    }
    #[inline(always)]
    fn load_u16(self, x: &[u16; LANES]) -> [i32; LANES] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn store_u16(self, out: &mut [u16; LANES], v: [i32; LANES]) {
        *out = v.map(|v| v as u16);
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Floats {
        x.map(crate::half::f16_to_f32)
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [u16; LANES], v: Floats) {
        *out = v.map(crate::half::f32_to_f16);
    }
    #[inline(always)]
    fn lut16(self, index: [i32; LANES], table: Floats) -> Floats {
        index.map(|i| table[(i & 15) as usize])
    }
    #[inline(always)]
    fn dot_halves(self, a: [i32; LANES], b: [i32; LANES], c: [i32; LANES]) -> [i32; LANES] {
        from_fn(|l| {
            let (low, high) = ((a[l] as i16, b[l] as i16), (a[l] >> 16, b[l] >> 16));
            let low = i32::from(low.0) * i32::from(low.1);
            low.wrapping_add(high.0.wrapping_mul(high.1)).wrapping_add(c[l])
        })
    }
    #[inline(always)]
    fn lut_bytes(self, index: [i32; LANES], table: [i32; LANES]) -> [i32; LANES] {
        from_fn(|l| {
            let group = 4 * (l / 4);
            let byte = |i: u8| table[group + usize::from(i) / 4].to_le_bytes()[usize::from(i) % 4];
            i32::from_le_bytes(index[l].to_le_bytes().map(byte))
        })
    }
    #[inline(always)]
    fn swap(self, a: Floats) -> Floats {
        from_fn(|l| a[l ^ 1])
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
    fn transpose(self, rows: [Floats; LANES]) -> [Floats; LANES] {
        from_fn(|c| from_fn(|r| rows[r][c]))
    }
    #[inline(always)]
    fn splat_bytes(self, x: &[u8; 16]) -> [i32; LANES] {
        from_fn(|l| i32::from_le_bytes(from_fn(|b| x[4 * (l % 4) + b])))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> [i32; LANES] {
        from_fn(|l| i32::from_le_bytes(from_fn(|b| x[4 * l + b])))
    }
    #[inline(always)]
    fn splat_d(self, x: f64) -> [f64; LANES] {
        [x; LANES]
    }
    #[inline(always)]
    fn store_d(self, out: &mut [f64; LANES], v: [f64; LANES]) {
        *out = v;
    }
}

/// Two half words in one word.
#[inline(always)]
fn halves(high: i32, low: i32) -> i32 {
    high << 16 | low & 0xffff
}

/// Nearest integer, ties to even; `|a| <= 2^22`, and the sign of zero is the sign of `a`.
#[inline(always)]
fn round(a: f32) -> f32 {
    // Adding 1.5 × 2^23 leaves no room for a fraction: the addition itself rounds.
    const SHIFT: f32 = 12_582_912.0;
    ((a + SHIFT) - SHIFT).abs().copysign(a)
}

/// Nearest integer, ties to even; `|a| < 2^31`.
#[inline(always)]
fn round_big(a: f32) -> i32 {
    // Past 2^22 an f32 may still hold a half; in f64 the same trick has room for all of i32.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    ((a as f64 + SHIFT) - SHIFT) as i32
}
