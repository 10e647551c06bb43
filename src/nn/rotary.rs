//! Rotary positions (Su et al. 2021, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864)) and the ways to stretch them.
//!
//! A head's dimensions are turned in pairs by the angle position × frequency, so that the product of a query
//! and a key depends on their distance alone. The kernel is [`crate::kernels::rope`]; here is what a model's
//! configuration says about it:
//!
//! ```text
//!   config.json ─ RotaryConfig ─ length fixed ─► RotaryEmbedding ─ positions ─► RotaryTable ─► rotate q, k
//!   (θ, rotary_dim,              at load        (frequencies in f64,           (cos, sin)
//!    pairing, RopeScaling)                       attention factor)
//! ```
//!
//! **Fixed at load.** Dynamic NTK and LongRoPE choose their frequencies by the length of the text. Here that is
//! one length, given when the embedding is made: were it the number of tokens seen so far, then how a prompt is
//! split would change what was already computed. Hugging Face's habit, to choose anew at every step, can be had
//! by its name, [`PerStepRotary`], and is outside the promise of the same bits.
//!
//! **Precision.** Frequencies, phases, sines and cosines are `f64`; each entry of the table is rounded once.
//! PyTorch computes all of it in `f32`: at position 131,071 its phases are off by up to 0.01, ours by 10⁻¹¹.
//!
//! ```
//! use samebits::{Cpu, kernels::rope::Pairing, nn::rotary::*};
//! let config = RotaryConfig::new(64, 10_000.0, Pairing::Half);
//! let rotary = RotaryEmbedding::new(&config, 2_048)?;
//! let mut table = RotaryTable::new();
//! table.grow(&rotary, 10); // positions 0..10
//! let mut q = vec![1.0; 2 * 4 * 64]; // (2 tokens, 4 heads × 64)
//! rotary.apply(Cpu::detect(), &table, &[0, 9], &mut q);
//! assert_eq!(q[..256], [1.0; 256]); // nothing turns at position 0
//! # Ok::<(), samebits::Error>(())
//! ```

mod config;
mod permute;
mod scaling;
mod step;
mod table;

pub use config::RotaryConfig;
pub use permute::{half_to_interleaved, interleaved_to_half};
pub use scaling::{Llama3, LongRope, RopeScaling, Yarn};
pub use step::PerStepRotary;
pub use table::RotaryTable;

use crate::kernels::rope::{self, Pairing, Rope};
use crate::kernels::view::HeadsMut;
use crate::{Cpu, Error, Result};
use alloc::vec::Vec;

/// What turns the queries and keys of one model: the frequencies of its pairs, fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryEmbedding {
    head_dim: usize,
    pairing: Pairing,
    /// Radians a position, one a pair: what Hugging Face calls `inv_freq`.
    frequencies: Vec<f64>,
    attention_factor: f64,
}

impl RotaryEmbedding {
    /// The frequencies for texts of up to `length` tokens. Only dynamic NTK and LongRoPE read the length.
    ///
    /// # Errors
    /// [`Error::Malformed`] that names the parameter for which the scaling is not defined.
    pub fn new(config: &RotaryConfig, length: usize) -> Result<RotaryEmbedding> {
        let RotaryConfig { head_dim, rotary_dim, pairing, .. } = *config;
        // Of an odd width transformers rounds the pairs up.
        let turned = rotary_dim.div_ceil(2) * 2;
        if turned > head_dim {
            return Err(Error::invalid(alloc::format!(
                "{rotary_dim} rotary dimensions take {turned}, a head has {head_dim}"
            )));
        }
        let (frequencies, attention_factor) = scaling::frequencies(config, length)?;
        Ok(RotaryEmbedding { head_dim, pairing, frequencies, attention_factor })
    }

    /// Radians a position, one for each pair of dimensions that turns.
    pub fn inverse_frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// What cos and sin are multiplied by; 1 but for YaRN and LongRoPE.
    pub const fn attention_factor(&self) -> f64 {
        self.attention_factor
    }

    /// Which dimensions turn together.
    pub const fn pairing(&self) -> Pairing {
        self.pairing
    }

    /// Dimensions of a head.
    pub const fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Dimensions that turn, the first ones of each head.
    pub const fn rotary_dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Positions, from 0 on, whose phases are exact: those up to 2²⁴ radians. At least 2²⁴ where no frequency is
    /// above 1, as nearly always.
    pub fn positions(&self) -> usize {
        let fastest = self.frequencies.iter().fold(1.0 / 256.0, |a, &f| if f > a { f } else { a });
        (f64::from(1 << 24) / fastest) as usize + 1
    }

    /// How to call the kernel: `rows[t]` is the row of the table for token t.
    pub fn rope<'a>(&self, table: &'a RotaryTable, rows: &'a [u32]) -> Rope<'a> {
        Rope { table: table.rows(), pairing: self.pairing, positions: rows }
    }

    /// Turns every head of every token of x, (tokens, heads × head_dim), where it lies; `rows[t]` is the row of
    /// the table for token t: its position, in any order and with repetitions, where the table was
    /// [grown](RotaryTable::grow).
    ///
    /// # Panics
    /// Where x is not one row of whole heads for each token, or a row lies outside the table.
    pub fn apply(&self, cpu: Cpu, table: &RotaryTable, rows: &[u32], x: &mut [f32]) {
        let (tokens, n) = (rows.len(), x.len());
        if n == 0 {
            return;
        }
        let a_token = tokens * self.head_dim;
        assert!(
            a_token > 0 && n.is_multiple_of(a_token),
            "{n} elements for {tokens} tokens and heads of {} dimensions",
            self.head_dim
        );
        let x = HeadsMut::by_token(x, tokens, n / a_token, self.head_dim);
        rope::in_place(cpu, &self.rope(table, rows), x);
    }
}

/// Turns x, (tokens, heads × head_dim), by its tokens' positions, with the paper's frequencies θ^(−2i/head_dim) and
/// no scaling: [`RotaryEmbedding`] in one call, for one use.
///
/// # Panics
/// Where x is not one row of whole heads for each position, `head_dim` is odd, θ is not a positive number, or a
/// position lies past 2²⁴ radians.
///
/// ```
/// use samebits::{Cpu, kernels::rope::Pairing, nn::rotary_positional_embedding};
/// let mut x = [1.0, 0.0, 1.0, 0.0]; // one token, one head of 4
/// rotary_positional_embedding(Cpu::detect(), &mut x, &[1], 4, Pairing::Interleaved, 10_000.0);
/// assert_eq!(x, [0.540_302_3, 0.841_470_96, 0.999_95, 0.009_999_833]);
/// ```
pub fn rotary_positional_embedding(
    cpu: Cpu,
    x: &mut [f32],
    positions: &[u32],
    head_dim: usize,
    pairing: Pairing,
    theta: f64,
) {
    assert!(head_dim.is_multiple_of(2), "a head of {head_dim} dimensions has no pairs");
    let config = RotaryConfig::new(head_dim, theta, pairing);
    let rotary = RotaryEmbedding::new(&config, 0).unwrap_or_else(|e| panic!("{e}"));
    let mut table = RotaryTable::new();
    table.fill(&rotary, positions);
    let rows: Vec<u32> = (0..positions.len() as u32).collect();
    rotary.apply(cpu, &table, &rows, x);
}
