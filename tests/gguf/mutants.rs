//! Files changed at random: no panic, memory in proportion, the same verdict everywhere.

use super::memory::peak;
use super::rules::rules;
use super::{check_accepted, slow};
use samebits::golden::{Hash, Random};
use samebits::io::gguf::Gguf;

const FIRST: usize = 10_000;
const VERDICTS: u64 = 0x9861_b44c_b65d_aa90;

/// Changes a file as disks, networks and attackers do.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len().max(1));
    let value = [0u64, 1, 8, 9, 1 << 31, u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX][random.below(9)];
    match random.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        2 if bytes.len() >= at + 8 => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
        3 if bytes.len() >= at + 4 => bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes()),
        4 => bytes.truncate(at),
        5 => drop(bytes.splice(at..at, other[random.below(other.len() + 1)..].iter().copied())),
        // A small number for another: the likeliest way to break types, counts and offsets alone.
        6 if !bytes.is_empty() => {
            let small: Vec<usize> = (8..bytes.len()).filter(|&i| (1..64).contains(&bytes[i])).collect();
            if !small.is_empty() {
                bytes[small[random.below(small.len())]] = random.below(64) as u8;
            }
        }
        7 if bytes.len() > at => drop(bytes.remove(at)),
        _ => bytes.push(0),
    }
}

#[test]
fn mutants() {
    let rules = rules();
    let small = rules.iter().filter(|r| r.1.len() < 4000);
    // Good files five times: most of what changes them breaks them.
    let seeds: Vec<&[u8]> =
        small.flat_map(|r| std::iter::repeat_n(&*r.1, if r.2.is_none() { 5 } else { 1 })).collect();
    let mut random = Random::new(58);
    let (mut verdicts, mut accepted) = (Hash::default(), 0);
    let mutants = if slow() { FIRST } else { 200_000 };
    for i in 0..mutants {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..1 + random.below(3) {
            let other = seeds[random.below(seeds.len())];
            mutate(&mut random, &mut bytes, other);
        }
        let (read, held) = peak(|| Gguf::from_bytes(&bytes));
        assert!(held <= 5 * bytes.len() + (1 << 16), "{held} bytes for {bytes:?}");
        if i < FIRST {
            verdicts = verdicts.bytes(&[u8::from(read.is_ok())]);
        }
        if let Ok(read) = read {
            accepted += 1;
            check_accepted(&bytes, &read);
        }
    }
    assert!(accepted > mutants / 100, "only {accepted} of {mutants} accepted: the mutator is too rough");
    // Debug, release and every machine agree on the first of them.
    assert_eq!(verdicts.0, VERDICTS, "the verdicts hash to {:#x}", verdicts.0);
}
