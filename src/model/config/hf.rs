//! `config.json` of Hugging Face's transformers.

use super::{Architecture, DecoderConfig, EncoderConfig, NormKind};
use crate::io::json::{self, Excerpt, Value};
use crate::kernels::activation::Activation;
use crate::kernels::attention::Options;
use crate::nn::rotary::RotaryConfig;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// The most that a number of a configuration may be: far above every model, far below what overflows.
const MOST: usize = 1 << 24;

impl Architecture {
    /// The family that a `model_type` names.
    ///
    /// # Errors
    /// Where it is none that is known, or there is no such key.
    pub fn of_config(text: &[u8]) -> Result<Architecture> {
        Architecture::of(Object(json::parse(text)?))
    }

    fn of(config: Object<'_>) -> Result<Architecture> {
        let name = config.0.get("model_type").and_then(Value::as_str);
        let name = name.ok_or_else(|| Error::invalid("no \"model_type\" in the configuration"))?;
        Ok(match &*name {
            "llama" => Architecture::Llama,
            "mistral" => Architecture::Mistral,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "gemma" => Architecture::Gemma,
            "gemma2" => Architecture::Gemma2,
            "phi3" => Architecture::Phi3,
            "gpt2" => Architecture::Gpt2,
            "bert" => Architecture::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Architecture::Roberta,
            _ => {
                return Err(Error::invalid(format!(
                    "model_type {} is not known; bert, gemma, gemma2, gpt2, llama, mistral, phi3, qwen2, \
                     qwen3, roberta and xlm-roberta are",
                    Excerpt(&name)
                )));
            }
        })
    }

    /// Whether it is an encoder.
    pub const fn is_encoder(self) -> bool {
        matches!(self, Architecture::Bert | Architecture::Roberta)
    }
}

/// A configuration and what its keys must be.
#[derive(Clone, Copy)]
struct Object<'a>(Value<'a>);

impl<'a> Object<'a> {
    /// The value of a key, unless it is absent or null.
    fn get(self, key: &str) -> Option<Value<'a>> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn bad(self, key: &str, value: Value<'_>, what: &str) -> Error {
        let _ = self;
        value.expected(&format!("{what} for {key}"))
    }

    fn maybe_usize(self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_usize().filter(|&n| n <= MOST);
        number.map(Some).ok_or_else(|| self.bad(key, value, &format!("a number up to {MOST}")))
    }

    /// A number of at least one.
    fn usize(self, key: &str) -> Result<usize> {
        match self.maybe_usize(key)? {
            Some(0) => Err(Error::invalid(format!("{key} is 0"))),
            Some(n) => Ok(n),
            None => Err(Error::invalid(format!("no {key:?} in the configuration"))),
        }
    }

    fn layers(self, key: &str) -> Result<usize> {
        let layers = self.usize(key)?;
        let sane = layers <= 4096;
        if sane { Ok(layers) } else { Err(Error::invalid(format!("{key} is {layers}"))) }
    }

    fn f64(self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| self.bad(key, value, "a finite number"))
    }

    fn bool(self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.bad(key, value, "true or false"))
    }

    fn activation(self, key: &str, default: &str) -> Result<Activation> {
        let name = self.get(key).and_then(Value::as_str).unwrap_or(default.into());
        Ok(match &*name {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::GeluErf,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "quick_gelu" => Activation::GeluQuick,
            "relu" => Activation::Relu,
            _ => return Err(Error::invalid(format!("{key} {} is not known", Excerpt(&name)))),
        })
    }

    /// Token ids: a number or a list of them.
    fn ids(self, key: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else { return Ok(vec![]) };
        let one = |v: Value<'_>| v.as_u64().and_then(|id| u32::try_from(id).ok());
        let all = match value.elements() {
            Some(list) => list.map(one).collect(),
            None => one(value).map(|id| vec![id]),
        };
        all.ok_or_else(|| self.bad(key, value, "token ids"))
    }
}

