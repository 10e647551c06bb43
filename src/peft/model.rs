//! Adapters on whole models: new ones, those of files, which of them count, and back into a file.
//!
//! A module of a file may be several layers here (Phi-3's `qkv_proj`, GPT-2's `c_attn`). Each of them has the module's A
//! and its own rows of B and of DoRA's lengths; training sums the gradients of A in the order of the layers.

mod bottleneck;
mod ia3;
mod prefix;

use super::config::{AdapterConfig, LoraConfig, Method, Targets};
use super::files::{Adapter, Module, Parts, StoredLora};
use super::named::Choice;
use super::{Bottlenecks, Ia3Adapters, Init, LoraAdapters, LoraLayer, LoraShape, TableAdapters, stream_of};
use crate::model::{Decoder, ModuleMut, Site};
use crate::nn::{Embedding, Linear};
use crate::random::Philox;
use crate::run::Run;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Puts a new adapter on every module that `config` names and makes it the active one; its numbers are drawn from
/// `random` and the modules' names. Returns how many modules have one.
///
/// The model inside learns with an adapter, which is kept in files of peft and put on the model again:
/// ```
/// use samebits::nn::Compute;
/// use samebits::peft::config::{AdapterConfig, Dora, LoraConfig, Method, Targets};
/// use samebits::peft::{Adapter, LoraOptions, Parts, StoredLora, activate, adapt, attach, is_adapter, stored};
/// use samebits::{Cpu, assets, random::Philox, run::Run};
/// let (run, options) = (Run::here(Cpu::detect()), LoraOptions { rank: 2, ..LoraOptions::default() });
/// let config = AdapterConfig::lora(&options, Dora::Off, &["q_proj", "v_proj"], "inside")?;
/// let Method::Lora(LoraConfig { targets, .. }) = config.method() else { panic!("a LoRA") };
/// assert!(matches!(targets, Targets::Ends(_)) && targets.contains("model.layers.0.self_attn.q_proj"));
/// let mut model = assets::model(run.cpu())?; // in NF4: with LoRA beside it this is QLoRA
/// assert_eq!(model.compute(), Compute::F32);
/// let modules = adapt(&run, &mut model, ("mine", &config), Philox::new(1))?;
/// let trained = model.with_parameters(|all| all.iter().filter(|p| is_adapter(&p.name)).count());
/// assert_eq!(trained, 2 * modules); // an A and a B of each
/// let adapter: Adapter = stored(&mut model, "mine", &config)?;
/// let Parts::Lora(parts) = &adapter.parts else { panic!("a LoRA") };
/// assert!(parts.values().all(|part: &StoredLora| part.is_idle())); // B is zero: nothing is added yet
/// let mut again = assets::model(run.cpu())?;
/// attach(&run, &mut again, "mine", &adapter)?;
/// activate(&mut again, &[("mine", 0.5)])?;
/// # Ok::<(), samebits::Error>(())
/// ```
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
    for ModuleMut { name: module, site } in model.modules_mut() {
        if !names(lora, &module) {
            continue;
        }
        count += 1;
        let in_module = |e: Error| Error::invalid(format!("{module}: {e}"));
        let draw = (random, stream_of(&module));
        match site {
            Site::Table(table) => {
                let (shape, options) = ((table.entries(), table.features()), lora.options_of(&module));
                let new = LoraLayer::for_table(shape, &options, draw).map_err(in_module)?;
                let lengths = lora.dora.then(Vec::new);
                on_table(table, name, &StoredLora { layer: new, lengths, module: Module::Table })
            }
            Site::Linear(layers) => new_layers(run, (&module, layers), name, lora, draw),
        }
        .map_err(in_module)?;
    }
    if count == 0 {
        return Err(Error::invalid("the adapter's targets name no module of the model"));
    }
    activate(model, &[(name, 1.0)])?;
    Ok(count)
}

/// Whether a module of the model is named: "all-linear" leaves tables and the head alone, as in peft.
fn names(lora: &LoraConfig, module: &str) -> bool {
    let outside = !module.contains(".layers.") && !module.contains(".h.");
    lora.contains(module) && !(outside && lora.targets == Targets::AllLinear)
}

