//! Codes of eight bits, four steps of k at a time: the words of integer products.
//!
//! A quad is four codes side by side, a word of a lane. What a tier does best with it depends on an extra that the
//! tier may have or not (VNNI, DotProd, I8MM), so these words are a table beside [`Simd`]'s: a kernel that says them is
//! generic over both, and [`Cpu::run_quads`](crate::Cpu::run_quads) chooses. All of it is exact, so the order in which
//! a table adds is free (clause 7).
//!
//! ```text
//!   panel   64 codes, 0..=255: byte 4c + i is step i of column c         row   four codes, -128..=127
//!                                                                              the same four for every column
//!   VNNI      vpdpbusd    codes as they are              × the quad          → 16 sums
//!   halves    vpmaddwd ×2 even codes, odd codes as i16   × even half, odd half → 16 sums
//!   smull     sadalp ×2   codes − 128 as i8              × the quad          → 32 half sums
//!   sdot                  codes − 128 as i8              × the quad          → 16 sums
//!   smmla                 codes − 128 as i8, two quads   × two of two rows   → 2 × 16 sums, two by two
//! ```
//!
//! Panels hold codes without sign, for that is what `vpdpbusd` wants; a product with signed weights w = code − z is
//! Σ a·code − z·Σ a, and the second sum is a matter of the row alone: the sums start with it.
//!
//! A stored row against a query has no columns: sixteen quads of the one meet sixteen of the other, lane by lane. Its codes
//! have a sign, which [`Quads::FLIP`] takes from them where the instruction wants none; Σ q·(w + 128) is 128·Σ q too large.

use super::Simd;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
mod vnni;
#[cfg(target_arch = "aarch64")]
pub use neon::{DotProd, Long, Matrix};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
pub use vnni::Vnni;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
pub use vnni::VnniShort;

/// The words over quads, on the tier `S`.
pub trait Quads<S: Simd>: Copy + Send + Sync + 'static {
    /// Sixty-four codes of a panel, made ready for all rows; or of a stored row, for all queries.
    type Right: Copy;
    /// Sums of sixteen columns, not yet gathered.
    type Sums: Copy;
    /// What [`Quads::right`] takes from every code.
    const TAKEN: i32;
    /// What a stored row's codes, -128..=127, must be xored with for [`Quads::flipped`]: 0x80, which adds 128, or nothing.
    const FLIP: u8;
    /// Whether [`Quads::split`] makes two words; else both are the quads as they were.
    const SPLITS: bool;
    /// Rows and panels of the tile whose sums the registers hold; and panels beside each other for one row.
    const TILE: (usize, usize, usize);
    /// The same where a tile keeps as many sums in `f32` besides.
    const SCALED: (usize, usize, usize);
    /// Whether rows go two by two, by [`Quads::dot_pair`], in tiles that have an even number of them.
    const PAIRS: bool = false;

    /// Runs `kernel` in a function of its own, compiled with these words' instructions.
    fn outline<K: QuadKernel>(self, s: S, kernel: K) -> K::Output;
    /// Sixteen quads of a row, as the two words that [`Quads::dot`] takes of each.
    fn split(self, s: S, quads: S::I32) -> [S::I32; 2];
    /// Sixty-four codes of a panel.
    fn right(self, s: S, codes: S::I32) -> Self::Right;
    /// Sixty-four codes of a stored row, xored with [`Quads::FLIP`]; or of 0..=127 as they are.
    fn flipped(self, s: S, codes: S::I32) -> Self::Right;
    /// Sums that begin with `x`.
    fn start(self, s: S, x: i32) -> Self::Sums;
    /// `sums` and the products of sixteen quads, split, each with that of its lane; wrapping.
    fn dot_each(self, s: S, quads: [S::I32; 2], right: Self::Right, sums: Self::Sums) -> Self::Sums;
    /// `sums` and the products of the row's quad, split, with those of each column; wrapping.
    #[inline(always)]
    fn dot(self, s: S, quad: [i32; 2], right: Self::Right, sums: Self::Sums) -> Self::Sums {
        self.dot_each(s, [s.splat_i(quad[0]), s.splat_i(quad[1])], right, sums)
    }
    /// The sums.
    fn total(self, s: S, sums: Self::Sums) -> S::I32;

    // ---- of two rows: what the words above say of each, unless a table says better
    /// Two quads of each row, split, with the two of each column; the sums are a [`Quads::pair`].
    #[inline(always)]
    fn dot_pair(
        self,
        s: S,
        quads: [[[i32; 2]; 2]; 2],
        right: [Self::Right; 2],
        mut sums: [Self::Sums; 2],
    ) -> [Self::Sums; 2] {
        for r in 0..2 {
            for h in 0..2 {
                sums[r] = self.dot(s, quads[r][h], right[h], sums[r]);
            }
        }
        sums
    }
    /// Sums of two rows, as [`Quads::dot_pair`] takes them.
    #[inline(always)]
    fn pair(self, _: S, rows: [Self::Sums; 2]) -> [Self::Sums; 2] {
        rows
    }
    /// A pair as the sums of its rows.
    #[inline(always)]
    fn unpair(self, _: S, pair: [Self::Sums; 2]) -> [Self::Sums; 2] {
        pair
    }
}

