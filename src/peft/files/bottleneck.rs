//! Bottleneck adapters as the `adapters` package saves them.
//!
//! ```text
//!   <module>.adapters.<name>.adapter_down.0.weight   (bottleneck, features)   .bias   (bottleneck)
//!   <module>.adapters.<name>.adapter_up.weight       (features, bottleneck)   .bias   (features)
//!   <module>: model.layers.0.attention_adapters, model.layers.0.output_adapters; transformer.h.0.… of GPT-2
//! ```

use super::homeless;
use crate::io::safetensors::SafeTensors;
use crate::kernels::Cpu;
use crate::nn::adapter::Branch;
use crate::peft::AdapterLayer;
use crate::peft::config::BottleneckConfig;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The files of the numbers: the one that is read and written, and the one that is not.
#[cfg(feature = "std")]
pub(super) const WEIGHTS: &str = "adapter.safetensors";
#[cfg(feature = "std")]
pub(super) const PICKLE: &str = "pytorch_adapter.bin";

/// What follows a module and the adapter's name.
const TENSORS: [&str; 4] =
    ["adapter_down.0.weight", "adapter_down.0.bias", "adapter_up.weight", "adapter_up.bias"];

/// All bottlenecks, each tensor used once.
pub(super) fn read(
    cpu: Cpu,
    config: &BottleneckConfig,
    tensors: &SafeTensors,
) -> Result<BTreeMap<String, AdapterLayer>> {
    let middle = format!(".adapters.{}.", config.name);
    let (mut modules, mut lost) = (BTreeSet::new(), Vec::new());
    for tensor in tensors.tensors() {
        let parts = tensor.name.split_once(&middle).filter(|(_, suffix)| TENSORS.contains(suffix));
        match parts.filter(|(module, _)| belongs(config, module)) {
            Some((module, _)) => _ = modules.insert(module),
            None => lost.push(tensor.name),
        }
    }
    if !lost.is_empty() {
        return Err(homeless(&lost));
    }
    let all = modules
        .into_iter()
        .map(|module| Ok((module.to_string(), layer(cpu, config, tensors, &format!("{module}{middle}"))?)));
    all.collect()
}

/// Whether a module has a bottleneck: `….<number>.attention_adapters` or `….output_adapters`.
fn belongs(config: &BottleneckConfig, module: &str) -> bool {
    let mut parts = module.rsplit('.');
    let (part, block) = (parts.next(), parts.next().and_then(|block| block.parse().ok()));
    let branch = match part {
        Some("attention_adapters") => Branch::Attention,
        Some("output_adapters") => Branch::Network,
        _ => return false,
    };
    block.is_some_and(|block| config.contains(block, branch))
}

fn layer(cpu: Cpu, config: &BottleneckConfig, tensors: &SafeTensors, at: &str) -> Result<AdapterLayer> {
    let (n, width) = (config.features, config.width());
    let load = |suffix: &str, shape: &[usize]| {
        let name = format!("{at}{suffix}");
        let tensor = tensors.load(&name)?;
        if tensor.shape() != shape {
            let (shape, expected) = (tensor.shape().to_vec(), format!("{shape:?}"));
            return Err(Error::Shape { file: String::new(), name, shape, expected });
        }
        Ok(tensor.to_f32_vec(cpu))
    };
    Ok(AdapterLayer {
        down: load(TENSORS[0], &[width, n])?,
        down_bias: load(TENSORS[1], &[width])?,
        up: load(TENSORS[2], &[n, width])?,
        up_bias: load(TENSORS[3], &[n])?,
        activation: config.activation,
        scale: config.scale,
    })
}

/// Adds name, shape and numbers of every tensor to `all`.
pub(super) fn write<'a>(
    name: &str,
    modules: &'a BTreeMap<String, AdapterLayer>,
    all: &mut Vec<(String, Vec<usize>, &'a [f32])>,
) {
    for (module, layer) in modules {
        let (n, width) = (layer.features(), layer.bottleneck());
        let tensors: [(Vec<usize>, &'a [f32]); 4] = [
            (vec![width, n], &layer.down),
            (vec![width], &layer.down_bias),
            (vec![n, width], &layer.up),
            (vec![n], &layer.up_bias),
        ];
        for (suffix, (shape, values)) in TENSORS.into_iter().zip(tensors) {
            all.push((format!("{module}.adapters.{name}.{suffix}"), shape, values));
        }
    }
}
