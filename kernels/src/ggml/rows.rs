//! Products with rows of blocks as a file holds them, in any format.
//!
//! **Math.**  c = x · decode(W)ᵀ, W (n, k).   **Law.**  Clause 1.
//!
//! ```text
//!   16 rows of W, 256 of k       decoded: word b of row r to line 16 b + r      each 16 lines transposed in place
//!   r0  ▒▒▒▒ ▒▒▒▒ …             ┌─ b = 0 ───────┐┌─ b = 1 ──                   line 16 b + i: k = 16 b + i of all
//!   r1  ▒▒▒▒ ▒▒▒▒ …         ─►  │ r0 r1 … r15   ││ r0 …                  ─►    sixteen rows: a panel
//!   ⋮                            └───────────────┘└─
//! ```
//!
//! A vector takes 32 rows at a time over all of k; more rows decode a sliver of 128 columns by 512 of k at a time.
//!
//! **Cost.**  Decoding, a store, and a sixteenth of a transpose (4 shuffles) a word: 10 to 15 operations for 16
//! weights, before the FMAs that they feed. Where Q8_0, Q4_0 or IQ4_NL weights are multiplied often by few rows,
//! `panel.rs` is three times as fast.   **Next.**  `panel.rs`

use super::Format;
use super::block::Out;
use super::dequantize::{Decode, decode};
use crate::gemm::{GROUP, Gemm, K_BLOCK, Weights, multiply, room_groups};
use crate::simd::Simd;
use crate::view::{MatRef, Stripe};
use crate::{Cpu, Kernel, LANES, Line};
use core::ops::Range;

/// A weight (n, k) = (output features, input features) as a GGUF file holds it.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    format: Format,
    n: usize,
    k: usize,
    blocks: &'a [u8],
}

impl<'a> Rows<'a> {
    /// A weight of `n` rows of `k` elements.
    ///
    /// # Panics
    /// Where k is not whole blocks of `format`, or `blocks` does not have the bytes of n × k elements.
    pub fn new(format: Format, n: usize, k: usize, blocks: &'a [u8]) -> Self {
        let need = format.bytes(k) * n;
        assert!(
            k.is_multiple_of(format.block_len()) && blocks.len() == need,
            "({n}, {k}) of {format} needs {need} bytes in rows of whole blocks of {}, not {}",
            format.block_len(),
            blocks.len()
        );
        Rows { format, n, k, blocks }
    }

    /// The format.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Output features.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Input features.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// The blocks of all rows.
    pub const fn blocks(&self) -> &'a [u8] {
        self.blocks
    }

    /// What is read after the first `bytes` of row `j`: the rest of it or, at its end, the row two panels on.
    #[inline(always)]
    fn after(&self, j: usize, bytes: usize) -> &'a [u8] {
        let row = self.format.bytes(self.k);
        let at = if bytes < row { j * row + bytes } else { (j + 2 * LANES) * row };
        self.blocks.get(at..).unwrap_or(&[])
    }

    /// The blocks of row `j`.
    #[inline(always)]
    pub(crate) fn row(&self, j: usize) -> &'a [u8] {
        let bytes = self.format.bytes(self.k);
        &self.blocks[j * bytes..][..bytes]
    }
}

impl<'a> Weights for Rows<'a> {
    type Panel = Stripe<'a>;
    const PANELS: bool = false;
    const BY_ROWS: bool = true;

    fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    #[inline(never)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }

    fn columns(self, cols: Range<usize>) -> Self {
        let bytes = self.format.bytes(self.k);
        Rows { n: cols.len(), blocks: &self.blocks[cols.start * bytes..cols.end * bytes], ..self }
    }

    fn panel(&self, _: usize) -> Stripe<'a> {
        unreachable!("rows of blocks have no panels")
    }

    #[inline(always)]
    fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
        None
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        // Every format's loop is in it: once is enough.
        s.outline(Fill { rows: *self, panels, k, room });
    }

    #[inline(always)]
    fn fill_turned<S: Simd>(&self, s: S, rows: Range<usize>, cols: Range<usize>, room: &mut [[Line; GROUP]]) {
        s.outline(FillTurned { weight: *self, k: rows, n: cols, room });
    }
}

/// Rows of blocks are what the transpose reads: decoded, nothing is turned.
struct FillTurned<'a, 'r> {
    weight: Rows<'a>,
    /// At most 128, from a multiple of 16 on.
    k: Range<usize>,
    n: Range<usize>,
    room: &'r mut [[Line; GROUP]],
}

impl Kernel for FillTurned<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let FillTurned { weight, k, n, room } = self;
        let (format, len) = (weight.format, weight.format.block_len());
        let blocks = k.start / len..k.end.div_ceil(len);
        let bytes = blocks.start * format.block_bytes()..blocks.end * format.block_bytes();
        let skip = (k.start - blocks.start * len) / LANES;
        // 128 elements lie in two blocks of 256 at most, or five of 32.
        let mut decoded = [Line::ZERO; 2 * 256 / LANES];
        for (i, j) in n.clone().enumerate() {
            let (lines, _) = Line::floats_mut(&mut decoded).as_chunks_mut();
            s.outline(Decode { format, blocks: &weight.row(j)[bytes.clone()], lines });
            let decoded = &decoded[skip..][..k.len().div_ceil(LANES)];
            for (line, place) in decoded.iter().zip(room.chunks_mut(room_groups(n.len()))) {
                place.as_flattened_mut()[i] = *line;
            }
        }
    }
}

struct Fill<'a, 'r> {
    rows: Rows<'a>,
    panels: Range<usize>,
    /// Starts at a multiple of 256, ends at whole blocks.
    k: Range<usize>,
    room: &'r mut [[Line; GROUP]],
}

impl Kernel for Fill<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Fill { rows, panels, k, room } = self;
        if k.is_empty() {
            return;
        }
        let bytes = rows.format.bytes(k.start)..rows.format.bytes(k.end);
        for (p, room) in panels.zip(room.chunks_mut(room_groups(k.len()))) {
            let room = &mut room.as_flattened_mut()[..k.len()];
            for r in 0..LANES {
                let (lines, _) = Line::floats_mut(room).as_chunks_mut();
                if LANES * p + r < rows.n {
                    let blocks = &rows.row(LANES * p + r)[bytes.clone()];
                    // As many rows are read at once as a prefetcher follows at best: each asks for its next part.
                    let next = rows.after(LANES * p + r, bytes.end);
                    for at in next.iter().take(blocks.len()).step_by(size_of::<Line>()) {
                        s.prefetch(at);
                    }
                    decode(s, rows.format, blocks, Out { lines: &mut lines[r..], step: LANES });
                } else {
                    lines[r..].iter_mut().step_by(LANES).for_each(|line| *line = [0.0; LANES]);
                }
            }
            for tile in room.as_chunks_mut::<LANES>().0 {
                let mut words = [s.splat(0.0); LANES];
                for (word, line) in words.iter_mut().zip(&*tile) {
                    *word = s.load(line);
                }
                for (word, line) in s.transpose(words).into_iter().zip(tile) {
                    s.store(line, word);
                }
            }
        }
    }
}

const _: () = assert!(K_BLOCK.is_multiple_of(256), "a block of k is whole blocks of every format");
