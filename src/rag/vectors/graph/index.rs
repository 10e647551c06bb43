//! Vectors by id with a graph over them.

use super::find::{Finder, GraphSearch};
use super::stored::GraphRef;
use super::{Graph, GraphOptions, NONE};
use crate::Result;
use crate::rag::retrieve::Hit;
use crate::rag::vectors::{Form, RowSet, VectorIndex, VectorsRef};
use crate::run::Run;
use std::io::Write;

/// A [`VectorIndex`] and a [`Graph`] over its rows: what is added is linked, what is removed is gone from both.
///
/// ```
/// use samebits::rag::vectors::{Form, Graph, GraphIndex, GraphOptions, GraphRef, GraphSearch, Metric};
/// use samebits::{Cpu, run::Run, tensor::Buffer};
/// let (run, form) = (Run::here(Cpu::detect()), Form::new(2, Metric::L2)?);
/// let mut index = GraphIndex::new(form, GraphOptions::default());
/// let points: Vec<(String, [f32; 2])> = (0..100).map(|i| (format!("p{i}"), [i as f32, 0.0])).collect();
/// let ids: Vec<&str> = points.iter().map(|(id, _)| id.as_str()).collect();
/// index.add(&run, &ids, points.iter().flat_map(|p| p.1).collect::<Vec<_>>().as_slice())?;
/// let near = index.search(&run, &[41.9, 0.0], &GraphSearch::new(2))?;
/// assert_eq!(near[0].iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["p42", "p41"]);
/// let graph: &Graph = index.graph();
/// assert_eq!(graph.reached(), 100); // no row that no walk could find
/// let mut bytes = Buffer::zeroed(graph.to_bytes().len())?; // at a multiple of 64, as in a mapped file
/// bytes.elements_mut::<u8>().copy_from_slice(&graph.to_bytes());
/// let stored = GraphRef::parse(bytes.elements())?;
/// assert_eq!(stored.search(&run, &index.index().view(), &[41.9, 0.0], &GraphSearch::new(1))?[0][0].0, 42);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphIndex {
    index: VectorIndex,
    graph: Graph,
}

impl GraphIndex {
    /// An empty index.
    pub fn new(form: Form, options: GraphOptions) -> GraphIndex {
        let index = VectorIndex::new(form);
        let graph = Graph::empty(&index.view(), options);
        GraphIndex { index, graph }
    }

    /// An index with a graph over it, built anew.
    ///
    /// # Errors
    /// Where there are 2³¹ vectors or more.
    pub fn build(run: &Run<'_>, index: VectorIndex, options: GraphOptions) -> Result<GraphIndex> {
        let graph = Graph::build(run, &index.view(), options)?;
        Ok(GraphIndex { index, graph })
    }

    /// An index of stored vectors, row r being that of `ids[r]`, and their stored graph.
    ///
    /// # Errors
    /// Where ids, vectors and graph do not belong together.
    pub fn from_stored(ids: &[&str], vectors: &VectorsRef<'_>, graph: &GraphRef<'_>) -> Result<GraphIndex> {
        Ok(GraphIndex { index: VectorIndex::from_stored(ids, vectors)?, graph: graph.to_graph(vectors)? })
    }

    /// The vectors, to search them all.
    pub fn index(&self) -> &VectorIndex {
        &self.index
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// As [`VectorIndex::add`]; the vectors of a call are linked with those before them first.
    ///
    /// # Errors
    /// As [`VectorIndex::add`], and then nothing is changed.
    pub fn add(&mut self, run: &Run<'_>, ids: &[&str], vectors: &[f32]) -> Result<()> {
        self.index.check(run.cpu(), ids, vectors)?;
        let known: Vec<&str> = ids.iter().copied().filter(|id| self.index.row_of(id).is_some()).collect();
        self.remove(run, &known)?;
        self.index.add(run.cpu(), ids, vectors)?;
        self.graph.extend(run, &self.index.view())
    }

    /// Removes vectors, as if they had never been there; how many of them were.
    ///
    /// # Errors
    /// Where the graph cannot be built again.
    pub fn remove(&mut self, run: &Run<'_>, ids: &[&str]) -> Result<usize> {
        let mut row: Vec<u32> = (0..self.index.len() as u32).collect();
        let before = row.len();
        for id in ids {
            if let Some(at) = self.index.row_of(id) {
                self.index.remove(id);
                row.swap_remove(at as usize);
            }
        }
        let gone = before - row.len();
        if gone > 0 {
            let mut moved = vec![NONE; before];
            row.iter().zip(0..).for_each(|(&old, new)| moved[old as usize] = new);
            self.graph.remove(run, &moved, &self.index.view())?;
        }
        Ok(gone)
    }

    /// The `search.k` vectors closest to each of `queries`, (n, dim), the closest first, of equals the smaller id.
    ///
    /// # Errors
    /// Where the queries are not (n, dim), or not finite.
    pub fn search(&self, run: &Run<'_>, queries: &[f32], search: &GraphSearch<'_>) -> Result<Vec<Vec<Hit>>> {
        let (space, vectors) = (self.graph.space(run.cpu()), self.index.view());
        let finder = Finder { graph: &self.graph, space, vectors, rank: Some(self.index.rank()) };
        let hits = |found: Vec<(u32, f32)>| found.into_iter().map(|found| self.index.hit(found)).collect();
        Ok(finder.find(run, queries, search)?.into_iter().map(hits).collect())
    }

    /// The same among the vectors whose id is `wanted`, as if there were no others.
    ///
    /// # Errors
    /// As [`GraphIndex::search`].
    pub fn search_where(
        &self,
        run: &Run<'_>,
        queries: &[f32],
        search: &GraphSearch<'_>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Vec<Hit>>> {
        let wanted: RowSet = self.index.wanted(wanted);
        self.search(run, queries, &GraphSearch { wanted: Some(&wanted), ..*search })
    }

    /// Writes the graph as [`GraphRef::parse`] reads it, over vectors as [`VectorIndex::write`] writes them.
    ///
    /// # Errors
    /// What `to` says.
    pub fn write_graph(&self, to: &mut impl Write) -> std::io::Result<()> {
        self.graph.write(&self.index.rows_by_id(), to)
    }
}
