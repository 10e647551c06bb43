//! What the programs of this crate do, each with a model that lies where the program does: [`story`] and [`more`].
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

pub mod more;
pub mod story;

use core::fmt::{Result as Written, Write};
use samebits::arena::Arena;
use samebits::{Cpu, Error};

/// A type at the beginning of a cache line.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

/// FNV-1a over the bits of `floats`, after what `hash` is of.
fn hashed(hash: u64, floats: &[f32]) -> u64 {
    let bytes = floats.iter().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The hash of nothing.
const NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

fn said(written: Written) -> Result<(), Error> {
    written.map_err(|_| Error::invalid("nobody listens"))
}

/// Writes what was taken of an arena of `lines`.
fn report(heap: &Arena, lines: usize, cpu: Cpu, out: &mut dyn Write) -> Result<(), Error> {
    said(writeln!(out, "tier {}, arena {} of {} bytes", cpu.tier(), heap.most(), lines * 64))
}
