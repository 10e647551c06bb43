//! # Double quantisation: the absmax values of NF4 in eight bits
//!
//! **Math.**  offset = mean(absmax); d = absmax − offset; in blocks of 256, a2 = max |d| and the code of d is
//! that of the entry of [`DYNAMIC_MAP`] nearest to d · (1/a2), at a midpoint the upper one:
//! code = #{ m in midpoints : d · (1/a2) >= m }. Decoded: `round(round(map[code] · a2) + offset)`.
//!
//! **Law.**  Clause 2 for the mean (sixteen `f64` chains, the tree, then one rounding to `f32`); clause 1 for
//! what is decoded.
//!
//! ```text
//!   map   −.993 … −10⁻¹·… … −5.5·10⁻⁷  0  5.5·10⁻⁷ … 10⁻¹·… … .993  1     256 entries
//!          └ 127: seven decades, the decade of 10^e cut into 2^(e+6) equal parts, e = −6..=0 ┘
//! ```
//!
//! **Cost.**  One look-up of eight steps for each block of 64 weights: nothing beside `quantize.rs`.
//!
//! **Error.**  Of N(0, 1) in blocks of 64: absmax changes by 0.16 % in the mean, 0.9 % at most.
//!
//! The offset may differ from bitsandbytes' in the last bits (torch sums in `f32`, in an order of its own);
//! it is stored, so decoding has the same bits there and here. Codes are the nearest always; bitsandbytes'
//! CPU path takes them from a table of 65,536 bins and misses 0.25 % of them.
//!
//! **Reference.**  Dettmers, "8-Bit Approximations for Parallelism in Deep Learning", 2015, [arXiv:1511.04561](https://arxiv.org/abs/1511.04561);
//! `create_dynamic_map` and `quantize_blockwise` of bitsandbytes 0.50.2.   **Next.**  `pack.rs`

use super::{NotFinite, block_count};
use crate::simd::{Floats, Simd};
use crate::{Cpu, Kernel, LANES};

/// absmax values that share one a2.
pub const NESTED_BLOCKSIZE: usize = 256;

/// bitsandbytes' signed dynamic map, ascending, bit for bit.
pub const DYNAMIC_MAP: [f32; 256] = dynamic_map();

/// Halfway between neighbours of the map.
const MIDPOINTS: [f32; 255] = {
    let mut m = [0.0; 255];
    let mut i = 0;
    while i < 255 {
        m[i] = (DYNAMIC_MAP[i] + DYNAMIC_MAP[i + 1]) * 0.5;
        i += 1;
    }
    m
};

/// The powers of ten that scale the parts of a dynamic map.
pub(crate) const DECADES: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

const fn dynamic_map() -> [f32; 256] {
    let mut map = [0.0; 256]; // entry 127 stays 0
    map[255] = 1.0;
    let mut at = 128;
    let mut e = 0;
    while e < DECADES.len() {
        let parts = 1 << e;
        let mut j = 0;
        while j < parts {
            let middle = (boundary(j, parts) + boundary(j + 1, parts)) / 2.0;
            map[at] = DECADES[e] * middle;
            map[254 - at] = -map[at];
            at += 1;
            j += 1;
        }
        e += 1;
    }
    map
}

/// Point j of `torch.linspace(0.1, 1, parts + 1)`: from the nearer end, with one rounding.
pub(crate) const fn boundary(j: usize, parts: usize) -> f32 {
    let step = ((1.0 - 0.1f32) / parts as f32) as f64;
    if j < parts.div_ceil(2) {
        (0.1f32 as f64 + step * j as f64) as f32
    } else {
        (1.0 - step * (parts - j) as f64) as f32
    }
}

