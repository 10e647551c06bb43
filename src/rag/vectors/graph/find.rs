//! The rows closest to queries, by walking a graph; by looking at every row where that is surer or cheaper.

use super::space::Space;
use super::walk::{Links, Walk};
use crate::Result;
use crate::kernels::dot::dot;
use crate::rag::vectors::search::{Found, first};
use crate::rag::vectors::{RowSet, Search, VectorsRef};
use crate::run::Run;

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub struct GraphSearch<'s> {
    /// Rows wanted of each query: so many come, where there are so many.
    pub k: usize,
    /// Nodes that a walk keeps, at least k: more find more. 64 is usual.
    pub ef: usize,
    /// The rows among which they are, as if there were no others; `None`: all.
    pub wanted: Option<&'s RowSet>,
}

impl<'s> GraphSearch<'s> {
    /// The k closest of all, of 64 kept.
    pub fn new(k: usize) -> GraphSearch<'s> {
        GraphSearch { k, ef: 64, wanted: None }
    }
}

/// Fewer rows than these are all looked at.
const FEW: usize = 1000;
/// A walk that would keep more than one of so many nodes looks at all instead.
const SHARE: usize = 8;
/// Queries of a piece.
const TOGETHER: usize = 8;

/// A graph, the codes of its nodes, and the vectors that they stand for.
pub(super) struct Finder<'a, L> {
    pub graph: &'a L,
    pub space: Space<'a>,
    pub vectors: VectorsRef<'a>,
    /// As [`VectorsRef::search_ranked`] has it.
    pub rank: Option<&'a [u32]>,
}

impl<L: Links + Sync> Finder<'_, L> {
    /// The k closest rows and their scores, the closest first, of each of `queries`, (n, dim).
    pub fn find(
        &self,
        run: &Run<'_>,
        queries: &[f32],
        search: &GraphSearch<'_>,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        let exact = Search { wanted: search.wanted, candidates: Some(usize::MAX), ..Search::new(search.k) };
        let (n, k) = (self.vectors.count, search.k);
        let matches = search.wanted.map_or(n, RowSet::count);
        // Of the nodes that are kept only some are wanted: as many more are kept.
        let keep = search.ef.max(k).saturating_mul(n.div_ceil(matches.max(1)));
        if n < FEW || matches < FEW || keep > n / SHARE {
            return self.vectors.search_ranked(run, queries, &exact, self.rank);
        }
        let (dim, cpu) = (self.vectors.form.dim, run.cpu());
        let queries = self.vectors.prepare(cpu, queries)?;
        let mut found = vec![Vec::new(); queries.len() / dim];
        run.pieces(queries.chunks(TOGETHER * dim).zip(found.chunks_mut(TOGETHER)), |(queries, found), _| {
            let mut walk = Walk::new(n);
            for (query, found) in queries.chunks(dim).zip(found) {
                *found = self.walk(query, keep, search, &mut walk);
            }
        });
        let want = k.min(matches);
        for (query, found) in queries.chunks(dim).zip(&mut found) {
            if found.len() < want {
                let all = self.vectors.search_ranked(run, query, &exact, self.rank)?;
                *found = all.into_iter().flatten().collect();
            }
        }
        Ok(found)
    }

    fn walk(&self, query: &[f32], keep: usize, search: &GraphSearch<'_>, walk: &mut Walk) -> Vec<(u32, f32)> {
        let cpu = self.space.cpu;
        let square = if self.vectors.form.has_squares() { dot(cpu, query, query) } else { 0.0 };
        let mut probe = self.space.probe();
        self.space.of_query(query, square, &mut probe);
        walk.run(&self.space, self.graph, &probe, (0, keep));
        let rows = walk.pool.iter().map(|near| near.node());
        let rows = rows.filter(|&row| search.wanted.is_none_or(|wanted| wanted.has(row)));
        let place = |row: u32| self.rank.map_or(row, |rank| rank[row as usize]);
        let mut found: Vec<Found> = rows.map(|row| Found { place: place(row), row, score: 0.0 }).collect();
        self.vectors.rescore(cpu, query, &mut found);
        first(&mut found, search.k);
        found.into_iter().map(|f| (f.row, f.score + 0.0)).collect()
    }
}
