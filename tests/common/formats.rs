//! Blocks of ggml's formats as integers, scales and minima, in plain loops from the bytes of a file: what products in eight
//! bits are to multiply. After ggml's `dequantize_row_*`.

use samebits::kernels::ggml::{Format, IQ4_NL_LEVELS};
use samebits::kernels::half::f16_to_f32;

/// A block of 32: integers, the scale of each half, and what is added to every element.
pub struct Block {
    pub integers: Vec<i32>,
    pub scales: [f32; 2],
    pub minimum: f32,
    /// Elements of one exact sum: 32 or 16.
    pub run: usize,
}

fn half(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Blocks of 32 elements, after ggml's `dequantize_row_*`.
fn block_of_32(format: Format, block: &[u8]) -> Block {
    let d = half(block, 0);
    let nibbles = |at: usize| (0..32).map(move |i| i32::from(block[at + i % 16] >> (i / 16 * 4) & 15));
    let fifth = |at: usize| (0..32).map(move |i| i32::from(block[at + i / 8] >> (i % 8) & 1) * 16);
    let (integers, minimum): (Vec<i32>, f32) = match format {
        Format::Q8_0 => (block[2..].iter().map(|&x| i32::from(x as i8)).collect(), 0.0),
        Format::Q4_0 => (nibbles(2).map(|q| q - 8).collect(), 0.0),
        Format::Iq4Nl => (nibbles(2).map(|q| IQ4_NL_LEVELS[q as usize] as i32).collect(), 0.0),
        Format::Q4_1 => (nibbles(4).collect(), half(block, 2)),
        Format::Q5_0 => (nibbles(6).zip(fifth(2)).map(|(q, h)| q + h - 16).collect(), 0.0),
        _ => (nibbles(8).zip(fifth(4)).map(|(q, h)| q + h).collect(), half(block, 2)),
    };
    Block { integers, scales: [d; 2], minimum, run: 32 }
}

/// Scale and minimum `j` of twelve bytes, as ggml's `get_scale_min_k4`.
fn scale_and_minimum(j: usize, q: &[u8]) -> (u8, u8) {
    if j < 4 {
        return (q[j] & 63, q[j + 4] & 63);
    }
    (q[j + 4] & 0xf | (q[j - 4] >> 6) << 4, q[j + 4] >> 4 | (q[j] >> 6) << 4)
}

/// The eight blocks of 32 of one of 256.
fn blocks_of_256(format: Format, block: &[u8]) -> Vec<Block> {
    if format == Format::Q6K {
        let (mut integers, d) = (vec![0; 256], half(block, 208));
        for n in [0, 128] {
            let (ql, qh) = (&block[n / 2..], &block[128 + n / 4..]);
            for l in 0..32 {
                let bits = |shift: u8| i32::from(qh[l] >> shift & 3) << 4;
                integers[n + l] = (i32::from(ql[l] & 15) | bits(0)) - 32;
                integers[n + l + 32] = (i32::from(ql[l + 32] & 15) | bits(2)) - 32;
                integers[n + l + 64] = (i32::from(ql[l] >> 4) | bits(4)) - 32;
                integers[n + l + 96] = (i32::from(ql[l + 32] >> 4) | bits(6)) - 32;
            }
        }
        let scale = |part: usize| d * f32::from(block[192 + part] as i8);
        let block = |b: usize| Block {
            integers: integers[32 * b..][..32].to_vec(),
            scales: [scale(2 * b), scale(2 * b + 1)],
            minimum: 0.0,
            run: 16,
        };
        return (0..8).map(block).collect();
    }
    let five = format == Format::Q5K;
    let (d, dmin, qs) = (half(block, 0), half(block, 2), if five { 48 } else { 16 });
    let of_block = |b: usize| {
        let (scale, minimum) = scale_and_minimum(b, &block[4..16]);
        let nibble = |l: usize| i32::from(block[qs + b / 2 * 32 + l] >> (b % 2 * 4) & 15);
        let fifth = |l: usize| if five && block[16 + l] & 1 << b != 0 { 16 } else { 0 };
        Block {
            integers: (0..32).map(|l| nibble(l) + fifth(l)).collect(),
            scales: [d * f32::from(scale); 2],
            minimum: -(dmin * f32::from(minimum)),
            run: 32,
        }
    };
    (0..8).map(of_block).collect()
}

/// The blocks of 32 of `stored`, one after the other.
pub fn blocks(format: Format, stored: &[u8]) -> Vec<Block> {
    let rows = stored.chunks(format.block_bytes());
    match format.block_len() {
        32 => rows.map(|block| block_of_32(format, block)).collect(),
        _ => rows.flat_map(|block| blocks_of_256(format, block)).collect(),
    }
}

/// Whether elements of a format have something added.
pub fn with_minima(format: Format) -> bool {
    matches!(format, Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K)
}

/// Blocks for `len` elements: any codes, any scales and minima less than 2.
pub fn any_blocks(format: Format, len: usize, random: &mut super::Random) -> Vec<u8> {
    let mut stored: Vec<u8> = (0..format.bytes(len)).map(|_| random.bits() as u8).collect();
    let halves: &[usize] = match format {
        Format::Q3K => &[108],
        Format::Q6K => &[208],
        _ if with_minima(format) => &[0, 2],
        _ => &[0],
    };
    for block in stored.chunks_mut(format.block_bytes()) {
        halves.iter().for_each(|&at| block[at + 1] &= 0xbf);
    }
    stored
}
