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

use crate::gemm::Bf16;
use crate::simd::Floats;
use crate::view::MatMut;
use crate::{LANES, Line, line};

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

/// A tile of 0.
pub const NOTHING: Tile = [Line::ZERO; LANES];

/// Rows and panels of [`Products`].
pub const TALL: usize = 2 * LANES;
/// See [`TALL`].
pub const WIDE: usize = 2;

/// Steps of bfloat16 in a tile of A or B.
pub const STEPS: usize = 32;
/// Codes of a row in a tile of A or B.
pub const CODES: usize = 64;

/// The tiles at one step of two stripes of A.
pub type Pair = [Tile; 2];

/// Tiles along k whose products a unit adds up in its own registers: 256 steps of bfloat16, a block of the law.
pub const BLOCK: usize = 8;

/// Products of two stripes with two panels, row by row. Of codes they are an `i32` in the place of each float.
pub type Products = [[Line; WIDE]; TALL];

/// No products.
pub const NO_PRODUCTS: Products = [[Line::ZERO; WIDE]; TALL];

/// Rows of C, as many and as wide as [`Products`], wherever they lie.
#[derive(Debug)]
pub struct Rows<'a, T = f32> {
    base: *mut [T; WIDE * LANES],
    /// Bytes from a row to the next.
    stride: isize,
    life: core::marker::PhantomData<&'a mut [T]>,
}

