//! The tensors of an architecture, and each of them in the type and layout of a target.

use crate::io::gguf::GgmlType;
use crate::io::safetensors;
use crate::kernels::ggml::{quantize_q4_0, quantize_q8_0};
use crate::kernels::rope::Pairing;
use crate::model::config::{Architecture, DecoderConfig, NormKind};
use crate::model::load::Source;
use crate::nn::rotary::{half_to_interleaved, interleaved_to_half};
use crate::tensor::{Dtype, Tensor};
use crate::{Cpu, Error, Result};

/// What elements are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// Blocks of 32 signed bytes and a scale.
    Q8_0,
    /// Blocks of 32 integers from −8 to 7 and a scale.
    Q4_0,
}

impl ElementType {
    /// All of them.
    pub const ALL: [ElementType; 5] =
        [ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::Q8_0, ElementType::Q4_0];

    /// The name by which it is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::BF16 => "bf16",
            ElementType::Q8_0 => "q8_0",
            ElementType::Q4_0 => "q4_0",
        }
    }

    /// ggml's.
    pub(super) const fn ggml(self) -> GgmlType {
        match self {
            ElementType::F32 => GgmlType::F32,
            ElementType::F16 => GgmlType::F16,
            ElementType::BF16 => GgmlType::BF16,
            ElementType::Q8_0 => GgmlType::Q8_0,
            ElementType::Q4_0 => GgmlType::Q4_0,
        }
    }

    /// That of safetensors, which has no blocks.
    pub(super) const fn safetensors(self) -> Option<safetensors::Dtype> {
        match self {
            ElementType::F32 => Some(safetensors::Dtype::F32),
            ElementType::F16 => Some(safetensors::Dtype::F16),
            ElementType::BF16 => Some(safetensors::Dtype::BF16),
            ElementType::Q8_0 | ElementType::Q4_0 => None,
        }
    }

    /// What a tensor has.
    pub(super) const fn of(dtype: Dtype) -> ElementType {
        match dtype {
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::BF16,
            _ => ElementType::F32,
        }
    }
}

/// What is special about a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Plain,
    /// Rows of so many heads that turn.
    Turned { heads: usize },
    /// A norm's gain.
    Gain,
    /// GPT-2's matrices, which stand (in, out).
    Column,
}

/// A tensor of an architecture, as Hugging Face has it.
pub(super) struct Part {
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
}

impl Part {
    fn new(name: String, shape: &[usize], role: Role) -> Part {
        Part { name, shape: shape.to_vec(), role }
    }

    /// The tensor, of the shape that it must have, a float.
    pub fn fetch(&self, source: &dyn Source) -> Result<Tensor> {
        let tensor = source.tensor(&self.name)?;
        if tensor.shape() != self.shape {
            let expected = format!("{:?}, which the configuration says", self.shape);
            let (file, name, shape) = (source.file(), self.name.clone(), tensor.shape().to_vec());
            return Err(Error::Shape { file, name, shape, expected });
        }
        if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let (file, name, dtype) = (source.file(), self.name.clone(), tensor.dtype().to_string());
            return Err(Error::Dtype { file, name, dtype, expected: "F32, F16 or BF16".into() });
        }
        Ok(tensor)
    }

    /// With the rows of q and k where `to` wants them.
    pub fn paired(&self, mut tensor: Tensor, config: &DecoderConfig, to: Pairing) -> Tensor {
        let (Role::Turned { heads }, Some(rope)) = (self.role, &config.rope) else { return tensor };
        let sizes = (heads, config.head_dim, rope.rotary_dim);
        match (rope.pairing == to, tensor.dtype()) {
            (true, _) => {}
            (false, Dtype::F32) => turn(tensor.make_mut::<f32>(), sizes, to),
            (false, _) => turn(tensor.make_mut::<u16>(), sizes, to),
        }
        tensor
    }

    /// With gains that are `to`, where they were `from`: Gemma's 1 is added or taken off.
    pub fn gains(&self, cpu: Cpu, tensor: Tensor, from: NormKind, to: NormKind) -> Tensor {
        let one = match (self.role, from, to) {
            (Role::Gain, NormKind::RmsOnePlus, NormKind::Rms) => 1.0,
            (Role::Gain, NormKind::Rms, NormKind::RmsOnePlus) => -1.0,
            _ => return tensor,
        };
        let mut tensor = tensor.to(cpu, Dtype::F32);
        tensor.make_mut::<f32>().iter_mut().for_each(|w| *w += one);
        tensor
    }

    /// The bytes of the part as `element`.
    pub fn encode(&self, cpu: Cpu, tensor: &Tensor, element: ElementType) -> Result<Vec<u8>> {
        let bad = |index: usize, value: f32, expected| Error::Value {
            name: format!("tensor {:?}", self.name),
            index,
            value: value.into(),
            expected,
        };
        let halves = |dtype| {
            let bits: Vec<u16> = tensor.to(cpu, dtype).to_vec();
            // An infinity that was none before is a number that does not fit.
            let largest = if dtype == Dtype::F16 { 0x7c00 } else { 0x7f80 };
            match bits.iter().position(|x| x & 0x7fff == largest) {
                Some(i) if tensor.dtype() != dtype && tensor.to_f32_vec(cpu)[i].is_finite() => {
                    Err(bad(i, tensor.to_f32_vec(cpu)[i], "a number that a half holds"))
                }
                _ => Ok(bits.iter().flat_map(|x| x.to_le_bytes()).collect()),
            }
        };
        match element {
            ElementType::F32 => Ok(tensor.to_f32_vec(cpu).iter().flat_map(|x| x.to_le_bytes()).collect()),
            ElementType::F16 => halves(Dtype::F16),
            ElementType::BF16 => halves(Dtype::BF16),
            ElementType::Q8_0 | ElementType::Q4_0 => {
                let floats = tensor.to_f32_vec(cpu);
                let mut blocks = vec![0; element.ggml().bytes(floats.len()).unwrap_or(0)];
                let quantize = if element == ElementType::Q8_0 { quantize_q8_0 } else { quantize_q4_0 };
                quantize(cpu, &floats, &mut blocks)
                    .map_err(|e| bad(e.index, floats[e.index], "a finite number"))?;
                Ok(blocks)
            }
        }
    }
}

