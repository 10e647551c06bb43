//! Many queries against rows stored as codes: the integers of all pairs as one matrix product.
//!
//! **Math.**  That of [`Codes::dots`]: out(q, r) = I · (scale of q × scale of r),  I = Σ query code × row code.
//!
//! **Law.**   The same bits: I is exact in any order (clause 7), and is rounded and scaled as there.
//!
//! ```text
//!   96 rows   int8 ──────────────────────────────► codes (96, k)     where they lie, if they lie side by side
//!             NF4   high nibbles │ low nibbles ──► codes (96, k)     64 and 64 of each 128 elements
//!   · queries, in that same order, packed once ──► I (96, m)         `GemmI8`
//!   16 rows × 16 queries ──► floats ──► transposed, scaled ──► out (m, n)
//! ```
//!
//! What is behind a row's elements meets query codes of 0.
//!
//! **Registers.**  Finish: 16 words that are transposed.  **Cost.**  Products bind (`int8/exact.rs`): 2 operations an element of
//!   a pair; a quarter of a shuffle a pair to finish.
//!
//! **Error.**  None of its own.  **Reference.**  As [`super`].  **Next.**  `screen.rs`, which does this to floats.

#![allow(clippy::needless_range_loop)] // lanes are indices into several arrays at once

use super::codes::{Code, Codes, GROUP};
use super::floats::Which;
use super::forms::nf4_codes;
use super::integers;
use crate::cpu::{Cpu, Kernel};
use crate::int8::{self, Block8, GemmI8, PackedI8};
use crate::line::numbers;
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{LANES, Line};

/// Queries, as rows of codes are multiplied with all of them at once.
///
/// ```
/// use samebits_kernels::int8::{Codes as _, Eight};
/// use samebits_kernels::search::{Batch, Code, Codes, QueryCodes, Which};
/// use samebits_kernels::{Cpu, Line};
/// let (cpu, code, k, queries) = (Cpu::detect(), Code::Int8, 2, [1.0, 2.0, -3.0, 1.0]);
/// let mut bytes = vec![0; code.row_bytes(k)];
/// bytes[..2].copy_from_slice(&[100, 50]);
/// let (rows, which) = (Codes { code, k, rows: &bytes, scales: &[0.5] }, Which::From(0, 1));
/// let (mut blocks, mut scales) = (vec![Eight::EMPTY; Batch::blocks_len(code, 2, k)], [0.0; 2]);
/// let mut room = vec![0; 2 * Batch::depth(code, k)];
/// Batch::fill(cpu, code, (&queries, k), &mut room, (&mut blocks, &mut scales));
/// let (mut together, mut one) = ([0.0; 2], [0.0]);
/// let mut scratch = vec![Line::ZERO; Batch::scratch_len(code, 2, k)];
/// Batch::new((code, k), &blocks, &scales).dots(cpu, &rows, which, &mut scratch, &mut together);
/// let mut lines = vec![Line::ZERO; code.query_lines(k)];
/// let scale = QueryCodes::fill(cpu, code, &queries[2..], &mut [0; 2], &mut lines);
/// rows.dots(cpu, which, &[QueryCodes { lines: &lines, scale }], &mut one);
/// assert_eq!(together[1], one[0]); // the bits of one by one
/// ```
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    code: Code,
    k: usize,
    codes: PackedI8<'a>,
    scales: &'a [f32],
}

/// With fewer queries a row's preparation takes what it saves.
const LEAST: usize = 8;

impl<'a> Batch<'a> {
    /// Rows that are multiplied at a time.
    pub const ROWS: usize = 96;

    /// Codes of a query of `k` elements, those that are padding among them.
    pub const fn depth(code: Code, k: usize) -> usize {
        match code {
            Code::Nf4 => 2 * code.row_bytes(k),
            _ => code.row_bytes(k),
        }
    }

    /// Blocks of codes for `m` queries of `k` elements.
    pub const fn blocks_len(code: Code, m: usize, k: usize) -> usize {
        int8::blocks_len(m, Batch::depth(code, k))
    }

    /// Lines of scratch of [`Batch::dots`].
    pub const fn scratch_len(code: Code, m: usize, k: usize) -> usize {
        let [codes, sums] = Batch::parts(code, m, k);
        codes + sums + GemmI8::scratch_len(Batch::ROWS, Batch::depth(code, k), m)
    }

    /// Lines of it for the rows' codes and for products.
    const fn parts(code: Code, m: usize, k: usize) -> [usize; 2] {
        [Batch::ROWS * Batch::depth(code, k) / size_of::<Line>(), Batch::ROWS * m.div_ceil(LANES)]
    }

    /// Whether `m` queries take less together than one by one.
    pub const fn pays(code: Code, m: usize) -> bool {
        !matches!(code, Code::Binary) && m >= LEAST
    }

    /// Codes `queries`, (m, k), for [`Batch::new`]: their codes to `blocks`, their scales to `scales`. `codes` is scratch, m times
    /// [`Batch::depth`].
    ///
    /// # Panics
    /// Where the code is [`Code::Binary`], whose products are no sums of such codes, or lengths do not fit.
    pub fn fill(
        cpu: Cpu,
        code: Code,
        (queries, k): (&[f32], usize),
        codes: &mut [i8],
        (blocks, scales): (&mut [Block8], &mut [f32]),
    ) {
        assert!(code != Code::Binary, "a batch of binary queries");
        let (m, depth) = (scales.len(), Batch::depth(code, k));
        assert!(queries.len() == m * k && codes.len() == m * depth, "{m} queries of {k}");
        for (q, (codes, scale)) in codes.chunks_exact_mut(depth).zip(scales.iter_mut()).enumerate() {
            codes.fill(0);
            *scale = int8::quantize(cpu, &queries[q * k..(q + 1) * k], &mut codes[..k]);
            if code == Code::Nf4 {
                *scale /= 127.0;
                halve(codes);
            }
        }
        PackedI8::pack(MatRef::new(codes, m, depth).t(), blocks);
    }

