//! Searching an index: by words, by meaning, by both.

use super::Index;
use crate::rag::Filter;
use crate::rag::retrieve::{Fusion, Hit, Lexicon, fuse};
use crate::rag::vectors::{GraphSearch, RowSet, Search};
use crate::run::Run;
use crate::{Error, Result};
use core::cmp::Ordering;

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The likeness of vectors.
    Dense,
    /// The words.
    Lexical,
    /// Both: their rankings fused.
    Hybrid,
}

impl Mode {
    /// Every one, by its name.
    pub const ALL: [(&'static str, Mode); 3] =
        [("dense", Mode::Dense), ("lexical", Mode::Lexical), ("hybrid", Mode::Hybrid)];
}

/// A question to an index.
#[derive(Clone, Copy)]
pub struct Query<'q> {
    /// The words.
    pub text: &'q str,
    /// The vector; needed unless the mode is lexical.
    pub vector: Option<&'q [f32]>,
    /// Chunks wanted: so many come where there are so many.
    pub k: usize,
    /// What counts.
    pub mode: Mode,
    /// Which documents count.
    pub filter: Option<&'q Filter>,
    /// What the ranking by meaning counts in [`Mode::Hybrid`], that by words counting 1: see
    /// [`EmbeddingModel::weight`](crate::rag::EmbeddingModel::weight).
    pub weight: f64,
}

/// A chunk that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its number.
    pub chunk: usize,
    /// By which it stands where it stands: more is better.
    pub score: f64,
    /// The cosine of its vector with the query's, where that was looked at.
    pub dense: Option<f64>,
    /// Its score by words, where it has any.
    pub lexical: Option<f64>,
}

/// How the rankings of [`Mode::Hybrid`] are fused: the scores by words and those by meaning, of all chunks that one of the
/// two found, each from 0 to 1, weighted. So a chunk that one ranking just missed is not taken for one without a score.
const FUSION: Fusion = Fusion::Relative;
/// Chunks of each ranking that are fused, at least.
const POOL: usize = 100;

impl Index {
    /// The chunks that answer best, the best first; of equals, the one with the smaller number.
    ///
    /// # Errors
    /// Where the index has no vectors for a question that needs them, or the file is damaged.
    pub fn search(&self, run: &Run<'_>, query: &Query<'_>) -> Result<Vec<Found>> {
        let wanted = self.wanted(query.filter)?;
        let wanted = wanted.as_deref();
        match query.mode {
            Mode::Lexical => self.lexical_in(query.text, query.k, wanted),
            Mode::Dense => self.by_meaning(run, query.vector, query.k, wanted),
            Mode::Hybrid => {
                let pool = query.k.max(POOL);
                let words = self.lexicon()?.scores(query.text);
                let lexical = self.by_words(&words, pool, wanted);
                let dense = self.by_meaning(run, query.vector, pool, wanted)?;
                let mut all = either(&lexical, &dense);
                all.iter_mut().for_each(|found| found.lexical = words[found.chunk]);
                self.add_meaning(run, query.vector, &mut all)?;
                Ok(join(&all, query))
            }
        }
    }

