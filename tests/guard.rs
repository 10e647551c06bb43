//! No kernel reads or writes one byte outside its slices, and none cares where they lie.
#![cfg(target_os = "linux")]

mod common;
use common::cases::CASES;
use common::guard::{Guarded, Side};
use common::*;

/// Lengths 0..=257 at 16 distances from an unreadable page on either side; the same bits at all of them.
#[test]
fn kernels_stay_inside_their_slices() {
    let (lengths, offsets) = if slow() { (13, 5) } else { (1, 1) };
    let mut at = Guarded::new();
    for cpu in variants() {
        for (name, run) in CASES {
            for n in (0..=257).step_by(lengths) {
                let mut first = None;
                for side in [Side::Right, Side::Left] {
                    for offset in (0..16).step_by(offsets) {
                        at.reset(side, offset);
                        run(cpu, n, &mut at);
                        let what = || format!("{name} {cpu:?} n = {n}, {offset} elements from the {side:?}");
                        let hash = at.check(&what);
                        assert_eq!(*first.get_or_insert(hash), hash, "{}: other bits", what());
                    }
                }
            }
        }
    }
}

/// The rig itself: a byte written past a slice is seen.
#[test]
#[should_panic(expected = "planted: wrote outside slice 0")]
fn a_dead_canary_is_seen() {
    let mut at = Guarded::new();
    at.reset(Side::Right, 2);
    let x = at.out::<f32>(5);
    // SAFETY: one element past the slice still lies in the mapping, two before the unreadable page.
    unsafe { x.as_mut_ptr().add(5).write(1.0) };
    at.check(&|| "planted".into());
}
