//! # NF4 dequantisation
//!
//! **Math.**  y = LEVELS[code] · a, rounded once; to f16 or bf16 then rounded again, as bitsandbytes does.
//!
//! **Law.**  Clause 1: what a stored weight is.
//!
//! ```text
//!   16 bytes   b0  b1  b2 …                       one load, widened to 16 lanes
//!   lanes      b0 b0 b1 b1 …  │  b8 b8 b9 b9 …    `lut16` as a permutation of the bytes
//!              >>4    >>4     │  >>4              even lanes take the high nibble
//!   levels     l0 l1 l2 l3 …  │                   `lut16` reads the low four bits alone
//!              · a                                16 floats
//! ```
//!
//! **Registers.**   live: bytes, nibbles, levels, a, 1 table and 2 permutations.
//!   scalar – · avx2 10 ymm · avx512 7 zmm · neon 16 q
//!
//! **Cost.**  ½ byte read, 4 written, ½ operation an element on AVX-512: the stores bind. Outputs of 16 MiB and
//! more that lie on whole lines are streamed past the caches, which saves reading them first: 27 GB/s on a
//! Zen 4 core, all that a plain fill reaches there.
//!
//! **Error.**  ½ ulp of the product.   **Reference.**  `dequantize_4bit` of bitsandbytes 0.50.2.
//! **Next.**  `double.rs`

use super::{Brain, Half, LEVELS, Single, Stored, Walk, block_count, code_bytes};
use crate::simd::Simd;
use crate::{Cpu, Kernel, LANES, Line};

/// Decodes `out.len()` elements: the inverse of [`super::quantize`], up to its rounding to levels.
///
/// # Panics
/// Where the lengths do not fit, or `blocksize` is 0.
pub fn dequantize(cpu: Cpu, codes: &[u8], absmax: &[f32], blocksize: usize, out: &mut [f32]) {
    check(codes, absmax, blocksize, out.len());
    let walk = Walk::new(absmax, blocksize);
    // Past the caches, whole lines at their alignment; the last of them, and anything else, through them.
    let whole = if out.len() >= STREAM { out.len() / (2 * LANES) * (2 * LANES) } else { 0 };
    let (lines, rest) = out.split_at_mut(whole);
    match Line::split_mut(lines) {
        ([], lines, []) => {
            let (streamed, codes) = codes.split_at(whole / 2);
            let walk = cpu.run(Stream { codes: streamed, walk, out: lines });
            cpu.run(Dequantize::<Single> { codes, walk, out: rest });
        }
        _ => cpu.run(Dequantize::<Single> { codes, walk, out }),
    }
}

/// Floats from which on the output is written past the caches, which it would not stay in: 16 MiB.
const STREAM: usize = 1 << 22;

/// [`dequantize`] to the bits of IEEE half floats.
///
/// # Panics
/// As [`dequantize`].
pub fn dequantize_f16(cpu: Cpu, codes: &[u8], absmax: &[f32], blocksize: usize, out: &mut [u16]) {
    run::<Half>(cpu, codes, absmax, blocksize, out);
}

/// [`dequantize`] to the bits of bfloat16.
///
/// # Panics
/// As [`dequantize`].
pub fn dequantize_bf16(cpu: Cpu, codes: &[u8], absmax: &[f32], blocksize: usize, out: &mut [u16]) {
    run::<Brain>(cpu, codes, absmax, blocksize, out);
}

fn run<T: Stored>(cpu: Cpu, codes: &[u8], absmax: &[f32], blocksize: usize, out: &mut [T::Element]) {
    check(codes, absmax, blocksize, out.len());
    cpu.run(Dequantize::<T> { codes, walk: Walk::new(absmax, blocksize), out });
}

fn check(codes: &[u8], absmax: &[f32], blocksize: usize, len: usize) {
    let (bytes, blocks) = (code_bytes(len), block_count(len, blocksize));
    assert!(
        codes.len() == bytes && absmax.len() == blocks,
        "{len} elements in blocks of {blocksize} need {bytes} bytes and {blocks} absmax, not {} and {}",
        codes.len(),
        absmax.len()
    );
}

struct Dequantize<'a, T: Stored> {
    codes: &'a [u8],
    walk: Walk<'a>,
    out: &'a mut [T::Element],
}

impl<T: Stored> Kernel for Dequantize<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Dequantize { codes, mut walk, out } = self;
        let (lines, rest) = out.as_chunks_mut::<{ 2 * LANES }>();
        let (codes, codes_rest) = codes.split_at(lines.len() * LANES);
        for (out, codes) in lines.iter_mut().zip(codes.as_chunks::<LANES>().0) {
            let (a, b) = out.split_first_chunk_mut::<LANES>().expect("32 elements hold two lines");
            let b = b.first_chunk_mut().expect("32 elements hold two lines");
            let levels = decode(s, codes, &LEVELS);
            T::store(s, a, s.mul(levels[0], walk.line(s).0));
            T::store(s, b, s.mul(levels[1], walk.line(s).0));
        }
        if !rest.is_empty() {
            let mut bytes = [0; LANES];
            bytes[..codes_rest.len()].copy_from_slice(codes_rest);
            let levels = decode(s, &bytes, &LEVELS);
            for (out, level) in rest.chunks_mut(LANES).zip(levels) {
                let mut line = [T::Element::default(); LANES];
                T::store(s, &mut line, s.mul(level, walk.line(s).0));
                out.copy_from_slice(&line[..out.len()]);
            }
        }
    }
}

/// Whole lines, written past the caches.
struct Stream<'a, 'o> {
    codes: &'a [u8],
    walk: Walk<'a>,
    /// Two for every 16 bytes of codes.
    out: &'o mut [Line],
}

impl<'a> Kernel for Stream<'a, '_> {
    /// The walk over absmax, where it has come to.
    type Output = Walk<'a>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Walk<'a> {
        let Stream { codes, mut walk, out } = self;
        for ([a, b], codes) in out.as_chunks_mut().0.iter_mut().zip(codes.as_chunks().0) {
            let levels = decode(s, codes, &LEVELS);
            s.stream(a, s.mul(levels[0], walk.line(s).0));
            s.stream(b, s.mul(levels[1], walk.line(s).0));
        }
        s.fence();
        walk
    }
}

/// The entries of a table that 32 codes stand for.
#[inline(always)]
pub(super) fn decode<S: Simd>(s: S, codes: &[u8; LANES], table: &Line) -> [S::F32; 2] {
    let table = s.load(table);
    let bytes = s.of_bits(s.load_u8(codes));
    [
        half(s, (bytes, table), &[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]),
        half(s, (bytes, table), &[8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15]),
    ]
}

/// The entries of the bytes at `twice`: of the high nibble in even lanes, of the low one in odd lanes.
#[inline(always)]
fn half<S: Simd>(s: S, (bytes, table): (S::F32, S::F32), twice: &[i32; LANES]) -> S::F32 {
    let byte = s.bits(s.lut16(s.load_i(twice), bytes));
    s.lut16(s.select_i(s.mask_from_bits(0x5555), s.shr::<4>(byte), byte), table)
}