/// A new adapter on the layers of a module.
fn new_layers(
    run: &Run<'_>,
    (module, layers): (&str, Vec<(String, &mut Linear)>),
    name: &str,
    lora: &LoraConfig,
    draw: (Philox, u64),
) -> Result<()> {
    let options = lora.options_of(module);
    if layers.len() > 1 && !matches!(options.init, Init::Kaiming | Init::Gaussian) {
        return Err(Error::invalid(format!("{:?} on several layers at once is not supported", options.init)));
    }
    for (i, (_, layer)) in layers.into_iter().enumerate() {
        // The same stream: the same A for all.
        let (mut new, base) = LoraLayer::new(run, &layer.weight, &options, draw)?;
        layer.weight = base;
        if lora.dora {
            new = new.with_magnitude(run, &layer.weight);
        }
        insert(run, (module, i, layer), name, new)?;
    }
    Ok(())
}

/// Puts an adapter of a file on the model under `name`; it does not count before [`activate`].
///
/// # Errors
/// Where a module is none of the model's, or has another shape, or a table that the file brings along is not the
/// model's: then some modules may have it and others not.
pub fn attach(run: &Run<'_>, model: &mut Decoder, name: &str, adapter: &Adapter) -> Result<()> {
    let modules = match &adapter.parts {
        Parts::Lora(modules) => modules,
        Parts::Ia3(modules) => return ia3::attach(model, name, modules),
        Parts::Prefix(prefix) => return prefix::attach(model, name, prefix),
        Parts::Bottleneck(modules) => return bottleneck::attach(model, (name, &adapter.config), modules),
    };
    let mut left: BTreeMap<&str, &StoredLora> = modules.iter().map(|(m, l)| (m.as_str(), l)).collect();
    for ModuleMut { name: module, site } in model.modules_mut() {
        check_copy(run, &module, &site, adapter)?;
        let Some(stored) = left.remove(module.as_str()) else { continue };
        match (site, stored.module) {
            (Site::Table(table), Module::Table) => on_table(table, name, stored),
            (Site::Linear(layers), Module::Linear) => on_layers(run, (&module, layers), name, stored),
            (Site::Table(_), Module::Linear) => Err(Error::invalid("a table, the adapter is of a layer")),
            (Site::Linear(_), Module::Table) => Err(Error::invalid("a layer, the adapter is of a table")),
        }
        .map_err(|e| Error::invalid(format!("{module}: {e}")))?;
    }
    match left.keys().next() {
        None => Ok(()),
        Some(module) => Err(Error::invalid(format!("{module}: no module of the model that can have one"))),
    }
}

/// peft saves the tables whose modules are adapted besides: they must be the model's own.
fn check_copy(run: &Run<'_>, module: &str, site: &Site<'_>, adapter: &Adapter) -> Result<()> {
    let Some(copy) = adapter.copies.get(module) else { return Ok(()) };
    let weight = match site {
        Site::Table(table) => &table.table,
        Site::Linear(layers) => &layers[0].1.weight,
    };
    let shape = [weight.out_features(), weight.in_features()];
    if copy.shape == shape && copy.values == weight.to_rows(run.cpu()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{module}: the adapter brings a weight {:?} that is not that of the model {shape:?}: it was made for another",
        copy.shape
    )))
}

fn on_table(table: &mut Embedding, name: &str, stored: &StoredLora) -> Result<()> {
    if stored.lengths.is_some() {
        return Err(Error::invalid("a magnitude (DoRA) on a table is not supported"));
    }
    // Out of its place while the table is looked at, and back whatever comes of it.
    let mut adapter = table.adapter.take().unwrap_or_else(|| Box::new(TableAdapters::default()));
    let inserted = match adapter.as_any().downcast_mut::<TableAdapters>() {
        Some(of) => of.insert(table, name, stored.layer.clone()),
        None => Err(Error::invalid("it has an adapter of another kind")),
    };
    table.adapter = Some(adapter);
    inserted
}

