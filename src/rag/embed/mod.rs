//! Texts to vectors, for search by meaning.
//!
//! | model | a text's vector | needs |
//! |---|---|---|
//! | [`TransformerEmbedder`] | pooled rows of an encoder: BERT, MiniLM, BGE, RoBERTa, XLM-RoBERTa | a folder |
//! | [`StaticEmbedder`] | the mean of one vector a token, from a table | a folder |
//! | [`HashingEmbedder`] | signed counts of words and of parts of words | nothing |
//! | [`EmbeddingModel::from_fn`] | what a function says | a function |
//!
//! A text's vector has the same bits whatever texts are beside it, for any number of threads and on every instruction
//! set: an index may be made here and asked there.
//!
//! ```
//! use samebits::rag::EmbeddingModel;
//! use samebits::{Cpu, run::Run};
//! let letters = EmbeddingModel::from_fn(1, |texts| Ok(texts.iter().map(|t| vec![t.len() as f32]).collect()));
//! let run = Run::here(Cpu::detect());
//! assert_eq!(letters.embed(&run, &["one", "three"])?, [3.0, 5.0]);
//! # Ok::<(), samebits::Error>(())
//! ```

pub mod distill;
mod hashing;
mod prompts;
mod table;
mod transformer;

use super::Analyzer;
use crate::io::bytes::Access;
use crate::io::json;
use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::model::read_config;
use crate::nn::Arithmetic;
use crate::run::Run;
use crate::{Cpu, Error, Result};
use std::path::Path;

pub use hashing::HashingEmbedder;
pub use table::StaticEmbedder;
pub use transformer::TransformerEmbedder;

/// What turns texts into vectors.
pub trait EmbeddingModel: Send + Sync {
    /// Components of a vector.
    fn dim(&self) -> usize;

    /// The vectors of texts that are to be found, row by row: (texts, dim).
    ///
    /// # Errors
    /// Where a text cannot be embedded.
    fn embed(&self, run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>>;

    /// The vector of a text that searches: another where the model has prompts.
    ///
    /// # Errors
    /// As [`EmbeddingModel::embed`].
    fn embed_query(&self, run: &Run<'_>, text: &str) -> Result<Vec<f32>> {
        self.embed(run, &[text])
    }

    /// The vectors of texts that search, row by row: (texts, dim).
    ///
    /// # Errors
    /// As [`EmbeddingModel::embed`].
    fn embed_queries(&self, run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>> {
        let rows: Result<Vec<Vec<f32>>> = texts.iter().map(|text| self.embed_query(run, text)).collect();
        Ok(rows?.concat())
    }

    /// Tokens of a text that its vector is made of: words, where the model knows no other.
    ///
    /// # Errors
    /// As [`EmbeddingModel::embed`].
    fn tokens(&self, text: &str) -> Result<usize> {
        let mut words = 0;
        Analyzer::words().each_term(text, &mut |_| words += 1);
        Ok(words)
    }

    /// How much a ranking by its vectors counts beside one by words, which counts 1.
    fn weight(&self) -> f64 {
        1.0
    }

    /// Which model it is: its kind, and a number made of its content. Vectors of models with different names are not to
    /// be compared.
    fn name(&self) -> String;

    /// What it computes in: what its name says too, if it is not f32.
    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::F32
    }

    /// A function from texts to one vector of `dim` components each.
    fn from_fn<F>(dim: usize, f: F) -> Self
    where
        Self: Sized,
        F: Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Function<Model = Self>,
    {
        f.model(dim)
    }
}

/// What [`EmbeddingModel::from_fn`] takes: any function of texts.
///
/// ```
/// use samebits::rag::embed::{EmbeddingModel, FromFn, Function};
/// use samebits::{Cpu, Result, run::Run};
/// /// Any function of texts.
/// fn model<F>(f: F) -> FromFn<F>
/// where
///     F: Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Function<Model = FromFn<F>> + Send + Sync,
/// {
///     FromFn::from_fn(1, f).named("lengths")
/// }
/// let lengths = model(|texts| Ok(texts.iter().map(|t| vec![t.len() as f32]).collect()));
/// assert_eq!(lengths.embed(&Run::here(Cpu::detect()), &["a", "bcd"])?, [1.0, 3.0]);
/// # Ok::<(), samebits::Error>(())
/// ```
pub trait Function {
    /// The model that it makes.
    type Model;
    /// Makes it.
    fn model(self, dim: usize) -> Self::Model;
}

impl<F: Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Send + Sync> Function for F {
    type Model = FromFn<F>;
    fn model(self, dim: usize) -> FromFn<F> {
        FromFn { dim, f: self, name: format!("function:{dim}") }
    }
}

/// A function as a model.
#[derive(Clone, Debug)]
pub struct FromFn<F> {
    dim: usize,
    f: F,
    name: String,
}

impl<F> FromFn<F> {
    /// The same with a name, by which indexes know whether it is the function that they were made with.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        FromFn { name: name.into(), ..self }
    }
}

impl<F: Fn(&[&str]) -> Result<Vec<Vec<f32>>> + Send + Sync> EmbeddingModel for FromFn<F> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&self, _run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>> {
        let rows = (self.f)(texts)?;
        if rows.len() != texts.len() {
            return Err(Error::invalid(format!("{} vectors for {} texts", rows.len(), texts.len())));
        }
        if let Some(row) = rows.iter().find(|row| row.len() != self.dim) {
            return Err(Error::invalid(format!("a vector of {} components, not {}", row.len(), self.dim)));
        }
        Ok(rows.concat())
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// How a model's vectors are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Scaled to length 1, whatever the model says.
    pub normalize: bool,
    /// Only so many components of each, the first ones; of a model that scales to length 1, scaled again.
    pub dim: Option<usize>,
    /// What an encoder computes in.
    pub arithmetic: Arithmetic,
    /// How an encoder's weights are come by.
    pub access: Access,
}

