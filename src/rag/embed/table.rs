//! One vector a token, and their mean: what a transformer knows of words without their company, at a thousandth of its
//! cost.
//!
//! ```text
//!   text ─ tokenizer, no template ─► ids ─ mapping, if there is one ─► rows · weight of the token ─ mean ─► x / ‖x‖
//! ```
//!
//! The sum is in `f64`, tokens in their order, rounded once. A text without tokens has the zero vector.
//!
//! | tensor of `model.safetensors` | what |
//! |---|---|
//! | `embeddings`, or `embedding.weight` | (rows, dim): F32, F16, BF16, I8, or NF4 as bitsandbytes stores it |
//! | `mapping` | (tokens): the row of each token, where tokens share rows |
//! | `weights` | (tokens): what each token's row is multiplied by |
//!
//! Reference: `StaticModel` of model2vec 0.10; `StaticEmbedding` of sentence-transformers for `embedding.weight`, which
//! alone keeps the unknown token.

use super::{EmbeddingModel, Options};
use crate::io::bitsandbytes::Nf4;
use crate::io::checksum::xxh64;
use crate::io::json;
use crate::io::safetensors::{Dtype, SafeTensors, TensorView};
use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::kernels::half::bf16_to_f32;
use crate::kernels::{half, nf4};
use crate::model::{read_config, to_length_one};
use crate::run::Run;
use crate::{Cpu, Error, Result};
use std::path::Path;

/// The folder in which sentence-transformers may keep the table.
pub(super) const NESTED: &str = "0_StaticEmbedding";

/// The table, as it is stored.
#[derive(Clone, Debug)]
enum Rows {
    F32(Vec<f32>),
    F16(Vec<u16>),
    I8(Vec<i8>),
    /// Whole blocks a row, so that a row is decoded alone.
    Nf4 {
        codes: Vec<u8>,
        absmax: Vec<f32>,
        blocksize: usize,
    },
}

impl Rows {
    /// The elements of row `r`, of `out.len()` elements.
    fn decode(&self, cpu: Cpu, r: usize, out: &mut [f32]) {
        let n = out.len();
        let place = r * n..(r + 1) * n;
        match self {
            Rows::F32(rows) => out.copy_from_slice(&rows[place]),
            Rows::F16(rows) => half::widen_f16(cpu, &rows[place], out),
            Rows::I8(rows) => out.iter_mut().zip(&rows[place]).for_each(|(out, &x)| *out = f32::from(x)),
            Rows::Nf4 { codes, absmax, blocksize } => {
                let (codes, blocks) = (&codes[r * n / 2..][..n / 2], n / blocksize);
                nf4::dequantize(cpu, codes, &absmax[r * blocks..][..blocks], *blocksize, out);
            }
        }
    }
}

/// Embeds with a table of one vector a token.
pub struct StaticEmbedder {
    tokenizer: Tokenizer,
    rows: Rows,
    /// Elements of a row; a vector may have fewer.
    width: usize,
    dim: usize,
    mapping: Option<Vec<u32>>,
    weights: Option<Vec<f64>>,
    /// A token that counts for nothing.
    skipped: Option<u32>,
    /// Texts are cut to so many tokens, and before that to so many characters.
    longest: Option<(usize, usize)>,
    normalize: bool,
    fingerprint: u64,
}

/// What a table's configuration says.
#[derive(Clone, Copy, Debug, Default)]
struct Config {
    normalize: bool,
    max_length: Option<usize>,
}

