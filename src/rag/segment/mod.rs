//! Where text may be cut: between graphemes, words and sentences, by the rules of Unicode Standard Annex 29,
//! version 16.0.
//!
//! Every iterator walks once from front to back, in time linear in the text, whatever stands in it.
//!
//! ```
//! use samebits::rag::segment;
//! let parts: Vec<&str> = segment::graphemes("e\u{301}🇫🇷!").collect();
//! assert_eq!(parts, ["e\u{301}", "🇫🇷", "!"]);
//! let parts: Vec<&str> = segment::words("can't stop.").collect();
//! assert_eq!(parts, ["can't", " ", "stop", "."]);
//! let parts: Vec<&str> = segment::sentences("It was 3.14. Mr. Poe left.").collect();
//! assert_eq!(parts, ["It was 3.14. ", "Mr. ", "Poe left."]);
//! let parts: Vec<&str> = segment::prose("It was 3.14. Mr. Poe left.").collect();
//! assert_eq!(parts, ["It was 3.14. ", "Mr. Poe left."]);
//! ```
//!
//! ```
//! use samebits::rag::segment::{Graphemes, Sentences, Words, ceil, floor, graphemes, prose, words};
//! let (mut parts, mut inside): (Sentences, Words) = (prose("A cat. It sat."), words("A cat."));
//! assert_eq!((parts.next(), inside.next()), (Some("A cat. "), Some("A")));
//! let text = "e\u{301}f"; // é in two characters of one and two bytes, then f
//! let whole: Graphemes = graphemes(text);
//! assert_eq!(whole.count(), 2);
//! assert_eq!((floor(text, 0, 1), ceil(text, 0, 1)), (0, 3)); // where a cut near byte 1 may be
//! ```

mod grapheme;
mod sentence;
mod tables;
mod word;

use crate::io::tokenizer::unicode::Property;
use core::ops::Range;

pub use grapheme::{Graphemes, ceil, floor, graphemes};
pub use sentence::{Sentences, prose, sentences};
pub use word::{Words, words};

/// Where parts of a text stand that lie end to end from `from` on.
pub(crate) fn ranges<'t>(
    parts: impl Iterator<Item = &'t str>,
    from: usize,
) -> impl Iterator<Item = Range<usize>> {
    parts.scan(from, |end, part| {
        *end += part.len();
        Some(*end - part.len()..*end)
    })
}

/// The last place at or before `at` that is not inside a character.
pub(crate) fn char_floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first place at or behind `at` that is not inside a character.
pub(crate) fn char_ceil(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
