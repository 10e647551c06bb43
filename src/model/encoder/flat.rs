//! An encoder's layers, in the order in which a flat file has them.

use super::Encoder;
use crate::Result;
use crate::io::flat::{Reader, Writer};
use crate::kernels::Cpu;
use crate::kernels::attention::Pattern;
use crate::model::config::EncoderConfig;
use crate::nn::flat::BlockShape;
use crate::nn::{Embedding, Forms, Mixing, Norm, Placement, TransformerBlock, Weight};

impl Encoder {
    /// All but the configuration.
    pub(in crate::model) fn write(&self, cpu: Cpu, to: &mut Writer) -> Result<()> {
        let tables = [&self.words, &self.positions, &self.segments];
        tables.into_iter().try_for_each(|table| table.table.write(cpu, to))?;
        self.norm.write(to);
        self.blocks.iter().try_for_each(|block| block.write(cpu, to))
    }

    /// The encoder of `config`, whose layers come next.
    pub(in crate::model) fn read(
        from: &mut Reader<'_>,
        config: EncoderConfig,
        forms: Forms,
    ) -> Result<Encoder> {
        let c = &config;
        let mut table = |n: usize| Weight::read(from, [n, c.dim], forms).map(Embedding::new);
        let (words, positions, segments) = (table(c.vocab)?, table(c.positions)?, table(c.segments)?);
        let norm = Norm::read(from, c.dim)?;
        let head_dim = c.dim / c.heads;
        let shape = || BlockShape {
            dim: c.dim,
            hidden: c.hidden,
            heads: c.heads,
            kv_heads: c.heads,
            head_dim,
            placement: Placement::Post,
            activation: c.activation,
            mixing: Mixing::new(head_dim, Pattern::Full),
            forms,
        };
        let block = |_| TransformerBlock::read(from, shape());
        let blocks = (0..c.layers).map(block).collect::<Result<_>>()?;
        Ok(Encoder { words, positions, segments, norm, blocks, config })
    }
}