impl StaticEmbedder {
    /// Opens a folder of model2vec, of sentence-transformers' `StaticEmbedding`, or of `samebits distill`.
    ///
    /// # Errors
    /// Where a file is missing or malformed, or tokenizer and table do not fit.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<StaticEmbedder> {
        let (folder, options) = (folder.as_ref(), options.of_table()?);
        let nested = folder.join(NESTED);
        let place = if nested.is_dir() { &nested } else { folder };
        let path = place.join("model.safetensors");
        let (file, tokenizer) = (SafeTensors::open(&path)?, Tokenizer::open(place)?);
        let embedder = StaticEmbedder::new(tokenizer, &file, Config::read(folder)?, options);
        embedder.map_err(|e| e.in_file(path.display()))
    }

    /// The table inside the program: words of English, distilled from all-MiniLM-L6-v2. The model for whoever names none.
    ///
    /// # Errors
    /// Where this build carries none (it was made without the feature `builtin`).
    pub fn builtin() -> Result<StaticEmbedder> {
        StaticEmbedder::builtin_with(Options::default())
    }

    /// The same, as `options` says.
    ///
    /// # Errors
    /// As [`StaticEmbedder::builtin`]; where it has not so many components.
    pub fn builtin_with(options: Options) -> Result<StaticEmbedder> {
        let (tokenizer, file) = inside()?;
        let config = Config { normalize: true, max_length: None };
        StaticEmbedder::new(tokenizer, &file, config, options.of_table()?)
    }

    fn new(
        tokenizer: Tokenizer,
        file: &SafeTensors,
        config: Config,
        options: Options,
    ) -> Result<StaticEmbedder> {
        let theirs = file.tensors().any(|tensor| tensor.name == "embedding.weight");
        let name = if theirs { "embedding.weight" } else { "embeddings" };
        let (rows, [count, width]) = read_rows(file, name)?;
        let tokens = tokenizer.vocab_len();
        let optional = |name: &str| file.tensors().find(|tensor| tensor.name == name);
        let mapping = optional("mapping").map(|tensor| read_mapping(&tensor, tokens, count)).transpose()?;
        let weights = optional("weights").map(|tensor| read_weights(&tensor, tokens)).transpose()?;
        if mapping.is_none() && count != tokens {
            return Err(Error::invalid(format!("{count} rows for the {tokens} tokens of the tokenizer")));
        }
        let sums: Vec<u8> = file.tensors().flat_map(|tensor| xxh64(tensor.bytes).to_le_bytes()).collect();
        Ok(StaticEmbedder {
            dim: options.dim_of(width)?,
            longest: config.max_length.map(|most| (most, most.saturating_mul(median_length(&tokenizer)))),
            skipped: tokenizer.unk_id().filter(|_| !theirs),
            normalize: config.normalize || options.normalize,
            fingerprint: xxh64(&sums),
            tokenizer,
            rows,
            width,
            mapping,
            weights,
        })
    }

    /// The tokenizer.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that count.
    fn ids(&self, mut text: &str) -> Result<Vec<u32>> {
        if let Some((_, chars)) = self.longest
            && text.len() > chars
        {
            text = text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end]);
        }
        let mut ids = self.tokenizer.encode(text, &EncodeOptions::plain())?.ids;
        ids.truncate(self.longest.map_or(usize::MAX, |(most, _)| most));
        ids.retain(|&id| Some(id) != self.skipped);
        Ok(ids)
    }

    fn embed_one(&self, cpu: Cpu, text: &str, out: &mut [f32]) -> Result<()> {
        let ids = self.ids(text)?;
        let mut sum = vec![0.0f64; self.dim];
        let mut row = vec![0.0f32; self.width];
        for &id in &ids {
            let place = self.mapping.as_ref().map_or(id, |mapping| mapping[id as usize]);
            self.rows.decode(cpu, place as usize, &mut row);
            let weight = self.weights.as_ref().map_or(1.0, |weights| weights[id as usize]);
            sum.iter_mut().zip(&row).for_each(|(sum, &x)| *sum += f64::from(x) * weight);
        }
        let n = ids.len().max(1) as f64;
        out.iter_mut().zip(&sum).for_each(|(out, sum)| *out = (sum / n) as f32);
        if self.normalize {
            to_length_one(cpu, out);
        }
        Ok(())
    }
}

impl EmbeddingModel for StaticEmbedder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&self, run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>> {
        let cpu = run.cpu();
        let mut out = vec![0.0; texts.len() * self.dim];
        let mut done: Vec<Result<()>> = texts.iter().map(|_| Ok(())).collect();
        let places = out.chunks_exact_mut(self.dim).zip(&mut done);
        run.pieces(texts.iter().zip(places), |(text, (out, done)), _| *done = self.embed_one(cpu, text, out));
        done.into_iter().collect::<Result<()>>()?;
        Ok(out)
    }

    fn tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenizer.encode(text, &EncodeOptions::plain())?.ids.len())
    }

    /// Less than an encoder's: the best for the table inside on queries that judge nothing else (`src/assets/table/README.md`).
    fn weight(&self) -> f64 {
        0.5
    }

    fn name(&self) -> String {
        let unit = if self.normalize { ":unit" } else { "" };
        format!("static:{}{unit}:{:016x}", self.dim, self.fingerprint)
    }
}

impl Config {
    /// Of `config.json`, else `config_sentence_transformers.json`; a module that normalises counts too.
    fn read(folder: &Path) -> Result<Config> {
        let names = ["config.json", "config_sentence_transformers.json"];
        let mut read = Config::default();
        if let Some(path) = names.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
            let text = read_config(&path)?;
            let config = json::parse(&text).map_err(|e| e.in_file(path.display()))?;
            read.normalize = config.get("normalize").and_then(|value| value.as_bool()).unwrap_or(false);
            read.max_length = config.get("max_length").and_then(|value| value.as_usize());
        }
        let path = folder.join("modules.json");
        if path.exists() {
            let text = read_config(&path)?;
            let modules = json::parse(&text).map_err(|e| e.in_file(path.display()))?;
            let mut kinds = modules.elements().into_iter().flatten().filter_map(|module| module.get("type"));
            read.normalize |=
                kinds.any(|kind| kind.as_str().is_some_and(|kind| kind.ends_with(".Normalize")));
        }
        Ok(read)
    }
}

