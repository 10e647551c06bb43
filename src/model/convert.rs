//! A model from one kind of file to another: a folder of Hugging Face, GGUF, llama2.c.
//!
//! ```text
//!   folder   .gguf   .bin                          what each of them wants otherwise than Hugging Face
//!      └───────┼───────┘                           GGUF: q and k of Llama with pairs side by side, Gemma's 1 added to
//!     configuration + tensors by the names              its gains, GPT-2's matrices (out, in), vectors in f32
//!     and in the layout of Hugging Face            llama2.c: pairs side by side, all in f32, in a fixed order
//!      ┌───────┼───────┐
//!   folder   .gguf   .bin      one tensor in memory at a time
//! ```
//!
//! What is written is read again as a configuration and compared with the one that was read first: where a number would
//! be lost, the conversion is refused and names it.
//!
//! **Bits** (f32). The logits of both files are the same, bit for bit, with two exceptions. Where rows of q and k move
//! (Llama and Mistral: folder ↔ GGUF, llama2.c), q · k is summed in another order of its dimensions, so that a score
//! differs by up to head_dim · 2⁻²³ · Σ|qᵢ·kᵢ|; on the way back the rows are where they were, and the bits too. Gemma's
//! 1 + w is rounded once: the sum, which models multiply with, is the same ever after, w itself comes back to within
//! 2⁻²⁴ · max(1, |1 + w|).
//!
//! Reference: `convert_hf_to_gguf.py` of github.com/ggml-org/llama.cpp, `export.py` of github.com/karpathy/llama2.c.

mod made;
mod parts;
mod to_folder;
mod to_gguf;
mod to_llama2c;
mod vocabulary;

use super::config::{Architecture, DecoderConfig, NormKind};
use super::gguf::GgufTensors;
use super::llama2c::Llama2cTensors;
use super::load::Source;
use crate::io::bytes::Access;
use crate::io::gguf::Gguf;
use crate::io::llama2c::Llama2c;
use crate::io::safetensors::Checkpoint;
use crate::kernels::rope::Pairing;
use crate::tensor::Tensor;
use crate::{Cpu, Error, Result};
use parts::Part;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

pub use made::save_folder;
pub use parts::ElementType;
pub(crate) use to_folder::family;
pub use vocabulary::Vocabulary;
pub(crate) use vocabulary::copy_small;

/// What a model is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A folder of Hugging Face: `config.json` and safetensors.
    Folder,
    /// One GGUF file.
    Gguf,
    /// A checkpoint of llama2.c.
    Llama2c,
}

impl FileKind {
    /// What a name stands for: `.gguf`, `.bin`, else a folder.
    ///
    /// # Errors
    /// Where it ends as another kind of file does.
    pub fn of_name(path: &Path) -> Result<FileKind> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        match &*ending {
            "gguf" => Ok(FileKind::Gguf),
            "bin" => Ok(FileKind::Llama2c),
            "safetensors" | "json" | "pt" | "pth" | "npz" => {
                let what = format!("models are written as a folder, .gguf or .bin, not .{ending}");
                Err(Error::invalid(what).in_file(path.display()))
            }
            _ => Ok(FileKind::Folder),
        }
    }

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            FileKind::Folder => "a Hugging Face folder",
            FileKind::Gguf => "GGUF",
            FileKind::Llama2c => "llama2.c",
        }
    }
}

/// What is asked of [`convert`].
#[derive(Clone, Debug)]
pub struct Conversion {
    /// A folder, a GGUF file, or a checkpoint of llama2.c.
    pub input: PathBuf,
    /// Where to; its name says which kind: [`FileKind::of_name`].
    pub output: PathBuf,
    /// The element type of matrices; `None`: as they are, blocks as f32.
    pub element: Option<ElementType>,
    /// The version of a llama2.c checkpoint, 0 or 1.
    pub version: u32,
    /// Where the tokenizer of a GGUF file comes from.
    pub vocabulary: Vocabulary,
}

/// What [`convert`] did.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Tensors that were written.
    pub tensors: usize,
    /// The kind of what was written.
    pub kind: FileKind,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Converts a model. `progress` is told the name of each tensor, and may end the work. What is converted is mapped, for it
