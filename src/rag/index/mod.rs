//! One file for a searchable collection: texts, places, words, vectors.
//!
//! ```text
//!   documents ─► Builder ─ chunks ─ words ─ vectors ─► FILE.sbi ─► Index: mapped, searched where it lies
//!                   ▲                                     │
//!                   └──────────── from_index ◄────────────┘       only what changed is cut and embedded again
//! ```
//!
//! * The bytes depend on the documents and settings alone, not on what was added, changed and removed before.
//! * A file is written whole under another name and renamed: readers see the old one or the new one, and those who have
//!   the old one open go on with it.
//! * Opening reads the head, the tables and every section up to 64 MiB, against their checksums; [`Index::verify`] reads
//!   all. What is damaged is refused with the section's name; no number of a file is trusted as a place.
//!
//! Little-endian throughout. The tables are described where they are read.

mod about;
mod build;
mod chunking;
mod lexicon;
mod metadata;
mod search;
mod sections;
mod tables;

use crate::io::bytes::{self, Access};
use crate::rag::document::Value;
use crate::rag::vectors::{GraphRef, VectorsRef};
use crate::tensor::Buffer;
use crate::{Error, Result};
use core::ops::Range;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

pub use about::Settings;
pub use build::Builder;
pub use chunking::{Aids, Chunking, Count, Strategy};
pub use search::{Found, Mode, Query};

use lexicon::Stored;
use sections::Sections;
use tables::{CHUNK, ChunkRow, DOCUMENT, DocumentRow, Numbers};

/// Sections up to so many bytes are compared with their checksums when a file is opened.
const CHECKED: usize = 64 << 20;

/// An index as it lies in a file.
///
/// From documents to answers by words, by meaning and by both:
/// ```
/// use samebits::rag::document::Value;
/// use samebits::rag::embed::{EmbeddingModel, StaticEmbedder};
/// use samebits::rag::index::{Aids, Builder, Chunking, Count, Excerpt, Found, Index, Mode, Query, Settings, Strategy};
/// use samebits::rag::{Document, Filter, vectors::VectorType};
/// use samebits::{Cpu, run::Run};
/// let (run, model) = (Run::here(Cpu::detect()), StaticEmbedder::builtin()?);
/// let chunking = Chunking { strategy: Strategy::Recursive, unit: Count::Chars, size: 100, overlap: 0 };
/// let settings = Settings { chunking, model: Some(model.name()), vectors: VectorType::Int8, ..Settings::default() };
/// let mut builder = Builder::new(settings);
/// for (id, text, year) in [("cats", "A cat purrs.", 1999.0), ("sea", "The sea is deep.", 2001.0)] {
///     let mut document = Document::new(id, text);
///     document.metadata.insert("year".into(), Value::Number(year));
///     builder.add(document, Aids::default())?;
/// }
/// builder.embed(&run, &model, &mut |_done, _of| Ok(()))?;
/// let index = Index::from_bytes(&builder.to_bytes())?;
/// let vector = model.embed_query(&run, "kitten")?;
/// let all = Query { text: "kitten", vector: Some(&vector), k: 1, mode: Mode::Hybrid, filter: None, weight: 1.0 };
/// let found: Vec<Found> = index.search(&run, &all)?;
/// let excerpt: Excerpt = index.excerpt(found[0].chunk)?;
/// assert_eq!((excerpt.document, excerpt.text()), ("cats", "A cat purrs.")); // which has not the word
/// let late = Filter::parse("year > 2000")?;
/// let found = index.search(&run, &Query { filter: Some(&late), ..all })?;
/// assert_eq!(index.excerpt(found[0].chunk)?.document, "sea");
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Index {
    file: Buffer,
    sections: Sections,
    settings: Settings,
    /// Terms of all chunks.
    terms: u64,
    documents: Range<usize>,
    chunks: Range<usize>,
    names: Range<usize>,
    texts: Range<usize>,
    /// Whether the graph's links were looked at.
    linked: OnceLock<()>,
}

/// A chunk, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt<'i> {
    /// The document's id.
    pub document: &'i str,
    /// The text of the whole document.
    pub source: &'i str,
    /// The chunk: bytes of `source`.
    pub bytes: Range<usize>,
    /// What a reader needs around it: bytes of `source`.
    pub context: Range<usize>,
    /// Line and column of its start, from 1 on.
    pub start: crate::rag::chunk::Place,
    /// Line and column of its end.
    pub end: crate::rag::chunk::Place,
    /// The headings above it, the greatest first, ` › ` between them.
    pub headings: &'i str,
}

impl<'i> Excerpt<'i> {
    /// The chunk itself.
    pub fn text(&self) -> &'i str {
        &self.source[self.bytes.clone()]
    }
}

