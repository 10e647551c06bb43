//! A folder as peft writes it: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! ```text
//!   base_model.model.<module>.lora_A.weight            (rank, in)       .lora_embedding_A   (rank, entries)
//!   base_model.model.<module>.lora_B.weight            (out, rank)      .lora_embedding_B   (features, rank)
//!   base_model.model.<module>.lora_magnitude_vector    (out)
//!   base_model.model.<module>.ia3_l                    (out, 1) or (1, in)
//!   prompt_embeddings                                  (tokens, layers · 2 · dim)
//! ```
//!
//! Bottleneck adapters have the folder of the `adapters` package: `adapter_config.json` and `adapter.safetensors`.
//!
//! Every tensor must have a place and every place its tensors: a file whose keys are not understood is an error, for a
//! model that quietly ran without its adapter would be worse.

mod bottleneck;

use super::AdapterLayer;
use super::config::{AdapterConfig, LoraConfig, Method, PrefixConfig};
use super::ia3::{Ia3, Side};
use super::lora::Magnitude;
use super::prefix::Prefix;
use super::{LoraLayer, LoraShape};
use crate::io::safetensors::{Dtype, SafeTensors, TensorView, to_bytes};
use crate::kernels::Cpu;
use crate::nn::Weight;
use crate::run::Run;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// An adapter of a whole model.
///
/// ```
/// use samebits::peft::{Adapter, Copied, Module, Parts};
/// let adapter = Adapter::open(samebits::Cpu::detect(), "tests/data/lora_models/table")?;
/// let Parts::Lora(parts) = &adapter.parts else { panic!("a LoRA") };
/// assert!(parts.values().any(|part| matches!(part.module, Module::Table)));
/// assert!(adapter.copies.values().all(|copy: &Copied| copy.values.len() == copy.shape.iter().product::<usize>()));
/// let folder = std::env::temp_dir().join(format!("samebits-adapter-{}", std::process::id()));
/// adapter.save(&folder)?;
/// assert_eq!(Adapter::open(samebits::Cpu::detect(), &folder)?, adapter);
/// std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its configuration.
    pub config: AdapterConfig,
    /// Its numbers, by module.
    pub parts: Parts,
    /// Weights of the base that the file has besides: peft adds those of tables and heads that are adapted.
    pub copies: BTreeMap<String, Copied>,
}

/// A weight of the base in the file of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    /// (rows, features)
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f32>,
}

/// The numbers of an [`Adapter`], one kind for each method.
#[derive(Clone, Debug, PartialEq)]
pub enum Parts {
    /// Matrices by module.
    Lora(BTreeMap<String, StoredLora>),
    /// Scales by module.
    Ia3(BTreeMap<String, Ia3>),
    /// Keys and values before the text.
    Prefix(Prefix),
    /// Bottlenecks by the module that has them, such as `model.layers.0.output_adapters`.
    Bottleneck(BTreeMap<String, AdapterLayer>),
}

/// The matrices of one module as a file has them.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLora {
    /// A, B and s.
    pub layer: LoraLayer,
    /// DoRA's lengths of rows, (out).
    pub lengths: Option<Vec<f32>>,
    /// What the module is.
    pub module: Module,
}

/// What a module that has an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// A linear layer.
    Linear,
    /// A table: the input features of its adapter are its entries.
    Table,
}

impl StoredLora {
    /// The layer, ready for a base: DoRA's lengths need its rows.
    ///
    /// # Errors
    /// Where the base has another shape.
    pub fn on(&self, run: &Run<'_>, base: &Weight) -> Result<LoraLayer> {
        let LoraShape { in_features, out_features, .. } = self.layer.shape();
        let (n, k) = (base.out_features(), base.in_features());
        if (out_features, in_features) != (n, k) {
            let (shape, expected) = (vec![out_features, in_features], format!("({n}, {k}) of the base"));
            return Err(Error::Shape { file: String::new(), name: "adapter".into(), shape, expected });
        }
        let mut layer = self.layer.clone();
        layer.magnitude = self.lengths.as_ref().map(|lengths| Magnitude::new(run, base, lengths.clone()));
        Ok(layer)
    }

    /// That of some rows of the outputs.
    pub(super) fn rows(&self, rows: core::ops::Range<usize>) -> StoredLora {
        let LoraLayer { a, b, scale, dropout, .. } = &self.layer;
        let LoraShape { in_features, rank, .. } = self.layer.shape();
        let shape = LoraShape { in_features, out_features: rows.len(), rank };
        let b = b[rows.start * rank..rows.end * rank].to_vec();
        let mut layer = LoraLayer::from_parts(shape, a.clone(), b, *scale);
        layer.dropout = *dropout;
        let lengths = self.lengths.as_ref().map(|lengths| lengths[rows].to_vec());
        StoredLora { layer, lengths, module: self.module }
    }

