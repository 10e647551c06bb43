//! Decoding in plain loops, one element after the other: ggml's scalar `dequantize_row_*`.

use samebits::kernels::ggml::Format;
use samebits::kernels::half::f16_to_f32;

/// One element of a block, by its index.
type One = fn(&[u8], usize) -> f32;

fn half(b: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([b[at], b[at + 1]]))
}

/// Nibble of element l of 32: the low ones first.
fn nibble(qs: &[u8], l: usize) -> i32 {
    i32::from(qs[l % 16] >> (4 * (l / 16)) & 15)
}

fn fifth(qh: &[u8], l: usize) -> i32 {
    i32::from(qh[l / 8] >> (l % 8) & 1) << 4
}

const LEVELS: [i32; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn q2_k(b: &[u8], i: usize) -> f32 {
    let (n, j, l) = (i / 128, i % 128 / 32, i % 32);
    let q = b[16 + 32 * n + l] >> (2 * j) & 3;
    let sc = b[8 * n + 2 * j + l / 16];
    let dl = half(b, 80) * f32::from(sc & 15);
    let ml = half(b, 82) * f32::from(sc >> 4);
    dl * f32::from(q) - ml
}

fn q3_k(b: &[u8], i: usize) -> f32 {
    let (n, j, l) = (i / 128, i % 128 / 32, i % 32);
    let low = (b[32 + 32 * n + l] >> (2 * j) & 3) as i8;
    let q = low - if b[l] >> (4 * n + j) & 1 == 1 { 0 } else { 4 };
    let is = 8 * n + 2 * j + l / 16;
    let scales = &b[96..108];
    let low = if is < 8 { scales[is] & 15 } else { scales[is - 8] >> 4 };
    let high = scales[8 + is % 4] >> (2 * (is / 4)) & 3;
    half(b, 108) * f32::from((low | high << 4) as i8 - 32) * f32::from(q)
}

/// `get_scale_min_k4`.
fn scale_min(j: usize, q: &[u8]) -> (u8, u8) {
    if j < 4 {
        (q[j] & 63, q[j + 4] & 63)
    } else {
        ((q[j + 4] & 0xf) | (q[j - 4] >> 6) << 4, (q[j + 4] >> 4) | (q[j] >> 6) << 4)
    }
}

fn q4_k(b: &[u8], i: usize) -> f32 {
    let (sc, m) = scale_min(i / 32, &b[4..16]);
    let q = b[16 + i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
    half(b, 0) * f32::from(sc) * f32::from(q) - half(b, 2) * f32::from(m)
}

fn q5_k(b: &[u8], i: usize) -> f32 {
    let (sc, m) = scale_min(i / 32, &b[4..16]);
    let q = b[48 + i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
    let high = b[16 + i % 32] >> (i / 32) & 1;
    half(b, 0) * f32::from(sc) * f32::from(q + 16 * high) - half(b, 2) * f32::from(m)
}

fn q6_k(b: &[u8], i: usize) -> f32 {
    let (n, turn, l) = (i / 128, i % 128 / 32, i % 32);
    let low = b[64 * n + 32 * (turn % 2) + l] >> (4 * (turn / 2)) & 15;
    let high = b[128 + 32 * n + l] >> (2 * turn) & 3;
    let sc = b[192 + 8 * n + 2 * turn + l / 16] as i8;
    half(b, 208) * f32::from(sc) * f32::from((low | high << 4) as i8 - 32)
}

fn of(format: Format) -> One {
    match format {
        Format::Q4_0 => |b, l| half(b, 0) * (nibble(&b[2..], l) - 8) as f32,
        Format::Q4_1 => |b, l| half(b, 0) * nibble(&b[4..], l) as f32 + half(b, 2),
        Format::Q5_0 => |b, l| half(b, 0) * ((nibble(&b[6..], l) | fifth(&b[2..], l)) - 16) as f32,
        Format::Q5_1 => |b, l| half(b, 0) * (nibble(&b[8..], l) | fifth(&b[4..], l)) as f32 + half(b, 2),
        Format::Q8_0 => |b, l| half(b, 0) * f32::from(b[2 + l] as i8),
        Format::Iq4Nl => |b, l| half(b, 0) * LEVELS[nibble(&b[2..], l) as usize] as f32,
        Format::Q2K => q2_k,
        Format::Q3K => q3_k,
        Format::Q4K => q4_k,
        Format::Q5K => q5_k,
        Format::Q6K => q6_k,
        Format::Q8K => |b, i| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * f32::from(b[4 + i] as i8),
    }
}

/// All elements of `blocks`.
pub fn decode(format: Format, blocks: &[u8]) -> Vec<f32> {
    let one = of(format);
    let len = format.block_len();
    blocks.chunks_exact(format.block_bytes()).flat_map(|b| (0..len).map(move |i| one(b, i))).collect()
}
