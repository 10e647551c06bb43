//! What a model's configuration says about its rotary positions.

use super::scaling::{Llama3, LongRope, RopeScaling, Yarn};
use crate::io::json::{Excerpt, Kind, Value};
use crate::kernels::rope::Pairing;
use crate::{Error, Result};
use alloc::vec::Vec;

/// All that the frequencies depend on, but for the length of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryConfig {
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Dimensions that turn, the first ones of each head.
    pub rotary_dim: usize,
    /// Which dimensions turn together.
    pub pairing: Pairing,
    /// The base θ: 10,000 in the paper, 500,000 in Llama 3.
    pub theta: f64,
    /// The scaling.
    pub scaling: RopeScaling,
}

impl RotaryConfig {
    /// Heads that turn whole, without scaling.
    pub const fn new(head_dim: usize, theta: f64, pairing: Pairing) -> RotaryConfig {
        RotaryConfig { head_dim, rotary_dim: head_dim, pairing, theta, scaling: RopeScaling::None }
    }

    /// Reads a `config.json` of Hugging Face: `rope_scaling` or `rope_parameters`, and, where these do not say,
    /// `rope_theta` and `partial_rotary_factor` beside them; θ is `default_theta` where the file has none. The
    /// pairing is [`Pairing::Half`], that of transformers' models.
    ///
    /// Gemma 3 and others give their parameters by the type of a layer: `layer_type` then names one, such as
    /// `full_attention`. Keys that a type of scaling does not use are ignored, as transformers ignores them.
    ///
    /// # Errors
    /// [`Error::Malformed`]: an unknown type of scaling, by its name; a parameter that is missing or no number.
    ///
    /// ```
    /// use samebits::{io::json, nn::rotary::*};
    /// let config = json::parse(br#"{"rope_theta": 1e6, "max_position_embeddings": 131072,
    ///     "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}"#)?;
    /// let rotary = RotaryConfig::from_json(config, None, 128, 10_000.0)?;
    /// assert_eq!(rotary.scaling, RopeScaling::Yarn(Yarn::new(4.0, 32_768)));
    /// # Ok::<(), samebits::Error>(())
    /// ```
    pub fn from_json(
        config: Value<'_>,
        layer_type: Option<&str>,
        head_dim: usize,
        default_theta: f64,
    ) -> Result<RotaryConfig> {
        let config = Fields(config);
        let rope = match config.present("rope_scaling").or_else(|| config.present("rope_parameters")) {
            Some(value) => Some(of_layer(value, layer_type)?),
            None => None,
        };
        let number = |key: &str| match rope.and_then(|rope| rope.present(key)) {
            Some(value) => of_kind(value, key, "a number", Value::as_f64).map(Some),
            None => config.number(key),
        };
        let share = number("partial_rotary_factor")?.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid(alloc::format!("partial_rotary_factor is {share}, expected 0 to 1")));
        }
        Ok(RotaryConfig {
            head_dim,
            rotary_dim: (head_dim as f64 * share) as usize,
            pairing: Pairing::Half,
            theta: number("rope_theta")?.unwrap_or(default_theta),
            scaling: rope.map_or(Ok(RopeScaling::None), |rope| RopeScaling::from_fields(rope, config))?,
        })
    }
}

impl RopeScaling {
    /// Reads the object `rope_scaling` (or `rope_parameters`) of a `config.json`; `config` is the whole file, which
    /// may hold `max_position_embeddings`, `original_max_position_embeddings` and `model_type` beside it.
    ///
    /// # Errors
    /// [`Error::Malformed`]: an unknown type, by its name; a parameter that is missing or of the wrong kind.
    pub fn from_json(rope: Value<'_>, config: Value<'_>) -> Result<RopeScaling> {
        RopeScaling::from_fields(Fields::of(rope)?, Fields(config))
    }

    fn from_fields(rope: Fields<'_>, config: Fields<'_>) -> Result<RopeScaling> {
        let Some(name) = rope.present("rope_type").or_else(|| rope.present("type")) else {
            return Ok(RopeScaling::None);
        };
        let given = of_kind(name, "rope_type", "a string", Value::as_str)?;
        // The first Phi-3 files say "su" or "yarn" where they mean LongRoPE.
        let phi3 = config.present("model_type").and_then(Value::as_str).is_some_and(|t| t == "phi3");
        let kind = if given == "su" || given == "yarn" && phi3 { "longrope" } else { &*given };
        let lengths = Lengths::read(rope, config)?;
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: rope.needed(kind, "factor")? }),
            "dynamic" => Ok(RopeScaling::DynamicNtk {
                factor: rope.needed(kind, "factor")?,
                max_positions: lengths.of_model(rope, kind)?,
            }),
            "yarn" => yarn(rope, lengths).map(RopeScaling::Yarn),
            "longrope" => long_rope(rope, lengths).map(RopeScaling::LongRope),
            "llama3" => Ok(RopeScaling::Llama3(Llama3 {
                factor: rope.needed(kind, "factor")?,
                low_freq_factor: rope.needed(kind, "low_freq_factor")?,
                high_freq_factor: rope.needed(kind, "high_freq_factor")?,
                original_max_positions: lengths.of_training(rope, kind)?,
            })),
            other => Err(Error::malformed(
                name.offset() as u64,
                alloc::format!(
                    "rope type {} is not known; default, linear, dynamic, yarn, longrope and llama3 are",
                    Excerpt(other)
                ),
            )),
        }
    }
}

