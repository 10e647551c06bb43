//! The one danger of kernels written once for all tiers: a helper without `#[inline(always)]` is compiled
//! without the tier's instructions, computes the same bits, and is 35 times slower. This test notices.
//!
//! On every SIMD tier gemm, attention, softmax and NF4 must run at least four times as fast as a plain Rust
//! loop, and no kernel slower than it. The best of several samples counts, taken in turn, so that a busy
//! machine does not fail it.

mod common;

use common::{Cpu, simd_cpus};
use samebits::bench::ceiling::Ceilings;
use samebits::bench::measure::{Effort, measure};
use samebits::bench::rows::{Case, Entry, Inputs, entries};
use samebits::bench::shape;
use samebits::pool::Pool;

/// What a kernel must reach, as a multiple of the plain loop.
fn floor(entry: &Entry) -> f64 {
    let fast = ["gemm", "attention", "softmax", "nf4"];
    match entry.name {
        // Writing its output binds: the plain loop reaches a third of that.
        "nf4_dequantize" => 1.5,
        // Reading the cache of keys and values binds: no slower than the plain loop is all that can be asked.
        name if name.starts_with("attention_decode") => 1.0,
        // The tile of AVX2 is at two thirds of the multiply-adds (two chains, a shift and a mask for each word of B); the plain
        // loop, which widens nothing, at a fifth.
        "gemm_bf16" => 2.5,
        // A binary search selects four times an element, and `vblendvps` takes three operations on newer Intel processors:
        // AVX2 stands just at four times there.
        "nf4_quantize" => 3.0,
        // Products of 32³: as much of the time goes into packing and edges as into the tile.
        "gemm_each" => 1.2,
        name if fast.iter().any(|fast| name.starts_with(fast)) => 4.0,
        // What memory binds ties with a loop that the compiler vectorises; a sample has noise.
        _ => 0.85,
    }
}

/// In the caches, where a lost instruction shows.
fn dims(entry: &Entry) -> &'static [usize] {
    match entry.name {
        // Large enough that packing is no part of it that counts.
        "gemm" | "gemm_packed" => &[256, 256, 256],
        // With few rows the turning of W is a tenth of the time, and the tile in AVX2 just four times the plain loop.
        "gemm_dx" => entry.shapes.first().expect("checked by tests/bench.rs"),
        _ => entry.shapes.last().expect("checked by tests/bench.rs"),
    }
}

#[test]
fn no_kernel_has_lost_its_instructions() {
    if common::slow() {
        eprintln!("skipped: needs a release build on a real machine");
        return;
    }
    let (pool, mut ceilings) = (Pool::new(1), Ceilings::default());
    let mut slow = Vec::new();
    for entry in entries() {
        let mut case = Case::new(entry, dims(entry), &mut Inputs::new(1, Cpu::detect()));
        for cpu in simd_cpus() {
            let mut best: f64 = 0.0;
            for _attempt in 0..6 {
                let m = &measure(&mut case, &[cpu], &pool, &mut ceilings, Effort { seconds: 0.06 })[0];
                best = best.max(m.rate.max / m.plain.max);
                if best >= floor(entry) {
                    break;
                }
            }
            if best < floor(entry) {
                let name = format!("{} {} on {}", entry.name, shape(dims(entry)), cpu.tier());
                slow.push(format!("{name}: {best:.2} × plain, at least {}", floor(entry)));
            }
        }
    }
    assert!(slow.is_empty(), "lost #[inline(always)]?\n{}", slow.join("\n"));
}
