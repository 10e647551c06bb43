//! A table as a folder that model2vec and sentence-transformers open.

use super::Distilled;
use crate::io::atomic;
use crate::io::bitsandbytes::{Absmax, Nf4};
use crate::io::json::Writer;
use crate::io::safetensors::{Dtype, TensorView, write};
use crate::kernels::{half, nf4};
use crate::{Cpu, Error, Result};
use std::path::Path;

/// How a table's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    F16,
    /// Half a byte and a scale a block, itself a byte, as bitsandbytes stores them. model2vec does not know it.
    Nf4,
}

impl Elements {
    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Elements> {
        match name {
            "f32" => Some(Elements::F32),
            "f16" => Some(Elements::F16),
            "nf4" => Some(Elements::Nf4),
            _ => None,
        }
    }
}

/// How a folder is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The elements.
    pub elements: Elements,
    /// `vocab.txt` in place of `tokenizer.json`.
    pub compact: bool,
}

impl Distilled {
    /// Writes the folder, whole or not at all.
    ///
    /// # Errors
    /// Where something stands at `path`, or cannot be written; a compact one of what is not BERT's tokenizer.
    pub fn save(&self, cpu: Cpu, path: &Path, name: &str, layout: Layout) -> Result<()> {
        let (file, text) = match layout.compact {
            true => ("vocab.txt", self.vocabulary.vocab_txt()?),
            false => ("tokenizer.json", self.vocabulary.json.clone()),
        };
        let put = |path: &Path, text: &str| atomic::write(path, |out| out.write_all(text.as_bytes()));
        atomic::folder(path, |folder| {
            put(&folder.join(file), &text)?;
            put(&folder.join("config.json"), &self.config(name))?;
            put(&folder.join("modules.json"), MODULES)?;
            self.save_table(cpu, &folder.join("model.safetensors"), layout.elements)
        })
    }

    fn save_table(&self, cpu: Cpu, path: &Path, elements: Elements) -> Result<()> {
        let shape = [self.vocabulary.ids.len(), self.dim];
        let tensor = |dtype, bytes: Vec<u8>| {
            write(path, &[TensorView { name: "embeddings", dtype, shape: &shape, bytes: &bytes }], &[])
        };
        match elements {
            Elements::F32 => tensor(Dtype::F32, self.table.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::F16 => {
                let mut narrow = vec![0; self.table.len()];
                half::narrow_f16(cpu, &self.table, &mut narrow);
                tensor(Dtype::F16, narrow.iter().flat_map(|x| x.to_le_bytes()).collect())
            }
            Elements::Nf4 => {
                let tensors = self.in_nf4(cpu)?.tensors("embeddings");
                write(path, &tensors.iter().map(|tensor| tensor.view()).collect::<Vec<_>>(), &[])
            }
        }
    }

    fn in_nf4(&self, cpu: Cpu) -> Result<Nf4> {
        let blocksize = blocksize(self.dim);
        let (n, blocks) = (self.table.len(), nf4::block_count(self.table.len(), blocksize));
        let (mut codes, mut absmax) = (vec![0; nf4::code_bytes(n)], vec![0.0; blocks]);
        let infinite = |_| Error::invalid("the table has an element that is not finite");
        nf4::quantize(cpu, &self.table, blocksize, &mut codes, &mut absmax).map_err(infinite)?;
        let mut nested = vec![0; blocks];
        let mut absmax2 = vec![0.0; nf4::block_count(blocks, nf4::NESTED_BLOCKSIZE)];
        let offset = nf4::quantize_absmax(cpu, &absmax, &mut nested, &mut absmax2).map_err(infinite)?;
        let shape = vec![self.vocabulary.ids.len(), self.dim];
        let absmax = Absmax::Nested { codes: nested, absmax2, offset };
        Ok(Nf4 { shape, dtype: Dtype::F32, blocksize, codes, absmax })
    }

    /// The keys that model2vec writes.
    fn config(&self, name: &str) -> String {
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("model_type").string("model2vec");
            w.key("architectures").array(|w| w.string("StaticModel"));
            w.key("tokenizer_name").string(name);
            w.key("apply_pca").number(self.dim);
            match self.plan.sif {
                Some(a) => w.key("sif_coefficient").number(a),
                None => w.key("sif_coefficient").null(),
            }
            w.key("hidden_dim").number(self.dim);
            w.key("seq_length").number(1_000_000u64);
            w.key("max_length").null();
            w.key("normalize").boolean(true);
            w.key("pooling").string("mean");
        });
        w.finish() + "\n"
    }
}

/// Blocks that no two rows share, as large as bitsandbytes' own where that goes.
fn blocksize(dim: usize) -> usize {
    [64, 32, 16].into_iter().find(|&size| dim.is_multiple_of(size)).unwrap_or(dim)
}

const MODULES: &str = r#"[
  {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"},
  {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
]
"#;
