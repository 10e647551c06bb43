//! Layers: shapes, weights and calls of kernels; no arithmetic of their own.
//!
//! Every layer is usable alone. Activations are rows, (tokens, features), gapless; sequences of a batch lie end
//! to end. A layer takes a [`Run`](crate::run::Run), which says who computes, reads its input, writes its
//! output, and takes what it needs in between from a caller's [`Room`]: no file, clock, thread or hidden
//! allocation. Weights are packed once when a layer is made.
//!
//! ```text
//!   Embedding ─► TransformerBlock × n ─► LayerNorm / RmsNorm ─► Linear (head)
//!                  │  norm ─► MultiHeadAttention ─┐
//!                  │  x + … ◄─────────────────────┘
//!                  │  norm ─► FeedForwardNetwork ─┐
//!                  │  x + … ◄─────────────────────┘
//! ```
//!
//! **Law.** The kernels'. Rows never meet but in attention, and there only rows of one sequence: so a batch, a
//! split of the prompt or a cache cannot change a bit.

pub mod adapter;
mod add;
mod attention;
mod block;
mod compute;
mod embedding;
mod feed_forward;
pub(crate) mod flat;
mod gradients;
mod linear;
mod norm;
pub mod position;
mod product;
mod room;
pub mod rotary;
mod trained;
mod weight;

pub(crate) use add::add;
pub use attention::{
    AttentionCache, AttentionKernel, KeyValueStore, KeyValues, Mixing, MultiHeadAttention, Prefix,
    attention_with_weights, scaled_dot_product_attention,
};
pub use block::{BlockCache, CrossAttention, Memory, Part, Pass, Placement, TransformerBlock};
pub use compute::{Arithmetic, Compute};
pub use embedding::Embedding;
pub use feed_forward::{FeedForwardCache, FeedForwardNetwork};
pub use gradients::{
    NormKind, attention_gradients, bias_gradient, embedding_gradient, input_gradient,
    input_gradient_low_rank, norm_gradient, norm_weight_gradient, weight_gradient,
};
pub(crate) use linear::products_train;
pub use linear::{Linear, Product, products};
pub use norm::{LayerNorm, Norm, RmsNorm, Vector};
pub use position::sinusoidal_positional_encoding;
pub use room::Room;
pub use rotary::{RopeScaling, RotaryConfig, RotaryEmbedding, RotaryTable, rotary_positional_embedding};
pub use trained::{Gradients, Scope};
pub use weight::{Forms, Stored, Weight};
