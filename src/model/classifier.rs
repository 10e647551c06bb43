//! An encoder that judges: its first row through a head of two layers, one number a label.
//!
//! ```text
//!   BERT      y = classifier(tanh(pooler.dense(row of [CLS])))
//!   RoBERTa   y = classifier.out_proj(tanh(classifier.dense(row of <s>)))
//! ```
//!
//! Reference: `BertForSequenceClassification` and `RobertaForSequenceClassification` of transformers.

use super::config::{Architecture, EncoderConfig};
use super::decoder::Workspace;
use super::encoder::Encoder;
use super::load::{Loader, Source};
use crate::kernels::Cpu;
use crate::kernels::elementwise::{self, Unary};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::Linear;
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// An encoder with a head.
///
/// ```
/// use samebits::model::{Classifier, EncoderConfig};
/// use samebits::{Cpu, io::safetensors::Checkpoint, run::Run};
/// let (run, path) = (Run::here(Cpu::detect()), "tests/data/rerank/bert");
/// let config = EncoderConfig::from_hf(&std::fs::read(format!("{path}/config.json")).unwrap())?;
/// let model = Classifier::load(run.cpu(), config, &Checkpoint::open(path)?)?;
/// assert_eq!(model.labels(), 1); // of a reranker: how well a text answers a question
/// let scores = model.logits(&run, &[&[2, 5, 3, 6, 3], &[2, 5, 3, 7, 3]], &[&[0, 0, 0, 1, 1][..]; 2])?;
/// assert_eq!(scores.len(), 2);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Classifier {
    /// The layers below.
    pub encoder: Encoder,
    dense: Linear,
    out: Linear,
}

impl Classifier {
    /// Builds the model of `config` from a source's tensors.
    ///
    /// # Errors
    /// As [`Encoder::load`]; where there is no head.
    pub fn load(cpu: Cpu, config: EncoderConfig, source: &dyn Source) -> Result<Classifier> {
        let dim = config.dim;
        let (dense, out) = match config.architecture {
            Architecture::Roberta => ("classifier.dense", "classifier.out_proj"),
            _ => ("bert.pooler.dense", "classifier"),
        };
        let mut loader = Loader::new(cpu, source);
        let labels = match source.tensor(&format!("{out}.weight")) {
            Ok(weight) => weight.shape().first().copied().unwrap_or(0),
            Err(e) => return Err(e),
        };
        if labels == 0 {
            return Err(Error::invalid("a head without labels").in_file(source.file()));
        }
        let dense = loader.linear(dense, [dim, dim], true)?;
        let out = loader.linear(out, [labels, dim], true)?;
        Ok(Classifier { encoder: Encoder::load(cpu, config, source)?, dense, out })
    }

    /// Numbers that it gives of a text.
    pub const fn labels(&self) -> usize {
        self.out.out_features()
    }

    /// The numbers of each text, (texts, labels), given its tokens and their segments: a text's are the same whatever
    /// texts are beside it.
    ///
    /// # Errors
    /// As [`Encoder::forward_segments`]; where a text has no token.
    ///
    /// # Panics
    /// Where segments are not one a token.
    pub fn logits(&self, run: &Run<'_>, texts: &[&[u32]], segments: &[&[u32]]) -> Result<Vec<f32>> {
        let dim = self.encoder.config().dim;
        if texts.iter().any(|text| text.is_empty()) {
            return Err(Error::invalid("a text without tokens is not judged"));
        }
        let rows: usize = texts.iter().map(|text| text.len()).sum();
        let mut hidden = vec![0.0; rows * dim];
        self.encoder.forward_segments(run, texts, segments, &mut hidden, &mut Workspace::new())?;
        let mut first = Vec::with_capacity(texts.len() * dim);
        let mut start = 0;
        for text in texts {
            first.extend_from_slice(&hidden[start * dim..][..dim]);
            start += text.len();
        }
        let n = texts.len();
        let mut pooled = vec![0.0; n * dim];
        self.dense.forward(run, MatRef::new(&first, n, dim), MatMut::new(&mut pooled, n, dim));
        elementwise::unary_in_place(run.cpu(), Unary::Tanh, MatMut::new(&mut pooled, 1, n * dim));
        let mut out = vec![0.0; n * self.labels()];
        self.out.forward(run, MatRef::new(&pooled, n, dim), MatMut::new(&mut out, n, self.labels()));
        Ok(out)
    }
}
