//! In how many bits files hold codes, and how they become codes of eight on their way.
//!
//! ```text
//!   4 bits   four quads: step 8j + i of a column low, 8j + 4 + i high, in byte 4c + i of quad j      Q4_0 Q4_1 Q4_K
//!            the same through a table of sixteen codes                                               IQ4_NL NF4
//!   5 bits   a quad more: bit t of its byte 4c + i is the fifth of step 4t + i                       Q5_0 Q5_1 Q5_K
//!   6 bits   two quads more: bits 2u, 2u + 1 of byte 4c + i of quad 4 + h, of step 16h + 4u + i      Q6_K
//! ```

use super::codes::{BLOCK, Block4, Block5, Block8, CodeBlock, Codes, OfFile, PackedBlocks, Quad};
use super::scaled::{GemmQ8, multiply};
use super::scaling::Affine;
use crate::ggml::{Format, HalfLine, IQ4_NL_LEVELS};
use crate::nf4::{LEVELS_127, RowNf4, ZERO_CODE};
use crate::simd::Simd;
use crate::{Cpu, LANES, Line};

/// [`Codes::multiply`], compiled for one form.
macro_rules! compiled_here {
    () => {
        #[inline(never)]
        fn multiply(job: GemmQ8<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
            multiply(job, cpu, scratch);
        }
    };
}
pub(super) use compiled_here;

impl CodeBlock for Block8 {
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(&self, s: S) -> [S::I32; 2] {
        [s.load_bytes(&self[2 * J].0), s.load_bytes(&self[2 * J + 1].0)]
    }
    fn code(&self, column: usize, step: usize) -> u8 {
        self[step / 4].0[4 * column + step % 4]
    }
}

/// Eight bits, a half for a scale: Q8_0.
#[derive(Clone, Copy, Debug)]
pub struct Eight;

impl Codes for Eight {
    type Block = Block8;
    type Scales = HalfLine;
    const EMPTY: Block8 = [Quad([128; 64]); 8];
    const ZERO: i32 = 128;
    compiled_here!();
}

impl OfFile for Eight {
    const FORMAT: Format = Format::Q8_0;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block8], scales: &mut HalfLine) {
        scales.0[column] = half(stored, 0);
        let mut steps = [0; BLOCK];
        for (step, q) in steps.iter_mut().zip(&stored[2..]) {
            *step = *q as i8;
        }
        put_bytes(&mut blocks[0], column, &steps);
    }
}

/// Writes the 32 integers of one column.
pub(super) fn put_bytes(block: &mut Block8, column: usize, steps: &[i8; BLOCK]) {
    for (quad, steps) in block.iter_mut().zip(steps.as_chunks::<4>().0) {
        quad.0[4 * column..4 * column + 4].copy_from_slice(&steps.map(|x| x as u8 ^ 0x80));
    }
}

impl CodeBlock for Block4 {
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(&self, s: S) -> [S::I32; 2] {
        nibbles(s, &self[J])
    }
    fn code(&self, column: usize, step: usize) -> u8 {
        nibble(self, column, step)
    }
}

/// Four bits, the integers −8 to 7, a half for a scale: Q4_0.
#[derive(Clone, Copy, Debug)]
pub struct Nibbles;

impl Codes for Nibbles {
    type Block = Block4;
    type Scales = HalfLine;
    const EMPTY: Block4 = [Quad([0x88; 64]); 4];
    const ZERO: i32 = 8;
    compiled_here!();
}

impl OfFile for Nibbles {
    const FORMAT: Format = Format::Q4_0;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block4], scales: &mut HalfLine) {
        scales.0[column] = half(stored, 0);
        put_nibbles(&mut blocks[0], column, &halves(&stored[2..], 0));
    }
}

/// The half at byte `at`.
pub(super) fn half(stored: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([stored[at], stored[at + 1]])
}

/// The codes of a block of 32: low nibbles of sixteen bytes, then high ones, and a fifth bit each from `fifths`.
fn halves(bytes: &[u8], fifths: u32) -> [u8; BLOCK] {
    let mut steps = [0; BLOCK];
    for (i, step) in steps.iter_mut().enumerate() {
        *step = bytes[i % 16] >> (i / 16 * 4) & 15 | (fifths >> i & 1) as u8 * 16;
    }
    steps
}

/// The nibble of one step of a column.
pub(super) fn nibble(block: &[Quad], column: usize, step: usize) -> u8 {
    block[step / 8].0[4 * column + step % 4] >> (step & 4) & 15
}

