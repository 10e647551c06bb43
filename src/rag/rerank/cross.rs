//! Cross-encoders: question and text read together, `[CLS] question [SEP] text [SEP]`.

use super::Reranker;
use crate::io::json;
use crate::io::safetensors::Checkpoint;
use crate::io::tokenizer::{Choice, EncodeOptions, Tokenizer, Truncation};
use crate::kernels::elementwise::{self, Unary};
use crate::kernels::view::MatMut;
use crate::model::{Classifier, EncoderConfig, read_config};
use crate::nn::Arithmetic;
use crate::run::Run;
use crate::{Cpu, Error, Result};
use std::path::Path;

/// Pairs that are read at a time.
const BATCH: usize = 32;

/// Judges with a BERT or RoBERTa that has a head of one label, as `CrossEncoder` of sentence-transformers does.
pub struct CrossEncoder {
    tokenizer: Tokenizer,
    model: Classifier,
    /// Whether scores are 1 / (1 + exp(−logit)).
    sigmoid: bool,
}

impl CrossEncoder {
    /// Opens a folder of Hugging Face. Pairs are cut to the model's positions, the longer text first.
    ///
    /// # Errors
    /// Where a file is missing or malformed, or the model has not one label.
    pub fn open(folder: impl AsRef<Path>, cpu: Cpu) -> Result<CrossEncoder> {
        CrossEncoder::open_in(folder, cpu, Arithmetic::F32)
    }

    /// [`CrossEncoder::open`], the encoder computing in what is asked for.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(folder: impl AsRef<Path>, cpu: Cpu, arithmetic: Arithmetic) -> Result<CrossEncoder> {
        let folder = folder.as_ref();
        let path = folder.join("config.json");
        let text = read_config(&path)?;
        let config = EncoderConfig::from_hf(&text).map_err(|e| e.in_file(path.display()))?;
        let sigmoid = sigmoid(&text).map_err(|e| e.in_file(path.display()))?;
        let weights = Checkpoint::open(folder)?;
        let mut model = Classifier::load(cpu, config, &weights)?;
        model.encoder.set_arithmetic(cpu, arithmetic)?;
        if model.labels() != 1 {
            let what = format!("{} labels; a model that ranks has one", model.labels());
            return Err(Error::invalid(what).in_file(folder.display()));
        }
        let mut tokenizer = Tokenizer::open(folder)?;
        model.encoder.config().check_tokenizer(&tokenizer).map_err(|e| e.in_file(folder.display()))?;
        tokenizer.set_truncation(Some(Truncation::to(model.encoder.config().context())));
        Ok(CrossEncoder { tokenizer, model, sigmoid })
    }
}

/// What the configuration says is done to the logit: a sigmoid unless it names `Identity`.
fn sigmoid(text: &[u8]) -> Result<bool> {
    let config = json::parse(text)?;
    let nested = config.get("sentence_transformers").and_then(|all| all.get("activation_fn"));
    let named = nested.or_else(|| config.get("sbert_ce_default_activation_function"));
    let Some(name) = named.and_then(|name| name.as_str()) else { return Ok(true) };
    match name.rsplit('.').next() {
        Some("Sigmoid") => Ok(true),
        Some("Identity") => Ok(false),
        _ => Err(Error::invalid(format!("activation {name:?} is neither Sigmoid nor Identity"))),
    }
}

impl Reranker for CrossEncoder {
    fn scores(&self, run: &Run<'_>, question: &str, texts: &[&str]) -> Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(texts.len());
        let options = EncodeOptions { padding: Choice::Off, ..EncodeOptions::default() };
        for texts in texts.chunks(BATCH) {
            let pairs: Vec<(&str, &str)> = texts.iter().map(|&text| (question, text)).collect();
            let mut pairs = self.tokenizer.encode_pairs(&pairs, &options)?;
            if self.model.encoder.config().segments == 1 {
                pairs.iter_mut().for_each(|pair| pair.type_ids.fill(0));
            }
            let ids: Vec<&[u32]> = pairs.iter().map(|pair| &pair.ids[..]).collect();
            let segments: Vec<&[u32]> = pairs.iter().map(|pair| &pair.type_ids[..]).collect();
            scores.extend(self.model.logits(run, &ids, &segments)?);
        }
        if self.sigmoid {
            let n = scores.len();
            elementwise::unary_in_place(run.cpu(), Unary::Sigmoid, MatMut::new(&mut scores, 1, n));
        }
        Ok(scores)
    }
}
