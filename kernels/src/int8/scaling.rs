//! What codes of a panel are multiplied with, and what is added to them: the scales and minima of sixteen columns.
//!
//! ```text
//!   HalfLine, Line   a scale a block                      d₀ … d₁₅
//!   Affine           a scale and a minimum                d₀ … d₁₅ │ m₀ … m₁₅
//!   Super            the same of eight blocks             d │ −dmin │ eight lines of bytes: scales │ eight: minima
//!   Sixteenths       two scales a block, of eight blocks  d │ sixteen lines of signed bytes
//! ```
//! Halves and whole numbers of a byte are as files hold them (six bits filled up to eight, dmin with its sign turned): their
//! products are exact in `f32`, so it does not matter when they are made.

#![allow(clippy::needless_range_loop)] // the parts of a block are indices into the lines of bytes

use crate::ggml::HalfLine;
use crate::half::f16_to_f32;
use crate::simd::Simd;
use crate::{LANES, Line};

/// Scales of sixteen columns: of a block, or of some blocks after each other. `at` counts the parts of all of them.
pub trait Scaling: Copy + Send + Sync + 'static {
    /// What all parts share, read once for them: nothing, unless eight blocks share it.
    type Shared<S: Simd>: Copy;
    /// Scales and minima of 0.
    const NONE: &'static Self;
    /// Blocks that share them.
    const BLOCKS: usize = 1;
    /// Parts of a block with a scale each: one of 32 steps, or two of 16.
    const PARTS: usize = 1;
    /// Whether something is added to every element.
    const MINIMA: bool = false;
    /// Reads what all parts share.
    fn shared<S: Simd>(&self, s: S) -> Self::Shared<S>;
    /// The scales of part `at`.
    fn scales<S: Simd>(&self, s: S, shared: Self::Shared<S>, at: usize) -> S::F32;
    /// What is added to the elements of part `at`.
    #[inline(always)]
    fn minima<S: Simd>(&self, s: S, _shared: Self::Shared<S>, _at: usize) -> S::F32 {
        s.splat(0.0)
    }
    /// One column's scale and minimum of part `at`.
    fn of_column(&self, column: usize, at: usize) -> (f32, f32);
}

impl Scaling for HalfLine {
    type Shared<S: Simd> = ();
    const NONE: &'static Self = &HalfLine::ZERO;
    #[inline(always)]
    fn shared<S: Simd>(&self, _: S) {}
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S, (): (), _: usize) -> S::F32 {
        s.load_f16(&self.0)
    }
    fn of_column(&self, column: usize, _: usize) -> (f32, f32) {
        (f16_to_f32(self.0[column]), 0.0)
    }
}

impl Scaling for Line {
    type Shared<S: Simd> = ();
    const NONE: &'static Self = &Line::ZERO;
    #[inline(always)]
    fn shared<S: Simd>(&self, _: S) {}
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S, (): (), _: usize) -> S::F32 {
        s.load(self)
    }
    fn of_column(&self, column: usize, _: usize) -> (f32, f32) {
        (self[column], 0.0)
    }
}

/// A scale and a minimum a block, halves: Q4_1 and Q5_1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Affine {
    pub(super) d: [u16; LANES],
    pub(super) m: [u16; LANES],
}

impl Scaling for Affine {
    type Shared<S: Simd> = ();
    const NONE: &'static Self = &Affine { d: [0; LANES], m: [0; LANES] };
    const MINIMA: bool = true;
    #[inline(always)]
    fn shared<S: Simd>(&self, _: S) {}
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S, (): (), _: usize) -> S::F32 {
        s.load_f16(&self.d)
    }
    #[inline(always)]
    fn minima<S: Simd>(&self, s: S, (): (), _: usize) -> S::F32 {
        s.load_f16(&self.m)
    }
    fn of_column(&self, column: usize, _: usize) -> (f32, f32) {
        (f16_to_f32(self.d[column]), f16_to_f32(self.m[column]))
    }
}

/// Blocks of 32 in a block of 256.
const EIGHT: usize = 8;

/// Scales and minima of eight blocks, whole numbers times a half: Q4_K and Q5_K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Super {
    pub(super) d: [u16; LANES],
    /// −dmin
    pub(super) less: [u16; LANES],
    pub(super) scales: [[u8; LANES]; EIGHT],
    pub(super) minima: [[u8; LANES]; EIGHT],
}

impl Scaling for Super {
    /// d and −dmin
    type Shared<S: Simd> = [S::F32; 2];
    const NONE: &'static Self =
        &Super { d: [0; LANES], less: [0; LANES], scales: [[0; LANES]; EIGHT], minima: [[0; LANES]; EIGHT] };
    const BLOCKS: usize = EIGHT;
    const MINIMA: bool = true;
    #[inline(always)]
    fn shared<S: Simd>(&self, s: S) -> [S::F32; 2] {
        [s.load_f16(&self.d), s.load_f16(&self.less)]
    }
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S, [d, _]: [S::F32; 2], at: usize) -> S::F32 {
        s.mul(d, s.of_i(s.load_u8(&self.scales[at])))
    }
    #[inline(always)]
    fn minima<S: Simd>(&self, s: S, [_, less]: [S::F32; 2], at: usize) -> S::F32 {
        s.mul(less, s.of_i(s.load_u8(&self.minima[at])))
    }
    fn of_column(&self, column: usize, at: usize) -> (f32, f32) {
        let scale = f16_to_f32(self.d[column]) * f32::from(self.scales[at][column]);
        (scale, f16_to_f32(self.less[column]) * f32::from(self.minima[at][column]))
    }
}

/// Two scales of each of eight blocks, whole numbers with sign times a half: Q6_K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Sixteenths {
    pub(super) d: [u16; LANES],
    /// Signed.
    pub(super) scales: [[u8; LANES]; 2 * EIGHT],
}

impl Scaling for Sixteenths {
    /// d
    type Shared<S: Simd> = S::F32;
    const NONE: &'static Self = &Sixteenths { d: [0; LANES], scales: [[0; LANES]; 2 * EIGHT] };
    const BLOCKS: usize = EIGHT;
    const PARTS: usize = 2;
    #[inline(always)]
    fn shared<S: Simd>(&self, s: S) -> S::F32 {
        s.load_f16(&self.d)
    }
    #[inline(always)]
    fn scales<S: Simd>(&self, s: S, d: S::F32, at: usize) -> S::F32 {
        s.mul(d, s.of_i(s.load_i8(&self.scales[at])))
    }
    fn of_column(&self, column: usize, at: usize) -> (f32, f32) {
        (f16_to_f32(self.d[column]) * f32::from(self.scales[at][column] as i8), 0.0)
    }
}
