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

use super::Analyzer;
use crate::io::safetensors::Checkpoint;
use crate::model::Source;
use crate::nn::Arithmetic;
use crate::rag::embed::without_products;
use crate::run::Run;
use crate::{Cpu, Result};
use std::path::Path;

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

/// What `name` names: `lexical` a [`LexicalReranker`] of the terms of `analyzer`; else a folder, of an encoder with a head
/// a [`CrossEncoder`], without one a [`LateInteraction`].
///
/// ```
/// use samebits::rag::rerank::{CrossEncoder, LateInteraction, LexicalReranker, Reranker, open, open_in, ranking, reranked};
/// use samebits::{Cpu, nn::Arithmetic, rag::Analyzer, run::Run};
/// use std::path::Path;
/// let run = Run::here(Cpu::detect());
/// let (question, texts) = ("deep sea", ["Cats purr.", "The sea is deep."]);
/// let lexical = open(Path::new("lexical"), run.cpu(), Analyzer::english())?;
/// assert_eq!(ranking(&lexical.scores(&run, question, &texts)?), [1, 0]);
/// let best = reranked(&run, &*lexical, question, texts.to_vec(), |text| text)?;
/// assert_eq!(best[0].0, texts[1]);
/// assert_eq!(lexical.scores(&run, question, &texts)?, LexicalReranker::new(Analyzer::english()).scores(&run, question, &texts)?);
/// // Models: an encoder with a head, and one whose tokens' vectors are compared.
/// let cross = CrossEncoder::open("tests/data/rerank/bert", run.cpu())?;
/// let same = open_in(Path::new("tests/data/rerank/bert"), run.cpu(), Analyzer::words(), Arithmetic::F32)?;
/// assert_eq!(cross.scores(&run, question, &texts)?, same.scores(&run, question, &texts)?);
/// assert_eq!(LateInteraction::open("tests/data/rerank/colbert", run.cpu())?.scores(&run, question, &texts)?.len(), 2);
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where the folder has no such model.
pub fn open(name: &Path, cpu: Cpu, analyzer: Analyzer) -> Result<Box<dyn Reranker>> {
    open_in(name, cpu, analyzer, Arithmetic::F32)
}

/// The same, its encoder computing in what is asked for.
///
/// # Errors
/// As [`open`]; where another class than f32 is asked of what has no products.
pub fn open_in(
    name: &Path,
    cpu: Cpu,
    analyzer: Analyzer,
    arithmetic: Arithmetic,
) -> Result<Box<dyn Reranker>> {
    if name == Path::new("lexical") {
        without_products("`lexical`", arithmetic)?;
        return Ok(Box::new(LexicalReranker::new(analyzer)));
    }
    let headed = Source::names(&Checkpoint::open(name)?).iter().any(|name| name.starts_with("classifier."));
    Ok(if headed {
        Box::new(CrossEncoder::open_in(name, cpu, arithmetic)?)
    } else {
        Box::new(LateInteraction::open_in(name, cpu, arithmetic)?)
    })
}

/// All that was found, as a reranker ranks it, with its scores; of equals, what was found first.
///
/// # Errors
/// Where a text cannot be judged.
pub fn reranked<T>(
    run: &Run<'_>,
    reranker: &dyn Reranker,
    question: &str,
    found: Vec<T>,
    text: impl Fn(&T) -> &str,
) -> Result<Vec<(T, f64)>> {
    let scores = reranker.scores(run, question, &found.iter().map(text).collect::<Vec<_>>())?;
    let ranking = ranking(&scores);
    let mut found: Vec<Option<T>> = found.into_iter().map(Some).collect();
    Ok(ranking.into_iter().filter_map(|i| Some((found[i].take()?, f64::from(scores[i])))).collect())
}

/// The places of `scores`, the best first; of equals, the earlier. A score that is no number comes last.
pub fn ranking(scores: &[f32]) -> Vec<usize> {
    let key = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
    places
}
