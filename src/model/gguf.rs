//! Decoders from GGUF files: their metadata as a configuration, their tensors by Hugging Face's names.
//!
//! Reference: `llama.cpp`'s `gguf-py` (`constants.py`, `tensor_mapping.py`) and its converter, which permutes q and k
//! of Llama to the interleaved pairing, and adds 1 to the gains of Gemma.

pub(super) mod rope_scaling;

use super::config::{Architecture, DecoderConfig, NormKind};
use super::load::{Source, is_column};
use crate::io::gguf::{Gguf, ValueType};
use crate::kernels::Cpu;
use crate::kernels::activation::Activation;
use crate::kernels::attention::Options;
use crate::kernels::ggml::Rows;
use crate::kernels::rope::Pairing;
use crate::nn::Weight;
use crate::nn::rotary::RotaryConfig;
use crate::tensor::Tensor;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// Numbers of a configuration are below this.
const MOST: usize = 1 << 24;

/// The metadata of a file, by the keys of its architecture.
struct Metadata<'a> {
    file: &'a Gguf,
    name: &'a str,
}

impl Metadata<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn maybe_usize(&self, key: &str) -> Result<Option<usize>> {
        let key = self.key(key);
        let Some(entry) = self.file.find(&key) else { return Ok(None) };
        match entry.usize()? {
            n if n <= MOST => Ok(Some(n)),
            n => Err(Error::invalid(format!("metadata {key} is {n}"))),
        }
    }

    fn usize(&self, key: &str) -> Result<usize> {
        match self.maybe_usize(key)? {
            Some(0) => Err(Error::invalid(format!("metadata {} is 0", self.key(key)))),
            Some(n) => Ok(n),
            None => Err(Error::invalid(format!("no metadata {:?}", self.key(key)))),
        }
    }

    fn f32(&self, key: &str) -> Result<Option<f32>> {
        let key = self.key(key);
        let Some(entry) = self.file.find(&key) else { return Ok(None) };
        let x = entry.f32()?;
        if x.is_finite() { Ok(Some(x)) } else { Err(Error::invalid(format!("metadata {key} is {x}"))) }
    }

    fn id(&self, key: &str) -> Result<Option<u32>> {
        self.file.find(&format!("tokenizer.ggml.{key}")).map(|entry| entry.u32()).transpose()
    }
}

impl DecoderConfig {
    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// Where a key is missing or malformed, or the architecture is not known.
    pub fn from_gguf(file: &Gguf) -> Result<DecoderConfig> {
        read(file).map_err(|e| e.in_file(file.name()))
    }
}

/// What the format calls families.
const FAMILIES: [(&str, Architecture); 8] = [
    ("llama", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
    ("gemma", Architecture::Gemma),
    ("gemma2", Architecture::Gemma2),
    ("phi3", Architecture::Phi3),
    ("gpt2", Architecture::Gpt2),
    ("llama", Architecture::Mistral), // the last: the name alone says Llama
];

/// What the format calls a family.
pub(crate) fn family_name(architecture: Architecture) -> Option<&'static str> {
    FAMILIES.iter().find(|(_, known)| *known == architecture).map(|(name, _)| *name)
}

/// The family that a file's architecture names.
fn architecture(name: &str) -> Result<Architecture> {
    let found = FAMILIES.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, architecture)| architecture).ok_or_else(|| {
        Error::invalid(format!(
            "architecture {name:?} is not known; gemma, gemma2, gpt2, llama, phi3, qwen2 and qwen3 are"
        ))
    })
}

