//! Texts cut into chunks, for indexes and for models with a limit.
//!
//! ```text
//!   text ─► where to cut: levels, subjects or separators ─► spans ─► chunks: text[span.bytes], char, line, column
//! ```
//!
//! What holds for every strategy and every text:
//!
//! * `text[chunk.span.bytes]` is `chunk.text`; nothing is searched for afterwards.
//! * No chunk is longer than the size. It ends behind a whole grapheme wherever a grapheme fits.
//! * Starts grow from chunk to chunk, and so do ends; together the chunks cover the text (less white space where
//!   they are [trimmed](TextChunker::trimmed)).
//! * The overlap is never longer than asked for, and begins where it is good to begin.
//!
//! [`TextChunker::langchain`] alone does as its model does, a chunk too long included.
//!
//! ```
//! use samebits::rag::{TextChunker, Unit};
//! let chunker = TextChunker::recursive(Unit::Chars, 24, 0)?;
//! let text = "One sentence here. Another one.\n\nA new paragraph.";
//! let chunks = chunker.chunk(text)?;
//! let texts: Vec<&str> = chunks.iter().map(|chunk| chunk.text).collect();
//! assert_eq!(texts, ["One sentence here. ", "Another one.\n\n", "A new paragraph."]);
//! assert_eq!((chunks[2].span.start.line, chunks[2].span.bytes.clone()), (3, 33..49));
//! # Ok::<(), samebits::Error>(())
//! ```

mod langchain;
mod levels;
mod markdown;
mod measure;
mod pack;
mod place;
mod semantic;

use crate::Result;
use crate::rag::segment;
use core::ops::Range;
use markdown::Outline;
use pack::{Packing, Plan};
use place::Spans;
use semantic::Semantic;

pub use levels::{Language, Level, Separator};
pub use measure::Unit;
pub use place::{Place, Span};
pub use semantic::{Embed, Threshold};

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'t> {
    /// The part.
    pub text: &'t str,
    /// Where it stands.
    pub span: Span,
    /// The bytes that belong to it for a reader: itself, or a sentence with those around it, or its parent.
    pub context: Range<usize>,
    /// The headings of Markdown above it, the greatest first.
    pub headings: Vec<&'t str>,
}

/// Cuts texts into chunks.
///
/// ```
/// use samebits::rag::chunk::{Chunk, Language, Level, Place, Separator, Span, TextChunker, Unit};
/// let text = "one, two, three";
/// let commas = Level::Text(vec![Separator::after(", ")]);
/// let chunker = TextChunker::with_levels(Unit::Bytes, 10, 0, vec![commas])?;
/// let chunks: Vec<Chunk> = chunker.chunk(text)?;
/// assert_eq!(chunks.iter().map(|c| c.text).collect::<Vec<_>>(), ["one, two, ", "three"]);
/// let span: &Span = &chunks[1].span;
/// assert_eq!((&text[span.bytes.clone()], span.start), ("three", Place { line: 1, column: 11 }));
/// let code = TextChunker::code(Language::Rust, Unit::Bytes, 12, 0)?;
/// assert_eq!(code.chunk("fn a() {}\n\nfn b() {}\n")?.len(), 2); // an item each
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextChunker<'m> {
    plan: Plan<'m>,
    strategy: Strategy<'m>,
    edges: Edges,
}

