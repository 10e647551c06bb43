//! Vectors and a story that is drawn, on a 64-bit ARM processor without a system.
//!
//!     qemu-system-aarch64 -M virt -cpu cortex-a53 -m 64M -nic none -nographic -semihosting -kernel aarch64_more
#![no_std]
#![no_main]

#[path = "../start/aarch64.rs"]
mod start;

use bare::more::{ARENA, program};
