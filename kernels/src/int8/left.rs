//! Rows of A as tiles read them, copied once for all columns: the words of [`Quads::split`], zeros where k ends, and
//! what the sums of each block start with.
//!
//! ```text
//!   a row of 1,024 codes     ──►   │ 256 words │ 256 words, of a table that takes two │ 32 starts │ 32 scales │ (32 more)
//!   the next                       │ …          an odd number of lines a row, so that rows lie in different sets of L1
//! ```
//! What is more: of weights with a scale each 16, what the second halves of blocks start with; of weights with minima,
//! what these are multiplied with, scale × Σ of the block's codes.

use super::codes::{BLOCK, Codes};
use super::scaling::Scaling;
use super::tiles;
use crate::line::bytes;
use crate::simd::quads::{QuadKernel, Quads};
use crate::simd::{Simd, quads::Halves};
use crate::view::MatRef;
use crate::{LANES, Line};

/// Rows that are prepared at once: what stays in L2, a multiple of every tile.
pub(super) const ROWS: usize = 96;
/// k that is prepared at once, whole blocks of 256: of few rows so much that a column's weights are read in one run.
pub(super) const fn depth(m: usize) -> usize {
    if m <= 8 { 8192 } else { 2048 }
}
/// Codes of a word.
const GROUP: usize = 4 * LANES;

/// What a row has of each block besides words, a start and a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Nothing,
    /// What its second half starts with.
    Halves,
    /// Its scale × the sum of its codes.
    Sums,
}

impl More {
    /// What products with such codes read.
    pub(super) const fn of<C: Codes>() -> More {
        match (C::Scales::PARTS, C::Scales::MINIMA) {
            (1, false) => More::Nothing,
            (1, true) => More::Sums,
            (2, false) => More::Halves,
            _ => panic!("halves with minima have no place in a row"),
        }
    }
}

/// Lines of a row of `k` codes.
const fn row_lines(k: usize, more: More) -> usize {
    let groups = k.div_ceil(GROUP);
    let fields = if matches!(more, More::Nothing) { 2 } else { 3 };
    2 * groups + fields * (2 * groups).div_ceil(LANES) | 1
}

/// Lines of scratch for `m` rows of `k` codes, where `on_tiles` are needed on a matrix unit.
pub(super) const fn scratch_len(m: usize, k: usize, more: More, on_tiles: usize) -> usize {
    let (rows, most) = (if m < ROWS { m } else { ROWS }, depth(m));
    let lines = rows * row_lines(if k < most { k } else { most }, more);
    if m < tiles::LEAST_ROWS || on_tiles < lines { lines } else { on_tiles }
}

/// What [`Prepare`] wrote.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    room: &'a [Line],
    rows: usize,
    k: usize,
}

/// A prepared row: eight words a block, twice (the same where a table takes one), what the sums of its blocks start
/// with, their scales, and what [`More`] says: as integers, and as floats.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub words: [&'a [[i32; 8]]; 2],
    pub starts: &'a [i32],
    pub scales: &'a [f32],
    pub halves: &'a [i32],
    pub sums: &'a [f32],
}

impl Row<'_> {
    /// The same of `blocks` blocks, in a way that the compiler sees: no check, and so no way out, inside a loop over them.
    #[inline(always)]
    pub(super) fn of(&mut self, blocks: usize, more: More) {
        let third = if more == More::Nothing { 0 } else { blocks };
        for words in &mut self.words {
            *words = &words[..blocks];
        }
        (self.starts, self.scales) = (&self.starts[..blocks], &self.scales[..blocks]);
        (self.halves, self.sums) = (&self.halves[..third], &self.sums[..third]);
    }
}

impl<'a> Left<'a> {
    /// `rows` (at most [`ROWS`]) of k codes (at most [`depth`]) in `room`, of [`scratch_len`].
    pub(super) fn new(room: &'a [Line], rows: usize, k: usize) -> Self {
        Left { room, rows, k }
    }

    /// Blocks of k.
    #[inline(always)]
    pub(super) fn blocks(&self) -> usize {
        self.k.div_ceil(BLOCK)
    }

    /// Row `r`, or the last where there are not so many; `more` as it was prepared.
    #[inline(always)]
    pub(super) fn row(&self, r: usize, more: More) -> Row<'a> {
        let (lines, groups) = (row_lines(self.k, more), self.k.div_ceil(GROUP));
        let row = &self.room[r.min(self.rows - 1) * lines..][..lines];
        let (planes, rest) = row.split_at(2 * groups);
        let (even, odd) = Line::elements(planes).split_at(groups * LANES);
        let field = (2 * groups).div_ceil(LANES);
        let (starts, rest) = rest.split_at(field);
        let (scales, last) = rest.split_at(field);
        let blocks = self.blocks();
        let [even, odd] = [even.as_chunks().0, odd.as_chunks().0];
        let third = if more == More::Nothing { 0 } else { blocks };
        Row {
            words: [&even[..blocks], &odd[..blocks]],
            starts: &Line::elements(starts)[..blocks],
            scales: &Line::floats(scales)[..blocks],
            halves: &Line::elements(last)[..third],
            sums: &Line::floats(last)[..third],
        }
    }
}

