//! The committed hashes, on every tier of this machine (and, under qemu, of others).

mod common;

#[test]
fn every_tier_gives_the_committed_hash() {
    let mut wrong = Vec::new();
    for cpu in common::variants() {
        for case in samebits::golden::cases() {
            let got = (case.run)(cpu);
            if got != case.hash {
                wrong.push(format!(
                    "{} on {}: {got:#018x}, committed {:#018x}",
                    case.name,
                    cpu.tier(),
                    case.hash
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} golden hashes differ:\n{}", wrong.len(), wrong.join("\n"));
}
