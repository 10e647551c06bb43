//! Matrix units: products of small matrices that a unit holds in registers of its own.
//!
//! A tile is sixteen rows of 64 bytes. A step takes a tile of A (16 rows of 32 bfloat16, or 64 codes) and one of B, which
//! holds the same steps of sixteen columns as packed panels do, and adds sixteen by sixteen sums to a third. It does not
//! fit a vocabulary of lanes, so it is a table of its own ([`Tiles`]; [`Halves`] where each 32 codes have a scale), with a
//! definition in plain Rust ([`Plain`]) that every test compares with, and that takes the place of the unit where there is
//! none.
//!
//! ```text
//!              B₀ (32 × 16)   B₁
//!   A₀ (16 × 32)  C₀₀         C₀₁      four tiles of sums: each tile that is read is used twice
//!   A₁            C₁₀         C₁₁
//! ```

use crate::{LANES, Line};
use core::ops::Range;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
mod amx;
mod plain;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
pub use amx::{Amx, AmxHalves};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
pub(crate) use amx::{agrees_bf16, agrees_codes, permitted};
pub use plain::Plain;

/// A tile in memory: sixteen rows of 64 bytes.
pub type Tile = [Line; LANES];

/// Half a tile in memory, 32 codes deep: sixteen rows of 32 bytes of A, or eight of 64 of B.
pub type Half = [Line; LANES / 2];

/// Four tiles of sums: those of A₀ with B₀ and B₁, then those of A₁. Of codes they are an `i32` in the place of each float.
pub type Sums = [Tile; 4];

/// A tile of 0.
pub const NOTHING: Tile = [Line::ZERO; LANES];

/// Rows and panels of [`Sums`].
pub const TALL: usize = 2 * LANES;
/// See [`TALL`].
pub const WIDE: usize = 2;

/// Steps of bfloat16 in a tile of A or B.
pub const STEPS: usize = 32;
/// Codes of a row in a tile of A or B.
pub const CODES: usize = 64;

/// Two by two products of stripes of tiles, of elements `E`.
///
/// *[`Bf16`](crate::gemm::Bf16)*: each tile under the first line of clause 10: the even chain from +0, the odd chain from
/// +0, their sum, then + what was there. A row of a tile of A is 32 steps of a row of the matrix; row r of one of B is
/// steps 2r and 2r + 1 of sixteen columns, side by side.
///
/// *[`Quad`](crate::int8::Quad)*: exact, wrapping. A row of a tile of A is 64 steps of a row, with sign; row r of one of B
/// is steps 4r to 4r + 3 of sixteen columns, without sign.
///
/// ```
/// use samebits_kernels::simd::tiles::{CODES, NOTHING, Plain, STEPS, Sums, TALL, Tile, Tiles, WIDE};
/// use samebits_kernels::{LANES, Line, gemm::Bf16, int8::Quad};
/// let (mut a, mut b): (Tile, Tile) = (NOTHING, NOTHING);
/// Line::elements_mut::<i8>(&mut a)[..CODES].fill(-1); // row 0 of A
/// Line::elements_mut::<u8>(&mut b).fill(200);
/// let mut sums: Sums = [NOTHING; 4];
/// Tiles::<Quad>::add(&mut Plain, [&[a], &[NOTHING]], [&[b], &[b]], &mut sums);
/// let sums: &[i32] = Line::elements(&sums[0]);
/// assert_eq!((sums[0], sums[LANES]), (-200 * CODES as i32, 0));
/// // bfloat16: 1 and 2.
/// Line::elements_mut::<u16>(&mut a)[..STEPS].fill(0x3f80);
/// Line::elements_mut::<u16>(&mut b).fill(0x4000);
/// let mut sums: Sums = [NOTHING; 4];
/// Tiles::<Bf16>::add(&mut Plain, [&[a], &[a]], [&[b], &[b]], &mut sums);
/// assert_eq!(sums[0][0][0], 2.0 * STEPS as f32);
/// assert_eq!(size_of::<Sums>(), 4 * TALL * WIDE * LANES);
/// ```
pub trait Tiles<E> {
    /// Adds to `sums` the products, tile after tile.
    ///
    /// # Panics
    /// Where stripes have different numbers of tiles.
    fn add(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums);
}

/// Two by two products of half tiles, each for itself.
///
/// ```
/// use samebits_kernels::simd::tiles::{Half, Halves, NOTHING, Plain};
/// use samebits_kernels::Line;
/// let (mut a, mut b): (Half, Half) = ([Line::ZERO; 8], [Line::ZERO; 8]);
/// Line::elements_mut::<i8>(&mut a)[..32].fill(3); // row 0 of A
/// Line::elements_mut::<i8>(&mut b).fill(-2);
/// let mut sums = [[NOTHING; 4]];
/// Plain.multiply([&[a], &[a]], [&[b], &[b]], &mut sums);
/// assert_eq!(Line::elements::<i32>(&sums[0][0])[0], 3 * -2 * 32);
/// ```
pub trait Halves {
    /// Writes to each of `sums` the exact products of one half tile of codes, with sign both, of each stripe.
    ///
    /// # Panics
    /// Where stripes and sums have different numbers of half tiles.
    fn multiply(&mut self, a: [&[Half]; 2], b: [&[Half]; 2], sums: &mut [Sums]);
}

/// Tiles in each of the stripes.
fn count<T>(a: [&[T]; 2], b: [&[T]; 2]) -> usize {
    let n = a[0].len();
    assert!(a[1].len() == n && b[0].len() == n && b[1].len() == n, "stripes of as many tiles");
    n
}

/// A panel of B as tiles, and what is left of it, filled up with zeros.
pub(crate) struct Panel<'a> {
    whole: &'a [Tile],
    last: Tile,
}

impl<'a> Panel<'a> {
    #[inline(always)]
    pub(crate) fn new(lines: &'a [Line]) -> Panel<'a> {
        let (whole, rest) = lines.as_chunks();
        let mut last = NOTHING;
        last[..rest.len()].copy_from_slice(rest);
        Panel { whole, last }
    }
}

/// Adds to `sums` the products of tiles `ks` of two stripes with those of two panels.
#[inline(always)]
pub(crate) fn add<E, T: Tiles<E>>(
    tiles: &mut T,
    (a, b): ([&[Tile]; 2], &[Panel<'_>; 2]),
    ks: Range<usize>,
    sums: &mut Sums,
) {
    let whole = ks.start..ks.end.min(b[0].whole.len());
    let of_b = [&b[0].whole[whole.clone()], &b[1].whole[whole.clone()]];
    tiles.add(a.map(|a| &a[whole.clone()]), of_b, sums);
    if whole.end < ks.end {
        let last = whole.end..ks.end;
        tiles.add(a.map(|a| &a[last.clone()]), [&[b[0].last], &[b[1].last]], sums);
    }
}

/// The two stripes of tiles at row `r` of `rows`, `depth` tiles each; past the last the last again, whose sums go nowhere.
#[inline(always)]
pub(crate) fn two<T>(stripes: &[T], depth: usize, (r, rows): (usize, usize)) -> [&[T]; 2] {
    let second = if r + LANES < rows { r + LANES } else { r };
    [r, second].map(|r| &stripes[r / LANES * depth..][..depth])
}