impl Index {
    /// Opens a file, mapped or read.
    ///
    /// # Errors
    /// Where it cannot be read, is no index, or is damaged; with its name.
    pub fn open(path: &Path, access: Access) -> Result<Index> {
        let file = bytes::open(path, access)?;
        Index::of(file).map_err(|e| e.in_file(path.display()))
    }

    /// An index that lies in memory.
    ///
    /// # Errors
    /// Where this is no index, or it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Index> {
        Index::of(Buffer::from(bytes))
    }

    fn of(file: Buffer) -> Result<Index> {
        let bytes: &[u8] = file.elements();
        let sections = Sections::parse(bytes)?;
        sections.check(bytes, |len| len <= CHECKED)?;
        let (settings, terms) = Settings::read(&bytes[sections.find("about")?])?;
        let [documents, chunks, names, texts] =
            ["document", "chunks", "names", "texts"].map(|name| sections.find(name));
        let (documents, chunks, names, texts) = (documents?, chunks?, names?, texts?);
        let index = Index {
            file,
            sections,
            settings,
            terms,
            documents,
            chunks,
            names,
            texts,
            linked: OnceLock::new(),
        };
        index.check()?;
        Ok(index)
    }

    /// Compares every section with its checksum: reads the whole file.
    ///
    /// # Errors
    /// Where one is damaged.
    pub fn verify(&self) -> Result<()> {
        self.sections.check(self.bytes(), |_| true)
    }

    /// An error where a mapped file was written to since it was opened: what was computed from it may be anything.
    ///
    /// # Errors
    /// As [`Buffer::check`].
    pub fn check_unchanged(&self) -> Result<()> {
        self.file.check()
    }

    fn bytes(&self) -> &[u8] {
        self.file.elements()
    }

    fn section(&self, name: &str) -> Result<&[u8]> {
        Ok(&self.bytes()[self.sections.find(name)?])
    }

    /// Looks whether the tables belong together.
    fn check(&self) -> Result<()> {
        let rows = [(self.documents.len(), DOCUMENT, "documents"), (self.chunks.len(), CHUNK, "chunks")];
        for (len, row, what) in rows {
            if !len.is_multiple_of(row) {
                return Err(Error::invalid(format!(
                    "a table of {what} of {len} bytes: no multiple of {row}"
                )));
            }
        }
        let mut next = 0;
        for d in 0..self.documents() {
            let first = self.row(d).first_chunk;
            if first < next || first > self.chunks() || d == 0 && first != 0 {
                return Err(Error::invalid(format!(
                    "document {d} begins with chunk {first} of {}",
                    self.chunks()
                )));
            }
            next = first;
            self.id(d)?;
        }
        if self.documents() == 0 && self.chunks() > 0 {
            return Err(Error::invalid("chunks of no document"));
        }
        self.lexicon()?.check()?;
        if self.lexicon()?.lengths.len() != self.chunks() {
            return Err(Error::invalid("not as many lengths as chunks"));
        }
        if let Some(vectors) = self.vectors()? {
            let rows = self.vector_rows()?;
            let known = (0..rows.len()).all(|r| (rows.at(r) as usize) < self.chunks());
            let rising = (1..rows.len()).all(|r| rows.at(r - 1) < rows.at(r));
            if rows.len() != vectors.len() || !known || !rising {
                return Err(Error::invalid("vectors and their chunks do not belong together"));
            }
        }
        Ok(())
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Bytes of the file.
    pub fn len_bytes(&self) -> usize {
        self.file.len()
    }

    /// Documents in it, numbered in the order of their ids.
    pub fn documents(&self) -> usize {
        self.documents.len() / DOCUMENT
    }

    /// Chunks in it, numbered in the order of documents and places.
    pub fn chunks(&self) -> usize {
        self.chunks.len() / CHUNK
    }

    /// Elements of a vector; none of an index without vectors.
    ///
    /// # Errors
    /// Where the vectors are damaged.
    pub fn dim(&self) -> Result<Option<usize>> {
        Ok(self.vectors()?.map(|vectors| vectors.form().dim()))
    }

    fn row(&self, document: usize) -> DocumentRow {
        let table = &self.bytes()[self.documents.clone()];
        DocumentRow::read(&table.as_chunks().0[document])
    }

    fn text_at(&self, section: &Range<usize>, at: &Range<usize>) -> Result<&str> {
        let bytes = self.bytes()[section.clone()].get(at.clone());
        let text = bytes.and_then(|bytes| core::str::from_utf8(bytes).ok());
        text.ok_or_else(|| Error::malformed(section.start as u64, format!("no text at its bytes {at:?}")))
    }

    /// A document's id.
    ///
    /// # Errors
    /// Where the file is damaged.
    ///
    /// # Panics
    /// Where there is no document of that number.
    pub fn id(&self, document: usize) -> Result<&str> {
        self.text_at(&self.names, &self.row(document).id)
    }

    /// The number of the document of that id.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn find(&self, id: &str) -> Result<Option<usize>> {
        let (mut low, mut high) = (0, self.documents());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.id(middle)?.cmp(id) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
                core::cmp::Ordering::Equal => return Ok(Some(middle)),
            }
        }
        Ok(None)
    }

    /// A document's text.
    ///
    /// # Errors
    /// Where the file is damaged.
    ///
    /// # Panics
    /// Where there is no document of that number.
    pub fn text(&self, document: usize) -> Result<&str> {
        self.text_at(&self.texts, &self.row(document).text)
    }

    fn metadata_json(&self, document: usize) -> Result<&str> {
        self.text_at(&self.names, &self.row(document).metadata)
    }

    /// What is known of a document.
    ///
    /// # Errors
    /// Where the file is damaged.
    ///
    /// # Panics
    /// Where there is no document of that number.
    pub fn metadata(&self, document: usize) -> Result<BTreeMap<String, Value>> {
        metadata::read(self.metadata_json(document)?)
    }

    /// The numbers of a document's chunks.
    ///
    /// # Panics
    /// Where there is no document of that number.
    pub fn chunks_of(&self, document: usize) -> Range<usize> {
        let next = document + 1;
        let end = if next < self.documents() { self.row(next).first_chunk } else { self.chunks() };
        self.row(document).first_chunk..end
    }

    fn chunk_row(&self, chunk: usize) -> Result<ChunkRow> {
        let table = &self.bytes()[self.chunks.clone()];
        let row = ChunkRow::read(&table.as_chunks().0[chunk]);
        let there = row.document < self.documents() && self.chunks_of(row.document).contains(&chunk);
        if there { Ok(row) } else { Err(Error::invalid(format!("chunk {chunk} is of another document"))) }
    }

    fn headings(&self, row: &ChunkRow) -> Result<&str> {
        self.text_at(&self.names, &row.headings)
    }

    /// A chunk.
    ///
    /// # Errors
    /// Where the file is damaged.
    ///
    /// # Panics
    /// Where there is no chunk of that number.
    pub fn excerpt(&self, chunk: usize) -> Result<Excerpt<'_>> {
        let row = self.chunk_row(chunk)?;
        let source = self.text(row.document)?;
        for bytes in [&row.bytes, &row.context] {
            if source.get(bytes.clone()).is_none() {
                return Err(Error::invalid(format!("chunk {chunk} is not a part of its document")));
            }
        }
        Ok(Excerpt {
            document: self.id(row.document)?,
            source,
            headings: self.headings(&row)?,
            bytes: row.bytes,
            context: row.context,
            start: row.start,
            end: row.end,
        })
    }

    /// The number of a chunk's document.
    ///
    /// # Errors
    /// Where the file is damaged.
    ///
    /// # Panics
    /// Where there is no chunk of that number.
    pub fn document_of(&self, chunk: usize) -> Result<usize> {
        Ok(self.chunk_row(chunk)?.document)
    }

    fn lexicon(&self) -> Result<Stored<'_>> {
        Ok(Stored {
            options: self.settings.bm25,
            analyzer: self.settings.analyzer,
            length: self.terms,
            terms: self.section("terms")?,
            term_ends: Numbers::of(self.section("termends")?, "ends of terms")?,
            postings: Numbers::of(self.section("postings")?, "postings")?,
            posting_ends: Numbers::of(self.section("postends")?, "ends of postings")?,
            lengths: Numbers::of(self.section("lengths")?, "lengths")?,
        })
    }

    /// The vectors; row r is that of chunk [`Index::vector_rows`]`[r]`.
    fn vectors(&self) -> Result<Option<VectorsRef<'_>>> {
        let Some(section) = self.sections.maybe("vectors") else { return Ok(None) };
        VectorsRef::parse(&self.bytes()[section]).map(Some)
    }

    /// The graph over them.
    fn graph(&self) -> Result<Option<GraphRef<'_>>> {
        let Some(section) = self.sections.maybe("graph") else { return Ok(None) };
        let bytes = &self.bytes()[section];
        // All links are looked at before the first walk, not before every one.
        if self.linked.get().is_some() {
            return GraphRef::parse_again(bytes).map(Some);
        }
        let graph = GraphRef::parse(bytes)?;
        self.linked.get_or_init(|| ());
        Ok(Some(graph))
    }

    fn vector_rows(&self) -> Result<Numbers<'_, 4>> {
        Numbers::of(self.section("rows")?, "rows of vectors")
    }

    /// What the builder calls the chunk of vector `row`.
    fn key_of_row(&self, row: usize) -> Result<String> {
        let chunk = self.vector_rows()?.at(row) as usize;
        let document = self.document_of(chunk)?;
        Ok(build::key(self.id(document)?, chunk - self.row(document).first_chunk))
    }
}
