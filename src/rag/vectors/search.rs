//! The k best rows of every query, by looking at every row.
//!
//! ```text
//!   rows      ├──── piece ────┼──── piece ────┼── …      cut by shape; each piece has its own k best of each query
//!   piece     ├ block ┼ block ┼ …                       a block's scores, for all queries, then to their heaps
//!   at last   the pieces' best of a query, put in order
//! ```
//!
//! Codes take two steps. The first finds candidates by approximate scores, as many as [`Search::candidates`] says; the
//! second gives these their scores: the `dot` with the vector that is kept, else with the vector that the codes stand
//! for. Only scores of the second step come out.
//!
//! Many queries go the same way sooner: floats through a sieve first (`sieve.rs`), once there are k; codes as a product of
//! two matrices.

use super::form::Role;
use super::rows::RowSet;
use super::sieve::{Queries as Screened, Sieve};
use super::stored::VectorsRef;
use crate::kernels::Line;
use crate::kernels::dot::dot;
use crate::kernels::int8::{Block8, Codes as _, Eight};
use crate::kernels::search::{Batch, QueryCodes, Which, dots};
use crate::kernels::topk::{Best, Places};
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
///
/// ```
/// use samebits::rag::vectors::{Form, Metric, RowSet, Search, VectorIndex, VectorType, VectorsRef};
/// use samebits::{Cpu, run::Run};
/// let (run, form) = (Run::here(Cpu::detect()), Form::new(2, Metric::Dot)?);
/// assert!(matches!(form.kind(), VectorType::F32));
/// let mut index = VectorIndex::new(form);
/// index.add(run.cpu(), &["a", "b", "c"], &[1.0, 0.0, 0.0, 2.0, 3.0, 3.0])?;
/// let vectors: VectorsRef = index.view();
/// let best = vectors.search(&run, &[1.0, 1.0], &Search::new(2))?;
/// assert_eq!(best[0], [(2, 6.0), (1, 2.0)]);
/// let others = RowSet::new(3, |row| row != 2); // as if there were no row 2
/// let best = vectors.search(&run, &[1.0, 1.0], &Search { wanted: Some(&others), ..Search::new(1) })?;
/// assert_eq!(best[0], [(1, 2.0)]);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Search<'s> {
    /// Rows wanted of each query: so many come, where there are so many.
    pub k: usize,
    /// The rows among which they are, as if there were no others; `None`: all.
    pub wanted: Option<&'s RowSet>,
    /// Where vectors are codes: candidates for each of the k, at least 1; `None`: what
    /// [`VectorType::candidates`](super::VectorType::candidates) says.
    pub candidates: Option<usize>,
}

impl<'s> Search<'s> {
    /// The k best of all.
    pub fn new(k: usize) -> Search<'s> {
        Search { k, wanted: None, candidates: None }
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

    /// The scores of some rows for one query: those that a search gives them.
    ///
    /// # Errors
    /// Where the query is not (dim), or not finite.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn scores(&self, run: &Run<'_>, query: &[f32], rows: &[u32]) -> Result<Vec<f32>> {
        let query = self.form.prepare(run.cpu(), query, 1, Role::Query)?;
        let mut found: Vec<Found> = rows.iter().map(|&row| Found { place: row, row, score: 0.0 }).collect();
        self.rescore(run.cpu(), &query, &mut found);
        Ok(found.into_iter().map(|found| found.score + 0.0).collect())
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
        let keep = match (self.codes(), search.candidates) {
            (Some(_), Some(each)) => search.k.saturating_mul(each.max(1)),
            (Some(_), None) => self.form.kind.candidates(search.k),
            (None, _) => search.k,
        };
        let dim = self.form.dim;
        let mut best = vec![Vec::new(); queries.len() / dim];
        for (queries, best) in queries.chunks(QUERIES * dim).zip(best.chunks_mut(QUERIES)) {
            let prepared = Queries::new(self, run.cpu(), queries);
            let n = best.len();
            let mut found: Vec<Vec<Found>> = vec![Vec::new(); n * self.count.div_ceil(PIECE)];
            let piece = Piece { vectors: self, queries: &prepared, wanted: search.wanted, keep, rank };
            let cpu = run.cpu();
            run.pieces(found.chunks_mut(n).enumerate(), |(p, found), _| {
                piece.run(cpu, p * PIECE..self.count.min((p + 1) * PIECE), found);
            });
            for (i, found) in found.into_iter().enumerate() {
                best[i % n].extend(found);
            }
            best.iter_mut().for_each(|best| first(best, keep));
        }
        if let Some(rank) = rank {
            let mut row_of = vec![0; rank.len()];
            rank.iter().zip(0..).for_each(|(&place, row)| row_of[place as usize] = row);
            best.iter_mut().flatten().for_each(|found| found.row = row_of[found.place as usize]);
        }
        if self.codes().is_some() {
            let cpu = run.cpu();
            run.pieces(queries.chunks(dim).zip(&mut best), |(query, best), _| {
                self.rescore(cpu, query, best);
                first(best, search.k);
            });
        }
        best
    }

    /// Gives rows that were found their scores.
    pub(super) fn rescore(&self, cpu: Cpu, query: &[f32], found: &mut [Found]) {
        let rows: Vec<u32> = found.iter().map(|found| found.row).collect();
        let mut products = vec![0.0; rows.len()];
        self.products(cpu, query, &rows, &mut products);
        let square = if self.form.has_squares() { dot(cpu, query, query) } else { 0.0 };
        for (found, product) in found.iter_mut().zip(products) {
            found.score = self.form.metric.score(product, square, self.square(found.row));
        }
    }
}

