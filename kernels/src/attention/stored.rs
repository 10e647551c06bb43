//! Keys and values in the form in which a cache stores them.
//!
//! ```text
//!   F32    x                            4 bytes a component
//!   Bf16   the upper half of an f32     2                     decoded by a shift, exact
//!   Int8   code × scale                 1, and 4 a row        the product rounded once; a scale a token and head
//! ```
//!
//! Attention over a stored form has the bits of attention over the `f32` that it decodes to (clause 8): a row is
//! decoded to that `f32`, component by component, before anything is computed with it. [`Stored::get`] is the
//! definition of decoding. A scale that is NaN makes every component of its row a NaN.
//!
//! Decoding goes two ways with the same bits. A whole block of decode is read where it lies, and decoded in
//! registers: memory gives half and a quarter of the bytes. Everything else (prefill, where 48 rows share a
//! block; blocks with masks; rows whose components lie apart) decodes blocks of 64 rows to scratch, and goes the
//! way of `f32` from there.

#![allow(clippy::needless_range_loop)] // lanes are indices into several arrays at once

use super::class::Class;
use crate::simd::Simd;
use crate::view::{HeadsRef, MatRef, Strip};
use crate::{Kernel, LANES, Line, Plain};
use core::ops::Range;

/// Keys or values, (batch, kv_heads, tokens, dim).
///
/// ```
/// use samebits_kernels::{Cpu, attention::Stored, int8::quantize, view::HeadsRef};
/// let mut codes = [0; 4];
/// let scales = [quantize(Cpu::detect(), &[254.0, -2.0, 0.0, 100.0], &mut codes)];
/// let codes = HeadsRef::new(&codes, [1, 1, 1, 4]); // one head, one token
/// let row = Stored::Int8 { codes, scales: HeadsRef::new(&scales, [1, 1, 1, 1]) };
/// assert_eq!((row.shape(), row.get([0, 0, 0, 1])), ([1, 1, 1, 4], -2.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// As they are.
    F32(HeadsRef<'a>),
    /// bfloat16, its bits.
    Bf16(HeadsRef<'a, u16>),
    /// Codes, each times the scale of its row; see [`crate::int8::quantize`].
    Int8 {
        /// (batch, kv_heads, tokens, dim)
        codes: HeadsRef<'a, i8>,
        /// (batch, kv_heads, tokens, 1)
        scales: HeadsRef<'a>,
    },
}

impl<'a> From<HeadsRef<'a>> for Stored<'a> {
    fn from(x: HeadsRef<'a>) -> Self {
        Stored::F32(x)
    }
}

impl<'a> Stored<'a> {
    /// (batch, kv_heads, tokens, dim)
    pub const fn shape(&self) -> [usize; 4] {
        match self {
            Stored::F32(x) => x.shape(),
            Stored::Bf16(x) => x.shape(),
            Stored::Int8 { codes, .. } => codes.shape(),
        }
    }

    /// The component at (batch, head, token, component), decoded.
    ///
    /// # Panics
    /// Where there is none.
    pub fn get(&self, at: [usize; 4]) -> f32 {
        match self {
            Stored::F32(x) => x.get(at),
            Stored::Bf16(x) => crate::half::bf16_to_f32(x.get(at)),
            Stored::Int8 { codes, scales } => f32::from(codes.get(at)) * scales.get([at[0], at[1], at[2], 0]),
        }
    }

    /// Whether there is a scale for each row, where there must be.
    pub(super) fn has_scales(&self) -> bool {
        let [b, h, t, _] = self.shape();
        !matches!(self, Stored::Int8 { scales, .. } if scales.shape() != [b, h, t, 1])
    }

    /// The tokens `tokens` of one head.
    pub(super) fn rows(&self, batch: usize, head: usize, tokens: Range<usize>) -> StoredRows<'a> {
        match self {
            Stored::F32(x) => StoredRows::F32(Cells::plain(part(x.head(batch, head), tokens))),
            Stored::Bf16(x) => StoredRows::Bf16(Cells::plain(part(x.head(batch, head), tokens))),
            Stored::Int8 { codes, scales } => StoredRows::Int8(Cells {
                x: part(codes.head(batch, head), tokens.clone()),
                scales: part(scales.head(batch, head), tokens),
            }),
        }
    }
}

