//! The story on a Cortex-M4 without a system.
//!
//!     qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel cortex_m
#![no_std]
#![no_main]

#[path = "../start/cortex_m.rs"]
mod start;

use bare::story::{ARENA, program};
