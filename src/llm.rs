//! The parts of a language model under the names of the field's teaching texts.
//!
//! Everything here lives elsewhere too, beside what it is made of: see [`nn`](crate::nn).
//!
//! ```
//! use samebits::llm::attention::{FeedForwardNetwork, LayerNorm, MultiHeadAttention, TransformerBlock};
//! use samebits::llm::attention::{rotary_positional_embedding, sinusoidal_positional_encoding};
//! let encoding = sinusoidal_positional_encoding(&[0, 1], 4);
//! assert_eq!(encoding[..4], [0.0, 1.0, 0.0, 1.0]);
//! ```

/// Attention and the layers around it.
pub mod attention {
    pub use crate::nn::{
        FeedForwardNetwork, LayerNorm, MultiHeadAttention, RmsNorm, RotaryEmbedding, TransformerBlock,
        rotary_positional_embedding, scaled_dot_product_attention, sinusoidal_positional_encoding,
    };
}

/// Fine-tuning a small part of a large model.
///
/// What QLoRA keeps of a weight:
/// ```
/// use samebits::{Cpu, llm::fine_tuning::{dequantize_nf4, quantize_nf4}};
/// let (w, mut codes, mut absmax, mut back) = ([0.5, -0.5, 0.0, 0.1], [0; 2], [0.0], [0.0; 4]);
/// quantize_nf4(Cpu::detect(), &w, 64, &mut codes, &mut absmax).unwrap();
/// dequantize_nf4(Cpu::detect(), &codes, &absmax, 64, &mut back);
/// assert_eq!(back[..3], w[..3]); // the ends and zero are levels
/// assert!((back[3] - w[3]).abs() < 0.03);
/// ```
pub mod fine_tuning {
    pub use crate::kernels::nf4::{dequantize as dequantize_nf4, quantize as quantize_nf4};
    pub use crate::peft::{AdapterLayer, LinearWithLora, LoraLayer};
}

/// Retrieval-augmented generation.
#[cfg(feature = "std")]
pub mod rag {
    pub use crate::rag::{
        Chunk, ContextAssembler, Document, EmbeddingModel, Index, RagPipeline, Reranker, Retriever,
        TextChunker,
    };
}
