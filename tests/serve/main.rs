//! `serve`: the parser alone, the server under those who mean no good, and its answers.

mod answers;
mod attacks;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod page;
mod parser;
mod within;
