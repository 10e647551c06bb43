//! A decoder cut as Hugging Face's files cut it: the modules that adapters of files name.
//!
//! ```text
//!   model.layers.0.self_attn.q_proj      blocks.0.attention.q            in most families one for one
//!   model.layers.0.self_attn.qkv_proj    blocks.0.attention.q, k, v      Phi-3; transformer.h.0.attn.c_attn in GPT-2
//!   model.layers.0.mlp.gate_up_proj      blocks.0.network.gate, up       Phi-3
//!   model.embed_tokens, lm_head          embedding, head
//! ```

use super::Decoder;
use crate::model::Architecture;
use crate::nn::adapter::Adapter;
use crate::nn::{Embedding, Linear, Part};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// A module of a file.
///
/// ```
/// use samebits::model::{ModuleMut, Site};
/// use samebits::{Cpu, assets};
/// let mut model = assets::model(Cpu::detect())?;
/// let modules: Vec<ModuleMut> = model.modules_mut();
/// assert!(matches!(modules[0].site, Site::Table(_)) && modules[0].name == "model.embed_tokens");
/// let Site::Linear(layers) = &modules[1].site else { panic!("a projection") };
/// assert_eq!((modules[1].name.as_str(), layers[0].0.as_str()), ("model.layers.0.self_attn.q_proj", "blocks.0.attention.q"));
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Debug)]
pub struct ModuleMut<'a> {
    /// Its name in Hugging Face's code.
    pub name: String,
    /// What it is here.
    pub site: Site<'a>,
}

/// What a module of a file is here.
#[derive(Debug)]
pub enum Site<'a> {
    /// The layers, with their own names, whose outputs lie one after the other in the module's: mostly one.
    Linear(Vec<(String, &'a mut Linear)>),
    /// A table.
    Table(&'a mut Embedding),
}

impl Decoder {
    /// The modules that may have an adapter: the embedding of tokens, the blocks' projections in their order, the head.
    pub fn modules_mut(&mut self) -> Vec<ModuleMut<'_>> {
        let architecture = self.config.architecture;
        let table = if architecture == Architecture::Gpt2 { "transformer.wte" } else { "model.embed_tokens" };
        let mut all = vec![ModuleMut { name: table.into(), site: Site::Table(&mut self.embedding) }];
        for (i, block) in self.blocks.iter_mut().enumerate() {
            for (part, layer) in block.parts_mut() {
                let (Part::Linear(layer), Some(end)) = (layer, projection(architecture, part)) else {
                    continue;
                };
                let name = match architecture {
                    Architecture::Gpt2 => format!("transformer.h.{i}.{end}"),
                    _ => format!("model.layers.{i}.{end}"),
                };
                let own = (format!("blocks.{i}.{part}"), layer);
                match all.last_mut() {
                    Some(ModuleMut { name: last, site: Site::Linear(layers) }) if *last == name => {
                        layers.push(own);
                    }
                    _ => all.push(ModuleMut { name, site: Site::Linear(vec![own]) }),
                }
            }
        }
        let head = vec![("head".into(), &mut self.head)];
        all.push(ModuleMut { name: "lm_head".into(), site: Site::Linear(head) });
        all
    }

    /// Parameters that are used in two places: (the use, the parameter that [`Decoder::with_parameters`] has). The
    /// gradient of each use is summed by itself, however a batch is cut, and [folded](crate::nn::Gradients::fold) in
    /// when all batches are through, in this order.
    pub fn shared(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        if self.config.tied {
            all.push(("head.weight".to_string(), "embedding.weight".to_string()));
        }
        for ModuleMut { site, .. } in self.modules_mut() {
            let Site::Linear(layers) = site else { continue };
            let Some(((first, _), others)) = layers.split_first() else { continue };
            for (name, layer) in others {
                let shared = layer.adapter.iter().flat_map(|adapter| adapter.shared());
                all.extend(shared.map(|own| (format!("{name}.{own}"), format!("{first}.{own}"))));
            }
        }
        all
    }

    /// Gives every adapter that follows another what that one has now.
    pub(super) fn follow(&mut self) {
        for ModuleMut { site, .. } in self.modules_mut() {
            let Site::Linear(mut layers) = site else { continue };
            let Some(((_, first), others)) = layers.split_first_mut() else { continue };
            let Some(first) = first.adapter.as_deref_mut() else { continue };
            others.iter_mut().filter_map(|(_, layer)| layer.adapter.as_mut()).for_each(|of| of.follow(first));
        }
    }

    /// Adapters that hold something computed from the base compute it anew.
    pub fn refresh_adapters(&mut self, run: &crate::run::Run<'_>) {
        for ModuleMut { site, .. } in self.modules_mut() {
            let Site::Linear(layers) = site else { continue };
            for (_, layer) in layers {
                if let Some(mut adapter) = layer.adapter.take() {
                    Adapter::refresh(&mut *adapter, run, layer);
                    layer.adapter = Some(adapter);
                }
            }
        }
    }
}

/// What the module is called of which a part of a block is one.
fn projection(architecture: Architecture, part: &str) -> Option<&'static str> {
    Some(match (architecture, part) {
        (Architecture::Gpt2, "attention.q" | "attention.k" | "attention.v") => "attn.c_attn",
        (Architecture::Gpt2, "attention.o") => "attn.c_proj",
        (Architecture::Gpt2, "network.up") => "mlp.c_fc",
        (Architecture::Gpt2, "network.down") => "mlp.c_proj",
        (Architecture::Phi3, "attention.q" | "attention.k" | "attention.v") => "self_attn.qkv_proj",
        (Architecture::Phi3, "network.gate" | "network.up") => "mlp.gate_up_proj",
        (_, "attention.q") => "self_attn.q_proj",
        (_, "attention.k") => "self_attn.k_proj",
        (_, "attention.v") => "self_attn.v_proj",
        (_, "attention.o") => "self_attn.o_proj",
        (_, "network.gate") => "mlp.gate_proj",
        (_, "network.up") => "mlp.up_proj",
        (_, "network.down") => "mlp.down_proj",
        _ => return None,
    })
}