/// The low nibbles of a quad, the high ones.
#[inline(always)]
pub(super) fn nibbles<S: Simd>(s: S, quad: &Quad) -> [S::I32; 2] {
    let (low, bytes) = (s.splat_i(0x0f0f_0f0f), s.load_bytes(&quad.0));
    [s.and_i(bytes, low), s.and_i(s.shr::<4>(bytes), low)]
}

/// One column's nibbles, of 32 steps: the lowest four bits of each.
pub(super) fn put_nibbles(block: &mut [Quad], column: usize, steps: &[u8; BLOCK]) {
    for (quad, steps) in block.iter_mut().zip(steps.as_chunks::<8>().0) {
        for (i, byte) in quad.0[4 * column..4 * column + 4].iter_mut().enumerate() {
            *byte = steps[i] & 15 | steps[4 + i] << 4;
        }
    }
}

/// Four bits that stand for NF4's levels in 127ths, rounded; absmax / 127 for a scale. No level moves by more than
/// 0.0037 of absmax (−0.1848, to −23/127).
#[derive(Clone, Copy, Debug)]
pub struct Nf4;

/// Integers as codes of eight bits.
const fn biased(integers: [i8; LANES]) -> [u8; LANES] {
    let (mut codes, mut i) = ([0; LANES], 0);
    while i < LANES {
        codes[i] = integers[i] as u8 ^ 0x80;
        i += 1;
    }
    codes
}

/// Nibbles J of a block through a table of sixteen codes.
#[inline(always)]
fn looked_up<S: Simd, const J: usize>(s: S, block: &Block4, table: &[u8; LANES]) -> [S::I32; 2] {
    let (codes, [low, high]) = (s.splat_bytes(table), block.pair::<S, J>(s));
    [s.lut_bytes(low, codes), s.lut_bytes(high, codes)]
}

impl Codes for Nf4 {
    type Block = Block4;
    type Scales = Line;
    const EMPTY: Block4 = [Quad([ZERO_CODE | ZERO_CODE << 4; 64]); 4];
    const ZERO: i32 = 128;
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(s: S, block: &Block4) -> [S::I32; 2] {
        looked_up::<S, J>(s, block, const { &biased(LEVELS_127) })
    }
    fn integer(block: &Block4, column: usize, step: usize) -> i32 {
        i32::from(LEVELS_127[usize::from(block.code(column, step))])
    }
    compiled_here!();
}

impl<'a> PackedBlocks<'a, Nf4> {
    /// Packs an NF4 weight: its codes, and for each 32 of them absmax / 127.
    ///
    /// # Panics
    /// Where k or the blocks that share an absmax are not whole blocks of 32, or as [`PackedBlocks::new`].
    pub fn pack(weight: RowNf4<'_>, blocks: &'a mut [Block4], scales: &'a mut [Line]) -> Self {
        let ((n, k), blocksize) = (weight.shape(), weight.blocksize());
        assert!(blocksize.is_multiple_of(BLOCK), "an absmax each {blocksize}, not whole blocks of {BLOCK}");
        PackedBlocks::<Nf4>::new(n, k, blocks, scales);
        blocks.fill(Nf4::EMPTY);
        scales.fill(Nf4::NO_SCALES);
        let depth = k / BLOCK;
        for j in 0..n {
            let places = blocks[j / LANES * depth..].iter_mut().zip(&mut scales[j / LANES * depth..]);
            for (b, (block, scale)) in places.enumerate().take(depth) {
                let (at, mut steps) = (j * k + b * BLOCK, [0; BLOCK]);
                for (i, step) in steps.iter_mut().enumerate() {
                    *step = weight.code(at + i);
                }
                put_nibbles(block, j % LANES, &steps);
                scale[j % LANES] = weight.absmax(at) / 127.0;
            }
        }
        PackedBlocks::new(n, k, blocks, scales)
    }
}

/// Four bits that stand for sixteen whole numbers, a half for a scale: IQ4_NL.
#[derive(Clone, Copy, Debug)]
pub struct Iq4Nl;

/// The levels of IQ4_NL.
const IQ4_NL: [i8; LANES] = {
    let (mut levels, mut i) = ([0; LANES], 0);
    while i < LANES {
        levels[i] = IQ4_NL_LEVELS.0[i] as i8;
        i += 1;
    }
    levels
};

