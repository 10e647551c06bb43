//! # NF4: four bits a weight, sixteen levels at the quantiles of the normal distribution
//!
//! **Math.**  A row-major tensor is cut into blocks of `blocksize` consecutive elements (the last may be
//! shorter). A block stores a = max |x| and, for every element, the code c of the level nearest to x / a:
//!
//! ```text
//!   x (f32)      x0   x1   x2   x3  …            absmax  a = max |x| of the block      (f32)
//!                │    │    │    │
//!   code         c0   c1   c2   c3  …            c = #{ t : x · (1/a) > t }            (0..=15)
//!                └─┬──┘    └─┬──┘
//!   byte         c0·16+c1  c2·16+c3              the first element in the HIGH nibble
//!   decoded      LEVELS[c] · a                   one rounding
//! ```
//!
//! **Law.**  Clause 1's "a stored weight is first decoded to one `f32`": `level × absmax`, rounded; with
//! nested statistics the absmax itself is `round(round(map · a2) + offset)`. All after that is gemm's law.
//!
//! **The format** is that of bitsandbytes, byte for byte: codes, absmax, tables. Where its paths disagree,
//! this is what happens here, for every block, whole or ragged:
//!
//! * x is multiplied by the rounded reciprocal of a, as on its GPU path and for whole blocks on its CPU
//!   path (which divides in the last, ragged block). Where 1/a would overflow (a ≤ 2⁻¹²⁸), x and a are first
//!   multiplied by 2¹⁰⁰, exactly, so that subnormal blocks keep their shape (its CPU path clamps a at 10⁻³⁸).
//! * A block of zeros has a = 0 and codes 7 (its GPU path gives 0, its CPU path a = 10⁻³⁸ in a ragged block).
//! * An odd number of elements leaves a low nibble over: it is 7.
//! * A NaN or an infinity is an error, [`NotFinite`], which names the element (there: codes of no meaning).
//!
//! **Registers.**  A look-up of sixteen floats is one `vpermps` on AVX-512, four `tbl` on NEON; on AVX2 bytes are
//! looked up and interleaved (`Simd::nibbles`). Each file says what it keeps.
//!
//! **Cost.**  4.5 bits a weight in blocks of 64 (4.13 with nested statistics); memory binds all but products.
//!
//! **Error.**  |x − decoded| ≤ 0.1520 a: half of the widest gap between levels.
//!
//! **Parts.**  [`quantize`] and [`dequantize`] over rows as stored; [`quantize_absmax`] for nested
//! statistics; [`PackedNf4`] for products.  **Reference.**  Dettmers, Pagnoni, Holtzman, Zettlemoyer,
//! "QLoRA", 2023, [arXiv:2305.14314](https://arxiv.org/abs/2305.14314); bitsandbytes 0.50.2, `functional.py`, `backends/default/ops.py`.  **Next.**  `quantize.rs`.

mod dequantize;
mod double;
pub mod fp4;
mod pack;
mod product;
mod quantize;

pub use dequantize::{dequantize, dequantize_bf16, dequantize_f16};
pub(crate) use double::{DECADES, boundary};
pub use double::{DYNAMIC_MAP, NESTED_BLOCKSIZE, dequantize_absmax, quantize_absmax};
pub use pack::{CodeLine, PackedNf4, RowNf4};
pub use product::{nf4_gemm, nf4_gemv};
pub use quantize::{quantize, quantize_bf16, quantize_f16};

use crate::{LANES, Line, simd::Simd};

/// The sixteen levels, ascending: equal to bitsandbytes' table bit for bit.
pub const LEVELS: Line = Line([
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
]);

/// The levels of NF4 in 127ths, rounded to the nearest integer.
pub(crate) const LEVELS_127: [i8; 16] = {
    let (mut levels, mut i) = ([0; 16], 0);
    while i < 16 {
        // Truncation of what was moved away from zero by a half: no level is half an integer.
        let x = LEVELS.0[i] * 127.0;
        levels[i] = (if x < 0.0 { x - 0.5 } else { x + 0.5 }) as i8;
        i += 1;
    }
    levels
};