fn read(file: &Gguf) -> Result<DecoderConfig> {
    use Architecture::{Gemma, Gemma2, Gpt2};
    let name = file.entry("general.architecture")?.str()?;
    let architecture = architecture(name)?;
    let data = Metadata { file, name };
    let (dim, heads) = (data.usize("embedding_length")?, data.usize("attention.head_count")?);
    let kv_heads = data.maybe_usize("attention.head_count_kv")?.unwrap_or(heads);
    let head_dim = data.maybe_usize("attention.key_length")?.unwrap_or(dim / heads);
    let layers = data.usize("block_count")?;
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || head_dim == 0 || layers > 4096 {
        let what = format!("{layers} layers, {heads} heads of {head_dim}, {kv_heads} key heads");
        return Err(Error::invalid(what));
    }
    let gemma = matches!(architecture, Gemma | Gemma2);
    let gpt2 = architecture == Gpt2;
    let scale = match (architecture, dim / heads) {
        // Gemma 2 27B divides by dim / heads, the others by head_dim; llama.cpp knows it by its layers.
        (Gemma2, per_head) if layers == 46 => Options::for_head_dim(per_head).scale,
        _ => Options::for_head_dim(head_dim).scale,
    };
    let eps = if gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    Ok(DecoderConfig {
        architecture,
        vocab: vocabulary(file, &data)?,
        dim,
        hidden: data.usize("feed_forward_length")?,
        heads,
        kv_heads,
        head_dim,
        context: data.usize("context_length")?,
        windows: windows(&data, architecture, layers)?,
        norm: if gpt2 { NormKind::Layer } else { NormKind::Rms },
        norm_eps: data.f32(eps)?.ok_or_else(|| Error::invalid(format!("no metadata {:?}", data.key(eps))))?,
        activation: if gemma || gpt2 { Activation::GeluTanh } else { Activation::Silu },
        rope: if gpt2 { None } else { Some(rope(&data, architecture, head_dim)?) },
        length: data.usize("context_length")?,
        scale,
        score_cap: data.f32("attn_logit_softcapping")?,
        logit_cap: data.f32("final_logit_softcapping")?,
        embedding_scale: gemma.then(|| crate::kernels::simd::sqrt64(dim as f64) as f32),
        tied: file.tensors().all(|t| t.name != "output.weight"),
        qkv_bias: gpt2 || file.tensors().any(|t| t.name == "blk.0.attn_q.bias"),
        out_bias: gpt2 || file.tensors().any(|t| t.name == "blk.0.attn_output.bias"),
        network_bias: gpt2 || file.tensors().any(|t| t.name == "blk.0.ffn_down.bias"),
        bos: data.id("bos_token_id")?,
        eos: [data.id("eos_token_id")?, data.id("eot_token_id")?].into_iter().flatten().collect(),
    })
}

/// Tokens: what the metadata says, or as many as the tokenizer has.
fn vocabulary(file: &Gguf, data: &Metadata<'_>) -> Result<usize> {
    if let Some(n) = data.maybe_usize("vocab_size")?.filter(|&n| n > 0) {
        return Ok(n);
    }
    Ok(file.entry("tokenizer.ggml.tokens")?.array(ValueType::String)?.len())
}

fn windows(data: &Metadata<'_>, architecture: Architecture, layers: usize) -> Result<Vec<Option<usize>>> {
    let window = data.maybe_usize("attention.sliding_window")?.filter(|&w| w > 0);
    Ok(match architecture {
        Architecture::Gemma2 => (0..layers).map(|i| if i % 2 == 0 { window } else { None }).collect(),
        _ => vec![window; layers],
    })
}

fn rope(data: &Metadata<'_>, architecture: Architecture, head_dim: usize) -> Result<RotaryConfig> {
    let rotary_dim = data.maybe_usize("rope.dimension_count")?.unwrap_or(head_dim);
    let theta = f64::from(data.f32("rope.freq_base")?.unwrap_or(10_000.0));
    if !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim || theta <= 0.0 {
        let what = format!("{rotary_dim} of {head_dim} components turn, base {theta}");
        return Err(Error::invalid(what));
    }
    let pairing = match architecture {
        Architecture::Llama => Pairing::Interleaved,
        _ => Pairing::Half,
    };
    let scaling = rope_scaling::read(data.file, data.name)?;
    Ok(RotaryConfig { rotary_dim, scaling, ..RotaryConfig::new(head_dim, theta, pairing) })
}

/// A GGUF file as a source of tensors with Hugging Face's names.
pub struct GgufTensors<'a> {
    file: &'a Gguf,
    architecture: Architecture,
}

impl<'a> GgufTensors<'a> {
    /// The tensors of a file whose configuration was read.
    pub const fn new(file: &'a Gguf, config: &DecoderConfig) -> GgufTensors<'a> {
        GgufTensors { file, architecture: config.architecture }
    }

    /// The file's name of the tensor that [`outward`] gives this one, where it is there.
    fn inward(&self, name: &str) -> Option<&'a str> {
        let own = gguf_name(self.architecture, name)?;
        self.file.tensor(&own).ok().map(|tensor| tensor.name)
    }
}

