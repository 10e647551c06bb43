//! A few texts looked at more closely, to put the best first.
//!
//! | reranker | a text's score | needs |
//! |---|---|---|
//! | [`CrossEncoder`] | what an encoder says that has read question and text together | a folder |
//! | [`LateInteraction`] | Σ over the question's tokens of the text's token that is most alike | a folder of an encoder |
//! | [`LexicalReranker`] | how much of the question is there, how close together, in which order | nothing |
//!
//! ```
//! use samebits::rag::{LexicalReranker, Reranker};
//! use samebits::{Cpu, run::Run};
//! let run = Run::here(Cpu::detect());
//! let texts = ["the dog bit the man", "a man once bit a dog", "cats"];
//! let scores = LexicalReranker::default().scores(&run, "man bit dog", &texts)?;
//! assert!(scores[1] > scores[0] && scores[0] > scores[2]);
//! # Ok::<(), samebits::Error>(())
//! ```

mod cross;
mod late;
mod lexical;

use crate::Result;
use crate::run::Run;

pub use cross::CrossEncoder;
pub use late::LateInteraction;
pub use lexical::LexicalReranker;

/// What says how well texts answer a question.
pub trait Reranker: Send + Sync {
    /// A score for each text, more is better; a text's is the same whatever texts are beside it, unless said otherwise.
    ///
    /// # Errors
    /// Where a text cannot be judged.
    fn scores(&self, run: &Run<'_>, question: &str, texts: &[&str]) -> Result<Vec<f32>>;
}

/// The places of `scores`, the best first; of equals, the earlier. A score that is no number comes last.
pub fn ranking(scores: &[f32]) -> Vec<usize> {
    let key = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
    places
}
