//! An encoder and its tokenizer: texts to vectors as sentence-transformers makes them.

use super::prompts::Prompts;
use super::{EmbeddingModel, Options, token_ids};
use crate::golden::hash;
use crate::io::tokenizer::{Choice, EncodeOptions, Tokenizer, Truncation};
use crate::model::{Opening, SentenceEncoder, Workspace, to_length_one};
use crate::nn::Arithmetic;
use crate::run::Run;
use crate::{Cpu, Error, Result};
use std::path::Path;

/// Texts whose tokens are in memory at a time.
const BATCH: usize = 512;

/// A text of many kinds of characters, whose vector tells one model from another.
const PROBE: &str = "The quick brown fox, 42 naïve cafés & a résumé: 漢字 (Δx = 0.5)!";

/// Cut to the model's length, with its template, and nothing after it.
const OPTIONS: EncodeOptions<'static> = EncodeOptions {
    special_tokens: true,
    pair: None,
    truncation: Choice::File,
    padding: Choice::Off,
    special_text: Choice::File,
};

/// Embeds with an encoder. Texts are cut to the length that it was made for.
pub struct TransformerEmbedder {
    tokenizer: Tokenizer,
    model: SentenceEncoder,
    prompts: Prompts,
    dim: usize,
    fingerprint: u64,
}

impl TransformerEmbedder {
    /// Opens a folder of Hugging Face or sentence-transformers.
    ///
    /// # Errors
    /// Where a file is missing or malformed, describes what is not known, or tokenizer and model do not fit.
    pub fn open(folder: impl AsRef<Path>, cpu: Cpu, options: Options) -> Result<TransformerEmbedder> {
        let folder = folder.as_ref();
        let here = |e: Error| e.in_file(folder.display());
        let opening =
            Opening { arithmetic: options.arithmetic, access: options.access, ..Opening::default() };
        let model = SentenceEncoder::open_with(folder, cpu, opening)?;
        let mut tokenizer = Tokenizer::open(folder)?;
        model.encoder.config().check_tokenizer(&tokenizer).map_err(here)?;
        tokenizer.set_truncation(Some(Truncation::to(model.max_tokens)));
        let dim = options.dim_of(model.encoder.config().dim).map_err(here)?;
        let prompts = Prompts::read(folder)?;
        let mut embedder = TransformerEmbedder { tokenizer, model, prompts, dim, fingerprint: 0 };
        // Every weight of every layer has a part in it, and every machine makes the same bits of it.
        let probe = [embedder.prompts.query.clone() + PROBE, embedder.prompts.passage.clone() + PROBE];
        let mut vectors = embedder.raw(&Run::here(cpu), &[&probe[0], &probe[1]])?;
        embedder.finish(cpu, &mut vectors);
        embedder.fingerprint = hash(&vectors);
        embedder.model.normalize |= options.normalize;
        Ok(embedder)
    }

    /// The encoder.
    pub const fn model(&self) -> &SentenceEncoder {
        &self.model
    }

    /// Its tokenizer.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Pooled rows of at most [`BATCH`] texts, (texts, features of the encoder).
    fn raw(&self, run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>> {
        let ids = token_ids(run, &self.tokenizer, texts, &OPTIONS)?;
        // The longest first, so that no thread is left with one at the end.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| (usize::MAX - ids[i].len(), i));
        let sorted: Vec<&[u32]> = order.iter().map(|&i| &ids[i][..]).collect();
        let dim = self.model.encoder.config().dim;
        let mut rows = vec![0.0; texts.len() * dim];
        let (encoder, pooling) = (&self.model.encoder, self.model.pooling);
        encoder.embed_texts(run, &sorted, pooling, &mut rows, &mut Workspace::new())?;
        let mut out = vec![0.0; rows.len()];
        for (row, &i) in rows.chunks_exact(dim).zip(&order) {
            out[i * dim..][..dim].copy_from_slice(row);
        }
        Ok(out)
    }

    /// Cuts rows to the components that are wanted, and scales them where the model does.
    fn finish(&self, cpu: Cpu, rows: &mut Vec<f32>) {
        let dim = self.model.encoder.config().dim;
        if self.dim < dim {
            *rows = rows.chunks_exact(dim).flat_map(|row| &row[..self.dim]).copied().collect();
        }
        if self.model.normalize {
            rows.chunks_exact_mut(self.dim).for_each(|row| to_length_one(cpu, row));
        }
    }

    fn prompted(&self, run: &Run<'_>, prompt: &str, texts: &[&str]) -> Result<Vec<f32>> {
        let mut out = Vec::with_capacity(texts.len() * self.dim);
        for texts in texts.chunks(BATCH) {
            let mut rows = if prompt.is_empty() {
                self.raw(run, texts)?
            } else {
                let texts: Vec<String> = texts.iter().map(|text| format!("{prompt}{text}")).collect();
                self.raw(run, &texts.iter().map(String::as_str).collect::<Vec<_>>())?
            };
            self.finish(run.cpu(), &mut rows);
            out.extend_from_slice(&rows);
        }
        Ok(out)
    }
}

impl EmbeddingModel for TransformerEmbedder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&self, run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>> {
        self.prompted(run, &self.prompts.passage, texts)
    }

    fn embed_query(&self, run: &Run<'_>, text: &str) -> Result<Vec<f32>> {
        self.prompted(run, &self.prompts.query, &[text])
    }

    fn tokens(&self, text: &str) -> Result<usize> {
        let text = self.prompts.passage.clone() + text;
        Ok(self.tokenizer.encode(&text, &EncodeOptions::default())?.ids.len())
    }

    fn name(&self) -> String {
        let unit = if self.model.normalize { ":unit" } else { "" };
        let class = |(key, class): (&str, &str)| match key {
            "compute" => format!(":{class}"),
            key => format!(":{key}-{class}"),
        };
        let classes: String = self.arithmetic().unusual().map(class).collect();
        format!("transformer:{}{unit}{classes}:{:016x}", self.dim, self.fingerprint)
    }

    fn arithmetic(&self) -> Arithmetic {
        self.model.encoder.arithmetic()
    }
}
