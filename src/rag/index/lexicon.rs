//! The words of all chunks, as they lie in the file.
//!
//! ```text
//!   terms      every term, by its bytes, one behind the other       termends  u64: where each ends
//!   postings   u32 chunk, u32 times; of each term by chunk          postends  u64: how many pairs up to each term's end
//!   lengths    u32: terms of each chunk
//! ```

use super::tables::Numbers;
use crate::rag::Analyzer;
use crate::rag::retrieve::{Bm25Options, Lexicon};
use crate::{Error, Result};
use std::collections::HashMap;

/// The sections, as bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub terms: Vec<u8>,
    pub term_ends: Vec<u8>,
    pub postings: Vec<u8>,
    pub posting_ends: Vec<u8>,
    pub lengths: Vec<u8>,
    /// Terms of all chunks.
    pub length: u64,
}

impl Words {
    /// Of chunks in their order; each is handed over as the texts that it consists of.
    pub fn of<'t>(analyzer: Analyzer, chunks: impl Iterator<Item = [&'t str; 2]>) -> Words {
        let mut words = Words::default();
        let mut postings: HashMap<Box<str>, Vec<[u32; 2]>> = HashMap::new();
        for (chunk, texts) in (0u32..).zip(chunks) {
            let mut length = 0u32;
            for text in texts {
                analyzer.each_term(text, &mut |term| {
                    length += 1;
                    let of_term = match postings.get_mut(term) {
                        Some(of_term) => of_term,
                        None => postings.entry(term.into()).or_default(),
                    };
                    match of_term.last_mut() {
                        Some([last, times]) if *last == chunk => *times += 1,
                        _ => of_term.push([chunk, 1]),
                    }
                });
            }
            words.lengths.extend(length.to_le_bytes());
            words.length += u64::from(length);
        }
        let mut sorted: Vec<_> = postings.into_iter().collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (term, of_term) in sorted {
            words.terms.extend(term.as_bytes());
            words.term_ends.extend((words.terms.len() as u64).to_le_bytes());
            words.postings.extend(of_term.as_flattened().iter().flat_map(|n| n.to_le_bytes()));
            words.posting_ends.extend((words.postings.len() as u64 / 8).to_le_bytes());
        }
        words
    }
}

/// The sections of an open file.
#[derive(Clone, Copy)]
pub(super) struct Stored<'f> {
    pub options: Bm25Options,
    pub analyzer: Analyzer,
    /// Terms of all chunks.
    pub length: u64,
    pub terms: &'f [u8],
    pub term_ends: Numbers<'f, 8>,
    pub postings: Numbers<'f, 4>,
    pub posting_ends: Numbers<'f, 8>,
    pub lengths: Numbers<'f, 4>,
}

impl Stored<'_> {
    /// Looks whether every place that one section names is there in the other.
    ///
    /// # Errors
    /// Where one is not.
    pub fn check(&self) -> Result<()> {
        let fits = self.term_ends.len() == self.posting_ends.len()
            && self.term_ends.rise_to(self.terms.len())
            && self.posting_ends.rise_to(self.postings.len() / 2)
            && self.postings.len().is_multiple_of(2);
        if fits { Ok(()) } else { Err(Error::invalid("terms and their postings do not belong together")) }
    }
}

impl Lexicon for Stored<'_> {
    fn options(&self) -> Bm25Options {
        self.options
    }

    fn analyzer(&self) -> Analyzer {
        self.analyzer
    }

    fn documents(&self) -> u64 {
        self.lengths.len() as u64
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn numbers(&self) -> usize {
        self.lengths.len()
    }

    fn length_of(&self, chunk: usize) -> Option<u64> {
        (chunk < self.lengths.len()).then(|| self.lengths.at(chunk).into())
    }

    fn term(&self, term: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.term_ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.terms[self.term_ends.range(middle)].cmp(term.as_bytes()) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
                core::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    fn with_term(&self, term: usize) -> u64 {
        self.posting_ends.range(term).len() as u64
    }

    fn each(&self, term: usize, f: &mut dyn FnMut(usize, u32)) {
        for pair in self.posting_ends.range(term) {
            let (chunk, times) = (self.postings.at(2 * pair) as usize, self.postings.at(2 * pair + 1));
            // A damaged file may name chunks that are not there.
            if chunk < self.lengths.len() {
                f(chunk, times);
            }
        }
    }
}