/// Parts of names, GGUF's and Hugging Face's.
fn parts(architecture: Architecture) -> &'static [(&'static str, &'static str)] {
    match architecture {
        Architecture::Gpt2 => &[
            ("token_embd", "wte"),
            ("position_embd", "wpe"),
            ("output_norm", "ln_f"),
            ("output", "lm_head"),
            ("attn_norm", "ln_1"),
            ("attn_qkv", "attn.c_attn"),
            ("attn_output", "attn.c_proj"),
            ("ffn_norm", "ln_2"),
            ("ffn_up", "mlp.c_fc"),
            ("ffn_down", "mlp.c_proj"),
        ],
        Architecture::Gemma2 => &LLAMA[..LLAMA.len() - 1],
        Architecture::Phi3 => &PHI3,
        _ => &LLAMA[3..],
    }
}

/// Hugging Face's name of a tensor; its own where it is not known.
pub(crate) fn outward(architecture: Architecture, name: &str) -> String {
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    let (layer, part) = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => (Some(layer), part),
        None => (None, stem),
    };
    let Some((_, known)) = parts(architecture).iter().find(|(own, _)| *own == part) else {
        return name.into();
    };
    match (layer, architecture) {
        (Some(layer), Architecture::Gpt2) => format!("h.{layer}.{known}.{suffix}"),
        (Some(layer), _) => format!("model.layers.{layer}.{known}.{suffix}"),
        (None, Architecture::Gpt2) => format!("{known}.{suffix}"),
        (None, _) if *known == "lm_head" => format!("{known}.{suffix}"),
        (None, _) => format!("model.{known}.{suffix}"),
    }
}

/// GGUF's name of a tensor that [`outward`] gives Hugging Face's.
pub(crate) fn gguf_name(architecture: Architecture, name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let stem = stem.strip_prefix("model.").unwrap_or(stem);
    let (layer, part) = match stem.strip_prefix("layers.").or(stem.strip_prefix("h.")) {
        Some(rest) => rest.split_once('.').map(|(layer, part)| (Some(layer), part))?,
        None => (None, stem),
    };
    let (own, _) = parts(architecture).iter().find(|(_, known)| *known == part)?;
    Some(match layer {
        Some(layer) => format!("blk.{layer}.{own}.{suffix}"),
        None => format!("{own}.{suffix}"),
    })
}

/// The first three are Gemma 2's, the last all others'.
const LLAMA: [(&str, &str); 17] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
    ("token_embd", "embed_tokens"),
    ("output_norm", "norm"),
    ("output", "lm_head"),
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_norm", "post_attention_layernorm"),
];

const PHI3: [(&str, &str); 9] = [
    ("token_embd", "embed_tokens"),
    ("output_norm", "norm"),
    ("output", "lm_head"),
    ("attn_norm", "input_layernorm"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_up", "mlp.gate_up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl Source for GgufTensors<'_> {
    fn file(&self) -> String {
        self.file.name().to_string()
    }

    fn names(&self) -> Vec<String> {
        let weights = self.file.tensors().filter(|t| !rope_scaling::is_part(t.name));
        weights.map(|t| outward(self.architecture, t.name)).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let own = self.inward(name).unwrap_or(name);
        let view = self.file.tensor(own)?;
        let tensor = if view.kind.format().is_some() {
            // Layers that share a tensor of blocks are cut apart as floats.
            let mut floats = vec![0.0; view.elements()];
            view.decode(Cpu::detect(), &mut floats)?;
            Tensor::from_f32(&floats, view.shape)
        } else {
            self.file.load(own)?
        };
        let turned = self.architecture == Architecture::Gpt2 && is_column(name);
        Ok(if turned { tensor.t() } else { tensor })
    }

    fn stored(&self, _: Cpu, name: &str) -> Result<Option<(Weight, Vec<String>)>> {
        let Some(view) = self.inward(name).and_then(|own| self.file.tensor(own).ok()) else {
            return Ok(None);
        };
        let (Some(format), &[n, k]) = (view.kind.format(), view.shape) else { return Ok(None) };
        let weight = Weight::from_ggml(Rows::new(format, n, k, view.bytes));
        let data = self.file.data();
        let start = view.bytes.as_ptr().addr() - data.elements::<u8>().as_ptr().addr();
        data.release(start..start + view.bytes.len());
        Ok(Some((weight, vec![name.into()])))
    }
}
