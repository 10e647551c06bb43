//! What a block of each format is, decoded sixteen elements at a time.
//!
//! ```text
//!   Q4_0, IQ4_NL    d  qs[16]                 element l: low nibble of byte l; l + 16: its high nibble
//!   Q4_1            d  m  qs[16]
//!   Q5_0, Q5_1      d (m)  qh  qs[16]         the fifth bit of element l is bit l of qh
//!   Q8_0            d  q[32]                  signed bytes
//!   Q8_K            d: f32  q[256]  sums
//! ```
//! d and m are IEEE halves, little-endian as all of it. A value is d · q, or d · q + m.

use super::Format;
use crate::half::f16_to_f32;
use crate::simd::{Floats, Simd};
use crate::{LANES, Line};

/// Where the words (sixteen elements) of a block go: word i to line `i · step`.
pub(super) struct Out<'a> {
    pub lines: &'a mut [Floats],
    pub step: usize,
}

impl Out<'_> {
    #[inline(always)]
    pub fn put<S: Simd>(&mut self, s: S, i: usize, v: S::F32) {
        s.store(&mut self.lines[i * self.step], v);
    }
}

/// A format of blocks. The types that implement it are names only, never values.
pub(super) trait Block {
    const FORMAT: Format;
    /// The bytes of a block.
    type Stored: Copy;
    /// Whole blocks.
    fn split(bytes: &[u8]) -> &[Self::Stored];
    /// Decodes a block.
    fn decode<S: Simd>(s: S, block: &Self::Stored, out: &mut Out<'_>);
}

/// The half at the beginning of `bytes`.
#[inline(always)]
pub(super) fn half(bytes: &[u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(*bytes))
}

/// The `N` bytes of a block from `at` on.
#[inline(always)]
pub(super) fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("inside the block")
}

/// d · q, rounded once: in all formats but Q6_K and Q8_K the product is exact.
#[inline(always)]
pub(super) fn scaled<S: Simd>(s: S, d: f32, q: S::I32) -> S::F32 {
    s.mul(s.splat(d), s.of_i(q))
}

/// Low nibbles and high nibbles of sixteen bytes.
#[inline(always)]
pub(super) fn nibbles<S: Simd>(s: S, bytes: &[u8; LANES]) -> [S::I32; 2] {
    let q = s.load_u8(bytes);
    [s.and_i(q, s.splat_i(15)), s.shr::<4>(q)]
}

/// Nibbles with the fifth bit of each from `qh`.
#[inline(always)]
fn fives<S: Simd>(s: S, bytes: &[u8; LANES], qh: &[u8; 4]) -> [S::I32; 2] {
    let [low, high] = nibbles(s, bytes);
    let qh = u32::from_le_bytes(*qh);
    let (sixteen, zero) = (s.splat_i(16), s.splat_i(0));
    let fifth = [s.mask_from_bits(qh & 0xffff), s.mask_from_bits(qh >> 16)];
    [s.or_i(low, s.select_i(fifth[0], sixteen, zero)), s.or_i(high, s.select_i(fifth[1], sixteen, zero))]
}

/// Two words of d · (q − offset).
#[inline(always)]
fn centred<S: Simd>(s: S, d: f32, q: [S::I32; 2], offset: i32, out: &mut Out<'_>) {
    let offset = s.splat_i(offset);
    out.put(s, 0, scaled(s, d, s.sub_i(q[0], offset)));
    out.put(s, 1, scaled(s, d, s.sub_i(q[1], offset)));
}

/// Two words of d · q + m.
#[inline(always)]
fn shifted<S: Simd>(s: S, d: f32, m: f32, q: [S::I32; 2], out: &mut Out<'_>) {
    out.put(s, 0, s.add(scaled(s, d, q[0]), s.splat(m)));
    out.put(s, 1, s.add(scaled(s, d, q[1]), s.splat(m)));
}

macro_rules! stored {
    ($format:ident, $bytes:literal) => {
        const FORMAT: Format = Format::$format;
        type Stored = [u8; $bytes];
        fn split(bytes: &[u8]) -> &[[u8; $bytes]] {
            bytes.as_chunks().0
        }
    };
}
pub(super) use stored;

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Iq4Nl;
pub(super) struct Q8K;

impl Block for Q4_0 {
    stored!(Q4_0, 18);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 18], out: &mut Out<'_>) {
        centred(s, half(part(block, 0)), nibbles(s, part(block, 2)), 8, out);
    }
}

impl Block for Q4_1 {
    stored!(Q4_1, 20);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 20], out: &mut Out<'_>) {
        shifted(s, half(part(block, 0)), half(part(block, 2)), nibbles(s, part(block, 4)), out);
    }
}

impl Block for Q5_0 {
    stored!(Q5_0, 22);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 22], out: &mut Out<'_>) {
        centred(s, half(part(block, 0)), fives(s, part(block, 6), part(block, 2)), 16, out);
    }
}

impl Block for Q5_1 {
    stored!(Q5_1, 24);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 24], out: &mut Out<'_>) {
        let q = fives(s, part(block, 8), part(block, 4));
        shifted(s, half(part(block, 0)), half(part(block, 2)), q, out);
    }
}

impl Block for Q8_0 {
    stored!(Q8_0, 34);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 34], out: &mut Out<'_>) {
        let d = half(part(block, 0));
        out.put(s, 0, scaled(s, d, s.load_i8(part(block, 2))));
        out.put(s, 1, scaled(s, d, s.load_i8(part(block, 18))));
    }
}

/// The levels of IQ4_NL: whole numbers, closer together near zero.
pub const IQ4_NL_LEVELS: Line = Line([
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
]);

impl Block for Iq4Nl {
    stored!(Iq4Nl, 18);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 18], out: &mut Out<'_>) {
        let (d, levels) = (s.splat(half(part(block, 0))), s.load(&IQ4_NL_LEVELS));
        let [low, high] = nibbles(s, part(block, 2));
        out.put(s, 0, s.mul(d, s.lut16(low, levels)));
        out.put(s, 1, s.mul(d, s.lut16(high, levels)));
    }
}

impl Block for Q8K {
    stored!(Q8K, 292);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 292], out: &mut Out<'_>) {
        let d = f32::from_le_bytes(*part(block, 0));
        for i in 0..16 {
            out.put(s, i, scaled(s, d, s.load_i8(part(block, 4 + LANES * i))));
        }
    }
}
