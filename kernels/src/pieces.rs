//! Products in numbered pieces, each with its own part of C; how many is a matter of the shape alone (clause 6).

use core::ops::Range;

/// Something that can be cut along m and n.
pub trait Cut: Sized {
    /// (m, n, k)
    fn shape(&self) -> (usize, usize, usize);
    /// The first `at` rows and the rest.
    fn split_rows(self, at: usize) -> (Self, Self);
    /// The first `at` columns, a multiple of 16, and the rest.
    fn split_cols(self, at: usize) -> (Self, Self);
}

/// Products below which a part is not cut further: the wake-up of a thread costs as much.
const LEAST: usize = 1 << 22;

/// The same on a matrix unit.
const LEAST_OF_UNITS: usize = 1 << 25;

/// Up to so many rows it is the memory of the weights that binds.
const FEW: usize = 8;
/// Weights of a piece then, at most; and at least, where there are so many.
const READ: usize = 1 << 19;
const READ_LEAST: usize = 1 << 15;

/// Rows of a piece at least, where there are so many: they use a weight often enough once it is read.
const TALL: usize = 48;

/// Rows and columns of a piece of a product (m, n, k). The rows are halved, then the columns, until there are pieces for a
/// handful of threads, or they would grow too small.
///
/// ```
/// use samebits_kernels::pieces::shape;
/// let (rows, cols) = shape((1, 1 << 20, 64)); // one row: parts of the weights
/// assert!(rows == 1 && cols < 1 << 20 && shape((4096, 256, 64)).0 < 4096);
/// ```
pub fn shape((m, n, k): (usize, usize, usize)) -> (usize, usize) {
    if m <= FEW {
        // One pass over the weights, in an even number of equal parts, so that two threads end together; no more than
        // it takes, for what each part asks of memory ahead is the next one's, which another thread may have.
        let parts = n.saturating_mul(k).div_ceil(READ).next_power_of_two().max(2);
        let cols = n.div_ceil(parts).max(READ_LEAST / k.max(1));
        return (m.max(1), cols.max(1).next_multiple_of(64));
    }
    let (mut rows, mut cols, mut pieces) = (m.max(1), n.max(1), 1);
    while pieces < 16 && rows * cols * k > LEAST && rows.max(cols) >= 64 {
        // Each piece prepares its rows of A anew: pieces side by side do the same work twice, those below each other
        // read the same weights, which lie in a near cache. So rows are cut while enough of them remain.
        if rows >= 2 * TALL || cols < 64 {
            rows = rows.div_ceil(2);
        } else {
            cols = cols.div_ceil(2);
        }
        pieces *= 2;
    }
    (rows.next_multiple_of(12), cols.next_multiple_of(64))
}

/// The same where a matrix unit may multiply, for which work that another instruction would take a millisecond for is a
/// small piece: fewer, whose rows fill its tiles and use a panel often enough once it is near.
///
/// ```
/// use samebits_kernels::pieces::for_units;
/// assert_eq!((for_units((512, 512, 512)), for_units((4096, 4096, 4096))), ((128, 512), (512, 4096)));
/// ```
pub fn for_units((m, n, k): (usize, usize, usize)) -> (usize, usize) {
    if m <= FEW {
        return shape((m, n, k));
    }
    let (mut rows, mut cols, mut pieces) = (m, n.max(1), 1);
    while pieces < 8 && rows * cols * k > LEAST_OF_UNITS && (rows >= 192 || cols >= 128) {
        if rows >= 512 || rows >= 192 && cols < 1024 {
            rows = rows.div_ceil(2);
        } else {
            cols = cols.div_ceil(2);
        }
        pieces *= 2;
    }
    (rows.next_multiple_of(32), cols.next_multiple_of(64))
}

/// Numbered pieces, to be run in any order on any threads.
///
/// ```
/// use samebits_kernels::gemm::{Gemm, Strided};
/// use samebits_kernels::pieces::{Cut, Pieces};
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// let (a, b, mut c) = (vec![1.0; 500 * 64], vec![2.0; 64 * 500], vec![0.0; 500 * 500]);
/// let whole = Gemm::new(MatRef::new(&a, 500, 64), Strided(MatRef::new(&b, 64, 500)), MatMut::new(&mut c, 500, 500));
/// let mut scratch = vec![Line::ZERO; whole.scratch_len()];
/// let pieces: Pieces<Gemm<_>> = whole.pieces();
/// let mut pieces: Vec<_> = pieces.collect();
/// assert!(pieces.len() > 1 && pieces[0].shape().2 == 64); // k is never cut
/// pieces.reverse(); // any order, any threads
/// pieces.into_iter().for_each(|piece| piece.run(Cpu::detect(), &mut scratch));
/// assert!(c.iter().all(|&c| c == 128.0));
/// ```
pub struct Pieces<J> {
    rows: usize,
    cols: usize,
    /// Rows not yet begun.
    below: Option<J>,
    /// What is left of the band of rows that is being handed out.
    band: Option<J>,
}

impl<J: Cut> Pieces<J> {
    pub(crate) fn for_units(job: J) -> Self {
        let shape = for_units(job.shape());
        Pieces::of(job, shape)
    }

    /// Pieces of at most so many rows and columns, these a multiple of 16.
    pub const fn of(job: J, (rows, cols): (usize, usize)) -> Self {
        Pieces { rows, cols, below: Some(job), band: None }
    }
}

impl<J: Cut> Iterator for Pieces<J> {
    type Item = J;

    fn next(&mut self) -> Option<J> {
        if self.band.is_none() {
            let below = self.below.take()?;
            let m = below.shape().0;
            if m > self.rows {
                let (band, rest) = below.split_rows(self.rows);
                (self.band, self.below) = (Some(band), Some(rest));
            } else {
                self.band = Some(below);
            }
        }
        let band = self.band.take()?;
        if band.shape().1 <= self.cols {
            return Some(band);
        }
        let (piece, rest) = band.split_cols(self.cols);
        self.band = Some(rest);
        Some(piece)
    }
}

/// The tiles of a product of `m` rows and `panels` panels: row, panel, and (rows, panels) of each. `np` panels stay while
/// all rows pass them, the last ones one by one; `rows` says how tall a tile is for so many rows that are left.
pub(crate) fn tiles(
    (m, rows): (usize, impl Fn(usize) -> usize),
    (panels, np): (usize, usize),
) -> impl Iterator<Item = (usize, usize, (usize, usize))> {
    let (mut r, mut p) = (0, 0);
    core::iter::from_fn(move || {
        if m == 0 || p >= panels {
            return None;
        }
        let beside = if p + np <= panels { np } else { 1 };
        let tile = (r, p, (rows(m - r), beside));
        r += tile.2.0;
        if r >= m {
            (r, p) = (0, p + beside);
        }
        Some(tile)
    })
}

/// The parts of a product whose rows are prepared at once, at most `rows` of the m and `depth` of the k steps: all steps of
/// some rows, then the next rows. Where there are no steps each has none.
pub(crate) fn strips(
    (m, rows): (usize, usize),
    (k, depth): (usize, usize),
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let (mut r, mut k0) = (0, 0);
    core::iter::from_fn(move || {
        if r >= m {
            return None;
        }
        let strip = (r..(r + rows).min(m), k0..(k0 + depth).min(k));
        k0 = strip.1.end;
        if k0 == k {
            (r, k0) = (strip.0.end, 0);
        }
        Some(strip)
    })
}
