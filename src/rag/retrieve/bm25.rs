//! BM25: how well a document's words answer a query's.
//!
//! ```text
//!   score(q, d) = Σ over terms t of q   idf(t) · weight(tf(t, d), |d| / mean |d|)
//! ```
//!
//! | variant | idf | weight, with K = k1 (1 − b + b · length ratio) |
//! |---|---|---|
//! | Lucene | ln(1 + (N − n + ½) / (n + ½)) | tf / (K + tf) |
//! | Robertson | ln max(1, (N − n + ½) / (n + ½)) | tf / (K + tf) |
//! | Atire | ln(N / n) | (k1 + 1) tf / (K + tf) |
//! | L | ln((N + 1) / (n + ½)) | (k1 + 1)(c + δ) / (k1 + c + δ), c = tf k1 / K; also of tf = 0 |
//! | Plus | ln((N + 1) / n) | (k1 + 1) tf / (K + tf) + δ; also of tf = 0 |
//!
//! N documents, n of them with the term; Kamphuis et al. 2020, *Which BM25 do you mean?*, has the same table.
//!
//! Statistics are whole numbers that every change keeps exact, and a score is a sum in `f64` over the query's terms in
//! their order: so an index after any additions, replacements and deletions gives the very bits of one that was built
//! fresh. Documents that score the same come in the order of their ids.
//!
//! ```
//! use samebits::rag::{Analyzer, Bm25, Bm25Options};
//! let mut index = Bm25::new(Bm25Options::default(), Analyzer::english());
//! index.add("a", "The cat sat on the mat.");
//! index.add("b", "Dogs chase cats, and cats run.");
//! let hits = index.search("running cats", 10);
//! assert_eq!(hits[0].id, "b");
//! ```

use super::lexicon::Lexicon;
use super::top::{Hit, Top};
use crate::rag::Analyzer;
use std::collections::HashMap;

/// Which BM25.
///
/// ```
/// use samebits::rag::retrieve::{Bm25, Bm25Options, Lexicon, Variant};
/// use samebits::rag::Analyzer;
/// let options = Bm25Options { variant: Variant::Plus, delta: 1.0, ..Bm25Options::default() };
/// let mut index = Bm25::new(options, Analyzer::english());
/// index.add("sea", "The sea is deep.");
/// index.add("cat", "A cat purrs.");
/// assert_eq!(index.search("how deep", 3)[0].id, "sea");
/// // What scores are computed from:
/// let lexicon: &dyn Lexicon = &index;
/// let term = lexicon.term("deep").unwrap();
/// assert_eq!((lexicon.documents(), lexicon.with_term(term)), (2, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As Lucene computes it.
    Lucene,
    /// The first one.
    Robertson,
    /// Of the search engine ATIRE.
    Atire,
    /// BM25L.
    L,
    /// BM25+.
    Plus,
}

/// The parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bm25Options {
    /// Which one.
    pub variant: Variant,
    /// How soon more of a word is no better.
    pub k1: f64,
    /// How much a long document's words count less, from 0 to 1.
    pub b: f64,
    /// What a word counts at least, of [`Variant::L`] and [`Variant::Plus`].
    pub delta: f64,
}

impl Default for Bm25Options {
    /// Lucene's: k1 = 1.2, b = 0.75; δ = 0.5.
    fn default() -> Self {
        Bm25Options { variant: Variant::Lucene, k1: 1.2, b: 0.75, delta: 0.5 }
    }
}

impl Bm25Options {
    pub(crate) fn idf(&self, documents: f64, with_term: f64) -> f64 {
        let odds = (documents - with_term + 0.5) / (with_term + 0.5);
        match self.variant {
            Variant::Lucene => (1.0 + odds).ln(),
            Variant::Robertson => odds.max(1.0).ln(),
            Variant::Atire => (documents / with_term).ln(),
            Variant::L => ((documents + 1.0) / (with_term + 0.5)).ln(),
            Variant::Plus => ((documents + 1.0) / with_term).ln(),
        }
    }

    pub(super) fn weight(&self, tf: f64, length_ratio: f64) -> f64 {
        let Bm25Options { k1, b, delta, .. } = *self;
        let norm = 1.0 - b + b * length_ratio;
        match self.variant {
            Variant::Lucene | Variant::Robertson => tf / (k1 * norm + tf),
            Variant::Atire => (k1 + 1.0) * tf / (k1 * norm + tf),
            Variant::L => {
                let c = tf / norm + delta;
                (k1 + 1.0) * c / (k1 + c)
            }
            Variant::Plus => (k1 + 1.0) * tf / (k1 * norm + tf) + delta,
        }
    }

    /// Whether a document without a term gets something for it.
    pub(super) const fn counts_absence(&self) -> bool {
        matches!(self.variant, Variant::L | Variant::Plus)
    }
}

/// A document's place in the index, the same until the index is made compact.
type Slot = u32;
type Term = u32;

#[derive(Clone, Debug)]
struct Document {
    id: String,
    /// Which terms it has, once each.
    terms: Vec<Term>,
    /// Terms in all.
    length: u64,
}

/// A term's documents.
#[derive(Clone, Debug, Default)]
struct Postings {
    /// Those that have it, and how often; some may be gone.
    all: Vec<(Slot, u32)>,
    /// So many are not.
    live: u64,
}

