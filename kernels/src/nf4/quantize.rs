//! # NF4 quantisation
//!
//! **Math.**  a = max |x| of a block; q = (x · u) · (1 / (a · u)), u = 1, or 2¹⁰⁰ where a ≤ 2⁻¹²⁸;
//! code = #{ t in THRESHOLDS : q > t }.
//!
//! **Law.**  Clause 3; nothing is summed. A maximum is exact in any order.
//!
//! ```text
//!   span     whole blocks, an even number of elements, about 1,024 of them: both passes stay in L1
//!   pass 1   x0…x15 │ x16…x31 │ …      max of |x| as integers: a NaN is the largest of all
//!                └─ 16 lanes ─┴─ max ─► a per block;  a ≥ ∞ → NotFinite
//!   pass 2   x0…x15     x16…x31        q > t7 ? +8,  then + 4;  + 2, + 1: their thresholds by `lut16`
//!               c  ─┬─ c' · 256        two lines in one: the low byte and the next
//!        even lanes │ odd lanes        16 · even + odd: both bytes at once
//!                   └► 16 bytes
//! ```
//!
//! **Registers.**   live: 2 lines, index, u, 1/a, 4 thresholds, 2 tables and 2 permutations.
//!   scalar – · avx2 tables from memory · avx512 14 zmm · neon tables from memory
//!
//! **Cost.**  4 bytes read (twice, once from L1), ½ written, about 2 operations an element on AVX-512.
//!
//! **Error.**  |x − LEVELS[code] · a| ≤ 0.1520 a: half of the widest gap. N(0, 1) in blocks of 64: mean
//! 0.0729, 20.7 dB (tests/nf4.rs).   **Reference.**  `quantize_4bit` of bitsandbytes 0.50.2.
//! **Next.**  `dequantize.rs`

use super::{
    Brain, Half, LEVELS, NotFinite, Single, Stored, THRESHOLDS, Walk, ZERO_CODE, block_count, code_bytes,
};
use crate::simd::{Floats, Simd, tree};
use crate::{Cpu, Kernel, LANES};

/// Quantises `x` in blocks of `blocksize` elements: codes, two a byte, and one absmax a block.
///
/// `codes` has [`code_bytes`]`(x.len())` bytes, `absmax` [`block_count`]`(x.len(), blocksize)` floats.
///
/// ```
/// use samebits_kernels::nf4::{DEFAULT_BLOCKSIZE, LEVELS, NotFinite, THRESHOLDS, ZERO_CODE};
/// use samebits_kernels::nf4::{block_count, code_bytes, dequantize, quantize};
/// let (cpu, x) = (samebits_kernels::Cpu::detect(), [4.0, -4.0, 0.0, 2.0]);
/// let (mut codes, mut absmax) = (vec![0; code_bytes(4)], vec![0.0; block_count(4, DEFAULT_BLOCKSIZE)]);
/// quantize(cpu, &x, DEFAULT_BLOCKSIZE, &mut codes, &mut absmax).unwrap();
/// assert_eq!((&codes[..], absmax[0], ZERO_CODE), (&[0xf0, 0x7c][..], 4.0, 7)); // the first in the high nibble
/// assert_eq!(THRESHOLDS.iter().filter(|&&t| t < 2.0 / 4.0).count(), 0xc);
/// let mut y = [0.0; 4];
/// dequantize(cpu, &codes, &absmax, DEFAULT_BLOCKSIZE, &mut y);
/// assert_eq!(y, [4.0, -4.0, 0.0, 4.0 * LEVELS[0xc]]);
/// let bad = quantize(cpu, &[1.0, f32::NAN], 64, &mut [0], &mut [0.0]);
/// assert_eq!(bad, Err(NotFinite { index: 1 }));
/// ```
///
/// # Errors
/// [`NotFinite`] at the first NaN or infinity; the outputs then mean nothing.
///
/// # Panics
/// Where the lengths do not fit, or `blocksize` is 0.
pub fn quantize(
    cpu: Cpu,
    x: &[f32],
    blocksize: usize,
    codes: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), NotFinite> {
    run::<Single>(cpu, x, blocksize, codes, absmax)
}

/// [`quantize`] of IEEE half floats, given as their bits.
///
/// ```
/// use samebits_kernels::nf4::{dequantize_bf16, dequantize_f16, quantize_bf16, quantize_f16};
/// let cpu = samebits_kernels::Cpu::detect();
/// let (mut codes, mut absmax, mut y) = ([0; 1], [0.0; 1], [0; 2]);
/// let x = [0xc000, 0x4000]; // −2 and 2 as halves
/// quantize_f16(cpu, &x, 64, &mut codes, &mut absmax).unwrap();
/// assert_eq!((codes, absmax), ([0x0f], [2.0]));
/// dequantize_f16(cpu, &codes, &absmax, 64, &mut y);
/// assert_eq!(y, x);
/// quantize_bf16(cpu, &x, 64, &mut codes, &mut absmax).unwrap(); // as bfloat16 the same numbers
/// dequantize_bf16(cpu, &codes, &absmax, 64, &mut y);
/// assert_eq!(y, x);
/// ```
///
/// # Errors
/// As [`quantize`].
///
/// # Panics
/// As [`quantize`].
pub fn quantize_f16(
    cpu: Cpu,
    x: &[u16],
    blocksize: usize,
    codes: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), NotFinite> {
    run::<Half>(cpu, x, blocksize, codes, absmax)
}