/// The first `k` in their order.
pub(super) fn first(found: &mut Vec<Found>, k: usize) {
    if found.len() > k && k > 0 {
        found.select_nth_unstable_by(k - 1, Found::order);
    }
    found.truncate(k);
    found.sort_unstable_by(Found::order);
}

/// Prepared queries, (n, dim), and what they are multiplied as.
struct Queries<'a> {
    floats: &'a [f32],
    /// Of codes: lines of all queries, their scales.
    lines: Vec<Line>,
    scales: Vec<f32>,
    /// (n) under L2, else nothing.
    squares: Vec<f32>,
    /// Of floats, where a sieve pays.
    screened: Option<Screened>,
    /// Of codes, where a product of matrices pays; then there are no lines.
    batch: Vec<Block8>,
}

impl<'a> Queries<'a> {
    fn new(vectors: &VectorsRef<'_>, cpu: Cpu, floats: &'a [f32]) -> Queries<'a> {
        let dim = vectors.form.dim;
        let (n, mut lines, mut squares) = (floats.len() / dim, Vec::new(), Vec::new());
        let (mut scales, mut batch) = (Vec::new(), Vec::new());
        match vectors.codes() {
            Some(codes) if Batch::pays(codes.code, n) => {
                scales.resize(n, 0.0);
                batch.resize(Batch::blocks_len(codes.code, n, dim), Eight::EMPTY);
                let mut room = vec![0; n * Batch::depth(codes.code, dim)];
                Batch::fill(cpu, codes.code, (floats, dim), &mut room, (&mut batch, &mut scales));
            }
            Some(codes) => {
                let per = codes.code.query_lines(dim);
                lines.resize(n * per, Line::ZERO);
                let mut room = vec![0; dim];
                for (query, lines) in floats.chunks(dim).zip(lines.chunks_mut(per)) {
                    scales.push(QueryCodes::fill(cpu, codes.code, query, &mut room, lines));
                }
            }
            None => {}
        }
        if vectors.form.has_squares() {
            squares.extend(floats.chunks(dim).map(|query| dot(cpu, query, query)));
        }
        // Floats that are kept beside codes are not what rows are found by.
        let screened = if vectors.codes().is_none() { Screened::new(cpu, floats, dim) } else { None };
        Queries { floats, lines, scales, squares, screened, batch }
    }
}

/// Some rows for some queries.
struct Piece<'a> {
    vectors: &'a VectorsRef<'a>,
    queries: &'a Queries<'a>,
    wanted: Option<&'a RowSet>,
    /// Rows of each query.
    keep: usize,
    rank: Option<&'a [u32]>,
}

