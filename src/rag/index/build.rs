//! Making and changing an index.

mod write;

use super::about::Settings;
use super::chunking::Aids;
use super::tables::ChunkRow;
use super::{Index, metadata};
use crate::io::atomic;
use crate::io::checksum::xxh64;
use crate::rag::EmbeddingModel;
use crate::rag::document::Document;
use crate::rag::vectors::{Graph, GraphOptions, VectorIndex, VectorsRef};
use crate::run::Run;
use crate::tensor::Buffer;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// An index in the making: documents come, change and go; what is written depends on those that are there alone.
///
/// ```
/// use samebits::rag::index::{Aids, Builder, Index, Query, Settings};
/// use samebits::rag::Document;
/// let mut builder = Builder::new(Settings::default());
/// builder.add(Document::new("a", "The cat sat on the mat."), Aids::default())?;
/// builder.add(Document::new("b", "Dogs chase cats."), Aids::default())?;
/// let index = Index::from_bytes(&builder.to_bytes())?;
/// let found = index.lexical("where did the cat sit?", 1, None)?;
/// assert_eq!(index.excerpt(found[0].chunk)?.document, "a");
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Settings,
    documents: BTreeMap<String, Entry>,
    /// Of chunks that have one, by [`key`].
    vectors: Option<VectorIndex>,
    /// The graph over them as it is written, where it was built since they changed.
    graph: Option<Vec<u8>>,
}

/// A document with its chunks.
#[derive(Clone, Debug)]
struct Entry {
    text: String,
    /// As JSON.
    metadata: String,
    hash: u64,
    chunks: Vec<Part>,
    /// Whether vectors were computed.
    embedded: bool,
}

/// A chunk, and the headings above it.
#[derive(Clone, Debug)]
struct Part {
    row: ChunkRow,
    headings: String,
}

/// What a chunk's vector goes by: keys have the order of documents and chunks.
pub(super) fn key(id: &str, chunk: usize) -> String {
    format!("{id}\0{chunk:010}")
}

/// What stands between the headings above a chunk.
const BETWEEN_HEADINGS: &str = " › ";
/// Texts that are embedded at a time.
const BATCH: usize = 256;

impl Builder {
    /// An empty index.
    pub fn new(settings: Settings) -> Builder {
        Builder { settings, documents: BTreeMap::new(), vectors: None, graph: None }
    }

    /// What an index holds, to be changed.
    ///
    /// # Errors
    /// Where the index is damaged.
    pub fn from_index(index: &Index) -> Result<Builder> {
        let mut builder = Builder::new(index.settings().clone());
        builder.absorb(index)?;
        Ok(builder)
    }

    /// Adds what another index holds, as it is there; documents that are the same in both are there once.
    ///
    /// # Errors
    /// Where it was made with other settings, a document of the same id is another, or it is damaged.
    pub fn absorb(&mut self, index: &Index) -> Result<()> {
        let settings = Settings { folder: self.settings.folder.clone(), ..index.settings().clone() };
        let first = self.is_empty() && self.vectors.is_none();
        if !first && settings != self.settings {
            return Err(Error::invalid("it was made with other settings or another model"));
        }
        let mut entries = Vec::new();
        for d in 0..index.documents() {
            let (id, row) = (index.id(d)?, index.row(d));
            match self.documents.get(id) {
                Some(known) if known.hash == row.hash => continue,
                Some(_) => return Err(Error::invalid(format!("another document is called {id:?}"))),
                None => {}
            }
            let part = |c: usize| {
                let row = index.chunk_row(c)?;
                Ok(Part { headings: index.headings(&row)?.to_owned(), row })
            };
            let entry = Entry {
                text: index.text(d)?.to_owned(),
                metadata: index.metadata_json(d)?.to_owned(),
                hash: row.hash,
                chunks: index.chunks_of(d).map(part).collect::<Result<_>>()?,
                embedded: settings.model.is_some(),
            };
            for row in entry.chunks.iter().map(|part| &part.row) {
                if entry.text.get(row.bytes.clone()).is_none()
                    || entry.text.get(row.context.clone()).is_none()
                {
                    return Err(Error::invalid(format!("a chunk is not a part of {id:?}")));
                }
            }
            entries.push((id.to_owned(), entry));
        }
        self.graph = None;
        if let Some(vectors) = index.vectors()? {
            let keys: Vec<String> = (0..vectors.len()).map(|r| index.key_of_row(r)).collect::<Result<_>>()?;
            let ids: Vec<&str> = keys.iter().map(String::as_str).collect();
            let mut new = VectorIndex::from_stored(&ids, &vectors)?;
            for key in &keys {
                if key.split_once('\0').is_some_and(|(id, _)| self.documents.contains_key(id)) {
                    new.remove(key);
                }
            }
            match &mut self.vectors {
                Some(vectors) => vectors.absorb(&new)?,
                None => self.vectors = Some(new),
            }
        }
        if first {
            self.settings = index.settings().clone();
        }
        self.documents.extend(entries);
        Ok(())
    }

