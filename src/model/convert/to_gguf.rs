//! GGUF, with the keys and names of llama.cpp's converter.

use super::parts::{ElementType, Part, Role};
use super::{Converted, FileKind, Parts, Work, lost, refuse};
use crate::io::gguf::{self, ArrayBuf, GgmlType, Gguf, TensorInfo, Value};
use crate::io::json::Writer;
use crate::kernels::math::ln64;
use crate::kernels::rope::Pairing;
use crate::model::config::{Architecture, DecoderConfig, NormKind};
use crate::model::gguf::{gguf_name, rope_scaling};
use crate::nn::rotary::{RopeScaling, RotaryConfig, RotaryEmbedding, Yarn};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A value that owns what it holds.
pub(super) enum Owned<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(ArrayBuf),
    /// As it stands in another file.
    Borrowed(Value<'a>),
}

impl Owned<'_> {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::U32(x) => Value::U32(*x),
            Owned::F32(x) => Value::F32(*x),
            Owned::Bool(x) => Value::Bool(*x),
            Owned::String(text) => Value::String(text),
            Owned::Array(array) => array.value(),
            Owned::Borrowed(value) => *value,
        }
    }
}

/// Keys and values.
#[derive(Default)]
pub(super) struct Metadata<'a>(Vec<(String, Owned<'a>)>);

impl<'a> Metadata<'a> {
    pub fn put(&mut self, key: impl Into<String>, value: Owned<'a>) {
        self.0.push((key.into(), value));
    }

    fn count(&mut self, key: String, n: usize) {
        self.put(key, Owned::U32(u32::try_from(n).unwrap_or(u32::MAX)));
    }

    pub fn pairs(&self) -> Vec<(&str, Value<'_>)> {
        self.0.iter().map(|(key, value)| (&**key, value.value())).collect()
    }
}

/// A tensor of the file: a part, or divisors of the scaling.
enum Content {
    Part(usize),
    Floats(Vec<f32>),
}

struct Entry {
    name: String,
    element: ElementType,
    shape: Vec<usize>,
    content: Content,
}

pub(super) fn write(work: &Parts<'_, '_>) -> Result<Converted> {
    let Work { cpu, config, job, input, .. } = work.work;
    let mut notes = Vec::new();
    let entries = entries(work)?;
    let mut metadata: Metadata<'_> = metadata(config, &job.output, file_type(&entries))?;
    check(config, &metadata)?;
    if config.architecture == Architecture::Mistral && config.windows.iter().any(Option::is_some) {
        notes.push(
            "llama.cpp reads no window for this family: longer texts than the window differ there".into(),
        );
    }
    if config.rope.as_ref().is_some_and(|rope| matches!(rope.scaling, RopeScaling::DynamicNtk { .. })) {
        notes.push("llama.cpp knows no dynamic scaling: texts longer than the context differ there".into());
    }
    super::vocabulary::put(&mut metadata, work.work, &mut notes)?;
    let infos: Vec<TensorInfo<'_>> = entries
        .iter()
        .map(|e| TensorInfo { name: &e.name, kind: e.element.ggml(), shape: &e.shape })
        .collect();
    let (pairing, last) = (pairing(config), entries.len() - 1);
    gguf::write_each(&job.output, &metadata.pairs(), &infos, |i| {
        let entry = &entries[i];
        let bytes = match &entry.content {
            Content::Floats(floats) => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Content::Part(p) => {
                let tensor = work.tensor(*p, pairing, NormKind::Rms)?;
                let part = &work.parts[*p];
                part.encode(cpu, &oriented(part, tensor), entry.element)?
            }
        };
        if i == last {
            input.check()?;
        }
        Ok(bytes)
    })?;
    Ok(Converted { tensors: entries.len(), kind: FileKind::Gguf, notes })
}

/// Whether pairs stand side by side, as in Meta's Llama.
fn pairing(config: &DecoderConfig) -> Pairing {
    match config.architecture {
        Architecture::Llama | Architecture::Mistral => Pairing::Interleaved,
        _ => Pairing::Half,
    }
}

/// (out, in), always.
fn oriented(part: &Part, tensor: Tensor) -> Tensor {
    if part.role == Role::Column { tensor.t().contiguous() } else { tensor }
}

