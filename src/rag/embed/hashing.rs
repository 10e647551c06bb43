//! Vectors without a model: signed counts of words and of their parts, by hash.
//!
//! ```text
//!   features of a text: each word;  each run of 3, 4 and 5 characters of ␂word␃, all n of a word weighing 1 / √n
//!   x[h mod dim] += sign(h) · √(how often the feature comes) · weight;      x / ‖x‖
//! ```
//!
//! Two texts are alike where they share words, or words that are written alike. Features that fall on the same component
//! cancel as often as they add (Weinberger et al. 2009, *Feature hashing for large scale multitask learning*).

use super::EmbeddingModel;
use crate::golden::Hash;
use crate::model::to_length_one;
use crate::rag::Analyzer;
use crate::run::Run;
use crate::{Error, Result};

/// Embeds with hashes of words and of parts of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingEmbedder {
    analyzer: Analyzer,
    dim: usize,
}

/// Characters of a part of a word.
const PARTS: std::ops::RangeInclusive<usize> = 3..=5;

/// Something that a text has: its hash, and its weight as bits, by which equals are found.
type Feature = (u64, u32);

impl HashingEmbedder {
    /// Vectors of `dim` components from the terms of `analyzer`.
    ///
    /// # Errors
    /// Where `dim` is 0 or above 2²⁴.
    pub fn new(analyzer: Analyzer, dim: usize) -> Result<HashingEmbedder> {
        if dim == 0 || dim > 1 << 24 {
            return Err(Error::invalid(format!("{dim} components, not from 1 to {}", 1 << 24)));
        }
        Ok(HashingEmbedder { analyzer, dim })
    }

    fn features(&self, text: &str) -> Vec<Feature> {
        let mut features = Vec::new();
        self.analyzer.each_term(text, &mut |term| {
            features.push((hashed(term.as_bytes()), 1f32.to_bits()));
            let framed = format!("\u{2}{term}\u{3}");
            let ends: Vec<usize> = framed.char_indices().map(|(at, _)| at).chain([framed.len()]).collect();
            let parts = PARTS.flat_map(|n| ends.windows(n + 1).map(move |w| (w[0], w[n])));
            let parts: Vec<u64> = parts.map(|(a, b)| hashed(&framed.as_bytes()[a..b])).collect();
            let weight = (1.0 / (parts.len() as f32).sqrt()).to_bits();
            features.extend(parts.into_iter().map(|part| (part, weight)));
        });
        features.sort_unstable();
        features
    }
}

/// FNV's low bits are as good as its high ones are not: mixed once more, for both are used.
fn hashed(bytes: &[u8]) -> u64 {
    let hash = Hash::default().bytes(bytes).0;
    let hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

impl EmbeddingModel for HashingEmbedder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&self, run: &Run<'_>, texts: &[&str]) -> Result<Vec<f32>> {
        let mut out = vec![0.0f32; texts.len() * self.dim];
        let cpu = run.cpu();
        run.pieces(texts.iter().zip(out.chunks_exact_mut(self.dim)), |(text, out), _| {
            for same in self.features(text).chunk_by(|a, b| a == b) {
                let (hash, weight) = same[0];
                let value = (same.len() as f32).sqrt() * f32::from_bits(weight);
                let place = (u128::from(hash) * self.dim as u128 >> 64) as usize;
                out[place] += if hash & 1 == 0 { value } else { -value };
            }
            to_length_one(cpu, out);
        });
        Ok(out)
    }

    fn name(&self) -> String {
        format!("hashing:{}:{:?}", self.dim, self.analyzer)
    }
}
