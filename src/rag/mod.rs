//! Retrieval-augmented generation, part by part.
//!
//! ```text
//!   document  texts from files and folders         segment   graphemes, words, sentences          chunk     texts cut into chunks, each with its place
//!   analyze   terms of a text                      retrieve  documents found by their words; rankings made one
//!   embed     vectors of texts                     vectors   the closest vectors                       filter    which documents count
//!   index     all of it in one file                retriever how an index is searched                  extract   answers without a language model
//!   verify    quotations looked for in sources     highlight the words of a question in a text         evaluate  how good a ranking is
//!   rerank    a few texts looked at more closely   context   what was found made one prompt
//! ```

pub mod analyze;
pub mod chunk;
pub mod context;
pub mod document;
pub mod embed;
pub mod evaluate;
pub mod extract;
pub mod filter;
pub mod highlight;
pub mod index;
pub mod pipeline;
pub mod rerank;
pub mod retrieve;
mod retriever;
pub mod segment;
pub mod vectors;
pub mod verify;

pub use analyze::Analyzer;
pub use chunk::{Chunk, TextChunker, Unit};
pub use context::ContextAssembler;
pub use document::Document;
pub use embed::{EmbeddingModel, HashingEmbedder, StaticEmbedder, TransformerEmbedder};
pub use filter::Filter;
pub use index::Index;
pub use pipeline::RagPipeline;
pub use rerank::{CrossEncoder, LateInteraction, LexicalReranker, Reranker};
pub use retrieve::{Bm25, Bm25Options, Fusion, Hit, fuse};
pub use retriever::Retriever;
