//! A model's folder with adapters made part of its weights.
//!
//! ```text
//!   config.json ─────────────────► config.json       untied, where a tied table or head has an adapter of its own
//!   model*.safetensors ──┬───────► model.safetensors all that no adapter names: the same bytes
//!   adapters ────────────┴─ W + Σ w s B A ─►         in the type that W has; one weight in memory at a time
//! ```
//!
//! Files keep projections fused as adapters see them, so a weight meets its adapter whole. A weight in NF4 is merged
//! into what the caller says: rounding it again may lose more than the adapter says.

mod weights;

use super::files::{Adapter, Parts, StoredLora};
use crate::io::atomic;
use crate::io::bitsandbytes::Owned;
use crate::io::bytes::Access;
use crate::io::json::{self, Writer};
use crate::io::safetensors::{self, Checkpoint, Dtype, TensorInfo, TensorView};
use crate::model::{Architecture, DecoderConfig, copy_small, is_column, read_config};
use crate::run::Run;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::path::PathBuf;

/// What is asked of [`export`].
#[derive(Clone, Debug)]
pub struct Export {
    /// A folder of Hugging Face.
    pub model: PathBuf,
    /// Adapters of the LoRA family and their weights.
    pub adapters: Vec<(Adapter, f32)>,
    /// The folder to be written.
    pub output: PathBuf,
    /// What weights in NF4 become; `None`: they are refused.
    pub nf4: Option<Recoded>,
}

/// What becomes of a weight in NF4 that is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recoded {
    /// NF4 again, with blocks and statistics as before.
    Nf4,
    /// The type that it had before it was quantised, as have all others of the folder.
    Floats,
}

/// What [`export`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exported {
    /// Weights that were changed.
    pub merged: usize,
    /// Tensors of the new folder.
    pub tensors: usize,
    /// Bytes of the new weights.
    pub bytes: u64,
    /// Bytes of memory for the largest weight on its way: what it was, what it became, and both in `f32`.
    pub memory: usize,
    /// Whether the head became a weight of its own.
    pub untied: bool,
    /// Σ|stored − exact| / Σ|exact| over the merged weights.
    pub error: f64,
    /// Σ|stored − exact| / Σ|exact − base|: from 1 on, rounding outweighs what the adapters say.
    pub error_of_change: f64,
}

/// Sums over all merged weights.
#[derive(Default)]
struct Sums {
    lost: f64,
    exact: f64,
    change: f64,
}

/// Writes the folder, whole or not at all. The model is mapped, for it may be larger than memory: see [`Access::Map`].
///
/// ```
/// use samebits::peft::config::{AdapterConfig, Dora};
/// use samebits::peft::{Export, Exported, LoraOptions, Recoded, adapt, export, stored};
/// use samebits::{Cpu, model::Decoder, random::Philox, run::Run};
/// let (run, folder) = (Run::here(Cpu::detect()), "tests/data/models/llama");
/// let mut model = Decoder::open_with(folder, run.cpu(), Default::default())?;
/// let config = AdapterConfig::lora(&LoraOptions::default(), Dora::Off, &["q_proj"], "llama")?;
/// let modules = adapt(&run, &mut model, ("mine", &config), Philox::new(1))?;
/// let adapter = stored(&mut model, "mine", &config)?;
/// let output = std::env::temp_dir().join(format!("samebits-export-{}", std::process::id()));
/// let job = Export {
///     model: folder.into(),
///     adapters: vec![(adapter, 1.0)],
///     output: output.clone(),
///     nf4: None, // what becomes of weights in NF4, of which there are none here
/// };
/// let done: Exported = export(&run, &job, &mut |_tensor| Ok(()))?;
/// assert_eq!((done.merged, done.error), (modules, 0.0)); // a new adapter adds nothing yet
/// let in_nf4 = Export { nf4: Some(Recoded::Floats), ..job };
/// assert!(export(&run, &in_nf4, &mut |_| Ok(())).is_err()); // no weight is stored so
/// assert!(Decoder::open_with(&output, run.cpu(), Default::default()).is_ok());
/// std::fs::remove_dir_all(output).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where the folder is no model; an adapter is not of the LoRA family, names what the model does not have, or was made for
/// another base; a sum is not finite or does not fit its type; a weight is in NF4 and nothing was said of it.
pub fn export(run: &Run<'_>, job: &Export, progress: &mut dyn FnMut(&str) -> Result<()>) -> Result<Exported> {
    let path = job.model.join("config.json");
    let config = read_config(&path)?;
    let in_config = |e: Error| e.in_file(path.display());
    let architecture = Architecture::of_config(&config).map_err(in_config)?;
    if architecture.is_encoder() {
        return Err(Error::invalid(format!("{architecture:?} is an encoder: decoders are merged"))
            .in_file(job.model.display()));
    }
    let parsed = DecoderConfig::from_hf(&config).map_err(in_config)?;
    let model = Checkpoint::open_with(&job.model, Access::Map)?;
    let mut work = Work { run, job, model: &model, targets: BTreeMap::new(), sums: Sums::default() };
    let untied = work.find_targets(&parsed).map_err(|e| e.in_file(job.model.display()))?;
    let text = work.config(&config, untied).map_err(in_config)?;
    work.write(&text, untied, progress)
}

