//! A checkpoint of llama2.c, versions 0 and 1: floats in a fixed order.

use super::parts::ElementType;
use super::{Converted, FileKind, Parts, Work, lost, lost_tensors, refuse};
use crate::io::atomic;
use crate::io::llama2c::Config;
use crate::kernels::rope::Pairing;
use crate::model::config::{Architecture, DecoderConfig, NormKind};
use crate::nn::rotary::{RotaryEmbedding, RotaryTable};
use crate::{Error, Result};

/// What stands in the file, one behind the other.
#[derive(Clone, Copy)]
enum Piece {
    /// A tensor, by the end of its name.
    Whole(&'static str),
    /// One of each layer.
    Layers(&'static str),
    /// cos and sin of every position.
    Tables,
}

use Piece::{Layers, Tables, Whole};

const VERSION_0: [Piece; 12] = [
    Whole("model.embed_tokens.weight"),
    Layers("input_layernorm.weight"),
    Layers("self_attn.q_proj.weight"),
    Layers("self_attn.k_proj.weight"),
    Layers("self_attn.v_proj.weight"),
    Layers("self_attn.o_proj.weight"),
    Layers("post_attention_layernorm.weight"),
    Layers("mlp.gate_proj.weight"),
    Layers("mlp.down_proj.weight"),
    Layers("mlp.up_proj.weight"),
    Whole("model.norm.weight"),
    Tables,
];

const VERSION_1: [Piece; 11] = [
    Layers("input_layernorm.weight"),
    Layers("post_attention_layernorm.weight"),
    Whole("model.norm.weight"),
    Whole("model.embed_tokens.weight"),
    Layers("self_attn.q_proj.weight"),
    Layers("self_attn.k_proj.weight"),
    Layers("self_attn.v_proj.weight"),
    Layers("self_attn.o_proj.weight"),
    Layers("mlp.gate_proj.weight"),
    Layers("mlp.down_proj.weight"),
    Layers("mlp.up_proj.weight"),
];

pub(super) fn write(work: &Parts<'_, '_>) -> Result<Converted> {
    let Work { cpu, config, job, input, .. } = work.work;
    if !matches!(config.architecture, Architecture::Llama | Architecture::Mistral) {
        return Err(Error::invalid(format!("llama2.c knows Llama alone, not {:?}", config.architecture)));
    }
    if job.element.is_some_and(|element| element != ElementType::F32) {
        return Err(Error::invalid("llama2.c's versions 0 and 1 hold f32 alone"));
    }
    if config.dim != config.heads * config.head_dim {
        return Err(refuse(FileKind::Llama2c, config, "head_dim, which is not the features over the heads,"));
    }
    let head = header(config, job.version)?;
    let written = DecoderConfig::of_llama2c_numbers(&numbers(config))?;
    if let Some(what) = lost(config, &written).or(lost_tensors(config, &written)) {
        return Err(refuse(FileKind::Llama2c, config, what));
    }
    let pieces: &[Piece] = if job.version == 0 { &VERSION_0 } else { &VERSION_1 };
    let last = (!config.tied).then_some(Whole("lm_head.weight"));
    atomic::try_write(&job.output, |put| {
        put(&head)?;
        for piece in pieces.iter().copied().chain(last) {
            let names: Vec<String> = match piece {
                Whole(name) => vec![name.into()],
                Layers(part) => {
                    (0..config.windows.len()).map(|i| format!("model.layers.{i}.{part}")).collect()
                }
                Tables => {
                    tables(config, put)?;
                    continue;
                }
            };
            for name in names {
                let i = work.parts.iter().position(|part| part.name == name);
                let i = i.ok_or_else(|| Error::invalid(format!("no tensor {name:?}")))?;
                let tensor = work.tensor(i, Pairing::Interleaved, NormKind::Rms)?;
                put(&work.parts[i].encode(cpu, &tensor, ElementType::F32)?)?;
            }
        }
        input.check()
    })?;
    let mut notes = Vec::new();
    super::vocabulary::left_out(work.work, &mut notes);
    Ok(Converted { tensors: work.parts.len(), kind: FileKind::Llama2c, notes })
}

fn numbers(c: &DecoderConfig) -> Config {
    Config {
        dim: c.dim,
        hidden_dim: c.hidden,
        n_layers: c.windows.len(),
        n_heads: c.heads,
        n_kv_heads: c.kv_heads,
        vocab_size: c.vocab,
        seq_len: c.context,
        shared_classifier: c.tied,
    }
}

/// The numbers before the weights.
fn header(c: &DecoderConfig, version: u32) -> Result<Vec<u8>> {
    let signed = |n: usize| {
        i32::try_from(n).map_err(|_| Error::invalid(format!("{n} does not fit a number of llama2.c")))
    };
    let sizes = [c.dim, c.hidden, c.windows.len(), c.heads, c.kv_heads, c.vocab, c.context];
    let mut sizes = sizes.into_iter().map(signed).collect::<Result<Vec<i32>>>()?;
    let mut head = Vec::new();
    if version == 0 {
        // A negative vocabulary: the head is a matrix of its own.
        sizes[5] = if c.tied { sizes[5] } else { -sizes[5] };
    } else {
        head.extend_from_slice(b"24ka");
        head.extend_from_slice(&version.to_le_bytes());
    }
    head.extend(sizes.iter().flat_map(|n| n.to_le_bytes()));
    if version != 0 {
        head.push(u8::from(c.tied));
        head.resize(256, 0);
    }
    Ok(head)
}

/// cos of every pair at each position, then sin: which readers compute anew.
fn tables(c: &DecoderConfig, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let Some(rope) = &c.rope else { return Ok(()) };
    let rotary = RotaryEmbedding::new(rope, c.context)?;
    let mut table = RotaryTable::new();
    table.grow(&rotary, c.context);
    let rows = table.rows();
    for rows in [rows.cos, rows.sin] {
        put(&rows.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    Ok(())
}
