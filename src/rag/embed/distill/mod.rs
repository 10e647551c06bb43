//! A table of one vector a token, made of an encoder: `samebits distill`.
//!
//! ```text
//!   tokens ─ encoder: [CLS] token [SEP], mean of rows ─► (tokens, features)
//!          ─ principal components, the first `dim` ────► (tokens, dim)
//!          ─ · a / (a + p), p how often the token comes ► table
//! ```
//!
//! Words that come often say little and count little (SIF: Arora, Liang, Ma 2017). How often a token comes is reckoned from
//! its place in the vocabulary, which is sorted by that (Zipf: p ~ 1 / (place + 2)), or counted in a text.
//!
//! The same bits for any number of threads. Reference: `distill` of model2vec 0.10, whose folder this is.

mod components;
mod folder;
mod tokens;

use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::model::{Pooling, SentenceEncoder, Workspace};
use crate::run::Run;
use crate::{Error, Result};

pub use folder::{Elements, Layout};
pub use tokens::Vocabulary;

/// What a table is made by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Components of a vector; as many as the encoder has features where that is less.
    pub dim: usize,
    /// The a of a / (a + p), 10⁻⁴ as a rule; none: all tokens count the same.
    pub sif: Option<f64>,
}

/// A table and its vocabulary.
#[derive(Clone, Debug)]
pub struct Distilled {
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// (tokens, dim)
    pub table: Vec<f32>,
    /// Components of a vector.
    pub dim: usize,
    /// The share of the variance that they have.
    pub explained: f64,
    /// What it was made by.
    pub plan: Plan,
}

/// Tokens encoded at a time: one asks to go on between them.
const BATCH: usize = 1024;

/// Makes a table of `vocabulary`, whose tokens `tokenizer` and `model` know. `counts` are how often each comes in some
/// text; without them their places tell. `step` is told what is being done, how far it is and of how much.
///
/// # Errors
/// Where the model gives what is no number; whatever `step` fails with.
pub fn distill(
    run: &Run<'_>,
    (model, tokenizer): (&SentenceEncoder, &Tokenizer),
    vocabulary: Vocabulary,
    counts: Option<&[u64]>,
    plan: Plan,
    step: &mut dyn FnMut(&str, usize, usize) -> Result<()>,
) -> Result<Distilled> {
    let features = model.encoder.config().dim;
    let rows = encode(run, (model, tokenizer), &vocabulary.ids, step)?;
    if let Some(i) = rows.iter().position(|x| !x.is_finite()) {
        let (token, value) = (i / features, f64::from(rows[i]));
        let name = format!("the vector of token {}", vocabulary.ids[token]);
        return Err(Error::Value { name, index: i % features, value, expected: "a finite number" });
    }
    step("principal components", 0, 1)?;
    let dim = plan.dim.min(features).min(vocabulary.ids.len());
    let parts = components::components(run, &rows, features, dim);
    let weights = weights(vocabulary.ids.len(), counts, plan.sif);
    let weighted = parts.scores.chunks_exact(dim).zip(&weights);
    let table = weighted.flat_map(|(row, weight)| row.iter().map(move |x| (x * weight) as f32)).collect();
    Ok(Distilled { vocabulary, table, dim, explained: parts.explained, plan })
}

/// What the encoder makes of each token alone, (tokens, features).
fn encode(
    run: &Run<'_>,
    (model, tokenizer): (&SentenceEncoder, &Tokenizer),
    ids: &[u32],
    step: &mut dyn FnMut(&str, usize, usize) -> Result<()>,
) -> Result<Vec<f32>> {
    let around = tokenizer.encode("", &EncodeOptions::default())?.ids;
    let (before, after) = around.split_at(around.len().min(1));
    let features = model.encoder.config().dim;
    let mut rows = vec![0.0; ids.len() * features];
    for (i, (ids, rows)) in ids.chunks(BATCH).zip(rows.chunks_mut(BATCH * features)).enumerate() {
        step("encoding tokens", i * BATCH, rows.len())?;
        let texts: Vec<Vec<u32>> = ids.iter().map(|&id| [before, &[id], after].concat()).collect();
        let texts: Vec<&[u32]> = texts.iter().map(|text| &text[..]).collect();
        model.encoder.embed_texts(run, &texts, Pooling::Mean, rows, &mut Workspace::new())?;
    }
    Ok(rows)
}

/// a / (a + p) of every token.
fn weights(tokens: usize, counts: Option<&[u64]>, sif: Option<f64>) -> Vec<f64> {
    let Some(a) = sif else { return vec![1.0; tokens] };
    let often: Vec<f64> = match counts {
        // What never came may come yet.
        Some(counts) => counts.iter().map(|&count| count as f64 + 0.5).collect(),
        None => (0..tokens).map(|place| 1.0 / (place + 2) as f64).collect(),
    };
    let all: f64 = often.iter().sum();
    often.iter().map(|often| a / (a + often / all)).collect()
}
