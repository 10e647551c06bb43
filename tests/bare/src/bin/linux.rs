//! The story on Linux, with nothing of the standard library: the smallest program.
#![no_std]
#![no_main]

#[path = "../start/linux.rs"]
mod start;

use bare::story::{ARENA, program};
