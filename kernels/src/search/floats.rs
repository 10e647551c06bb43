//! Rows stored as floats: tiles of four rows and four queries.
//!
//! **Registers.**  16 sums, 4 words of rows: AVX-512 20 zmm. Two rows and two queries at a time where words take more
//! registers: AVX2 8 + 4 ymm, NEON 16 + 8 q.
//!
//! A tail is padded with −0 on the row's side and +0 on the query's, as in [`crate::dot`].

#![allow(clippy::needless_range_loop)] // rows and lanes are indices into several arrays at once

use super::{SIDE, put};
use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::simd::{Floats as Word, Simd};
use core::ops::Range;

/// Stored rows of floats.
#[derive(Clone, Copy, Debug)]
pub enum FloatRows<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// IEEE halves, given as their bits; widened exactly.
    F16(&'a [u16]),
}

/// Which of the stored rows.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// So many, from this one on.
    From(usize, usize),
    /// These.
    At(&'a [u32]),
}

impl Which<'_> {
    /// How many they are.
    pub const fn len(&self) -> usize {
        match self {
            Which::From(_, n) => *n,
            Which::At(rows) => rows.len(),
        }
    }

    /// Whether they are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the row in place `i`.
    #[inline(always)]
    pub fn get(&self, i: usize) -> usize {
        match self {
            Which::From(start, _) => start + i,
            Which::At(rows) => rows[i] as usize,
        }
    }
}

/// `out[q · n + i] = dot(query q, row i of which)`, bit for bit; queries (m, k), out (m, n), rows (…, k), n those of
/// `which`.
///
/// ```
/// use samebits_kernels::search::{FloatRows, Which, dots};
/// use samebits_kernels::Cpu;
/// let (rows, queries, mut out) = ([1.0, 0.0, 0.0, 1.0, 3.0, 4.0], [2.0, 5.0, 1.0, -1.0], [0.0; 4]);
/// dots(Cpu::detect(), FloatRows::F32(&rows), Which::At(&[2, 0]), (&queries, 2), &mut out);
/// assert_eq!(out, [26.0, 2.0, -1.0, 1.0]); // two queries times rows 2 and 0
/// ```
///
/// # Panics
/// Where lengths do not fit, or a row is not there.
pub fn dots(cpu: Cpu, rows: FloatRows, which: Which, (queries, k): (&[f32], usize), out: &mut [f32]) {
    let n = which.len();
    assert!(k > 0 && queries.len().is_multiple_of(k), "queries of {} elements, rows of {k}", queries.len());
    let m = queries.len() / k;
    assert!(out.len() == m * n, "output of {} elements, {m} queries and {n} rows", out.len());
    match rows {
        FloatRows::F32(data) => cpu.run(Dots { rows: Rows { data, k, which }, queries, out }),
        FloatRows::F16(data) => cpu.run(Dots { rows: Rows { data, k, which }, queries, out }),
    }
}

/// Rows of numbers, and which of them.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub data: &'a [T],
    pub k: usize,
    pub which: Which<'a>,
}

/// A number that a row may hold.
pub(super) trait Stored: Copy {
    /// Bytes between what one query reads and what is asked for into the second cache; 0: nothing is, as conversion takes
    /// so long that the processor asks by itself in time.
    const NEAR: usize;
    /// Sixteen of them.
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::F32;
    /// At most sixteen, −0 behind them.
    fn load_tail<S: Simd>(s: S, x: &[Self]) -> S::F32;
}

impl Stored for f32 {
    const NEAR: usize = 24 * 64;
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &Word) -> S::F32 {
        s.load(x)
    }
    #[inline(always)]
    fn load_tail<S: Simd>(s: S, x: &[f32]) -> S::F32 {
        s.load_tail(x, -0.0)
    }
}

impl Stored for u16 {
    const NEAR: usize = 0;
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[u16; LANES]) -> S::F32 {
        s.load_f16(x)
    }
    #[inline(always)]
    fn load_tail<S: Simd>(s: S, x: &[u16]) -> S::F32 {
        let mut word = [0x8000; LANES];
        word[..x.len()].copy_from_slice(x);
        s.load_f16(&word)
    }
}

struct Dots<'a, T> {
    rows: Rows<'a, T>,
    queries: &'a [f32],
    out: &'a mut [f32],
}

/// Rows between those of a tile and those that are asked for into the second cache: a memory latency's worth.
const FAR: usize = 24;

impl<T: Stored> Kernel for Dots<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, n) = (self.rows, self.rows.which.len());
        let k = rows.k;
        let m = self.queries.len() / k;
        if m == 1 {
            return one(s, rows, self.queries, self.out);
        }
        for first in (0..n).step_by(SIDE) {
            // What is missing in the last tile is computed twice and stored once.
            let mut four = [rows.data; SIDE];
            for i in 0..SIDE {
                four[i] = rows.row((first + i).min(n - 1));
            }
            for q in (0..m).step_by(SIDE) {
                let mut queries = [self.queries; SIDE];
                for j in 0..SIDE {
                    queries[j] = &self.queries[(q + j).min(m - 1) * k..][..k];
                }
                rows.ask(s, first + SIDE, q / SIDE, m.div_ceil(SIDE));
                let sums = s.to_array(s.sum_rows(tile(s, four, queries)));
                put(self.out, n, (q, first), &sums);
            }
        }
    }
}

