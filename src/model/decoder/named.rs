//! A decoder's tensors under the names that Hugging Face gives them.

use super::Decoder;
use crate::model::config::Architecture;
use crate::nn::{Linear, Norm};
use crate::tensor::Tensor;
use crate::{Cpu, Error, Result};
use alloc::format;

impl Decoder {
    /// The tensor `name` of a folder as floats: what [`Decoder::load`] would take it from.
    ///
    /// # Errors
    /// Where there is none, or the architecture's projections are fused in files.
    pub fn named_tensor(&self, cpu: Cpu, name: &str) -> Result<Tensor> {
        if matches!(self.config.architecture, Architecture::Gpt2 | Architecture::Phi3) {
            let what =
                format!("{:?} is not written: its projections are fused in files", self.config.architecture);
            return Err(Error::invalid(what));
        }
        let none = || Error::invalid(format!("the model has no tensor {name:?}"));
        let (module, what) = name.rsplit_once('.').ok_or_else(none)?;
        let found = match module {
            "model.embed_tokens" => Some(matrix(&self.embedding.table, cpu)),
            "model.norm" => vector(&self.norm, what),
            "lm_head" => linear(&self.head, cpu, what),
            _ => self.of_block(cpu, module, what),
        };
        found.ok_or_else(none)
    }

    fn of_block(&self, cpu: Cpu, module: &str, what: &str) -> Option<Tensor> {
        let (i, part) = module.strip_prefix("model.layers.")?.split_once('.')?;
        let block = self.blocks.get(i.parse::<usize>().ok()?)?;
        let attention = &block.attention;
        let layer = match part {
            "self_attn.q_proj" => &attention.q,
            "self_attn.k_proj" => &attention.k,
            "self_attn.v_proj" => &attention.v,
            "self_attn.o_proj" => &attention.o,
            "mlp.gate_proj" => block.network.gate.as_ref()?,
            "mlp.up_proj" => &block.network.up,
            "mlp.down_proj" => &block.network.down,
            _ => return vector(block_norm(block, self.config.architecture, part)?, what),
        };
        linear(layer, cpu, what)
    }
}

fn block_norm<'a>(
    block: &'a crate::nn::TransformerBlock,
    architecture: Architecture,
    part: &str,
) -> Option<&'a Norm> {
    let heads = block.attention.qk_norm.as_ref();
    match part {
        "input_layernorm" => Some(&block.attention_norm),
        "self_attn.q_norm" => heads.map(|(q, _)| q),
        "self_attn.k_norm" => heads.map(|(_, k)| k),
        // In Gemma 2 the "post attention" norm is what its name says.
        "post_attention_layernorm" if architecture == Architecture::Gemma2 => block.attention_after.as_ref(),
        "post_attention_layernorm" | "pre_feedforward_layernorm" => block.network_norm.as_ref(),
        "post_feedforward_layernorm" => block.network_after.as_ref(),
        _ => None,
    }
}

fn linear(layer: &Linear, cpu: Cpu, what: &str) -> Option<Tensor> {
    match what {
        "weight" => Some(matrix(&layer.weight, cpu)),
        "bias" => layer.bias.as_ref().map(|bias| Tensor::from_f32(bias, &[bias.len()])),
        _ => None,
    }
}

fn matrix(weight: &crate::nn::Weight, cpu: Cpu) -> Tensor {
    Tensor::from_f32(&weight.to_rows(cpu), &[weight.out_features(), weight.in_features()])
}

fn vector(norm: &Norm, what: &str) -> Option<Tensor> {
    let (weight, bias) = match norm {
        Norm::Layer(norm) => (&norm.weight, norm.bias.as_ref()),
        Norm::Rms(norm) => (&norm.weight, None),
    };
    let values = match what {
        "weight" => weight,
        "bias" => bias?,
        _ => return None,
    };
    Some(Tensor::from_f32(values, &[values.len()]))
}