fn yarn(rope: Fields<'_>, lengths: Lengths) -> Result<Yarn> {
    let original = lengths.of_training(rope, "yarn")?;
    let factor = match rope.number("factor")? {
        Some(factor) => factor,
        None => lengths.of_model(rope, "yarn")? as f64 / original as f64,
    };
    // 0 counts as not given, as it does in Python.
    let turns = |key: &str, usual: f64| Ok(rope.number(key)?.filter(|&x| x != 0.0).unwrap_or(usual));
    let truncate = match rope.present("truncate") {
        Some(value) => of_kind(value, "truncate", "a boolean", Value::as_bool)?,
        None => true,
    };
    Ok(Yarn {
        factor,
        original_max_positions: original,
        attention_factor: rope.number("attention_factor")?,
        mscale: rope.number("mscale")?,
        mscale_all_dim: rope.number("mscale_all_dim")?,
        beta_fast: turns("beta_fast", 32.0)?,
        beta_slow: turns("beta_slow", 1.0)?,
        truncate,
    })
}

fn long_rope(rope: Fields<'_>, lengths: Lengths) -> Result<LongRope> {
    let original = lengths.of_training(rope, "longrope")?;
    let factor = match rope.number("factor")? {
        Some(factor) => factor,
        None => lengths.of_model(rope, "longrope")? as f64 / original as f64,
    };
    Ok(LongRope {
        short_factor: rope.numbers("longrope", "short_factor")?,
        long_factor: rope.numbers("longrope", "long_factor")?,
        original_max_positions: original,
        factor,
        attention_factor: rope.number("attention_factor")?,
    })
}

/// Where the parameters of one type of layer stand.
fn of_layer<'a>(rope: Value<'a>, layer_type: Option<&str>) -> Result<Fields<'a>> {
    let all = Fields::of(rope)?;
    if let Some(own) = layer_type.and_then(|t| all.present(t)) {
        return Fields::of(own);
    }
    let nested = rope.entries().and_then(|mut e| e.find(|(_, v)| v.kind() == Kind::Object));
    match nested {
        Some((key, value)) => Err(Error::malformed(
            value.offset() as u64,
            alloc::format!("rotary parameters by type of layer ({}, …): which one?", Excerpt(&key)),
        )),
        None => Ok(all),
    }
}

/// The lengths that a configuration names.
#[derive(Clone, Copy)]
struct Lengths {
    /// `max_position_embeddings`.
    model: Option<usize>,
    /// `original_max_position_embeddings`, beside the scaling or else within.
    training: Option<usize>,
}

impl Lengths {
    fn read(rope: Fields<'_>, config: Fields<'_>) -> Result<Lengths> {
        let model = config.length("max_position_embeddings")?;
        let beside = config.length("original_max_position_embeddings")?;
        let training = beside.or(rope.length("original_max_position_embeddings")?);
        Ok(Lengths { model, training })
    }

    fn of_model(self, rope: Fields<'_>, kind: &str) -> Result<usize> {
        self.model.ok_or_else(|| rope.missing(kind, "max_position_embeddings"))
    }

    fn of_training(self, rope: Fields<'_>, kind: &str) -> Result<usize> {
        self.training.or(self.model).ok_or_else(|| rope.missing(kind, "original_max_position_embeddings"))
    }
}

/// A JSON object, asked for its members by kind. `null` is as good as absent.
#[derive(Clone, Copy)]
struct Fields<'a>(Value<'a>);

impl<'a> Fields<'a> {
    fn of(value: Value<'a>) -> Result<Fields<'a>> {
        if value.kind() == Kind::Object { Ok(Fields(value)) } else { Err(value.expected("an object")) }
    }

    fn present(self, key: &str) -> Option<Value<'a>> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn number(self, key: &str) -> Result<Option<f64>> {
        self.present(key).map(|v| of_kind(v, key, "a number", Value::as_f64)).transpose()
    }

    fn length(self, key: &str) -> Result<Option<usize>> {
        self.present(key).map(|v| of_kind(v, key, "a count", Value::as_usize)).transpose()
    }

    fn needed(self, kind: &str, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| self.missing(kind, key))
    }

    fn numbers(self, kind: &str, key: &str) -> Result<Vec<f64>> {
        let list = self.present(key).ok_or_else(|| self.missing(kind, key))?;
        let list = of_kind(list, key, "an array", Value::elements)?;
        list.map(|v| of_kind(v, key, "a number", Value::as_f64)).collect()
    }

    fn missing(self, kind: &str, key: &str) -> Error {
        Error::malformed(self.0.offset() as u64, alloc::format!("rope type {kind:?} needs {key}"))
    }
}

/// A member read as a kind of value, or an error that names both.
fn of_kind<'a, T>(
    value: Value<'a>,
    key: &str,
    what: &str,
    read: impl Fn(Value<'a>) -> Option<T>,
) -> Result<T> {
    read(value).ok_or_else(|| value.expected(&alloc::format!("{what} as {key}")))
}