impl Options {
    /// A table adds vectors up, in f32.
    fn of_table(self) -> Result<Options> {
        without_products("a table of vectors", self.arithmetic)?;
        Ok(self)
    }

    /// The components that remain of `dim`.
    fn dim_of(&self, dim: usize) -> Result<usize> {
        match self.dim {
            Some(asked) if asked == 0 || asked > dim => {
                Err(Error::invalid(format!("{asked} components of a model that has {dim}")))
            }
            asked => Ok(asked.unwrap_or(dim)),
        }
    }
}

/// Of what has no products, neither of linear layers nor of attention.
///
/// # Errors
/// Where something else than f32 was asked of it.
pub(super) fn without_products(what: &str, arithmetic: Arithmetic) -> Result<()> {
    arithmetic.unusual().next().map_or(Ok(()), |(of, class)| {
        let of = if of == "compute" { "products" } else { of };
        Err(Error::invalid(format!("{what} has no {of} to compute in {class}")))
    })
}

/// Opens a model that embeds: the folder of an encoder, of model2vec, or of sentence-transformers' `StaticEmbedding`.
///
/// ```
/// use samebits::rag::embed::{EmbeddingModel, HashingEmbedder, Options, StaticEmbedder, TransformerEmbedder};
/// use samebits::rag::{Analyzer, embed::{open, open_or_inside}};
/// use samebits::{Cpu, run::Run};
/// let (run, options) = (Run::here(Cpu::detect()), Options { dim: Some(64), ..Options::default() });
/// let inside = open_or_inside(None, run.cpu(), options)?; // the table inside the program
/// let alike = |model: &dyn EmbeddingModel, a: &str, b: &str| {
///     let rows = model.embed(&run, &[a, b])?;
///     let (a, b) = rows.split_at(model.dim());
///     Ok::<f32, samebits::Error>(a.iter().zip(b).map(|(a, b)| a * b).sum())
/// };
/// assert!(alike(&*inside, "a cat", "the kitten")? > alike(&*inside, "a cat", "the invoice")?);
/// assert!(StaticEmbedder::builtin()?.dim() > inside.dim());
/// let hashing = HashingEmbedder::new(Analyzer::english(), 256)?; // words and parts of words, no model
/// assert!(alike(&hashing, "running", "runs")? > alike(&hashing, "running", "sea")?);
/// let folder = "tests/data/models/bert";
/// let encoder = TransformerEmbedder::open(folder, run.cpu(), Options::default())?;
/// assert_eq!(open(folder, run.cpu(), Options::default())?.name(), encoder.name());
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where a file is missing or malformed, or describes what is not known.
pub fn open(folder: impl AsRef<Path>, cpu: Cpu, options: Options) -> Result<Box<dyn EmbeddingModel>> {
    let folder = folder.as_ref();
    Ok(if is_table(folder)? {
        Box::new(StaticEmbedder::open(folder, options)?)
    } else {
        Box::new(TransformerEmbedder::open(folder, cpu, options)?)
    })
}

/// [`open`]; without a folder, the table inside the program.
///
/// # Errors
/// As [`open`] and [`StaticEmbedder::builtin_with`].
pub fn open_or_inside(folder: Option<&Path>, cpu: Cpu, options: Options) -> Result<Box<dyn EmbeddingModel>> {
    match folder {
        Some(folder) => open(folder, cpu, options),
        None => Ok(Box::new(StaticEmbedder::builtin_with(options)?)),
    }
}

/// Whether a folder says that its model is a table: by the name of model2vec, or as a list of modules.
fn is_table(folder: &Path) -> Result<bool> {
    if folder.join(table::NESTED).is_dir() || !folder.join("config.json").exists() {
        return Ok(folder.join("config_sentence_transformers.json").exists());
    }
    let says = |name: &str, told: &dyn Fn(json::Value<'_>) -> bool| -> Result<bool> {
        let path = folder.join(name);
        if !path.exists() {
            return Ok(false);
        }
        let text = read_config(&path)?;
        Ok(told(json::parse(&text).map_err(|e| e.in_file(path.display()))?))
    };
    let text = |value: json::Value<'_>, key: &str| Some(value.get(key)?.as_str()?.into_owned());
    let named = |config: json::Value<'_>| text(config, "model_type").as_deref() == Some("model2vec");
    let listed = |modules: json::Value<'_>| {
        let first = modules.elements().and_then(|mut list| list.next());
        first.and_then(|module| text(module, "type")).is_some_and(|kind| kind.ends_with(".StaticEmbedding"))
    };
    Ok(says("config.json", &named)? || says("modules.json", &listed)?)
}

/// The token ids of each text, every text on whatever thread is free.
fn token_ids(
    run: &Run<'_>,
    tokenizer: &Tokenizer,
    texts: &[&str],
    options: &EncodeOptions<'_>,
) -> Result<Vec<Vec<u32>>> {
    let mut ids: Vec<Result<Vec<u32>>> = texts.iter().map(|_| Ok(Vec::new())).collect();
    run.pieces(texts.iter().zip(&mut ids), |(text, ids), _| {
        *ids = tokenizer.encode(text, options).map(|encoding| encoding.ids);
    });
    ids.into_iter().collect()
}