fn turn<T>(rows: &mut [T], (heads, head_dim, rotary_dim): (usize, usize, usize), to: Pairing) {
    match to {
        Pairing::Half => interleaved_to_half(rows, heads, head_dim, rotary_dim),
        Pairing::Interleaved => half_to_interleaved(rows, heads, head_dim, rotary_dim),
    }
}

/// Every tensor of a model, in the order of its layers.
pub(super) fn expected(c: &DecoderConfig) -> Vec<Part> {
    if c.architecture == Architecture::Gpt2 { gpt2(c) } else { llama(c) }
}

/// A list of parts under way.
struct List<'a> {
    parts: Vec<Part>,
    config: &'a DecoderConfig,
}

impl List<'_> {
    fn push(&mut self, name: impl Into<String>, shape: &[usize], role: Role) {
        self.parts.push(Part::new(name.into(), shape, role));
    }

    /// `NAME.weight` (out, in), and `NAME.bias` where there is one.
    fn linear(&mut self, name: &str, shape: [usize; 2], role: Role, bias: bool) {
        let out = if role == Role::Column { shape[1] } else { shape[0] };
        self.push(format!("{name}.weight"), &shape, role);
        if bias {
            // What stands (in, out) has a bias like any other.
            let role = if role == Role::Column { Role::Plain } else { role };
            self.push(format!("{name}.bias"), &[out], role);
        }
    }

    fn norm(&mut self, name: &str, n: usize) {
        self.push(format!("{name}.weight"), &[n], Role::Gain);
        if self.config.norm == NormKind::Layer {
            self.push(format!("{name}.bias"), &[n], Role::Plain);
        }
    }
}

fn llama(c: &DecoderConfig) -> Vec<Part> {
    let mut list = List { parts: Vec::new(), config: c };
    list.push("model.embed_tokens.weight", &[c.vocab, c.dim], Role::Plain);
    for i in 0..c.windows.len() {
        llama_layer(&mut list, c, i);
    }
    list.norm("model.norm", c.dim);
    if !c.tied {
        list.push("lm_head.weight", &[c.vocab, c.dim], Role::Plain);
    }
    list.parts
}

fn llama_layer(list: &mut List<'_>, c: &DecoderConfig, i: usize) {
    let at = |part: &str| format!("model.layers.{i}.{part}");
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    list.norm(&at("input_layernorm"), c.dim);
    if c.architecture == Architecture::Phi3 {
        // Phi-3's pairs are halves everywhere: its rows never move.
        list.linear(&at("self_attn.qkv_proj"), [q + 2 * kv, c.dim], Role::Plain, false);
    } else {
        let (query, key) = (Role::Turned { heads: c.heads }, Role::Turned { heads: c.kv_heads });
        list.linear(&at("self_attn.q_proj"), [q, c.dim], query, c.qkv_bias);
        list.linear(&at("self_attn.k_proj"), [kv, c.dim], key, c.qkv_bias);
        list.linear(&at("self_attn.v_proj"), [kv, c.dim], Role::Plain, c.qkv_bias);
    }
    list.linear(&at("self_attn.o_proj"), [c.dim, q], Role::Plain, c.out_bias);
    if c.architecture == Architecture::Qwen3 {
        list.norm(&at("self_attn.q_norm"), c.head_dim);
        list.norm(&at("self_attn.k_norm"), c.head_dim);
    }
    list.norm(&at("post_attention_layernorm"), c.dim);
    if c.architecture == Architecture::Gemma2 {
        list.norm(&at("pre_feedforward_layernorm"), c.dim);
        list.norm(&at("post_feedforward_layernorm"), c.dim);
    }
    if c.architecture == Architecture::Phi3 {
        list.linear(&at("mlp.gate_up_proj"), [2 * c.hidden, c.dim], Role::Plain, false);
    } else {
        list.linear(&at("mlp.gate_proj"), [c.hidden, c.dim], Role::Plain, c.network_bias);
        list.linear(&at("mlp.up_proj"), [c.hidden, c.dim], Role::Plain, c.network_bias);
    }
    list.linear(&at("mlp.down_proj"), [c.dim, c.hidden], Role::Plain, c.network_bias);
}

fn gpt2(c: &DecoderConfig) -> Vec<Part> {
    let mut list = List { parts: Vec::new(), config: c };
    list.push("wte.weight", &[c.vocab, c.dim], Role::Plain);
    list.push("wpe.weight", &[c.context, c.dim], Role::Plain);
    for i in 0..c.windows.len() {
        let at = |part: &str| format!("h.{i}.{part}");
        list.norm(&at("ln_1"), c.dim);
        list.linear(&at("attn.c_attn"), [c.dim, 3 * c.dim], Role::Column, true);
        list.linear(&at("attn.c_proj"), [c.dim, c.dim], Role::Column, true);
        list.norm(&at("ln_2"), c.dim);
        list.linear(&at("mlp.c_fc"), [c.dim, c.hidden], Role::Column, true);
        list.linear(&at("mlp.c_proj"), [c.hidden, c.dim], Role::Column, true);
    }
    list.norm("ln_f", c.dim);
    if !c.tied {
        list.push("lm_head.weight", &[c.vocab, c.dim], Role::Plain);
    }
    list.parts
}
