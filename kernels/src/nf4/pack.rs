//! # NF4 weights in panels of sixteen columns, and back
//!
//! **Math.**  None: the same codes and absmax in another order, byte for byte both ways.
//!
//! ```text
//!   rows as stored   weight (n, k), element (j, κ) at j·k + κ, two codes a byte, high nibble first
//!
//!   panel p = columns 16p..16p + 16 of the product (rows of the weight), k cut into groups of 8:
//!
//!     CodeLine (p, g)   │ column 16p │ 16p + 1 │ … │ 16p + 15 │     sixteen u32
//!       one word         κ = 8g + 7 … 8g + 1, 8g                   eight nibbles, the first the lowest
//!
//!     scale Line (p, t) │ absmax of columns 16p … 16p + 15 │       for κ in t·step..(t + 1)·step
//! ```
//!
//! So one load and seven shifts feed eight look-ups of sixteen weights, for a look-up reads only the low four
//! bits of each lane.
//!
//! **step** is gcd(k, blocksize) where 8 divides it (so it is `blocksize` where that divides k): inside a step
//! no column changes its block. For any other shape it is 1: a line of scales for each κ, exact, 8 times as
//! many bytes as the codes.
//!
//! Nibbles past k have code 7, columns past n code 7 and scale 0: a product of them is never stored.
//!
//! **Cost.**  Once a model: each word is read from a row and written to its line.
//! **Reference.**  The panel packing of BLIS (Van Zee, van de Geijn 2015, [doi:10.1145/2764454](https://doi.org/10.1145/2764454)).   **Next.**  `gemv.rs`

use super::{LEVELS, ZERO_CODE, block_count, code_bytes};
use crate::gemm::GROUP;
use crate::{LANES, Line};
use core::ops::Range;

/// Eight nibbles in each of sixteen words (read as `u32`), aligned to a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CodeLine(pub [i32; LANES]);

impl CodeLine {
    /// Zeros, everywhere: code 7.
    pub const ZERO: CodeLine = CodeLine([ZERO_WORD as i32; LANES]);
}

/// Eight times [`ZERO_CODE`].
const ZERO_WORD: u32 = 0x1111_1111 * ZERO_CODE as u32;

/// A weight (n, k) = (output features, input features) as [`super::quantize`] and bitsandbytes store it.
#[derive(Clone, Copy)]
pub struct RowNf4<'a> {
    n: usize,
    k: usize,
    blocksize: usize,
    codes: &'a [u8],
    absmax: &'a [f32],
}

/// A weight (n, k) in panels; the memory is the caller's.
#[derive(Clone, Copy)]
pub struct PackedNf4<'a> {
    n: usize,
    k: usize,
    step: usize,
    codes: &'a [CodeLine],
    scales: &'a [Line],
}

impl<'a> RowNf4<'a> {
    /// A weight of `n` rows of `k` elements, in blocks of `blocksize` consecutive elements.
    ///
    /// # Panics
    /// Where `codes` does not have `code_bytes(n × k)` bytes or `absmax` not one value a block.
    pub fn new(n: usize, k: usize, blocksize: usize, codes: &'a [u8], absmax: &'a [f32]) -> Self {
        check_rows(n, k, blocksize, codes.len(), absmax.len());
        RowNf4 { n, k, blocksize, codes, absmax }
    }

    /// (n, k): output features, input features.
    pub const fn shape(&self) -> (usize, usize) {
        (self.n, self.k)
    }

    /// Consecutive elements that share an absmax.
    pub const fn blocksize(&self) -> usize {
        self.blocksize
    }

    /// The code of element `at`, counted over all rows.
    pub(crate) fn code(&self, at: usize) -> u8 {
        self.codes[at / 2] >> (4 * (1 - at % 2)) & 15
    }

    /// Its absmax.
    pub(crate) fn absmax(&self, at: usize) -> f32 {
        self.absmax[at / self.blocksize]
    }

    /// The eight codes from element `at` on, the first in the lowest nibble; past `len` of them zeros.
    fn word(&self, at: usize, len: usize) -> u32 {
        if at.is_multiple_of(2)
            && len == GROUP
            && let Some(bytes) = self.codes[at / 2..].first_chunk()
        {
            return swap_nibbles(u32::from_le_bytes(*bytes));
        }
        let code = |i: usize| u32::from(self.code(i));
        (0..len).fold(ZERO_WORD, |word, i| word & !(15 << (4 * i)) | code(at + i) << (4 * i))
    }
}

fn check_rows(n: usize, k: usize, blocksize: usize, codes: usize, absmax: usize) {
    let (bytes, blocks) = (code_bytes(n * k), block_count(n * k, blocksize));
    assert!(
        codes == bytes && absmax == blocks,
        "({n}, {k}) in blocks of {blocksize} needs {bytes} bytes and {blocks} absmax, not {codes} and {absmax}"
    );
}

/// Rows put the first of two codes high, words put it low.
const fn swap_nibbles(x: u32) -> u32 {
    x >> 4 & 0x0f0f_0f0f | (x & 0x0f0f_0f0f) << 4
}

impl<'a> PackedNf4<'a> {
    /// Code lines of a weight (n, k).
    pub const fn code_lines(n: usize, k: usize) -> usize {
        n.div_ceil(LANES) * k.div_ceil(GROUP)
    }

    /// Scale lines of a weight (n, k).
    ///
    /// # Panics
    /// Where `blocksize` is 0.
    pub const fn scale_lines(n: usize, k: usize, blocksize: usize) -> usize {
        n.div_ceil(LANES) * k.div_ceil(step(k, blocksize))
    }

