//! How a GGUF file says that rotary frequencies are stretched.
//!
//! ```text
//!   ARCH.rope.scaling.type      none, linear, yarn, longrope; .factor .original_context_length .attn_factor …
//!   rope_freqs.weight           divisors, one a pair: Llama 3's scaling, its parameters used up
//!   rope_factors_short.weight   LongRoPE's divisors, one a pair, and _long
//!   samebits.rope_scaling       the parameters as `config.json` has them, where a way back needs them
//! ```
//!
//! **YaRN**: ggml multiplies `attn_factor` by 0.1 · ln(factor) + 1, transformers takes its `attention_factor` as it is.

use crate::io::gguf::Gguf;
use crate::io::json;
use crate::kernels::Cpu;
use crate::kernels::math::ln64;
use crate::nn::rotary::{LongRope, RopeScaling, Yarn};
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// The divisors of Llama 3's scaling.
pub(crate) const FREQS: &str = "rope_freqs.weight";
/// LongRoPE's for short texts.
pub(crate) const SHORT: &str = "rope_factors_short.weight";
/// LongRoPE's for long texts.
pub(crate) const LONG: &str = "rope_factors_long.weight";
/// Our own key: JSON.
pub(crate) const EXACT: &str = "samebits.rope_scaling";

/// Whether a tensor is no weight, but belongs to the scaling.
pub(super) fn is_part(name: &str) -> bool {
    [FREQS, SHORT, LONG].contains(&name)
}

/// The scaling of a file of that architecture.
pub(super) fn read(file: &Gguf, name: &str) -> Result<RopeScaling> {
    if let Some(exact) = file.find(EXACT) {
        let object = json::parse(exact.str()?.as_bytes())?;
        return RopeScaling::from_json(object, object);
    }
    let keys = Keys { file, name };
    let key = keys.key("rope.scaling.type");
    let kind = file.find(&key).map(|e| e.str()).transpose()?.unwrap_or("none");
    let has = |name: &str| file.tensor(name).is_ok();
    match (kind, has(FREQS), has(SHORT) || has(LONG)) {
        ("none", false, false) => Ok(RopeScaling::None),
        ("none", true, false) => Ok(RopeScaling::PerPair { divisors: divisors(file, FREQS)? }),
        ("none" | "longrope", false, true) => keys.long_rope().map(RopeScaling::LongRope),
        ("linear", false, false) => Ok(RopeScaling::Linear { factor: keys.needed("rope.scaling.factor")? }),
        ("yarn", false, false) => keys.yarn().map(RopeScaling::Yarn),
        ("none" | "linear" | "yarn" | "longrope", ..) => Err(Error::invalid(format!(
            "rope.scaling.type {kind:?} does not go with the file's rope tensors"
        ))),
        _ => Err(Error::invalid(format!("rope.scaling.type {kind:?} is not known"))),
    }
}

/// A vector of divisors.
fn divisors(file: &Gguf, name: &str) -> Result<Vec<f64>> {
    let view = file.tensor(name)?;
    let mut floats = vec![0.0; view.elements()];
    view.decode(Cpu::detect(), &mut floats)?;
    Ok(floats.into_iter().map(f64::from).collect())
}

struct Keys<'a> {
    file: &'a Gguf,
    name: &'a str,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> alloc::string::String {
        format!("{}.{key}", self.name)
    }

    fn maybe(&self, key: &str) -> Result<Option<f64>> {
        self.file.find(&self.key(key)).map(|e| e.f32().map(f64::from)).transpose()
    }

    fn needed(&self, key: &str) -> Result<f64> {
        self.maybe(key)?.ok_or_else(|| Error::invalid(format!("no metadata {:?}", self.key(key))))
    }

    fn length(&self, key: &str) -> Result<Option<usize>> {
        self.file.find(&self.key(key)).map(|e| e.usize()).transpose()
    }

    /// The length that the model was first trained for, or its own.
    fn original(&self) -> Result<usize> {
        let own = || self.length("context_length");
        let given = self.length("rope.scaling.original_context_length")?;
        given
            .map_or_else(own, |n| Ok(Some(n)))?
            .ok_or_else(|| Error::invalid("no metadata \"context_length\""))
    }

    fn yarn(&self) -> Result<Yarn> {
        for (key, usual) in [("rope.scaling.yarn_log_multiplier", 0.0), ("rope.scaling.yarn_ext_factor", 1.0)]
        {
            if let Some(x) = self.maybe(key)?.filter(|&x| x != usual) {
                return Err(Error::invalid(format!(
                    "metadata {:?} is {x}, which is not known",
                    self.key(key)
                )));
            }
        }
        let usual = Yarn::new(self.needed("rope.scaling.factor")?, self.original()?);
        let own = if usual.factor <= 1.0 { 1.0 } else { 0.1 * ln64(usual.factor) + 1.0 };
        let given = self.maybe("rope.scaling.yarn_attn_factor")?.or(self.maybe("rope.scaling.attn_factor")?);
        Ok(Yarn {
            attention_factor: given.filter(|&x| x != 1.0).map(|x| x * own),
            beta_fast: self.maybe("rope.scaling.yarn_beta_fast")?.unwrap_or(usual.beta_fast),
            beta_slow: self.maybe("rope.scaling.yarn_beta_slow")?.unwrap_or(usual.beta_slow),
            ..usual
        })
    }

    fn long_rope(&self) -> Result<LongRope> {
        let original = self.original()?;
        let context = self.length("context_length")?.unwrap_or(original);
        Ok(LongRope {
            short_factor: divisors(self.file, SHORT)?,
            long_factor: divisors(self.file, LONG)?,
            original_max_positions: original,
            factor: context as f64 / original as f64,
            attention_factor: self.maybe("rope.scaling.attn_factor")?,
        })
    }
}