/// Rows of a matrix.
fn part<T>(x: MatRef<'_, T>, rows: Range<usize>) -> MatRef<'_, T> {
    let cols = 0..x.cols();
    x.sub(rows, cols)
}

/// The keys or values of one sequence and head, (tokens, dim).
#[derive(Clone, Copy)]
pub(super) enum StoredRows<'a> {
    F32(Cells<'a, f32>),
    Bf16(Cells<'a, u16>),
    Int8(Cells<'a, i8>),
}

impl StoredRows<'_> {
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        match self {
            StoredRows::F32(cells) => cells.x.rows(),
            StoredRows::Bf16(cells) => cells.x.rows(),
            StoredRows::Int8(cells) => cells.x.rows(),
        }
    }

    #[inline(always)]
    pub const fn cols(&self) -> usize {
        match self {
            StoredRows::F32(cells) => cells.x.cols(),
            StoredRows::Bf16(cells) => cells.x.cols(),
            StoredRows::Int8(cells) => cells.x.cols(),
        }
    }
}

/// Rows of one type, and their scales where the type has them.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a, T> {
    pub x: MatRef<'a, T>,
    /// (rows, 1), or nothing.
    scales: MatRef<'a>,
}

impl<'a, T> Cells<'a, T> {
    /// Of a type without scales.
    #[inline(always)]
    pub fn plain(x: MatRef<'a, T>) -> Self {
        Cells { x, scales: MatRef::new(&[], 0, 0) }
    }
}

impl<T: Element> Cells<'_, T> {
    /// The scale of row `r`.
    #[inline(always)]
    pub fn scale(&self, r: usize) -> f32 {
        if T::SCALED { self.scales.get(r, 0) } else { 1.0 }
    }

    /// Whether decode reads such rows, of another type than `f32`, where they lie: in whole words of sixteen times
    /// `per` components, and not on the scalar tier, which gains nothing by it.
    #[inline(always)]
    pub fn in_place<S: Simd>(&self, per: usize) -> bool {
        S::TILE.0 > 2 && self.x.has_rows() && self.x.cols().is_multiple_of(LANES * per)
    }

    /// Sixteen components of row `r` from `c` on, decoded, `scale` being the row's; +0 past its end.
    #[inline(always)]
    pub fn read<S: Simd>(&self, s: S, r: usize, c: usize, scale: f32) -> S::F32 {
        let n = LANES.min(self.x.cols() - c);
        let scale = s.splat(scale);
        let mut word = [T::default(); LANES];
        match self.x.row(r).map(|row| &row[c..]) {
            Some(rest) => match rest.first_chunk() {
                Some(word) => return T::decode(s, word, scale),
                None => word[..n].copy_from_slice(rest),
            },
            None => (0..n).for_each(|i| word[i] = self.x.get(r, c + i)),
        }
        // Zeros that stand for nothing: times a scale that is NaN they are none.
        s.select(s.mask_from_bits((1 << n) - 1), T::decode(s, &word, scale), s.splat(0.0))
    }
}

/// What a component may be stored as.
pub(super) trait Element: Plain + Default {
    /// Components in 32 bits.
    const PER: usize;
    /// Whether rows have scales.
    const SCALED: bool;
    /// Sixteen neighbours.
    fn decode<S: Simd>(s: S, x: &[Self; LANES], scale: S::F32) -> S::F32;
    /// Component `p` of the `PER` that each 32 bits hold.
    fn split<S: Simd>(s: S, bits: S::I32, p: usize, scale: S::F32) -> S::F32;

    /// Line `w` (64 bytes) of sixteen keys: lane l of `acc[r]` goes on with `fma(key l, q[r], …)`, component by
    /// component. `scales` are one a lane, `q[r]` as many components as a line of a key has.
    #[inline(always)]
    fn fma_rows<S: Simd, const R: usize>(
        s: S,
        mut acc: [S::F32; R],
        keys: &Strip<'_, LANES, Self>,
        w: usize,
        scales: S::F32,
        q: [&[Line]; R],
    ) -> [S::F32; R] {
        for (i, bits) in columns(s, keys, w).into_iter().enumerate() {
            for p in 0..Self::PER {
                let (key, c) = (Self::split(s, bits, p, scales), i * Self::PER + p);
                for r in 0..R {
                    acc[r] = s.fma(key, s.splat(q[r][c / LANES][c % LANES]), acc[r]);
                }
            }
        }
        acc
    }

