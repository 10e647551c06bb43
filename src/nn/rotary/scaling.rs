//! The scalings: what each does to the frequencies f_i = θ^(−2i/d), i < d/2.
//!
//! | name | frequencies | factor of cos and sin |
//! |---|---|---|
//! | linear | f / factor | 1 |
//! | dynamic | θ' = θ · (factor · L / Lmax − (factor − 1))^(d/(d−2)), L = max(length, Lmax) | 1 |
//! | yarn | f / factor where slow, f where fast, a ramp between | 0.1 · ln(factor) + 1 |
//! | longrope | f / list_i, the short or the long list | √(1 + ln(factor) / ln(original)) |
//! | llama3 | f / factor where slow, f where fast, a blend between | 1 |
//!
//! Formulae and defaults are those of `modeling_rope_utils.py` of transformers 5, there in `f32`, here in `f64`.
//!
//! **YaRN in ggml** (`ggml_rope_ext`) is the same: it has `freq_scale` = 1 / factor, multiplies `attn_factor` by
//! 1 + 0.1 · ln(1 / freq_scale), and its ramp is at least 0.001 wide where transformers' is 0.001 only when it would
//! be nothing: no difference with truncated bounds, which are integers. What GGUF's writer stores as
//! `rope_freqs.weight` for Llama 3 is [`RopeScaling::PerPair`].

use super::RotaryConfig;
use crate::kernels::math::{ln64, pow64};
use crate::kernels::simd::sqrt64;
use crate::{Error, Result};
use alloc::vec::Vec;

/// How a model's rotary frequencies were stretched past the length that it was first trained for.
///
/// ```
/// use samebits::kernels::rope::Pairing;
/// use samebits::nn::rotary::{Llama3, LongRope, RopeScaling, RotaryConfig, RotaryEmbedding, Yarn};
/// let slowest = |scaling: RopeScaling, length| {
///     let config = RotaryConfig { scaling, ..RotaryConfig::new(4, 10_000.0, Pairing::Half) };
///     RotaryEmbedding::new(&config, length).unwrap().inverse_frequencies()[1]
/// };
/// let plain = slowest(RopeScaling::None, 100);
/// assert!((plain - 0.01).abs() < 1e-15); // θ^(−2/4)
/// assert!((slowest(RopeScaling::Linear { factor: 4.0 }, 100) * 4.0 - plain).abs() < 1e-15);
/// // A turn of it takes 628 positions, more than the 100 of before: it is interpolated whole.
/// assert!((slowest(RopeScaling::Yarn(Yarn::new(4.0, 100)), 400) * 4.0 - plain).abs() < 1e-15);
/// let llama = Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 100 };
/// assert!((slowest(RopeScaling::Llama3(llama), 800) * 8.0 - plain).abs() < 1e-15);
/// let long = LongRope {
///     short_factor: vec![1.0, 1.0],
///     long_factor: vec![1.0, 2.0],
///     original_max_positions: 100,
///     factor: 4.0,
///     attention_factor: None,
/// };
/// assert_eq!(slowest(RopeScaling::LongRope(long.clone()), 100), plain);
/// assert!((slowest(RopeScaling::LongRope(long), 101) * 2.0 - plain).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all: `default`.
    #[default]
    None,
    /// Every frequency divided alike (kaiokendev 2023).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// A larger base, the longer the text (bloc97, emozilla 2023).
    DynamicNtk {
        /// How strongly.
        factor: f64,
        /// The length up to which nothing is changed: `max_position_embeddings`.
        max_positions: usize,
    },
    /// Peng et al. 2023, [arXiv:2309.00071](https://arxiv.org/abs/2309.00071).
    Yarn(Yarn),
    /// Ding et al. 2024, [arXiv:2402.13753](https://arxiv.org/abs/2402.13753).
    LongRope(LongRope),
    /// Llama 3.1.
    Llama3(Llama3),
    /// Each frequency divided by its own number: GGUF's `rope_freqs.weight`.
    PerPair {
        /// One a pair.
        divisors: Vec<f64>,
    },
}

impl RopeScaling {
    /// Whether frequencies depend on the length of the text.
    pub const fn depends_on_length(&self) -> bool {
        matches!(self, RopeScaling::DynamicNtk { .. } | RopeScaling::LongRope(_))
    }
}

