//! What the tests of several kernels share.
#![allow(dead_code, unused_imports)] // each test file uses its own part

#[cfg(target_os = "linux")]
pub mod cases;
pub mod chains;
pub mod collection;
pub mod differences;
pub mod elementary;
pub mod formats;
#[cfg(target_os = "linux")]
pub mod guard;
pub mod large;
pub mod layouts;
pub mod program;
pub mod truth;

pub use samebits::golden::{Random, hash};
pub use samebits::{Cpu, Tier};

/// Every tier of this machine, slowest first; with `SAMEBITS_TIER`, that one alone. A tier that
/// `SAMEBITS_REQUIRE` names and that is missing fails the test: no job passes by skipping.
pub fn cpus() -> Vec<Cpu> {
    let mut all: Vec<Cpu> = Cpu::all().collect();
    if let Ok(required) = std::env::var("SAMEBITS_REQUIRE") {
        for name in required.split(',').filter(|n| !n.is_empty()) {
            let tier = Tier::from_name(name).unwrap_or_else(|| panic!("SAMEBITS_REQUIRE: no tier {name:?}"));
            assert!(all.iter().any(|c| c.tier() == tier), "SAMEBITS_REQUIRE: this machine lacks {tier}");
        }
    }
    if let Ok(forced) = std::env::var("SAMEBITS_TIER") {
        let name = forced.split(',').next().unwrap_or_default(); // what follows lowers extras
        all.retain(|c| c.tier().name() == name);
        assert!(!all.is_empty(), "SAMEBITS_TIER: {name:?} does not run here");
    }
    all
}

/// The same, each with all extras that this machine has beside it and again without any: kernels with a way of their
/// own for an extra (VNNI, DotProd, I8MM beside it) are held to each.
pub fn variants() -> Vec<Cpu> {
    let tiers: Vec<Tier> = cpus().iter().map(|cpu| cpu.tier()).collect();
    let all = samebits::cpu::all().filter(|cpu| tiers.contains(&cpu.tier()));
    let lowered = |cpu: Cpu| {
        let fewer = cpu.without(|f| f.i8mm = false);
        let between = (fewer.features() != cpu.features()).then_some(fewer);
        let least = cpu.without(|f| (f.avx512_vnni, f.avx_vnni, f.dotprod) = (false, false, false));
        [Some(cpu), between, Some(least)].into_iter().flatten()
    };
    all.flat_map(lowered).collect()
}

/// Only the SIMD tiers, for sweeps that the scalar tier is too slow for.
pub fn simd_cpus() -> Vec<Cpu> {
    cpus().into_iter().filter(|c| c.tier() != Tier::Scalar).collect()
}

/// Whether this build or machine is slow (debug, or an emulator): sweeps then run a listed subset.
pub fn slow() -> bool {
    cfg!(debug_assertions) || std::env::var_os("SAMEBITS_SLOW").is_some()
}

/// Equal bits, or both NaN.
#[track_caller]
pub fn assert_same(got: &[f32], want: &[f32], what: impl std::fmt::Display) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan();
        assert!(
            same,
            "{what}: element {i} is {g:e} ({:#010x}), want {w:e} ({:#010x})",
            g.to_bits(),
            w.to_bits()
        );
    }
}

/// The unit roundoff of `f32`.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Bit patterns that kernels trip over: zeros, subnormals, ends of the range, infinities, NaN.
pub const SPECIALS: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007f_ffff),
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    -f32::NAN,
    8_388_609.0,
    0.499_999_97,
];
