//! A table of one vector a token, made of an encoder: `samebits distill`.
//!
//! ```text
//!   tokens ─ encoder: [CLS] token [SEP], mean of rows ─► (tokens, features)
//!          ─ principal components, the first `dim` ────► (tokens, dim)
//!          ─ · a / (a + p), p how often the token comes ► table
//! ```
//!
//! Words that come often say little and count little (SIF: Arora, Liang, Ma 2017). How often a token comes is reckoned from
//! its place in the vocabulary, which is sorted by that (Zipf: p ~ 1 / (place + 2)), or counted in a text. Where texts are
//! given, the components are those of the encoder's vectors of them, and the table is fitted to these; where some of them
//! are long and many are short, also to which long ones are nearest to a short one.
//!
//! The same bits for any number of threads. Reference: `distill` of model2vec 0.10, whose folder this is.

mod components;
mod eigen;
mod fit;
mod folder;
mod rank;
mod tokens;

use super::token_ids;
use crate::io::tokenizer::{Choice, EncodeOptions, Tokenizer, Truncation};
use crate::model::{Pooling, SentenceEncoder, Workspace};
use crate::run::Run;
use crate::{Error, Result};

use components::components;
use fit::{Examples, fit, normalise};

pub use folder::{Elements, Layout};
pub use tokens::Vocabulary;

/// What a table is made by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Components of a vector; as many as the encoder has features where that is less.
    pub dim: usize,
    /// The a of a / (a + p), 10⁻⁴ as a rule; none: all tokens count the same.
    pub sif: Option<f64>,
    /// How often each token comes in some text; none: places tell.
    pub counts: Option<Vec<u64>>,
    /// Texts to which the table is fitted.
    pub texts: Vec<String>,
}

/// What holds a table where it was when it is fitted. Of 0.03 to 30, tried with all-MiniLM-L6-v2 and 30,000 sentences, the
/// less the better on sentences of another kind, and from here on the same.
const LAMBDA: f64 = 0.1;

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

/// Makes a table of `vocabulary`, whose tokens `tokenizer` and `model` know. `step` is told what is being done, how far it
/// is and of how much.
///
/// ```
/// use samebits::io::tokenizer::Tokenizer;
/// use samebits::model::SentenceEncoder;
/// use samebits::rag::embed::distill::{Distilled, Elements, Layout, Plan, Vocabulary, distill};
/// use samebits::rag::embed::{EmbeddingModel, Options, StaticEmbedder};
/// use samebits::{Cpu, run::Run};
/// let (run, folder) = (Run::here(Cpu::detect()), std::path::Path::new("tests/data/models/bert"));
/// let file = std::fs::read(folder.join("tokenizer.json")).unwrap();
/// let (model, tokenizer) = (SentenceEncoder::open(folder, run.cpu())?, Tokenizer::from_json(&file)?);
/// let plan = Plan { dim: 4, sif: Some(1e-4), counts: None, texts: vec![] };
/// let vocabulary = Vocabulary::of(&file, None)?;
/// let made: Distilled = distill(&run, (&model, &tokenizer), vocabulary, plan, &mut |_, _, _| Ok(()))?;
/// assert_eq!(made.table.len(), made.vocabulary.ids.len() * 4);
/// let path = std::env::temp_dir().join(format!("samebits-distill-{}", std::process::id()));
/// made.save(run.cpu(), &path, "bert", Layout { elements: Elements::F32, compact: false })?;
/// assert_eq!(StaticEmbedder::open(&path, Options::default())?.dim(), 4);
/// std::fs::remove_dir_all(path).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where the model gives what is no number; whatever `step` fails with.
pub fn distill(
    run: &Run<'_>,
    (model, tokenizer): (&SentenceEncoder, &Tokenizer),
    vocabulary: Vocabulary,
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
    let own = vocabulary.tokenizer()?;
    let texts = read_texts(run, (model, tokenizer), &own, &plan.texts, step)?;
    step("principal components", 0, 1)?;
    let dim = plan.dim.min(features).min(vocabulary.ids.len());
    // What tells texts apart matters, where there are any, and not what tells tokens apart.
    let parts = components(run, if texts.places.is_empty() { &rows } else { &texts.rows }, features, dim);
    let mut table = parts.scores(run, &rows);
    centre(&mut table, dim);
    let weights = weights(vocabulary.ids.len(), plan.counts.as_deref(), plan.sif);
    for (row, weight) in table.chunks_exact_mut(dim).zip(&weights) {
        row.iter_mut().for_each(|x| *x *= weight);
    }
    if !texts.places.is_empty() {
        step("fitting", 0, 1)?;
        let mut targets = parts.scores(run, &texts.rows);
        normalise(&mut targets, dim);
        let examples = Examples { texts: &texts.places, targets };
        fit(run, &mut table, dim, &examples, LAMBDA);
        rank::rank(run, &mut table, dim, &texts, step)?;
    }
    let table = table.into_iter().map(|x| x as f32).collect();
    Ok(Distilled { vocabulary, table, dim, explained: parts.explained, plan })
}