/// [`quantize`] of bfloat16, given as their bits.
///
/// # Errors
/// As [`quantize`].
///
/// # Panics
/// As [`quantize`].
pub fn quantize_bf16(
    cpu: Cpu,
    x: &[u16],
    blocksize: usize,
    codes: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), NotFinite> {
    run::<Brain>(cpu, x, blocksize, codes, absmax)
}

fn run<T: Stored>(
    cpu: Cpu,
    x: &[T::Element],
    blocksize: usize,
    codes: &mut [u8],
    absmax: &mut [f32],
) -> Result<(), NotFinite> {
    let (bytes, blocks) = (code_bytes(x.len()), block_count(x.len(), blocksize));
    assert!(
        codes.len() == bytes && absmax.len() == blocks,
        "{} elements in blocks of {blocksize} need {bytes} bytes and {blocks} absmax, not {} and {}",
        x.len(),
        codes.len(),
        absmax.len()
    );
    cpu.run(Quantize::<T> { x, blocksize, codes, absmax })
}

struct Quantize<'a, T: Stored> {
    x: &'a [T::Element],
    blocksize: usize,
    codes: &'a mut [u8],
    absmax: &'a mut [f32],
}

/// Elements of a span, at least: 4 KiB of `f32`.
const SPAN: usize = 1024;

impl<T: Stored> Kernel for Quantize<'_, T> {
    type Output = Result<(), NotFinite>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let Quantize { x, blocksize, codes, absmax } = self;
        // Two blocks have an even number of elements, so that each span starts at a byte. A blocksize past
        // the end is one block, whatever it is.
        let pair = 2 * blocksize.min(x.len().max(1));
        let blocks = 2 * SPAN.div_ceil(pair);
        let span = blocks * (pair / 2);
        let spans = x.chunks(span).zip(codes.chunks_mut(span / 2)).zip(absmax.chunks_mut(blocks));
        for (i, ((x, codes), absmax)) in spans.enumerate() {
            maxima::<S, T>(s, x, pair / 2, absmax).map_err(|e| NotFinite { index: i * span + e.index })?;
            encode::<S, T>(s, x, Walk::new(absmax, pair / 2), codes);
        }
        Ok(())
    }
}

/// absmax of each block of `x`.
#[inline(always)]
pub(super) fn maxima<S: Simd, T: Stored>(
    s: S,
    x: &[T::Element],
    blocksize: usize,
    absmax: &mut [f32],
) -> Result<(), NotFinite> {
    const INFINITY: i32 = f32::INFINITY.to_bits() as i32;
    for (b, (x, absmax)) in x.chunks(blocksize).zip(absmax).enumerate() {
        let (lines, rest) = x.as_chunks::<LANES>();
        // The bits of |x|, as integers, order as |x| does; infinity and every NaN come after all numbers.
        let mut most = magnitude::<S, T>(s, &padded(rest));
        for line in lines {
            let m = magnitude::<S, T>(s, line);
            most = s.select_i(s.gt_i(m, most), m, most);
        }
        let mut lanes = [0; LANES];
        s.store_i(&mut lanes, most);
        let most = tree(lanes, |a, b| if a > b { a } else { b });
        if most >= INFINITY {
            return Err(NotFinite { index: b * blocksize + first_bad::<S, T>(s, x) });
        }
        *absmax = f32::from_bits(most as u32);
    }
    Ok(())
}

/// The bits of |x| in every lane.
#[inline(always)]
fn magnitude<S: Simd, T: Stored>(s: S, x: &[T::Element; LANES]) -> S::I32 {
    s.and_i(s.bits(T::load(s, x)), s.splat_i(i32::MAX))
}

/// `x` and zeros.
#[inline(always)]
pub(super) fn padded<E: Copy + Default>(x: &[E]) -> [E; LANES] {
    let mut line = [E::default(); LANES];
    line[..x.len()].copy_from_slice(x);
    line
}

/// The first element that is not finite; there is one.
#[inline(always)]
fn first_bad<S: Simd, T: Stored>(s: S, x: &[T::Element]) -> usize {
    let bad = |x: &T::Element| !s.to_array(T::load(s, &[*x; LANES]))[0].is_finite();
    x.iter().position(bad).unwrap_or(0)
}

