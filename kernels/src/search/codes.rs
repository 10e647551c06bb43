//! Rows stored as codes: integer products with queries that are codes too.
//!
//! ```text
//!   one query, rows side by side   row after row, as memory lies; 36 lines ahead of what is read are asked for
//!              rows by number      four at a time, the next eight asked for
//!   several                        4 rows × 4 queries
//! ```
//!
//! A row takes a multiple of 64 bytes; what is behind its elements meets query codes of 0, or equal bits. What becomes of
//! 64 of them: `forms.rs`.
//!
//! **Registers.**  1 row and 1 query, or 4 rows: a sum each, 64 codes of a row (NF4 2 × 64), the query's from memory; several
//! queries: 16 sums on AVX-512, 4 elsewhere.
//!
//! **Cost.**  One query, 384 elements, in the second cache: int8 6.5 ns a row with VNNI, NF4 5.8 (9 and 10 by half words);
//! from memory 36 and 21: the reading binds, and would without VNNI. Asking ahead is worth a third there.

#![allow(clippy::needless_range_loop)] // rows and lanes are indices into several arrays at once

use super::floats::Which;
use super::forms::{Binary, Format, Int8, Nf4, TRIPLE, Triples};
use super::{SIDE, put};
use crate::cpu::Cpu;
use crate::int8;
use crate::simd::Simd;
use crate::simd::quads::{QuadKernel, Quads};
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
        match self {
            Code::Int8 => TRIPLE * self.groups(k) + 1,
            Code::Nf4 => 2 * TRIPLE * self.groups(k) + 1,
            Code::Binary => self.groups(k),
        }
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
        let bytes = Line::elements_mut::<u8>(lines);
        bytes.fill(0);
        for (i, &x) in room.iter().enumerate() {
            let (group, byte) = match code {
                Code::Nf4 => (i / (2 * GROUP) * 2 + i % 2, i % (2 * GROUP) / 2), // high nibbles first
                _ => (i / GROUP, i % GROUP),
            };
            bytes[TRIPLE * GROUP * group + byte] = x as u8;
        }
        cpu.run(Triples { lines });
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
        let groups = self.rows[r * width..][..width].chunks_exact(GROUP);
        for (codes, line) in groups.zip(lines.iter_mut().step_by(TRIPLE)) {
            Line::elements_mut(core::slice::from_mut(line)).copy_from_slice(codes);
        }
        cpu.run(Triples { lines });
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
            Code::Int8 => cpu.run_quads(Products { codes: self, which, queries, out, format: Int8 }),
            Code::Nf4 => cpu.run_quads(Products { codes: self, which, queries, out, format: Nf4 }),
            Code::Binary => cpu.run_quads(Products { codes: self, which, queries, out, format: Binary }),
        }
    }
}

/// Bytes between those of a row that are read and those that are asked for into the second cache: a memory latency's worth.
const AHEAD: usize = 36 * GROUP;

struct Products<'a, F> {
    codes: &'a Codes<'a>,
    which: Which<'a>,
    queries: &'a [QueryCodes<'a>],
    out: &'a mut [f32],
    format: F,
}

