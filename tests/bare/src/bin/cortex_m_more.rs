//! Vectors and a story that is drawn, on a Cortex-M4 without a system.
//!
//!     qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel cortex_m_more
#![no_std]
#![no_main]

#[path = "../start/cortex_m.rs"]
mod start;

use bare::more::{ARENA, program};
