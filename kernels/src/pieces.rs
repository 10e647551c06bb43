//! Products in numbered pieces, each with its own part of C; how many is a matter of the shape alone (clause 6).

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

/// Numbered pieces, to be run in any order on any threads.
pub struct Pieces<J> {
    rows: usize,
    cols: usize,
    /// Rows not yet begun.
    below: Option<J>,
    /// What is left of the band of rows that is being handed out.
    band: Option<J>,
}

impl<J: Cut> Pieces<J> {
    /// Halves the longer side until there are pieces for a handful of threads, or they would grow too small.
    pub(crate) fn new(job: J) -> Self {
        let (m, n, k) = job.shape();
        let (mut rows, mut cols, mut pieces) = (m.max(1), n.max(1), 1);
        while pieces < 16 && rows * cols * k > LEAST && rows.max(cols) >= 64 {
            // Each piece prepares its rows of A anew, so columns are cut sooner than rows.
            if rows >= 2 * cols {
                rows = rows.div_ceil(2);
            } else {
                cols = cols.div_ceil(2);
            }
            pieces *= 2;
        }
        Pieces::of(job, (rows.next_multiple_of(12), cols.next_multiple_of(64)))
    }

    /// Pieces of at most so many rows and columns, these a multiple of 16.
    pub(crate) const fn of(job: J, (rows, cols): (usize, usize)) -> Self {
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
