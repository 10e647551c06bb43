//! Rows stored as codes: integer products with queries that are codes too.
//!
//! ```text
//!   row, 64 bytes   int8   ─────────────► even bytes, odd bytes                      half words
//!                   NF4    high nibbles ─► lut_bytes ─► even, odd;  low nibbles ─► lut_bytes ─► even, odd
//!                   binary ─ xor query ─► ones of the high nibbles + of the low ─► even + odd
//!   query           its codes as half words in that very order, made once (`QueryCodes`): so `dot_halves` takes both
//! ```
//!
//! A row takes a multiple of 64 bytes; what is behind its elements meets query codes of 0, or equal bits.
//!
//! **Registers.**  4 rows and 1 query: 4 sums, 2 or 4 half words; many queries: 16 sums on AVX-512, 4 elsewhere.

#![allow(clippy::needless_range_loop)] // rows and lanes are indices into several arrays at once

use super::floats::Which;
use super::{SIDE, put};
use crate::cpu::{Cpu, Kernel};
use crate::int8;
use crate::nf4::LEVELS_127;
use crate::simd::Simd;
use crate::{LANES, Line};

/// How a row is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// One signed byte an element; scale: that of [`int8::quantize`].
    Int8,
    /// Four bits an element, the first in the high nibble; scale: the row's absmax.
    Nf4,
    /// One bit an element, set where it is above 0, the first the highest; scale: the mean of |x|.
    Binary,
}

/// Bytes that rows are a multiple of.
pub(super) const GROUP: usize = 64;

impl Code {
    /// Bytes of a row of `k` elements: whole lines of 64.
    pub const fn row_bytes(self, k: usize) -> usize {
        self.groups(k) * GROUP
    }

    const fn groups(self, k: usize) -> usize {
        match self {
            Code::Int8 => k.div_ceil(GROUP),
            Code::Nf4 => k.div_ceil(2 * GROUP),
            Code::Binary => k.div_ceil(8 * GROUP),
        }
    }

    /// Lines of [`QueryCodes`] of `k` elements.
    pub const fn query_lines(self, k: usize) -> usize {
        let words = match self {
            Code::Int8 => 2,
            Code::Nf4 => 4,
            Code::Binary => 1,
        };
        words * self.groups(k)
    }
}

/// A query, as rows of some code are multiplied with it.
///
/// ```
/// use samebits_kernels::search::{Code, Codes, QueryCodes, Which, mean_magnitude, pack_bits};
/// use samebits_kernels::{Cpu, Line};
/// let (cpu, query, mut out) = (Cpu::detect(), [1.0, -2.0, 127.0], [0.0]);
/// let mut times = |code: Code, rows: &[u8], scale: f32| {
///     let mut lines = vec![Line::ZERO; code.query_lines(3)];
///     let query = QueryCodes { scale: QueryCodes::fill(cpu, code, &query, &mut [0; 3], &mut lines), lines: &lines };
///     Codes { code, k: 3, rows, scales: &[scale] }.dots(cpu, Which::From(0, 1), &[query], &mut out);
///     out[0]
/// };
/// let mut row = vec![0; Code::Int8.row_bytes(3)];
/// row[..3].copy_from_slice(&[127, 1, 0]);
/// assert_eq!(times(Code::Int8, &row, 0.5), 62.5); // ½ (127 − 2)
/// let (x, mut bits) = ([1.0, 5.0, 3.0], vec![0; Code::Binary.row_bytes(3)]);
/// pack_bits(&x, &mut bits);
/// assert_eq!(bits[0], 0b1110_0000);
/// // One sign of three differs: (3 − 2) · 3, times the mean of the query's |x|
/// assert_eq!(times(Code::Binary, &bits, mean_magnitude(&x)), 3.0 * (130.0 / 3.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct QueryCodes<'a> {
    /// What [`QueryCodes::fill`] wrote.
    pub lines: &'a [Line],
    /// What it returned.
    pub scale: f32,
}

