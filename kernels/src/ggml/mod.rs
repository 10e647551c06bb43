//! # The block formats of ggml
//!
//! **Math.**  A row is cut into blocks of 32 or 256 elements. A block stores a scale d (and a minimum m, or small
//! whole scales of its parts) and a few bits q of each element; an element is d · q, or d · q + m (`block.rs`,
//! `k_block.rs`).
//!
//! **Law.**   Clause 1's "a stored weight is first decoded to one `f32`, each multiplication and addition
//! rounded", in the order of ggml's scalar `dequantize_row_*`. All after that is gemm's law: a product with
//! packed blocks, with rows of blocks, and decode followed by gemm have the same bits.
//!
//! ```text
//!   a row        ┌──────────┬──────────┬── … ─┐      blocks of Format::block_bytes bytes
//!                │ d q q q… │ d q q q… │      │
//!   decoded      x₀ x₁ … x₃₁│x₃₂ …                   sixteen at a time, one scale for all sixteen
//! ```
//!
//! Products take rows as they stand in a file ([`Rows`], any format: decoded 256 of k at a time to L1), or Q8_0,
//! Q4_0 and IQ4_NL repacked once into panels of sixteen columns ([`Packed8`], [`Packed4`]: decoded in registers).
//!
//! **Registers.**  decoding: d, m, the bits, their masks: 6 words; a panel: see `panel.rs`.
//!
//! **Cost.**  Bits an element: Q8_0 8.5 · Q8_K 9.1 · Q6_K 6.6 · Q5_0 5.5 · Q5_1 6 · Q5_K 5.5 · Q4_0 4.5 · IQ4_NL 4.5 ·
//! Q4_1 5 · Q4_K 4.5 · Q3_K 3.4 · Q2_K 2.6. Decoding sixteen takes 4 to 8 operations.
//!
//! **Error.**  None in decoding but for Q6_K, Q8_K (½ ulp of the product) and the sums of the formats with a
//! minimum (½ ulp). Quantising to Q8_0: |x − decoded| ≤ 0.502 d + 2⁻¹¹ |x|; to Q4_0 ≤ d (d = largest / −8).
//!
//! **Reference.**  github.com/ggml-org/ggml, `ggml-common.h`, `ggml-quants.c`.   **Next.**  `block.rs`
//!
//! ```
//! use samebits_kernels::ggml::{Format, IQ4_NL_LEVELS, dequantize, quantize_q4_0, quantize_q8_0};
//! use samebits_kernels::Cpu;
//! let (cpu, x) = (Cpu::detect(), core::array::from_fn::<f32, 32, _>(|i| i as f32 * 4.0 - 127.0));
//! let (mut eight, mut four) = (vec![0; Format::Q8_0.bytes(32)], vec![0; Format::Q4_0.bytes(32)]);
//! quantize_q8_0(cpu, &x, &mut eight).unwrap();
//! quantize_q4_0(cpu, &x, &mut four).unwrap();
//! assert_eq!((eight.len(), four.len()), (34, 18)); // a half for the scale, then codes
//! let mut y = [0.0; 32];
//! dequantize(cpu, Format::Q8_0, &eight, &mut y);
//! assert_eq!(y, x); // whole numbers up to 127: the scale is 1
//! dequantize(cpu, Format::Q4_0, &four, &mut y);
//! assert!(y.iter().zip(x).all(|(y, x)| (y - x).abs() <= 127.0 / 8.0));
//! assert_eq!(quantize_q8_0(cpu, &[f32::NAN; 32], &mut eight).unwrap_err().index, 0);
//! assert!(IQ4_NL_LEVELS.is_sorted()); // another format of four bits, in uneven steps
//! ```

mod block;
mod dequantize;
mod k_block;
mod panel;
mod quantize;
mod rows;

pub use block::IQ4_NL_LEVELS;
pub use dequantize::dequantize;
pub(crate) use k_block::scales_and_minima;
pub use panel::{Code8, HalfLine, Packed4, Packed8, code_len, scale_len};
pub use quantize::{quantize_q4_0, quantize_q8_0};
pub use rows::Rows;

/// A format of blocks, under ggml's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // ggml's own names
pub enum Format {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Iq4Nl,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 12] = {
        use Format::*;
        [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Iq4Nl, Q2K, Q3K, Q4K, Q5K, Q6K, Q8K]
    };

    /// Elements a block: 32 or 256.
    pub const fn block_len(self) -> usize {
        use Format::*;
        match self {
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Iq4Nl => 32,
            Q2K | Q3K | Q4K | Q5K | Q6K | Q8K => 256,
        }
    }

    /// Bytes a block.
    pub const fn block_bytes(self) -> usize {
        use Format::*;
        match self {
            Q4_0 | Iq4Nl => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q8_0 => 34,
            Q2K => 84,
            Q3K => 110,
            Q4K => 144,
            Q5K => 176,
            Q6K => 210,
            Q8K => 292,
        }
    }

    /// Bytes of `len` elements, a multiple of [`Format::block_len`].
    pub const fn bytes(self, len: usize) -> usize {
        len / self.block_len() * self.block_bytes()
    }

    /// ggml's name: `Q4_K`.
    pub const fn name(self) -> &'static str {
        use Format::*;
        match self {
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Iq4Nl => "IQ4_NL",
            Q2K => "Q2_K",
            Q3K => "Q3_K",
            Q4K => "Q4_K",
            Q5K => "Q5_K",
            Q6K => "Q6_K",
            Q8K => "Q8_K",
        }
    }
}

impl core::fmt::Display for Format {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}
