//! LoRA as a GGUF file, the form that llama.cpp loads.
//!
//! ```text
//!   general.type "adapter"   adapter.type "lora"   adapter.lora.alpha α       one α for the whole file: s = α / r
//!   blk.0.attn_q.weight.lora_a (rank, in)          blk.0.attn_q.weight.lora_b (out, rank)
//! ```
//!
//! Llama's q and k have their rows interleaved there; the rows of B move with them. rsLoRA is written as α · √r. Where
//! modules have other α · s than the first, the factor goes into B. Magnitudes (DoRA) and tables have no place in the
//! format and are refused.

use super::config::{AdapterConfig, Dora};
use super::files::{Adapter, Module, Parts, StoredLora};
use super::{LoraLayer, LoraOptions, LoraShape};
use crate::io::gguf::{GgmlType, Gguf, TensorView, Value, to_bytes};
use crate::io::json::Writer;
use crate::kernels::Cpu;
use crate::kernels::rope::Pairing;
use crate::model::gguf::{family_name, gguf_name, outward};
use crate::model::{Architecture, DecoderConfig};
use crate::nn::rotary::{half_to_interleaved, interleaved_to_half};
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Adapter {
    /// The bytes of a GGUF file, for a base of this configuration.
    ///
    /// # Errors
    /// Where it is no LoRA, has a magnitude or a table, or a module that the format has no name for.
    pub fn to_gguf(&self, base: &DecoderConfig) -> Result<Vec<u8>> {
        let Parts::Lora(modules) = &self.parts else {
            return Err(Error::invalid("only LoRA has a form in GGUF"));
        };
        let family = family_name(base.architecture)
            .ok_or_else(|| Error::invalid(format!("GGUF has no name for {:?}", base.architecture)))?;
        let alpha = modules.values().next().map_or(0.0, alpha_of);
        let mut tensors: Vec<(String, [usize; 2], Vec<u8>)> = Vec::new();
        for (module, stored) in modules {
            let name = own_name(base, module, stored)?;
            let LoraShape { in_features, out_features, rank } = stored.layer.shape();
            let mut b = stored.layer.b.clone();
            let factor = alpha_of(stored) / alpha;
            if (factor - 1.0).abs() > 1e-6 {
                b.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            }
            turn(base, module, &mut b, Pairing::Interleaved)?;
            tensors.push((format!("{name}.lora_a"), [rank, in_features], bytes(&stored.layer.a)));
            tensors.push((format!("{name}.lora_b"), [out_features, rank], bytes(&b)));
        }
        let views: Vec<TensorView<'_>> = tensors
            .iter()
            .map(|(name, shape, bytes)| TensorView { name, kind: GgmlType::F32, shape, bytes })
            .collect();
        let metadata = [
            ("general.architecture", Value::String(family)),
            ("general.type", Value::String("adapter")),
            ("adapter.type", Value::String("lora")),
            ("adapter.lora.alpha", Value::F32(alpha as f32)),
        ];
        to_bytes(&metadata, &views)
    }

    /// Reads a GGUF file of LoRA, for a base of this configuration.
    ///
    /// # Errors
    /// Where it is none, is for another family, or a tensor has no place or no partner.
    pub fn from_gguf(cpu: Cpu, file: &Gguf, base: &DecoderConfig) -> Result<Adapter> {
        read(cpu, file, base).map_err(|e| e.in_file(file.name()))
    }

    /// Opens a folder of peft or a GGUF file, for a base of this configuration.
    ///
    /// # Errors
    /// As [`Adapter::open`] and [`Adapter::from_gguf`].
    #[cfg(feature = "std")]
    pub fn open_for(cpu: Cpu, path: &std::path::Path, base: &DecoderConfig) -> Result<Adapter> {
        if Gguf::is_at(path) {
            return Adapter::from_gguf(cpu, &Gguf::open(path, crate::io::bytes::Access::Read)?, base);
        }
        Adapter::open(cpu, path)
    }
}

