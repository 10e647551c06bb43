//! Prefix tuning: learned keys and values before the text (Li, Liang 2021).
//!
//! ```text
//!   cache of layer l   │ prefix k, v (tokens, dim) │ k, v of the text …
//! ```

use super::config::PrefixConfig;
use crate::kernels::Cpu;
use crate::nn::KeyValueStore;
use alloc::vec::Vec;

/// Keys and values of some tokens that stand before every text.
///
/// ```
/// use samebits::model::{CacheType, LayerCache};
/// use samebits::nn::KeyValueStore;
/// use samebits::peft::{Prefix, config::PrefixConfig};
/// // One token, two layers, a head of one component: its key and value of each.
/// let prefix = Prefix::new(PrefixConfig { tokens: 1, layers: 2, dim: 1 }, vec![0.1, 0.2, 0.3, 0.4]);
/// assert_eq!(prefix.layer(1), [[0.3], [0.4]]);
/// let mut cache = LayerCache::new(CacheType::F32, 1, 1, None, 8);
/// prefix.fill(samebits::Cpu::detect(), 1, &mut cache);
/// assert_eq!(cache.values().get([0, 0, 0, 0]), 0.4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Prefix {
    config: PrefixConfig,
    /// (tokens, layers, 2, dim), as peft stores them.
    values: Vec<f32>,
}

impl Prefix {
    /// Of (tokens, layers · 2 · dim) numbers: for each token and layer its key, then its value.
    ///
    /// # Panics
    /// Where there are more or fewer.
    pub fn new(config: PrefixConfig, values: Vec<f32>) -> Prefix {
        let PrefixConfig { tokens, layers, dim } = config;
        assert!(values.len() == tokens * layers * 2 * dim, "{} numbers for {config:?}", values.len());
        Prefix { config, values }
    }

    /// Its extents.
    pub const fn config(&self) -> PrefixConfig {
        self.config
    }

    /// (tokens, layers · 2 · dim).
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The keys and the values of a layer, (tokens, dim) each.
    ///
    /// # Panics
    /// Where there is no such layer.
    pub fn layer(&self, layer: usize) -> [Vec<f32>; 2] {
        let PrefixConfig { layers, dim, .. } = self.config;
        assert!(layer < layers, "layer {layer} of {layers}");
        [0, 1].map(|side| {
            let tokens = self.values.chunks_exact((layers * 2 * dim).max(1));
            tokens.flat_map(|token| &token[(2 * layer + side) * dim..][..dim]).copied().collect()
        })
    }

    /// Puts keys and values of a layer into a cache that is still empty.
    ///
    /// # Panics
    /// Where there is no such layer.
    pub fn fill(&self, cpu: Cpu, layer: usize, cache: &mut dyn KeyValueStore) {
        let [k, v] = self.layer(layer);
        cache.push(cpu, &k, &v);
    }
}
