//! IA³ on a whole model.

use super::{for_modules, nowhere};
use crate::model::Decoder;
use crate::nn::Linear;
use crate::peft::config::Ia3Config;
use crate::peft::{Ia3, Ia3Adapters, Side};
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

/// Scales of one on every module that `config` names, active; how many modules.
pub(super) fn adapt(model: &mut Decoder, (name, config): (&str, &Ia3Config)) -> Result<usize> {
    let mut count = 0;
    for_modules(model, |module, layer| {
        let Some(side) = config.side(module) else { return Ok(()) };
        count += 1;
        let ones = Ia3::ones(layer, side);
        insert((module, layer), name, ones)
    })?;
    if count == 0 {
        return Err(Error::invalid("the adapter's targets name no module of the model"));
    }
    super::activate(model, &[(name, 1.0)])?;
    Ok(count)
}

/// Scales of a file.
pub(super) fn attach(model: &mut Decoder, name: &str, modules: &BTreeMap<String, Ia3>) -> Result<()> {
    let mut left: BTreeSet<&str> = modules.keys().map(String::as_str).collect();
    for_modules(model, |module, layer| {
        let Some(ia3) = modules.get(module) else { return Ok(()) };
        left.remove(module);
        let n = if ia3.side == Side::Input { layer.in_features() } else { layer.out_features() };
        if ia3.scales.len() != n {
            return Err(Error::invalid(format!("{module}: {} scales for {n} features", ia3.scales.len())));
        }
        insert((module, layer), name, ia3.clone())
    })?;
    match left.first() {
        None => Ok(()),
        Some(module) => Err(Error::invalid(format!("{module}: no linear layer of the model's blocks"))),
    }
}

/// The scales called `name`, by module.
pub(super) fn stored(model: &mut Decoder, name: &str) -> Result<BTreeMap<String, Ia3>> {
    let mut modules = BTreeMap::new();
    for_modules(model, |module, layer| {
        let found = of(layer).and_then(|of| of.of().get(name));
        modules.extend(found.map(|ia3| (String::from(module), ia3.clone())));
        Ok(())
    })?;
    if modules.is_empty() { Err(nowhere(name)) } else { Ok(modules) }
}

fn of(layer: &mut Linear) -> Option<&mut Ia3Adapters> {
    layer.adapter.as_mut()?.as_any().downcast_mut()
}

fn insert((module, layer): (&str, &mut Linear), name: &str, ia3: Ia3) -> Result<()> {
    let adapters = layer.adapter.get_or_insert_with(|| Box::new(Ia3Adapters::new(ia3.side)));
    match adapters.as_any().downcast_mut::<Ia3Adapters>() {
        Some(of) if of.side() == ia3.side => {
            of.of_mut().insert(name, ia3);
            Ok(())
        }
        Some(_) => Err(Error::invalid(format!("{module}: another adapter scales its other side"))),
        None => Err(Error::invalid(format!("{module}: it has an adapter of another kind"))),
    }
}
