//! The block formats of ggml: decoding, quantising, products.

#[path = "../common/mod.rs"]
mod common;

mod decode;
mod product;
mod quantize;
mod twin;

use common::Random;
use samebits::kernels::ggml::Format;

/// Blocks of random bits with ordinary scales: finite, neither zero nor huge.
fn blocks(format: Format, count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes: Vec<u8> = (0..count * format.block_bytes()).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for &at in halves(format) {
            // 2⁻⁸ to 2⁻¹, either sign.
            let half = (random.bits() & 0x83ff) as u16 | ((7 + random.below(8)) as u16) << 10;
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        if format == Format::Q8K {
            block[..4].copy_from_slice(&random.unit().to_le_bytes());
        }
    }
    bytes
}

/// Where the halves of a block stand.
fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::Iq4Nl => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q2K => &[80, 82],
        Format::Q3K => &[108],
        Format::Q6K => &[208],
        Format::Q8K => &[],
    }
}
