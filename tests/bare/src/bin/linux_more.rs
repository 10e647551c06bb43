//! Vectors and a story that is drawn, on Linux, with nothing of the standard library.
#![no_std]
#![no_main]

#[path = "../start/linux.rs"]
mod start;

use bare::more::{ARENA, program};