/// Quantises `absmax`: one code each, one a2 in `absmax2` for every 256, and the offset returned.
///
/// ```
/// use samebits_kernels::nf4::{DYNAMIC_MAP, NESTED_BLOCKSIZE, dequantize_absmax, quantize_absmax};
/// let cpu = samebits_kernels::Cpu::detect();
/// let (absmax, mut codes, mut y) = ([1.0, 2.0, 3.0], [0; 3], [0.0; 3]);
/// let mut absmax2 = vec![0.0; 3usize.div_ceil(NESTED_BLOCKSIZE)];
/// let offset = quantize_absmax(cpu, &absmax, &mut codes, &mut absmax2).unwrap();
/// assert_eq!((offset, absmax2[0]), (2.0, 1.0)); // the mean, and the furthest from it
/// assert_eq!(codes.map(|c| DYNAMIC_MAP[c as usize])[1..], [0.0, 1.0]);
/// dequantize_absmax(cpu, &codes, &absmax2, offset, &mut y);
/// assert!(y[1..] == [2.0, 3.0] && (y[0] - 1.0).abs() < 0.01); // the map has a 1, and no −1
/// ```
///
/// # Errors
/// [`NotFinite`] where an absmax, or its distance from the mean, is not finite.
///
/// # Panics
/// Where the lengths do not fit.
pub fn quantize_absmax(
    cpu: Cpu,
    absmax: &[f32],
    codes: &mut [u8],
    absmax2: &mut [f32],
) -> Result<f32, NotFinite> {
    check(absmax.len(), codes.len(), absmax2.len());
    if absmax.is_empty() {
        return Ok(0.0);
    }
    let offset = (cpu.run(Sum { x: absmax }) / absmax.len() as f64) as f32;
    if let Some(index) = absmax.iter().position(|a| !(a - offset).is_finite()) {
        return Err(NotFinite { index });
    }
    for ((absmax, codes), a2) in
        absmax.chunks(NESTED_BLOCKSIZE).zip(codes.chunks_mut(NESTED_BLOCKSIZE)).zip(absmax2)
    {
        *a2 = absmax.iter().map(|a| (a - offset).abs()).fold(0.0, |m, d| if d > m { d } else { m });
        // Where 1/a2 overflows every distance is below 2⁻¹²⁷: scaled up, exactly, as in `quantize.rs`.
        let up = if *a2 <= f32::from_bits(1 << 21) { f32::from_bits((127 + 100) << 23) } else { 1.0 };
        let scale = if *a2 > 0.0 { 1.0 / (*a2 * up) } else { 0.0 };
        for (a, code) in absmax.iter().zip(codes) {
            *code = nearest((a - offset) * up * scale);
        }
    }
    Ok(offset)
}

/// Decodes `out.len()` absmax values.
///
/// # Panics
/// Where the lengths do not fit.
pub fn dequantize_absmax(cpu: Cpu, codes: &[u8], absmax2: &[f32], offset: f32, out: &mut [f32]) {
    check(out.len(), codes.len(), absmax2.len());
    cpu.run(Decode { codes, absmax2, offset, out });
}

fn check(absmax: usize, codes: usize, absmax2: usize) {
    let blocks = block_count(absmax, NESTED_BLOCKSIZE);
    assert!(
        codes == absmax && absmax2 == blocks,
        "{absmax} absmax need {absmax} codes and {blocks} absmax2, not {codes} and {absmax2}"
    );
}

/// The number of midpoints that q reaches, by eight halvings.
#[inline]
fn nearest(q: f32) -> u8 {
    let mut code = 0;
    for d in [128, 64, 32, 16, 8, 4, 2, 1] {
        if q >= MIDPOINTS[code + d - 1] {
            code += d;
        }
    }
    code as u8
}

struct Sum<'a> {
    x: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let (lines, rest) = self.x.as_chunks::<LANES>();
        let mut sum = s.splat_d(0.0);
        for line in lines {
            sum = s.add_d(sum, s.widen(s.load(line)));
        }
        s.sum_d(s.add_d(sum, s.widen(s.load_tail(rest, 0.0))))
    }
}

struct Decode<'a> {
    codes: &'a [u8],
    absmax2: &'a [f32],
    offset: f32,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Decode { codes, absmax2, offset, out } = self;
        let offset = s.splat(offset);
        let blocks = out.chunks_mut(NESTED_BLOCKSIZE).zip(codes.chunks(NESTED_BLOCKSIZE)).zip(absmax2);
        for ((out, codes), &a2) in blocks {
            let a2 = s.splat(a2);
            for (out, codes) in out.chunks_mut(LANES).zip(codes.chunks(LANES)) {
                let mut entries: Floats = [0.0; LANES];
                for (entry, &code) in entries.iter_mut().zip(codes) {
                    *entry = DYNAMIC_MAP[code as usize];
                }
                s.store_tail(out, s.add(s.mul(s.load(&entries), a2), offset));
            }
        }
    }
}