#[cfg(feature = "builtin")]
fn inside() -> Result<(Tokenizer, SafeTensors)> {
    use crate::assets::{TABLE, TABLE_TOKENS};
    Ok((Tokenizer::from_vocab_txt(TABLE_TOKENS)?, SafeTensors::from_bytes(TABLE)?))
}

#[cfg(not(feature = "builtin"))]
fn inside() -> Result<(Tokenizer, SafeTensors)> {
    Err(Error::invalid("this build has no table of vectors inside"))
}

/// The table, and its shape.
fn read_rows(file: &SafeTensors, name: &str) -> Result<(Rows, [usize; 2])> {
    let matrix = |shape: &[usize]| match *shape {
        [rows, width] if width > 0 => Ok([rows, width]),
        _ => Err(Error::Shape {
            file: String::new(),
            name: name.into(),
            shape: shape.to_vec(),
            expected: "(rows, features)".into(),
        }),
    };
    if let Some(stored) = Nf4::read(file, name)? {
        let shape = matrix(&stored.shape)?;
        return Ok((nf4_rows(stored, shape[1]), shape));
    }
    let tensor = file.tensor(name)?;
    let shape = matrix(tensor.shape)?;
    let words = || tensor.bytes.as_chunks().0.iter().map(|&word| u16::from_le_bytes(word));
    let rows = match tensor.dtype {
        Dtype::F32 => Rows::F32(floats(&tensor)),
        Dtype::F16 => Rows::F16(words().collect()),
        Dtype::BF16 => Rows::F32(words().map(bf16_to_f32).collect()),
        Dtype::I8 => Rows::I8(tensor.bytes.iter().map(|&byte| byte as i8).collect()),
        _ => return Err(wrong_type(&tensor, "F32, F16, BF16, I8, or NF4 of bitsandbytes")),
    };
    Ok((rows, shape))
}

/// As it is where every row has blocks of its own, else decoded.
fn nf4_rows(stored: Nf4, width: usize) -> Rows {
    let cpu = Cpu::detect();
    let (absmax, blocksize) = (stored.absmax.decode(cpu), stored.blocksize);
    if width.is_multiple_of(blocksize) && width.is_multiple_of(2) {
        return Rows::Nf4 { codes: stored.codes, absmax, blocksize };
    }
    let mut rows = vec![0.0; stored.elements()];
    nf4::dequantize(cpu, &stored.codes, &absmax, blocksize, &mut rows);
    Rows::F32(rows)
}

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    tensor.bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

fn wrong_type(tensor: &TensorView<'_>, expected: &'static str) -> Error {
    Error::Dtype {
        file: String::new(),
        name: tensor.name.into(),
        dtype: tensor.dtype.name().into(),
        expected: expected.into(),
    }
}

fn one_a_token(tensor: &TensorView<'_>, tokens: usize) -> Result<()> {
    if tensor.shape == [tokens] {
        return Ok(());
    }
    Err(Error::Shape {
        file: String::new(),
        name: tensor.name.into(),
        shape: tensor.shape.to_vec(),
        expected: format!("({tokens},), one for each token"),
    })
}

fn read_weights(tensor: &TensorView<'_>, tokens: usize) -> Result<Vec<f64>> {
    one_a_token(tensor, tokens)?;
    match tensor.dtype {
        Dtype::F64 => Ok(tensor.bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect()),
        Dtype::F32 => Ok(floats(tensor).into_iter().map(f64::from).collect()),
        _ => Err(wrong_type(tensor, "F32 or F64")),
    }
}

fn read_mapping(tensor: &TensorView<'_>, tokens: usize, rows: usize) -> Result<Vec<u32>> {
    one_a_token(tensor, tokens)?;
    let places: Vec<i64> = match tensor.dtype {
        Dtype::I64 => tensor.bytes.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect(),
        Dtype::I32 => {
            tensor.bytes.as_chunks().0.iter().map(|&word| i32::from_le_bytes(word).into()).collect()
        }
        _ => return Err(wrong_type(tensor, "I32 or I64")),
    };
    let place = |(i, row): (usize, i64)| {
        let known = u32::try_from(row).ok().filter(|&row| (row as usize) < rows);
        known.ok_or_else(|| Error::invalid(format!("mapping: token {i} has row {row} of {rows}")))
    };
    places.into_iter().enumerate().map(place).collect()
}

/// The median of the tokens' characters, rounded down: model2vec reckons the longest text with it.
fn median_length(tokenizer: &Tokenizer) -> usize {
    let ids = 0..tokenizer.vocab_len() as u32;
    let mut lengths: Vec<usize> =
        ids.filter_map(|id| tokenizer.id_to_token(id)).map(|token| token.chars().count()).collect();
    lengths.sort_unstable();
    let n = lengths.len();
    if n == 0 { 0 } else { (lengths[(n - 1) / 2] + lengths[n / 2]) / 2 }
}
