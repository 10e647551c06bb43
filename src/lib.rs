//! A CPU numerics engine for language models: the same bits on every instruction set, for any number of
//! threads and any batch size.
#![deny(unsafe_code)]

#[cfg(feature = "std")]
pub mod golden;

pub use samebits_kernels as kernels;
pub use samebits_kernels::{Cpu, Tier};