impl QueryCodes<'_> {
    /// Writes the lines of `query` and returns its scale; `room` is scratch, as long as the query.
    ///
    /// # Panics
    /// Where there are not [`Code::query_lines`], or not as many codes as elements.
    pub fn fill(cpu: Cpu, code: Code, query: &[f32], room: &mut [i8], lines: &mut [Line]) -> f32 {
        check_lines(code, query.len(), lines);
        if code == Code::Binary {
            let bytes = Line::elements_mut::<u8>(lines);
            bytes.fill(0);
            pack_bits(query, bytes);
            return mean_magnitude(query);
        }
        let scale = int8::quantize(cpu, query, room);
        let halves = Line::elements_mut::<u16>(lines);
        halves.fill(0);
        // Bytes of a group as half words: the even ones, then the odd ones.
        let place = |byte: usize| byte % 2 * (GROUP / 2) + byte / 2;
        for (i, &x) in room.iter().enumerate() {
            let (group, byte) = match code {
                Code::Nf4 => (i / (2 * GROUP) * 2 + i % 2, i % (2 * GROUP) / 2), // high nibbles first
                _ => (i / GROUP, i % GROUP),
            };
            halves[group * GROUP + place(byte)] = i16::from(x) as u16;
        }
        if code == Code::Nf4 { scale / 127.0 } else { scale }
    }
}

#[track_caller]
fn check_lines(code: Code, k: usize, lines: &[Line]) {
    let expected = code.query_lines(k);
    assert!(lines.len() == expected, "{} lines of a query of {k} elements, expected {expected}", lines.len());
}

/// The bits of a row, in bytes that are 0.
///
/// # Panics
/// Where there are too few.
pub fn pack_bits(x: &[f32], bytes: &mut [u8]) {
    for (i, x) in x.iter().enumerate() {
        bytes[i / 8] |= u8::from(*x > 0.0) << (7 - i % 8);
    }
}

/// The mean of |x|, the sum in `f64` in order.
pub fn mean_magnitude(x: &[f32]) -> f32 {
    let mut sum = 0.0;
    for x in x {
        sum += f64::from(x.abs());
    }
    (sum / x.len() as f64) as f32
}

/// Stored rows of codes, each of [`Code::row_bytes`], with one scale a row.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// How they are stored.
    pub code: Code,
    /// Elements of a row.
    pub k: usize,
    /// The rows.
    pub rows: &'a [u8],
    /// Their scales.
    pub scales: &'a [f32],
}

impl Codes<'_> {
    /// Row `r` as a query: of int8, whose codes are those of queries too, the lines of [`QueryCodes`] and the scale.
    ///
    /// # Panics
    /// Where the code is another, or there are not [`Code::query_lines`].
    pub fn query_of_row(&self, cpu: Cpu, r: usize, lines: &mut [Line]) -> f32 {
        assert!(self.code == Code::Int8, "a row of {:?} is no query", self.code);
        check_lines(self.code, self.k, lines);
        let width = self.code.row_bytes(self.k);
        cpu.run(Split { row: &self.rows[r * width..][..width], lines });
        self.scales[r]
    }

    /// `out[q · n + i]`: the product of query q and row i of `which`, as [this module](super) defines it; (m, n).
    ///
    /// # Panics
    /// Where lengths do not fit, or a row is not there.
    pub fn dots(&self, cpu: Cpu, which: Which, queries: &[QueryCodes], out: &mut [f32]) {
        let (m, n) = (queries.len(), which.len());
        assert!(out.len() == m * n, "output of {} elements, {m} queries and {n} rows", out.len());
        for query in queries {
            check_lines(self.code, self.k, query.lines);
        }
        match self.code {
            Code::Int8 => cpu.run(Products { codes: self, which, queries, out, format: Int8 }),
            Code::Nf4 => cpu.run(Products { codes: self, which, queries, out, format: Nf4 }),
            Code::Binary => cpu.run(Products { codes: self, which, queries, out, format: Binary }),
        }
    }
}

/// How sixty-four bytes of a row meet those of a query.
trait Format: Copy {
    /// What is made of a row's bytes, once for all queries.
    type Parts<S: Simd>: Copy;
    /// Lines of the query.
    const LINES: usize;
    fn split<S: Simd>(self, s: S, bytes: S::I32) -> Self::Parts<S>;
    fn add<S: Simd>(self, s: S, sum: S::I32, parts: Self::Parts<S>, query: &[Line]) -> S::I32;
    /// I, of the sums of all lanes.
    #[inline(always)]
    fn finish<S: Simd>(self, _: S, sums: S::I32, _k: usize) -> S::I32 {
        sums
    }
}

#[derive(Clone, Copy)]
struct Int8;
#[derive(Clone, Copy)]
struct Nf4;
#[derive(Clone, Copy)]
struct Binary;

/// Sixteen integers of a query.
#[inline(always)]
fn word<S: Simd>(s: S, line: &Line) -> S::I32 {
    s.bits(s.load(&line.0))
}

