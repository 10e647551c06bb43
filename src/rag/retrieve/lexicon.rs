//! Scores by terms, over any form of an index: in memory, or as it lies in a file.

use super::bm25::Bm25Options;
use crate::rag::Analyzer;

/// What the scores of BM25 are computed from. Documents are numbered; some numbers may be of none.
pub trait Lexicon {
    /// Which BM25.
    fn options(&self) -> Bm25Options;
    /// How texts become terms.
    fn analyzer(&self) -> Analyzer;
    /// Documents in it.
    fn documents(&self) -> u64;
    /// Terms of all documents.
    fn length(&self) -> u64;
    /// The numbers of documents are smaller.
    fn numbers(&self) -> usize;
    /// Terms of a document; none if there is no document of that number.
    fn length_of(&self, document: usize) -> Option<u64>;
    /// The number of a term that some document has.
    fn term(&self, term: &str) -> Option<usize>;
    /// Documents that have a term.
    fn with_term(&self, term: usize) -> u64;
    /// Hands over the documents that have a term, and how often, each once.
    fn each(&self, term: usize, f: &mut dyn FnMut(usize, u32));

    /// The scores of all documents for a query, by number; none of those that have not one of its terms.
    ///
    /// A score is a sum in `f64` over the query's terms in the order in which they come first.
    fn scores(&self, query: &str) -> Vec<Option<f64>> {
        let mut scores = vec![0.0; self.numbers()];
        let mut touched = vec![false; self.numbers()];
        for (term, times) in query_terms(self, query) {
            add_scores(self, term, f64::from(times), &mut scores, &mut touched);
        }
        scores.into_iter().zip(touched).map(|(score, touched)| touched.then_some(score)).collect()
    }
}

/// The terms of a query that the index has, in the order in which they come first, and how often.
fn query_terms<L: Lexicon + ?Sized>(lexicon: &L, query: &str) -> Vec<(usize, u32)> {
    let mut terms: Vec<(usize, u32)> = Vec::new();
    lexicon.analyzer().each_term(query, &mut |term| {
        let Some(number) = lexicon.term(term) else { return };
        match terms.iter_mut().find(|(known, _)| *known == number) {
            Some((_, times)) => *times += 1,
            None => terms.push((number, 1)),
        }
    });
    terms
}

fn add_scores<L: Lexicon + ?Sized>(
    lexicon: &L,
    term: usize,
    times: f64,
    scores: &mut [f64],
    touched: &mut [bool],
) {
    let (options, documents) = (lexicon.options(), lexicon.documents() as f64);
    let idf = times * options.idf(documents, lexicon.with_term(term) as f64);
    let ratio = |length: u64| length as f64 * documents / lexicon.length().max(1) as f64;
    let mut absent = vec![options.counts_absence(); scores.len()];
    lexicon.each(term, &mut |document, tf| {
        let Some(length) = lexicon.length_of(document) else { return };
        scores[document] += idf * options.weight(f64::from(tf), ratio(length));
        (touched[document], absent[document]) = (true, false);
    });
    for (document, _) in absent.iter().enumerate().filter(|(_, absent)| **absent) {
        if let Some(length) = lexicon.length_of(document) {
            scores[document] += idf * options.weight(0.0, ratio(length));
        }
    }
}
