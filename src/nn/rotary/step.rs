//! Hugging Face's habit of choosing the scaling anew at every call.

use super::{RopeScaling, RotaryConfig, RotaryEmbedding};
use crate::Result;

/// Frequencies that follow the length of the text, as `dynamic_rope_update` of transformers does it: LongRoPE takes
/// its long list as soon as a call reaches past the original length; dynamic NTK stretches to the longest call so
/// far and returns to the original where a call is shorter than that.
///
/// **Outside the promise of the same bits**: keys in the cache keep the frequencies of the call that wrote them,
/// so the result depends on how the text was split into calls.
///
/// ```
/// use samebits::{kernels::rope::Pairing, nn::rotary::*};
/// let scaling = RopeScaling::DynamicNtk { factor: 2.0, max_positions: 16 };
/// let config = RotaryConfig { scaling, ..RotaryConfig::new(8, 10_000.0, Pairing::Half) };
/// let mut rotary = PerStepRotary::new(config)?;
/// let short = rotary.at_length(9)?.clone();
/// assert!(rotary.at_length(24)?.inverse_frequencies()[1] < short.inverse_frequencies()[1]);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PerStepRotary {
    config: RotaryConfig,
    /// The length for which `current` was made.
    length: usize,
    current: RotaryEmbedding,
}

impl PerStepRotary {
    /// Starts as transformers does: at the original length.
    ///
    /// # Errors
    /// Those of [`RotaryEmbedding::new`].
    pub fn new(config: RotaryConfig) -> Result<PerStepRotary> {
        let length = original(&config.scaling);
        let current = RotaryEmbedding::new(&config, length)?;
        Ok(PerStepRotary { config, length, current })
    }

    /// The embedding for a call whose last position is `length − 1`.
    ///
    /// # Errors
    /// Those of [`RotaryEmbedding::new`].
    pub fn at_length(&mut self, length: usize) -> Result<&RotaryEmbedding> {
        let original = original(&self.config.scaling);
        let next = match self.config.scaling {
            RopeScaling::LongRope(_) => length,
            RopeScaling::DynamicNtk { .. } if length > self.length => length,
            RopeScaling::DynamicNtk { .. } if length < original => original,
            _ => self.length,
        };
        if next != self.length {
            self.current = RotaryEmbedding::new(&self.config, next)?;
            self.length = next;
        }
        Ok(&self.current)
    }
}

/// The length that a model was trained for, where its scaling depends on one.
fn original(scaling: &RopeScaling) -> usize {
    match scaling {
        RopeScaling::DynamicNtk { max_positions, .. } => *max_positions,
        RopeScaling::LongRope(long) => long.original_max_positions,
        _ => 0,
    }
}