/// Prepares `a` (at most [`ROWS`], at most [`depth`]) for weights whose code `zero` stands for 0.
pub(super) struct Prepare<'a, 'o> {
    pub a: MatRef<'a, i8>,
    /// A scale a block, where there are any.
    pub scales: Option<MatRef<'a>>,
    pub zero: i32,
    pub more: More,
    pub room: &'o mut [Line],
}

impl QuadKernel for Prepare<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) {
        let Prepare { a, scales, zero, more, room } = self;
        let (k, lines, taken) = (a.cols(), row_lines(a.cols(), more), Q::TAKEN - zero);
        let groups = k.div_ceil(GROUP);
        for (r, row) in room.chunks_exact_mut(lines).take(a.rows()).enumerate() {
            let (planes, rest) = row.split_at_mut(2 * groups);
            let (even, odd) = Line::elements_mut(planes).as_chunks_mut::<LANES>().0.split_at_mut(groups);
            let (starts, rest) = rest.split_at_mut((2 * groups).div_ceil(LANES));
            let starts = Line::elements_mut(starts).as_chunks_mut::<2>().0;
            let (of_blocks, last) = rest.split_at_mut((2 * groups).div_ceil(LANES));
            let (of_blocks, last) = (Line::floats_mut(of_blocks), Line::elements_mut::<i32>(last));
            if let Some(scales) = scales {
                for (b, scale) in of_blocks[..scales.cols()].iter_mut().enumerate() {
                    *scale = scales.get(r, b);
                }
            }
            let (mut total, row) = (s.splat_i(0), a.row(r).map(bytes));
            let places = even.iter_mut().zip(odd).zip(&mut *starts);
            for (g, ((even, odd), starts)) in places.enumerate().take(groups) {
                let codes = match row.and_then(|row| row[g * GROUP..].first_chunk()) {
                    Some(group) => s.load_bytes(group),
                    None => s.load_bytes(&codes(a, r, g * GROUP)),
                };
                let words = q.split(s, codes);
                s.store_i(even, words[0]);
                s.store_i(odd, words[1]);
                let quads = sums(s, codes);
                if scales.is_none() {
                    (*starts, total) = ([0; 2], s.add_i(total, quads));
                    continue;
                }
                let quarters = quarters(s, quads);
                for (i, &[first, second]) in quarters.as_chunks::<2>().0.iter().enumerate() {
                    let sum = first + second;
                    starts[i] = taken * if more == More::Halves { first } else { sum };
                    match more {
                        More::Nothing => {}
                        More::Halves => last[2 * g + i] = taken * second,
                        // Of a last group with one block the second goes where nobody reads.
                        More::Sums => {
                            last[2 * g + i] = (of_blocks[2 * g + i] * sum as f32).to_bits() as i32;
                        }
                    }
                }
            }
            // Where no scale parts them, blocks start with one sum.
            if scales.is_none() && groups > 0 {
                starts[0][0] = taken * quarters(s, total).iter().sum::<i32>();
            }
        }
    }
}

/// A word of 64 codes of row `r` from column `k` on, zeros behind the last and where there is no such row.
#[inline(always)]
pub(super) fn load_codes<S: Simd>(s: S, a: MatRef<'_, i8>, r: usize, k: usize) -> S::I32 {
    let row = if r < a.rows() { a.row(r) } else { None };
    if let Some(here) = row.and_then(|row| bytes(&row[k..]).first_chunk()) {
        return s.load_bytes(here);
    }
    let rest = if r < a.rows() { codes(a, r, k) } else { [0; 64] };
    s.load_bytes(&rest)
}

/// `N` codes of row `r` from column `k` on, zeros behind the last.
#[inline(always)]
pub(super) fn codes<const N: usize>(a: MatRef<'_, i8>, r: usize, k: usize) -> [u8; N] {
    let mut group = [0; N];
    let n = N.min(a.cols() - k);
    match a.row(r).map(|row| bytes(&row[k..k + n])) {
        Some(codes) => match codes.first_chunk() {
            Some(codes) => group = *codes,
            None => group[..n].copy_from_slice(codes),
        },
        None => {
            for (i, x) in group[..n].iter_mut().enumerate() {
                *x = a.get(r, k + i) as u8;
            }
        }
    }
    group
}

/// The sums of four codes each.
#[inline(always)]
pub(super) fn sums<S: Simd>(s: S, codes: S::I32) -> S::I32 {
    let ones = s.splat_i(0x0001_0001);
    let [even, odd] = Quads::<S>::split(Halves, s, codes);
    s.dot_halves(even, ones, s.dot_halves(odd, ones, s.splat_i(0)))
}

/// The sums of four lanes each: of the halves of both blocks of a group.
#[inline(always)]
fn quarters<S: Simd>(s: S, sums: S::I32) -> [i32; 4] {
    let mut lanes = [0; LANES];
    s.store_i(&mut lanes, sums);
    let mut quarters = [0; 4];
    for (quarter, lanes) in quarters.iter_mut().zip(lanes.as_chunks::<4>().0) {
        *quarter = lanes.iter().sum();
    }
    quarters
}
