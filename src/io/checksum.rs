//! XXH64: a number of 64 bits for any bytes, at some 10 bytes a nanosecond.
//!
//! It tells accidents apart, not attacks. Source: the XXH64 specification (Collet, *xxHash fast digest algorithm*).
//!
//! ```
//! assert_eq!(samebits::io::checksum::xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
//! ```

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

/// The XXH64 of `bytes`, the seed being 0.
pub fn xxh64(bytes: &[u8]) -> u64 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = p5;
    if !stripes.is_empty() {
        // Four chains, so that one multiplication need not wait for the other.
        let mut lanes = [p1.wrapping_add(p2), p2, 0, 0u64.wrapping_sub(p1)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        hash = turned.fold(0, u64::wrapping_add);
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(p1).wrapping_add(p4);
        }
    }
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
    }
    let (halves, rest) = rest.as_chunks::<4>();
    for half in halves {
        hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(p1);
        hash = hash.rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
    }
    for &byte in rest {
        hash ^= u64::from(byte).wrapping_mul(p5);
        hash = hash.rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(p2);
    hash = (hash ^ hash >> 29).wrapping_mul(p3);
    hash ^ hash >> 32
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

#[cfg(test)]
mod tests {
    use super::xxh64;

    /// By the `xxhash` package: the bytes (i · 7 + 3) mod 256, i < n.
    #[test]
    fn as_the_reference() {
        let cases = [
            (0usize, 0xef46_db37_51d8_e999),
            (1usize, 0x1f25_c8d0_bc1f_4bb6),
            (3usize, 0x31d2_363f_52e5_64c9),
            (4usize, 0x9bb6_4b7d_66ee_9fda),
            (5usize, 0xc760_8efd_db70_51fe),
            (8usize, 0xdab9_9d95_c6f9_0092),
            (11usize, 0x7a52_cc94_57cf_1a1f),
            (31usize, 0xa2aa_5f33_cc4a_6119),
            (32usize, 0x23c3_c17e_f790_fd97),
            (33usize, 0x50a7_cfc7_ba58_8784),
            (63usize, 0x5e3e_54b4_31c7_493c),
            (64usize, 0x0eb6_4b3e_f6ee_b01f),
            (100usize, 0xa61f_8d4c_170f_e531),
            (1000usize, 0x5f23_5fa0_33f1_a3fb),
        ];
        for (n, hash) in cases {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 7 + 3) as u8).collect();
            assert_eq!(xxh64(&bytes), hash, "{n} bytes");
        }
    }
}
