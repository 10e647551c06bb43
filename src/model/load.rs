//! Tensors by name, each looked at once: what a model does not use is an error too.

use super::config::{DecoderConfig, NormKind};
use crate::kernels::Cpu;
use crate::nn::{LayerNorm, Linear, Norm, RmsNorm, Vector, Weight};
use crate::tensor::{Dtype, Tensor};
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

/// Where a model's tensors come from.
///
/// A model whose tensors come from anywhere, and what can be done with it:
/// ```
/// use samebits::model::{Architecture, Decoder, DecoderConfig, NormKind, Sequence, Source, Workspace};
/// use samebits::{Cpu, Result, run::Run, tensor::Tensor};
/// /// Every tensor of a Llama of one layer, all of the same number.
/// struct Alike(f32);
/// const SHAPES: [(&str, &[usize]); 12] = [
///     ("model.embed_tokens.weight", &[3, 2]),
///     ("lm_head.weight", &[3, 2]),
///     ("model.norm.weight", &[2]),
///     ("model.layers.0.input_layernorm.weight", &[2]),
///     ("model.layers.0.post_attention_layernorm.weight", &[2]),
///     ("model.layers.0.self_attn.q_proj.weight", &[2, 2]),
///     ("model.layers.0.self_attn.k_proj.weight", &[2, 2]),
///     ("model.layers.0.self_attn.v_proj.weight", &[2, 2]),
///     ("model.layers.0.self_attn.o_proj.weight", &[2, 2]),
///     ("model.layers.0.mlp.gate_proj.weight", &[4, 2]),
///     ("model.layers.0.mlp.up_proj.weight", &[4, 2]),
///     ("model.layers.0.mlp.down_proj.weight", &[2, 4]),
/// ];
/// impl Source for Alike {
///     fn file(&self) -> String {
///         "memory".into()
///     }
///     fn names(&self) -> Vec<String> {
///         SHAPES.map(|(name, _)| name.to_string()).into()
///     }
///     fn tensor(&self, name: &str) -> Result<Tensor> {
///         let shape = SHAPES.iter().find(|(known, _)| *known == name).unwrap().1;
///         Ok(Tensor::full(self.0, shape))
///     }
/// }
/// let config = DecoderConfig::from_hf(
///     br#"{"model_type": "llama", "vocab_size": 3, "hidden_size": 2, "intermediate_size": 4, "num_hidden_layers": 1,
///          "num_attention_heads": 1, "max_position_embeddings": 8, "rms_norm_eps": 1e-5}"#,
/// )?;
/// assert!(config.architecture == Architecture::Llama && matches!(config.norm, NormKind::Rms));
/// let run = Run::here(Cpu::detect());
/// let model = Decoder::load(run.cpu(), config, &Alike(0.5))?;
/// let (mut cache, mut logits) = (model.cache(8), [0.0; 3]);
/// let mut batch = [Sequence { tokens: &[0, 1], cache: &mut cache }];
/// model.forward(&run, &mut batch, &mut logits, &mut Workspace::new())?;
/// assert!(logits[0] > 0.0 && logits == [logits[0]; 3]); // nothing tells one token from another
/// # Ok::<(), samebits::Error>(())
/// ```
pub trait Source {
    /// The file or folder, for errors.
    fn file(&self) -> String;
    /// Every name.
    fn names(&self) -> Vec<String>;
    /// The tensor of that name, as f32, f16 or bf16.
    ///
    /// # Errors
    /// Where there is none, or its type is another.
    fn tensor(&self, name: &str) -> Result<Tensor>;
    /// The matrix (out, in) of that name, where it is stored in a form that is no tensor of floats, and the
    /// names that it takes.
    ///
    /// # Errors
    /// Where what stands for it is malformed.
    fn stored(&self, _cpu: Cpu, _name: &str) -> Result<Option<(Weight, Vec<String>)>> {
        Ok(None)
    }
}

/// Whether GPT-2's code stores a weight of that name (in, out): as floats, that is. In NF4 and in GGUF all are (out, in).
pub(crate) fn is_column(name: &str) -> bool {
    ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end))
}

/// Takes a model's tensors from a source and remembers which.
pub struct Loader<'s> {
    cpu: Cpu,
    source: &'s dyn Source,
    left: BTreeSet<String>,
}

impl<'s> Loader<'s> {
    /// Nothing is taken yet.
    pub fn new(cpu: Cpu, source: &'s dyn Source) -> Loader<'s> {
        Loader { cpu, source, left: source.names().into_iter().collect() }
    }

    /// Whether the source has, or had, a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// It does not matter whether this tensor is there.
    pub fn allow(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// # Errors
    /// Where a tensor was left over.
    pub fn finish(self) -> Result<()> {
        let known = |name: &str| name.ends_with("rotary_emb.inv_freq") || name.ends_with("position_ids");
        match self.left.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let what = format!("tensor {name:?} is no part of this architecture");
                Err(Error::invalid(what).in_file(self.source.file()))
            }
        }
    }

