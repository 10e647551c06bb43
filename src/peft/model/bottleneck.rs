//! Bottleneck adapters on a whole model.

use super::nowhere;
use crate::model::{Architecture, Decoder};
use crate::nn::adapter::{Branch, BranchAdapter};
use crate::peft::config::{AdapterConfig, BottleneckConfig, Method};
use crate::peft::{AdapterLayer, Bottleneck, Bottlenecks, stream_of};
use crate::random::Philox;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// New ones wherever `config` says, active; how many.
pub(super) fn adapt(
    model: &mut Decoder,
    (name, config): (&str, &BottleneckConfig),
    random: Philox,
) -> Result<usize> {
    let mut modules = BTreeMap::new();
    places(model, |module, (i, branch), _| {
        if config.contains(i, branch) {
            let from = (random, stream_of(module));
            let drawn = AdapterLayer::drawn(config.features, config.width(), config.init, from);
            let layer = AdapterLayer { activation: config.activation, scale: config.scale, ..drawn };
            modules.insert(module.to_string(), layer);
        }
        Ok(())
    })?;
    put(model, (name, config), &modules)?;
    if modules.is_empty() {
        return Err(Error::invalid("no block of the model gets an adapter"));
    }
    super::activate(model, &[(name, 1.0)])?;
    Ok(modules.len())
}

/// Those of a file.
pub(super) fn attach(
    model: &mut Decoder,
    (name, config): (&str, &AdapterConfig),
    modules: &BTreeMap<String, AdapterLayer>,
) -> Result<()> {
    let Method::Bottleneck(config) = config.method() else {
        return Err(Error::invalid("bottlenecks with the configuration of another method"));
    };
    put(model, (name, config), modules)
}

/// Every place that the configuration names gets its own; none is left over, and none is missing.
fn put(
    model: &mut Decoder,
    (name, config): (&str, &BottleneckConfig),
    modules: &BTreeMap<String, AdapterLayer>,
) -> Result<()> {
    let dim = model.config().dim;
    if config.features != dim {
        let features = config.features;
        return Err(Error::invalid(format!("adapters of {features} features for a model of {dim}")));
    }
    let mut count = 0;
    places(model, |module, (i, branch), place| {
        if !config.contains(i, branch) {
            return Ok(());
        }
        let layer = modules.get(module).ok_or_else(|| Error::invalid(format!("{module}: no adapter")))?;
        count += 1;
        let adapters = place.get_or_insert_with(|| Box::new(Bottlenecks::default()));
        let of = adapters.as_any().downcast_mut::<Bottlenecks>();
        let of = of.ok_or_else(|| Error::invalid(format!("{module}: it has an adapter of another kind")))?;
        of.0.insert(name, Bottleneck { kind: config.kind, layer: layer.clone() });
        Ok(())
    })?;
    if count == modules.len() {
        return Ok(());
    }
    let names: Vec<&String> = modules.keys().take(5).collect();
    Err(Error::invalid(format!(
        "{} adapters for {count} places of the model, {names:?} among them",
        modules.len()
    )))
}

/// Those called `name`, by module.
pub(super) fn stored(model: &mut Decoder, name: &str) -> Result<BTreeMap<String, AdapterLayer>> {
    let mut modules = BTreeMap::new();
    places(model, |module, _, place| {
        let of = place.as_mut().and_then(|place| place.as_any().downcast_mut::<Bottlenecks>());
        let found = of.and_then(|of| of.0.get(name));
        modules.extend(found.map(|one| (module.to_string(), one.layer.clone())));
        Ok(())
    })?;
    if modules.is_empty() { Err(nowhere(name)) } else { Ok(modules) }
}

/// Every branch of every block: the package's name for it, where it is, and the place.
fn places(
    model: &mut Decoder,
    mut f: impl FnMut(&str, (usize, Branch), &mut Option<Box<dyn BranchAdapter>>) -> Result<()>,
) -> Result<()> {
    let blocks = match model.config().architecture {
        Architecture::Gpt2 => "transformer.h",
        _ => "model.layers",
    };
    model.blocks_mut().iter_mut().enumerate().try_for_each(|(i, block)| {
        [(Branch::Attention, "attention_adapters"), (Branch::Network, "output_adapters")]
            .into_iter()
            .try_for_each(|(branch, part)| {
                f(&format!("{blocks}.{i}.{part}"), (i, branch), block.adapters.of_mut(branch))
            })
    })
}