/// The rows of B that belong to each layer go there, A to all.
fn on_layers(
    run: &Run<'_>,
    (module, layers): (&str, Vec<(String, &mut Linear)>),
    name: &str,
    stored: &StoredLora,
) -> Result<()> {
    let LoraShape { in_features, out_features, .. } = stored.layer.shape();
    let (n, k) = layers.iter().fold((0, 0), |(n, _), (_, l)| (n + l.out_features(), l.in_features()));
    if (out_features, in_features) != (n, k) {
        let (shape, expected) = (vec![out_features, in_features], format!("({n}, {k}) of the base"));
        return Err(Error::Shape { file: String::new(), name: "adapter".into(), shape, expected });
    }
    let mut row = 0;
    for (i, (_, layer)) in layers.into_iter().enumerate() {
        let part = stored.rows(row..row + layer.out_features());
        row += layer.out_features();
        let ready = part.on(run, &layer.weight)?;
        insert(run, (module, i, layer), name, ready)?;
    }
    Ok(())
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
    for ModuleMut { site, .. } in model.modules_mut() {
        match site {
            Site::Table(table) => tables_of(table).map_or(Ok(()), |of| choose(of))?,
            Site::Linear(layers) => {
                layers.into_iter().try_for_each(|(_, layer)| choices(layer).map_or(Ok(()), &mut choose))?;
            }
        }
    }
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
        Method::Lora(_) => Parts::Lora(loras(model, name)?),
        Method::Ia3(_) => Parts::Ia3(ia3::stored(model, name)?),
        Method::Prefix(_) => Parts::Prefix(prefix::stored(model, name)?),
        Method::Bottleneck(_) => Parts::Bottleneck(bottleneck::stored(model, name)?),
    };
    Ok(Adapter { config: config.clone(), parts, copies: BTreeMap::new() })
}

/// The matrices called `name`, by module.
fn loras(model: &mut Decoder, name: &str) -> Result<BTreeMap<String, StoredLora>> {
    let mut modules = BTreeMap::new();
    for ModuleMut { name: module, site } in model.modules_mut() {
        let found = match site {
            Site::Table(table) => tables_of(table).and_then(|of| of.get(name)).map(|layer| StoredLora {
                layer: layer.clone(),
                lengths: None,
                module: Module::Table,
            }),
            Site::Linear(layers) => {
                let parts = layers.into_iter().filter_map(|(_, layer)| adapters_of(layer)?.get(name));
                StoredLora::joined(&parts.collect::<Vec<_>>())
            }
        };
        modules.extend(found.map(|found| (module, found)));
    }
    if modules.is_empty() { Err(nowhere(name)) } else { Ok(modules) }
}

fn nowhere(name: &str) -> Error {
    Error::invalid(format!("no module has an adapter {name:?}"))
}

/// Every linear layer of the blocks under the name that Hugging Face gives it, for what needs it whole.
fn for_modules(model: &mut Decoder, mut f: impl FnMut(&str, &mut Linear) -> Result<()>) -> Result<()> {
    for ModuleMut { name, site } in model.modules_mut() {
        let Site::Linear(mut layers) = site else { continue };
        match &mut layers[..] {
            _ if name == "lm_head" => {}
            [(_, layer)] => f(&name, layer)?,
            _ => {
                let what = format!("{name}: only LoRA has a place where projections are fused in files");
                return Err(Error::invalid(what));
            }
        }
    }
    Ok(())
}

fn adapters_of(layer: &mut Linear) -> Option<&mut LoraAdapters> {
    layer.adapter.as_mut()?.as_any().downcast_mut()
}

fn tables_of(table: &mut Embedding) -> Option<&mut TableAdapters> {
    table.adapter.as_mut()?.as_any().downcast_mut()
}

/// Adds an adapter to what the `i`-th layer of the module has.
fn insert(
    run: &Run<'_>,
    (module, i, layer): (&str, usize, &mut Linear),
    name: &str,
    new: LoraLayer,
) -> Result<()> {
    // Out of its place while the layer is looked at, and back whatever comes of it.
    let mut adapter = layer.adapter.take().unwrap_or_else(|| {
        let adapters = LoraAdapters::new(stream_of(module));
        Box::new(if i == 0 { adapters } else { adapters.following() })
    });
    let inserted = match adapter.as_any().downcast_mut::<LoraAdapters>() {
        Some(of) => of.insert(run, layer, name, new),
        None => Err(Error::invalid("it has an adapter of another kind")),
    };
    layer.adapter = Some(adapter);
    inserted
}