impl Format for Int8 {
    type Parts<S: Simd> = [S::I32; 2];
    const LINES: usize = 2;
    #[inline(always)]
    fn split<S: Simd>(self, s: S, bytes: S::I32) -> [S::I32; 2] {
        [s.even_bytes(bytes), s.odd_bytes(bytes)]
    }
    #[inline(always)]
    fn add<S: Simd>(self, s: S, sum: S::I32, parts: [S::I32; 2], query: &[Line]) -> S::I32 {
        s.dot_halves(parts[1], word(s, &query[1]), s.dot_halves(parts[0], word(s, &query[0]), sum))
    }
}

/// Bytes of a nibble each: the high ones, the low ones.
#[inline(always)]
fn nibbles<S: Simd>(s: S, bytes: S::I32) -> [S::I32; 2] {
    let low = s.splat_i(0x0f0f_0f0f);
    [s.and_i(s.shr::<4>(bytes), low), s.and_i(bytes, low)]
}

/// The codes of NF4's high nibbles, and of the low ones: a byte each.
#[inline(always)]
pub(super) fn nf4_codes<S: Simd>(s: S, bytes: S::I32) -> [S::I32; 2] {
    let levels = s.splat_bytes(&LEVELS_127.map(|x| x as u8));
    let [high, low] = nibbles(s, bytes);
    [s.lut_bytes(high, levels), s.lut_bytes(low, levels)]
}

impl Format for Nf4 {
    type Parts<S: Simd> = [S::I32; 4];
    const LINES: usize = 4;
    #[inline(always)]
    fn split<S: Simd>(self, s: S, bytes: S::I32) -> [S::I32; 4] {
        let [high, low] = nf4_codes(s, bytes);
        [s.even_bytes(high), s.odd_bytes(high), s.even_bytes(low), s.odd_bytes(low)]
    }
    #[inline(always)]
    fn add<S: Simd>(self, s: S, mut sum: S::I32, parts: [S::I32; 4], query: &[Line]) -> S::I32 {
        for i in 0..4 {
            sum = s.dot_halves(parts[i], word(s, &query[i]), sum);
        }
        sum
    }
}

/// Ones of a nibble.
const ONES: [u8; 16] = [0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4];

impl Format for Binary {
    type Parts<S: Simd> = S::I32;
    const LINES: usize = 1;
    #[inline(always)]
    fn split<S: Simd>(self, _: S, bytes: S::I32) -> S::I32 {
        bytes
    }
    #[inline(always)]
    fn add<S: Simd>(self, s: S, sum: S::I32, bytes: S::I32, query: &[Line]) -> S::I32 {
        let ones = s.splat_bytes(&ONES);
        let [high, low] = nibbles(s, s.xor_i(bytes, word(s, &query[0])));
        // At most 8 in a byte, 16 in a half word: no carry leaves its place.
        let bytes = s.add_i(s.lut_bytes(high, ones), s.lut_bytes(low, ones));
        let halves = s.add_i(s.even_bytes(bytes), s.odd_bytes(bytes));
        s.dot_halves(halves, s.splat_i(0x0001_0001), sum)
    }
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, sums: S::I32, k: usize) -> S::I32 {
        s.sub_i(s.splat_i(k as i32), s.shl::<1>(sums))
    }
}

/// A row of int8 as half words.
struct Split<'a> {
    row: &'a [u8],
    lines: &'a mut [Line],
}

impl Kernel for Split<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (groups, _) = self.row.as_chunks::<GROUP>();
        let (pairs, _) = self.lines.as_chunks_mut::<2>();
        for (bytes, lines) in groups.iter().zip(pairs) {
            let parts = Int8.split(s, s.load_bytes(bytes));
            for i in 0..2 {
                s.store(&mut lines[i].0, s.of_bits(parts[i]));
            }
        }
    }
}

struct Products<'a, F> {
    codes: &'a Codes<'a>,
    which: Which<'a>,
    queries: &'a [QueryCodes<'a>],
    out: &'a mut [f32],
    format: F,
}