impl<'a, T: line::Plain> Rows<'a, T> {
    /// Those of a matrix. Elements of four bytes take what a unit sums, be it floats or integers; those of two are
    /// bfloat16.
    ///
    /// # Panics
    /// Where there are more or fewer rows or columns, or these do not lie side by side.
    pub fn new<E: line::Plain>(mut c: MatMut<'a, E>) -> Rows<'a, T> {
        let (shape, beside) = ((c.rows(), c.cols()), c.col_stride() == 1);
        let size = size_of::<T>();
        assert!(shape == (TALL, WIDE * LANES) && beside && size_of::<E>() == size, "rows of {shape:?}");
        let (base, stride) = (core::ptr::from_mut(c.at(0, 0)).cast(), c.row_stride() * size as isize);
        Rows { base, stride, life: core::marker::PhantomData }
    }

    /// Row `i`.
    fn row(&mut self, i: usize) -> &mut [T; WIDE * LANES] {
        assert!(i < TALL, "row {i}");
        // SAFETY: `new` says that so many rows are there, each of 32 neighbours as large as a `T` that may hold any bits,
        // and the borrow of C is exclusive.
        unsafe { &mut *self.base.byte_offset(i as isize * self.stride).cast() }
    }
}

impl<'a> Rows<'a> {
    /// Products themselves.
    pub fn of(products: &'a mut Products) -> Rows<'a> {
        let stride = size_of::<[Line; WIDE]>() as isize;
        Rows { base: core::ptr::from_mut(products).cast(), stride, life: core::marker::PhantomData }
    }
}

/// Where the chains of a block begin and where they end.
#[derive(Debug)]
pub enum Chain<'a> {
    /// From 0 on: products, here.
    New(Rows<'a>),
    /// From what is here on, to here again.
    On(&'a mut Products),
    /// From sums on, to C.
    End(&'a Products, Rows<'a>),
}

/// What becomes of the products of a block.
#[derive(Debug)]
pub enum Goal<'a> {
    /// They are added to sums.
    Sums(&'a mut Products),
    /// Their sum with earlier ones, + a line a panel, is C.
    Rows(End<'a>, Rows<'a>),
    /// The same, rounded to bfloat16 as rows of A are. Integers have no such goal.
    Halves(End<'a>, Rows<'a, Bf16>),
}

/// What is added at the end.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The sums of the blocks before.
    pub from: &'a Products,
    /// Added next to every row.
    pub bias: &'a [Line; WIDE],
    /// C is larger than the caches, and goes past them where its rows are whole lines: nobody reads it soon.
    pub past: bool,
}

/// What else there is to do while a unit multiplies.
#[derive(Debug)]
pub struct Meanwhile<'a> {
    /// The products of a block before, and what becomes of them.
    pub settle: Option<(&'a Products, Goal<'a>)>,
    /// What will be read in the place of the first panel, and of each tile the first of two lines that are asked for: they
    /// come from far away. What will be read in the place of the second panel lies as far from that.
    pub ahead: (&'a [Tile], usize),
}

impl Meanwhile<'_> {
    /// Nothing.
    pub const NOTHING: Meanwhile<'static> = Meanwhile { settle: None, ahead: (&[], 0) };
}

/// Two by two products of stripes of tiles, of elements `E`.
///
/// *[`Bf16`]*: each tile under the first line of clause 10: the even chain from +0, the odd chain from
/// +0, their sum, then + what was there. A row of a tile of A is 32 steps of a row of the matrix; row r of one of B is
/// steps 2r and 2r + 1 of sixteen columns, side by side.
///
/// *[`Quad`](crate::int8::Quad)*: exact, wrapping. A row of a tile of A is 64 steps of a row, with sign; row r of one of B
/// is steps 4r to 4r + 3 of sixteen columns, without sign.
///
/// ```
/// use samebits_kernels::simd::tiles::{BLOCK, CODES, Chain, End, Goal, Meanwhile, NO_PRODUCTS, NOTHING, Pair, Plain};
/// use samebits_kernels::simd::tiles::{Products, Rows, STEPS, TALL, Tile, Tiles, WIDE};
/// use samebits_kernels::{LANES, Line, gemm::Bf16, int8::Quad, view::MatMut};
/// let (mut a, mut b): (Pair, Tile) = ([NOTHING; 2], NOTHING);
/// Line::elements_mut::<i8>(&mut a[0])[..CODES].fill(-1); // row 0 of A
/// Line::elements_mut::<u8>(&mut b).fill(200);
/// let mut block: Products = NO_PRODUCTS;
/// let new = Chain::New(Rows::of(&mut block));
/// Tiles::<Quad>::multiply(&mut Plain, &[a], [&[b], &[b]], new, Meanwhile::NOTHING);
/// let first: &[i32] = Line::elements(&block[0]);
/// assert_eq!(first[0], -200 * CODES as i32);
/// let mut sums = NO_PRODUCTS;
/// Tiles::<Quad>::settle(&mut Plain, &block, Goal::Sums(&mut sums));
/// let (mut c, bias) = ([0i32; TALL * WIDE * LANES], [Line::ZERO; WIDE]);
/// let to = Rows::new(MatMut::new(&mut c, TALL, WIDE * LANES));
/// Tiles::<Quad>::settle(&mut Plain, &block, Goal::Rows(End { from: &sums, bias: &bias, past: false }, to));
/// assert_eq!(c[0], -400 * CODES as i32);
/// // bfloat16: 1 and 2, a block of the law.
/// Line::elements_mut::<u16>(&mut a[0])[..STEPS].fill(0x3f80);
/// Line::elements_mut::<u16>(&mut b).fill(0x4000);
/// let new = Chain::New(Rows::of(&mut block));
/// Tiles::<Bf16>::multiply(&mut Plain, &[a; BLOCK], [&[b; BLOCK], &[b; BLOCK]], new, Meanwhile::NOTHING);
/// assert_eq!(block[0][0][0], 2.0 * 256.0);
/// ```
pub trait Tiles<E> {
    /// Adds up the products, tile after tile; meanwhile what else there is.
    ///
    /// # Panics
    /// Where stripes have different numbers of tiles; as [`Tiles::settle`].
    fn multiply(&mut self, a: &[Pair], b: [&[Tile]; 2], chain: Chain<'_>, meanwhile: Meanwhile<'_>);

