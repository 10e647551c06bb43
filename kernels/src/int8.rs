//! # Rows of int8 codes with one scale
//!
//! **Math.**  scale = max |x| / 127,  code = x / scale, rounded to the nearest integer.  Decoding: code × scale.
//!
//! **Law.**   Clause 3. Both quotients are rounded once; the second is cut to −127..=127, then rounded, ties to even.
//!   A row of zeros, and one so small that its scale rounds to 0, has the scale 0. A row with a NaN or an infinity
//!   has the scale NaN and the codes 0: it decodes to NaN, so that what went wrong is not hidden.
//!
//! ```text
//!   x0 … x15 │ x16 … x31 │ …   ──►  max |x| ──►  scale        one f32 a row
//!   x0 … x15 │ x16 … x31 │ …   ──►  ÷ scale, round ──►  codes  one byte each
//! ```
//!
//! **Registers.**  One word in flight.  **Cost.**  5 bytes an element and a division; a row is read twice, the second
//!   time from the first-level cache.
//!
//! **Error.**  |code × scale − x| <= (1/2 + 2⁻¹⁵) · scale where the scale is a normal number.
//!
//! **Reference.**  Symmetric quantisation by the largest magnitude, as ggml's Q8_0 with the row for a block.
//!   **Next.**  `attention/stored.rs`, which reads them; `int8/exact.rs` and `int8/scaled.rs`, products of codes.

#![allow(clippy::needless_range_loop)] // lanes are indices into several arrays at once

mod codes;
mod exact;
mod forms;
mod k_forms;
mod left;
mod scaled;
mod scaled_tiles;
mod scaling;
mod tile;
mod tiles;

pub use codes::{
    BLOCK, Block4, Block5, Block6, Block8, CodeBlock, Codes, OfFile, PackedBlocks, PackedI8, Quad,
    blocks_len, scales_len,
};
pub use exact::GemmI8;
pub use forms::{Eight, Iq4Nl, Nf4, Nibbles, Q41, Q50, Q51};
pub use k_forms::{Q4K, Q5K, Q6K};
pub use scaled::{GemmQ8, Quantized};
pub use scaling::{Affine, Scaling, Sixteenths, Super};

use crate::simd::Simd;
use crate::{Cpu, Kernel, LANES};

/// The largest code.
const MOST: f32 = 127.0;

/// Writes the codes of a row and returns its scale.
///
/// ```
/// use samebits_kernels::{Cpu, int8::quantize};
/// let mut codes = [0; 3];
/// let scale = quantize(Cpu::detect(), &[1.0, -254.0, 5.0], &mut codes);
/// assert_eq!((scale, codes), (2.0, [0, -127, 2])); // 1/2 and 5/2 go to even
/// ```
///
/// # Panics
/// Where the lengths differ.
pub fn quantize(cpu: Cpu, x: &[f32], codes: &mut [i8]) -> f32 {
    assert!(x.len() == codes.len(), "a row of {} elements, {} codes", x.len(), codes.len());
    cpu.run(Quantize { x, codes })
}

