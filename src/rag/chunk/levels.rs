//! Where a text is best cut: a hierarchy of places, the best first.

use crate::rag::segment;
use core::ops::Range;
use std::borrow::Cow;

/// One level of the hierarchy.
#[derive(Clone, Debug)]
pub enum Level {
    /// Around any of these texts.
    Text(Vec<Separator>),
    /// At these bytes, in rising order.
    Places(Vec<usize>),
    /// Between sentences.
    Sentence,
    /// Between words, best behind white space.
    Word,
}

/// A text at which to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separator {
    text: Cow<'static, str>,
    /// So many of its bytes stay with what is in front of it.
    cut: usize,
}

impl Separator {
    /// A cut in front of `text`, which begins what follows.
    ///
    /// # Panics
    /// Where `text` is empty.
    pub fn before(text: impl Into<Cow<'static, str>>) -> Separator {
        Separator::at(text, 0)
    }

    /// A cut behind `text`, which ends what is in front.
    ///
    /// # Panics
    /// Where `text` is empty.
    pub fn after(text: impl Into<Cow<'static, str>>) -> Separator {
        let text = text.into();
        let cut = text.len();
        Separator::at(text, cut)
    }

    /// A cut behind byte `cut` of `text`.
    ///
    /// # Panics
    /// Where that is inside a character, or `text` is empty.
    pub fn at(text: impl Into<Cow<'static, str>>, cut: usize) -> Separator {
        let text = text.into();
        assert!(!text.is_empty() && text.is_char_boundary(cut), "a cut behind byte {cut} of {text:?}");
        Separator { text, cut }
    }

    /// Where to look for it so that the cut lies in `cuts`.
    fn window(&self, text: &str, cuts: &Range<usize>) -> Range<usize> {
        let start = segment::char_ceil(text, cuts.start.saturating_sub(self.cut));
        let end = segment::char_floor(text, (cuts.end - 1 + self.text.len() - self.cut).min(text.len()));
        start..end.max(start)
    }

    fn last(&self, text: &str, cuts: &Range<usize>) -> Option<usize> {
        let window = self.window(text, cuts);
        text[window.clone()]
            .rfind(&*self.text)
            .map(|at| window.start + at + self.cut)
            .filter(|at| cuts.contains(at))
    }

    fn first(&self, text: &str, cuts: &Range<usize>) -> Option<usize> {
        let window = self.window(text, cuts);
        text[window.clone()]
            .find(&*self.text)
            .map(|at| window.start + at + self.cut)
            .filter(|at| cuts.contains(at))
    }
}

impl Level {
    /// The last cut in `cuts`, of a text that is read from `from` on.
    pub(super) fn last(&self, text: &str, from: usize, cuts: &Range<usize>) -> Option<usize> {
        if cuts.is_empty() {
            return None;
        }
        match self {
            Level::Text(separators) => separators.iter().filter_map(|s| s.last(text, cuts)).max(),
            Level::Places(places) => {
                let behind = places.partition_point(|&at| at < cuts.end);
                places[..behind].last().copied().filter(|at| cuts.contains(at))
            }
            Level::Sentence => ends(segment::prose(&text[from..]), from, cuts).last(),
            Level::Word => {
                // A cut is right behind white space, or in its middle where there is more than fits.
                let end = segment::char_floor(text, cuts.end - 1).max(from);
                let space = text[from..end].char_indices().rev().find(|(_, c)| c.is_whitespace());
                let behind = space.map(|(at, c)| from + at + c.len_utf8()).filter(|at| cuts.contains(at));
                behind.or_else(|| ends(segment::words(&text[from..]), from, cuts).last())
            }
        }
    }

    /// The first cut in `cuts`, likewise.
    pub(super) fn first(&self, text: &str, from: usize, cuts: &Range<usize>) -> Option<usize> {
        if cuts.is_empty() {
            return None;
        }
        match self {
            Level::Text(separators) => separators.iter().filter_map(|s| s.first(text, cuts)).min(),
            Level::Places(places) => {
                let here = places.partition_point(|&at| at < cuts.start);
                places.get(here).copied().filter(|at| cuts.contains(at))
            }
            Level::Sentence => ends(segment::prose(&text[from..]), from, cuts).next(),
            Level::Word => {
                let start = segment::char_floor(text, cuts.start.saturating_sub(1)).max(from);
                let space = text[start..].char_indices().find(|(_, c)| c.is_whitespace());
                let behind = space.map(|(at, c)| start + at + c.len_utf8()).filter(|at| cuts.contains(at));
                behind.or_else(|| ends(segment::words(&text[from..]), from, cuts).next())
            }
        }
    }
}

/// Where parts end that lie end to end from `from` on, as far as that is in `cuts`.
fn ends<'t>(
    parts: impl Iterator<Item = &'t str>,
    from: usize,
    cuts: &Range<usize>,
) -> impl Iterator<Item = usize> {
    let Range { start, end } = *cuts;
    let ends = segment::ranges(parts, from).map(|part| part.end);
    ends.take_while(move |&at| at < end).filter(move |&at| at >= start)
}

fn all(of: impl IntoIterator<Item = Separator>) -> Level {
    Level::Text(of.into_iter().collect())
}

/// Paragraphs, lines, sentences, words.
pub(super) fn prose() -> Vec<Level> {
    vec![all([Separator::after("\n\n")]), all([Separator::after("\n")]), Level::Sentence, Level::Word]
}

/// A programming language whose outermost items begin in the first column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// Python.
    Python,
    /// C, and what looks like it.
    C,
    /// JavaScript and TypeScript.
    JavaScript,
    /// Go.
    Go,
}

impl Language {
    /// What an item begins with, and what one inside another does.
    const fn items(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Language::Rust => (
                &[
                    "///",
                    "#[",
                    "pub ",
                    "fn ",
                    "impl ",
                    "impl<",
                    "struct ",
                    "enum ",
                    "trait ",
                    "mod ",
                    "const ",
                    "static ",
                    "macro_rules!",
                    "unsafe ",
                    "type ",
                    "extern ",
                ],
                &["pub fn ", "fn ", "pub const fn ", "unsafe fn ", "async fn "],
            ),
            Language::Python => {
                (&["def ", "class ", "async def ", "@", "if __name__"], &["def ", "async def ", "@"])
            }
            Language::C => (
                &[
                    "/**", "/*", "static ", "struct ", "enum ", "union ", "typedef ", "void ", "int ",
                    "char ", "extern ", "class ", "template",
                ],
                &["public:", "private:", "protected:", "case "],
            ),
            Language::JavaScript => (
                &[
                    "/**",
                    "function ",
                    "async function ",
                    "class ",
                    "const ",
                    "let ",
                    "export ",
                    "interface ",
                    "type ",
                ],
                &["async ", "get ", "set ", "static ", "constructor("],
            ),
            Language::Go => (&["// ", "func ", "type ", "var ", "const "], &["func ", "case "]),
        }
    }
}

/// Items, what is in them, blank lines, lines, words.
pub(super) fn code(language: Language) -> Vec<Level> {
    let (outer, inner) = language.items();
    let outer = outer.iter().map(|item| Separator::at(format!("\n\n{item}"), 2));
    let indents = ["    ", "\t", "  "];
    let inner =
        inner.iter().flat_map(|item| indents.map(|indent| Separator::at(format!("\n{indent}{item}"), 1)));
    let (outer, inner): (Vec<_>, Vec<_>) = (outer.collect(), inner.collect());
    vec![all(outer), all(inner), all([Separator::after("\n\n")]), all([Separator::after("\n")]), Level::Word]
}
