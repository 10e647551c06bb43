//! Layers as [`io::flat`](crate::io::flat) keeps them, one after the other: what they are follows from the model's
//! configuration, so that little more than their numbers is written.

use super::adapter::BranchAdapters;
use super::{
    FeedForwardNetwork, Forms, LayerNorm, Linear, Mixing, MultiHeadAttention, Norm, Placement, RmsNorm,
    TransformerBlock, Weight,
};
use crate::io::flat::{Reader, Writer};
use crate::kernels::Cpu;
use crate::kernels::activation::Activation;
use crate::{Error, Result};
use alloc::format;

/// What a block's configuration says.
pub(crate) struct BlockShape {
    pub dim: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub placement: Placement,
    pub activation: Activation,
    pub mixing: Mixing,
    /// Of weights.
    pub forms: Forms,
}

fn adapted() -> Error {
    Error::invalid("a model with adapters has no flat form: merge them first")
}

impl Linear {
    pub(crate) fn write(&self, cpu: Cpu, to: &mut Writer) -> Result<()> {
        if self.adapter.is_some() {
            return Err(adapted());
        }
        self.weight.write(cpu, to)?;
        to.maybe(self.bias.as_deref(), Writer::floats);
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader<'_>, [n, k]: [usize; 2], forms: Forms) -> Result<Linear> {
        let weight = Weight::read(from, [n, k], forms)?;
        let bias = from.maybe("whether there is a bias", |from| from.floats(n))?;
        Ok(Linear::new(weight, bias))
    }
}

/// The numbers of the norms.
const LAYER: u32 = 0;
const RMS: u32 = 1;
const RMS_ONE_PLUS: u32 = 2;

impl Norm {
    pub(crate) fn write(&self, to: &mut Writer) {
        match self {
            Norm::Layer(norm) => {
                to.u32(LAYER);
                to.f32(norm.eps);
                to.floats(&norm.weight);
                to.maybe(norm.bias.as_deref(), Writer::floats);
            }
            Norm::Rms(norm) => {
                to.u32(if norm.one_plus { RMS_ONE_PLUS } else { RMS });
                to.f32(norm.eps);
                to.floats(&norm.weight);
            }
        }
    }

    /// The next norm, of `n` features.
    pub(crate) fn read(from: &mut Reader<'_>, n: usize) -> Result<Norm> {
        let kind = from.count("the kind of a norm", LAYER as usize, RMS_ONE_PLUS as usize)? as u32;
        let (eps, weight) = (from.f32()?, from.floats(n)?);
        if kind == LAYER {
            let bias = from.maybe("whether there is a bias", |from| from.floats(n))?;
            return Ok(Norm::Layer(LayerNorm { weight, bias, eps }));
        }
        Ok(Norm::Rms(RmsNorm { weight, one_plus: kind == RMS_ONE_PLUS, eps }))
    }
}

impl TransformerBlock {
    pub(crate) fn write(&self, cpu: Cpu, to: &mut Writer) -> Result<()> {
        let BranchAdapters { attention, network } = &self.adapters;
        if attention.is_some() || network.is_some() || self.attention.active_prefix().is_some() {
            return Err(adapted());
        }
        if self.cross.is_some() {
            return Err(Error::invalid("a block with cross-attention has no flat form"));
        }
        self.attention.linears().into_iter().try_for_each(|layer| layer.write(cpu, to))?;
        let gate = self.network.gate.as_ref();
        to.u32(gate.is_some().into());
        let network = gate.into_iter().chain([&self.network.up, &self.network.down]);
        network.into_iter().try_for_each(|layer| layer.write(cpu, to))?;
        self.attention_norm.write(to);
        let (of_q, of_k) = self.attention.qk_norm.as_ref().map(|(q, k)| (q, k)).unzip();
        let others = [&self.attention_after, &self.network_norm, &self.network_after];
        let others = others.map(Option::as_ref).into_iter().chain([of_q, of_k]);
        others.for_each(|norm| to.maybe(norm, |to, norm| norm.write(to)));
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader<'_>, shape: BlockShape) -> Result<TransformerBlock> {
        let BlockShape { dim, hidden, heads, kv_heads, head_dim, placement, activation, mixing, forms } =
            shape;
        let (wide, narrow) = (heads * head_dim, kv_heads * head_dim);
        let mut linear = |n: usize, k: usize| Linear::read(from, [n, k], forms);
        let [q, k, v, o] =
            [linear(wide, dim)?, linear(narrow, dim)?, linear(narrow, dim)?, linear(dim, wide)?];
        let gate =
            from.maybe("whether the network is gated", |from| Linear::read(from, [hidden, dim], forms))?;
        let (up, down) =
            (Linear::read(from, [hidden, dim], forms)?, Linear::read(from, [dim, hidden], forms)?);
        let network = FeedForwardNetwork { gate, up, down, activation };
        let attention_norm = Norm::read(from, dim)?;
        let mut maybe = |n: usize| from.maybe("whether there is a norm", |from| Norm::read(from, n));
        let (attention_after, network_norm, network_after) = (maybe(dim)?, maybe(dim)?, maybe(dim)?);
        let qk_norm = match (maybe(head_dim)?, maybe(head_dim)?) {
            (Some(q), Some(k)) => Some((q, k)),
            (None, None) => None,
            _ => return Err(from.error(format!("a norm of the heads of {head_dim} without its other"))),
        };
        if network_norm.is_none() {
            return Err(from.error("a network without a norm"));
        }
        let attention =
            MultiHeadAttention { q, k, v, o, heads, kv_heads, head_dim, qk_norm, mixing, prefix: None };
        let adapters = BranchAdapters::default();
        Ok(TransformerBlock {
            placement,
            attention_norm,
            attention,
            attention_after,
            cross: None,
            network_norm,
            network,
            network_after,
            adapters,
        })
    }
}
