//! Finding documents: by their words, and rankings made one.

mod bm25;
mod fuse;
mod lexicon;
mod top;

pub use bm25::{Bm25, Bm25Options, Variant};
pub use fuse::{Fusion, diverse, fuse};
pub use lexicon::Lexicon;
pub use top::{Hit, Top};
