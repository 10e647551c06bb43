//! Texts to vectors, and documents that are searched.

use std::collections::BTreeSet;
use std::ffi::c_char;
use std::path::{Path, PathBuf};

use super::memory::{close, put, reference, reference_or_none, slice, slice_mut, string, string_or_none};
use super::{Engine, Fault, Outcome, Status, door};
use crate::io::bytes::Access;
use crate::rag::embed::{Options, open_or_inside};
use crate::rag::index::{Aids, Builder, Mode, Settings};
use crate::rag::{self, EmbeddingModel, Filter, Retriever};

/// What turns texts into vectors.
pub struct Embedder {
    model: Box<dyn EmbeddingModel>,
    folder: Option<PathBuf>,
}

/// `SAMEBITS_NORMALIZE`: vectors are scaled to length 1, whatever the model says. What indexes are made with.
pub const NORMALIZE: u32 = 1;

/// Opens a model that embeds: the folder of an encoder or of model2vec; NULL is the table inside the library.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_embedder_open(
    engine: *const Engine,
    path: *const c_char,
    flags: u32,
    embedder: *mut *mut Embedder,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, path) = unsafe { (reference(engine, "engine")?, string_or_none(path, "path")?) };
        if flags > NORMALIZE {
            return Err(Fault::argument(format!("flags is {flags}, expected 0 or SAMEBITS_NORMALIZE")));
        }
        let (folder, options) =
            (path.map(PathBuf::from), Options { normalize: flags == NORMALIZE, ..Options::default() });
        let model = open_or_inside(folder.as_deref(), engine.cpu, options)?;
        // SAFETY: as the caller says.
        unsafe { put(embedder, "embedder", || Box::into_raw(Box::new(Embedder { model, folder }))) }
    })
}

/// Components of a vector.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_embedder_dim(embedder: *const Embedder, dim: *mut usize) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let embedder = unsafe { reference(embedder, "embedder") }?;
        // SAFETY: likewise.
        unsafe { put(dim, "dim", || embedder.model.dim()) }
    })
}

/// Closes a model that embeds; NULL is nothing.
///
/// # Safety
/// `embedder` is NULL or open, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_embedder_close(embedder: *mut Embedder) {
    // SAFETY: as the caller says.
    unsafe { close(embedder) }
}

/// The vectors of texts, (count, dim), into the caller's floats.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_embed(
    engine: *const Engine,
    embedder: *const Embedder,
    texts: *const *const c_char,
    count: usize,
    vectors: *mut f32,
    len: usize,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, embedder, texts, vectors) = unsafe {
            (
                reference(engine, "engine")?,
                reference(embedder, "embedder")?,
                slice(texts, count, "texts")?,
                slice_mut(vectors, len, "vectors")?,
            )
        };
        let dim = embedder.model.dim();
        if Some(len) != count.checked_mul(dim) {
            return Err(Fault::argument(format!("len is {len} for {count} vectors of {dim}")));
        }
        let one = |(i, &text): (usize, &*const c_char)| {
            // SAFETY: as the caller says of every text.
            unsafe { string(text, &format!("texts[{i}]")) }
        };
        let texts: Vec<&str> = texts.iter().enumerate().map(one).collect::<Outcome<_>>()?;
        vectors.copy_from_slice(&embedder.model.embed(&engine.run(), &texts)?);
        Ok(())
    })
}

/// `samebits_index`
pub struct Index {
    index: rag::Index,
    /// The bytes of one that was built here, to be saved.
    built: Option<Vec<u8>>,
}

/// `samebits_document`
#[repr(C)]
pub struct Document {
    id: *const c_char,
    text: *const c_char,
}

/// Opens an index that `samebits index` or [`samebits_index_save`] wrote.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_index_open(path: *const c_char, index: *mut *mut Index) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let path = unsafe { string(path, "path") }?;
        // Read, not mapped: nobody can take the memory away from under a pointer of C.
        let opened = Index { index: rag::Index::open(Path::new(path), Access::Read)?, built: None };
        // SAFETY: as the caller says.
        unsafe { put(index, "index", || Box::into_raw(Box::new(opened))) }
    })
}

/// Makes an index of documents, by words and, with an embedder, by meaning.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_index_build(
    engine: *const Engine,
    embedder: *const Embedder,
    documents: *const Document,
    count: usize,
    index: *mut *mut Index,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, documents) =
            unsafe { (reference(engine, "engine")?, slice(documents, count, "documents")?) };
        // SAFETY: likewise.
        let embedder = unsafe { reference_or_none(embedder, "embedder") }?;
        let folder = embedder.and_then(|e| Some(e.folder.as_ref()?.display().to_string()));
        let mut builder = Builder::new(Settings { folder, ..Settings::default() });
        let mut ids = BTreeSet::new();
        for (i, document) in documents.iter().enumerate() {
            let (id, body) = (format!("documents[{i}].id"), format!("documents[{i}].text"));
            // SAFETY: as the caller says of every document.
            let (id, body) = unsafe { (string(document.id, &id)?, string(document.text, &body)?) };
            if !ids.insert(id) {
                return Err(Fault::argument(format!("documents[{i}].id is {id:?}, as of one before")));
            }
            builder.add(rag::Document::new(id, body), Aids::default())?;
        }
        if let Some(embedder) = embedder {
            builder.embed(&engine.run(), &*embedder.model, &mut |_, _| Ok(()))?;
        }
        let bytes = builder.to_bytes();
        let built = Index { index: rag::Index::from_bytes(&bytes)?, built: Some(bytes) };
        // SAFETY: as the caller says.
        unsafe { put(index, "index", || Box::into_raw(Box::new(built))) }
    })
}