/// Codes of a span: 32 elements to 16 bytes.
#[inline(always)]
fn encode<S: Simd, T: Stored>(s: S, x: &[T::Element], mut walk: Walk<'_>, codes: &mut [u8]) {
    let mut coder = Coder::new(s);
    let (pairs, rest) = x.as_chunks::<{ 2 * LANES }>();
    let (bytes, bytes_rest) = codes.split_at_mut(pairs.len() * LANES);
    for (x, out) in pairs.iter().zip(bytes.as_chunks_mut::<LANES>().0) {
        let (a, b) = x.split_first_chunk::<LANES>().expect("32 elements hold two lines");
        let b = b.first_chunk().expect("32 elements hold two lines");
        let a = coder.codes(T::load(s, a), walk.line(s));
        let b = coder.codes(T::load(s, b), walk.line(s));
        s.store_u8(out, coder.pack(a, b));
    }
    if !rest.is_empty() {
        let (a, b) = rest.split_at(rest.len().min(LANES));
        let a = coder.codes(T::load(s, &padded(a)), walk.line(s));
        let b = coder.codes(T::load(s, &padded(b)), walk.line(s));
        let mut out = [0; LANES];
        s.store_u8(&mut out, coder.pack(a, b));
        bytes_rest.copy_from_slice(&out[..bytes_rest.len()]);
    }
}

/// What pass 2 keeps in registers.
pub(super) struct Coder<S: Simd> {
    s: S,
    /// The thresholds of step d at index i: `THRESHOLDS[i + d - 1]`, for d = 2 and 1.
    tables: [S::F32; 2],
    /// u and 1 / (a u) of the current line.
    scale: (S::F32, S::F32),
    even: S::I32,
    odd: S::I32,
}

/// `thresholds` from `d - 1` on; what lies past the end is never looked up.
pub(super) const fn step_table(thresholds: &[f32], d: usize) -> Floats {
    let mut table = [0.0; LANES];
    let mut i = 0;
    while i + d - 1 < thresholds.len() {
        table[i] = thresholds[i + d - 1];
        i += 1;
    }
    table
}

impl<S: Simd> Coder<S> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        const TABLES: [Floats; 2] = [step_table(&THRESHOLDS, 2), step_table(&THRESHOLDS, 1)];
        const EVEN: [i32; LANES] = [0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14];
        let even = s.load_i(&EVEN);
        let odd = s.add_i(even, s.splat_i(1));
        let tables = [s.load(&TABLES[0]), s.load(&TABLES[1])];
        Coder { s, tables, scale: (s.splat(1.0), s.splat(0.0)), even, odd }
    }

    /// The codes of sixteen elements, given their absmax and whether it is that of the line before.
    #[inline(always)]
    fn codes(&mut self, x: S::F32, (a, continues): (S::F32, bool)) -> S::I32 {
        let s = self.s;
        if !continues {
            self.scale = reciprocal(s, a);
        }
        let (u, r) = self.scale;
        let q = s.mul(s.mul(x, u), r);
        // A binary search over 15 thresholds: the code grows by 8, 4, 2, 1 where q is above the middle one.
        let [by2, by1] = self.tables;
        let upper = s.gt(q, s.splat(THRESHOLDS[7]));
        let code = s.select_i(upper, s.splat_i(8), s.splat_i(0));
        let middle = s.select(upper, s.splat(THRESHOLDS[11]), s.splat(THRESHOLDS[3])); // of two: no look-up
        let code = s.select_i(s.gt(q, middle), s.add_i(code, s.splat_i(4)), code);
        let code = self.step(q, code, by2, 2);
        self.step(q, code, by1, 1)
    }

    /// `code + d` where q is above the threshold that `table` has for the code, else `code`.
    #[inline(always)]
    fn step(&self, q: S::F32, code: S::I32, table: S::F32, d: i32) -> S::I32 {
        let s = self.s;
        s.select_i(s.gt(q, s.lut16(code, table)), s.add_i(code, s.splat_i(d)), code)
    }

    /// Two lines of codes to 16 bytes in element order, the first of each two elements in the high nibble.
    #[inline(always)]
    pub(super) fn pack(&self, a: S::I32, b: S::I32) -> S::I32 {
        let s = self.s;
        let both = s.of_bits(s.or_i(a, s.shl::<8>(b)));
        // As a look-up into the lanes themselves, `lut16` permutes them.
        let (even, odd) = (s.bits(s.lut16(self.even, both)), s.bits(s.lut16(self.odd, both)));
        let bytes = s.or_i(s.shl::<4>(even), odd);
        s.select_i(s.mask_from_bits(0x00ff), bytes, s.shr::<8>(bytes))
    }
}

/// u and 1 / (a u): see **Math**. A block of zeros has 0 for both, and so the code of 0.
#[inline(always)]
pub(super) fn reciprocal<S: Simd>(s: S, a: S::F32) -> (S::F32, S::F32) {
    const TINY: f32 = f32::from_bits(1 << 21); // 2^-128: the largest whose reciprocal overflows
    const UP: f32 = f32::from_bits((127 + 100) << 23); // 2^100
    let u = s.select(s.ge(s.splat(TINY), a), s.splat(UP), s.splat(1.0));
    let r = s.div(s.splat(1.0), s.mul(a, u));
    (u, s.select(s.gt(a, s.splat(0.0)), r, s.splat(0.0)))
}

const _: () = assert!(LEVELS.0[ZERO_CODE as usize] == 0.0);
