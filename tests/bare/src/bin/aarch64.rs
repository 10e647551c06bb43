//! The story on a 64-bit ARM processor without a system.
//!
//!     qemu-system-aarch64 -M virt -cpu cortex-a53 -m 64M -nic none -nographic -semihosting -kernel aarch64
#![no_std]
#![no_main]

#[path = "../start/aarch64.rs"]
mod start;

use bare::story::{ARENA, program};