impl Codes for Iq4Nl {
    type Block = Block4;
    type Scales = HalfLine;
    /// Ones: there is no 0 among the levels.
    const EMPTY: Block4 = [Quad([0x88; 64]); 4];
    const ZERO: i32 = 128;
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(s: S, block: &Block4) -> [S::I32; 2] {
        looked_up::<S, J>(s, block, const { &biased(IQ4_NL) })
    }
    fn integer(block: &Block4, column: usize, step: usize) -> i32 {
        i32::from(IQ4_NL[usize::from(block.code(column, step))])
    }
    compiled_here!();
}

impl OfFile for Iq4Nl {
    const FORMAT: Format = Format::Iq4Nl;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block4], scales: &mut HalfLine) {
        Nibbles::put(stored, column, blocks, scales);
    }
}

/// Four bits, 0 to 15, with a scale and a minimum: Q4_1.
#[derive(Clone, Copy, Debug)]
pub struct Q41;

impl Codes for Q41 {
    type Block = Block4;
    type Scales = Affine;
    const EMPTY: Block4 = [Quad([0; 64]); 4];
    const ZERO: i32 = 0;
    compiled_here!();
}

impl OfFile for Q41 {
    const FORMAT: Format = Format::Q4_1;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block4], scales: &mut Affine) {
        (scales.d[column], scales.m[column]) = (half(stored, 0), half(stored, 2));
        put_nibbles(&mut blocks[0], column, &halves(&stored[4..], 0));
    }
}

impl CodeBlock for Block5 {
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(&self, s: S) -> [S::I32; 2] {
        let (bits, fifth) = (s.load_bytes(&self[4].0), s.splat_i(0x1010_1010));
        // Bits 2J and 2J + 1 to the fifth place; what crosses into other bytes is masked off.
        let more = match J {
            0 => [s.shl::<4>(bits), s.shl::<3>(bits)],
            1 => [s.shl::<2>(bits), s.shl::<1>(bits)],
            2 => [bits, s.shr::<1>(bits)],
            _ => [s.shr::<2>(bits), s.shr::<3>(bits)],
        };
        let [low, high] = nibbles(s, &self[J]);
        [s.or_i(low, s.and_i(more[0], fifth)), s.or_i(high, s.and_i(more[1], fifth))]
    }
    fn code(&self, column: usize, step: usize) -> u8 {
        let fifth = self[4].0[4 * column + step % 4] >> (step / 4) & 1;
        nibble(self, column, step) | fifth << 4
    }
}

/// One column's codes of five bits, of 32 steps.
pub(super) fn put_fives(block: &mut Block5, column: usize, steps: &[u8; BLOCK]) {
    put_nibbles(block, column, steps);
    for (i, byte) in block[4].0[4 * column..4 * column + 4].iter_mut().enumerate() {
        let quads = steps.as_chunks::<4>().0.iter();
        *byte = quads.enumerate().fold(0, |bits, (t, quad)| bits | (quad[i] >> 4 & 1) << t);
    }
}

/// Five bits, the integers −16 to 15, a half for a scale: Q5_0.
#[derive(Clone, Copy, Debug)]
pub struct Q50;

impl Codes for Q50 {
    type Block = Block5;
    type Scales = HalfLine;
    const EMPTY: Block5 = {
        let mut block = [Quad([0; 64]); 5];
        block[4] = Quad([255; 64]);
        block
    };
    const ZERO: i32 = 16;
    compiled_here!();
}

/// The four bytes at `at`, as bits.
fn word(stored: &[u8], at: usize) -> u32 {
    u32::from(half(stored, at)) | u32::from(half(stored, at + 2)) << 16
}

impl OfFile for Q50 {
    const FORMAT: Format = Format::Q5_0;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block5], scales: &mut HalfLine) {
        scales.0[column] = half(stored, 0);
        put_fives(&mut blocks[0], column, &halves(&stored[6..], word(stored, 2)));
    }
}

/// Five bits, 0 to 31, with a scale and a minimum: Q5_1.
#[derive(Clone, Copy, Debug)]
pub struct Q51;

impl Codes for Q51 {
    type Block = Block5;
    type Scales = Affine;
    const EMPTY: Block5 = [Quad([0; 64]); 5];
    const ZERO: i32 = 0;
    compiled_here!();
}

impl OfFile for Q51 {
    const FORMAT: Format = Format::Q5_1;
    fn put(stored: &[u8], column: usize, blocks: &mut [Block5], scales: &mut Affine) {
        (scales.d[column], scales.m[column]) = (half(stored, 0), half(stored, 2));
        put_fives(&mut blocks[0], column, &halves(&stored[8..], word(stored, 4)));
    }
}
