//! What follows the sum, while the tile is still in L1: + bias, then the activation, then + residual, then + a product
//! of low rank.

use super::low_rank::{self, LowRank, LowRankTile};
use super::{Accumulate, K_BLOCK};
use crate::activation::Activation;
use crate::simd::Simd;
use crate::simd::tiles::WIDE;
use crate::view::{MatMut, MatRef};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// What follows the sum, in this order: each an operation rounded once a element.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// Added to every row, (n).
    pub bias: Option<&'a [f32]>,
    /// Applied to the biased sum.
    pub activation: Activation,
    /// Added next, (m, n), any strides.
    pub residual: Option<MatRef<'a>>,
    /// Added last: what an adapter of low rank changes.
    pub low_rank: Option<LowRank<'a>>,
}

impl<'a> Epilogue<'a> {
    /// The sum as it is.
    pub const NONE: Epilogue<'static> =
        Epilogue { bias: None, activation: Activation::Identity, residual: None, low_rank: None };

    pub(crate) fn check(&self, m: usize, n: usize) {
        if let Some(bias) = self.bias {
            assert!(bias.len() == n, "gemm: bias of {} for n = {n}", bias.len());
        }
        if let Some(r) = self.residual {
            assert!(
                (r.rows(), r.cols()) == (m, n),
                "gemm: residual ({}, {}) for C ({m}, {n})",
                r.rows(),
                r.cols()
            );
        }
        if let Some(low) = &self.low_rank {
            low.check(m, n);
        }
    }

    /// Of the elements in `rows` and `cols`.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn sub(&self, rows: Range<usize>, cols: Range<usize>) -> Epilogue<'a> {
        Epilogue {
            bias: self.bias.map(|b| &b[cols.clone()]),
            activation: self.activation,
            residual: self.residual.map(|r| r.sub(rows.clone(), cols.clone())),
            low_rank: self.low_rank.map(|low| low.sub(rows, cols)),
        }
    }

    /// The bias of the two panels from column `col` on, where nothing else follows; +0 for none.
    pub(crate) fn bias_alone(&self, col: usize) -> Option<[Line; WIDE]> {
        if !(Epilogue { bias: None, ..*self }.is_none()) {
            return None;
        }
        let mut lines = [Line::ZERO; WIDE];
        if let Some(bias) = self.bias {
            let here = &bias[col..bias.len().min(col + WIDE * LANES)];
            Line::floats_mut(&mut lines)[..here.len()].copy_from_slice(here);
        }
        Some(lines)
    }

    pub(super) fn is_none(&self) -> bool {
        self.bias.is_none()
            && self.activation == Activation::Identity
            && self.residual.is_none()
            && self.low_rank.is_none()
    }

    /// All but the low rank, applied to the sums at row `r`, columns `cols` (at most 16).
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, r: usize, cols: Range<usize>, sum: S::F32) -> S::F32 {
        let mut v = sum;
        if let Some(bias) = self.bias {
            v = s.add(v, load(s, &bias[cols.clone()]));
        }
        v = self.activation.apply(s, v);
        if let Some(residual) = self.residual {
            v = s.add(v, load_at(s, residual, r, cols));
        }
        v
    }
}

/// The panels of a tile: how many, and the columns from one to the next.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    pub np: usize,
    pub stride: usize,
}

impl Panels {
    /// `np` panels, side by side.
    #[inline(always)]
    pub(crate) const fn beside(np: usize) -> Panels {
        Panels { np, stride: LANES }
    }
}

/// Where sums of a tile go to, and what they are added to.
pub(crate) struct Target<'t, 'a> {
    pub c: &'t mut MatMut<'a>,
    /// Where the block sums before these are: in C (or C is added to), or nowhere.
    pub base: Accumulate,
    /// Whether these are the last block sums of k: then the epilogue follows.
    pub last: Option<&'t Epilogue<'a>>,
}

impl<'t, 'a> Target<'t, 'a> {
    /// The product of low rank that is to be added, with what comes before it.
    #[inline(always)]
    fn low_rank(&self) -> Option<(&'t Epilogue<'a>, &'t LowRank<'a>)> {
        self.last.and_then(|epilogue| epilogue.low_rank.as_ref().map(|low| (epilogue, low)))
    }

