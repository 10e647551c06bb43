//! Retrieval-augmented generation, part by part.
//!
//! ```text
//!   segment  graphemes, words, sentences        chunk  texts cut into chunks, each with its place
//! ```

pub mod chunk;
pub mod segment;

pub use chunk::{Chunk, TextChunker, Unit};