/// A merge under way.
struct Work<'a> {
    run: &'a Run<'a>,
    job: &'a Export,
    model: &'a Checkpoint,
    /// Names of tensors, and the modules that adapters call them.
    targets: BTreeMap<String, String>,
    sums: Sums,
}

/// Where a tensor of the new folder comes from.
enum Item<'a> {
    /// The old one's, under its own name or another.
    Copy(TensorView<'a>),
    /// A merged or decoded weight, to be made when its turn comes.
    Make(Made<'a>),
    /// Made already.
    Ready(&'a Owned),
}

/// A weight that is to be made.
struct Made<'a> {
    name: &'a str,
    /// What it is called in the old folder.
    from: &'a str,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> Item<'a> {
    fn info(&self) -> TensorInfo<'_> {
        match self {
            Item::Copy(view) => TensorInfo::of(view),
            Item::Ready(owned) => TensorInfo::of(&owned.view()),
            Item::Make(Made { name, dtype, shape, .. }) => TensorInfo { name, dtype: *dtype, shape },
        }
    }
}

const HEAD: &str = "lm_head.weight";

/// What the table of tokens is called as a module.
const fn table_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Gpt2 => "transformer.wte",
        _ => "model.embed_tokens",
    }
}

impl<'a> Work<'a> {
    fn modules(&self) -> impl Iterator<Item = (&'a BTreeMap<String, StoredLora>, &'a Adapter, f32)> {
        self.job.adapters.iter().filter_map(|(adapter, weight)| match &adapter.parts {
            Parts::Lora(modules) => Some((modules, adapter, *weight)),
            _ => None,
        })
    }

    /// The tensors that adapters change; whether the head has to become one of its own.
    fn find_targets(&mut self, config: &DecoderConfig) -> Result<bool> {
        if self.job.adapters.iter().any(|(adapter, _)| !matches!(adapter.parts, Parts::Lora(_))) {
            return Err(Error::invalid("only adapters of the LoRA family are merged"));
        }
        let table = table_of(config.architecture);
        let names: Vec<&String> = self.modules().flat_map(|(modules, ..)| modules.keys()).collect();
        let mut untied = false;
        for module in names {
            let outer = module == table || module == "lm_head";
            untied |= config.tied && outer;
            if config.tied && module == "lm_head" {
                self.targets.insert(HEAD.into(), module.clone());
                continue;
            }
            let full = format!("{module}.weight");
            let short = full.strip_prefix("transformer.").unwrap_or(&full);
            let there = [&*full, short].into_iter().find(|name| self.model.tensor(name).is_ok());
            let there = there.ok_or_else(|| Error::invalid(format!("{module}: no module of the model")))?;
            self.targets.insert(there.into(), module.clone());
        }
        Ok(untied)
    }

    /// `config.json` with what changes.
    fn config(&self, text: &[u8], untied: bool) -> Result<String> {
        let root = json::parse(text)?;
        let entries = root.entries().ok_or_else(|| root.expected("an object"))?;
        let decoded = self.job.nf4 == Some(Recoded::Floats);
        let mut w = Writer::indented();
        w.object(|w| {
            for (key, value) in entries {
                match &*key {
                    "tie_word_embeddings" if untied => {}
                    "quantization_config" if decoded => {}
                    key => w.key(key).raw(value.source()),
                }
            }
            if untied {
                w.key("tie_word_embeddings").boolean(false);
            }
        });
        Ok(w.finish() + "\n")
    }

