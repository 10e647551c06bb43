//! # IEEE half and bfloat16
//!
//! **Math.**  f16: 1 sign, 5 exponent, 10 fraction bits; bf16: 1, 8, 7 – the upper half of an `f32`.
//! Widening is exact. Narrowing rounds to nearest even, overflows to infinity, keeps subnormals; a NaN
//! stays a NaN (quiet).
//!
//! **Law.**  Clause 3: integer and exact operations only.
//!
//! The `const fn`s of one value are the definitions. The words `load_f16`, `store_f16`, `load_bf16` of [`crate::simd`] do
//! sixteen at a time with the instruction where a tier has one; the functions over slices take those.
//!
//! **Cost.**  6 bytes and one or two operations a value: memory binds.
//!
//! **Reference.**  IEEE 754-2019, [doi:10.1109/IEEESTD.2019.8766229](https://doi.org/10.1109/IEEESTD.2019.8766229), binary16.  **Next.**  `simd/`.

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::simd::{Floats, Simd};

/// Half to single, exact; the payload of a NaN is kept and made quiet.
///
/// ```
/// use samebits_kernels::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
/// const THIRD: u16 = f32_to_f16(1.0 / 3.0); // in constants too
/// assert_eq!(f16_to_f32(THIRD), 0.33325195); // 11 bits of it
/// assert_eq!(bf16_to_f32(f32_to_bf16(1.0 / 3.0)), 0.33398438); // 8 bits of it
/// ```
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

/// `out[i] = f16_to_f32(x[i])`.
///
/// ```
/// use samebits_kernels::Cpu;
/// use samebits_kernels::half::{narrow_bf16, narrow_f16, widen_bf16, widen_f16};
/// let (cpu, x, mut half, mut back) = (Cpu::detect(), [1.0, -2.5, 1e6], [0; 3], [0.0; 3]);
/// narrow_f16(cpu, &x, &mut half);
/// widen_f16(cpu, &half, &mut back);
/// assert_eq!(back, [1.0, -2.5, f32::INFINITY]); // the range of f16 ends at 65,504
/// narrow_bf16(cpu, &x, &mut half);
/// widen_bf16(cpu, &half, &mut back);
/// assert_eq!(back, [1.0, -2.5, 999424.0]); // bf16 has the range of f32, and 8 bits
/// ```
///
/// # Panics
/// Where the lengths differ.
pub fn widen_f16(cpu: Cpu, x: &[u16], out: &mut [f32]) {
    check_lengths(x.len(), out.len());
    cpu.run(Widen { x, out, format: F16 });
}

/// `out[i] = bf16_to_f32(x[i])`.
///
/// # Panics
/// Where the lengths differ.
pub fn widen_bf16(cpu: Cpu, x: &[u16], out: &mut [f32]) {
    check_lengths(x.len(), out.len());
    cpu.run(Widen { x, out, format: Bf16 });
}

/// `out[i] = f32_to_f16(x[i])`.
///
/// # Panics
/// Where the lengths differ.
pub fn narrow_f16(cpu: Cpu, x: &[f32], out: &mut [u16]) {
    check_lengths(x.len(), out.len());
    cpu.run(Narrow { x, out, format: F16 });
}

/// `out[i] = f32_to_bf16(x[i])`.
///
/// # Panics
/// Where the lengths differ.
pub fn narrow_bf16(cpu: Cpu, x: &[f32], out: &mut [u16]) {
    check_lengths(x.len(), out.len());
    cpu.run(Narrow { x, out, format: Bf16 });
}

#[track_caller]
fn check_lengths(x: usize, out: usize) {
    assert!(x == out, "input of {x} elements, output of {out}");
}

/// A format of sixteen bits.
trait Format {
    fn load<S: Simd>(&self, s: S, x: &[u16; LANES]) -> S::F32;
    fn store<S: Simd>(&self, s: S, out: &mut [u16; LANES], v: S::F32);
}

struct F16;
struct Bf16;

impl Format for F16 {
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, x: &[u16; LANES]) -> S::F32 {
        s.load_f16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, out: &mut [u16; LANES], v: S::F32) {
        s.store_f16(out, v);
    }
}

impl Format for Bf16 {
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, x: &[u16; LANES]) -> S::F32 {
        s.load_bf16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, out: &mut [u16; LANES], v: S::F32) {
        s.store_bf16(out, v);
    }
}

struct Widen<'a, F> {
    x: &'a [u16],
    out: &'a mut [f32],
    format: F,
}

impl<F: Format> Kernel for Widen<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ((x, x_tail), (out, out_tail)) = (self.x.as_chunks(), self.out.as_chunks_mut());
        for (x, out) in x.iter().zip(out) {
            s.store(out, self.format.load(s, x));
        }
        let mut word = [0; LANES];
        word[..x_tail.len()].copy_from_slice(x_tail);
        s.store_tail(out_tail, self.format.load(s, &word));
    }
}

struct Narrow<'a, F> {
    x: &'a [f32],
    out: &'a mut [u16],
    format: F,
}

impl<F: Format> Kernel for Narrow<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ((x, x_tail), (out, out_tail)): ((&[Floats], _), _) =
            (self.x.as_chunks(), self.out.as_chunks_mut());
        for (x, out) in x.iter().zip(out) {
            self.format.store(s, out, s.load(x));
        }
        let mut word = [0; LANES];
        self.format.store(s, &mut word, s.load_tail(x_tail, 0.0));
        out_tail.copy_from_slice(&word[..out_tail.len()]);
    }
}
