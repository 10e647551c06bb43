//! Rows of blocks to floats.
//!
//! **Cost.**  4 bytes written an element bind: the stores.   **Next.**  `rows.rs`

use super::Format;
use super::block::{Block, Iq4Nl, Out, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8K};
use super::k_block::{Q2K, Q3K, Q4K, Q5K, Q6K};
use crate::simd::{Floats, Simd};
use crate::{Cpu, Kernel, LANES};

/// Decodes `out.len()` elements, whole blocks of `format`, as ggml's scalar `dequantize_row_*` does.
///
/// # Panics
/// Where `out` is not whole blocks long, or `blocks` does not have their bytes.
pub fn dequantize(cpu: Cpu, format: Format, blocks: &[u8], out: &mut [f32]) {
    let whole = out.len().is_multiple_of(format.block_len());
    let need = format.bytes(out.len());
    assert!(
        whole && blocks.len() == need,
        "{} bytes of {format} for {} elements, {need} needed in blocks of {}",
        blocks.len(),
        out.len(),
        format.block_len()
    );
    cpu.run(Dequantize { format, blocks, out });
}

struct Dequantize<'a> {
    format: Format,
    blocks: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Dequantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Dequantize { format, blocks, out } = self;
        s.outline(Decode { format, blocks, lines: out.as_chunks_mut().0 });
    }
}

/// [`decode`] to lines side by side, as a function of its own: every format's loop is in it, so once is enough.
pub(super) struct Decode<'a> {
    pub format: Format,
    pub blocks: &'a [u8],
    pub lines: &'a mut [Floats],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        decode(s, self.format, self.blocks, Out { lines: self.lines, step: 1 });
    }
}

/// Decodes blocks that follow each other: word i of all of them goes to line `i · step`.
#[inline(always)]
pub(super) fn decode<S: Simd>(s: S, format: Format, blocks: &[u8], out: Out<'_>) {
    match format {
        Format::Q4_0 => each::<S, Q4_0>(s, blocks, out),
        Format::Q4_1 => each::<S, Q4_1>(s, blocks, out),
        Format::Q5_0 => each::<S, Q5_0>(s, blocks, out),
        Format::Q5_1 => each::<S, Q5_1>(s, blocks, out),
        Format::Q8_0 => each::<S, Q8_0>(s, blocks, out),
        Format::Iq4Nl => each::<S, Iq4Nl>(s, blocks, out),
        Format::Q2K => each::<S, Q2K>(s, blocks, out),
        Format::Q3K => each::<S, Q3K>(s, blocks, out),
        Format::Q4K => each::<S, Q4K>(s, blocks, out),
        Format::Q5K => each::<S, Q5K>(s, blocks, out),
        Format::Q6K => each::<S, Q6K>(s, blocks, out),
        Format::Q8K => each::<S, Q8K>(s, blocks, out),
    }
}

#[inline(always)]
fn each<S: Simd, B: Block>(s: S, blocks: &[u8], out: Out<'_>) {
    let Out { mut lines, step } = out;
    for block in B::split(blocks) {
        B::decode(s, block, &mut Out { lines: &mut *lines, step });
        let words = (B::FORMAT.block_len() / LANES * step).min(lines.len());
        lines = &mut lines[words..];
    }
}
