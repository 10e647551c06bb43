//! The k best rows of every query, by looking at every row.
//!
//! ```text
//!   rows      ├──── piece ────┼──── piece ────┼── …      cut by shape; each piece has its own k best of each query
//!   piece     ├ block ┼ block ┼ …                       a block's scores, for all queries, then to their heaps
//!   at last   the pieces' best of a query, put in order
//! ```

use super::rows::RowSet;
use super::stored::VectorsRef;
use crate::kernels::dot::dot_rows;
use crate::kernels::topk::{Best, Places};
use crate::kernels::view::MatRef;
use crate::run::Run;
use crate::{Cpu, Result};
use std::cmp::Ordering;
use std::ops::Range;

/// Rows of a piece.
const PIECE: usize = 1 << 14;
/// Rows whose scores are computed at a time.
const BLOCK: usize = 128;
/// Queries of a piece, at most.
const QUERIES: usize = 64;

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'s> {
    /// Rows wanted of each query: so many come, where there are so many.
    pub k: usize,
    /// The rows among which they are, as if there were no others; `None`: all.
    pub wanted: Option<&'s RowSet>,
}

impl<'s> Search<'s> {
    /// The k best of all.
    pub fn new(k: usize) -> Search<'s> {
        Search { k, wanted: None }
    }
}

/// A row that was found: its place in the order of ties, itself, its score.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub place: u32,
    pub row: u32,
    pub score: f32,
}

impl Found {
    /// Greater scores first, then lower places; the sign of zero does not count. A score that is no number, as only bytes
    /// that were changed can give, comes last.
    pub fn order(a: &Found, b: &Found) -> Ordering {
        let key = |f: &Found| if f.score.is_nan() { f32::NEG_INFINITY } else { f.score + 0.0 };
        key(b).total_cmp(&key(a)).then(a.place.cmp(&b.place))
    }
}

impl VectorsRef<'_> {
    /// The k best rows and their scores, the best first, of each of `queries`, (n, dim).
    ///
    /// # Errors
    /// Where the queries are not (n, dim), or not finite.
    ///
    /// # Panics
    /// Where the wanted rows are some of another number of rows.
    pub fn search(
        &self,
        run: &Run<'_>,
        queries: &[f32],
        search: &Search<'_>,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        self.search_ranked(run, queries, search, None)
    }

    /// [`VectorsRef::search`]; of rows with equal scores the one of the lower rank comes first.
    pub(super) fn search_ranked(
        &self,
        run: &Run<'_>,
        queries: &[f32],
        search: &Search<'_>,
        rank: Option<&[u32]>,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        let queries = self.prepare(run.cpu(), queries)?;
        let found = self.scan(run, &queries, search, rank);
        let plain = |found: Vec<Found>| found.into_iter().map(|f| (f.row, f.score + 0.0)).collect();
        Ok(found.into_iter().map(plain).collect())
    }

    /// [`VectorsRef::search_ranked`] with prepared queries.
    fn scan(
        &self,
        run: &Run<'_>,
        queries: &[f32],
        search: &Search<'_>,
        rank: Option<&[u32]>,
    ) -> Vec<Vec<Found>> {
        if let Some(wanted) = search.wanted {
            assert!(wanted.of() == self.count, "a set of {} rows, {} vectors", wanted.of(), self.count);
        }
        let dim = self.form.dim;
        let mut best = vec![Vec::new(); queries.len() / dim];
        for (queries, best) in queries.chunks(QUERIES * dim).zip(best.chunks_mut(QUERIES)) {
            let n = best.len();
            let mut found: Vec<Vec<Found>> = vec![Vec::new(); n * self.count.div_ceil(PIECE)];
            let piece = Piece { vectors: self, queries, search, rank, cpu: run.cpu() };
            run.pieces(found.chunks_mut(n).enumerate(), |(p, found), _| {
                piece.run(p * PIECE..self.count.min((p + 1) * PIECE), found);
            });
            for (i, found) in found.into_iter().enumerate() {
                best[i % n].extend(found);
            }
            for best in best {
                best.sort_unstable_by(Found::order);
                best.truncate(search.k);
            }
        }
        if let Some(rank) = rank {
            let mut row_of = vec![0; rank.len()];
            rank.iter().zip(0..).for_each(|(&place, row)| row_of[place as usize] = row);
            best.iter_mut().flatten().for_each(|found| found.row = row_of[found.place as usize]);
        }
        best
    }
}

