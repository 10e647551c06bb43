//! What the page of `samebits site` runs in a reader's browser: kernels with neither a system nor an allocator, behind
//! functions that take and give numbers alone.
//!
//! ```text
//!   cases()                     how many there are
//!   text(i, 0 | 1), text_len    the name of case i among the golden ones, and its unit
//!   hash(i, tier)               the hash of its result; tier 0 is the scalar one, 1 simd128
//!   repeat(i, tier, n)          does a larger piece of its work n times
//!   amount(i)                   billionths of the unit that one such piece is
//! ```
#![no_std]
#![deny(missing_docs)]

mod cases;
mod room;

use cases::{CASES, Case};
use room::Room;
use samebits_kernels::{Cpu, Line, Tier};

/// What cases compute in.
const LINES: usize = 1 << 16;

static mut MEMORY: [Line; LINES] = [Line::ZERO; LINES];

/// Memory for a case.
fn room() -> Room<'static> {
    // SAFETY: a module has one thread, and every function below lets go of the memory before it returns.
    Room::new(unsafe { &mut *(&raw mut MEMORY) })
}

fn case(i: u32) -> &'static Case {
    &CASES[i as usize % CASES.len()]
}

fn cpu(tier: u32) -> Cpu {
    let tier = if tier == 0 { Tier::Scalar } else { Tier::Simd128 };
    Cpu::with_tier(tier).unwrap_or_else(Cpu::detect)
}

/// Number of cases.
#[unsafe(no_mangle)]
pub extern "C" fn cases() -> u32 {
    CASES.len() as u32
}

fn words(i: u32, which: u32) -> &'static str {
    if which == 0 { case(i).name } else { case(i).unit }
}

/// Where a text of case `i` begins: its name, its unit.
#[unsafe(no_mangle)]
pub extern "C" fn text(i: u32, which: u32) -> *const u8 {
    words(i, which).as_ptr()
}

/// Bytes of that text.
#[unsafe(no_mangle)]
pub extern "C" fn text_len(i: u32, which: u32) -> u32 {
    words(i, which).len() as u32
}

/// The hash of what case `i` computes.
#[unsafe(no_mangle)]
pub extern "C" fn hash(i: u32, tier: u32) -> u64 {
    (case(i).hash)(cpu(tier), room())
}

/// Does the timed work of case `i`, `n` times.
#[unsafe(no_mangle)]
pub extern "C" fn repeat(i: u32, tier: u32, n: u32) {
    (case(i).repeat)(cpu(tier), room(), n);
}

/// What doing it once is, in billionths of the unit.
#[unsafe(no_mangle)]
pub extern "C" fn amount(i: u32) -> f64 {
    case(i).amount
}

#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