    /// That of a module from those of its layers; `None` where there are none.
    pub(super) fn joined(parts: &[&LoraLayer]) -> Option<StoredLora> {
        let first = parts.first()?;
        let out_features = parts.iter().map(|part| part.shape().out_features).sum();
        let b = parts.iter().flat_map(|part| part.b.iter().copied()).collect();
        let shape = LoraShape { out_features, ..first.shape() };
        let mut layer = LoraLayer::from_parts(shape, first.a.clone(), b, first.scale);
        layer.dropout = first.dropout;
        let lengths = |part: &&LoraLayer| part.magnitude.as_ref().map(|m| m.lengths.clone());
        let lengths: Option<Vec<Vec<f32>>> = parts.iter().map(lengths).collect();
        Some(StoredLora { layer, lengths: lengths.map(|all| all.concat()), module: Module::Linear })
    }

    /// Whether one of the two is zero everywhere (B of a layer, A of a table), so that nothing is added.
    pub fn is_idle(&self) -> bool {
        let zero = |x: &[f32]| x.iter().all(|x| *x == 0.0);
        self.lengths.is_none() && (zero(&self.layer.b) || zero(&self.layer.a))
    }
}

#[cfg(feature = "std")]
const CONFIG: &str = "adapter_config.json";
#[cfg(feature = "std")]
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
/// Keys that an error lists.
const LISTED: usize = 5;

impl Adapter {
    /// From the texts of the two files.
    ///
    /// # Errors
    /// Where a field asks for what is not supported; where a tensor has no place, a place no tensor, or shapes or types
    /// do not fit the configuration.
    pub fn from_parts(cpu: Cpu, config: AdapterConfig, tensors: &SafeTensors) -> Result<Adapter> {
        let mut copies = BTreeMap::new();
        let parts = match config.method() {
            Method::Lora(lora) => {
                if let Some(name) = &lora.changed_base {
                    return Err(Error::invalid(format!(
                        "init_lora_weights {name:?} changed the base when the adapter was made; \
                         save it with path_initial_model_for_weight_conversion"
                    )));
                }
                copies = copies_of(cpu, lora, tensors)?;
                Parts::Lora(loras(cpu, lora, tensors)?)
            }
            Method::Ia3(ia3) => {
                let mut all = BTreeMap::new();
                for tensor in tensors.tensors() {
                    let module = module_of(tensor.name, ".ia3_l");
                    let module = module.and_then(|module| Some((module, ia3.side(module)?)));
                    let (module, side) = module.ok_or_else(|| homeless(&[tensor.name]))?;
                    let scales = tensors.load(tensor.name)?.to_f32_vec(cpu);
                    all.insert(module.to_string(), Ia3 { scales, side });
                }
                Parts::Ia3(all)
            }
            Method::Prefix(prefix) => Parts::Prefix(prefix_of(cpu, *prefix, tensors)?),
            Method::Bottleneck(config) => Parts::Bottleneck(bottleneck::read(cpu, config, tensors)?),
        };
        Ok(Adapter { config, parts, copies })
    }

    /// The modules that have matrices and add nothing, for B is zero: a warning to give.
    pub fn idle(&self) -> Vec<&str> {
        match &self.parts {
            Parts::Lora(all) => {
                all.iter().filter(|(_, l)| l.is_idle()).map(|(name, _)| name.as_str()).collect()
            }
            Parts::Ia3(_) | Parts::Prefix(_) | Parts::Bottleneck(_) => Vec::new(),
        }
    }