/// may be larger than memory: see [`Access::Map`].
///
/// ```
/// use samebits::model::{Conversion, Converted, Decoder, ElementType, FileKind, GgufTensors, Vocabulary, convert};
/// use samebits::{Cpu, io::{bytes::Access, gguf::Gguf}, model::DecoderConfig};
/// let output = std::env::temp_dir().join(format!("samebits-convert-{}.gguf", std::process::id()));
/// assert!(matches!(FileKind::of_name(&output)?, FileKind::Gguf));
/// let job = Conversion {
///     input: "tests/data/models/llama".into(),
///     output: output.clone(),
///     element: Some(ElementType::F16),
///     version: 0,
///     vocabulary: Vocabulary::Nowhere,
/// };
/// let done: Converted = convert(&job, Cpu::detect(), &mut |_tensor| Ok(()))?;
/// let file = Gguf::open(&output, Access::Read)?;
/// assert_eq!(done.tensors, file.len());
/// let config = DecoderConfig::from_gguf(&file)?;
/// let tensors = GgufTensors::new(&file, &config); // under the names that Hugging Face has for them
/// let model = Decoder::load(Cpu::detect(), config, &tensors)?;
/// assert_eq!(model.config().vocab, Decoder::open_with(&job.input, Cpu::detect(), Default::default())?.config().vocab);
/// std::fs::remove_file(output).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where the input is malformed, or the kind of the output cannot hold what it is: then nothing is written.
pub fn convert(
    job: &Conversion,
    cpu: Cpu,
    progress: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Converted> {
    let kind = FileKind::of_name(&job.output)?;
    let input = Input::open(&job.input)?;
    let in_input = |e: Error| e.in_file(job.input.display());
    let config = input.config()?;
    let source = input.source(&config);
    let work = Work { cpu, config: &config, source: &*source, input: &input, job };
    let work = Parts { parts: parts::expected(&config), work, progress: RefCell::new(progress) };
    work.check_names().map_err(in_input)?;
    match kind {
        FileKind::Gguf => to_gguf::write(&work),
        FileKind::Folder => to_folder::write(&work),
        FileKind::Llama2c => to_llama2c::write(&work),
    }
    .map_err(in_input)
}

/// What is converted.
enum Input {
    Folder { folder: PathBuf, weights: Checkpoint },
    Gguf(Gguf),
    Llama2c(Llama2c),
}

impl Input {
    fn open(path: &Path) -> Result<Input> {
        if path.is_dir() {
            let config = super::files::read(&path.join("config.json"))?;
            let family = Architecture::of_config(&config)
                .map_err(|e| e.in_file(path.join("config.json").display()))?;
            if family.is_encoder() {
                let what = format!("{family:?} is an encoder: decoders are converted");
                return Err(Error::invalid(what).in_file(path.display()));
            }
            let weights = Checkpoint::open_with(path, Access::Map)?;
            return Ok(Input::Folder { folder: path.into(), weights });
        }
        if super::files::is_llama2c(path) {
            return Llama2c::open(path, Access::Map).map(Input::Llama2c);
        }
        Gguf::open(path, Access::Map).map(Input::Gguf)
    }

    fn config(&self) -> Result<DecoderConfig> {
        match self {
            Input::Folder { folder, .. } => {
                let path = folder.join("config.json");
                DecoderConfig::from_hf(&super::files::read(&path)?).map_err(|e| e.in_file(path.display()))
            }
            Input::Gguf(file) => DecoderConfig::from_gguf(file),
            Input::Llama2c(file) => DecoderConfig::from_llama2c(file),
        }
    }

    fn source<'a>(&'a self, config: &DecoderConfig) -> Box<dyn Source + 'a> {
        match self {
            Input::Folder { weights, .. } => Box::new(FolderTensors(weights)),
            Input::Gguf(file) => Box::new(GgufTensors::new(file, config)),
            Input::Llama2c(file) => Box::new(Llama2cTensors(file)),
        }
    }

    /// An error where a mapped file changed meanwhile.
    fn check(&self) -> Result<()> {
        match self {
            Input::Folder { weights, .. } => weights.check(),
            Input::Gguf(file) => file.data().check(),
            Input::Llama2c(file) => file.data().check(),
        }
    }
}

/// A folder's tensors, those in NF4 decoded, GPT-2's without the prefix that newer folders have.
struct FolderTensors<'a>(&'a Checkpoint);

const PREFIX: &str = "transformer.";

impl FolderTensors<'_> {
    fn own(&self, name: &str) -> String {
        let prefixed = format!("{PREFIX}{name}");
        if self.0.tensor(&prefixed).is_ok() { prefixed } else { name.into() }
    }
}

