//! Weights as codes of eight bits or fewer, in panels: what sixteen columns have for 32 steps of k.
//!
//! ```text
//!   W (n, k), sixteen rows of it            a block: 8 quads of 64 bytes           four bits: 4 quads
//!   n0 │ k0 k1 k2 k3 │ k4 … k31            n0 k0 k1 k2 k3 │ n1 k0 … │ … │ n15     byte 4c + i of quad j:
//!   n1 │ k0 k1 k2 k3 │ …              ─►   n0 k4 k5 k6 k7 │ …                     step 8j + i low,
//!   ⋮                                       a panel: its blocks one after the other     8j + 4 + i high
//! ```
//!
//! A code c without sign stands for the integer c − [`Codes::ZERO`]: 128 for eight bits, 8 for Q4_0. What files hold in
//! how many bits: `forms.rs`; what scales there are: `scaling.rs`.

use super::forms::{Eight, put_bytes};
use super::scaled::GemmQ8;
use super::scaling::Scaling;
use crate::ggml::{Format, Rows};
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
/// A block of six bits.
pub type Block6 = [Quad; 6];
/// A block of five bits.
pub type Block5 = [Quad; 5];
/// A block of four bits.
pub type Block4 = [Quad; 4];

/// 32 steps of sixteen columns, in as many bits as codes without sign take.
///
/// ```
/// use samebits_kernels::int8::{Block4, CodeBlock, Codes, Nibbles, Quad};
/// let block: Block4 = [Quad([0x3a; 64]); 4];
/// assert_eq!((block.code(7, 0), block.code(7, 4)), (10, 3)); // steps 0 to 3 low, 4 to 7 high
/// assert_eq!(Nibbles::integer(&block, 7, 0), 10 - Nibbles::ZERO);
/// ```
pub trait CodeBlock: Copy + Send + Sync + 'static {
    /// Quads 2J and 2J + 1, as codes of eight bits.
    fn pair<S: Simd, const J: usize>(&self, s: S) -> [S::I32; 2];
    /// The code of one step of a column.
    fn code(&self, column: usize, step: usize) -> u8;
}

/// How codes are stored.
pub trait Codes: Copy + Send + Sync + 'static {
    /// 32 steps of sixteen columns.
    type Block: CodeBlock;
    /// Their scales.
    type Scales: Scaling;
    /// A block of 0, or of what the codes have nearest to it.
    const EMPTY: Self::Block;
    /// Scales of 0.
    const NO_SCALES: Self::Scales = *Self::Scales::NONE;
    /// The code that stands for 0.
    const ZERO: i32;
    /// Quads 2J and 2J + 1 of a block, as codes of eight bits.
    #[inline(always)]
    fn pair<S: Simd, const J: usize>(s: S, block: &Self::Block) -> [S::I32; 2] {
        block.pair::<S, J>(s)
    }
    /// The integer of one step of a column.
    fn integer(block: &Self::Block, column: usize, step: usize) -> i32 {
        i32::from(block.code(column, step)) - Self::ZERO
    }
    /// The checked product, in a function that is no generic one, so that it is compiled once, here, with its tiles
    /// as functions of their own.
    fn multiply(job: GemmQ8<'_, Self>, cpu: Cpu, scratch: &mut [Line]);
}

/// Codes that a format of ggml's has.
///
/// ```
/// use samebits_kernels::ggml::{Rows, dequantize};
/// use samebits_kernels::int8::{Affine, Block5, Block6, Codes, OfFile, PackedBlocks, Scaling, Sixteenths, Super};
/// use samebits_kernels::int8::{Iq4Nl, Q4K, Q5K, Q6K, Q41, Q50, Q51, blocks_len, scales_len};
/// fn stands_for_what_the_file_decodes_to<C: OfFile>() {
///     let (cpu, n, k) = (samebits_kernels::Cpu::detect(), 3, 512);
///     let stored: Vec<u8> = (0..n * C::FORMAT.bytes(k)).map(|i| (i * 37 % 59) as u8).collect();
///     let mut blocks = vec![C::EMPTY; blocks_len(n, k)];
///     let mut scales = vec![C::NO_SCALES; scales_len::<C>(n, k)];
///     assert_eq!(scales.len() * <C::Scales as Scaling>::BLOCKS, blocks.len());
///     let weight = Rows::new(C::FORMAT, n, k, &stored);
///     let packed = PackedBlocks::<C>::pack(weight, &mut blocks, &mut scales);
///     let mut decoded = vec![0.0; n * k];
///     dequantize(cpu, C::FORMAT, &stored, &mut decoded);
///     for (i, x) in decoded.iter().enumerate() {
///         assert!((packed.get(i / k, i % k) - x).abs() < 1e-3);
///     }
/// }
/// stands_for_what_the_file_decodes_to::<Q41>();
/// stands_for_what_the_file_decodes_to::<Q50>();
/// stands_for_what_the_file_decodes_to::<Q51>();
/// stands_for_what_the_file_decodes_to::<Iq4Nl>();
/// stands_for_what_the_file_decodes_to::<Q4K>();
/// stands_for_what_the_file_decodes_to::<Q5K>();
/// stands_for_what_the_file_decodes_to::<Q6K>();
/// // Sixteen columns take the memory that they take in the file; of Q4_K and Q5_K a line more: six bits fill a byte.
/// assert_eq!(size_of::<Block5>() + size_of::<Affine>(), 16 * 24); // Q5_1, 32 steps
/// assert_eq!(8 * size_of::<Block6>() + size_of::<Sixteenths>(), 16 * 210); // Q6_K, 256 steps
/// assert_eq!(8 * size_of::<Block5>() + size_of::<Super>(), 16 * 176 + 64); // Q5_K
/// ```
pub trait OfFile: Codes {
    /// The format.
    const FORMAT: Format;
    /// Moves a block as its file holds it to its column: to blocks of 32 and the scales that they share.
    fn put(stored: &[u8], column: usize, blocks: &mut [Self::Block], scales: &mut Self::Scales);
}

