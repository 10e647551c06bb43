//! Rows to Q8_0 and Q4_0, as ggml's `quantize_row_*_ref`.
//!
//! **Math.**  Q8_0: d = max |x| / 127, q = x · (1 / d) to the nearest integer, halves away from zero.
//! Q4_0: d = x* / −8 where x* is the first element of largest magnitude, q = min(15, ⌊x · (1 / d) + 8.5⌋), the product
//! and the sum rounded together, as builds of ggml with fused multiply-add do (its Python package too).
//! d is stored as a half (an infinite one from 65,520 on, as there); q is that of the unrounded d. Where 1 / d is no
//! number – a block of zeros, or d < 2⁻¹²⁸, which a half rounds to 0 – the codes are those of zero.
//!
//! **Cost.**  Two passes over 32 elements in registers.   **Next.**  `rows.rs`

use super::Format;
use crate::half::f32_to_f16;
use crate::nf4::NotFinite;
use crate::simd::{Simd, tree};
use crate::{Cpu, Kernel, LANES};

/// Elements a block of both.
const LEN: usize = 32;

/// Quantises `x`, whole blocks of 32, to Q8_0.
///
/// # Errors
/// [`NotFinite`] for the first NaN or infinity.
///
/// # Panics
/// Where `x` is not whole blocks long or `out` does not have their bytes.
pub fn quantize_q8_0(cpu: Cpu, x: &[f32], out: &mut [u8]) -> Result<(), NotFinite> {
    let (x, out) = blocks::<34>(Format::Q8_0, x, out);
    cpu.run(Eight { x, out })
}

/// Quantises `x`, whole blocks of 32, to Q4_0.
///
/// # Errors
/// [`NotFinite`] for the first NaN or infinity.
///
/// # Panics
/// Where `x` is not whole blocks long or `out` does not have their bytes.
pub fn quantize_q4_0(cpu: Cpu, x: &[f32], out: &mut [u8]) -> Result<(), NotFinite> {
    let (x, out) = blocks::<18>(Format::Q4_0, x, out);
    cpu.run(Four { x, out })
}

type Halves = [[f32; LANES]; 2];

fn blocks<'a, 'o, const BYTES: usize>(
    format: Format,
    x: &'a [f32],
    out: &'o mut [u8],
) -> (&'a [Halves], &'o mut [[u8; BYTES]]) {
    let need = format.bytes(x.len());
    assert!(
        x.len().is_multiple_of(LEN) && out.len() == need,
        "{} elements to {} bytes of {format}, {need} needed in blocks of {LEN}",
        x.len(),
        out.len()
    );
    (x.as_chunks::<LANES>().0.as_chunks().0, out.as_chunks_mut().0)
}

struct Eight<'a, 'o> {
    x: &'a [Halves],
    out: &'o mut [[u8; 34]],
}

impl Kernel for Eight<'_, '_> {
    type Output = Result<(), NotFinite>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        for (i, (x, out)) in self.x.iter().zip(self.out).enumerate() {
            let x = [s.load(&x[0]), s.load(&x[1])];
            let d = largest(s, x, i)? / 127.0;
            let inverse = inverse(d);
            let (scale, codes) = out.split_at_mut(2);
            scale.copy_from_slice(&f32_to_f16(d).to_le_bytes());
            for (x, codes) in x.into_iter().zip(codes.as_chunks_mut::<LANES>().0) {
                s.store_u8(codes, s.to_i(round_away(s, s.mul(x, s.splat(inverse)))));
            }
        }
        Ok(())
    }
}

struct Four<'a, 'o> {
    x: &'a [Halves],
    out: &'o mut [[u8; 18]],
}

impl Kernel for Four<'_, '_> {
    type Output = Result<(), NotFinite>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        for (i, (halves, out)) in self.x.iter().zip(self.out).enumerate() {
            let x = [s.load(&halves[0]), s.load(&halves[1])];
            let most = s.splat(largest(s, x, i)?);
            let at = |half: u32, bits: u32| bits << (half * LANES as u32);
            let found =
                at(0, s.mask_bits(s.eq(s.abs(x[0]), most))) | at(1, s.mask_bits(s.eq(s.abs(x[1]), most)));
            let first = halves.as_flattened()[found.trailing_zeros().min(31) as usize];
            let d = first / -8.0;
            let inverse = inverse(d);
            let (scale, codes) = out.split_at_mut(2);
            scale.copy_from_slice(&f32_to_f16(d).to_le_bytes());
            let (low, high) = (four(s, x[0], inverse), four(s, x[1], inverse));
            if let Some(codes) = codes.first_chunk_mut() {
                s.store_u8(codes, s.or_i(low, s.shl::<4>(high)));
            }
        }
        Ok(())
    }
}

/// The largest magnitude of block `i`.
#[inline(always)]
fn largest<S: Simd>(s: S, x: [S::F32; 2], i: usize) -> Result<f32, NotFinite> {
    let (a, b) = (s.bits(s.abs(x[0])), s.bits(s.abs(x[1])));
    let mut lanes = [0; LANES];
    // The bits of |x|, as integers, order as |x| does; infinity and every NaN come after all numbers.
    s.store_i(&mut lanes, s.select_i(s.gt_i(a, b), a, b));
    let most = f32::from_bits(tree(lanes, |a, b| if a > b { a } else { b }) as u32);
    if most.is_finite() {
        return Ok(most);
    }
    let mut at = 0;
    for x in x {
        for x in s.to_array(x) {
            if !x.is_finite() {
                return Err(NotFinite { index: LEN * i + at });
            }
            at += 1;
        }
    }
    Err(NotFinite { index: LEN * i })
}

/// 1 / d, or 0 where that is no number.
#[inline(always)]
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The nearest integer, halves away from zero; |v| ≤ 2²².
#[inline(always)]
fn round_away<S: Simd>(s: S, v: S::F32) -> S::F32 {
    let a = s.abs(v);
    let even = s.round(a);
    // Exact: half lies between them only where it was rounded down to an even number.
    let down = s.ge(s.sub(a, even), s.splat(0.5));
    s.copysign(s.select(down, s.add(even, s.splat(1.0)), even), v)
}

/// min(15, ⌊x · inverse + 8.5⌋), which is not negative.
#[inline(always)]
fn four<S: Simd>(s: S, x: S::F32, inverse: f32) -> S::I32 {
    let v = s.fma(x, s.splat(inverse), s.splat(8.5));
    let near = s.round(v);
    let floor = s.select(s.gt(near, v), s.sub(near, s.splat(1.0)), near);
    s.to_i(s.min(floor, s.splat(15.0)))
}