    /// Borrows what [`Batch::fill`] wrote of queries of `k` elements.
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn new((code, k): (Code, usize), blocks: &'a [Block8], scales: &'a [f32]) -> Batch<'a> {
        let codes = PackedI8::new(scales.len(), Batch::depth(code, k), blocks);
        Batch { code, k, codes, scales }
    }

    /// [`Codes::dots`] of all queries, bit for bit.
    ///
    /// # Panics
    /// Where the rows are other codes than the queries were made for, lengths do not fit, a row is not there, or `scratch`
    /// is shorter than [`Batch::scratch_len`].
    pub fn dots(&self, cpu: Cpu, rows: &Codes, which: Which, scratch: &mut [Line], out: &mut [f32]) {
        let (m, n, code) = (self.scales.len(), which.len(), self.code);
        assert!(
            (rows.code, rows.k) == (code, self.k),
            "{:?} of {}, queries of {}",
            rows.code,
            rows.k,
            self.k
        );
        assert!(out.len() == m * n, "output of {} elements, {m} queries and {n} rows", out.len());
        let need = Batch::scratch_len(code, m, self.k);
        assert!(scratch.len() >= need, "batch: {} lines of scratch, {need} needed", scratch.len());
        let depth = Batch::depth(code, self.k);
        let [codes, sums] = Batch::parts(code, m, self.k);
        let (room, scratch) = scratch.split_at_mut(codes);
        let (sums, scratch) = scratch.split_at_mut(sums);
        for first in (0..n).step_by(Batch::ROWS) {
            let count = Batch::ROWS.min(n - first);
            let a = match (code, which) {
                (Code::Int8, Which::From(start, _)) => {
                    &numbers(rows.rows).expect("bytes")[(start + first) * depth..][..count * depth]
                }
                _ => {
                    let room = &mut room[..count * depth / size_of::<Line>()];
                    cpu.run(Spread { rows, which, first, room: &mut *room });
                    Line::elements(room)
                }
            };
            let sums = integers(cpu, (MatRef::new(a, count, depth), self.codes), sums, scratch);
            cpu.run(Finish { batch: self, rows, which, places: (first, count), sums, out });
        }
    }
}

/// Codes in the order of a row of NF4: in each 128 the even ones, whose nibbles are the high ones, then the odd ones.
fn halve(codes: &mut [i8]) {
    for group in codes.chunks_exact_mut(2 * GROUP) {
        let mut halves = [0; 2 * GROUP];
        for (i, &code) in group.iter().enumerate() {
            halves[i % 2 * GROUP + i / 2] = code;
        }
        group.copy_from_slice(&halves);
    }
}

/// Some rows' codes, a byte each, one row after the other.
struct Spread<'a> {
    rows: &'a Codes<'a>,
    which: Which<'a>,
    first: usize,
    room: &'a mut [Line],
}

impl Kernel for Spread<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Spread { rows, which, first, room } = self;
        let width = rows.code.row_bytes(rows.k);
        let lines = Batch::depth(rows.code, rows.k) / size_of::<Line>();
        for (i, room) in room.chunks_exact_mut(lines).enumerate() {
            let row = &rows.rows[which.get(first + i) * width..][..width];
            let (groups, _) = row.as_chunks::<GROUP>();
            let each = lines / groups.len();
            for (bytes, room) in groups.iter().zip(room.chunks_exact_mut(each)) {
                let bytes = s.load_bytes(bytes);
                if let [high, low] = room {
                    let codes = nf4_codes(s, bytes, 0);
                    s.store(high, s.of_bits(codes[0]));
                    s.store(low, s.of_bits(codes[1]));
                } else {
                    s.store(&mut room[0], s.of_bits(bytes));
                }
            }
        }
    }
}

/// The integers of some rows and all queries, scaled, to out (m, n).
struct Finish<'a> {
    batch: &'a Batch<'a>,
    rows: &'a Codes<'a>,
    which: Which<'a>,
    /// The first of the rows, and how many they are.
    places: (usize, usize),
    /// (rows, m), each row from a line on.
    sums: &'a [i32],
    out: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Finish { batch, rows, which, places: (first, count), sums, out } = self;
        let (m, n) = (batch.scales.len(), which.len());
        let words = m.div_ceil(LANES);
        let (sums, _) = sums.as_chunks::<LANES>();
        for r in (0..count).step_by(LANES) {
            let some = LANES.min(count - r);
            let mut scales = [0.0; LANES];
            for lane in 0..some {
                scales[lane] = rows.scales[which.get(first + r + lane)];
            }
            let scales = s.load(&scales);
            for w in 0..words {
                let mut whole = [s.splat(0.0); LANES];
                for lane in 0..some {
                    whole[lane] = s.of_i(s.load_i(&sums[(r + lane) * words + w]));
                }
                let whole = s.transpose(whole);
                for (lane, &scale) in batch.scales[w * LANES..].iter().take(LANES).enumerate() {
                    let scaled = s.mul(whole[lane], s.mul(scales, s.splat(scale)));
                    let at = (w * LANES + lane) * n + first + r;
                    s.store_tail(&mut out[at..at + some], scaled);
                }
            }
        }
    }
}
