//! Files changed at random: no panic, memory in proportion, the same verdict everywhere.

use super::memory::peak;
use super::rules::rules;
use super::{check_accepted, slow};
use samebits::golden::{Hash, Random};
use samebits::io::safetensors::SafeTensors;

const FIRST: usize = 10_000;
const VERDICTS: u64 = 0x9f1a_4555_8ff4_f99d;

/// Changes a file as disks, networks and attackers do.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len().max(1));
    let value = [0u64, 1, 1 << 31, u64::from(u32::MAX), i64::MAX as u64, 1 << 63, u64::MAX][random.below(7)];
    match random.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        2 if bytes.len() >= at + 8 => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
        3 if bytes.len() >= 8 => {
            let len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let near = len.wrapping_add(random.bits() % 3).wrapping_sub(1);
            bytes[..8].copy_from_slice(&near.to_le_bytes());
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.splice(at..at, other[random.below(other.len() + 1)..].iter().copied())),
        6 => drop(bytes.splice(at..at, value.to_string().bytes())),
        7 if !bytes.is_empty() => {
            // A digit for another: the likeliest way to break sizes and offsets alone.
            let digits: Vec<usize> = (8..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                bytes[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
            }
        }
        _ => bytes.push(0),
    }
}

#[test]
fn mutants() {
    let rules = rules();
    let small = rules.iter().filter(|r| r.1.len() < 1000);
    // Good files five times: most of what changes them breaks them.
    let seeds: Vec<&[u8]> =
        small.flat_map(|r| std::iter::repeat_n(&*r.1, if r.2.is_none() { 5 } else { 1 })).collect();
    let mut random = Random::new(57);
    let (mut verdicts, mut accepted) = (Hash::default(), 0);
    let mutants = if slow() { FIRST } else { 200_000 };
    for i in 0..mutants {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..1 + random.below(3) {
            let other = seeds[random.below(seeds.len())];
            let before = bytes.len();
            mutate(&mut random, &mut bytes, other);
            let grown = bytes.len() as i64 - before as i64;
            // Three times in four the length of the header follows, so that what is inside it is reached.
            if let Some((len, _)) = bytes.split_first_chunk_mut().filter(|_| random.below(4) > 0) {
                let follow = u64::from_le_bytes(*len).wrapping_add_signed(grown);
                *len = follow.to_le_bytes();
            }
        }
        let (read, held) = peak(|| SafeTensors::from_bytes(&bytes));
        assert!(held <= 3 * bytes.len() + (1 << 20), "{held} bytes for {bytes:?}");
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
