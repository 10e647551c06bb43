//! Late interaction: every token of the question finds the token of the text that is most like it.
//!
//! ```text
//!   score = Σ over tokens q of the question   max over tokens d of the text   q · d,     all vectors of length 1
//! ```
//!
//! Vectors are the encoder's last rows; where the folder has a `linear.weight` (ColBERT), what it makes of them. A folder
//! with `artifact.metadata` says ColBERT's conventions: a token of its own behind `[CLS]` in questions and in texts, the
//! lengths that both are cut to, whether punctuation in texts counts, and that questions are filled with `[MASK]`: as far
//! as these are attended to (`attend_to_mask_tokens`), for then they are tokens like any other; else none is put in.
//!
//! Reference: Khattab and Zaharia 2020, *ColBERT*; `colbert/modeling` of ColBERT 0.2.

use super::Reranker;
use crate::io::json;
use crate::io::safetensors::Checkpoint;
use crate::io::tokenizer::{Choice, EncodeOptions, Tokenizer};
use crate::kernels::dot;
use crate::kernels::view::{MatMut, MatRef};
use crate::model::{Encoder, EncoderConfig, Loader, Source, Workspace, read_config, to_length_one};
use crate::nn::{Arithmetic, Linear};
use crate::run::Run;
use crate::tensor::Tensor;
use crate::{Cpu, Error, Result};
use std::path::Path;

/// Judges by the vectors of tokens.
pub struct LateInteraction {
    tokenizer: Tokenizer,
    encoder: Encoder,
    projection: Option<Linear>,
    question: Form,
    text: Form,
}

/// How one of the two is written.
#[derive(Clone, Debug)]
struct Form {
    before: Vec<u32>,
    after: Vec<u32>,
    /// Tokens, those around it included.
    most: usize,
    /// What fills it up to `most`.
    fill: Option<u32>,
    /// Tokens whose vectors do not count.
    silent: Vec<u32>,
}

/// A model's tensors but for one that is none of the encoder's.
struct Without<'s>(&'s dyn Source, &'s str);

impl Source for Without<'_> {
    fn file(&self) -> String {
        self.0.file()
    }

    fn names(&self) -> Vec<String> {
        self.0.names().into_iter().filter(|name| name != self.1).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.0.tensor(name)
    }
}

const PROJECTION: &str = "linear.weight";

impl LateInteraction {
    /// Opens a folder of an encoder, or of ColBERT.
    ///
    /// # Errors
    /// Where a file is missing or malformed, or a token that it names does not exist.
    pub fn open(folder: impl AsRef<Path>, cpu: Cpu) -> Result<LateInteraction> {
        LateInteraction::open_in(folder, cpu, Arithmetic::F32)
    }

    /// [`LateInteraction::open`], the encoder computing in what is asked for.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(folder: impl AsRef<Path>, cpu: Cpu, arithmetic: Arithmetic) -> Result<LateInteraction> {
        let folder = folder.as_ref();
        let path = folder.join("config.json");
        let config = EncoderConfig::from_hf(&read_config(&path)?).map_err(|e| e.in_file(path.display()))?;
        let weights = Checkpoint::open(folder)?;
        let mut encoder = Encoder::load(cpu, config, &Without(&weights, PROJECTION))?;
        encoder.set_arithmetic(cpu, arithmetic)?;
        let projection = if Source::names(&weights).iter().any(|name| name == PROJECTION) {
            let out = Source::tensor(&weights, PROJECTION)?.shape().first().copied().unwrap_or(0);
            let shape = [out, encoder.config().dim];
            Some(Linear::new(Loader::new(cpu, &weights).weight(PROJECTION, shape)?, None))
        } else {
            None
        };
        let tokenizer = Tokenizer::open(folder)?;
        encoder.config().check_tokenizer(&tokenizer).map_err(|e| e.in_file(folder.display()))?;
        let [question, text] = forms(folder, &tokenizer, encoder.config().context())?;
        Ok(LateInteraction { tokenizer, encoder, projection, question, text })
    }

    /// A vector for each token that counts, row by row, and how many components they have.
    fn vectors(&self, run: &Run<'_>, form: &Form, text: &str) -> Result<(Vec<f32>, usize)> {
        let mut ids = self.tokenizer.encode(text, &EncodeOptions::plain())?.ids;
        ids.truncate(form.most.saturating_sub(form.before.len() + form.after.len()));
        let mut ids = [&form.before[..], &ids, &form.after].concat();
        if let Some(fill) = form.fill {
            ids.resize(form.most.max(ids.len()), fill);
        }
        let (n, dim) = (ids.len(), self.encoder.config().dim);
        let mut rows = vec![0.0; n * dim];
        self.encoder.forward(run, &[&ids], &mut rows, &mut Workspace::new())?;
        let width = self.projection.as_ref().map_or(dim, Linear::out_features);
        if let Some(projection) = &self.projection {
            let mut narrow = vec![0.0; n * width];
            projection.forward(run, MatRef::new(&rows, n, dim), MatMut::new(&mut narrow, n, width));
            rows = narrow;
        }
        let counted = rows.chunks_exact_mut(width).zip(&ids).filter(|(_, id)| !form.silent.contains(id));
        let mut out = Vec::with_capacity(n * width);
        for (row, _) in counted {
            to_length_one(run.cpu(), row);
            out.extend_from_slice(row);
        }
        Ok((out, width))
    }
}