    /// The bytes of `adapter_model.safetensors`.
    ///
    /// # Errors
    /// Where a name cannot be that of a tensor.
    pub fn tensors(&self) -> Result<Vec<u8>> {
        let mut all: Vec<(String, Vec<usize>, &[f32])> = Vec::new();
        match &self.parts {
            Parts::Lora(modules) => {
                for (module, StoredLora { layer, lengths, module: kind }) in modules {
                    let LoraShape { in_features, out_features, rank } = layer.shape();
                    let [a, b] = match kind {
                        Module::Linear => ["lora_A.weight", "lora_B.weight"],
                        Module::Table => ["lora_embedding_A", "lora_embedding_B"],
                    };
                    all.push((format!("{PREFIX}{module}.{a}"), vec![rank, in_features], &layer.a));
                    all.push((format!("{PREFIX}{module}.{b}"), vec![out_features, rank], &layer.b));
                    if let Some(lengths) = lengths {
                        let name = format!("{PREFIX}{module}.lora_magnitude_vector");
                        all.push((name, vec![out_features], lengths));
                    }
                }
            }
            Parts::Ia3(modules) => {
                for (module, Ia3 { scales, side }) in modules {
                    let n = scales.len();
                    let shape = if *side == Side::Input { vec![1, n] } else { vec![n, 1] };
                    all.push((format!("{PREFIX}{module}.ia3_l"), shape, scales));
                }
            }
            Parts::Prefix(prefix) => {
                let PrefixConfig { tokens, layers, dim } = prefix.config();
                all.push(("prompt_embeddings".into(), vec![tokens, layers * 2 * dim], prefix.values()));
            }
            Parts::Bottleneck(modules) => {
                let name = match self.config.method() {
                    Method::Bottleneck(config) => &config.name,
                    _ => "default",
                };
                bottleneck::write(name, modules, &mut all);
            }
        }
        for (module, Copied { shape, values }) in &self.copies {
            all.push((format!("{PREFIX}{module}{COPY}"), shape.clone(), values));
        }
        let bytes: Vec<Vec<u8>> =
            all.iter().map(|(_, _, x)| x.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let views: Vec<TensorView<'_>> = all
            .iter()
            .zip(&bytes)
            .map(|((name, shape, _), bytes)| TensorView { name, dtype: Dtype::F32, shape, bytes })
            .collect();
        to_bytes(&views, &[("format", "pt")])
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// Where a file is missing or malformed; else as [`Adapter::from_parts`].
    #[cfg(feature = "std")]
    pub fn open(cpu: Cpu, folder: impl AsRef<std::path::Path>) -> Result<Adapter> {
        use std::io::Read;
        const MAX_CONFIG: u64 = 1 << 24;
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let mut text = Vec::new();
        let file = crate::io::bytes::open_regular(&path)?;
        file.take(MAX_CONFIG).read_to_end(&mut text).map_err(|e| Error::io(&path, "read", e))?;
        let config = AdapterConfig::parse(&text).map_err(|e| e.in_file(path.display()))?;
        let path = folder.join(config.weights_file());
        if !path.exists() && folder.join(bottleneck::PICKLE).exists() {
            let what = "Python's pickle is not read: save_adapter(…, use_safetensors=True) writes the other";
            return Err(Error::invalid(what).in_file(folder.join(bottleneck::PICKLE).display()));
        }
        let tensors = SafeTensors::open(&path)?;
        Adapter::from_parts(cpu, config, &tensors).map_err(|e| e.in_file(path.display()))
    }

    /// Writes both files into a folder, which is made where it is not there; each whole or not at all.
    ///
    /// # Errors
    /// What the system refused.
    #[cfg(feature = "std")]
    pub fn save(&self, folder: impl AsRef<std::path::Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        let tensors = self.tensors()?;
        crate::io::atomic::write(&folder.join(self.config.weights_file()), |out| out.write_all(&tensors))?;
        let text = self.config.to_json();
        crate::io::atomic::write(&folder.join(CONFIG), |out| out.write_all(text.as_bytes()))
    }
}

impl AdapterConfig {
    /// The name of the file of the numbers.
    #[cfg(feature = "std")]
    fn weights_file(&self) -> &'static str {
        if matches!(self.method(), Method::Bottleneck(_)) { bottleneck::WEIGHTS } else { WEIGHTS }
    }
}

/// `<module>` of `base_model.model.<module><suffix>`.
fn module_of<'a>(key: &'a str, suffix: &str) -> Option<&'a str> {
    key.strip_prefix(PREFIX)?.strip_suffix(suffix)
}

fn homeless(keys: &[&str]) -> Error {
    let shown: Vec<&str> = keys.iter().copied().take(LISTED).collect();
    Error::invalid(format!("tensors that belong to no module of the configuration: {shown:?}"))
}

/// What follows a module in the keys of LoRA; magnitudes were written both ways.
const SUFFIXES: [&str; 6] = [
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight",
];

/// What follows a module in the key of a weight of the base.
const COPY: &str = ".base_layer.weight";

