//! Whether an answer says what its sources say: its marks `[n]`, its quotations, its words.
//!
//! ```
//! use samebits::rag::verify::{quotations, support};
//! let source = "It was a dark and\nstormy night; the rain fell in torrents.";
//! let quotes = quotations("He wrote \"a dark and stormy night\" [1], not \"a bright and sunny day\".", &[source]);
//! assert_eq!(quotes[0].place, Some((0, 7..30)));
//! assert_eq!(quotes[1].place, None);
//! assert_eq!(support("the rain fell in torrents", &[source], 3), 1.0);
//! ```

use super::segment;
use core::ops::Range;
use std::collections::BTreeSet;

/// Something that an answer quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotation {
    /// What it says.
    pub text: String,
    /// Which of the sources has it, and where in it; none: it is not there.
    pub place: Option<(usize, Range<usize>)>,
}

/// Shorter quotations are words of their own, not evidence.
const LEAST: usize = 12;

/// The quotations of an answer, `"…"` or `“…”`, each looked for in the sources: white space and the forms of quotes apart,
/// every character must be there.
pub fn quotations(answer: &str, sources: &[&str]) -> Vec<Quotation> {
    let mut all = Vec::new();
    let mut rest = answer;
    while let Some(start) = rest.find(['"', '“']) {
        let open = rest[start..].chars().next().map_or(1, char::len_utf8);
        let inside = &rest[start + open..];
        let Some(end) = inside.find(['"', '”']) else { break };
        let text = &inside[..end];
        rest = &inside[end + inside[end..].chars().next().map_or(1, char::len_utf8)..];
        if text.trim().len() >= LEAST {
            let place =
                sources.iter().enumerate().find_map(|(i, source)| Some((i, find(source, text.trim())?)));
            all.push(Quotation { text: text.trim().to_owned(), place });
        }
    }
    all
}

/// Where `quote` stands in `source`, white space and the forms of quotes apart.
fn find(source: &str, quote: &str) -> Option<Range<usize>> {
    let plain = |text: &str| -> Vec<(usize, char)> {
        let mut plain: Vec<(usize, char)> = Vec::new();
        for (i, c) in text.char_indices() {
            let c = match c {
                '“' | '”' => '"',
                '‘' | '’' => '\'',
                c if c.is_whitespace() => ' ',
                c => c,
            };
            if !(c == ' ' && plain.last().is_some_and(|&(_, last)| last == ' ')) {
                plain.push((i, c));
            }
        }
        plain
    };
    let (source_plain, quote) = (plain(source), plain(quote));
    let (mut of_source, mut of_quote) = (String::new(), String::new());
    let mut starts = Vec::new(); // of each character of `of_source`, where it stands in the source
    for &(i, c) in &source_plain {
        starts.extend(core::iter::repeat_n(i, c.len_utf8()));
        of_source.push(c);
    }
    starts.push(source.len());
    of_quote.extend(quote.iter().map(|&(_, c)| c));
    let at = of_source.find(&of_quote)?;
    Some(starts[at]..starts[at + of_quote.len()])
}

/// The numbers n of the marks `[n]` in an answer, as they come, each once; also of `[1, 3]`.
///
/// ```
/// use samebits::rag::verify::{Quotation, marks, quotations, support};
/// let (answer, source) = ("\"The sea is deep\" [1], so deep [1, 3].", "The sea is  deep.");
/// assert_eq!(marks(answer), [1, 3]);
/// let quoted: Vec<Quotation> = quotations(answer, &[source]);
/// assert_eq!(quoted[0].place, Some((0, 0..16))); // white space apart
/// assert_eq!(support("the sea is blue", &[source], 3), 0.5); // "the sea is" stands there, "sea is blue" does not
/// ```
pub fn marks(answer: &str) -> Vec<usize> {
    let mut marks = Vec::new();
    for part in answer.split('[').skip(1) {
        let Some((inside, _)) = part.split_once(']') else { continue };
        let numbers: Option<Vec<usize>> = inside.split(',').map(|n| n.trim().parse().ok()).collect();
        for n in numbers.unwrap_or_default() {
            if !marks.contains(&n) {
                marks.push(n);
            }
        }
    }
    marks
}

/// The share of the answer's runs of `n` words that stand in one of the sources, whatever their case: 1 where everything
/// could have been read there, 0 where nothing, or where the answer has not `n` words. Marks `[n]` are none.
pub fn support(answer: &str, sources: &[&str], n: usize) -> f64 {
    let words = |text: &str| -> Vec<String> {
        segment::words(text).filter(|w| w.chars().any(char::is_alphanumeric)).map(str::to_lowercase).collect()
    };
    let mut known: BTreeSet<Vec<String>> = BTreeSet::new();
    for source in sources {
        known.extend(words(source).windows(n.max(1)).map(<[String]>::to_vec));
    }
    let mut answer = answer.to_owned();
    for n in marks(&answer) {
        answer = answer.replace(&format!("[{n}]"), " ");
    }
    let runs: Vec<Vec<String>> = words(&answer).windows(n.max(1)).map(<[String]>::to_vec).collect();
    let there = runs.iter().filter(|run| known.contains(*run)).count();
    there as f64 / runs.len().max(1) as f64
}