/// An index of documents by their words.
#[derive(Clone, Debug)]
pub struct Bm25 {
    options: Bm25Options,
    analyzer: Analyzer,
    terms: HashMap<Box<str>, Term>,
    postings: Vec<Postings>,
    /// Numbers of terms that no document has.
    free: Vec<Term>,
    slots: HashMap<String, Slot>,
    documents: Vec<Option<Document>>,
    /// Terms of all documents.
    length: u64,
}

impl Bm25 {
    /// An empty index.
    pub fn new(options: Bm25Options, analyzer: Analyzer) -> Bm25 {
        let (terms, slots) = (HashMap::new(), HashMap::new());
        let (postings, documents, free) = (Vec::new(), Vec::new(), Vec::new());
        Bm25 { options, analyzer, terms, postings, free, slots, documents, length: 0 }
    }

    /// Documents in it.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Different terms of all documents.
    pub fn vocabulary(&self) -> usize {
        self.postings.iter().filter(|postings| postings.live > 0).count()
    }

    /// Adds a document, in the place of the one of the same id if there is one.
    ///
    /// # Panics
    /// Behind 2³² documents.
    pub fn add(&mut self, id: &str, text: &str) {
        self.remove(id);
        let slot = Slot::try_from(self.documents.len()).expect("fewer than 2³² documents");
        let mut found: Vec<Term> = Vec::new();
        let analyzer = self.analyzer;
        analyzer.each_term(text, &mut |term| found.push(self.number(term)));
        found.sort_unstable();
        let mut document = Document { id: id.to_owned(), terms: Vec::new(), length: found.len() as u64 };
        for same in found.chunk_by(Term::eq) {
            document.terms.push(same[0]);
            let postings = &mut self.postings[same[0] as usize];
            postings.all.push((slot, same.len() as u32));
            postings.live += 1;
        }
        self.length += document.length;
        self.slots.insert(id.to_owned(), slot);
        self.documents.push(Some(document));
    }

    /// The number of `term`, a new one if need be.
    fn number(&mut self, term: &str) -> Term {
        if let Some(&number) = self.terms.get(term) {
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.postings.push(Postings::default());
            (self.postings.len() - 1) as Term
        });
        self.terms.insert(term.into(), number);
        number
    }

    /// Removes a document, as if it had never been there; whether it was.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        let Some(document) = self.documents[slot as usize].take() else { return false };
        self.length -= document.length;
        for &term in &document.terms {
            self.postings[term as usize].live -= 1;
        }
        if self.documents.len() > 64 + 2 * self.len() {
            self.make_compact();
        }
        true
    }

    /// Forgets what is gone: as much work as there were changes since the last time.
    fn make_compact(&mut self) {
        let mut moved = vec![None; self.documents.len()];
        let live =
            self.documents.iter().enumerate().filter_map(|(slot, document)| document.as_ref().map(|_| slot));
        live.zip(0..).for_each(|(slot, next): (usize, Slot)| moved[slot] = Some(next));
        self.documents.retain(Option::is_some);
        self.slots.values_mut().for_each(|slot| *slot = moved[*slot as usize].unwrap_or(*slot));
        for postings in &mut self.postings {
            let live = postings.all.iter().filter_map(|&(slot, tf)| Some((moved[slot as usize]?, tf)));
            postings.all = live.collect();
        }
        let (postings, free) = (&self.postings, &mut self.free);
        self.terms.retain(|_, term| {
            let used = postings[*term as usize].live > 0;
            if !used {
                free.push(*term);
            }
            used
        });
    }

    /// The `k` documents that answer `query` best, the best first: only such as have one of its terms.
    pub fn search(&self, query: &str, k: usize) -> Vec<Hit> {
        self.search_where(query, k, &|_| true)
    }

    /// The same among the documents whose id is `wanted`.
    pub fn search_where(&self, query: &str, k: usize, wanted: &dyn Fn(&str) -> bool) -> Vec<Hit> {
        let mut top = Top::new(k);
        for (document, score) in self.documents.iter().zip(self.scores(query)) {
            if let (Some(Document { id, .. }), Some(score)) = (document, score)
                && wanted(id)
            {
                top.offer(score, id);
            }
        }
        top.into_hits()
    }
}

impl Lexicon for Bm25 {
    fn options(&self) -> Bm25Options {
        self.options
    }

    fn analyzer(&self) -> Analyzer {
        self.analyzer
    }

    fn documents(&self) -> u64 {
        self.len() as u64
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn numbers(&self) -> usize {
        self.documents.len()
    }

    fn length_of(&self, slot: usize) -> Option<u64> {
        self.documents[slot].as_ref().map(|document| document.length)
    }

    fn term(&self, term: &str) -> Option<usize> {
        let known = self.terms.get(term).map(|&term| term as usize);
        known.filter(|&term| self.postings[term].live > 0)
    }

    fn with_term(&self, term: usize) -> u64 {
        self.postings[term].live
    }

    fn each(&self, term: usize, f: &mut dyn FnMut(usize, u32)) {
        for &(slot, tf) in &self.postings[term].all {
            if self.documents[slot as usize].is_some() {
                f(slot as usize, tf);
            }
        }
    }
}