/// Blocks of a weight (n, k).
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

/// Lines of scales, or what stands for them, of a weight (n, k).
pub const fn scales_len<C: Codes>(n: usize, k: usize) -> usize {
    n.div_ceil(LANES) * (k.div_ceil(BLOCK) / C::Scales::BLOCKS)
}

/// Panels of blocks with scales: a weight (n, k), k whole blocks of 32, or of 256 where so many share scales; the memory
/// is the caller's.
#[derive(Clone, Copy)]
pub struct PackedBlocks<'a, C: Codes> {
    n: usize,
    k: usize,
    blocks: &'a [C::Block],
    scales: &'a [C::Scales],
}

/// Blocks of one panel, and their scales.
pub(super) type Panel<'a, C> = (&'a [<C as Codes>::Block], &'a [<C as Codes>::Scales]);

/// Block `b` of a panel's scales, and the number of its first part there.
#[inline(always)]
pub(super) fn of_block<T: Scaling>(scales: &[T], b: usize) -> (&T, usize) {
    // Never out of range; said so that there is no way out inside a tile.
    (scales.get(b / T::BLOCKS).unwrap_or(T::NONE), b % T::BLOCKS * T::PARTS)
}

impl<'a, C: Codes> PackedBlocks<'a, C> {
    /// Borrows a weight packed earlier.
    ///
    /// # Panics
    /// Where k is not whole blocks, or there are not [`blocks_len`] of them and [`scales_len`] scales.
    pub fn new(n: usize, k: usize, blocks: &'a [C::Block], scales: &'a [C::Scales]) -> Self {
        let (need, whole) = ((blocks_len(n, k), scales_len::<C>(n, k)), BLOCK * C::Scales::BLOCKS);
        assert!(
            k.is_multiple_of(whole) && (blocks.len(), scales.len()) == need,
            "({n}, {k}) in blocks of {whole} packs to {} blocks and {} lines of scales, not {} and {}",
            need.0,
            need.1,
            blocks.len(),
            scales.len()
        );
        PackedBlocks { n, k, blocks, scales }
    }

    /// (k, n)
    pub const fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// The value of row `j` at step `i`: its integer × its scale, + its minimum.
    pub fn get(&self, j: usize, i: usize) -> f32 {
        let at = j / LANES * (self.k / BLOCK) + i / BLOCK;
        let (scales, first) = of_block(self.scales, at);
        let part = first + i % BLOCK / (BLOCK / C::Scales::PARTS);
        let (scale, minimum) = scales.of_column(j % LANES, part);
        let value = C::integer(&self.blocks[at], j % LANES, i % BLOCK) as f32 * scale;
        if C::Scales::MINIMA { value + minimum } else { value }
    }

    /// Rows `cols` of the weight, columns of the product; their start is a multiple of 16.
    #[must_use]
    pub fn columns(self, cols: Range<usize>) -> Self {
        let depth = self.k / BLOCK;
        let (from, to) = (cols.start / LANES * depth, cols.end.div_ceil(LANES) * depth);
        PackedBlocks {
            n: cols.len(),
            k: self.k,
            blocks: &self.blocks[from..to],
            scales: &self.scales[from / C::Scales::BLOCKS..to / C::Scales::BLOCKS],
        }
    }

    /// Blocks `range` of panel `p`: from where scales begin on, as every 256 of k do.
    #[inline(always)]
    pub(super) fn panel(&self, p: usize, range: &Range<usize>) -> Panel<'a, C> {
        let (at, shared) = (p * (self.k / BLOCK), C::Scales::BLOCKS);
        let (from, to) = ((at + range.start) / shared, (at + range.end) / shared);
        (&self.blocks[at..][range.clone()], &self.scales[from..to])
    }
}

impl<'a, C: OfFile> PackedBlocks<'a, C> {
    /// Packs a weight as its file holds it: the codes and scales stay what they are.
    ///
    /// # Panics
    /// Where it is of another format, or as [`PackedBlocks::new`].
    pub fn pack(weight: Rows<'_>, blocks: &'a mut [C::Block], scales: &'a mut [C::Scales]) -> Self {
        let (n, k, format) = (weight.n(), weight.k(), weight.format());
        assert!(format == C::FORMAT, "codes of {} from {format}", C::FORMAT);
        PackedBlocks::<C>::new(n, k, blocks, scales);
        blocks.fill(C::EMPTY);
        scales.fill(C::NO_SCALES);
        let shared = C::Scales::BLOCKS;
        let depth = k / BLOCK / shared;
        for j in 0..n {
            let (first, column) = (j / LANES * depth, j % LANES);
            let places = blocks[first * shared..].chunks_mut(shared).zip(&mut scales[first..]);
            for (stored, (blocks, scales)) in weight.row(j).chunks_exact(format.block_bytes()).zip(places) {
                C::put(stored, column, blocks, scales);
            }
        }
        PackedBlocks::new(n, k, blocks, scales)
    }
}