/// Writes the codes of each block of 32, as if it were a row, and its scale: what [`GemmQ8`] multiplies.
///
/// A row times weights of eight bits and of four, both with a scale each 32:
/// ```
/// use samebits_kernels::ggml::{Format, HalfLine, Rows};
/// use samebits_kernels::int8::{BLOCK, Block4, Block8, Codes, Eight, GemmQ8, Nf4, Nibbles, PackedBlocks, Quantized};
/// use samebits_kernels::int8::{blocks_len, quantize_blocks};
/// use samebits_kernels::nf4::RowNf4;
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// let (cpu, mut codes, mut scale) = (Cpu::detect(), [0; BLOCK], [0.0]);
/// quantize_blocks(cpu, &[254.0; BLOCK], &mut codes, &mut scale);
/// assert_eq!((codes[0], scale[0]), (127, 2.0));
/// fn times<C: Codes>(cpu: Cpu, codes: &[i8], scale: &[f32], w: PackedBlocks<C>) -> f32 {
///     let a = Quantized { codes: MatRef::new(codes, 1, BLOCK), scales: MatRef::new(scale, 1, 1) };
///     let (mut y, mut scratch) = ([0.0], vec![Line::ZERO; GemmQ8::<C>::scratch_len(1, BLOCK)]);
///     GemmQ8::new(a, w, MatMut::new(&mut y, 1, 1)).run(cpu, &mut scratch);
///     y[0]
/// }
/// let n = blocks_len(1, BLOCK);
/// let (mut eight, mut four, mut scales): (Vec<Block8>, Vec<Block4>, _) =
///     (vec![Eight::EMPTY; n], vec![Nibbles::EMPTY; n], vec![HalfLine::ZERO; n]);
/// let file = [&[0x00, 0x3c][..], &[3; 32]].concat(); // scale 1, codes 3
/// let w = PackedBlocks::<Eight>::pack(Rows::new(Format::Q8_0, 1, BLOCK, &file), &mut eight, &mut scales);
/// assert_eq!(times(cpu, &codes, &scale, w), 254.0 * 3.0 * 32.0);
/// let file = [&[0x00, 0x3c][..], &[0x99; 16]].concat(); // nibbles of 9 − 8
/// let w = PackedBlocks::<Nibbles>::pack(Rows::new(Format::Q4_0, 1, BLOCK, &file), &mut four, &mut scales);
/// assert_eq!(times(cpu, &codes, &scale, w), 254.0 * 32.0);
/// let mut lines = vec![Nf4::NO_SCALES; n];
/// let w = PackedBlocks::<Nf4>::pack(RowNf4::new(1, BLOCK, 32, &[0xff; 16], &[0.5]), &mut four, &mut lines);
/// assert!((times(cpu, &codes, &scale, w) - 254.0 * 0.5 * 32.0).abs() < 1e-2); // the level 1, of absmax ½
/// ```
///
/// # Panics
/// Where `x` is not whole blocks, or there are not as many codes, or not a scale a block.
pub fn quantize_blocks(cpu: Cpu, x: &[f32], codes: &mut [i8], scales: &mut [f32]) {
    assert!(
        x.len() == codes.len() && x.len() == scales.len() * BLOCK,
        "{} elements, {} codes, {} scales of {BLOCK}",
        x.len(),
        codes.len(),
        scales.len()
    );
    cpu.run(QuantizeBlocks { x, codes, scales });
}

struct QuantizeBlocks<'a> {
    x: &'a [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
}

impl Kernel for QuantizeBlocks<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let blocks = self.x.as_chunks::<BLOCK>().0.iter().zip(self.codes.as_chunks_mut::<BLOCK>().0);
        for ((x, codes), scale) in blocks.zip(self.scales) {
            *scale = Quantize { x, codes }.run(s);
        }
    }
}

struct Quantize<'a> {
    x: &'a [f32],
    codes: &'a mut [i8],
}

impl Kernel for Quantize<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let scale = scale_of(s, self.x);
        if scale == 0.0 || scale.is_nan() {
            self.codes.fill(0);
            return scale;
        }
        let (words, rest) = self.x.as_chunks();
        let (codes, codes_rest) = self.codes.as_chunks_mut();
        for (x, codes) in words.iter().zip(codes) {
            *codes = code(s, s.load(x), scale);
        }
        let last = code(s, s.load_tail(rest, 0.0), scale);
        codes_rest.copy_from_slice(&last[..rest.len()]);
        scale
    }
}

/// The scale of a row.
#[inline(always)]
fn scale_of<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (words, rest) = x.as_chunks();
    let tail = s.abs(s.load_tail(rest, 0.0));
    let (mut most, mut nan) = (tail, s.is_nan(tail));
    for x in words {
        let x = s.abs(s.load(x));
        most = s.max(x, most);
        nan = s.mask_or(nan, s.is_nan(x));
    }
    let most = s.max_lane(most);
    if s.any(nan) || most == f32::INFINITY { f32::NAN } else { most / MOST }
}

/// The codes of sixteen elements.
#[inline(always)]
fn code<S: Simd>(s: S, x: S::F32, scale: f32) -> [i8; LANES] {
    let cut = s.max(s.min(s.div(x, s.splat(scale)), s.splat(MOST)), s.splat(-MOST));
    let mut bytes = [0; LANES];
    s.store_u8(&mut bytes, s.to_i(s.round(cut)));
    let mut codes = [0; LANES];
    for i in 0..LANES {
        codes[i] = bytes[i] as i8;
    }
    codes
}