    /// The same, where it is one block and all that follows.
    #[inline(always)]
    pub(super) fn low_rank_alone(&self) -> Option<&'t LowRank<'a>> {
        let (epilogue, low) = self.low_rank()?;
        let alone = Epilogue { low_rank: None, ..*epilogue }.is_none();
        (alone && low.h.cols() <= K_BLOCK).then_some(low)
    }

    /// Whether nothing follows the sums on their way to C.
    #[inline(always)]
    pub(super) fn ends_here(&self) -> bool {
        self.last.is_none_or(Epilogue::is_none)
    }

    /// Whether all columns up to `end` are there, side by side, and what follows the sums looks at one element of each.
    fn takes_whole(&self, end: usize) -> bool {
        let beside = |m: MatRef<'_>| m.col_stride() == 1;
        let after = self.last.is_none_or(|e| e.low_rank.is_none() && e.residual.is_none_or(beside));
        after && end <= self.c.cols() && self.c.col_stride() == 1
    }

    /// What the block sums of a tile are added to: +0, or what C holds.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(&self, s: S, (r, col): (usize, usize), panels: Panels, sums: &mut [Line]) {
        if self.base == Accumulate::Overwrite {
            return sums.fill(Line::ZERO);
        }
        let (Panels { np, stride }, c) = (panels, self.c.as_ref());
        let (rows, cols) = (c.rows(), c.cols());
        let height = sums.len() / np;
        for (i, sums) in sums.chunks_exact_mut(np).enumerate() {
            let r = r + i;
            for (p, sum) in sums.iter_mut().enumerate() {
                let col = col + p * stride;
                *sum = Line::ZERO;
                if r < rows && col < cols {
                    s.store(sum, load_at(s, c, r, col..(col + LANES).min(cols)));
                }
            }
            // The rows that follow are begun when this band is done: they come from memory meanwhile.
            if let Some(row) = (r + height < rows).then(|| c.row(r + height)).flatten() {
                for p in 0..np {
                    s.prefetch_far(row.as_ptr().wrapping_add(col + p * stride));
                }
            }
        }
    }

    /// One line of at most 16 columns; `sum` already holds +0 or what C held.
    #[inline(always)]
    fn finish_line<S: Simd>(&mut self, s: S, r: usize, cols: Range<usize>, sum: S::F32) {
        let v = match self.last {
            Some(epilogue) => epilogue.apply(s, r, cols.clone(), sum),
            None => sum,
        };
        self.put(s, r, cols, v);
    }

    /// The same for four rows from `r` on, with the low rank; `sums` are `np` lines apart.
    #[inline(always)]
    fn finish_low_rank<S: Simd>(
        &mut self,
        s: S,
        (epilogue, low): (&Epilogue<'_>, &LowRank<'_>),
        (r, cols): (usize, Range<usize>),
        (sums, np): (&[Line], usize),
    ) {
        let mut lines = [Line::ZERO; low_rank::ROWS];
        let here = sums.iter().step_by(np).zip(r..self.c.rows());
        for (line, (sum, r)) in lines.iter_mut().zip(here.clone()) {
            let v = epilogue.apply(s, r, cols.clone(), s.load(sum));
            s.store(line, v);
        }
        low.add(s, (r, cols.start), &mut lines);
        for (line, (_, r)) in lines.iter().zip(here) {
            self.put(s, r, cols.clone(), s.load(line));
        }
    }

    /// `v` to its place in C.
    #[inline(always)]
    fn put<S: Simd>(&mut self, s: S, r: usize, cols: Range<usize>, v: S::F32) {
        match self.c.row(r) {
            Some(row) => {
                let place = &mut row[cols];
                match place.first_chunk_mut() {
                    Some(line) => s.store(line, v),
                    None => s.store_tail(place, v),
                }
            }
            None => {
                let v = s.to_array(v);
                for (c, v) in cols.zip(v) {
                    *self.c.at(r, c) = v;
                }
            }
        }
    }
}

/// Rows of a tile that a product of low rank is added to at once: sixteen sums in registers hide an FMA's latency.
const LOW_ROWS: usize = 8;

/// [`Finish`] of the sums of a matrix unit, at most [`TALL`](crate::simd::tiles::TALL) rows: whole rows of C at once where that can be.
pub(crate) struct FinishProducts<'f, 't, 'a> {
    pub target: &'f mut Target<'t, 'a>,
    /// Row and column of C.
    pub at: (usize, usize),
    pub sums: &'f [[Line; WIDE]],
}

