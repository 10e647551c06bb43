//! Training: what happens between a gradient and the next weights.
//!
//! ```text
//!   loss ─► backward ─► gradients ─► norm, clipping ─► optimizer ─► weights
//!                                                         ▲
//!                                      schedule ─ rate ───┘
//! ```
//!
//! **Law.**  Clause 9 for the global norm, clause 3 for the rest: the same weights on every tier, for any number of
//! threads, after a stop and a start.

#[cfg(feature = "std")]
mod checkpoint;
pub mod data;
mod exact;
mod memory;
pub mod optimizer;
pub mod schedule;
mod trainer;

pub use exact::exact_matches;
pub use memory::Memory;
pub use optimizer::{Method, Optimizer, Outcome, Parameter};
pub use schedule::{Curve, Schedule, Shape};
pub use trainer::{Loss, Plan, Report, Trainer};
