//! # IEEE half and bfloat16, one value at a time
//!
//! **Math.**  f16: 1 sign, 5 exponent, 10 fraction bits; bf16: 1, 8, 7 – the upper half of an `f32`.
//! Widening is exact. Narrowing rounds to nearest even, overflows to infinity, keeps subnormals; a NaN
//! stays a NaN (quiet).
//!
//! **Law.**  Clause 3: integer and exact operations only.
//!
//! These are the definitions. The words `load_f16`, `store_f16`, `load_bf16` of [`crate::simd`] do
//! sixteen at a time with the instruction where a tier has one.
//!
//! **Reference.**  IEEE 754-2019 binary16.  **Next.**  `simd/`.

/// Half to single, exact; the payload of a NaN is kept and made quiet.
#[inline(always)]
pub const fn f16_to_f32(h: u16) -> f32 {
    let sign = (h as u32 & 0x8000) << 16;
    let magnitude = (h as u32 & 0x7fff) << 13;
    let bits = if magnitude >= 0x0f80_0000 {
        // Infinity or NaN: the exponent of all ones moves to all ones.
        let quiet = if magnitude > 0x0f80_0000 { 0x0040_0000 } else { 0 };
        magnitude | 0x7f80_0000 | quiet
    } else {
        // 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal, exactly.
        (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits()
    };
    f32::from_bits(sign | bits)
}

/// Single to half, nearest even.
#[inline(always)]
pub const fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00 | (magnitude >> 13 & 0x3ff) as u16
    } else if magnitude >= 0x477f_f000 {
        0x7c00 // from 65520 on, the midpoint past the largest half
    } else if magnitude >= 0x3880_0000 {
        // Normal: rebias, then round at bit 13, to even.
        let rebased = magnitude - (112 << 23);
        ((rebased + 0xfff + (rebased >> 13 & 1)) >> 13) as u16
    } else {
        // Subnormal: adding 1/2 leaves ten fraction bits of 2^-24: the addition itself rounds.
        let shifted = f32::from_bits(magnitude) + 0.5;
        (shifted.to_bits() - 0.5f32.to_bits()) as u16
    };
    sign | half
}

/// bfloat16 to single, exact.
#[inline(always)]
pub const fn bf16_to_f32(b: u16) -> f32 {
    f32::from_bits((b as u32) << 16)
}

/// Single to bfloat16, nearest even.
#[inline(always)]
pub const fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
