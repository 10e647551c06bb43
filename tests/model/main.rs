//! Models: trained ones against the text and the vectors that others get from them, and the same bits for any
//! batch, split, number of threads and tier.

#[path = "../common/mod.rs"]
mod common;

mod cache;
mod compute;
mod minilm;
mod reference;
mod stories;
