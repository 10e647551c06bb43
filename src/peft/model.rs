//! Adapters on whole models: new ones, those of files, which of them count, and back into a file.

mod bottleneck;
mod ia3;
mod prefix;

use super::config::{AdapterConfig, Method};
use super::files::{Adapter, Module, Parts, StoredLora};
use super::named::Choice;
use super::{Bottlenecks, Ia3Adapters, LoraAdapters, LoraLayer, stream_of};
use crate::model::Decoder;
use crate::nn::Linear;
use crate::random::Philox;
use crate::run::Run;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Puts a new adapter on every module that `config` names and makes it the active one; its numbers are drawn from
/// `random` and the modules' names. Returns how many modules have one.
///
/// # Errors
/// Where `config` names no module of the model, or asks for what has no place on it.
pub fn adapt(
    run: &Run<'_>,
    model: &mut Decoder,
    (name, config): (&str, &AdapterConfig),
    random: Philox,
) -> Result<usize> {
    let lora = match config.method() {
        Method::Lora(lora) => lora,
        Method::Ia3(ia3) => return ia3::adapt(model, (name, ia3)),
        Method::Prefix(prefix) => return prefix::adapt(model, (name, *prefix), random),
        Method::Bottleneck(of) => return bottleneck::adapt(model, (name, of), random),
    };
    let mut count = 0;
    for_modules(model, |module, layer| {
        if !lora.contains(module) {
            return Ok(());
        }
        let drawn = LoraLayer::new(run, &layer.weight, &lora.options_of(module), (random, stream_of(module)));
        let (mut new, base) = drawn.map_err(|e| Error::invalid(format!("{module}: {e}")))?;
        layer.weight = base;
        if lora.dora {
            new = new.with_magnitude(run, &layer.weight);
        }
        count += 1;
        insert(run, (module, layer), name, new)
    })?;
    if count == 0 {
        return Err(Error::invalid("the adapter's targets name no module of the model"));
    }
    activate(model, &[(name, 1.0)])?;
    Ok(count)
}

/// Puts an adapter of a file on the model under `name`; it does not count before [`activate`].
///
/// # Errors
/// Where a module is none of the model's, or has another shape: then some modules may have it and others not.
pub fn attach(run: &Run<'_>, model: &mut Decoder, name: &str, adapter: &Adapter) -> Result<()> {
    let modules = match &adapter.parts {
        Parts::Lora(modules) => modules,
        Parts::Ia3(modules) => return ia3::attach(model, name, modules),
        Parts::Prefix(prefix) => return prefix::attach(model, name, prefix),
        Parts::Bottleneck(modules) => return bottleneck::attach(model, (name, &adapter.config), modules),
    };
    let mut left: BTreeMap<&str, &StoredLora> = modules.iter().map(|(m, l)| (m.as_str(), l)).collect();
    for_modules(model, |module, layer| {
        let Some(stored) = left.remove(module) else { return Ok(()) };
        let ready = stored.on(run, &layer.weight);
        let ready = ready.map_err(|e| Error::invalid(format!("{module}: {e}")))?;
        insert(run, (module, layer), name, ready)
    })?;
    match left.keys().next() {
        None => Ok(()),
        Some(module) => Err(Error::invalid(format!("{module}: no linear layer of the model's blocks"))),
    }
}