    /// The same for two chains of each row, the even components and the odd, of keys that are bfloat16 or were made it.
    #[inline(always)]
    fn fma_pairs<S: Simd, C: Class, const R: usize>(
        (s, class): (S, C),
        mut chains: [[[S::F32; 1]; R]; 2],
        (keys, w): (&Strip<'_, LANES, Self>, usize),
        q: [&[Line]; R],
    ) -> [[[S::F32; 1]; R]; 2] {
        for (i, bits) in columns(s, keys, w).into_iter().enumerate() {
            for p in 0..Self::PER {
                let (mut key, c) = (Self::split(s, bits, p, s.splat(1.0)), i * Self::PER + p);
                if Self::PER > 1 {
                    key = class.half(s, key);
                }
                for r in 0..R {
                    let q = s.splat(q[r][c / LANES][c % LANES]);
                    chains[c % 2][r][0] = s.fma(key, q, chains[c % 2][r][0]);
                }
            }
        }
        chains
    }
}

/// Line `w` of sixteen keys, a lane each, 32 bits at a time: several components are moved at once, so that there are as
/// few shuffles a line of memory as with floats.
#[inline(always)]
fn columns<S: Simd, T: Element>(s: S, keys: &Strip<'_, LANES, T>, w: usize) -> [S::I32; LANES] {
    let mut words = [s.splat(0.0); LANES];
    for l in 0..LANES {
        words[l] = s.of_bits(s.load_i(&keys.bits(l, w)));
    }
    let words = s.transpose(words);
    let mut bits = [s.splat_i(0); LANES];
    for i in 0..LANES {
        bits[i] = s.bits(words[i]);
    }
    bits
}

impl Element for f32 {
    const PER: usize = 1;
    const SCALED: bool = false;
    #[inline(always)]
    fn decode<S: Simd>(s: S, x: &[f32; LANES], _: S::F32) -> S::F32 {
        s.load(x)
    }
    #[inline(always)]
    fn split<S: Simd>(s: S, bits: S::I32, _: usize, _: S::F32) -> S::F32 {
        s.of_bits(bits)
    }
    #[inline(always)]
    fn fma_rows<S: Simd, const R: usize>(
        s: S,
        acc: [S::F32; R],
        keys: &Strip<'_, LANES, f32>,
        w: usize,
        _: S::F32,
        q: [&[Line]; R],
    ) -> [S::F32; R] {
        s.fma_rows(acc, &keys.column(w), q.map(|q| &*q[0]))
    }
}

impl Element for u16 {
    const PER: usize = 2;
    const SCALED: bool = false;
    #[inline(always)]
    fn decode<S: Simd>(s: S, x: &[u16; LANES], _: S::F32) -> S::F32 {
        s.load_bf16(x)
    }
    #[inline(always)]
    fn split<S: Simd>(s: S, bits: S::I32, p: usize, _: S::F32) -> S::F32 {
        s.of_bits(match place(p, 2) {
            0 => s.shl::<16>(bits),
            _ => s.and_i(bits, s.splat_i(-0x1_0000)),
        })
    }
}

impl Element for i8 {
    const PER: usize = 4;
    const SCALED: bool = true;
    #[inline(always)]
    fn decode<S: Simd>(s: S, x: &[i8; LANES], scale: S::F32) -> S::F32 {
        let mut bytes = [0; LANES];
        for i in 0..LANES {
            bytes[i] = x[i] as u8;
        }
        s.mul(s.of_i(s.load_i8(&bytes)), scale)
    }
    #[inline(always)]
    fn split<S: Simd>(s: S, bits: S::I32, p: usize, scale: S::F32) -> S::F32 {
        let high = match place(p, 4) {
            0 => s.shl::<24>(bits),
            1 => s.shl::<16>(bits),
            2 => s.shl::<8>(bits),
            _ => bits,
        };
        s.mul(s.of_i(s.sar::<24>(high)), scale)
    }
}

/// Where component `p` of `per` lies in its 32 bits, from the lowest up.
const fn place(p: usize, per: usize) -> usize {
    if cfg!(target_endian = "big") { per - 1 - p } else { p }
}

/// Rows `start..`, decoded to `to` and made operands of the class, each padded with zeros to `width` floats; zeros where
/// `any` has no bit.
pub(super) struct Decode<'a, C> {
    pub class: C,
    pub x: StoredRows<'a>,
    pub start: usize,
    pub any: u64,
    pub width: usize,
    pub to: &'a mut [f32],
}

impl<C: Class> Kernel for Decode<'_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.x {
            StoredRows::F32(cells) => self.rows(s, cells),
            StoredRows::Bf16(cells) => self.rows(s, cells),
            StoredRows::Int8(cells) => self.rows(s, cells),
        }
    }
}

impl<C: Class> Decode<'_, C> {
    #[inline(always)]
    fn rows<S: Simd, T: Element>(self, s: S, cells: Cells<'_, T>) {
        for (j, row) in self.to.chunks_exact_mut(self.width.max(1)).enumerate() {
            let sees = self.any >> j & 1 == 1;
            let scale = if sees { cells.scale(self.start + j) } else { 0.0 };
            for (w, word) in row.as_chunks_mut().0.iter_mut().enumerate() {
                if sees && w * LANES < cells.x.cols() {
                    let x = cells.read(s, self.start + j, w * LANES, scale);
                    s.store(word, if T::PER == 2 { self.class.half(s, x) } else { self.class.operand(s, x) });
                } else {
                    s.store(word, s.splat(0.0));
                }
            }
        }
    }
}