#[derive(Clone, Debug)]
enum Strategy<'m> {
    Levels,
    Markdown,
    Semantic(Semantic<'m>),
    /// Sentences, each with so many on either side as its context.
    Sentences(usize),
    /// Chunks of the plan, each with the chunk of this one around it.
    Children(Box<TextChunker<'m>>),
    Langchain(langchain::Recursive),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edges {
    AsTheyAre,
    Trimmed,
}

impl<'m> TextChunker<'m> {
    fn new(
        unit: Unit<'m>,
        size: usize,
        overlap: usize,
        levels: Vec<Level>,
        strategy: Strategy<'m>,
    ) -> Result<Self> {
        unit.check(size, overlap)?;
        Ok(TextChunker { plan: Plan { unit, size, overlap, levels }, strategy, edges: Edges::AsTheyAre })
    }

    /// Chunks of `size` units, each beginning `size − overlap` behind the one before.
    ///
    /// # Errors
    /// Where `size` is 0 (of bytes: less than 4, what a character has), or `overlap` is not smaller.
    pub fn fixed(unit: Unit<'m>, size: usize, overlap: usize) -> Result<Self> {
        TextChunker::new(unit, size, overlap, Vec::new(), Strategy::Levels)
    }

    /// Chunks of at most `size` units, cut behind paragraphs, else lines, else sentences, else words: at the highest of
    /// these that leaves a chunk at least half full.
    ///
    /// # Errors
    /// As [`TextChunker::fixed`].
    pub fn recursive(unit: Unit<'m>, size: usize, overlap: usize) -> Result<Self> {
        TextChunker::with_levels(unit, size, overlap, levels::prose())
    }

    /// The same with other places to cut, the best first.
    ///
    /// # Errors
    /// As [`TextChunker::fixed`].
    pub fn with_levels(unit: Unit<'m>, size: usize, overlap: usize, levels: Vec<Level>) -> Result<Self> {
        TextChunker::new(unit, size, overlap, levels, Strategy::Levels)
    }

    /// The same for Markdown: in front of headings, the greater first, then as [`TextChunker::recursive`]; chunks know
    /// the headings above them.
    ///
    /// # Errors
    /// As [`TextChunker::fixed`].
    pub fn markdown(unit: Unit<'m>, size: usize, overlap: usize) -> Result<Self> {
        TextChunker::new(unit, size, overlap, Vec::new(), Strategy::Markdown)
    }

    /// The same for source code: in front of items, else of what is in them, else at blank lines, at lines, at words.
    ///
    /// # Errors
    /// As [`TextChunker::fixed`].
    pub fn code(language: Language, unit: Unit<'m>, size: usize, overlap: usize) -> Result<Self> {
        TextChunker::new(unit, size, overlap, levels::code(language), Strategy::Levels)
    }

    /// Chunks that end where the subject changes: where the vectors that `embed` makes of two sentences that follow
    /// each other, each with `buffer` sentences on either side, are further apart than `threshold`. What is longer than
    /// `size` is cut as [`TextChunker::recursive`] does.
    ///
    /// # Errors
    /// Where `size` is too small.
    pub fn semantic(
        unit: Unit<'m>,
        size: usize,
        embed: &'m Embed<'m>,
        buffer: usize,
        threshold: Threshold,
    ) -> Result<Self> {
        let strategy = Strategy::Semantic(Semantic { embed, buffer, threshold });
        TextChunker::new(unit, size, 0, levels::prose(), strategy)
    }

    /// One chunk a sentence, whose context are the `window` sentences on either side; a sentence longer than `size` is
    /// cut.
    ///
    /// # Errors
    /// Where `size` is too small.
    pub fn sentences(unit: Unit<'m>, size: usize, window: usize) -> Result<Self> {
        TextChunker::new(unit, size, 0, vec![Level::Word], Strategy::Sentences(window))
    }

    /// Small chunks to search, each with the chunk of `parents` that it was cut from as its context.
    pub fn children_of(mut self, parents: TextChunker<'m>) -> Self {
        self.strategy = Strategy::Children(Box::new(parents));
        self
    }

    /// What LangChain's `RecursiveCharacterTextSplitter` makes with these options: `separators` are tried in turn, and
    /// `""` is between characters. Sizes are Unicode scalar values.
    ///
    /// # Errors
    /// As [`TextChunker::fixed`].
    pub fn langchain(separators: &[&str], size: usize, overlap: usize) -> Result<Self> {
        let separators = separators.iter().map(|&s| String::from(s)).collect();
        let strategy = Strategy::Langchain(langchain::Recursive { separators, size, overlap });
        TextChunker::new(Unit::Chars, size, overlap, Vec::new(), strategy)
    }

    /// The same chunks without white space at their ends, and none that has nothing else.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        self.edges = Edges::Trimmed;
        self
    }

    /// The chunks of `text`, from front to back.
    ///
    /// # Errors
    /// Where vectors are asked for and what makes them fails.
    pub fn chunk<'t>(&self, text: &'t str) -> Result<Vec<Chunk<'t>>> {
        let mut outline = match &self.strategy {
            Strategy::Markdown => Outline::of(text),
            _ => Outline::default(),
        };
        let mut parts: Vec<Part> = Vec::new();
        for part in self.parts(text, &outline)? {
            let bytes = self.trim(text, part.bytes);
            // Without its white space a chunk may lie in a neighbour that it overlaps.
            let trimmed = self.edges == Edges::Trimmed;
            if bytes.is_empty() || trimmed && parts.last().is_some_and(|last| bytes.end <= last.bytes.end) {
                continue;
            }
            parts.pop_if(|last| trimmed && last.bytes.start >= bytes.start);
            parts.push(Part { bytes, ..part });
        }
        let mut spans = Spans::new(text);
        let chunks = parts.into_iter().map(|Part { bytes, context }| Chunk {
            text: &text[bytes.clone()],
            headings: outline.path(bytes.start),
            context: context.unwrap_or_else(|| bytes.clone()),
            span: spans.of(bytes),
        });
        Ok(chunks.collect())
    }

    fn parts(&self, text: &str, outline: &Outline<'_>) -> Result<Vec<Part>> {
        let alone = |bytes| Part { bytes, context: None };
        Ok(match &self.strategy {
            Strategy::Levels => Packing::new(&self.plan, text).map(alone).collect(),
            Strategy::Markdown => {
                let plan = Plan { levels: outline.levels(), ..self.plan };
                Packing::new(&plan, text).map(alone).collect()
            }
            Strategy::Semantic(semantic) => {
                semantic.split(&self.plan, text)?.into_iter().map(alone).collect()
            }
            Strategy::Langchain(recursive) => recursive.split(text).into_iter().map(alone).collect(),
            Strategy::Sentences(window) => self.sentence_windows(text, *window),
            Strategy::Children(parents) => {
                let mut children = Vec::new();
                for Part { bytes: parent, .. } in parents.parts(text, &Outline::of(text))? {
                    let parts = Packing::new(&self.plan, &text[parent.clone()]);
                    children.extend(parts.map(|part| Part {
                        bytes: parent.start + part.start..parent.start + part.end,
                        context: Some(parent.clone()),
                    }));
                }
                children
            }
        })
    }

    fn sentence_windows(&self, text: &str, window: usize) -> Vec<Part> {
        let sentences: Vec<Range<usize>> = segment::ranges(segment::prose(text), 0).collect();
        let mut parts = Vec::new();
        for (i, sentence) in sentences.iter().enumerate() {
            let (first, last) = (i.saturating_sub(window), (i + window).min(sentences.len() - 1));
            let context = sentences[first].start..sentences[last].end;
            parts.extend(Packing::new(&self.plan, &text[sentence.clone()]).map(|part| Part {
                bytes: sentence.start + part.start..sentence.start + part.end,
                context: Some(context.clone()),
            }));
        }
        parts
    }

    fn trim(&self, text: &str, bytes: Range<usize>) -> Range<usize> {
        if self.edges == Edges::AsTheyAre {
            return bytes;
        }
        // A mark may make white space a part of a grapheme that is none.
        let part = &text[bytes.clone()];
        let start = segment::floor(part, 0, part.len() - part.trim_start().len());
        let end = segment::ceil(part, start, part.trim_end().len().max(start));
        if part[start..end].trim().is_empty() {
            bytes.end..bytes.end
        } else {
            bytes.start + start..bytes.start + end
        }
    }
}

/// A chunk to be.
struct Part {
    bytes: Range<usize>,
    context: Option<Range<usize>>,
}