/// Parameters of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// Divisor of the slow frequencies.
    pub factor: f64,
    /// The length that the model was first trained for.
    pub original_max_positions: usize,
    /// The factor of cos and sin, where it is given.
    pub attention_factor: Option<f64>,
    /// Else, where both are given and not 0, (0.1 · mscale · ln(factor) + 1) over the same with `mscale_all_dim`:
    /// DeepSeek's variant.
    pub mscale: Option<f64>,
    /// See `mscale`.
    pub mscale_all_dim: Option<f64>,
    /// Turns within the original length from which on a frequency is left alone.
    pub beta_fast: f64,
    /// Turns within the original length below which a frequency is divided by the whole factor.
    pub beta_slow: f64,
    /// Whether the ends of the ramp are rounded to whole pairs; transformers' default, gpt-oss says no.
    pub truncate: bool,
}

impl Yarn {
    /// Everything else at the paper's values.
    pub const fn new(factor: f64, original_max_positions: usize) -> Yarn {
        Yarn {
            factor,
            original_max_positions,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
        }
    }
}

/// Parameters of LongRoPE.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors, one a pair, for texts up to the original length.
    pub short_factor: Vec<f64>,
    /// Divisors, one a pair, for longer ones.
    pub long_factor: Vec<f64>,
    /// The length that the model was first trained for.
    pub original_max_positions: usize,
    /// How much longer it was made: `factor`, or `max_position_embeddings` over the original length.
    pub factor: f64,
    /// The factor of cos and sin, where it is given.
    pub attention_factor: Option<f64>,
}

/// Parameters of Llama 3.1's scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3 {
    /// Divisor of the slow frequencies.
    pub factor: f64,
    /// Turns within the original length below which a frequency is slow.
    pub low_freq_factor: f64,
    /// Turns within the original length above which a frequency is fast.
    pub high_freq_factor: f64,
    /// The length that the model was first trained for.
    pub original_max_positions: usize,
}

/// The frequencies of a configuration, one a pair, and the factor of cos and sin.
pub(super) fn frequencies(config: &RotaryConfig, length: usize) -> Result<(Vec<f64>, f64)> {
    let dim = config.rotary_dim as f64;
    let pairs = config.rotary_dim.div_ceil(2);
    positive("rope_theta", config.theta)?;
    let plain =
        |theta: f64| -> Vec<f64> { (0..pairs).map(|i| pow64(theta, -((2 * i) as f64) / dim)).collect() };
    let mut f = plain(config.theta);
    let mut attention_factor = 1.0;
    match &config.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            positive("factor", *factor)?;
            f.iter_mut().for_each(|f| *f /= factor);
        }
        RopeScaling::DynamicNtk { factor, max_positions } => {
            f = plain(dynamic_base(config, *factor, *max_positions, length)?);
        }
        RopeScaling::Yarn(yarn) => {
            stretch_yarn(yarn, config, &mut f)?;
            attention_factor = yarn_attention(yarn)?;
        }
        RopeScaling::LongRope(long) => {
            one_a_pair("short_factor", &long.short_factor, pairs)?;
            one_a_pair("long_factor", &long.long_factor, pairs)?;
            let stretched = length > long.original_max_positions;
            let list = if stretched { &long.long_factor } else { &long.short_factor };
            divide("longrope's divisor", list, &mut f)?;
            attention_factor = long_attention(long)?;
        }
        RopeScaling::Llama3(llama) => stretch_llama3(llama, &mut f)?,
        RopeScaling::PerPair { divisors } => {
            one_a_pair("rope_freqs", divisors, pairs)?;
            divide("rope_freqs' divisor", divisors, &mut f)?;
        }
    }
    if let Some((i, f)) = f.iter().enumerate().find(|(_, f)| !(f.is_finite() && **f >= 0.0)) {
        return Err(Error::invalid(alloc::format!("the rotary frequency of pair {i} comes to {f}")));
    }
    positive("attention_factor", attention_factor)?;
    Ok((f, attention_factor))
}

fn positive(name: &str, x: f64) -> Result<()> {
    if x > 0.0 && x < f64::INFINITY {
        return Ok(());
    }
    Err(Error::invalid(alloc::format!("{name} is {x}, expected a positive number")))
}

/// At least 2: its logarithm divides.
fn original_length(n: usize) -> Result<f64> {
    if n >= 2 {
        return Ok(n as f64);
    }
    Err(Error::invalid(alloc::format!("original_max_position_embeddings is {n}, expected 2 or more")))
}

