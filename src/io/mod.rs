//! Files of the field, read and written strictly.
//!
//! Parsers work on bytes in memory, allocate no more than in proportion to them and answer malformed input
//! with an [`Error`](crate::Error) that says which byte breaks which rule.

#[cfg(feature = "std")]
pub mod atomic;
pub mod bitsandbytes;
#[cfg(feature = "std")]
pub mod bytes;
pub mod checksum;
pub(crate) mod flat;
pub mod gguf;
pub mod json;
mod kind;
pub mod llama2c;
mod nearest;
pub mod safetensors;
pub mod tokenizer;