impl Source for FolderTensors<'_> {
    fn file(&self) -> String {
        self.0.path().display().to_string()
    }

    fn names(&self) -> Vec<String> {
        let beside = |name: &str| {
            [".weight.absmax", ".weight.quant_", ".weight.nested_"].iter().any(|p| name.contains(p))
        };
        let names = self.0.tensors().map(|t| t.name).filter(|name| !beside(name));
        names.map(|name| name.strip_prefix(PREFIX).unwrap_or(name).into()).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        Source::tensor(self.0, &self.own(name))
    }
}

/// A conversion under way.
#[derive(Clone, Copy)]
struct Work<'a> {
    cpu: Cpu,
    config: &'a DecoderConfig,
    source: &'a dyn Source,
    input: &'a Input,
    job: &'a Conversion,
}

/// Who is told the name of each tensor.
type Tell<'p> = &'p mut dyn FnMut(&str) -> Result<()>;

/// The tensors that a model is made of, and the work.
struct Parts<'a, 'p> {
    parts: Vec<Part>,
    work: Work<'a>,
    progress: RefCell<Tell<'p>>,
}

impl Parts<'_, '_> {
    /// The tensors there are must be those of the architecture.
    fn check_names(&self) -> Result<()> {
        let config = self.work.config;
        let forgotten = |name: &str| {
            // Tables and masks that old folders carry, and heads that are the embedding.
            name.ends_with("rotary_emb.inv_freq")
                || name.ends_with(".attn.bias")
                || name.ends_with(".attn.masked_bias")
                || config.tied && name == "lm_head.weight"
        };
        let names = self.work.source.names();
        let unknown =
            names.iter().find(|name| !forgotten(name) && self.parts.iter().all(|part| part.name != **name));
        match unknown {
            Some(name) => Err(Error::invalid(format!("tensor {name:?} is no part of this architecture"))),
            None => Ok(()),
        }
    }

    /// The `i`-th part in Hugging Face's layout, but for the pairing of q and k and what gains are.
    fn tensor(&self, i: usize, pairing: Pairing, norm: NormKind) -> Result<Tensor> {
        let (part, work) = (&self.parts[i], self.work);
        (self.progress.borrow_mut())(&part.name)?;
        let tensor = part.fetch(work.source)?;
        let tensor = part.paired(tensor, work.config, pairing);
        Ok(part.gains(work.cpu, tensor, work.config.norm, norm))
    }
}

/// The first number of a configuration that another does not have; biases, heads and special tokens aside.
fn lost(a: &DecoderConfig, b: &DecoderConfig) -> Option<&'static str> {
    let rope = |c: &DecoderConfig| c.rope.as_ref().map(|r| (r.rotary_dim, r.head_dim, r.theta.to_bits()));
    let scaling = |c: &DecoderConfig| c.rope.as_ref().map(|r| r.scaling.clone());
    let sizes =
        |c: &DecoderConfig| [c.vocab, c.dim, c.hidden, c.heads, c.kv_heads, c.head_dim, c.windows.len()];
    let checks = [
        (sizes(a) == sizes(b), "sizes"),
        (a.context == b.context, "context length"),
        (a.windows == b.windows, "attention windows"),
        ((a.norm == NormKind::Layer) == (b.norm == NormKind::Layer), "norms"),
        (a.norm_eps == b.norm_eps, "epsilon of the norms"),
        (a.activation == b.activation, "activation"),
        (rope(a) == rope(b), "rotary dimensions and base"),
        (scaling(a) == scaling(b), "rotary scaling"),
        (a.scale == b.scale, "scale of the attention scores (query_pre_attn_scalar)"),
        (a.score_cap == b.score_cap, "soft cap of the attention scores"),
        (a.logit_cap == b.logit_cap, "soft cap of the logits"),
        (a.embedding_scale == b.embedding_scale, "scale of the embeddings"),
    ];
    checks.iter().find(|(same, _)| !same).map(|&(_, what)| what)
}

/// Likewise for what biases there are, and whether the head is the embedding.
fn lost_tensors(a: &DecoderConfig, b: &DecoderConfig) -> Option<&'static str> {
    let biases = |c: &DecoderConfig| [c.qkv_bias, c.out_bias, c.network_bias];
    match (biases(a) == biases(b), a.tied == b.tied) {
        (false, _) => Some("biases"),
        (_, false) => Some("output head"),
        _ => None,
    }
}

fn refuse(kind: FileKind, config: &DecoderConfig, what: &str) -> Error {
    Error::invalid(format!("{} cannot hold the {what} of this {:?} model", kind.name(), config.architecture))
}
