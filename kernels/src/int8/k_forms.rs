//! The K formats of 256 elements as codes of four, five and six bits: whole scales of their parts under one or two halves.
//!
//! Elements of files run along bytes, not along bits (`ggml/k_block.rs`): block b of 32 is a turn at the bits of 32 bytes.
//! Here every block is what it is in the other formats of as many bits.

use super::codes::{BLOCK, Block4, Block5, Block6, CodeBlock, Codes, OfFile, Quad};
use super::forms::{compiled_here, half, nibble, nibbles, put_fives, put_nibbles};
use super::scaled::{GemmQ8, multiply};
use super::scaling::{Sixteenths, Super};
use crate::ggml::{Format, scales_and_minima};
use crate::simd::Simd;
use crate::{Cpu, Line};

/// Four bits, 0 to 15, with a scale and a minimum: Q4_K.
#[derive(Clone, Copy, Debug)]
pub struct Q4K;

impl Codes for Q4K {
    type Block = Block4;
    type Scales = Super;
    const EMPTY: Block4 = [Quad([0; 64]); 4];
    const ZERO: i32 = 0;
    compiled_here!();
}

/// Scales and minima of Q4_K and Q5_K: d, dmin and twelve bytes of six bits each.
fn put_super(stored: &[u8], column: usize, scales: &mut Super) {
    (scales.d[column], scales.less[column]) = (half(stored, 0), half(stored, 2) ^ 0x8000);
    let (of_parts, minima) = scales_and_minima(stored[4..].first_chunk().expect("inside the block"));
    for part in 0..of_parts.len() {
        (scales.scales[part][column], scales.minima[part][column]) = (of_parts[part], minima[part]);
    }
}

/// The nibbles of block `b`: of 32 bytes, low ones and then high ones.
fn turn(bytes: &[u8], b: usize) -> [u8; BLOCK] {
    let mut steps = [0; BLOCK];
    for (step, byte) in steps.iter_mut().zip(&bytes[b / 2 * BLOCK..]) {
        *step = byte >> (b % 2 * 4) & 15;
    }
    steps
}

impl OfFile for Q4K {
    const FORMAT: Format = Format::Q4K;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block4], scales: &mut Super) {
        put_super(stored, column, scales);
        for (b, block) in blocks.iter_mut().enumerate() {
            put_nibbles(block, column, &turn(&stored[16..], b));
        }
    }
}

/// Five bits, 0 to 31, with a scale and a minimum: Q5_K.
#[derive(Clone, Copy, Debug)]
pub struct Q5K;

impl Codes for Q5K {
    type Block = Block5;
    type Scales = Super;
    const EMPTY: Block5 = [Quad([0; 64]); 5];
    const ZERO: i32 = 0;
    compiled_here!();
}

impl OfFile for Q5K {
    const FORMAT: Format = Format::Q5K;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block5], scales: &mut Super) {
        put_super(stored, column, scales);
        for (b, block) in blocks.iter_mut().enumerate() {
            let mut steps = turn(&stored[48..], b);
            for (step, fifths) in steps.iter_mut().zip(&stored[16..]) {
                *step |= (fifths >> b & 1) << 4;
            }
            put_fives(block, column, &steps);
        }
    }
}

impl CodeBlock for Block6 {
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(&self, s: S) -> [S::I32; 2] {
        let (bits, two) = (s.load_bytes(&self[4 + J / 2].0), s.splat_i(0x3030_3030));
        // Bits of step 4u + i to the fifth and sixth place; what crosses into other bytes is masked off.
        let more = match J % 2 {
            0 => [s.shl::<4>(bits), s.shl::<2>(bits)],
            _ => [bits, s.shr::<2>(bits)],
        };
        let [low, high] = nibbles(s, &self[J]);
        [s.or_i(low, s.and_i(more[0], two)), s.or_i(high, s.and_i(more[1], two))]
    }
    fn code(&self, column: usize, step: usize) -> u8 {
        let two = self[4 + step / 16].0[4 * column + step % 4] >> (step % 16 / 4 * 2) & 3;
        nibble(self, column, step) | two << 4
    }
}

/// Six bits, the integers −32 to 31, a scale each 16 of them: Q6_K.
#[derive(Clone, Copy, Debug)]
pub struct Q6K;

impl Codes for Q6K {
    type Block = Block6;
    type Scales = Sixteenths;
    const EMPTY: Block6 = {
        let mut block = [Quad([0; 64]); 6];
        (block[4], block[5]) = (Quad([0xaa; 64]), Quad([0xaa; 64]));
        block
    };
    const ZERO: i32 = 32;
    compiled_here!();
}

impl OfFile for Q6K {
    const FORMAT: Format = Format::Q6K;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block6], scales: &mut Sixteenths) {
        scales.d[column] = half(stored, 208);
        for (part, line) in scales.scales.iter_mut().enumerate() {
            line[column] = stored[192 + part];
        }
        for (b, block) in blocks.iter_mut().enumerate() {
            // Turn t of 128 elements: low or high nibbles of 32 bytes, bits 2t and 2t + 1 of 32 others.
            let (at, t) = (b / 4, b % 4);
            let (lows, highs) = (&stored[64 * at + 32 * (t % 2)..], &stored[128 + 32 * at..]);
            let mut steps = [0; BLOCK];
            for (step, (low, high)) in steps.iter_mut().zip(lows.iter().zip(highs)) {
                *step = low >> (t / 2 * 4) & 15 | (high >> (2 * t) & 3) << 4;
            }
            put_nibbles(block, column, &steps);
            for (quad, steps) in block[4..].iter_mut().zip(steps.as_chunks::<16>().0) {
                for (i, byte) in quad.0[4 * column..4 * column + 4].iter_mut().enumerate() {
                    *byte = (0..4).fold(0, |bits, u| bits | (steps[4 * u + i] >> 4) << (2 * u));
                }
            }
        }
    }
}
