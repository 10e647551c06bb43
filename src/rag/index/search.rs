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

/// How the rankings of [`Mode::Hybrid`] are fused: each list's scores from 0 to 1, weighted.
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
            Mode::Lexical => self.by_words(query.text, query.k, wanted),
            Mode::Dense => self.by_meaning(run, query.vector, query.k, wanted),
            Mode::Hybrid => {
                let pool = query.k.max(POOL);
                let lexical = self.by_words(query.text, pool, wanted)?;
                let dense = self.by_meaning(run, query.vector, pool, wanted)?;
                Ok(join(&lexical, &dense, query))
            }
        }
    }

    /// The chunks that have the most telling words of `text`.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn lexical(&self, text: &str, k: usize, filter: Option<&Filter>) -> Result<Vec<Found>> {
        self.by_words(text, k, self.wanted(filter)?.as_deref())
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

    fn by_words(&self, text: &str, k: usize, wanted: Option<&[bool]>) -> Result<Vec<Found>> {
        let scores = self.lexicon()?.scores(text);
        let mut found = Vec::new();
        for (chunk, score) in scores.into_iter().enumerate() {
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
        Ok(found)
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

/// Greater scores first, then smaller numbers.
fn order(a: &Found, b: &Found) -> Ordering {
    b.score.total_cmp(&a.score).then(a.chunk.cmp(&b.chunk))
}

fn join(lexical: &[Found], dense: &[Found], query: &Query<'_>) -> Vec<Found> {
    // Numbers as ids of one length have the order of numbers.
    let hits = |found: &[Found]| -> Vec<Hit> {
        found.iter().map(|found| Hit { id: format!("{:010}", found.chunk), score: found.score }).collect()
    };
    let rankings = [hits(lexical), hits(dense)];
    // Weights that sum to 1: so scores go from 0 to 1.
    let all = 1.0 + query.weight;
    let fused = fuse(&[(1.0 / all, &rankings[0]), (query.weight / all, &rankings[1])], FUSION, query.k);
    let score_in = |found: &[Found], chunk: usize| found.iter().find(|f| f.chunk == chunk).map(|f| f.score);
    let found = fused.into_iter().map(|Hit { id, score }| {
        let chunk = id.parse().unwrap_or(0);
        Found { chunk, score, dense: score_in(dense, chunk), lexical: score_in(lexical, chunk) }
    });
    found.collect()
}