fn one_a_pair(name: &str, list: &[f64], pairs: usize) -> Result<()> {
    if list.len() == pairs {
        return Ok(());
    }
    let n = list.len();
    Err(Error::invalid(alloc::format!("{name} has {n} numbers, expected {pairs}, one a pair")))
}

fn divide(name: &str, list: &[f64], f: &mut [f64]) -> Result<()> {
    for (f, &divisor) in f.iter_mut().zip(list) {
        positive(name, divisor)?;
        *f /= divisor;
    }
    Ok(())
}

fn dynamic_base(config: &RotaryConfig, factor: f64, max_positions: usize, length: usize) -> Result<f64> {
    positive("factor", factor)?;
    positive("max_position_embeddings", max_positions as f64)?;
    if config.rotary_dim <= 2 {
        let dim = config.rotary_dim;
        return Err(Error::invalid(alloc::format!(
            "dynamic rope scaling of {dim} dimensions, expected 3 or more"
        )));
    }
    let (dim, max) = (config.rotary_dim as f64, max_positions as f64);
    let length = length.max(max_positions) as f64;
    let base = config.theta * pow64(factor * length / max - (factor - 1.0), dim / (dim - 2.0));
    positive("the stretched rope_theta", base)?;
    Ok(base)
}

fn stretch_yarn(yarn: &Yarn, config: &RotaryConfig, f: &mut [f64]) -> Result<()> {
    positive("factor", yarn.factor)?;
    positive("beta_fast", yarn.beta_fast)?;
    positive("beta_slow", yarn.beta_slow)?;
    let (dim, original) = (config.rotary_dim as f64, original_length(yarn.original_max_positions)?);
    if config.theta <= 1.0 {
        let theta = config.theta;
        return Err(Error::invalid(alloc::format!("rope_theta is {theta}, yarn expects more than 1")));
    }
    // The pair, as a fraction, that makes so many turns within the original length.
    let pair =
        |turns: f64| dim * ln64(original / (turns * core::f64::consts::TAU)) / (2.0 * ln64(config.theta));
    let (mut low, mut high) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (floor(low), -floor(-high));
    }
    low = if low > 0.0 { low } else { 0.0 };
    high = if high < dim - 1.0 { high } else { dim - 1.0 };
    if low == high {
        high += 0.001;
    }
    for (i, f) in f.iter_mut().enumerate() {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        let kept = 1.0 - ramp;
        *f = *f / yarn.factor * (1.0 - kept) + *f * kept;
    }
    Ok(())
}

fn yarn_attention(yarn: &Yarn) -> Result<f64> {
    let of = |mscale: f64| if yarn.factor <= 1.0 { 1.0 } else { 0.1 * mscale * ln64(yarn.factor) + 1.0 };
    if let Some(given) = yarn.attention_factor {
        return Ok(given);
    }
    match (yarn.mscale, yarn.mscale_all_dim) {
        // 0 counts as not given, as it does in Python.
        (Some(m), Some(all)) if m != 0.0 && all != 0.0 => Ok(of(m) / of(all)),
        _ => Ok(of(1.0)),
    }
}

fn long_attention(long: &LongRope) -> Result<f64> {
    if let Some(given) = long.attention_factor {
        return Ok(given);
    }
    positive("factor", long.factor)?;
    let original = original_length(long.original_max_positions)?;
    Ok(if long.factor <= 1.0 { 1.0 } else { sqrt64(1.0 + ln64(long.factor) / ln64(original)) })
}

fn stretch_llama3(llama: &Llama3, f: &mut [f64]) -> Result<()> {
    let Llama3 { factor, low_freq_factor: low, high_freq_factor: high, .. } = *llama;
    positive("factor", factor)?;
    positive("low_freq_factor", low)?;
    positive("high_freq_factor", high)?;
    if high <= low {
        return Err(Error::invalid(alloc::format!("high_freq_factor is {high}, expected more than {low}")));
    }
    let original = original_length(llama.original_max_positions)?;
    for f in f {
        let wavelength = core::f64::consts::TAU / *f;
        if wavelength > original / low {
            *f /= factor;
        } else if wavelength >= original / high {
            let smooth = (original / wavelength - low) / (high - low);
            *f = (1.0 - smooth) * *f / factor + smooth * *f;
        }
    }
    Ok(())
}

/// The largest integer not above x; |x| < 2⁵³.
fn floor(x: f64) -> f64 {
    let cut = x as i64 as f64;
    if cut > x { cut - 1.0 } else { cut }
}