/// α as llama.cpp reads it: s · r.
fn alpha_of(stored: &StoredLora) -> f64 {
    f64::from(stored.layer.scale) * stored.layer.shape().rank as f64
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The name of the base's tensor.
fn own_name(base: &DecoderConfig, module: &str, stored: &StoredLora) -> Result<String> {
    if stored.lengths.is_some() {
        return Err(Error::invalid(format!("{module}: GGUF has no place for a magnitude (DoRA)")));
    }
    if stored.module == Module::Table {
        return Err(Error::invalid(format!("{module}: an adapter of a table has no form in GGUF here")));
    }
    gguf_name(base.architecture, &format!("{module}.weight"))
        .ok_or_else(|| Error::invalid(format!("GGUF has no name for the module {module:?}")))
}

/// Moves the rows of B (out, rank) of q and k to where `to` wants them; others stay.
fn turn(base: &DecoderConfig, module: &str, b: &mut [f32], to: Pairing) -> Result<()> {
    let interleaved = matches!(base.architecture, Architecture::Llama | Architecture::Mistral);
    let heads = match module.rsplit('.').next() {
        Some("q_proj") if interleaved => base.heads,
        Some("k_proj") if interleaved => base.kv_heads,
        _ => return Ok(()),
    };
    let (head_dim, rotary_dim) = (base.head_dim, base.rope.as_ref().map_or(0, |rope| rope.rotary_dim));
    if !b.len().is_multiple_of((heads * head_dim).max(1)) {
        return Err(Error::invalid(format!("{module}: rows that are not {heads} heads of {head_dim}")));
    }
    match to {
        Pairing::Interleaved => half_to_interleaved(b, heads, head_dim, rotary_dim),
        Pairing::Half => interleaved_to_half(b, heads, head_dim, rotary_dim),
    }
    Ok(())
}

fn read(cpu: Cpu, file: &Gguf, base: &DecoderConfig) -> Result<Adapter> {
    for (key, want) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = file.entry(key)?.str()?;
        if found != want {
            return Err(Error::invalid(format!("{key} is {found:?}, expected {want:?}")));
        }
    }
    let found = file.entry("general.architecture")?.str()?;
    if Some(found) != family_name(base.architecture) {
        let what = format!("an adapter for {found:?}, the base is {:?}", base.architecture);
        return Err(Error::invalid(what));
    }
    let alpha = file.entry("adapter.lora.alpha")?.f32()?;
    let mut names = BTreeSet::new();
    for tensor in file.tensors() {
        let own = tensor.name.strip_suffix(".lora_a").or(tensor.name.strip_suffix(".lora_b"));
        let own = own.filter(|own| own.ends_with(".weight"));
        names.insert(own.ok_or_else(|| Error::invalid(format!("{:?} is no part of a LoRA", tensor.name)))?);
    }
    let mut modules = BTreeMap::new();
    for own in names {
        let module = outward(base.architecture, own);
        let module =
            module.strip_suffix(".weight").filter(|module| *module != own.trim_end_matches(".weight"));
        let module = module.ok_or_else(|| Error::invalid(format!("{own:?} is no module of the base")))?;
        modules.insert(module.to_string(), module_of(cpu, file, base, (own, module), alpha)?);
    }
    let config = configuration(&modules)?;
    Ok(Adapter { config, parts: Parts::Lora(modules), copies: BTreeMap::new() })
}

/// One module: `own` in the file, `module` in the base.
fn module_of(
    cpu: Cpu,
    file: &Gguf,
    base: &DecoderConfig,
    (own, module): (&str, &str),
    alpha: f32,
) -> Result<StoredLora> {
    let [a, b] = ["lora_a", "lora_b"].map(|side| file.load(&format!("{own}.{side}")));
    let (a, b) = (a?, b?);
    let (&[rank, in_features], &[out_features, b_rank]) = (a.shape(), b.shape()) else {
        return Err(Error::invalid(format!("{own}: A and B must be matrices")));
    };
    if rank == 0 || rank != b_rank {
        return Err(Error::invalid(format!("{own}: A has rank {rank}, B {b_rank}")));
    }
    let mut b = b.to_f32_vec(cpu);
    turn(base, module, &mut b, Pairing::Half)?;
    let shape = LoraShape { in_features, out_features, rank };
    // Without an α the matrices are taken as they are.
    let scale = if alpha == 0.0 { 1.0 } else { (f64::from(alpha) / rank as f64) as f32 };
    let layer = LoraLayer::from_parts(shape, a.to_f32_vec(cpu), b, scale);
    Ok(StoredLora { layer, lengths: None, module: Module::Linear })
}

/// The configuration that says the same: every module in full, the first's rank and α, patterns for the others'.
fn configuration(modules: &BTreeMap<String, StoredLora>) -> Result<AdapterConfig> {
    let names: Vec<&str> = modules.keys().map(String::as_str).collect();
    let Some(first) = modules.values().next() else { return Err(Error::invalid("an adapter of nothing")) };
    let (rank, alpha) = (first.layer.shape().rank, alpha_of(first));
    let options = LoraOptions { rank, alpha, ..LoraOptions::default() };
    let mut config = AdapterConfig::lora(&options, Dora::Off, &names, "")?;
    let mut ranks = Writer::compact();
    ranks.object(|w| {
        let others = modules.iter().map(|(name, stored)| (name, stored.layer.shape().rank));
        others.filter(|(_, other)| *other != rank).for_each(|(name, rank)| w.key(name).number(rank));
    });
    let mut alphas = Writer::compact();
    alphas.object(|w| {
        let others = modules.iter().map(|(name, stored)| (name, alpha_of(stored)));
        others.filter(|(_, other)| *other != alpha).for_each(|(name, alpha)| w.key(name).number(alpha));
    });
    for (key, text) in [("rank_pattern", ranks.finish()), ("alpha_pattern", alphas.finish())] {
        if text != "{}" {
            config = config.with_field(key, &text)?;
        }
    }
    Ok(config)
}