/// Which adapters count from now on, each with a weight; none for the base alone. A module that lacks one goes without
/// it.
///
/// # Errors
/// Where no module has one of a name, a name comes twice, or a prefix is to count in part.
pub fn activate(model: &mut Decoder, adapters: &[(&str, f32)]) -> Result<()> {
    let mut missing: Vec<&str> = adapters.iter().map(|(name, _)| *name).collect();
    let mut choose = |place: &mut dyn Choice| {
        let here: Vec<(&str, f32)> = adapters.iter().filter(|(name, _)| place.has(name)).copied().collect();
        missing.retain(|name| !place.has(name));
        place.choose(&here)
    };
    model.linears_mut().try_for_each(|(_, layer)| choices(layer).map_or(Ok(()), &mut choose))?;
    for block in model.blocks_mut() {
        for branch in [&mut block.adapters.attention, &mut block.adapters.network].into_iter().flatten() {
            if let Some(of) = branch.as_any().downcast_mut::<Bottlenecks>() {
                choose(&mut of.0)?;
            }
        }
        if let Some(prefix) = &mut block.attention.prefix {
            choose(prefix)?;
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(nowhere(name)),
    }
}

/// The adapters of a layer among which is chosen.
fn choices(layer: &mut Linear) -> Option<&mut dyn Choice> {
    let adapter = layer.adapter.as_mut()?.as_any();
    if adapter.is::<Ia3Adapters>() {
        return adapter.downcast_mut::<Ia3Adapters>().map(|of| of.of_mut() as &mut dyn Choice);
    }
    adapter.downcast_mut::<LoraAdapters>().map(|of| of as &mut dyn Choice)
}

/// Whether a parameter of [`Decoder::with_parameters`] is an adapter's.
pub fn is_adapter(name: &str) -> bool {
    [".lora_", ".ia3_l", "_adapter.", ".prefix."].iter().any(|part| name.contains(part))
}

/// The adapter `name` as a file has it, with the configuration that it was made by.
///
/// # Errors
/// Where no module has it.
pub fn stored(model: &mut Decoder, name: &str, config: &AdapterConfig) -> Result<Adapter> {
    let parts = match config.method() {
        Method::Lora(_) => None,
        Method::Ia3(_) => Some(Parts::Ia3(ia3::stored(model, name)?)),
        Method::Prefix(_) => Some(Parts::Prefix(prefix::stored(model, name)?)),
        Method::Bottleneck(_) => Some(Parts::Bottleneck(bottleneck::stored(model, name)?)),
    };
    if let Some(parts) = parts {
        return Ok(Adapter { config: config.clone(), parts });
    }
    let mut modules = BTreeMap::new();
    for_modules(model, |module, layer| {
        if let Some(found) = adapters_of(layer).and_then(|of| of.get(name)) {
            let lengths = found.magnitude.as_ref().map(|m| m.lengths.clone());
            let mut layer = found.clone();
            layer.magnitude = None;
            modules.insert(String::from(module), StoredLora { layer, lengths, module: Module::Linear });
        }
        Ok(())
    })?;
    if modules.is_empty() {
        return Err(nowhere(name));
    }
    Ok(Adapter { config: config.clone(), parts: Parts::Lora(modules) })
}

fn nowhere(name: &str) -> Error {
    Error::invalid(format!("no module has an adapter {name:?}"))
}

fn adapters_of(layer: &mut Linear) -> Option<&mut LoraAdapters> {
    layer.adapter.as_mut()?.as_any().downcast_mut()
}

/// Adds an adapter to what the module has.
fn insert(run: &Run<'_>, (module, layer): (&str, &mut Linear), name: &str, new: LoraLayer) -> Result<()> {
    // Out of its place while the layer is looked at, and back whatever comes of it.
    let adapter = layer.adapter.take();
    let mut adapter = adapter.unwrap_or_else(|| Box::new(LoraAdapters::new(stream_of(module))));
    let inserted = match adapter.as_any().downcast_mut::<LoraAdapters>() {
        Some(of) => of.insert(run, layer, name, new),
        None => Err(Error::invalid("it has an adapter of another kind")),
    };
    layer.adapter = Some(adapter);
    inserted.map_err(|e| Error::invalid(format!("{module}: {e}")))
}

/// Every linear layer of the blocks under the name that Hugging Face gives it.
fn for_modules(model: &mut Decoder, mut f: impl FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
    let architecture = model.config().architecture;
    model.linears_mut().try_for_each(|(name, layer)| match module_name(architecture, &name) {
        Some(module) => f(&module, layer),
        None => {
            Err(Error::invalid(format!("adapters on {architecture:?}: its projections are fused in files")))
        }
    })
}

/// The module of `blocks.I.PART`; `None` where several share one.
fn module_name(architecture: crate::model::Architecture, name: &str) -> Option<String> {
    use crate::model::Architecture::{Gpt2, Phi3};
    let (block, part) = name.strip_prefix("blocks.")?.split_once('.')?;
    let part = match part {
        _ if matches!(architecture, Gpt2 | Phi3) => return None,
        "attention.q" => "self_attn.q_proj",
        "attention.k" => "self_attn.k_proj",
        "attention.v" => "self_attn.v_proj",
        "attention.o" => "self_attn.o_proj",
        "network.gate" => "mlp.gate_proj",
        "network.up" => "mlp.up_proj",
        "network.down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{block}.{part}"))
}