    /// The merged weights in NF4: small enough to be kept until they are written.
    fn coded_weights(&mut self, progress: &mut dyn FnMut(&str) -> Result<()>) -> Result<Vec<Owned>> {
        let names: Vec<String> = self.targets.keys().filter(|name| *name != HEAD).cloned().collect();
        let (mut all, mut seen) = (Vec::new(), false);
        for name in names {
            let Some(old) = self.nf4(&name)? else { continue };
            seen = true;
            match self.job.nf4 {
                Some(Recoded::Floats) => {}
                Some(Recoded::Nf4) => {
                    progress(&name)?;
                    all.extend(self.coded(&name, &old)?);
                }
                None => {
                    return Err(Error::invalid(format!(
                        "{name:?} is stored in NF4: to round the sum again may lose what the adapter says; \
                         --into-nf4 does it and says how much is lost, --into-floats decodes the model"
                    )));
                }
            }
        }
        match self.job.nf4 {
            Some(_) if !seen => Err(Error::invalid("no weight that an adapter names is stored in NF4")),
            _ => Ok(all),
        }
    }

    /// All tensors of the new folder.
    fn items<'i>(&self, coded: &'i [Owned], untied: bool) -> Result<Vec<Item<'i>>>
    where
        'a: 'i,
    {
        let model: &'a Checkpoint = self.model;
        let decode = self.job.nf4 == Some(Recoded::Floats);
        let mut all: Vec<Item<'i>> = coded.iter().map(Item::Ready).collect();
        // Weights whose parts are not copied: their statistics stand beside them.
        let mut gone = Vec::new();
        for view in model.tensors() {
            let nf4 = self.nf4(view.name)?;
            let (name, from) = (view.name, view.name);
            match nf4 {
                Some(nf4) if decode => {
                    let mut shape = nf4.shape.clone();
                    if is_column(name) {
                        shape.reverse();
                    }
                    gone.push(format!("{name}."));
                    all.push(Item::Make(Made { name, from, dtype: nf4.dtype, shape }));
                }
                Some(_) if self.targets.contains_key(name) => gone.push(format!("{name}.")),
                None if self.targets.contains_key(name) && !(untied && name == HEAD) => {
                    let (dtype, shape) = (view.dtype, view.shape.to_vec());
                    all.push(Item::Make(Made { name, from, dtype, shape }));
                }
                _ => {}
            }
        }
        if untied {
            let table = ["model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"];
            let view = table.iter().find_map(|name| model.tensor(name).ok());
            let view = view.ok_or_else(|| Error::invalid("no table of tokens"))?;
            let (dtype, shape) = (view.dtype, view.shape.to_vec());
            all.push(Item::Make(Made { name: HEAD, from: view.name, dtype, shape }));
        }
        let made: Vec<String> = all.iter().map(|item| item.info().name.into()).collect();
        let left = |name: &str| {
            !made.iter().any(|made| made == name) && !gone.iter().any(|weight| name.starts_with(&**weight))
        };
        all.extend(model.tensors().filter(|view| left(view.name)).map(Item::Copy));
        Ok(all)
    }

    fn write(
        &mut self,
        config: &str,
        untied: bool,
        progress: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Exported> {
        let (job, model) = (self.job, self.model);
        let in_model = |e: Error| e.in_file(job.model.display());
        let coded = self.coded_weights(progress).map_err(in_model)?;
        let items = self.items(&coded, untied).map_err(in_model)?;
        let infos: Vec<TensorInfo<'_>> = items.iter().map(Item::info).collect();
        let metadata: Vec<_> = model.files().next().into_iter().flat_map(|(_, f)| f.metadata()).collect();
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (&**k, &**v)).collect();
        let mut memory = 0;
        atomic::folder(&job.output, |folder| {
            atomic::write(&folder.join("config.json"), |out| out.write_all(config.as_bytes()))?;
            copy_small(&job.model, folder)?;
            let path = folder.join("model.safetensors");
            safetensors::write_each(&path, &infos, &metadata, |i| match &items[i] {
                Item::Copy(view) => Ok(view.bytes.to_vec()),
                Item::Ready(owned) => Ok(owned.view().bytes.to_vec()),
                Item::Make(Made { name, from, dtype, shape }) => {
                    progress(name)?;
                    let bytes = self.floats(name, from, *dtype).map_err(in_model)?;
                    memory = memory.max(2 * bytes.len() + 8 * shape.iter().product::<usize>());
                    Ok(bytes)
                }
            })?;
            model.check()
        })?;
        let ratio = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
        let path = job.output.join("model.safetensors");
        let bytes = std::fs::metadata(&path).map_err(|e| Error::io(&path, "read", e))?.len();
        let Sums { lost, exact, change } = self.sums;
        Ok(Exported {
            merged: self.targets.len(),
            tensors: infos.len(),
            bytes,
            memory,
            untied,
            error: ratio(lost, exact),
            error_of_change: ratio(lost, change),
        })
    }
}
