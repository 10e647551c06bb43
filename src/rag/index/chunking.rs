//! How the documents of an index are cut into chunks: a choice that can be written down.

use crate::io::json::{Value as Json, Writer};
use crate::rag::chunk::{Chunk, Embed, TextChunker, Threshold, Unit};
use crate::rag::document::Format;
use crate::{Error, Result};

/// The way to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Markdown at headings, source code at items, everything else at paragraphs.
    Auto,
    /// At any grapheme.
    Fixed,
    /// At paragraphs, lines, sentences, words.
    Recursive,
    /// At the headings of Markdown.
    Markdown,
    /// A sentence a chunk; its neighbours are its context.
    Sentences,
    /// Where the subject changes.
    Semantic,
    /// A document a chunk.
    Whole,
}

impl Strategy {
    /// Every one, by its name.
    pub const ALL: [(&'static str, Strategy); 7] = [
        ("auto", Strategy::Auto),
        ("fixed", Strategy::Fixed),
        ("recursive", Strategy::Recursive),
        ("markdown", Strategy::Markdown),
        ("sentences", Strategy::Sentences),
        ("semantic", Strategy::Semantic),
        ("whole", Strategy::Whole),
    ];
}

/// What a size counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Unicode scalar values.
    Chars,
    /// Bytes of UTF-8.
    Bytes,
    /// Words between white space.
    Words,
    /// Tokens of the embedding model.
    Tokens,
}

impl Count {
    /// Every one, by its name.
    pub const ALL: [(&'static str, Count); 4] = [
        ("chars", Count::Chars),
        ("bytes", Count::Bytes),
        ("words", Count::Words),
        ("tokens", Count::Tokens),
    ];
}

/// The one of that name.
pub(super) fn named<T: Copy>(all: &[(&str, T)], name: &str) -> Option<T> {
    all.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
}

/// The name of one.
pub(super) fn name_of<T: PartialEq>(all: &[(&'static str, T)], value: T) -> &'static str {
    all.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

/// How documents are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunking {
    /// The way.
    pub strategy: Strategy,
    /// What sizes count.
    pub unit: Count,
    /// No chunk is longer.
    pub size: usize,
    /// How much of a chunk stands in the next again, at most.
    pub overlap: usize,
}

impl Default for Chunking {
    /// [`Strategy::Auto`], a thousand characters, a hundred of them twice.
    fn default() -> Self {
        Chunking { strategy: Strategy::Auto, unit: Count::Chars, size: 1000, overlap: 100 }
    }
}

/// What some ways of cutting need of a model.
#[derive(Clone, Copy, Default)]
pub struct Aids<'m> {
    /// The tokens of a text.
    pub tokens: Option<&'m (dyn Fn(&str) -> usize + Sync)>,
    /// The vectors of texts.
    pub embed: Option<&'m Embed<'m>>,
}

impl Chunking {
    /// Sentences on either side that belong to a sentence's context.
    const WINDOW: usize = 2;

    /// The chunks of a text of that format, without white space at their ends.
    ///
    /// # Errors
    /// Where sizes do not fit together, or what is needed of a model is not there.
    pub fn chunk<'t>(&self, format: Format, text: &'t str, aids: Aids<'_>) -> Result<Vec<Chunk<'t>>> {
        let Chunking { strategy, size, overlap, .. } = *self;
        let unit = match self.unit {
            Count::Chars => Unit::Chars,
            Count::Bytes => Unit::Bytes,
            Count::Words => Unit::Words,
            Count::Tokens => {
                let none = || Error::invalid("chunks measured in tokens need a model that has some");
                Unit::Measured(aids.tokens.ok_or_else(none)?)
            }
        };
        let chunker = match (strategy, format) {
            (Strategy::Whole, _) => TextChunker::fixed(Unit::Bytes, text.len().max(4), 0),
            (Strategy::Fixed, _) => TextChunker::fixed(unit, size, overlap),
            (Strategy::Markdown, _) | (Strategy::Auto, Format::Markdown) => {
                TextChunker::markdown(unit, size, overlap)
            }
            (Strategy::Auto, Format::Code(language)) => TextChunker::code(language, unit, size, overlap),
            (Strategy::Auto | Strategy::Recursive, _) => TextChunker::recursive(unit, size, overlap),
            (Strategy::Sentences, _) => TextChunker::sentences(unit, size, Self::WINDOW),
            (Strategy::Semantic, _) => {
                let embed = aids.embed.ok_or_else(|| Error::invalid("chunks by subject need a model"))?;
                TextChunker::semantic(unit, size, embed, 1, Threshold::Percentile(95.0))
            }
        };
        chunker?.trimmed().chunk(text)
    }

    /// As an object of JSON.
    pub(super) fn write(&self, w: &mut Writer) {
        w.object(|w| {
            w.key("strategy").string(name_of(&Strategy::ALL, self.strategy));
            w.key("unit").string(name_of(&Count::ALL, self.unit));
            w.key("size").number(self.size);
            w.key("overlap").number(self.overlap);
        });
    }

    pub(super) fn read(json: Json<'_>) -> Option<Chunking> {
        let text = |key: &str| json.get(key).and_then(|value| value.as_str());
        let count = |key: &str| usize::try_from(json.get(key)?.as_u64()?).ok();
        Some(Chunking {
            strategy: named(&Strategy::ALL, &text("strategy")?)?,
            unit: named(&Count::ALL, &text("unit")?)?,
            size: count("size")?,
            overlap: count("overlap")?,
        })
    }
}
