//! Text to terms: what a lexical index counts.
//!
//! ```
//! use samebits::rag::Analyzer;
//! let terms = |analyzer: &Analyzer| {
//!     let mut terms = Vec::new();
//!     analyzer.each_term("The cells' Mitochondria were DIVIDING", &mut |term| terms.push(term.to_owned()));
//!     terms
//! };
//! assert_eq!(terms(&Analyzer::words()), ["the", "cells", "mitochondria", "were", "dividing"]);
//! assert_eq!(terms(&Analyzer::english()), ["cell", "mitochondria", "were", "divid"]);
//! ```

mod english;

use super::segment;

pub use english::stem as stem_english;

/// Words of English that say nothing of the subject: the list that Lucene's English analyzer has.
const ENGLISH_STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no",
    "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to",
    "was", "will", "with",
];

/// How a text becomes terms: words by Unicode's rules, in lower case; then, of English, less stop words, and stems.
///
/// ```
/// use samebits::rag::analyze::{Analyzer, stem_english};
/// let mut terms = Vec::new();
/// Analyzer::english().each_term("The cats were running", &mut |term| terms.push(term.to_string()));
/// assert_eq!(terms, ["cat", "were", "run"]);
/// let mut word = String::from("walked");
/// stem_english(&mut word);
/// assert_eq!(word, "walk");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Analyzer {
    language: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Any,
    English,
}

impl Analyzer {
    /// Words as they are, of any language.
    pub const fn words() -> Analyzer {
        Analyzer { language: Language::Any }
    }

    /// Stems of English words, less those that say nothing.
    pub const fn english() -> Analyzer {
        Analyzer { language: Language::English }
    }

    /// Hands every term of `text` to `f`, in order.
    pub fn each_term(&self, text: &str, f: &mut dyn FnMut(&str)) {
        let mut term = String::new();
        for word in segment::words(text) {
            if !word.chars().any(char::is_alphanumeric) {
                continue;
            }
            term.clear();
            term.extend(word.chars().flat_map(char::to_lowercase).map(|c| if c == '’' { '\'' } else { c }));
            if self.language == Language::English {
                if let Some(owner) = term.strip_suffix("'s") {
                    term.truncate(owner.len());
                }
                if ENGLISH_STOP_WORDS.binary_search(&term.as_str()).is_ok() {
                    continue;
                }
                english::stem(&mut term);
            }
            f(&term);
        }
    }
}
