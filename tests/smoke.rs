//! One small case of every kernel on the tier that detection chose: little enough for a slow emulator, so that
//! CI runs it on processors that it does not have. `SAMEBITS_EXPECT_TIER` names the tier that must be found.

mod common;

use std::collections::BTreeSet;

#[test]
fn the_detected_tier_is_the_expected_one() {
    let tier = common::Cpu::detect().tier();
    match std::env::var("SAMEBITS_EXPECT_TIER") {
        Ok(expected) => assert_eq!(tier.name(), expected),
        Err(_) => eprintln!("detected {tier}; SAMEBITS_EXPECT_TIER is not set, so any tier will do"),
    }
}

#[test]
fn the_first_golden_case_of_every_kernel() {
    let cpu = common::Cpu::detect();
    let mut seen = BTreeSet::new();
    for case in samebits::golden::cases() {
        let kernel = case.name.split('/').next().unwrap_or_default();
        if seen.insert(kernel) {
            assert_eq!((case.run)(cpu), case.hash, "{} on {}", case.name, cpu.tier());
        }
    }
    assert!(
        seen.contains("gemm") && seen.contains("attention"),
        "{seen:?}: what was to be proven did not run"
    );
    eprintln!("{}: {} kernels have the committed bits", cpu.tier(), seen.len());
}
