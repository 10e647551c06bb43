//! The K formats: 256 elements in blocks of 16 or 32 with small whole scales, and one or two halves over all.
//!
//! ```text
//!   Q2_K   scales[16]  qs[64]  d  dmin           two bits; (d · sc) · q − dmin · m, sc and m four bits each
//!   Q3_K   hmask[32]  qs[64]  scales[12]  d      three bits, the third inverted in hmask; (d · (sc − 32)) · q
//!   Q4_K   d  dmin  scales[12]  qs[128]          four bits; (d · sc) · q − dmin · m, sc and m six bits each
//!   Q5_K   d  dmin  scales[12]  qh[32]  qs[128]  five bits
//!   Q6_K   ql[128]  qh[64]  scales[16]  d        six bits; (d · sc) · (q − 32), sc a signed byte
//! ```
//! Elements run along bytes, not along bits: one load serves several words, which take turns at its bits.
//!
//! d · sc has at most 11 + 7 bits, times q of at most 5 bits: exact in `f32`, so that a compiler which fuses the
//! product with the subtraction, as some builds of ggml do, gets the same bits. In Q6_K the last product rounds.

use super::Format;
use super::block::{Block, Out, half, nibbles, part, scaled, stored};
use crate::LANES;
use crate::simd::Simd;

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

impl Block for Q2K {
    stored!(Q2K, 84);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 84], out: &mut Out<'_>) {
        let (d, dmin) = (half(part(block, 80)), half(part(block, 82)));
        for load in 0..4 {
            let mut q = s.load_u8(part(block, 16 + LANES * load));
            for turn in 0..4 {
                let word = 8 * (load / 2) + 2 * turn + load % 2;
                let sc = block[word];
                let (dl, ml) = (d * f32::from(sc & 15), dmin * f32::from(sc >> 4));
                let two = s.and_i(q, s.splat_i(3));
                out.put(s, word, s.sub(scaled(s, dl, two), s.splat(ml)));
                q = s.shr::<2>(q);
            }
        }
    }
}

impl Block for Q3K {
    stored!(Q3K, 110);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 110], out: &mut Out<'_>) {
        let d = half(part(block, 108));
        let scales = six_bits(part(block, 96));
        for load in 0..4 {
            let mut q = s.load_u8(part(block, 32 + LANES * load));
            // The third bit of turn t is bit t of the first half's bytes, bit 4 + t of the second half's.
            let mut third = s.load_u8(part(block, LANES * (load % 2)));
            if load >= 2 {
                third = s.shr::<4>(third);
            }
            for turn in 0..4 {
                let word = 8 * (load / 2) + 2 * turn + load % 2;
                let high = s.shl::<2>(s.and_i(third, s.splat_i(1)));
                let three = s.sub_i(s.or_i(s.and_i(q, s.splat_i(3)), high), s.splat_i(4));
                out.put(s, word, scaled(s, d * f32::from(scales[word]), three));
                (q, third) = (s.shr::<2>(q), s.shr::<1>(third));
            }
        }
    }
}

/// The sixteen scales of Q3_K, less 32: low nibbles in eight bytes, two more bits of each in four.
#[inline(always)]
fn six_bits(packed: &[u8; 12]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = packed[i % 8] >> (i / 8 * 4) & 15;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

/// Eight scales and eight minima of Q4_K and Q5_K: six bits each.
#[inline(always)]
pub(crate) fn scales_and_minima(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for i in 0..4 {
        let (a, b, c) = (packed[i], packed[4 + i], packed[8 + i]);
        (scales[i], minima[i]) = (a & 63, b & 63);
        (scales[4 + i], minima[4 + i]) = (c & 15 | a >> 6 << 4, c >> 4 | b >> 6 << 4);
    }
    (scales, minima)
}

/// d · sc and dmin · m for each 32 elements.
#[inline(always)]
fn affine(block: &[u8]) -> [(f32, f32); 8] {
    let (d, dmin) = (half(part(block, 0)), half(part(block, 2)));
    let (scales, minima) = scales_and_minima(part(block, 4));
    let mut all = [(0.0, 0.0); 8];
    for i in 0..8 {
        all[i] = (d * f32::from(scales[i]), dmin * f32::from(minima[i]));
    }
    all
}

impl Block for Q4K {
    stored!(Q4K, 144);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 144], out: &mut Out<'_>) {
        let affine = affine(block);
        for load in 0..8 {
            let q = nibbles(s, part(block, 16 + LANES * load));
            for (turn, q) in q.into_iter().enumerate() {
                let (d, m) = affine[load / 2 * 2 + turn];
                let word = load / 2 * 4 + 2 * turn + load % 2;
                out.put(s, word, s.sub(scaled(s, d, q), s.splat(m)));
            }
        }
    }
}

impl Block for Q5K {
    stored!(Q5K, 176);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 176], out: &mut Out<'_>) {
        let affine = affine(block);
        for column in 0..2 {
            // Bit i of these bytes is the fifth of elements 32i + 16 · column and on.
            let mut fifth = s.load_u8(part(block, 16 + LANES * column));
            for load in 0..4 {
                let q = nibbles(s, part(block, 48 + 32 * load + LANES * column));
                for (turn, q) in q.into_iter().enumerate() {
                    let (d, m) = affine[2 * load + turn];
                    let q = s.or_i(q, s.shl::<4>(s.and_i(fifth, s.splat_i(1))));
                    out.put(s, 4 * load + 2 * turn + column, s.sub(scaled(s, d, q), s.splat(m)));
                    fifth = s.shr::<1>(fifth);
                }
            }
        }
    }
}

impl Block for Q6K {
    stored!(Q6K, 210);
    #[inline(always)]
    fn decode<S: Simd>(s: S, block: &[u8; 210], out: &mut Out<'_>) {
        let d = half(part(block, 208));
        for piece in 0..4 {
            let (at, column) = (piece / 2, piece % 2);
            let [a, c] = nibbles(s, part(block, 64 * at + LANES * column));
            let [b, e] = nibbles(s, part(block, 64 * at + 32 + LANES * column));
            let mut high = s.load_u8(part(block, 128 + 32 * at + LANES * column));
            for (turn, q) in [a, b, c, e].into_iter().enumerate() {
                let word = 8 * at + 2 * turn + column;
                let two = s.shl::<4>(s.and_i(high, s.splat_i(3)));
                let six = s.sub_i(s.or_i(q, two), s.splat_i(32));
                out.put(s, word, scaled(s, d * f32::from(block[192 + word] as i8), six));
                high = s.shr::<2>(high);
            }
        }
    }
}
