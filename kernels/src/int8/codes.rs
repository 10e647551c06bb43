//! Weights as codes of eight or four bits, in panels: what sixteen columns have for 32 steps of k.
//!
//! ```text
//!   W (n, k), sixteen rows of it            a block: 8 quads of 64 bytes           four bits: 4 quads
//!   n0 │ k0 k1 k2 k3 │ k4 … k31            n0 k0 k1 k2 k3 │ n1 k0 … │ … │ n15     byte 4c + i of quad j:
//!   n1 │ k0 k1 k2 k3 │ …              ─►   n0 k4 k5 k6 k7 │ …                     step 8j + i low,
//!   ⋮                                       a panel: its blocks one after the other     8j + 4 + i high
//! ```
//!
//! A code c without sign stands for the integer c − [`Codes::ZERO`]: 128 for eight bits, 8 for Q4_0. NF4's nibbles become
//! codes of eight bits on their way, through a table.

use super::scaled::{GemmQ8, multiply};
use crate::ggml::{Format, HalfLine, Rows};
use crate::half::f16_to_f32;
use crate::nf4::{LEVELS_127, RowNf4, ZERO_CODE};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Cpu, LANES, Line};
use core::ops::Range;

/// Steps of k in a block.
pub const BLOCK: usize = 32;

/// Four steps of sixteen columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Quad(pub [u8; 4 * LANES]);

/// A block of eight bits.
pub type Block8 = [Quad; 8];
/// A block of four bits.
pub type Block4 = [Quad; 4];

/// How codes are stored.
pub trait Codes: Copy + Send + Sync + 'static {
    /// 32 steps of sixteen columns.
    type Block: Copy + Send + Sync + 'static;
    /// Their scales.
    type Scales: Copy + Send + Sync + 'static;
    /// A block of 0.
    const EMPTY: Self::Block;
    /// Scales of 0.
    const NO_SCALES: Self::Scales;
    /// The code that stands for 0.
    const ZERO: i32;
    /// Quads 2j and 2j + 1 of a block, as codes of eight bits.
    fn pair<S: Simd>(s: S, block: &Self::Block, j: usize) -> [S::I32; 2];
    /// The scales of sixteen columns.
    fn scales<S: Simd>(s: S, scales: &Self::Scales) -> S::F32;
    /// The integer of one step of a column, and the column's scale.
    fn element(stored: (&Self::Block, &Self::Scales), column: usize, step: usize) -> (i32, f32);
    /// The checked product, in a function that is no generic one, so that it is compiled once, here, with its tiles
    /// as functions of their own.
    fn multiply(job: GemmQ8<'_, Self>, cpu: Cpu, scratch: &mut [Line]);
}

/// Eight bits, a half for a scale: Q8_0.
#[derive(Clone, Copy, Debug)]
pub struct Eight;

impl Codes for Eight {
    type Block = Block8;
    type Scales = HalfLine;
    const EMPTY: Block8 = [Quad([128; 64]); 8];
    const NO_SCALES: HalfLine = HalfLine::ZERO;
    const ZERO: i32 = 128;
    #[inline(always)]
    fn pair<S: Simd>(s: S, block: &Block8, j: usize) -> [S::I32; 2] {
        [s.load_bytes(&block[2 * j].0), s.load_bytes(&block[2 * j + 1].0)]
    }
    #[inline(always)]
    fn scales<S: Simd>(s: S, scales: &HalfLine) -> S::F32 {
        s.load_f16(&scales.0)
    }
    fn element((block, scales): (&Block8, &HalfLine), column: usize, step: usize) -> (i32, f32) {
        let code = block[step / 4].0[4 * column + step % 4];
        (i32::from(code) - Self::ZERO, f16_to_f32(scales.0[column]))
    }
    #[inline(never)]
    fn multiply(job: GemmQ8<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }
}

