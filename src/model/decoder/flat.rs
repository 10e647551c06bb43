//! A decoder's layers, in the order in which a flat file has them.

use super::{Decoder, build};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use crate::kernels::Cpu;
use crate::model::config::DecoderConfig;
use crate::nn::flat::BlockShape;
use crate::nn::rotary::RotaryEmbedding;
use crate::nn::{Embedding, Forms, Linear, Norm, Placement, TransformerBlock, Weight};
use crate::{Error, kernels::activation::Activation};

impl Decoder {
    /// Whether the networks of its blocks are gated.
    pub(in crate::model) fn is_gated(&self) -> bool {
        self.blocks.iter().any(|block| block.network.gate.is_some())
    }

    /// All but the configuration.
    pub(in crate::model) fn write(&self, cpu: Cpu, to: &mut Writer) -> Result<()> {
        let tables = [Some(&self.embedding), self.positions.as_ref()];
        if tables.into_iter().flatten().any(|table| table.adapter.is_some()) {
            return Err(Error::invalid("a model with adapters has no flat form: merge them first"));
        }
        self.embedding.table.write(cpu, to)?;
        to.u32(self.positions.is_some().into());
        self.positions.as_ref().map_or(Ok(()), |positions| positions.table.write(cpu, to))?;
        self.blocks.iter().try_for_each(|block| block.write(cpu, to))?;
        self.norm.write(to);
        if self.config.tied { Ok(()) } else { self.head.write(cpu, to) }
    }

    /// The decoder of `config`, whose layers come next.
    pub(in crate::model) fn read(
        from: &mut Reader<'_>,
        config: DecoderConfig,
        forms: Forms,
    ) -> Result<Decoder> {
        let c = &config;
        let embedding = Embedding::new(Weight::read(from, [c.vocab, c.dim], forms)?);
        let table = |from: &mut Reader<'_>| Weight::read(from, [c.context, c.dim], forms).map(Embedding::new);
        let positions = from.maybe("whether positions are learned", table)?;
        let rotary = c.rope.as_ref().map(|rope| RotaryEmbedding::new(rope, c.length)).transpose()?;
        if positions.is_some() == rotary.is_some() {
            return Err(from.error("positions are either learned or turn"));
        }
        let mut layer = 0;
        let block = |from: &mut Reader<'_>| {
            layer += 1;
            TransformerBlock::read(from, shape(c, layer - 1, forms))
        };
        // No more memory than they take: they are most of what is kept beside weights.
        let blocks = from.list(c.windows.len(), block)?;
        let norm = Norm::read(from, c.dim)?;
        let head = match c.tied {
            true => Linear::new(embedding.table.clone(), None),
            false => Linear::read(from, [c.vocab, c.dim], forms)?,
        };
        Ok(Decoder { embedding, positions, rotary, blocks, norm, head, config })
    }
}

fn shape(c: &DecoderConfig, i: usize, forms: Forms) -> BlockShape {
    let DecoderConfig { dim, hidden, heads, kv_heads, head_dim, .. } = *c;
    let activation: Activation = c.activation;
    let (placement, mixing) = (Placement::Pre, build::mixing(c, i));
    BlockShape { dim, hidden, heads, kv_heads, head_dim, placement, activation, mixing, forms }
}
