//! Models that were made here: random ones to begin with, and what they became as a folder of Hugging Face.

use super::parts::{Part, Role, expected};
use super::{ElementType, to_folder};
use crate::io::atomic;
use crate::io::json::Writer;
use crate::io::safetensors::{Dtype, TensorView, write};
use crate::kernels::rope::Pairing;
use crate::model::config::{DecoderConfig, NormKind};
use crate::model::{Decoder, Source};
use crate::random::{Philox, normal, stream_of};
use crate::tensor::Tensor;
use crate::{Cpu, Error, Result};
use std::path::Path;

/// Tensors as transformers draws them for a new model: matrices normal, gains 1, biases 0.
struct Drawn<'a> {
    config: &'a DecoderConfig,
    parts: Vec<Part>,
    deviation: f64,
    random: Philox,
}

impl Source for Drawn<'_> {
    fn file(&self) -> String {
        "a new model".into()
    }

    fn names(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.name.clone()).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let part = self.parts.iter().find(|part| part.name == name);
        let part = part.ok_or_else(|| Error::invalid(format!("no tensor {name:?}")))?;
        let stream = stream_of(name);
        let value = |i: usize| match part.role {
            Role::Gain if self.config.norm == NormKind::RmsOnePlus => 0.0,
            Role::Gain => 1.0,
            _ if name.ends_with(".bias") => 0.0,
            _ => (self.deviation * normal(self.random, i as u64, stream)) as f32,
        };
        let values: Vec<f32> = (0..part.shape.iter().product()).map(value).collect();
        Ok(Tensor::from_f32(&values, &part.shape))
    }
}

impl Decoder {
    /// A new model: matrices normal with this deviation, gains 1, biases 0, as transformers begins. `random` and the
    /// tensors' names decide every number, on all machines alike.
    ///
    /// # Errors
    /// Where the configuration contradicts itself.
    pub fn random(cpu: Cpu, config: &DecoderConfig, deviation: f64, random: Philox) -> Result<Decoder> {
        let parts = expected(config);
        Decoder::load(cpu, config.clone(), &Drawn { config, parts, deviation, random })
    }
}

/// Writes a model as a folder that transformers loads: `config.json`, `generation_config.json` and `model.safetensors`
/// in f32, whole or not at all; `more` adds what else belongs there, its tokenizer above all.
///
/// ```
/// use samebits::model::{Decoder, DecoderConfig, save_folder};
/// use samebits::{Cpu, io::atomic, random::Philox};
/// let (cpu, path) = (Cpu::detect(), std::env::temp_dir().join(format!("samebits-folder-{}", std::process::id())));
/// let config = DecoderConfig::from_hf(&std::fs::read("tests/data/models/llama/config.json").unwrap())?;
/// let model = Decoder::random(cpu, &config, 0.02, Philox::new(1))?; // to be trained from nothing
/// save_folder(&model, cpu, &path, |folder| atomic::write(&folder.join("README.md"), |out| out.write_all(b"Mine.")))?;
/// let again = Decoder::open_with(&path, cpu, Default::default())?;
/// let name = "model.embed_tokens.weight";
/// assert_eq!(again.named_tensor(cpu, name)?.to_f32_vec(cpu), model.named_tensor(cpu, name)?.to_f32_vec(cpu));
/// std::fs::remove_dir_all(path).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where the architecture's projections are fused in files, something stands at `path`, or cannot be written.
pub fn save_folder(
    model: &Decoder,
    cpu: Cpu,
    path: &Path,
    more: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let config = model.config();
    let mut tensors = Vec::new();
    for part in expected(config) {
        let tensor = part.paired(model.named_tensor(cpu, &part.name)?, config, Pairing::Half);
        let bytes = part.encode(cpu, &tensor, ElementType::F32)?;
        tensors.push((part, bytes));
    }
    let views: Vec<TensorView<'_>> = tensors
        .iter()
        .map(|(part, bytes)| TensorView { name: &part.name, dtype: Dtype::F32, shape: &part.shape, bytes })
        .collect();
    atomic::folder(path, |folder| {
        let config_text = to_folder::config_json(config, ElementType::F32);
        atomic::write(&folder.join("config.json"), |out| out.write_all(config_text.as_bytes()))?;
        let generation = generation_json(config);
        atomic::write(&folder.join("generation_config.json"), |out| out.write_all(generation.as_bytes()))?;
        more(folder)?;
        write(&folder.join("model.safetensors"), &views, &[("format", "pt")])
    })
}

/// What `generate` of transformers begins with.
fn generation_json(config: &DecoderConfig) -> String {
    let mut w = Writer::indented();
    w.object(|w| {
        if let Some(id) = config.bos {
            w.key("bos_token_id").number(u64::from(id));
        }
        match &config.eos[..] {
            [] => {}
            [one] => w.key("eos_token_id").number(u64::from(*one)),
            all => w.key("eos_token_id").array(|w| all.iter().for_each(|&id| w.number(u64::from(id)))),
        }
        w.key("do_sample").boolean(false);
    });
    w.finish() + "\n"
}