    /// Documents in it.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Chunks of all documents.
    pub fn chunks(&self) -> usize {
        self.documents.values().map(|entry| entry.chunks.len()).sum()
    }

    /// What it is made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the model is to be looked for; see [`Settings::folder`].
    pub fn set_folder(&mut self, folder: Option<String>) {
        self.settings.folder = folder;
    }

    /// The ids of its documents, ascending.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(String::as_str)
    }

    /// Whether it has just this document already.
    pub fn has(&self, document: &Document) -> bool {
        let known = self.documents.get(&document.id);
        known.is_some_and(|entry| entry.hash == hash(document, &metadata::write(&document.metadata)))
    }

    /// Adds a document, in the place of the one of the same id if there is one; its chunks have no vectors yet. Whether it
    /// changed anything.
    ///
    /// # Errors
    /// Where its id is empty or has a NUL, its text has 4 GiB or more, or it cannot be cut.
    pub fn add(&mut self, document: Document, aids: Aids<'_>) -> Result<bool> {
        if document.id.is_empty() || document.id.contains('\0') {
            return Err(Error::invalid(format!("{:?} is no id of a document", document.id)));
        }
        if self.has(&document) {
            return Ok(false);
        }
        if document.text.len() >= u32::MAX as usize {
            let what = format!("a text of {} bytes: less than 4 GiB go into an index", document.text.len());
            return Err(Error::invalid(what).in_file(&document.id));
        }
        let chunks = self.settings.chunking.chunk(document.format(), &document.text, aids)?;
        let part = |chunk: crate::rag::Chunk<'_>| Part {
            headings: chunk.headings.join(BETWEEN_HEADINGS),
            row: ChunkRow {
                document: 0,
                bytes: chunk.span.bytes,
                context: chunk.context,
                start: chunk.span.start,
                end: chunk.span.end,
                headings: 0..0,
            },
        };
        let chunks = chunks.into_iter().map(part).collect();
        let metadata = metadata::write(&document.metadata);
        let hash = hash(&document, &metadata);
        self.remove(&document.id);
        self.graph = None;
        let entry = Entry { text: document.text, metadata, hash, chunks, embedded: false };
        self.documents.insert(document.id, entry);
        Ok(true)
    }

    /// Removes a document, as if it had never been there; whether it was.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(entry) = self.documents.remove(id) else { return false };
        self.graph = None;
        if let Some(vectors) = &mut self.vectors {
            (0..entry.chunks.len()).for_each(|c| _ = vectors.remove(&key(id, c)));
        }
        true
    }

    /// Computes the vectors of all chunks that have none, those of [`Settings::model`]; `progress` is told how many of how
    /// many are done. A chunk whose vector is all zeros gets none: it has no direction, and is found by its words alone.
    ///
    /// # Errors
    /// Where the model is another than that of the index, or it cannot embed a text; and what `progress` says.
    pub fn embed(
        &mut self,
        run: &Run<'_>,
        model: &dyn EmbeddingModel,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<()> {
        let name = model.name();
        if self.settings.model.as_ref().is_some_and(|known| *known != name) {
            return Err(Error::invalid(format!(
                "the index was made with the model {:?}, this is {name:?}",
                self.settings.model.as_deref().unwrap_or("")
            )));
        }
        let vectors = match self.vectors.take() {
            Some(vectors) => vectors,
            None => VectorIndex::new(self.settings.form(model.dim())?),
        };
        let known = self.settings.model.replace(name);
        let before = core::mem::replace(&mut self.settings.arithmetic, model.arithmetic());
        let vectors = self.vectors.insert(vectors);
        let waiting = self.documents.iter().filter(|(_, entry)| !entry.embedded);
        let texts = |(id, entry): (&String, &Entry)| -> Vec<(String, String)> {
            entry.texts().enumerate().map(|(c, text)| (key(id, c), text)).collect()
        };
        let waiting: Vec<(String, String)> = waiting.flat_map(texts).collect();
        let done = embed_all((run, model), &waiting, vectors, progress);
        if done.is_err() {
            // As it was before.
            waiting.iter().for_each(|(key, _)| _ = vectors.remove(key));
            if known.is_none() {
                (self.settings.model, self.settings.arithmetic, self.vectors) = (None, before, None);
            }
            return done;
        }
        self.documents.values_mut().for_each(|entry| entry.embedded = true);
        Ok(())
    }

    /// Builds the graph over all vectors, where [`Settings::graph`] asks for one: after the last change, before it is
    /// written.
    ///
    /// # Errors
    /// Where there are too many vectors.
    pub fn link(&mut self, run: &Run<'_>) -> Result<()> {
        let Some(vectors) = self.vectors.as_ref().filter(|_| self.settings.graph && self.graph.is_none())
        else {
            return Ok(());
        };
        // In the order in which they are written: then the graph depends on them alone.
        let written = Buffer::from(&vectors.to_bytes()[..]);
        let vectors = VectorsRef::parse(written.elements())?;
        let graph = Graph::build(run, &vectors, GraphOptions::default())?;
        self.graph = Some(graph.to_bytes());
        Ok(())
    }

    /// Writes the index to `path`: whole, or not at all. Those who have the old one open go on with it.
    ///
    /// # Errors
    /// Where the file cannot be written, chunks wait for vectors that others have, or the graph waits to be built.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check()?;
        atomic::write(path, |out| self.write(out))
    }

    /// The bytes that [`Builder::save`] writes.
    ///
    /// # Panics
    /// Where chunks wait for vectors that others have, or the graph waits to be built.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.check().unwrap_or_else(|e| panic!("{e}"));
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("memory takes what is written to it");
        bytes
    }

    fn check(&self) -> Result<()> {
        let waits = self.vectors.is_some() && self.documents.values().any(|entry| !entry.embedded);
        if self.settings.graph && self.vectors.is_some() && self.graph.is_none() {
            return Err(Error::invalid("the graph waits to be built"));
        }
        if waits { Err(Error::invalid("some chunks have vectors and some wait for theirs")) } else { Ok(()) }
    }
}