impl<F: Format> QuadKernel for Products<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(mut self, s: S, q: Q) {
        let (n, m) = (self.which.len(), self.queries.len());
        if m == 1 {
            return self.one(s, q);
        }
        for first in (0..n).step_by(SIDE) {
            // What is missing in the last tile is computed twice and stored once.
            let rows = self.rows::<SIDE>(first);
            for at in (0..m).step_by(SIDE) {
                let mut queries = [&self.queries[0]; SIDE];
                for j in 0..SIDE {
                    queries[j] = &self.queries[(at + j).min(m - 1)];
                }
                let mut sums = [s.splat_i(0); LANES];
                if S::TILE.1 > 1 {
                    for (j, sum) in self.pairs(s, q, rows, queries).into_iter().enumerate() {
                        sums[SIDE * j..SIDE * (j + 1)].copy_from_slice(&sum);
                    }
                } else {
                    for i in 0..SIDE {
                        for (j, sum) in self.pairs(s, q, [rows[i]], queries).into_iter().enumerate() {
                            sums[SIDE * j + i] = sum[0];
                        }
                    }
                }
                let (mut scales, mut surplus) = ([0.0; LANES], [0; LANES]);
                for l in 0..LANES {
                    scales[l] = self.scale(first + l % SIDE) * queries[l / SIDE].scale;
                    surplus[l] = self.format.surplus(queries[l / SIDE]);
                }
                let whole = self.whole::<S, Q>(s, sums, s.load_i(&surplus));
                let products = s.mul(s.of_i(whole), s.load(&scales));
                put(self.out, n, (at, first), &s.to_array(products));
            }
        }
    }
}

impl<'a, F: Format> Products<'a, F> {
    /// One query: sixteen rows to a word of results. Rows side by side are taken one after the other, so that memory is
    /// read in its order; others four at a time, asked for ahead.
    #[inline(always)]
    fn one<S: Simd, Q: Quads<S>>(&mut self, s: S, q: Q) {
        let (n, query) = (self.which.len(), &self.queries[0]);
        let surplus = s.splat_i(self.format.surplus(query));
        let apart = !self.side_by_side();
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
                    let [four] = self.pairs(s, q, self.rows::<SIDE>(start + r), [query]);
                    sums[r..r + SIDE].copy_from_slice(&four);
                }
            } else {
                for r in 0..count {
                    [[sums[r]]] = self.pairs(s, q, [self.row(start + r)], [query]);
                }
            }
            let mut scales = [0.0; LANES];
            for l in 0..count {
                scales[l] = self.scale(start + l) * query.scale;
            }
            let products = s.mul(s.of_i(self.whole::<S, Q>(s, sums, surplus)), s.load(&scales));
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
    fn side_by_side(&self) -> bool {
        matches!(self.which, Which::From(..))
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

    /// I of sixteen pairs, of their lanes' sums and what those are too large by.
    #[inline(always)]
    fn whole<S: Simd, Q: Quads<S>>(&self, s: S, sums: [S::I32; LANES], surplus: S::I32) -> S::I32 {
        let sums = s.sum_rows_i(sums);
        let sums = if Q::FLIP == 0 { sums } else { s.sub_i(sums, surplus) };
        self.format.finish(s, sums, self.codes.k)
    }

    /// The sums of every query with every row, in sixteen lanes. Rows side by side are asked for ahead as they are read.
    #[inline(always)]
    fn pairs<S: Simd, Q: Quads<S>, const R: usize, const M: usize>(
        &self,
        s: S,
        q: Q,
        rows: [&[u8]; R],
        queries: [&QueryCodes; M],
    ) -> [[S::I32; R]; M] {
        let (n, ahead) = (rows[0].len() / GROUP, F::ASKED && self.side_by_side());
        let rows = rows.map(|x| &x.as_chunks::<GROUP>().0[..n]);
        let queries = queries.map(|q| &q.lines[..n * F::LINES]);
        let mut sums = [[q.start(s, 0); R]; M];
        for g in 0..n {
            for i in 0..R {
                if ahead {
                    s.prefetch_far(rows[i][g].as_ptr().wrapping_add(AHEAD)); // past the last row nobody reads it
                }
                let parts = self.format.split(s, q, s.load_bytes(&rows[i][g]));
                for j in 0..M {
                    let query = &queries[j][F::LINES * g..F::LINES * (g + 1)];
                    sums[j][i] = self.format.add((s, q), sums[j][i], parts, query);
                }
            }
        }
        let mut totals = [[s.splat_i(0); R]; M];
        for j in 0..M {
            for i in 0..R {
                totals[j][i] = q.total(s, sums[j][i]);
            }
        }
        totals
    }
}