/// Texts as the table will see them, and as the encoder does.
struct Texts {
    /// Of each, its tokens' places.
    places: Vec<Vec<u32>>,
    /// Of each, its length.
    bytes: Vec<usize>,
    /// (texts, features)
    rows: Vec<f32>,
}

/// Of `all` the texts that have tokens in the tokenizer `own` of the table.
fn read_texts(
    run: &Run<'_>,
    (model, tokenizer): (&SentenceEncoder, &Tokenizer),
    own: &Tokenizer,
    all: &[String],
    step: &mut dyn FnMut(&str, usize, usize) -> Result<()>,
) -> Result<Texts> {
    let features = model.encoder.config().dim;
    let mut read = Texts { places: Vec::new(), bytes: Vec::new(), rows: Vec::new() };
    let whole = EncodeOptions {
        truncation: Choice::Use(Truncation::to(model.max_tokens)),
        padding: Choice::Off,
        ..EncodeOptions::default()
    };
    for (i, texts) in all.chunks(BATCH).enumerate() {
        step("encoding texts", i * BATCH, all.len())?;
        let mut known = Vec::new();
        for text in texts {
            let mut ids = own.encode(text, &EncodeOptions::plain())?.ids;
            ids.retain(|&id| Some(id) != own.unk_id());
            if !ids.is_empty() {
                read.places.push(ids);
                read.bytes.push(text.len());
                known.push(text.as_str());
            }
        }
        let ids = token_ids(run, tokenizer, &known, &whole)?;
        let ids: Vec<&[u32]> = ids.iter().map(|ids| &ids[..]).collect();
        let start = read.rows.len();
        read.rows.resize(start + ids.len() * features, 0.0);
        model.embed(run, &ids, &mut read.rows[start..], &mut Workspace::new())?;
    }
    Ok(read)
}

/// Takes the mean off all rows.
fn centre(rows: &mut [f64], dim: usize) {
    let n = (rows.len() / dim).max(1) as f64;
    let mut mean = vec![0.0; dim];
    rows.chunks_exact(dim).for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n));
    rows.chunks_exact_mut(dim).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean));
}

/// What the encoder makes of each token alone, (tokens, features).
fn encode(
    run: &Run<'_>,
    (model, tokenizer): (&SentenceEncoder, &Tokenizer),
    ids: &[u32],
    step: &mut dyn FnMut(&str, usize, usize) -> Result<()>,
) -> Result<Vec<f32>> {
    // A file may say that texts are filled: a token alone is not.
    let alone = EncodeOptions { padding: Choice::Off, ..EncodeOptions::default() };
    let around = tokenizer.encode("", &alone)?.ids;
    let (before, after) = around.split_at(around.len().min(1));
    let features = model.encoder.config().dim;
    let (all, mut rows) = (ids.len(), vec![0.0; ids.len() * features]);
    for (i, (ids, rows)) in ids.chunks(BATCH).zip(rows.chunks_mut(BATCH * features)).enumerate() {
        step("encoding tokens", i * BATCH, all)?;
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