/// Writes the 32 integers of one column.
fn put_bytes(block: &mut Block8, column: usize, steps: &[i8; BLOCK]) {
    for (quad, steps) in block.iter_mut().zip(steps.as_chunks::<4>().0) {
        quad.0[4 * column..4 * column + 4].copy_from_slice(&steps.map(|x| x as u8 ^ 0x80));
    }
}

/// Four bits, the integers −8 to 7, a half for a scale: Q4_0.
#[derive(Clone, Copy, Debug)]
pub struct Nibbles;

impl Codes for Nibbles {
    type Block = Block4;
    type Scales = HalfLine;
    const EMPTY: Block4 = [Quad([0x88; 64]); 4];
    const NO_SCALES: HalfLine = HalfLine::ZERO;
    const ZERO: i32 = 8;
    #[inline(always)]
    fn pair<S: Simd>(s: S, block: &Block4, j: usize) -> [S::I32; 2] {
        nibbles(s, &block[j])
    }
    #[inline(always)]
    fn scales<S: Simd>(s: S, scales: &HalfLine) -> S::F32 {
        s.load_f16(&scales.0)
    }
    fn element((block, scales): (&Block4, &HalfLine), column: usize, step: usize) -> (i32, f32) {
        (i32::from(nibble(block, column, step)) - Self::ZERO, f16_to_f32(scales.0[column]))
    }
    #[inline(never)]
    fn multiply(job: GemmQ8<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }
}

/// The nibble of one step of a column.
fn nibble(block: &Block4, column: usize, step: usize) -> u8 {
    block[step / 8].0[4 * column + step % 4] >> (step & 4) & 15
}

/// The low nibbles of a quad, the high ones.
#[inline(always)]
fn nibbles<S: Simd>(s: S, quad: &Quad) -> [S::I32; 2] {
    let (low, bytes) = (s.splat_i(0x0f0f_0f0f), s.load_bytes(&quad.0));
    [s.and_i(bytes, low), s.and_i(s.shr::<4>(bytes), low)]
}

/// One column's nibbles, of 32 steps.
fn put_nibbles(block: &mut Block4, column: usize, steps: &[u8; BLOCK]) {
    for (quad, steps) in block.iter_mut().zip(steps.as_chunks::<8>().0) {
        for (i, byte) in quad.0[4 * column..4 * column + 4].iter_mut().enumerate() {
            *byte = steps[i] | steps[4 + i] << 4;
        }
    }
}

/// Four bits that stand for NF4's levels in 127ths, rounded; absmax / 127 for a scale. No level moves by more than
/// 0.0037 of absmax (−0.1848, to −23/127).
#[derive(Clone, Copy, Debug)]
pub struct Nf4;

/// The integers of NF4, as codes of eight bits.
const NF4_CODES: [u8; LANES] = {
    let (mut codes, mut i) = ([0; LANES], 0);
    while i < LANES {
        codes[i] = LEVELS_127[i] as u8 ^ 0x80;
        i += 1;
    }
    codes
};

impl Codes for Nf4 {
    type Block = Block4;
    type Scales = Line;
    const EMPTY: Block4 = [Quad([ZERO_CODE | ZERO_CODE << 4; 64]); 4];
    const NO_SCALES: Line = Line::ZERO;
    const ZERO: i32 = 128;
    #[inline(always)]
    fn pair<S: Simd>(s: S, block: &Block4, j: usize) -> [S::I32; 2] {
        let (codes, [low, high]) = (s.splat_bytes(&NF4_CODES), nibbles(s, &block[j]));
        [s.lut_bytes(low, codes), s.lut_bytes(high, codes)]
    }
    #[inline(always)]
    fn scales<S: Simd>(s: S, scales: &Line) -> S::F32 {
        s.load(scales)
    }
    fn element((block, scales): (&Block4, &Line), column: usize, step: usize) -> (i32, f32) {
        (i32::from(LEVELS_127[usize::from(nibble(block, column, step))]), scales[column])
    }
    #[inline(never)]
    fn multiply(job: GemmQ8<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }
}

