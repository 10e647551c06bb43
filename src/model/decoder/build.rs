//! Decoders from tensors, by the names that Hugging Face gives them.

use super::Decoder;
use crate::Result;
use crate::kernels::attention::Pattern;
use crate::model::config::{Architecture, DecoderConfig, NormKind};
use crate::model::load::Loader;
use crate::nn::rotary::RotaryEmbedding;
use crate::nn::{Embedding, FeedForwardNetwork, Linear, Mixing, MultiHeadAttention, Norm, TransformerBlock};
use alloc::format;
use alloc::string::String;

/// Llama and its family: rotary positions, RMSNorm, a gated network.
pub(super) fn llama(loader: &mut Loader<'_>, config: DecoderConfig) -> Result<Decoder> {
    let c = &config;
    let embedding = Embedding::new(loader.weight("model.embed_tokens.weight", [c.vocab, c.dim])?);
    let block = |i: usize| llama_block(loader, c, i);
    let blocks = (0..c.windows.len()).map(block).collect::<Result<_>>()?;
    let norm = loader.norm("model.norm", c)?;
    let head = if c.tied {
        loader.allow("lm_head.weight");
        Linear::new(embedding.table.clone(), None)
    } else {
        loader.linear("lm_head", [c.vocab, c.dim], false)?
    };
    let rotary = c.rope.as_ref().map(|rope| RotaryEmbedding::new(rope, c.length)).transpose()?;
    Ok(Decoder { embedding, positions: None, rotary, blocks, norm, head, config })
}

fn llama_block(loader: &mut Loader<'_>, c: &DecoderConfig, i: usize) -> Result<TransformerBlock> {
    let at = |name: &str| format!("model.layers.{i}.{name}");
    let attention = llama_attention(loader, c, i)?;
    let gemma2 = c.architecture == Architecture::Gemma2;
    // Gemma 2 has four norms; there the "post attention" one is what its name says.
    let names = match gemma2 {
        true => ["input_layernorm", "pre_feedforward_layernorm"],
        false => ["input_layernorm", "post_attention_layernorm"],
    };
    let mut after = |name: &str| gemma2.then(|| loader.norm(&at(name), c)).transpose();
    let (attention_after, network_after) =
        (after("post_attention_layernorm")?, after("post_feedforward_layernorm")?);
    Ok(TransformerBlock {
        placement: Default::default(),
        attention_norm: loader.norm(&at(names[0]), c)?,
        attention,
        attention_after,
        cross: None,
        network_norm: Some(loader.norm(&at(names[1]), c)?),
        network: llama_network(loader, c, i)?,
        network_after,
        adapters: Default::default(),
    })
}

fn llama_network(loader: &mut Loader<'_>, c: &DecoderConfig, i: usize) -> Result<FeedForwardNetwork> {
    let at = |name: &str| format!("model.layers.{i}.mlp.{name}");
    let bias = c.network_bias;
    let (gate, up) = if c.architecture == Architecture::Phi3 {
        let both = loader.rows(&at("gate_up_proj"), [2 * c.hidden, c.dim])?;
        (both.linear(loader, 0..c.hidden)?, both.linear(loader, c.hidden..2 * c.hidden)?)
    } else {
        let (gate, up) = (at("gate_proj"), at("up_proj"));
        (loader.linear(&gate, [c.hidden, c.dim], bias)?, loader.linear(&up, [c.hidden, c.dim], bias)?)
    };
    let down = loader.linear(&at("down_proj"), [c.dim, c.hidden], bias)?;
    Ok(FeedForwardNetwork { gate: Some(gate), up, down, activation: c.activation })
}