fn entries(work: &Parts<'_, '_>) -> Result<Vec<Entry>> {
    let Work { config, source, job, .. } = work.work;
    let mut all = Vec::new();
    for (i, part) in work.parts.iter().enumerate() {
        let name = gguf_name(config.architecture, &part.name)
            .ok_or_else(|| Error::invalid(format!("GGUF has no name for tensor {:?}", part.name)))?;
        let mut shape = part.shape.clone();
        if part.role == Role::Column {
            shape.reverse();
        }
        // Vectors, and learned positions, are f32 in every file of llama.cpp.
        let element = match job.element {
            _ if shape.len() < 2 || name.starts_with("position_embd") => ElementType::F32,
            Some(ElementType::Q8_0 | ElementType::Q4_0) if !shape[1].is_multiple_of(32) => ElementType::F16,
            Some(element) => element,
            None => ElementType::of(part.fetch(source)?.dtype()),
        };
        all.push(Entry { name, element, shape, content: Content::Part(i) });
    }
    all.extend(scaling_tensors(config)?);
    Ok(all)
}

/// Divisors of the frequencies, one a pair.
fn scaling_tensors(config: &DecoderConfig) -> Result<Vec<Entry>> {
    let Some(rope) = &config.rope else { return Ok(Vec::new()) };
    let entry = |name: &str, list: Vec<f64>| Entry {
        name: name.into(),
        element: ElementType::F32,
        shape: vec![list.len()],
        content: Content::Floats(list.into_iter().map(|x| x as f32).collect()),
    };
    Ok(match &rope.scaling {
        RopeScaling::Llama3(_) => {
            let plain = RotaryConfig { scaling: RopeScaling::None, ..rope.clone() };
            let (plain, stretched) = (RotaryEmbedding::new(&plain, 0)?, RotaryEmbedding::new(rope, 0)?);
            let pairs = plain.inverse_frequencies().iter().zip(stretched.inverse_frequencies());
            vec![entry(rope_scaling::FREQS, pairs.map(|(f, slow)| f / slow).collect())]
        }
        RopeScaling::PerPair { divisors } => vec![entry(rope_scaling::FREQS, divisors.clone())],
        RopeScaling::LongRope(long) => vec![
            entry(rope_scaling::SHORT, long.short_factor.clone()),
            entry(rope_scaling::LONG, long.long_factor.clone()),
        ],
        _ => Vec::new(),
    })
}

/// `general.file_type`: what most matrices are.
fn file_type(entries: &[Entry]) -> u32 {
    let of = |element| entries.iter().filter(|e| e.shape.len() == 2 && e.element == element).count();
    let numbers = [
        (ElementType::F32, 0),
        (ElementType::F16, 1),
        (ElementType::Q4_0, 2),
        (ElementType::Q8_0, 7),
        (ElementType::BF16, 32),
    ];
    numbers.into_iter().max_by_key(|&(element, _)| of(element)).map_or(0, |(_, number)| number)
}

fn name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Llama | Architecture::Mistral => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
        Architecture::Gemma => "gemma",
        Architecture::Gemma2 => "gemma2",
        Architecture::Phi3 => "phi3",
        Architecture::Gpt2 => "gpt2",
        Architecture::Bert | Architecture::Roberta => "bert",
    }
}

fn metadata(c: &DecoderConfig, output: &std::path::Path, file_type: u32) -> Result<Metadata<'static>> {
    let own = name(c.architecture);
    let key = |key: &str| format!("{own}.{key}");
    let mut m = Metadata::default();
    m.put("general.architecture", Owned::String(own.into()));
    m.put("general.type", Owned::String("model".into()));
    let stem = output.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    m.put("general.name", Owned::String(stem));
    m.put("general.file_type", Owned::U32(file_type));
    m.put("general.quantization_version", Owned::U32(2));
    m.count(key("block_count"), c.windows.len());
    m.count(key("context_length"), c.context);
    m.count(key("embedding_length"), c.dim);
    m.count(key("feed_forward_length"), c.hidden);
    m.count(key("vocab_size"), c.vocab);
    m.count(key("attention.head_count"), c.heads);
    m.count(key("attention.head_count_kv"), c.kv_heads);
    m.count(key("attention.key_length"), c.head_dim);
    m.count(key("attention.value_length"), c.head_dim);
    let eps = if c.norm == NormKind::Layer { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    m.put(key(&format!("attention.{eps}")), Owned::F32(c.norm_eps));
    for (cap, of) in [(c.score_cap, "attn_logit_softcapping"), (c.logit_cap, "final_logit_softcapping")] {
        if let Some(cap) = cap {
            m.put(key(of), Owned::F32(cap));
        }
    }
    if let Some(window) = c.windows.iter().flatten().next() {
        m.count(key("attention.sliding_window"), *window);
    }
    if let Some(rope) = &c.rope {
        m.count(key("rope.dimension_count"), rope.rotary_dim);
        m.put(key("rope.freq_base"), Owned::F32(rope.theta as f32));
        put_scaling(&mut m, own, rope, c)?;
    }
    Ok(m)
}