    /// The chunks that have the most telling words of `text`.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn lexical(&self, text: &str, k: usize, filter: Option<&Filter>) -> Result<Vec<Found>> {
        self.lexical_in(text, k, self.wanted(filter)?.as_deref())
    }

    fn lexical_in(&self, text: &str, k: usize, wanted: Option<&[bool]>) -> Result<Vec<Found>> {
        Ok(self.by_words(&self.lexicon()?.scores(text), k, wanted))
    }

    /// What a term is worth: its inverse document frequency, 0 of a term that no chunk has.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn idf(&self, term: &str) -> Result<f64> {
        let lexicon = self.lexicon()?;
        let worth = |term| lexicon.options().idf(lexicon.documents() as f64, lexicon.with_term(term) as f64);
        Ok(lexicon.term(term).map_or(0.0, worth))
    }

    /// For each document, whether it counts.
    fn wanted(&self, filter: Option<&Filter>) -> Result<Option<Vec<bool>>> {
        let Some(filter) = filter else { return Ok(None) };
        let one = |d: usize| Ok(filter.matches(self.id(d)?, &self.metadata(d)?));
        (0..self.documents()).map(one).collect::<Result<_>>().map(Some)
    }

    /// The best of all chunks' scores by words.
    fn by_words(&self, scores: &[Option<f64>], k: usize, wanted: Option<&[bool]>) -> Vec<Found> {
        let mut found = Vec::new();
        for (chunk, score) in scores.iter().enumerate() {
            let Some(score) = score.filter(|score| !score.is_nan()) else { continue };
            if wanted.is_some_and(|wanted| !self.document_of(chunk).is_ok_and(|d| wanted[d])) {
                continue;
            }
            found.push(Found { chunk, score: score + 0.0, dense: None, lexical: Some(score) });
        }
        if k < found.len() {
            found.select_nth_unstable_by(k, order);
            found.truncate(k);
        }
        found.sort_unstable_by(order);
        found
    }

    fn by_meaning(
        &self,
        run: &Run<'_>,
        vector: Option<&[f32]>,
        k: usize,
        wanted: Option<&[bool]>,
    ) -> Result<Vec<Found>> {
        let Some(vectors) = self.vectors()? else {
            return Err(Error::invalid("the index has no vectors: it can be searched by words alone"));
        };
        let vector = vector.ok_or_else(|| Error::invalid("a search by meaning needs the query's vector"))?;
        let (rows, dim) = (self.vector_rows()?, vectors.form().dim());
        if vector.len() != dim {
            return Err(Error::invalid(format!("a query of {} elements for vectors of {dim}", vector.len())));
        }
        let chunk = |row: u32| rows.at(row as usize) as usize;
        let set = wanted.map(|wanted| {
            RowSet::new(vectors.len(), |row| self.document_of(chunk(row)).is_ok_and(|d| wanted[d]))
        });
        let wanted = set.as_ref();
        let found = match self.graph()? {
            Some(graph) => {
                graph.search(run, &vectors, vector, &GraphSearch { wanted, ..GraphSearch::new(k) })?
            }
            None => vectors.search(run, vector, &Search { wanted, ..Search::new(k) })?,
        };
        let found = found.into_iter().flatten().map(|(row, score)| {
            let score = f64::from(score);
            Found { chunk: chunk(row), score, dense: Some(score), lexical: None }
        });
        Ok(found.collect())
    }
}

impl Index {
    /// The likeness of those whose likeness was not looked at; a chunk without a vector has none.
    fn add_meaning(&self, run: &Run<'_>, vector: Option<&[f32]>, all: &mut [Found]) -> Result<()> {
        let (Some(vectors), Some(vector)) = (self.vectors()?, vector) else { return Ok(()) };
        let rows = self.vector_rows()?;
        let row = |found: &Found| rows.find(found.chunk as u32).filter(|&row| row < vectors.len());
        let lacking = all.iter_mut().filter(|found| found.dense.is_none());
        let lacking: Vec<_> = lacking.filter_map(|found| Some((row(found)? as u32, found))).collect();
        let scores = vectors.scores(run, vector, &lacking.iter().map(|(row, _)| *row).collect::<Vec<_>>())?;
        lacking.into_iter().zip(scores).for_each(|((_, found), score)| found.dense = Some(score.into()));
        Ok(())
    }
}

/// What one of two rankings has, once, by number.
fn either(lexical: &[Found], dense: &[Found]) -> Vec<Found> {
    let mut all = [dense, lexical].concat();
    // Stable: of the same chunk what has a likeness comes first.
    all.sort_by_key(|found| found.chunk);
    all.dedup_by_key(|found| found.chunk);
    all
}

/// Greater scores first, then smaller numbers.
fn order(a: &Found, b: &Found) -> Ordering {
    b.score.total_cmp(&a.score).then(a.chunk.cmp(&b.chunk))
}

/// The best of chunks that have both scores.
fn join(all: &[Found], query: &Query<'_>) -> Vec<Found> {
    // Numbers as ids of one length have the order of numbers.
    let hits = |score: &dyn Fn(&Found) -> Option<f64>| -> Vec<Hit> {
        let hit = |found: &Found| Some(Hit { id: format!("{:010}", found.chunk), score: score(found)? });
        all.iter().filter_map(hit).collect()
    };
    // Without a word of the query a chunk has 0 by words, unless no chunk has one: then words say nothing.
    let any = all.iter().any(|found| found.lexical.is_some());
    let words = |found: &Found| any.then(|| found.lexical.filter(|score| !score.is_nan()).unwrap_or(0.0));
    let rankings = [hits(&words), hits(&|found| found.dense)];
    // Weights that sum to 1: so scores go from 0 to 1.
    let sum = 1.0 + query.weight;
    let fused = fuse(&[(1.0 / sum, &rankings[0]), (query.weight / sum, &rankings[1])], FUSION, query.k);
    let found = fused.into_iter().filter_map(|Hit { id, score }| {
        let chunk: usize = id.parse().ok()?;
        let at = all.binary_search_by_key(&chunk, |found| found.chunk).ok()?;
        Some(Found { score, ..all[at] })
    });
    found.collect()
}