impl Piece<'_> {
    /// The best of `rows` for each query, in any order.
    fn run(&self, cpu: Cpu, rows: Range<usize>, found: &mut [Vec<Found>]) {
        let matches = match self.wanted {
            Some(wanted) => wanted.among(rows.clone()).count(),
            None => rows.len(),
        };
        let (n, k) = (found.len(), self.keep.min(matches));
        if k == 0 {
            return;
        }
        let (mut values, mut places) = (vec![0.0; n * k], vec![0; n * k]);
        let heaps = values.chunks_mut(k).zip(places.chunks_mut(k));
        let mut heaps: Vec<Best> = heaps.map(|(values, places)| Best::new(values, places)).collect();
        let mut room = Room::default();
        let mut sieve = self.queries.screened.as_ref().map(Sieve::new);
        let step = match &sieve {
            Some(_) => Sieve::ROWS,
            None if self.queries.batch.is_empty() => BLOCK,
            None => Batch::ROWS,
        };
        let mut chosen = Vec::new();
        for start in rows.clone().step_by(step) {
            let block = start..rows.end.min(start + step);
            let which = self.wanted(block, &mut chosen);
            if which.is_empty() {
                continue;
            }
            let full = heaps.iter().all(|heap| heap.worst().is_some());
            let sieve = sieve.as_mut().filter(|sieve| full && !sieve.is_coarse());
            match (sieve, self.vectors.floats()) {
                (Some(sieve), Some(floats)) => {
                    let asked = (&*heaps, &*self.queries.squares);
                    let through = sieve.sift(cpu, (self.vectors, floats), which, asked);
                    for (q, rows) in through.iter().enumerate() {
                        self.offer(cpu, Which::At(rows), q..q + 1, &mut room, &mut heaps);
                    }
                }
                _ => self.offer(cpu, which, 0..n, &mut room, &mut heaps),
            }
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

    /// Those of a block of rows that are wanted.
    fn wanted<'r>(&self, rows: Range<usize>, chosen: &'r mut Vec<u32>) -> Which<'r> {
        let Some(wanted) = self.wanted else { return Which::From(rows.start, rows.len()) };
        chosen.clear();
        chosen.extend(wanted.among(rows));
        Which::At(chosen)
    }

    /// Scores some rows for some of the queries, and offers them.
    fn offer(&self, cpu: Cpu, which: Which, queries: Range<usize>, room: &mut Room, heaps: &mut [Best]) {
        let n = which.len();
        if n == 0 {
            return;
        }
        room.scores.resize(queries.len() * n, 0.0);
        self.score(cpu, which, queries.clone(), room);
        room.places.clear();
        let places = match (which, self.rank) {
            (Which::From(start, _), None) => Places::From(start as u32),
            (Which::From(start, n), Some(rank)) => Places::At(&rank[start..start + n]),
            (Which::At(chosen), None) => Places::At(chosen),
            (Which::At(chosen), Some(rank)) => {
                room.places.extend(chosen.iter().map(|&row| rank[row as usize]));
                Places::At(&room.places)
            }
        };
        for (scores, best) in room.scores.chunks(n).zip(&mut heaps[queries]) {
            best.offer(cpu, scores, places);
        }
    }

    /// The scores of some rows, (queries, rows); of codes approximate ones.
    fn score(&self, cpu: Cpu, which: Which, of: Range<usize>, room: &mut Room) {
        let Room { scores, scratch, .. } = room;
        let (Piece { vectors, queries, .. }, form) = (self, self.vectors.form);
        match (vectors.codes(), vectors.floats()) {
            (Some(codes), _) if !queries.batch.is_empty() => {
                let batch = Batch::new((codes.code, form.dim), &queries.batch, &queries.scales);
                let need = Batch::scratch_len(codes.code, queries.scales.len(), form.dim);
                scratch.resize(need, Line::ZERO);
                batch.dots(cpu, &codes, which, scratch, scores);
            }
            (Some(codes), _) => {
                let lines = queries.lines.chunks(codes.code.query_lines(form.dim));
                let all = lines.zip(&queries.scales).map(|(lines, &scale)| QueryCodes { lines, scale });
                let some = all.skip(of.start).take(of.len());
                codes.dots(cpu, which, &some.collect::<Vec<_>>(), scores);
            }
            (None, Some(floats)) => {
                let queries = &queries.floats[of.start * form.dim..of.end * form.dim];
                dots(cpu, floats, which, (queries, form.dim), scores);
            }
            (None, None) => unreachable!("rows are codes or floats"),
        }
        for (scores, &square) in scores.chunks_mut(which.len()).zip(queries.squares.iter().skip(of.start)) {
            for (i, score) in scores.iter_mut().enumerate() {
                *score = form.metric.score(*score, square, vectors.squares[which.get(i)]);
            }
        }
    }
}

/// Memory of a block.
#[derive(Default)]
struct Room {
    /// (queries, rows)
    scores: Vec<f32>,
    /// Places of rows where these are others.
    places: Vec<u32>,
    /// Of a batch.
    scratch: Vec<Line>,
}