impl DecoderConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Where it is malformed, of a family that is not a decoder's, or asks for what is not known.
    pub fn from_hf(text: &[u8]) -> Result<DecoderConfig> {
        let config = Object(json::parse(text)?);
        match Architecture::of(config)? {
            a if a.is_encoder() => Err(Error::invalid(format!("{a:?} is an encoder: it has no next token"))),
            Architecture::Gpt2 => gpt2(config),
            other => llama_like(config, other),
        }
    }
}

fn gpt2(config: Object<'_>) -> Result<DecoderConfig> {
    let (dim, heads, layers) = (config.usize("n_embd")?, config.usize("n_head")?, config.layers("n_layer")?);
    if !dim.is_multiple_of(heads) {
        return Err(Error::invalid(format!("n_embd {dim} is no multiple of n_head {heads}")));
    }
    for (key, usual) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)] {
        if config.bool(key, usual)? != usual {
            return Err(Error::invalid(format!("{key} other than {usual} is not known")));
        }
    }
    Ok(DecoderConfig {
        architecture: Architecture::Gpt2,
        vocab: config.usize("vocab_size")?,
        dim,
        hidden: config.maybe_usize("n_inner")?.unwrap_or(4 * dim),
        heads,
        kv_heads: heads,
        head_dim: dim / heads,
        context: config.usize("n_positions")?,
        windows: vec![None; layers],
        norm: NormKind::Layer,
        norm_eps: config.f64("layer_norm_epsilon", 1e-5)? as f32,
        activation: config.activation("activation_function", "gelu_new")?,
        rope: None,
        length: config.usize("n_positions")?,
        scale: Options::for_head_dim(dim / heads).scale,
        score_cap: None,
        logit_cap: None,
        embedding_scale: None,
        tied: config.bool("tie_word_embeddings", true)?,
        qkv_bias: true,
        out_bias: true,
        network_bias: true,
        bos: config.ids("bos_token_id")?.first().copied(),
        eos: config.ids("eos_token_id")?,
    })
}

