//! A learned prefix on a whole model: one at a time.

use super::nowhere;
use crate::model::Decoder;
use crate::nn;
use crate::peft::config::PrefixConfig;
use crate::peft::init::normal;
use crate::peft::named::Choice;
use crate::peft::{Prefix, stream_of};
use crate::random::Philox;
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// A new prefix, active: every number normal with deviation 1, as peft begins. How many layers have it.
pub(super) fn adapt(
    model: &mut Decoder,
    (name, config): (&str, PrefixConfig),
    random: Philox,
) -> Result<usize> {
    let n = config.tokens * config.layers * 2 * config.dim;
    let stream = stream_of("prompt_embeddings");
    let values = (0..n).map(|i| normal(random, i as u64, stream) as f32).collect();
    attach(model, name, &Prefix::new(config, values))?;
    super::activate(model, &[(name, 1.0)])?;
    Ok(config.layers)
}

/// The prefix of a file.
pub(super) fn attach(model: &mut Decoder, name: &str, prefix: &Prefix) -> Result<()> {
    let PrefixConfig { tokens, layers, dim } = prefix.config();
    let (has, wide) = (model.config().windows.len(), model.config().kv_heads * model.config().head_dim);
    if (layers, dim) != (has, wide) {
        return Err(Error::invalid(format!(
            "a prefix for {layers} layers of {dim}-wide keys; the model has {has} of {wide}"
        )));
    }
    for (i, block) in model.blocks_mut().iter_mut().enumerate() {
        if block.attention.prefix.as_ref().is_some_and(|there| there.name != name) {
            return Err(Error::invalid("the model has a prefix already, and one at a time"));
        }
        let [k, v] = prefix.layer(i);
        block.attention.prefix = Some(nn::Prefix { name: name.into(), active: false, tokens, k, v });
    }
    Ok(())
}

/// The prefix called `name`.
pub(super) fn stored(model: &mut Decoder, name: &str) -> Result<Prefix> {
    let dim = model.config().kv_heads * model.config().head_dim;
    let of = |block: &mut nn::TransformerBlock| block.attention.prefix.take_if(|prefix| prefix.name == name);
    // Taken out for a look, and back.
    let layers: Option<Vec<nn::Prefix>> = model.blocks_mut().iter_mut().map(of).collect();
    let Some(layers) = layers.filter(|layers| !layers.is_empty()) else { return Err(nowhere(name)) };
    let tokens = layers[0].tokens;
    let token = |t: usize| {
        layers.iter().flat_map(move |l| [&l.k[t * dim..][..dim], &l.v[t * dim..][..dim]]).flatten().copied()
    };
    let values = (0..tokens).flat_map(token).collect();
    let config = PrefixConfig { tokens, layers: layers.len(), dim };
    for (block, prefix) in model.blocks_mut().iter_mut().zip(layers) {
        block.attention.prefix = Some(prefix);
    }
    Ok(Prefix::new(config, values))
}

impl Choice for nn::Prefix {
    fn has(&self, name: &str) -> bool {
        self.name == name
    }

    fn choose(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        self.active = match adapters {
            [] | [(_, 0.0)] => false,
            [(_, 1.0)] => true,
            _ => return Err(Error::invalid("a prefix counts wholly (1) or not (0)")),
        };
        Ok(())
    }
}
