//! FP4: four bits as a sign and one of eight magnitudes.
//!
//! **Math.**  As NF4 with another table: a = max |x| of a block, q = x / a; the low three bits say which of
//! {0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1} is nearest to |q| (at a midpoint the lower), bit 3 that x < 0.
//!
//! ```text
//!   x0…x15 ─ · 1/a ─► |q| > t3 ? +4, then +2, +1 ─► rank 0..=7 ─ `lut16` ─► pattern ─ | 8 where q < 0 ─► code
//! ```
//!
//! **Cost.**  As `quantize.rs` and `dequantize.rs`.  **Error.**  |x − LEVELS\[code\] · a| ≤ a / 6. N(0, 1) in blocks of
//! 64: mean 0.0965, against 0.0729 of NF4.
//!
//! bitsandbytes' CPU path counts thresholds over signed levels, and so gives tiny positive numbers the code of −0 and
//! tiny negative ones that of +0; here the sign is the number's, as in its definition on other devices.
//!
//! **Reference.**  `quantize_4bit(quant_type="fp4")` of bitsandbytes 0.50.2.  **Next.**  `pack.rs`

use super::dequantize::decode;
use super::quantize::{Coder, maxima, padded, reciprocal, step_table};
use super::{NotFinite, Single, Walk, block_count, code_bytes};
use crate::simd::{Floats, Simd};
use crate::{Cpu, Kernel, LANES, Line};

/// The value of each code: equal to bitsandbytes' table bit for bit.
pub const LEVELS: Line = {
    const POSITIVE: [f32; 8] =
        [0.0, 0.005_208_333_5, 0.666_666_7, 1.0, 0.333_333_34, 0.5, 0.166_666_67, 0.25];
    let mut levels = [0.0; LANES];
    let mut i = 0;
    while i < 8 {
        levels[i] = POSITIVE[i];
        levels[i + 8] = -POSITIVE[i];
        i += 1;
    }
    levels[8] = 0.0; // the table has no −0
    Line(levels)
};

/// The code of each magnitude, ascending.
const BY_RANK: [u8; 8] = [0, 1, 6, 7, 4, 5, 2, 3];

/// Between neighbouring magnitudes: the rank of |q| is the number of thresholds below it.
pub const THRESHOLDS: [f32; 7] = {
    let mut t = [0.0; 7];
    let mut i = 0;
    while i < 7 {
        t[i] = (LEVELS.0[BY_RANK[i] as usize] + LEVELS.0[BY_RANK[i + 1] as usize]) / 2.0;
        i += 1;
    }
    t
};

/// Quantises `x` in blocks of `blocksize` elements; shapes as [`super::quantize`].
///
/// ```
/// use samebits_kernels::nf4::fp4::{LEVELS, THRESHOLDS, dequantize, quantize};
/// let cpu = samebits_kernels::Cpu::detect();
/// let (x, mut codes, mut absmax, mut y) = ([1.0, -0.5, 0.25, 0.0], [0; 2], [0.0], [9.0; 4]);
/// quantize(cpu, &x, 64, &mut codes, &mut absmax).unwrap();
/// dequantize(cpu, &codes, &absmax, 64, &mut y);
/// assert_eq!(y, x); // all four are levels
/// let magnitudes = &LEVELS[..8]; // 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4
/// assert!(magnitudes.contains(&0.5) && LEVELS[8..].contains(&-0.5));
/// assert_eq!(THRESHOLDS.iter().filter(|&&t| t < 0.5).count(), 5); // its rank among them
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
    check(x.len(), blocksize, codes.len(), absmax.len());
    cpu.run(Quantize { x, blocksize, codes, absmax })
}

/// Decodes `out.len()` elements.
///
/// # Panics
/// Where the lengths do not fit, or `blocksize` is 0.
pub fn dequantize(cpu: Cpu, codes: &[u8], absmax: &[f32], blocksize: usize, out: &mut [f32]) {
    check(out.len(), blocksize, codes.len(), absmax.len());
    cpu.run(Dequantize { codes, walk: Walk::new(absmax, blocksize), out });
}

fn check(len: usize, blocksize: usize, codes: usize, absmax: usize) {
    let (bytes, blocks) = (code_bytes(len), block_count(len, blocksize));
    assert!(
        codes == bytes && absmax == blocks,
        "{len} elements in blocks of {blocksize} need {bytes} bytes and {blocks} absmax, not {codes} and {absmax}"
    );
}

struct Quantize<'a> {
    x: &'a [f32],
    blocksize: usize,
    codes: &'a mut [u8],
    absmax: &'a mut [f32],
}

impl Kernel for Quantize<'_> {
    type Output = Result<(), NotFinite>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let Quantize { x, blocksize, codes, absmax } = self;
        let blocksize = blocksize.min(x.len().max(1));
        maxima::<S, Single>(s, x, blocksize, absmax)?;
        let (mut walk, packer) = (Walk::new(absmax, blocksize), Coder::new(s));
        for (x, out) in x.chunks(2 * LANES).zip(codes.chunks_mut(LANES)) {
            let (a, b) = x.split_at(x.len().min(LANES));
            let a = encode(s, s.load(&padded(a)), walk.line(s).0);
            let b = encode(s, s.load(&padded(b)), walk.line(s).0);
            let mut bytes = [0; LANES];
            s.store_u8(&mut bytes, packer.pack(a, b));
            out.copy_from_slice(&bytes[..out.len()]);
        }
        Ok(())
    }
}

/// The codes of sixteen elements, given their absmax.
#[inline(always)]
fn encode<S: Simd>(s: S, x: S::F32, absmax: S::F32) -> S::I32 {
    const STEPS: [(Floats, i32); 2] = [(step_table(&THRESHOLDS, 2), 2), (step_table(&THRESHOLDS, 1), 1)];
    const PATTERNS: Floats = {
        let mut patterns = [0.0; LANES];
        let mut i = 0;
        while i < 8 {
            patterns[i] = f32::from_bits(BY_RANK[i] as u32);
            i += 1;
        }
        patterns
    };
    let (u, r) = reciprocal(s, absmax);
    let q = s.mul(s.mul(x, u), r);
    let size = s.abs(q);
    // A binary search over 7 thresholds: the rank grows by 4, 2, 1 where |q| is above the middle one.
    let mut rank = s.select_i(s.gt(size, s.splat(THRESHOLDS[3])), s.splat_i(4), s.splat_i(0));
    for (table, d) in &STEPS {
        let up = s.gt(size, s.lut16(rank, s.load(table)));
        rank = s.select_i(up, s.add_i(rank, s.splat_i(*d)), rank);
    }
    let pattern = s.bits(s.lut16(rank, s.load(&PATTERNS)));
    s.or_i(pattern, s.select_i(s.gt(s.splat(0.0), q), s.splat_i(8), s.splat_i(0)))
}

struct Dequantize<'a> {
    codes: &'a [u8],
    walk: Walk<'a>,
    out: &'a mut [f32],
}

impl Kernel for Dequantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Dequantize { codes, mut walk, out } = self;
        for (out, codes) in out.chunks_mut(2 * LANES).zip(codes.chunks(LANES)) {
            let mut bytes = [0; LANES];
            bytes[..codes.len()].copy_from_slice(codes);
            let values = decode(s, &bytes, &LEVELS);
            for (out, value) in out.chunks_mut(LANES).zip(values) {
                s.store_tail(out, s.mul(value, walk.line(s).0));
            }
        }
    }
}
