//! Reranking without a model: by the question's terms, how close together they stand, and in which order.
//!
//! ```text
//!   coverage   Σ idf of the question's terms that are in the text / Σ idf of all of them
//!   closeness  terms that are there / terms of the shortest stretch of the text that has them all
//!   order      neighbours in the question that follow one another, in that order, in that stretch / pairs of neighbours
//!   score      coverage · (1 + closeness / 2 + order / 4) / 1.75          from 0 to 1
//! ```
//!
//! idf is ln(1 + (N − n + ½) / (n + ½)) over the N texts that are ranked, n of them with the term: what all candidates have
//! does not tell them apart. So scores of one call are to be compared, not those of two.

use super::Reranker;
use crate::Result;
use crate::kernels::math::ln64;
use crate::rag::Analyzer;
use crate::run::Run;

/// Judges by the question's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexicalReranker {
    analyzer: Analyzer,
}

impl Default for LexicalReranker {
    /// Of English texts.
    fn default() -> Self {
        LexicalReranker::new(Analyzer::english())
    }
}

/// A place in a text at which a term of the question stands: the place, counted in terms, and which one.
type Found = (usize, usize);

impl LexicalReranker {
    /// By the terms of `analyzer`.
    pub const fn new(analyzer: Analyzer) -> LexicalReranker {
        LexicalReranker { analyzer }
    }

    /// The terms of a question, once each, in their order.
    fn terms(&self, question: &str) -> Vec<String> {
        let mut terms: Vec<String> = Vec::new();
        self.analyzer.each_term(question, &mut |term| {
            if !terms.iter().any(|known| known == term) {
                terms.push(term.to_owned());
            }
        });
        terms
    }

    fn found(&self, terms: &[String], text: &str) -> Vec<Found> {
        let (mut found, mut place) = (Vec::new(), 0);
        self.analyzer.each_term(text, &mut |term| {
            found.extend(terms.iter().position(|known| known == term).map(|which| (place, which)));
            place += 1;
        });
        found
    }
}

/// The shortest stretch of `found` with all of its `distinct` terms, the first of equals.
fn shortest(found: &[Found], terms: usize, distinct: usize) -> &[Found] {
    let (mut times, mut inside, mut start) = (vec![0usize; terms], 0, 0);
    let mut best: Option<(usize, &[Found])> = None;
    for (end, &(last, which)) in found.iter().enumerate() {
        inside += usize::from(times[which] == 0);
        times[which] += 1;
        while inside == distinct {
            let (first, which) = found[start];
            let length = last - first + 1;
            if best.is_none_or(|(shortest, _)| length < shortest) {
                best = Some((length, &found[start..=end]));
            }
            times[which] -= 1;
            inside -= usize::from(times[which] == 0);
            start += 1;
        }
    }
    best.map_or(&[], |(_, stretch)| stretch)
}

fn score(found: &[Found], idf: &[f64]) -> f64 {
    let mut there = vec![false; idf.len()];
    found.iter().for_each(|&(_, which)| there[which] = true);
    let distinct = there.iter().filter(|&&there| there).count();
    let whole: f64 = idf.iter().sum();
    if distinct == 0 || whole <= 0.0 {
        return 0.0;
    }
    let coverage =
        idf.iter().zip(&there).filter(|(_, there)| **there).map(|(idf, _)| idf).sum::<f64>() / whole;
    let stretch = shortest(found, idf.len(), distinct);
    let length = stretch[stretch.len() - 1].0 - stretch[0].0 + 1;
    let follows = |first: usize| stretch.windows(2).any(|pair| pair[0].1 == first && pair[1].1 == first + 1);
    let in_order = (1..idf.len()).filter(|&second| follows(second - 1)).count();
    let order = in_order as f64 / (idf.len() - 1).max(1) as f64;
    coverage * (1.0 + distinct as f64 / length as f64 / 2.0 + order / 4.0) / 1.75
}

impl Reranker for LexicalReranker {
    fn scores(&self, _run: &Run<'_>, question: &str, texts: &[&str]) -> Result<Vec<f32>> {
        let terms = self.terms(question);
        let found: Vec<Vec<Found>> = texts.iter().map(|text| self.found(&terms, text)).collect();
        let idf = |which: usize| {
            let with = found.iter().filter(|found| found.iter().any(|place| place.1 == which)).count() as f64;
            ln64(1.0 + (texts.len() as f64 - with + 0.5) / (with + 0.5))
        };
        let idf: Vec<f64> = (0..terms.len()).map(idf).collect();
        Ok(found.iter().map(|found| score(found, &idf) as f32).collect())
    }
}
