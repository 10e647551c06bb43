//! Decoders from llama2.c checkpoints: their numbers as a configuration, their tensors by Hugging Face's names.

use super::config::{Architecture, DecoderConfig, NormKind};
use super::load::Source;
use crate::io::llama2c::{Config, Llama2c};
use crate::kernels::Cpu;
use crate::kernels::activation::Activation;
use crate::kernels::attention::Options;
use crate::kernels::rope::Pairing;
use crate::nn::rotary::RotaryConfig;
use crate::tensor::Tensor;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

impl DecoderConfig {
    /// The configuration of a llama2.c checkpoint: what its numbers do not say is fixed in `run.c`.
    ///
    /// # Errors
    /// Where heads have an odd number of components.
    pub fn from_llama2c(file: &Llama2c) -> Result<DecoderConfig> {
        DecoderConfig::of_llama2c_numbers(file.config()).map_err(|e| e.in_file(file.name()))
    }

    /// The same from the numbers alone.
    pub(super) fn of_llama2c_numbers(c: &Config) -> Result<DecoderConfig> {
        let head_dim = c.dim / c.n_heads;
        if !head_dim.is_multiple_of(2) {
            return Err(Error::invalid(format!("heads of {head_dim} components")));
        }
        Ok(DecoderConfig {
            architecture: Architecture::Llama,
            vocab: c.vocab_size,
            dim: c.dim,
            hidden: c.hidden_dim,
            heads: c.n_heads,
            kv_heads: c.n_kv_heads,
            head_dim,
            context: c.seq_len,
            windows: vec![None; c.n_layers],
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            activation: Activation::Silu,
            rope: Some(RotaryConfig::new(head_dim, 10_000.0, Pairing::Interleaved)),
            length: c.seq_len,
            scale: Options::for_head_dim(head_dim).scale,
            score_cap: None,
            logit_cap: None,
            embedding_scale: None,
            tied: c.shared_classifier,
            qkv_bias: false,
            out_bias: false,
            network_bias: false,
            bos: Some(1),
            // Texts that the model was trained on are divided by the token that begins one.
            eos: vec![1, 2],
        })
    }
}

/// Parts of names, Meta's and Hugging Face's.
const PARTS: [(&str, &str); 12] = [
    ("tok_embeddings", "model.embed_tokens"),
    ("norm", "model.norm"),
    ("output", "lm_head"),
    ("attention_norm", "input_layernorm"),
    ("attention.wq", "self_attn.q_proj"),
    ("attention.wk", "self_attn.k_proj"),
    ("attention.wv", "self_attn.v_proj"),
    ("attention.wo", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("feed_forward.w1", "mlp.gate_proj"),
    ("feed_forward.w2", "mlp.down_proj"),
    ("feed_forward.w3", "mlp.up_proj"),
];

/// A checkpoint as a source of tensors with Hugging Face's names.
///
/// ```
/// use samebits::model::{Llama2cTensors, Source};
/// use samebits::io::llama2c::Llama2c;
/// let mut file: Vec<u8> = [2i32, 2, 1, 1, 1, 4, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
/// file.extend((0..46).flat_map(|i| (i as f32).to_le_bytes()));
/// let file = Llama2c::from_bytes(&file)?;
/// let source = Llama2cTensors(&file);
/// assert_eq!(source.tensor("model.embed_tokens.weight")?.shape(), [4, 2]);
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Llama2cTensors<'a>(pub &'a Llama2c);

/// `PREFIX.N.PART.weight` of one naming in the other, `part` looked up; `None` where it has no such name.
fn renamed<'n>(
    name: &'n str,
    prefix: (&str, &str),
    part: impl Fn(&'n str) -> Option<&'static str>,
) -> Option<String> {
    let stem = name.strip_suffix(".weight")?;
    match stem.strip_prefix(prefix.0).and_then(|rest| rest.split_once('.')) {
        Some((layer, own)) => Some(format!("{}{layer}.{}.weight", prefix.1, part(own)?)),
        None => Some(format!("{}.weight", part(stem)?)),
    }
}

fn outward(name: &str) -> Option<String> {
    renamed(name, ("layers.", "model.layers."), |own| PARTS.iter().find(|p| p.0 == own).map(|p| p.1))
}

fn inward(name: &str) -> Option<String> {
    renamed(name, ("model.layers.", "layers."), |own| PARTS.iter().find(|p| p.1 == own).map(|p| p.0))
}

impl Source for Llama2cTensors<'_> {
    fn file(&self) -> String {
        self.0.name().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.0.tensors().filter_map(|t| outward(t.name)).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.0.load(Cpu::detect(), &inward(name).unwrap_or_else(|| name.to_string()))
    }
}