fn llama_like(config: Object<'_>, architecture: Architecture) -> Result<DecoderConfig> {
    use Architecture::{Gemma, Gemma2, Qwen2};
    let gemma = matches!(architecture, Gemma | Gemma2);
    let (dim, heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let kv_heads = config.maybe_usize("num_key_value_heads")?.unwrap_or(heads);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(Error::invalid(format!("{heads} heads are no multiple of {kv_heads} key heads")));
    }
    let head_dim = match config.maybe_usize("head_dim")? {
        Some(0) => return Err(Error::invalid("head_dim is 0")),
        Some(n) => n,
        None if gemma => 256,
        None => dim / heads,
    };
    let cap = |key: &str| -> Result<Option<f32>> {
        let cap = config.get(key).map(|_| config.f64(key, 0.0)).transpose()?;
        match cap {
            Some(cap) if cap <= 0.0 => Err(Error::invalid(format!("{key} is {cap}"))),
            cap => Ok(cap.map(|cap| cap as f32)),
        }
    };
    let bias = config.bool("attention_bias", false)?;
    let score = config.f64("query_pre_attn_scalar", head_dim as f64)?;
    if score <= 0.0 {
        return Err(Error::invalid(format!("query_pre_attn_scalar is {score}")));
    }
    let default_norm = if gemma { NormKind::RmsOnePlus } else { NormKind::Rms };
    Ok(DecoderConfig {
        architecture,
        vocab: config.usize("vocab_size")?,
        dim,
        hidden: config.usize("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        context: config.usize("max_position_embeddings")?,
        windows: windows(config, architecture)?,
        norm: default_norm,
        norm_eps: config.f64("rms_norm_eps", 1e-6)? as f32,
        activation: activation(config, gemma)?,
        rope: Some(RotaryConfig::from_json(config.0, None, head_dim, 10_000.0)?),
        length: config.usize("max_position_embeddings")?,
        scale: (1.0 / crate::kernels::simd::sqrt64(score)) as f32,
        score_cap: if architecture == Gemma2 { cap("attn_logit_softcapping")? } else { None },
        logit_cap: if architecture == Gemma2 { cap("final_logit_softcapping")? } else { None },
        embedding_scale: gemma.then(|| crate::kernels::simd::sqrt64(dim as f64) as f32),
        tied: config.bool("tie_word_embeddings", gemma)?,
        qkv_bias: bias || architecture == Qwen2,
        out_bias: bias && architecture != Qwen2,
        network_bias: config.bool("mlp_bias", false)?,
        bos: config.ids("bos_token_id")?.first().copied(),
        eos: config.ids("eos_token_id")?,
    })
}

/// Gemma's files name "gelu" where its code means the tanh form, unless `hidden_activation` says otherwise.
fn activation(config: Object<'_>, gemma: bool) -> Result<Activation> {
    match gemma {
        true => config.activation("hidden_activation", "gelu_pytorch_tanh"),
        false => config.activation("hidden_act", "silu"),
    }
}

/// The window of each layer.
fn windows(config: Object<'_>, architecture: Architecture) -> Result<Vec<Option<usize>>> {
    let layers = config.layers("num_hidden_layers")?;
    let window = config.maybe_usize("sliding_window")?.filter(|&w| w > 0);
    if let Some(types) = config.get("layer_types").and_then(Value::elements) {
        let types: Vec<_> = types.collect();
        if types.len() != layers {
            return Err(Error::invalid(format!("{} layer_types for {layers} layers", types.len())));
        }
        let one = |t: &Value<'_>| match t.as_str().as_deref() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            _ => Err(t.expected("\"full_attention\" or \"sliding_attention\" in layer_types")),
        };
        return types.iter().map(one).collect();
    }
    Ok(match architecture {
        Architecture::Mistral | Architecture::Phi3 => vec![window; layers],
        Architecture::Gemma2 => (0..layers).map(|i| if i % 2 == 0 { window } else { None }).collect(),
        Architecture::Qwen2 | Architecture::Qwen3 if config.bool("use_sliding_window", false)? => {
            let from = config.maybe_usize("max_window_layers")?.unwrap_or(layers);
            (0..layers).map(|i| if i >= from { window } else { None }).collect()
        }
        _ => vec![None; layers],
    })
}

impl EncoderConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Where it is malformed, of a family that is not an encoder's, or asks for what is not known.
    pub fn from_hf(text: &[u8]) -> Result<EncoderConfig> {
        let config = Object(json::parse(text)?);
        let architecture = Architecture::of(config)?;
        if !architecture.is_encoder() {
            return Err(Error::invalid(format!("{architecture:?} is a decoder: it does not embed texts")));
        }
        let (dim, heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
        let positions = config.usize("max_position_embeddings")?;
        let first_position = match architecture {
            Architecture::Roberta => config.maybe_usize("pad_token_id")?.unwrap_or(1) + 1,
            _ => 0,
        };
        if !dim.is_multiple_of(heads) || first_position >= positions {
            return Err(Error::invalid(format!(
                "hidden_size {dim} for {heads} heads, {positions} positions from {first_position} on"
            )));
        }
        let kind = config.get("position_embedding_type").and_then(Value::as_str);
        if let Some(kind) = kind.filter(|kind| kind != "absolute") {
            return Err(Error::invalid(format!("position_embedding_type {} is not known", Excerpt(&kind))));
        }
        Ok(EncoderConfig {
            architecture,
            vocab: config.usize("vocab_size")?,
            dim,
            hidden: config.usize("intermediate_size")?,
            layers: config.layers("num_hidden_layers")?,
            heads,
            positions,
            first_position,
            segments: config.usize("type_vocab_size")?,
            norm_eps: config.f64("layer_norm_eps", 1e-12)? as f32,
            activation: config.activation("hidden_act", "gelu")?,
        })
    }
}
