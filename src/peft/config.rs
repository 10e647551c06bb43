//! `adapter_config.json`, as peft writes it.
//!
//! A field that means something here is read; one that asks for what is not there is refused by its name; any other is
//! kept as it stands, byte for byte, for the next to save the file.

mod bottleneck;
mod pattern;
mod write;

use super::Side;
use super::init::{LoraOptions, Scaling};
use crate::io::json::{self, Value, Writer};
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

pub use bottleneck::{AdaptedModel, BottleneckConfig};
pub use pattern::Pattern;
pub use write::Dora;

/// A configuration: what it says, and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Keys and the text of their values, in the order of the file.
    fields: Vec<(String, String)>,
    method: Method,
}

/// The kind of adapter and what it is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// LoRA, rsLoRA, DoRA.
    Lora(LoraConfig),
    /// Learned scales of inputs and outputs.
    Ia3(Ia3Config),
    /// Learned keys and values before the text.
    Prefix(PrefixConfig),
    /// Small networks in the blocks, as the `adapters` package has them.
    Bottleneck(BottleneckConfig),
}

/// What LoRA is told.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank, α, s, dropout, where no pattern says otherwise.
    pub options: LoraOptions,
    /// Whether rows have lengths of their own (DoRA).
    pub dora: bool,
    /// Whether the base changed when the adapter was made (PiSSA, OLoRA …): the name of the initialisation.
    pub changed_base: Option<String>,
    /// Which modules.
    pub targets: Targets,
    /// Which of them not.
    pub exclude: Option<Targets>,
    /// Only in layers of these numbers.
    pub layers: Option<Vec<usize>>,
    /// What stands before the number of a layer; empty: anything.
    pub layers_pattern: Vec<String>,
    /// Other ranks.
    pub ranks: Vec<(Pattern, f64)>,
    /// Other α.
    pub alphas: Vec<(Pattern, f64)>,
}

/// What IA³ is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Ia3Config {
    /// Which modules.
    pub targets: Targets,
    /// Which of them not.
    pub exclude: Option<Targets>,
    /// Those of them whose inputs are scaled, not their outputs.
    pub feed_forward: Targets,
}

impl Ia3Config {
    /// What of `module` is scaled; `None` where it has no scales.
    pub fn side(&self, module: &str) -> Option<Side> {
        let excluded = self.exclude.as_ref().is_some_and(|exclude| exclude.contains(module));
        let side = if self.feed_forward.contains(module) { Side::Input } else { Side::Output };
        (self.targets.contains(module) && !excluded).then_some(side)
    }
}

/// What prefix tuning is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixConfig {
    /// Tokens before the text.
    pub tokens: usize,
    /// Layers of the model.
    pub layers: usize,
    /// Numbers of a key, all heads.
    pub dim: usize,
}

/// Modules by name.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Every linear layer but the head: of the modules that are offered, all.
    AllLinear,
    /// Whole names, or what follows a dot in them.
    Ends(Vec<String>),
    /// By a pattern of the whole name.
    Matching(Pattern),
}

impl Targets {
    /// Whether `module` is one.
    pub fn contains(&self, module: &str) -> bool {
        match self {
            Targets::AllLinear => true,
            Targets::Ends(ends) => ends.iter().any(|end| ends_with(module, end)),
            Targets::Matching(pattern) => pattern.matches(module),
        }
    }

    /// Whether it names the whole of `module`.
    fn names(&self, module: &str) -> bool {
        matches!(self, Targets::Ends(ends) if ends.iter().any(|end| end == module))
    }
}

