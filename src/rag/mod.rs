//! Retrieval-augmented generation, part by part.
//!
//! ```text
//!   document  texts from files and folders         segment   graphemes, words, sentences          chunk     texts cut into chunks, each with its place
//!   analyze   terms of a text                      retrieve  documents found by their words; rankings made one
//!   embed     vectors of texts                     evaluate  how good a ranking is
//!   vectors   the closest vectors
//! ```

pub mod analyze;
pub mod chunk;
pub mod document;
pub mod embed;
pub mod evaluate;
pub mod retrieve;
pub mod segment;
pub mod vectors;

pub use analyze::Analyzer;
pub use chunk::{Chunk, TextChunker, Unit};
pub use document::Document;
pub use embed::{EmbeddingModel, HashingEmbedder, StaticEmbedder, TransformerEmbedder};
pub use retrieve::{Bm25, Bm25Options, Fusion, Hit, fuse};