    /// Brings the products of a block to their goal.
    ///
    /// # Panics
    /// Where that is [`Goal::Halves`] and they are integers.
    fn settle(&mut self, block: &Products, goal: Goal<'_>);
}

/// A unit for bfloat16, and what brings rows to it: to bfloat16, nearest even, what is less than 2⁻⁵⁰ to 0.
///
/// ```
/// use samebits_kernels::simd::tiles::{NOTHING, Plain, Rounds, STEPS};
/// use samebits_kernels::{Line, gemm::Bf16};
/// let (mut x, mut a) = ([1.001; STEPS], NOTHING);
/// x[1] = -1e-20;
/// Plain.round(&x, &mut a[0]);
/// assert_eq!(Line::elements::<u16>(&a)[..3], [0x3f80, 0, 0x3f80]);
/// let mut same = NOTHING;
/// Plain.clear(&core::array::from_fn(|i| Bf16(if i == 1 { 0x9e00 } else { 0x3f80 })), &mut same[0]);
/// assert!(same == a);
/// let mut b = NOTHING; // steps 0 and 1 of sixteen columns
/// Plain.pair(&[3.0; 16], &[0.5; 16], &mut b[0]);
/// assert_eq!(Line::elements::<u16>(&b)[..3], [0x4040, 0x3f00, 0x4040]);
/// let mut products = [NOTHING; 2];
/// Plain.panel([&[a], &[NOTHING]], &[b], &mut products);
/// assert_eq!(products.map(|stripe| stripe[0][0]), [3.0, 0.0]);
/// ```
pub trait Rounds: Tiles<Bf16> {
    /// A row of a tile of A.
    fn round(&self, x: &[f32; STEPS], line: &mut Line);

    /// A row of a tile of A that is in bfloat16 already: what is less than 2⁻⁵⁰ becomes 0.
    fn clear(&self, x: &[Bf16; STEPS], line: &mut Line);

    /// A row of a tile of B: two steps of sixteen columns.
    fn pair(&self, even: &Floats, odd: &Floats, line: &mut Line);

    /// The products of two stripes with one panel, from 0 on, tile after tile.
    ///
    /// # Panics
    /// Where they have different numbers of tiles.
    fn panel(&mut self, a: [&[Tile]; 2], b: &[Tile], products: &mut [Tile; 2]);
}

/// A link of the chains of clause 10: what becomes of the products of a block of codes.
#[derive(Debug)]
pub struct Link<'a> {
    /// The products, integers.
    pub done: &'a Products,
    /// Each is multiplied by the scale of its row × that of its column, and that is added to its chain by one fma.
    pub rows: &'a [Line; TALL / LANES],
    /// See `rows`.
    pub columns: &'a [Line; WIDE],
    /// A factor of rows and one of columns, whose product is added next, by another fma.
    pub minima: Option<(&'a [Line; TALL / LANES], &'a [Line; WIDE])>,
    /// The chains.
    pub chains: &'a mut Products,
    /// Where a chain ends: what it is added to. It begins anew at +0.
    pub sums: Option<&'a mut Products>,
}

/// Two by two products of half tiles of codes, with sign both, a block of 32 at a time.
///
/// ```
/// use samebits_kernels::simd::tiles::{Half, Halves, Link, NO_PRODUCTS, Plain};
/// use samebits_kernels::Line;
/// let (mut a, mut b): (Half, Half) = ([Line::ZERO; 8], [Line::ZERO; 8]);
/// Line::elements_mut::<i8>(&mut a)[..32].fill(3); // row 0 of A
/// Line::elements_mut::<i8>(&mut b).fill(-2);
/// let [mut block, mut chains, mut sums] = [NO_PRODUCTS; 3];
/// Plain.multiply(&[a, a], [&b, &b], &mut block, None);
/// assert_eq!(Line::elements::<i32>(&block[0])[0], 3 * -2 * 32);
/// let (rows, columns) = ([Line([0.5; 16]); 2], [Line([0.25; 16]); 2]);
/// let link = Link { done: &block, rows: &rows, columns: &columns, minima: None, chains: &mut chains, sums: Some(&mut sums) };
/// Plain.link(link);
/// assert_eq!(sums[0][0][0], -24.0);
/// ```
pub trait Halves {
    /// Writes to `block` the exact products; meanwhile brings those of the block before into their chains.
    fn multiply(&mut self, a: &[Half; 2], b: [&Half; 2], block: &mut Products, meanwhile: Option<Link<'_>>);

    /// Brings products into their chains.
    fn link(&mut self, link: Link<'_>);
}