    /// Packs `weight` into `codes` and `scales`.
    ///
    /// # Panics
    /// Where these are not [`PackedNf4::code_lines`] and [`PackedNf4::scale_lines`] long.
    pub fn pack(weight: RowNf4<'_>, codes: &'a mut [CodeLine], scales: &'a mut [Line]) -> Self {
        let RowNf4 { n, k, blocksize, absmax, .. } = weight;
        let step = check_packed(n, k, blocksize, codes.len(), scales.len());
        let (groups, steps) = (k.div_ceil(GROUP), k.div_ceil(step));
        for (i, line) in codes.iter_mut().enumerate() {
            let (panel, at) = (i / groups, i % groups * GROUP);
            for (l, word) in line.0.iter_mut().enumerate() {
                let j = LANES * panel + l;
                let len = if j < n { (k - at).min(GROUP) } else { 0 };
                *word = if len == 0 { ZERO_WORD } else { weight.word(j * k + at, len) } as i32;
            }
        }
        for (i, line) in scales.iter_mut().enumerate() {
            let (panel, at) = (i / steps, i % steps * step);
            for (l, scale) in line.iter_mut().enumerate() {
                let j = LANES * panel + l;
                *scale = if j < n { absmax[(j * k + at) / blocksize] } else { 0.0 };
            }
        }
        PackedNf4 { n, k, step, codes, scales }
    }

    /// Borrows a weight packed earlier.
    ///
    /// # Panics
    /// Where these are not [`PackedNf4::code_lines`] and [`PackedNf4::scale_lines`] long.
    pub fn new(n: usize, k: usize, blocksize: usize, codes: &'a [CodeLine], scales: &'a [Line]) -> Self {
        let step = check_packed(n, k, blocksize, codes.len(), scales.len());
        PackedNf4 { n, k, step, codes, scales }
    }

    /// Back to rows: the bytes that [`PackedNf4::pack`] was given.
    ///
    /// # Panics
    /// Where `codes` and `absmax` do not have the lengths of a [`RowNf4`], or `blocksize` is not that of the
    /// packing (as far as its step shows it).
    pub fn unpack(&self, blocksize: usize, codes: &mut [u8], absmax: &mut [f32]) {
        let PackedNf4 { n, k, .. } = *self;
        check_rows(n, k, blocksize, codes.len(), absmax.len());
        assert!(
            step(k, blocksize) == self.step,
            "packed for steps of {}, not blocks of {blocksize}",
            self.step
        );
        for (i, byte) in codes.iter_mut().enumerate() {
            let low = if 2 * i + 1 < n * k { self.code(2 * i + 1) } else { ZERO_CODE };
            *byte = self.code(2 * i) << 4 | low;
        }
        for (b, a) in absmax.iter_mut().enumerate() {
            let (j, at) = (b * blocksize / k, b * blocksize % k);
            *a = self.lines(j / LANES).1[at / self.step][j % LANES];
        }
    }

    /// The code of element `at` of the rows.
    fn code(&self, at: usize) -> u8 {
        let (j, at) = (at / self.k, at % self.k);
        let word = self.lines(j / LANES).0[at / GROUP].0[j % LANES];
        (word as u32 >> (4 * (at % GROUP)) & 15) as u8
    }

    /// The weight of output `j` and input `i`, decoded: level × absmax.
    ///
    /// # Panics
    /// Where there is none.
    pub fn get(&self, j: usize, i: usize) -> f32 {
        assert!(j < self.n && i < self.k, "element ({j}, {i}) of ({}, {})", self.n, self.k);
        let scale = self.lines(j / LANES).1[i / self.step][j % LANES];
        LEVELS[usize::from(self.code(j * self.k + i))] * scale
    }

    /// Output features.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Input features.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Columns `cols` of the product; its start is a multiple of 16.
    pub(super) fn sub(self, cols: Range<usize>) -> Self {
        let panels = cols.start / LANES..cols.end.div_ceil(LANES);
        let (groups, steps) = (self.k.div_ceil(GROUP), self.k.div_ceil(self.step));
        PackedNf4 {
            n: cols.len(),
            codes: &self.codes[panels.start * groups..panels.end * groups],
            scales: &self.scales[panels.start * steps..panels.end * steps],
            ..self
        }
    }

    /// Rows of k that share a line of scales: a multiple of 8, or 1.
    pub(super) const fn step(&self) -> usize {
        self.step
    }

    /// Code lines (groups of 8) and scale lines (steps) of panel `p`.
    #[inline(always)]
    pub(super) fn lines(&self, p: usize) -> (&'a [CodeLine], &'a [Line]) {
        let (groups, steps) = (self.k.div_ceil(GROUP), self.k.div_ceil(self.step));
        (&self.codes[p * groups..][..groups], &self.scales[p * steps..][..steps])
    }
}

/// See the header.
const fn step(k: usize, blocksize: usize) -> usize {
    assert!(blocksize > 0, "blocksize is 0");
    let (mut a, mut b) = (k, blocksize);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    if a % GROUP == 0 { a } else { 1 }
}

fn check_packed(n: usize, k: usize, blocksize: usize, codes: usize, scales: usize) -> usize {
    let need = (PackedNf4::code_lines(n, k), PackedNf4::scale_lines(n, k, blocksize));
    assert!(
        (codes, scales) == need,
        "({n}, {k}) in blocks of {blocksize} packs to {} code and {} scale lines, not {codes} and {scales}",
        need.0,
        need.1
    );
    step(k, blocksize)
}
