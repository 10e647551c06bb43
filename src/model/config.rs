//! What a model is made of, read from Hugging Face's `config.json`.

mod hf;

use crate::io::tokenizer::Tokenizer;
use crate::kernels::activation::Activation;
use crate::nn::rotary::RotaryConfig;
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// Families of models, by the `model_type` of their configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama 1 to 3 and what shares its layout.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Qwen2: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms of q and k.
    Qwen3,
    /// Gemma.
    Gemma,
    /// Gemma 2: norms before and after, soft caps, windows on every other layer.
    Gemma2,
    /// Phi-3: fused projections.
    Phi3,
    /// GPT-2: learned positions, LayerNorm.
    Gpt2,
    /// BERT.
    Bert,
    /// RoBERTa and XLM-RoBERTa: positions begin after the padding id.
    Roberta,
}

/// Which norm a model uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// LayerNorm with weight and bias.
    Layer,
    /// RMSNorm.
    Rms,
    /// RMSNorm whose gain is 1 + w.
    RmsOnePlus,
}

/// A decoder: what computes the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Its family.
    pub architecture: Architecture,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Features of a token.
    pub dim: usize,
    /// Hidden features of the feed-forward network.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// For each layer: how many of the last tokens it sees; `None`: all.
    pub windows: Vec<Option<usize>>,
    /// Which norm.
    pub norm: NormKind,
    /// ε of the norms.
    pub norm_eps: f32,
    /// Of the feed-forward network.
    pub activation: Activation,
    /// How positions turn queries and keys; `None`: positions are learned.
    pub rope: Option<RotaryConfig>,
    /// The length of text, in tokens, that selects a scaling which depends on it (dynamic NTK, LongRoPE): fixed
    /// when the model is loaded, so that no split of a text can change a bit.
    pub length: usize,
    /// What q · k is multiplied by.
    pub scale: f32,
    /// Soft cap of the scores.
    pub score_cap: Option<f32>,
    /// Soft cap of the logits.
    pub logit_cap: Option<f32>,
    /// What embeddings are multiplied by.
    pub embedding_scale: Option<f32>,
    /// Whether the output layer is the embedding table.
    pub tied: bool,
    /// Biases of q, k and v.
    pub qkv_bias: bool,
    /// Biases of attention's output.
    pub out_bias: bool,
    /// Biases of the feed-forward network.
    pub network_bias: bool,
    /// The token that begins a text, where the configuration names one.
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
}

/// How an encoder's rows become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The mean of all tokens'.
    #[default]
    Mean,
    /// The largest of each feature.
    Max,
    /// The last token's.
    Last,
}

/// An encoder: what turns a text into vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Its family.
    pub architecture: Architecture,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Features of a token.
    pub dim: usize,
    /// Hidden features of the feed-forward network.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Rows of the table of positions.
    pub positions: usize,
    /// The row of the first position.
    pub first_position: usize,
    /// Kinds of segments.
    pub segments: usize,
    /// ε of the norms.
    pub norm_eps: f32,
    /// Of the feed-forward network.
    pub activation: Activation,
}

impl EncoderConfig {
    /// Tokens of the longest text.
    pub const fn context(&self) -> usize {
        self.positions - self.first_position
    }

    /// Looks whether there is a row for every token.
    ///
    /// # Errors
    /// Where there is not.
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        let (tokens, rows) = (tokenizer.vocab_len(), self.vocab);
        if tokens > rows {
            return Err(Error::invalid(format!("the tokenizer has {tokens} tokens, the model {rows}")));
        }
        Ok(())
    }
}