/// The weights of adapted modules of the base that the file has.
fn copies_of(cpu: Cpu, config: &LoraConfig, tensors: &SafeTensors) -> Result<BTreeMap<String, Copied>> {
    let mut all = BTreeMap::new();
    for tensor in tensors.tensors() {
        let Some(module) = module_of(tensor.name, COPY).filter(|module| config.contains(module)) else {
            continue;
        };
        let copy =
            Copied { shape: tensor.shape.to_vec(), values: tensors.load(tensor.name)?.to_f32_vec(cpu) };
        all.insert(module.to_string(), copy);
    }
    Ok(all)
}

/// All matrices, each tensor used once.
fn loras(cpu: Cpu, config: &LoraConfig, tensors: &SafeTensors) -> Result<BTreeMap<String, StoredLora>> {
    let mut modules = BTreeSet::new();
    let mut lost = Vec::new();
    for tensor in tensors.tensors() {
        let module = SUFFIXES.iter().find_map(|suffix| module_of(tensor.name, suffix));
        match module.filter(|module| config.contains(module)) {
            Some(module) => _ = modules.insert(module),
            None if module_of(tensor.name, COPY).is_some_and(|module| config.contains(module)) => {}
            None => lost.push(tensor.name),
        }
    }
    if !lost.is_empty() {
        return Err(homeless(&lost));
    }
    modules.into_iter().map(|m| Ok((m.to_string(), lora(cpu, config, tensors, m)?))).collect()
}

/// The matrices of one module.
fn lora(cpu: Cpu, config: &LoraConfig, tensors: &SafeTensors, module: &str) -> Result<StoredLora> {
    let key = |suffix: &str| format!("{PREFIX}{module}{suffix}");
    let has = |suffix: &str| tensors.tensors().any(|t| t.name == key(suffix));
    let kind = if has(SUFFIXES[2]) || has(SUFFIXES[3]) { Module::Table } else { Module::Linear };
    let [a_key, b_key] = match kind {
        Module::Linear => [key(SUFFIXES[0]), key(SUFFIXES[1])],
        Module::Table => [key(SUFFIXES[2]), key(SUFFIXES[3])],
    };
    let options = config.options_of(module);
    let (a, b) = (tensors.load(&a_key)?, tensors.load(&b_key)?);
    let wrong = |name: &str, shape: &[usize], expected: String| {
        Err(Error::Shape { file: String::new(), name: name.into(), shape: shape.to_vec(), expected })
    };
    let [rank, in_features] = *a.shape() else {
        return wrong(&a_key, a.shape(), format!("({}, in)", options.rank));
    };
    if rank != options.rank {
        return wrong(&a_key, a.shape(), format!("({}, in), the rank of the configuration", options.rank));
    }
    let [out_features, b_rank] = *b.shape() else {
        return wrong(&b_key, b.shape(), format!("(out, {rank})"));
    };
    if b_rank != rank {
        return wrong(&b_key, b.shape(), format!("(out, {rank})"));
    }
    let shape = LoraShape { in_features, out_features, rank };
    let scale = options.scaling.factor(options.alpha, rank);
    let mut layer = LoraLayer::from_parts(shape, a.to_f32_vec(cpu), b.to_f32_vec(cpu), scale);
    layer.dropout = options.dropout;
    let mut lengths = None;
    for suffix in SUFFIXES[4..].iter().filter(|suffix| has(suffix)) {
        let tensor = tensors.load(&key(suffix))?;
        if !config.dora || lengths.is_some() {
            return Err(homeless(&[&key(suffix)]));
        }
        if tensor.shape().iter().product::<usize>() != out_features {
            return wrong(&key(suffix), tensor.shape(), format!("({out_features},)"));
        }
        lengths = Some(tensor.to_f32_vec(cpu));
    }
    if config.dora && lengths.is_none() {
        return Err(Error::invalid(format!("use_dora, but no {:?}", key(SUFFIXES[4]))));
    }
    Ok(StoredLora { layer, lengths, module: kind })
}

fn prefix_of(cpu: Cpu, config: PrefixConfig, tensors: &SafeTensors) -> Result<Prefix> {
    let tensor = tensors.load("prompt_embeddings")?;
    let PrefixConfig { tokens, layers, dim } = config;
    if tensor.shape() != [tokens, layers * 2 * dim] {
        let (name, shape) = ("prompt_embeddings".into(), tensor.shape().to_vec());
        let expected = format!("({tokens}, {})", layers * 2 * dim);
        return Err(Error::Shape { file: String::new(), name, shape, expected });
    }
    let others: Vec<&str> = tensors.tensors().map(|t| t.name).filter(|n| *n != "prompt_embeddings").collect();
    if !others.is_empty() {
        return Err(homeless(&others));
    }
    Ok(Prefix::new(config, tensor.to_f32_vec(cpu)))
}