fn llama_attention(loader: &mut Loader<'_>, c: &DecoderConfig, i: usize) -> Result<MultiHeadAttention> {
    let at = |name: &str| format!("model.layers.{i}.self_attn.{name}");
    let (wide, narrow, bias) = (c.heads * c.head_dim, c.kv_heads * c.head_dim, c.qkv_bias);
    let (q, k, v) = if c.architecture == Architecture::Phi3 {
        let all = loader.rows(&at("qkv_proj"), [wide + 2 * narrow, c.dim])?;
        let k = wide + narrow;
        (all.linear(loader, 0..wide)?, all.linear(loader, wide..k)?, all.linear(loader, k..k + narrow)?)
    } else {
        (
            loader.linear(&at("q_proj"), [wide, c.dim], bias)?,
            loader.linear(&at("k_proj"), [narrow, c.dim], bias)?,
            loader.linear(&at("v_proj"), [narrow, c.dim], bias)?,
        )
    };
    let o = loader.linear(&at("o_proj"), [c.dim, wide], c.out_bias)?;
    let mut head_norm = |name: &str| loader.norm_of(&at(name), c, c.head_dim);
    let qk_norm = match c.architecture {
        Architecture::Qwen3 => Some((head_norm("q_norm")?, head_norm("k_norm")?)),
        _ => None,
    };
    Ok(attention([q, k, v, o], c, i, qk_norm))
}

fn attention(
    [q, k, v, o]: [Linear; 4],
    c: &DecoderConfig,
    i: usize,
    qk_norm: Option<(Norm, Norm)>,
) -> MultiHeadAttention {
    let DecoderConfig { heads, kv_heads, head_dim, .. } = *c;
    MultiHeadAttention { q, k, v, o, heads, kv_heads, head_dim, qk_norm, mixing: mixing(c, i), prefix: None }
}

/// How the scores of block `i` are made.
pub(super) fn mixing(c: &DecoderConfig, i: usize) -> Mixing {
    let pattern = c.windows[i].map_or(Pattern::Causal, Pattern::Window);
    Mixing { scale: c.scale, softcap: c.score_cap, ..Mixing::new(c.head_dim, pattern) }
}

/// GPT-2: learned positions, LayerNorm, weights stored (in, out).
pub(super) fn gpt2(loader: &mut Loader<'_>, config: DecoderConfig) -> Result<Decoder> {
    debug_assert!(config.norm == NormKind::Layer);
    let c = &config;
    let prefix = if loader.contains("transformer.wte.weight") { "transformer." } else { "" };
    let at = |name: &str| -> String { format!("{prefix}{name}") };
    let embedding = Embedding::new(loader.weight(&at("wte.weight"), [c.vocab, c.dim])?);
    let positions = Embedding::new(loader.weight(&at("wpe.weight"), [c.context, c.dim])?);
    let block = |i: usize| gpt2_block(loader, c, &at(&format!("h.{i}")), i);
    let blocks = (0..c.windows.len()).map(block).collect::<Result<_>>()?;
    let norm = loader.norm(&at("ln_f"), c)?;
    let head = if c.tied {
        loader.allow("lm_head.weight");
        Linear::new(embedding.table.clone(), None)
    } else {
        loader.linear("lm_head", [c.vocab, c.dim], false)?
    };
    Ok(Decoder { embedding, positions: Some(positions), rotary: None, blocks, norm, head, config })
}

fn gpt2_block(loader: &mut Loader<'_>, c: &DecoderConfig, at: &str, i: usize) -> Result<TransformerBlock> {
    // Old files carry the causal mask as tensors.
    loader.allow(&format!("{at}.attn.bias"));
    loader.allow(&format!("{at}.attn.masked_bias"));
    let all = loader.columns(&format!("{at}.attn.c_attn"), [c.dim, 3 * c.dim])?;
    let part = |n: usize| all.linear(loader, n * c.dim..(n + 1) * c.dim);
    let [q, k, v] = [part(0)?, part(1)?, part(2)?];
    let mut whole = |name: &str, shape: [usize; 2]| loader.column(&format!("{at}.{name}"), shape);
    let o = whole("attn.c_proj", [c.dim, c.dim])?;
    let up = whole("mlp.c_fc", [c.dim, c.hidden])?;
    let down = whole("mlp.c_proj", [c.hidden, c.dim])?;
    Ok(TransformerBlock {
        placement: Default::default(),
        attention_norm: loader.norm(&format!("{at}.ln_1"), c)?,
        attention: attention([q, k, v, o], c, i, None),
        attention_after: None,
        cross: None,
        network_norm: Some(loader.norm(&format!("{at}.ln_2"), c)?),
        network: FeedForwardNetwork { gate: None, up, down, activation: c.activation },
        network_after: None,
        adapters: Default::default(),
    })
}
