//! Strided tensors.

mod buffer;
mod shape;

pub use buffer::Buffer;
pub use shape::{MAX_RANK, Shape};