impl<'a, T: Copy> Rows<'a, T> {
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [T] {
        &self.data[self.which.get(i) * self.k..][..self.k]
    }

    /// Asks for part `part` of `parts` of the four rows from `first` on; where rows lie side by side, also for what lies
    /// [`FAR`] rows behind it, into the second cache: few queries pass before it is needed.
    #[inline(always)]
    fn ask<S: Simd>(&self, s: S, first: usize, part: usize, parts: usize) {
        let bytes = self.k * size_of::<T>();
        if let Which::From(start, _) = self.which {
            let run = self.data.as_ptr().cast::<u8>().wrapping_add((start + first) * bytes);
            for line in shares(SIDE * bytes, part, parts) {
                let at = run.wrapping_add(64 * line); // past the last row it is an address that nobody reads
                s.prefetch(at);
                s.prefetch_far(at.wrapping_add(FAR * bytes));
            }
            return;
        }
        for i in first..(first + SIDE).min(self.which.len()) {
            let row = self.row(i).as_ptr().cast::<u8>();
            for line in shares(bytes, part, parts) {
                s.prefetch(row.wrapping_add(64 * line));
            }
        }
    }
}

/// Part `part` of `parts` of the lines that hold so many bytes.
#[inline(always)]
fn shares(bytes: usize, part: usize, parts: usize) -> Range<usize> {
    let lines = bytes.div_ceil(64);
    let per = lines.div_ceil(parts);
    (part * per).min(lines)..((part + 1) * per).min(lines)
}

/// The sixteen chains of each of sixteen pairs: query j and row i in place 4j + i.
#[inline(always)]
fn tile<S: Simd, T: Stored>(s: S, rows: [&[T]; SIDE], queries: [&[f32]; SIDE]) -> [S::F32; LANES] {
    let [a, b, c, d] = rows;
    let [p, q, r, t] = queries;
    let mut all = [s.splat(0.0); LANES];
    if S::TILE.1 > 1 {
        for (j, sums) in pairs(s, rows, queries).into_iter().enumerate() {
            all[SIDE * j..SIDE * (j + 1)].copy_from_slice(&sums);
        }
        return all;
    }
    for (j, queries) in [(0, [p, q]), (2, [r, t])] {
        for (i, rows) in [(0, [a, b]), (2, [c, d])] {
            let [first, second] = pairs(s, rows, queries);
            [all[SIDE * j + i], all[SIDE * j + i + 1]] = first;
            [all[SIDE * (j + 1) + i], all[SIDE * (j + 1) + i + 1]] = second;
        }
    }
    all
}

/// The chains of every query with every row.
#[inline(always)]
fn pairs<S: Simd, T: Stored, const R: usize, const Q: usize>(
    s: S,
    rows: [&[T]; R],
    queries: [&[f32]; Q],
) -> [[S::F32; R]; Q] {
    let rows = rows.map(|x| x.as_chunks::<LANES>());
    let queries = queries.map(|x| x.as_chunks::<LANES>());
    let n = rows[0].0.len();
    // One slice length for all: the loop then needs no check of its own.
    let (row_words, query_words) = (rows.map(|x| &x.0[..n]), queries.map(|x| &x.0[..n]));
    let mut sums = [[s.splat(0.0); R]; Q];
    for w in 0..n {
        let mut x = [s.splat(0.0); R];
        for i in 0..R {
            x[i] = T::load(s, &row_words[i][w]);
        }
        for j in 0..Q {
            let q = s.load(&query_words[j][w]);
            for i in 0..R {
                sums[j][i] = s.fma(x[i], q, sums[j][i]);
            }
        }
    }
    if !rows[0].1.is_empty() {
        for j in 0..Q {
            let q = s.load_tail(queries[j].1, 0.0);
            for i in 0..R {
                sums[j][i] = s.fma(T::load_tail(s, rows[i].1), q, sums[j][i]);
            }
        }
    }
    sums
}

/// Rows asked for ahead where they are not side by side.
const AHEAD: usize = 4;

/// One query: sixteen rows to a word of results. Rows side by side are taken one after the other, so that memory is
/// read in its order: a row's one chain a lane is done before the next has come.
#[inline(always)]
fn one<S: Simd, T: Stored>(s: S, rows: Rows<T>, query: &[f32], out: &mut [f32]) {
    let n = out.len();
    for (b, out) in out.chunks_mut(LANES).enumerate() {
        let mut lanes = [s.splat(0.0); LANES];
        if let Which::From(..) = rows.which {
            for r in 0..out.len() {
                let row = rows.row(b * LANES + r);
                if T::NEAR > 0 {
                    let near = row.as_ptr().cast::<u8>().wrapping_add(T::NEAR);
                    for line in (0..size_of_val(row)).step_by(64) {
                        s.prefetch_far(near.wrapping_add(line)); // past the last row nobody reads it
                    }
                }
                [[lanes[r]]] = pairs(s, [row], [query]);
            }
        } else {
            for r in (0..out.len()).step_by(SIDE) {
                let first = b * LANES + r;
                rows.ask(s, first + AHEAD, 0, 1);
                let mut four = [rows.data; SIDE];
                for i in 0..SIDE {
                    four[i] = rows.row((first + i).min(n - 1));
                }
                let [sums] = pairs(s, four, [query]);
                lanes[r..r + SIDE].copy_from_slice(&sums);
            }
        }
        s.store_tail(out, s.sum_rows(lanes));
    }
}