/// Blocks of a weight (n, k), and lines of scales.
pub const fn blocks_len(n: usize, k: usize) -> usize {
    n.div_ceil(LANES) * k.div_ceil(BLOCK)
}

/// Panels of blocks without scales: the integers themselves.
#[derive(Clone, Copy)]
pub struct PackedI8<'a> {
    n: usize,
    k: usize,
    blocks: &'a [Block8],
}

impl<'a> PackedI8<'a> {
    /// Packs B (k, n), any strides.
    ///
    /// # Panics
    /// Where there are not [`blocks_len`] blocks.
    pub fn pack(b: MatRef<'_, i8>, blocks: &'a mut [Block8]) -> Self {
        let (k, n) = (b.rows(), b.cols());
        PackedI8::new(n, k, blocks);
        blocks.fill(Eight::EMPTY);
        if k == 0 {
            return PackedI8 { n, k, blocks };
        }
        for (p, panel) in blocks.chunks_mut(k.div_ceil(BLOCK)).enumerate() {
            for column in p * LANES..((p + 1) * LANES).min(n) {
                for (block, k0) in panel.iter_mut().zip((0..k).step_by(BLOCK)) {
                    let mut steps = [0; BLOCK];
                    for (i, x) in (k0..k).zip(&mut steps) {
                        *x = b.get(i, column);
                    }
                    put_bytes(block, column % LANES, &steps);
                }
            }
        }
        PackedI8 { n, k, blocks }
    }

    /// Borrows what was packed earlier from B (k, n).
    ///
    /// # Panics
    /// Where there are not [`blocks_len`] blocks.
    pub fn new(n: usize, k: usize, blocks: &'a [Block8]) -> Self {
        let need = blocks_len(n, k);
        assert!(blocks.len() == need, "int8 ({n}, {k}): {} blocks, {need} needed", blocks.len());
        PackedI8 { n, k, blocks }
    }

    /// (k, n)
    pub const fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    pub(super) fn columns(self, cols: Range<usize>) -> Self {
        let depth = self.k.div_ceil(BLOCK);
        let panels = cols.start / LANES..cols.end.div_ceil(LANES);
        PackedI8 { n: cols.len(), k: self.k, blocks: &self.blocks[panels.start * depth..panels.end * depth] }
    }

    /// Blocks `range` of panel `p`.
    #[inline(always)]
    pub(super) fn panel(&self, p: usize, range: &Range<usize>) -> &'a [Block8] {
        &self.blocks[p * self.k.div_ceil(BLOCK)..][range.clone()]
    }
}

/// Panels of blocks with a scale a column: a weight (n, k), k whole blocks of 32; the memory is the caller's.
#[derive(Clone, Copy)]
pub struct PackedBlocks<'a, C: Codes> {
    n: usize,
    k: usize,
    blocks: &'a [C::Block],
    scales: &'a [C::Scales],
}

/// Blocks of one panel, and their scales.
pub(super) type Panel<'a, C> = (&'a [<C as Codes>::Block], &'a [<C as Codes>::Scales]);

impl<'a, C: Codes> PackedBlocks<'a, C> {
    /// Borrows a weight packed earlier.
    ///
    /// # Panics
    /// Where k is not whole blocks, or there are not [`blocks_len`] of them and as many lines of scales.
    pub fn new(n: usize, k: usize, blocks: &'a [C::Block], scales: &'a [C::Scales]) -> Self {
        let need = blocks_len(n, k);
        assert!(
            k.is_multiple_of(BLOCK) && (blocks.len(), scales.len()) == (need, need),
            "({n}, {k}) in blocks of {BLOCK} packs to {need} blocks and lines of scales, not {} and {}",
            blocks.len(),
            scales.len()
        );
        PackedBlocks { n, k, blocks, scales }
    }