fn put_scaling(m: &mut Metadata<'_>, own: &str, rope: &RotaryConfig, c: &DecoderConfig) -> Result<()> {
    let key = |key: &str| format!("{own}.rope.scaling.{key}");
    let (kind, factor) = match &rope.scaling {
        RopeScaling::Linear { factor } => ("linear", *factor),
        RopeScaling::Yarn(yarn) => ("yarn", yarn.factor),
        RopeScaling::LongRope(long) => {
            m.count(key("original_context_length"), long.original_max_positions);
            let factor = RotaryEmbedding::new(rope, c.context)?.attention_factor();
            m.put(key("attn_factor"), Owned::F32(factor as f32));
            m.put(rope_scaling::EXACT, exact(rope));
            return Ok(());
        }
        RopeScaling::Llama3(_) | RopeScaling::DynamicNtk { .. } => {
            m.put(rope_scaling::EXACT, exact(rope));
            return Ok(());
        }
        RopeScaling::None | RopeScaling::PerPair { .. } => return Ok(()),
    };
    m.put(key("type"), Owned::String(kind.into()));
    m.put(key("factor"), Owned::F32(factor as f32));
    m.put(rope_scaling::EXACT, exact(rope));
    if let RopeScaling::Yarn(yarn) = &rope.scaling {
        put_yarn(m, &key, yarn, c)?;
    }
    Ok(())
}

fn put_yarn(
    m: &mut Metadata<'_>,
    key: &dyn Fn(&str) -> String,
    yarn: &Yarn,
    c: &DecoderConfig,
) -> Result<()> {
    if !yarn.truncate || yarn.mscale.is_some() || yarn.mscale_all_dim.is_some() {
        return Err(refuse(FileKind::Gguf, c, "variant of YaRN (truncate, mscale)"));
    }
    m.count(key("original_context_length"), yarn.original_max_positions);
    if let Some(factor) = yarn.attention_factor {
        let own = if yarn.factor <= 1.0 { 1.0 } else { 0.1 * ln64(yarn.factor) + 1.0 };
        m.put(key("attn_factor"), Owned::F32((factor / own) as f32));
    }
    for (turns, usual, name) in
        [(yarn.beta_fast, 32.0, "yarn_beta_fast"), (yarn.beta_slow, 1.0, "yarn_beta_slow")]
    {
        if turns != usual {
            m.put(key(name), Owned::F32(turns as f32));
        }
    }
    Ok(())
}

/// The scaling in the words of `config.json`, none of its numbers rounded.
fn exact(rope: &RotaryConfig) -> Owned<'static> {
    let mut w = Writer::compact();
    super::to_folder::put_scaling(&mut w, &rope.scaling, None);
    Owned::String(w.finish())
}

/// What the file would say must be the configuration.
fn check(config: &DecoderConfig, metadata: &Metadata<'_>) -> Result<()> {
    // LongRoPE's lists, which the exact form makes unnecessary to read, stand in tensors.
    let lists: Vec<Entry> = match config.rope.as_ref().map(|rope| &rope.scaling) {
        Some(RopeScaling::PerPair { .. }) => scaling_tensors(config)?,
        _ => Vec::new(),
    };
    let bytes: Vec<Vec<u8>> = lists.iter().map(Entry::floats).collect();
    let views: Vec<gguf::TensorView<'_>> = lists
        .iter()
        .zip(&bytes)
        .map(|(e, bytes)| gguf::TensorView { name: &e.name, kind: GgmlType::F32, shape: &e.shape, bytes })
        .collect();
    let head = Gguf::from_bytes(&gguf::to_bytes(&metadata.pairs(), &views)?)?;
    match lost(config, &DecoderConfig::from_gguf(&head)?) {
        Some(what) => Err(refuse(FileKind::Gguf, config, what)),
        None => Ok(()),
    }
}

impl Entry {
    /// The bytes of divisors.
    fn floats(&self) -> Vec<u8> {
        match &self.content {
            Content::Floats(floats) => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Content::Part(_) => Vec::new(),
        }
    }
}