/// Writes an index that was built here: whole, or not at all.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_index_save(index: *const Index, path: *const c_char) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (index, path) = unsafe { (reference(index, "index")?, string(path, "path")?) };
        let Some(bytes) = &index.built else {
            return Err(Fault::argument("the index was opened from a file: it is saved"));
        };
        Ok(crate::io::atomic::write(Path::new(path), |file| std::io::Write::write_all(file, bytes))?)
    })
}

/// How many documents and chunks there are.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_index_count(
    index: *const Index,
    documents: *mut usize,
    chunks: *mut usize,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let index = unsafe { reference(index, "index") }?;
        // SAFETY: likewise.
        unsafe { put(documents, "documents", || index.index.documents()) }?;
        // SAFETY: likewise.
        unsafe { put(chunks, "chunks", || index.index.chunks()) }
    })
}

/// `samebits_query`
#[repr(C)]
pub struct Query {
    text: *const c_char,
    embedder: *const Embedder,
    mode: u32,
    filter: *const c_char,
}

/// `SAMEBITS_HYBRID`: words and meaning, with an embedder; else words.
pub const HYBRID: u32 = 0;
/// `SAMEBITS_LEXICAL`: words alone.
pub const LEXICAL: u32 = 1;
/// `SAMEBITS_DENSE`: meaning alone.
pub const DENSE: u32 = 2;

/// `samebits_hit`: texts are the index's, and have no zero at their ends.
#[repr(C)]
pub struct Hit {
    score: f64,
    chunk: usize,
    line: usize,
    document: *const c_char,
    document_len: usize,
    text: *const c_char,
    text_len: usize,
}

impl Query {
    /// # Safety
    /// Pointers are NULL or as the header says.
    unsafe fn search(&self, engine: &Engine, index: &rag::Index, k: usize) -> Outcome<Vec<Hit>> {
        // SAFETY: as the caller says.
        let (question, filter) =
            unsafe { (string(self.text, "query.text")?, string_or_none(self.filter, "query.filter")?) };
        // SAFETY: likewise.
        let embedder = unsafe { reference_or_none(self.embedder, "query.embedder") }?;
        let mode = match (self.mode, embedder) {
            (HYBRID, Some(_)) => Mode::Hybrid,
            (HYBRID, None) | (LEXICAL, _) => Mode::Lexical,
            (DENSE, _) => Mode::Dense,
            (other, _) => return Err(Fault::argument(format!("query.mode is {other}, expected 0, 1 or 2"))),
        };
        let filter = filter.map(Filter::parse).transpose()?;
        let retriever = Retriever::new(index, embedder.map(|e| &*e.model))?.with_mode(mode).with_k(k);
        let retriever = match &filter {
            Some(filter) => retriever.with_filter(filter),
            None => retriever,
        };
        let hit = |found: rag::index::Found| {
            let excerpt = index.excerpt(found.chunk)?;
            let (document, text) = (excerpt.document, excerpt.text());
            Ok(Hit {
                score: found.score,
                chunk: found.chunk,
                line: excerpt.start.line,
                document: document.as_ptr().cast(),
                document_len: document.len(),
                text: text.as_ptr().cast(),
                text_len: text.len(),
            })
        };
        retriever.retrieve(&engine.run(), question)?.into_iter().map(hit).collect()
    }
}

/// The chunks that answer best, the best first: `capacity` of them, or all there are.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_index_search(
    engine: *const Engine,
    index: *const Index,
    query: *const Query,
    hits: *mut Hit,
    capacity: usize,
    count: *mut usize,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, index, query, out) = unsafe {
            (
                reference(engine, "engine")?,
                reference(index, "index")?,
                reference(query, "query")?,
                slice_mut(hits, capacity, "hits")?,
            )
        };
        // SAFETY: likewise.
        let found = unsafe { query.search(engine, &index.index, capacity) }?;
        // SAFETY: likewise.
        unsafe { put(count, "count", || found.len()) }?;
        out.iter_mut().zip(found).for_each(|(out, hit)| *out = hit);
        Ok(())
    })
}

/// Closes an index; NULL is nothing.
///
/// # Safety
/// `index` is NULL or open, and nobody uses it, or a text of it, any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_index_close(index: *mut Index) {
    // SAFETY: as the caller says.
    unsafe { close(index) }
}