impl Kernel for FinishProducts<'_, '_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let FinishProducts { target, mut at, mut sums } = self;
        if let Some(low) = target.low_rank_alone() {
            while let Some((tile, rest)) = sums.split_first_chunk()
                && let Some(mut place) = target.c.part(at, (LOW_ROWS, WIDE * LANES))
            {
                s.outline(LowRankTile::<LOW_ROWS, WIDE> { low, at, sums: tile, place: &mut place });
                (at.0, sums) = (at.0 + LOW_ROWS, rest);
            }
            if at.0 >= target.c.rows() || sums.is_empty() {
                return;
            }
        }
        let cols = at.1..at.1 + WIDE * LANES;
        if !target.takes_whole(cols.end) {
            return Finish { target, at, panels: Panels::beside(WIDE), sums: sums.as_flattened() }.run(s);
        }
        let epilogue = target.last.unwrap_or(&Epilogue::NONE);
        let bias = epilogue.bias.map(|bias| two_lines(&bias[cols.clone()]));
        let rows = target.c.rows();
        for (r, sums) in (at.0..rows).zip(sums) {
            let residual = epilogue.residual.and_then(|m| m.row(r)).map(|row| two_lines(&row[cols.clone()]));
            let Some(row) = target.c.row(r) else { return };
            let place = &mut row[cols.clone()];
            for (p, place) in place.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let mut v = s.load(&sums[p]);
                if let Some(bias) = &bias {
                    v = s.add(v, s.load(&bias[p]));
                }
                v = epilogue.activation.apply(s, v);
                if let Some(residual) = &residual {
                    v = s.add(v, s.load(&residual[p]));
                }
                s.store(place, v);
            }
        }
    }
}

/// Two lines of columns.
#[inline(always)]
fn two_lines(x: &[f32]) -> &[[f32; LANES]] {
    x.as_chunks().0
}

/// [`Target::begin`] as a function of its own.
pub(crate) struct Begin<'f, 't, 'a> {
    pub target: &'f Target<'t, 'a>,
    /// Row and column of C.
    pub at: (usize, usize),
    pub panels: Panels,
    pub sums: &'f mut [Line],
}

impl Kernel for Begin<'_, '_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.target.begin(s, self.at, self.panels, self.sums);
    }
}

/// Sends the finished sums of a tile, `np` lines a row, through the epilogue to C.
pub(crate) struct Finish<'f, 't, 'a> {
    pub target: &'f mut Target<'t, 'a>,
    /// Row and column of C.
    pub at: (usize, usize),
    pub panels: Panels,
    pub sums: &'f [Line],
}

impl Kernel for Finish<'_, '_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Finish { target, at: (r, col), panels: Panels { np, stride }, sums } = self;
        let cols_of = |p: usize, cols: usize| col + p * stride..(col + p * stride + LANES).min(cols);
        if let Some((epilogue, low)) = target.low_rank() {
            for (i, sums) in sums.chunks(low_rank::ROWS * np).enumerate() {
                for p in 0..np {
                    let cols = cols_of(p, target.c.cols());
                    let r = r + i * low_rank::ROWS;
                    if cols.start < cols.end && r < target.c.rows() {
                        target.finish_low_rank(s, (epilogue, low), (r, cols), (&sums[p..], np));
                    }
                }
            }
            return;
        }
        let rows = target.c.rows() - r;
        for (i, sums) in sums.chunks_exact(np).take(rows).enumerate() {
            for (p, sum) in sums.iter().enumerate() {
                let cols = cols_of(p, target.c.cols());
                if cols.start >= cols.end {
                    break;
                }
                target.finish_line(s, r + i, cols, s.load(sum));
            }
        }
    }
}

/// Up to sixteen floats, then +0.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::F32 {
    match x.first_chunk() {
        Some(line) => s.load(line),
        None => s.load_tail(x, 0.0),
    }
}

/// Row `r`, columns `cols` (at most 16), then +0.
#[inline(always)]
pub(crate) fn load_at<S: Simd>(s: S, m: MatRef<'_>, r: usize, cols: Range<usize>) -> S::F32 {
    match m.row(r) {
        Some(row) => load(s, &row[cols]),
        None => {
            let mut line = [0.0; LANES];
            for (x, c) in line.iter_mut().zip(cols) {
                *x = m.get(r, c);
            }
            s.load(&line)
        }
    }
}