/// Some rows for some queries.
struct Piece<'a> {
    vectors: &'a VectorsRef<'a>,
    /// Prepared, (n, dim).
    queries: &'a [f32],
    search: &'a Search<'a>,
    rank: Option<&'a [u32]>,
    cpu: Cpu,
}

impl Piece<'_> {
    /// The best of `rows` for each query, in any order.
    fn run(&self, rows: Range<usize>, found: &mut [Vec<Found>]) {
        let matches = match self.search.wanted {
            Some(wanted) => wanted.among(rows.clone()).count(),
            None => rows.len(),
        };
        let (n, k) = (found.len(), self.search.k.min(matches));
        if k == 0 {
            return;
        }
        let (mut values, mut places) = (vec![0.0; n * k], vec![0; n * k]);
        let heaps = values.chunks_mut(k).zip(places.chunks_mut(k));
        let mut heaps: Vec<Best> = heaps.map(|(values, places)| Best::new(values, places)).collect();
        let mut block = Block::default();
        for start in rows.clone().step_by(BLOCK) {
            self.block(start..rows.end.min(start + BLOCK), &mut block, &mut heaps);
        }
        for best in heaps {
            best.finish();
        }
        for (i, found) in found.iter_mut().enumerate() {
            let of = i * k..(i + 1) * k;
            let pairs = values[of.clone()].iter().zip(&places[of]);
            found.extend(pairs.map(|(&score, &place)| Found { place, row: place, score }));
        }
    }

    /// Scores the rows of a block and offers those that are wanted.
    fn block(&self, rows: Range<usize>, block: &mut Block, heaps: &mut [Best]) {
        if self.search.wanted.is_none() && self.rank.is_none() {
            self.score(rows.clone(), block);
            for (scores, best) in block.scores.chunks(rows.len()).zip(heaps) {
                best.offer(self.cpu, scores, Places::From(rows.start as u32));
            }
            return;
        }
        block.chosen.clear();
        match self.search.wanted {
            Some(wanted) => block.chosen.extend(wanted.among(rows.clone())),
            None => block.chosen.extend(rows.start as u32..rows.end as u32),
        }
        if block.chosen.is_empty() {
            return;
        }
        self.score(rows.clone(), block);
        block.places.clear();
        let place = |&row: &u32| self.rank.map_or(row, |rank| rank[row as usize]);
        block.places.extend(block.chosen.iter().map(place));
        for (scores, best) in block.scores.chunks_mut(rows.len()).zip(heaps) {
            // Those that are wanted move to the front: none comes to stand behind where it was.
            for (i, &row) in block.chosen.iter().enumerate() {
                scores[i] = scores[row as usize - rows.start];
            }
            best.offer(self.cpu, &scores[..block.chosen.len()], Places::At(&block.places));
        }
    }

    /// The scores of all rows of a block, (queries, rows).
    fn score(&self, rows: Range<usize>, block: &mut Block) {
        let (dim, n) = (self.vectors.form.dim, rows.len());
        block.scores.resize(self.queries.len() / dim * n, 0.0);
        let floats = MatRef::new(&self.vectors.floats()[rows.start * dim..rows.end * dim], n, dim);
        for (query, scores) in self.queries.chunks(dim).zip(block.scores.chunks_mut(n)) {
            dot_rows(self.cpu, query, floats, scores);
            if self.vectors.form.has_squares() {
                let square = self.vectors.form.square(self.cpu, query);
                for (score, row) in scores.iter_mut().zip(rows.clone()) {
                    *score = self.vectors.form.metric.score(*score, square, self.vectors.squares[row]);
                }
            }
        }
    }
}

/// Memory of a block.
#[derive(Default)]
struct Block {
    /// (queries, rows)
    scores: Vec<f32>,
    /// Rows that are wanted, ascending, and their places.
    chosen: Vec<u32>,
    places: Vec<u32>,
}
