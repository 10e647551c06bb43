//! Where the words of a question stand in a text, and which part of it to show.

use super::{Analyzer, segment};
use core::ops::Range;
use std::collections::BTreeSet;

/// The terms of a question.
#[derive(Clone, Debug)]
pub struct Terms {
    analyzer: Analyzer,
    terms: BTreeSet<String>,
}

impl Terms {
    /// The terms of `question`, as `analyzer` makes them.
    pub fn of(analyzer: Analyzer, question: &str) -> Terms {
        let mut terms = BTreeSet::new();
        analyzer.each_term(question, &mut |term| _ = terms.insert(term.to_owned()));
        Terms { analyzer, terms }
    }

    /// The bytes of every word of `text` that is one of them, in whatever form.
    ///
    /// ```
    /// use samebits::rag::{Analyzer, highlight::Terms};
    /// let terms = Terms::of(Analyzer::english(), "running cats");
    /// assert_eq!(terms.places("The cat ran; cats run."), [4..7, 13..17, 18..21]);
    /// ```
    pub fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        for word in segment::ranges(segment::words(text), 0) {
            let mut is_one = false;
            self.analyzer.each_term(&text[word.clone()], &mut |term| is_one |= self.terms.contains(term));
            if is_one {
                places.push(word);
            }
        }
        places
    }

    /// Of `text`, the part to show: whole sentences (or, of a long one, words) of at most `size` bytes, where the most
    /// different terms stand; of equals the first.
    pub fn snippet(&self, text: &str, size: usize) -> Range<usize> {
        let places = self.places(text);
        let sentences: Vec<Range<usize>> = segment::ranges(segment::prose(text), 0).collect();
        let mut best = (0, 0..segment::floor(text, 0, size.min(text.len())));
        for (i, first) in sentences.iter().enumerate() {
            let mut end = segment::floor(text, first.start, first.end.min(first.start + size));
            for next in &sentences[i + 1..] {
                if next.end > first.start + size {
                    break;
                }
                end = next.end;
            }
            let inside = places.iter().filter(|place| place.start >= first.start && place.end <= end);
            let words: BTreeSet<String> = inside.map(|place| text[place.clone()].to_lowercase()).collect();
            if words.len() > best.0 || i == 0 {
                best = (words.len(), first.start..end);
            }
        }
        let part = &text[best.1.clone()];
        let start = best.1.start + (part.len() - part.trim_start().len());
        start..(best.1.start + part.trim_end().len()).max(start)
    }
}