/// `end`, or `….end`.
fn ends_with(module: &str, end: &str) -> bool {
    module.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl LoraConfig {
    /// Whether `module` has an adapter.
    pub fn contains(&self, module: &str) -> bool {
        if self.exclude.as_ref().is_some_and(|exclude| exclude.contains(module)) {
            return false;
        }
        let in_layer = match &self.layers {
            // A module that is named in full is one, whatever its layer.
            Some(layers) if !self.targets.names(module) => {
                layer_of(module, &self.layers_pattern).is_some_and(|layer| layers.contains(&layer))
            }
            _ => true,
        };
        in_layer && self.targets.contains(module)
    }

    /// Rank, α and the rest for `module`.
    pub fn options_of(&self, module: &str) -> LoraOptions {
        let of = |patterns: &[(Pattern, f64)]| {
            patterns.iter().find(|(pattern, _)| pattern.matches_end(module)).map(|(_, value)| *value)
        };
        LoraOptions {
            rank: of(&self.ranks).map_or(self.options.rank, |rank| rank as usize),
            alpha: of(&self.alphas).unwrap_or(self.options.alpha),
            ..self.options
        }
    }
}

/// The number of the layer in `….layers.7.…`: the last that stands so.
fn layer_of(module: &str, patterns: &[String]) -> Option<usize> {
    let parts: Vec<&str> = module.split('.').collect();
    let named = |i: &usize| patterns.is_empty() || patterns.iter().any(|p| p == parts[i - 1]);
    let number = |i: usize| parts[i].bytes().all(|b| b.is_ascii_digit()).then(|| parts[i].parse().ok())?;
    (2..parts.len().saturating_sub(1)).rev().filter(named).find_map(number)
}

/// Options of LoRA and IA³ in peft that change what an adapter computes and are not there: refused unless off.
const REFUSED: &[&str] = &[
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

/// Fields that decide what an adapter computes, or of what.
const READ: &[&str] = &[
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "feedforward_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "num_attention_heads",
    "num_layers",
    "num_transformer_submodules",
    "num_virtual_tokens",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "token_dim",
    "use_dora",
    "use_rslora",
];

impl AdapterConfig {
    /// Reads the text of an `adapter_config.json`.
    ///
    /// # Errors
    /// Where it is no such configuration, or asks for what is not supported: by the name of the field.
    pub fn parse(text: &[u8]) -> Result<AdapterConfig> {
        let root = json::parse(text)?;
        let entries = root.entries().ok_or_else(|| root.expected("an object"))?;
        let fields = entries.map(|(key, value)| (key.into_owned(), value.source().to_string())).collect();
        for name in REFUSED {
            if let Some(value) = root.get(name).filter(|value| !is_off(*value)) {
                return Err(refused(name, value));
            }
        }
        let reader = Fields(root);
        if let (Some(options), false) = (reader.get("config"), root.get("peft_type").is_some()) {
            let method = Method::Bottleneck(BottleneckConfig::read(&reader, &Fields(options))?);
            return Ok(AdapterConfig { fields, method });
        }
        let kind = reader.string("peft_type")?.ok_or_else(|| Error::invalid("no \"peft_type\""))?;
        let method = match &*kind {
            "LORA" => Method::Lora(reader.lora()?),
            "IA3" => Method::Ia3(Ia3Config {
                targets: reader.needed_targets()?,
                exclude: reader.targets("exclude_modules")?,
                feed_forward: reader.targets("feedforward_modules")?.unwrap_or(Targets::Ends(Vec::new())),
            }),
            "PREFIX_TUNING" => Method::Prefix(reader.prefix()?),
            _ => return Err(Error::invalid(format!("peft_type {kind:?} is not supported"))),
        };
        Ok(AdapterConfig { fields, method })
    }

    /// What it says.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The text of a field, as it stands in the file.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Fields that change nothing here and are kept as they are, with their texts.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &str)> {
        let known = |key: &str| READ.contains(&key) || REFUSED.contains(&key);
        self.fields.iter().filter(move |(key, _)| !known(key)).map(|(key, value)| (&**key, &**value))
    }

    /// The same with a field set to a text of JSON.
    ///
    /// # Errors
    /// As [`AdapterConfig::parse`].
    pub fn with_field(&self, name: &str, value: &str) -> Result<AdapterConfig> {
        json::parse(value.as_bytes())?;
        let mut fields = self.fields.clone();
        match fields.iter_mut().find(|(key, _)| key == name) {
            Some(field) => field.1 = value.into(),
            None => fields.push((name.into(), value.into())),
        }
        AdapterConfig::parse(text(&fields).as_bytes())
    }

    /// The text of the file: of a file that peft wrote, the same bytes.
    pub fn to_json(&self) -> String {
        text(&self.fields)
    }
}

fn text(fields: &[(String, String)]) -> String {
    let mut w = Writer::indented();
    w.object(|w| fields.iter().for_each(|(key, value)| w.key(key).raw(value)));
    w.finish()
}

/// null, false, or nothing in it.
fn is_off(value: Value<'_>) -> bool {
    value.is_null()
        || value.as_bool() == Some(false)
        || value.elements().is_some_and(|mut e| e.next().is_none())
        || value.entries().is_some_and(|mut e| e.next().is_none())
}

fn refused(name: &str, value: Value<'_>) -> Error {
    let shown: String = value.source().chars().take(60).collect();
    Error::malformed(value.offset() as u64, format!("{name} is {shown}, which is not supported"))
}

/// Reads fields; null and absent are the same.
struct Fields<'a>(Value<'a>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<Value<'a>> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(&self, name: &str, what: &str, read: impl Fn(Value<'a>) -> Option<T>) -> Result<Option<T>> {
        let wrong = |v: Value<'_>| v.expected(&format!("{what} for {name}"));
        self.get(name).map(|v| read(v).ok_or_else(|| wrong(v))).transpose()
    }

    fn string(&self, name: &str) -> Result<Option<String>> {
        self.read(name, "a string", |v| Some(v.as_str()?.into_owned()))
    }

    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.read(name, "a boolean", Value::as_bool)?.unwrap_or(false))
    }

    fn count(&self, name: &str) -> Result<Option<usize>> {
        self.read(name, "a whole number", Value::as_usize)
    }

    fn needed(&self, name: &str) -> Result<usize> {
        let none = || Error::invalid(format!("no {name:?}"));
        self.count(name)?.filter(|n| *n > 0).ok_or_else(none)
    }

    /// A string or an array of strings.
    fn strings(&self, name: &str) -> Result<Vec<String>> {
        let one = |v: Value<'_>| v.as_str().map(|s| s.into_owned());
        let all = |v: Value<'a>| match v.elements() {
            Some(elements) => elements.map(one).collect(),
            None => one(v).map(|s| vec![s]),
        };
        Ok(self.read(name, "names", all)?.unwrap_or_default())
    }

    fn targets(&self, name: &str) -> Result<Option<Targets>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        Ok(Some(match value.as_str() {
            Some(all) if all == "all-linear" => Targets::AllLinear,
            Some(pattern) => Targets::Matching(Pattern::new(&pattern)?),
            None => Targets::Ends(self.strings(name)?),
        }))
    }

    fn needed_targets(&self) -> Result<Targets> {
        self.targets("target_modules")?.ok_or_else(|| Error::invalid("no \"target_modules\""))
    }

    fn numbers(&self, name: &str) -> Result<Vec<(Pattern, f64)>> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let entries = value.entries().ok_or_else(|| value.expected(&format!("an object for {name}")))?;
        let number = |(key, v): (alloc::borrow::Cow<'_, str>, Value<'_>)| {
            let n = v.as_f64().filter(|n| *n > 0.0).ok_or_else(|| v.expected("a positive number"))?;
            Ok((Pattern::new(&key)?, n))
        };
        entries.map(number).collect()
    }

    fn lora(&self) -> Result<LoraConfig> {
        if let Some(bias) = self.get("bias").filter(|v| v.as_str().is_none_or(|b| b != "none")) {
            return Err(refused("bias", bias));
        }
        let rank = self.count("r")?.unwrap_or(8);
        if rank == 0 {
            return Err(Error::invalid("r is 0, expected a positive rank"));
        }
        let dropout = self.read("lora_dropout", "a number", Value::as_f64)?.unwrap_or(0.0);
        if !(0.0..1.0).contains(&dropout) {
            return Err(Error::invalid(format!("lora_dropout is {dropout}, expected 0 up to below 1")));
        }
        let ranks = self.numbers("rank_pattern")?;
        if let Some((pattern, rank)) = ranks.iter().find(|(_, rank)| *rank != (*rank as usize) as f64) {
            return Err(Error::invalid(format!("rank_pattern {:?} is {rank}", pattern.source())));
        }
        let scaling = if self.flag("use_rslora")? { Scaling::ByRoot } else { Scaling::ByRank };
        let alpha = self.read("lora_alpha", "a number", Value::as_f64)?.unwrap_or(8.0);
        let dropout = dropout as f32;
        Ok(LoraConfig {
            options: LoraOptions { rank, alpha, scaling, dropout, ..LoraOptions::default() },
            dora: self.flag("use_dora")?,
            changed_base: self.changed_base()?,
            targets: self.needed_targets()?,
            exclude: self.targets("exclude_modules")?,
            layers: self.layers()?,
            layers_pattern: self.strings("layers_pattern")?,
            ranks,
            alphas: self.numbers("alpha_pattern")?,
        })
    }

    /// The initialisations that leave another base behind.
    fn changed_base(&self) -> Result<Option<String>> {
        let Some(value) = self.get("init_lora_weights") else { return Ok(None) };
        let Some(name) = value.as_str() else { return Ok(None) };
        match &*name {
            "gaussian" | "orthogonal" | "eva" => Ok(None),
            "olora" | "loftq" | "corda" | "lora_ga" => Ok(Some(name.into_owned())),
            other if other.starts_with("pissa") => Ok(Some(other.into())),
            _ => Err(refused("init_lora_weights", value)),
        }
    }

    /// One number or several.
    fn layers(&self) -> Result<Option<Vec<usize>>> {
        self.read("layers_to_transform", "numbers of layers", |v| match v.elements() {
            Some(elements) => elements.map(Value::as_usize).collect(),
            None => v.as_usize().map(|n| vec![n]),
        })
    }

    fn prefix(&self) -> Result<PrefixConfig> {
        let (heads, dim) = (self.needed("num_attention_heads")?, self.needed("token_dim")?);
        if !dim.is_multiple_of(heads) {
            return Err(Error::invalid(format!("token_dim {dim} is no multiple of {heads} heads")));
        }
        if self.count("num_transformer_submodules")?.is_some_and(|n| n != 1) {
            return Err(Error::invalid("num_transformer_submodules other than 1 is not supported"));
        }
        let (tokens, layers) = (self.needed("num_virtual_tokens")?, self.needed("num_layers")?);
        Ok(PrefixConfig { tokens, layers, dim })
    }
}