/// Between neighbouring levels: the code of q is the number of thresholds below q.
pub const THRESHOLDS: [f32; 15] = {
    let mut t = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        t[i] = (LEVELS.0[i] + LEVELS.0[i + 1]) / 2.0;
        i += 1;
    }
    t
};

/// The code of zero, and of every element that is not there.
pub const ZERO_CODE: u8 = 7;

/// The block size that bitsandbytes takes where none is asked for.
pub const DEFAULT_BLOCKSIZE: usize = 64;

/// A value that has no code: the first NaN or infinity of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// Which element.
    pub index: usize,
}

impl core::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "element {} is NaN or infinite: no code stands for it", self.index)
    }
}

impl core::error::Error for NotFinite {}

/// Bytes that hold the codes of `len` elements.
pub const fn code_bytes(len: usize) -> usize {
    len.div_ceil(2)
}

/// Blocks, and so absmax values, of `len` elements.
///
/// # Panics
/// Where `blocksize` is 0.
pub const fn block_count(len: usize, blocksize: usize) -> usize {
    assert!(blocksize > 0, "blocksize is 0");
    len.div_ceil(blocksize)
}

/// How a float is stored; sixteen at a time. The types below are names only, never values.
trait Stored {
    /// The type in memory.
    type Element: Copy + Default;
    /// Widens sixteen, exactly.
    fn load<S: Simd>(s: S, x: &[Self::Element; LANES]) -> S::F32;
    /// Rounds sixteen to nearest even.
    fn store<S: Simd>(s: S, out: &mut [Self::Element; LANES], v: S::F32);
}

/// `f32`.
struct Single;
/// IEEE binary16 in a `u16`.
struct Half;
/// bfloat16 in a `u16`.
struct Brain;

impl Stored for Single {
    type Element = f32;
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[f32; LANES]) -> S::F32 {
        s.load(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, out: &mut [f32; LANES], v: S::F32) {
        s.store(out, v);
    }
}

impl Stored for Half {
    type Element = u16;
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[u16; LANES]) -> S::F32 {
        s.load_f16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, out: &mut [u16; LANES], v: S::F32) {
        s.store_f16(out, v);
    }
}

impl Stored for Brain {
    type Element = u16;
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[u16; LANES]) -> S::F32 {
        s.load_bf16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, out: &mut [u16; LANES], v: S::F32) {
        s.store_bf16(out, v);
    }
}

/// Walks over elements sixteen at a time and knows the absmax of each; past the last block it is 0.
struct Walk<'a> {
    /// absmax of the blocks from the current one on.
    absmax: &'a [f32],
    /// Elements of the current block still to come, at least 1.
    left: usize,
    blocksize: usize,
    /// Whether the last line lay in the current block whole.
    inside: bool,
}

impl<'a> Walk<'a> {
    /// Starts at the first element of the first block of `absmax`.
    fn new(absmax: &'a [f32], blocksize: usize) -> Self {
        Walk { absmax, left: blocksize, blocksize, inside: false }
    }

    /// The next `LANES` elements' absmax, and whether it is that of the line before in every lane.
    #[inline(always)]
    fn line<S: Simd>(&mut self, s: S) -> (S::F32, bool) {
        let mut line = [self.absmax.first().copied().unwrap_or(0.0); LANES];
        if self.left >= LANES {
            let same = self.inside;
            self.inside = true;
            self.advance(LANES);
            return (s.splat(line[0]), same);
        }
        for a in &mut line {
            *a = self.absmax.first().copied().unwrap_or(0.0);
            self.advance(1);
        }
        self.inside = false;
        (s.load(&line), false)
    }

    /// By `n <= left` elements.
    #[inline(always)]
    fn advance(&mut self, n: usize) {
        self.left -= n;
        if self.left == 0 {
            self.absmax = self.absmax.get(1..).unwrap_or(&[]);
            self.left = self.blocksize;
            self.inside = false;
        }
    }
}