/// A kernel body that says the words of both tables. Its `run` must be `#[inline(always)]`.
///
/// ```
/// use samebits_kernels::simd::{Simd, quads::{Halves, QuadKernel, Quads}};
/// use samebits_kernels::{Cpu, Kernel};
/// /// Four codes of a row times four of each column.
/// #[derive(Clone, Copy)]
/// struct Products;
/// impl QuadKernel for Products {
///     type Output = i32;
///     #[inline(always)]
///     fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) -> i32 {
///         let (row, column) = ([1i8, -2, 3, -4], [5, 6, 7, 200]);
///         let (mut codes, mut even, mut odd, mut out) = ([0; 64], [0; 16], [0; 16], [0; 16]);
///         codes.as_chunks_mut().0.fill(column);
///         let halves = q.split(s, s.splat_i(i32::from_le_bytes(row.map(|x| x as u8))));
///         (s.store_i(&mut even, halves[0]), s.store_i(&mut odd, halves[1]));
///         let right = q.right(s, s.load_bytes(&codes)); // less TAKEN each, which the sums start with
///         let sums = q.start(s, Q::TAKEN * (1 - 2 + 3 - 4));
///         s.store_i(&mut out, q.total(s, q.dot(s, [even[0], odd[0]], right, sums)));
///         out[15]
///     }
/// }
/// impl Kernel for Products {
///     type Output = i32;
///     #[inline(always)]
///     fn run<S: Simd>(self, s: S) -> i32 {
///         QuadKernel::run(self, s, Halves)
///     }
/// }
/// for cpu in Cpu::all() {
///     assert_eq!((cpu.run_quads(Products), cpu.run(Products)), (-786, -786)); // 5 − 12 + 21 − 800
/// }
/// ```
pub trait QuadKernel {
    /// What the kernel returns.
    type Output;
    /// The body.
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) -> Self::Output;
}

/// Products of half words, which every tier has.
#[derive(Clone, Copy, Debug)]
pub struct Halves;

/// A [`QuadKernel`] as a [`Kernel`](crate::Kernel) over [`Halves`].
struct OverHalves<K>(K);

impl<K: QuadKernel> crate::Kernel for OverHalves<K> {
    type Output = K::Output;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        self.0.run(s, Halves)
    }
}

impl<S: Simd> Quads<S> for Halves {
    type Right = [S::I32; 2];
    type Sums = S::I32;
    const TAKEN: i32 = 0;
    const FLIP: u8 = 0;
    const SPLITS: bool = true;
    const TILE: (usize, usize, usize) = if S::TILE.1 == 3 { (12, 2, 2) } else { (4, 1, 1) };
    const SCALED: (usize, usize, usize) = if S::TILE.1 == 3 { (6, 2, 2) } else { (4, 1, 1) };

    #[inline(always)]
    fn outline<K: QuadKernel>(self, s: S, kernel: K) -> K::Output {
        s.outline(OverHalves(kernel))
    }
    #[inline(always)]
    fn split(self, s: S, quads: S::I32) -> [S::I32; 2] {
        [s.even_bytes(quads), s.odd_bytes(quads)]
    }
    #[inline(always)]
    fn right(self, s: S, codes: S::I32) -> [S::I32; 2] {
        let even = s.splat_i(0x00ff_00ff);
        [s.and_i(codes, even), s.and_i(s.shr::<8>(codes), even)]
    }
    #[inline(always)]
    fn flipped(self, s: S, codes: S::I32) -> [S::I32; 2] {
        self.split(s, codes)
    }
    #[inline(always)]
    fn start(self, s: S, x: i32) -> S::I32 {
        s.splat_i(x)
    }
    #[inline(always)]
    fn dot_each(self, s: S, quads: [S::I32; 2], right: [S::I32; 2], sums: S::I32) -> S::I32 {
        s.dot_halves(quads[1], right[1], s.dot_halves(quads[0], right[0], sums))
    }
    #[inline(always)]
    fn total(self, _: S, sums: S::I32) -> S::I32 {
        sums
    }
}
