//! A CPU numerics engine for language models: the same bits on every instruction set, for any number of
//! threads and any batch size.
//!
//! Without the default feature `std` the crate needs `alloc` alone: no file, thread or clock.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod arena;
#[cfg(feature = "builtin")]
pub mod assets;
#[cfg(feature = "std")]
pub mod bench;
#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod cpu;
mod elements;
pub mod error;
#[cfg(feature = "ffi")]
pub mod ffi;
#[cfg(feature = "std")]
pub mod golden;
pub mod io;
pub mod llm;
pub mod model;
pub mod nn;
pub mod peft;
#[cfg(feature = "std")]
pub mod pool;
#[cfg(feature = "std")]
pub mod rag;
pub mod random;
pub mod run;
#[cfg(feature = "std")]
pub mod serve;
#[cfg(feature = "std")]
mod sys;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
pub use samebits_kernels as kernels;
pub use samebits_kernels::{Cpu, Tier};