/// Of questions and of texts.
fn forms(folder: &Path, tokenizer: &Tokenizer, context: usize) -> Result<[Form; 2]> {
    let alone = EncodeOptions { padding: Choice::Off, ..EncodeOptions::default() };
    let around = tokenizer.encode("", &alone)?.ids;
    let (before, after) = around.split_at(around.len().min(1));
    let plain =
        Form { before: before.into(), after: after.into(), most: context, fill: None, silent: Vec::new() };
    let path = folder.join("artifact.metadata");
    if !path.exists() {
        return Ok([plain.clone(), plain]);
    }
    let text = read_config(&path)?;
    let in_file = |e: Error| e.in_file(path.display());
    let said = json::parse(&text).map_err(in_file)?;
    let token = |name: &str| {
        let id = tokenizer.token_to_id(name);
        id.ok_or_else(|| in_file(Error::invalid(format!("there is no token {name:?}"))))
    };
    let form = |marker: &str, usual: &str, length: &str| {
        let marker = said.get(marker).and_then(|name| name.as_str());
        let marker = token(marker.as_deref().unwrap_or(usual))?;
        let most = said.get(length).and_then(|n| n.as_usize()).unwrap_or(context).min(context);
        Ok::<_, Error>(Form { before: [before, &[marker]].concat(), most, ..plain.clone() })
    };
    let flag = |name: &str| said.get(name).and_then(|value| value.as_bool());
    let mut question = form("query_token_id", "[unused0]", "query_maxlen")?;
    if flag("attend_to_mask_tokens") == Some(true) {
        question.fill = Some(token("[MASK]")?);
    }
    let mut document = form("doc_token_id", "[unused1]", "doc_maxlen")?;
    if flag("mask_punctuation") != Some(false) {
        let marks = (b'!'..=b'~').filter(u8::is_ascii_punctuation);
        document.silent =
            marks.filter_map(|mark| tokenizer.token_to_id(&char::from(mark).to_string())).collect();
    }
    Ok([question, document])
}

impl Reranker for LateInteraction {
    fn scores(&self, run: &Run<'_>, question: &str, texts: &[&str]) -> Result<Vec<f32>> {
        let (question, width) = self.vectors(run, &self.question, question)?;
        let mut scores = Vec::with_capacity(texts.len());
        for text in texts {
            let (rows, _) = self.vectors(run, &self.text, text)?;
            let n = rows.len() / width;
            let mut likeness = vec![0.0; n];
            let mut sum = 0.0f64;
            for q in question.chunks_exact(width) {
                dot::dot_rows(run.cpu(), q, MatRef::new(&rows, n, width), &mut likeness);
                let best = likeness.iter().copied().max_by(f32::total_cmp);
                sum += f64::from(best.unwrap_or(0.0));
            }
            scores.push(sum as f32);
        }
        Ok(scores)
    }
}