    /// (k, n)
    pub const fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// The value of row `j` at step `i`: its integer × its scale.
    pub fn get(&self, j: usize, i: usize) -> f32 {
        let at = j / LANES * (self.k / BLOCK) + i / BLOCK;
        let (integer, scale) = C::element((&self.blocks[at], &self.scales[at]), j % LANES, i % BLOCK);
        integer as f32 * scale
    }

    /// Rows `cols` of the weight, columns of the product; their start is a multiple of 16.
    #[must_use]
    pub fn columns(self, cols: Range<usize>) -> Self {
        let depth = self.k / BLOCK;
        let part = cols.start / LANES * depth..cols.end.div_ceil(LANES) * depth;
        PackedBlocks {
            n: cols.len(),
            k: self.k,
            blocks: &self.blocks[part.clone()],
            scales: &self.scales[part],
        }
    }

    /// Blocks `range` of panel `p`.
    #[inline(always)]
    pub(super) fn panel(&self, p: usize, range: &Range<usize>) -> Panel<'a, C> {
        let at = p * (self.k / BLOCK);
        (&self.blocks[at..][range.clone()], &self.scales[at..][range.clone()])
    }
}

/// Moves the blocks of `weight` into panels: `put` writes what lies behind the scale of one to its column.
fn pack<C: Codes<Scales = HalfLine>>(
    weight: &Rows<'_>,
    blocks: &mut [C::Block],
    scales: &mut [HalfLine],
    put: impl Fn(&mut C::Block, usize, &[u8]),
) {
    PackedBlocks::<C>::new(weight.n(), weight.k(), blocks, scales);
    blocks.fill(C::EMPTY);
    scales.fill(C::NO_SCALES);
    let (depth, bytes) = (weight.k() / BLOCK, weight.format().block_bytes());
    for j in 0..weight.n() {
        let (p, column) = (j / LANES, j % LANES);
        let places = blocks[p * depth..].iter_mut().zip(&mut scales[p * depth..]);
        for (stored, (block, scale)) in weight.row(j).chunks_exact(bytes).zip(places) {
            scale.0[column] = u16::from_le_bytes([stored[0], stored[1]]);
            put(block, column, &stored[2..]);
        }
    }
}

impl<'a> PackedBlocks<'a, Eight> {
    /// Packs a Q8_0 weight as it comes: its codes and scales are those of the file.
    ///
    /// # Panics
    /// Where it is not Q8_0, or as [`PackedBlocks::new`].
    pub fn pack(weight: Rows<'_>, blocks: &'a mut [Block8], scales: &'a mut [HalfLine]) -> Self {
        assert!(weight.format() == Format::Q8_0, "blocks of eight bits from {}", weight.format());
        pack::<Eight>(&weight, blocks, scales, |block, column, q| {
            let mut steps = [0; BLOCK];
            for (step, q) in steps.iter_mut().zip(q) {
                *step = *q as i8;
            }
            put_bytes(block, column, &steps);
        });
        PackedBlocks::new(weight.n(), weight.k(), blocks, scales)
    }
}

impl<'a> PackedBlocks<'a, Nibbles> {
    /// Packs a Q4_0 weight as it comes: its codes and scales are those of the file.
    ///
    /// # Panics
    /// Where it is not Q4_0, or as [`PackedBlocks::new`].
    pub fn pack(weight: Rows<'_>, blocks: &'a mut [Block4], scales: &'a mut [HalfLine]) -> Self {
        assert!(weight.format() == Format::Q4_0, "blocks of four bits from {}", weight.format());
        pack::<Nibbles>(&weight, blocks, scales, |block, column, q| {
            // Low nibbles are the first half of the block, high ones the second.
            let mut steps = [0; BLOCK];
            let (low, high) = steps.split_at_mut(BLOCK / 2);
            for ((low, high), q) in low.iter_mut().zip(high).zip(q) {
                (*low, *high) = (q & 15, q >> 4);
            }
            put_nibbles(block, column, &steps);
        });
        PackedBlocks::new(weight.n(), weight.k(), blocks, scales)
    }
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