    /// The tensor of that name and shape.
    ///
    /// # Errors
    /// Where it is not there, or has another shape or type.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.source.tensor(name)?;
        if tensor.shape() != shape {
            return Err(self.other_shape(name, tensor.shape(), shape));
        }
        if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(Error::Dtype {
                file: self.source.file(),
                name: name.into(),
                dtype: tensor.dtype().to_string(),
                expected: "F32, F16 or BF16".into(),
            });
        }
        self.left.remove(name);
        Ok(tensor)
    }

    fn other_shape(&self, name: &str, shape: &[usize], expected: &[usize]) -> Error {
        Error::Shape {
            file: self.source.file(),
            name: name.into(),
            shape: shape.to_vec(),
            expected: format!("{expected:?}, which the configuration says"),
        }
    }

    /// A vector of `n` floats.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>> {
        Ok(self.tensor(name, &[n])?.to_f32_vec(self.cpu))
    }

    /// A matrix (out, in), packed, in whatever form it is stored.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn weight(&mut self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        match self.kept(name, shape)? {
            Some(weight) => Ok(weight),
            None => Ok(Weight::from_tensor(self.cpu, &self.tensor(name, &shape)?)),
        }
    }

    /// A matrix (out, in), where it is stored in a form that is no tensor of floats.
    fn kept(&mut self, name: &str, shape: [usize; 2]) -> Result<Option<Weight>> {
        let Some((weight, names)) = self.source.stored(self.cpu, name)? else { return Ok(None) };
        let found = [weight.out_features(), weight.in_features()];
        if found != shape {
            return Err(self.other_shape(name, &found, &shape));
        }
        names.iter().for_each(|name| self.allow(name));
        Ok(Some(weight))
    }

    /// `NAME.weight` (out, in) and, where there is one, `NAME.bias` (out).
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn linear(&mut self, name: &str, shape: [usize; 2], bias: bool) -> Result<Linear> {
        let weight = self.weight(&format!("{name}.weight"), shape)?;
        let bias =
            bias.then(|| self.vector(&format!("{name}.bias"), shape[0]).map(Vector::from)).transpose()?;
        Ok(Linear::new(weight, bias))
    }

    /// `NAME.weight` (out, in), whose rows are those of several layers, and `NAME.bias` where there is one.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn rows(&mut self, name: &str, [n, k]: [usize; 2]) -> Result<Joined> {
        let weight = self.tensor(&format!("{name}.weight"), &[n, k])?;
        self.joined(name, weight, n)
    }

    /// The same, stored (in, out).
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn columns(&mut self, name: &str, [k, n]: [usize; 2]) -> Result<Joined> {
        let weight = self.tensor(&format!("{name}.weight"), &[k, n])?.t();
        self.joined(name, weight, n)
    }

    /// The only layer of a weight whose floats are stored (in, out).
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn column(&mut self, name: &str, [k, n]: [usize; 2]) -> Result<Linear> {
        let Some(weight) = self.kept(&format!("{name}.weight"), [n, k])? else {
            return self.columns(name, [k, n])?.linear(self, 0..n);
        };
        let bias = format!("{name}.bias");
        let bias = if self.contains(&bias) { Some(self.vector(&bias, n)?.into()) } else { None };
        Ok(Linear::new(weight, bias))
    }

    fn joined(&mut self, name: &str, weight: Tensor, n: usize) -> Result<Joined> {
        // What was decoded had its scales beside it.
        let beside = format!("{name}.weight.");
        self.left.retain(|left| !left.starts_with(&beside));
        let bias = format!("{name}.bias");
        let bias = if self.contains(&bias) { Some(self.vector(&bias, n)?) } else { None };
        Ok(Joined { weight, bias })
    }

    /// A norm over the features of `config`.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn norm(&mut self, name: &str, config: &DecoderConfig) -> Result<Norm> {
        self.norm_of(name, config, config.dim)
    }

    /// A norm over `n` features.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn norm_of(&mut self, name: &str, config: &DecoderConfig, n: usize) -> Result<Norm> {
        let eps = config.norm_eps;
        match config.norm {
            NormKind::Layer => self.layer_norm(name, n, eps),
            kind => {
                let weight = self.vector(&format!("{name}.weight"), n)?;
                Ok(Norm::Rms(RmsNorm { weight: weight.into(), one_plus: kind == NormKind::RmsOnePlus, eps }))
            }
        }
    }

    /// A LayerNorm over `n` features.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn layer_norm(&mut self, name: &str, n: usize, eps: f32) -> Result<Norm> {
        let weight = self.vector(&format!("{name}.weight"), n)?;
        let bias = Some(self.vector(&format!("{name}.bias"), n)?.into());
        Ok(Norm::Layer(LayerNorm { weight: weight.into(), bias, eps }))
    }
}

/// Layers that share one tensor.
pub struct Joined {
    /// (out of all, in)
    weight: Tensor,
    bias: Option<Vec<f32>>,
}

impl Joined {
    /// The layer of the outputs `rows`.
    ///
    /// # Errors
    /// None yet: the shape was looked at before.
    pub fn linear(&self, loader: &Loader<'_>, rows: Range<usize>) -> Result<Linear> {
        let weight = Weight::from_tensor(loader.cpu, &self.weight.slice(0, rows.clone()));
        Ok(Linear::new(weight, self.bias.as_ref().map(|b| b[rows].to_vec().into())))
    }
}