/// Adds the vectors of texts, each by its key.
fn embed_all(
    (run, model): (&Run<'_>, &dyn EmbeddingModel),
    waiting: &[(String, String)],
    vectors: &mut VectorIndex,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<()> {
    for (b, batch) in waiting.chunks(BATCH).enumerate() {
        progress(b * BATCH, waiting.len())?;
        let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
        let rows = model.embed(run, &texts)?;
        if rows.len() != texts.len() * model.dim() {
            return Err(Error::invalid(format!("{} floats for {} texts", rows.len(), texts.len())));
        }
        for ((key, _), row) in batch.iter().zip(rows.chunks_exact(model.dim())) {
            if row.iter().any(|&x| x != 0.0) {
                vectors.add(run.cpu(), &[key], row)?;
            }
        }
    }
    progress(waiting.len(), waiting.len())
}

impl Entry {
    /// The texts of its chunks as they are embedded: with the headings above them.
    fn texts(&self) -> impl Iterator<Item = String> {
        self.chunks.iter().map(|part| {
            let text = &self.text[part.row.bytes.clone()];
            if part.headings.is_empty() { text.to_owned() } else { format!("{}\n{text}", part.headings) }
        })
    }
}

/// A number for all that a document is.
fn hash(document: &Document, metadata: &str) -> u64 {
    xxh64(format!("{}\0{metadata}\0{}", document.id, document.text).as_bytes())
}