impl<F: Format> Kernel for Products<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (n, m) = (self.which.len(), self.queries.len());
        if m == 1 {
            return self.one(s);
        }
        for first in (0..n).step_by(SIDE) {
            // What is missing in the last tile is computed twice and stored once.
            let rows = self.rows::<SIDE>(first);
            for q in (0..m).step_by(SIDE) {
                let mut queries = [&self.queries[0]; SIDE];
                for j in 0..SIDE {
                    queries[j] = &self.queries[(q + j).min(m - 1)];
                }
                let mut sums = [s.splat_i(0); LANES];
                if S::TILE.1 > 1 {
                    for (j, sum) in self.pairs(s, rows, queries).into_iter().enumerate() {
                        sums[SIDE * j..SIDE * (j + 1)].copy_from_slice(&sum);
                    }
                } else {
                    for i in 0..SIDE {
                        for (j, sum) in self.pairs(s, [rows[i]], queries).into_iter().enumerate() {
                            sums[SIDE * j + i] = sum[0];
                        }
                    }
                }
                let mut scales = [0.0; LANES];
                for l in 0..LANES {
                    scales[l] = self.scale(first + l % SIDE) * queries[l / SIDE].scale;
                }
                let products = s.to_array(self.scaled(s, sums, &scales));
                put(self.out, n, (q, first), &products);
            }
        }
    }
}

impl<'a, F: Format> Products<'a, F> {
    /// One query: sixteen rows to a word of results. Rows side by side are taken one after the other, so that memory is
    /// read in its order; others four at a time, asked for ahead.
    #[inline(always)]
    fn one<S: Simd>(&mut self, s: S) {
        let (n, query) = (self.which.len(), &self.queries[0]);
        let apart = matches!(self.which, Which::At(_));
        if apart {
            self.ask(s, 0);
            self.ask(s, SIDE);
        }
        for start in (0..n).step_by(LANES) {
            let mut sums = [s.splat_i(0); LANES];
            let count = LANES.min(n - start);
            if apart {
                for r in (0..count).step_by(SIDE) {
                    self.ask(s, start + r + 2 * SIDE);
                    let [four] = self.pairs(s, self.rows::<SIDE>(start + r), [query]);
                    sums[r..r + SIDE].copy_from_slice(&four);
                }
            } else {
                for r in 0..count {
                    [[sums[r]]] = self.pairs(s, [self.row(start + r)], [query]);
                }
            }
            let mut scales = [0.0; LANES];
            for l in 0..count {
                scales[l] = self.scale(start + l) * query.scale;
            }
            let products = self.scaled(s, sums, &scales);
            s.store_tail(&mut self.out[start..start + count], products);
        }
    }

    /// Asks for the four rows from `first` on.
    #[inline(always)]
    fn ask<S: Simd>(&self, s: S, first: usize) {
        for i in first..(first + SIDE).min(self.which.len()) {
            let row = self.row(i);
            for line in row.iter().step_by(GROUP) {
                s.prefetch(line);
            }
        }
    }

    #[inline(always)]
    fn row(&self, i: usize) -> &'a [u8] {
        let width = self.codes.code.row_bytes(self.codes.k);
        &self.codes.rows[self.which.get(i) * width..][..width]
    }

    #[inline(always)]
    fn rows<const R: usize>(&self, first: usize) -> [&'a [u8]; R] {
        let mut rows = [self.codes.rows; R];
        for i in 0..R {
            rows[i] = self.row((first + i).min(self.which.len() - 1));
        }
        rows
    }

    #[inline(always)]
    fn scale(&self, i: usize) -> f32 {
        self.codes.scales[self.which.get(i.min(self.which.len() - 1))]
    }

    #[inline(always)]
    fn scaled<S: Simd>(&self, s: S, sums: [S::I32; LANES], scales: &[f32; LANES]) -> S::F32 {
        let whole = self.format.finish(s, s.sum_rows_i(sums), self.codes.k);
        s.mul(s.of_i(whole), s.load(scales))
    }

    /// The sums of every query with every row, in sixteen lanes.
    #[inline(always)]
    fn pairs<S: Simd, const R: usize, const Q: usize>(
        &self,
        s: S,
        rows: [&[u8]; R],
        queries: [&QueryCodes; Q],
    ) -> [[S::I32; R]; Q] {
        let n = rows[0].len() / GROUP;
        let rows = rows.map(|x| &x.as_chunks::<GROUP>().0[..n]);
        let queries = queries.map(|q| &q.lines[..n * F::LINES]);
        let mut sums = [[s.splat_i(0); R]; Q];
        for g in 0..n {
            for i in 0..R {
                let parts = self.format.split(s, s.load_bytes(&rows[i][g]));
                for j in 0..Q {
                    let query = &queries[j][F::LINES * g..F::LINES * (g + 1)];
                    sums[j][i] = self.format.add(s, sums[j][i], parts, query);
                }
            }
        }
        sums
    }
}
