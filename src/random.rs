//! Random numbers by counter: what comes out depends on the seed and on a place, not on what was drawn before.
//!
//! So a token drawn at position 7 is the same whether the text was computed in one batch or another, on one
//! thread or many, from the start or from a saved cache; and on every machine, for integers are all there is.
//!
//! Philox 4×32 with ten rounds: Salmon, Moraes, Dror, Shaw 2011, *Parallel random numbers: as easy as 1, 2, 3*.

use crate::kernels::math::{cos64, ln64};
use crate::kernels::simd::sqrt64;

/// The multipliers of a round.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// What the key grows by from round to round: the golden ratio and √3 − 1, in fractions of 2³².
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Philox 4×32-10: for each seed, a function from counters of 128 bits to blocks of 128 random bits.
///
/// ```
/// use samebits::random::Philox;
/// let random = Philox::new(7);
/// assert_eq!(random.uniform(3, 0), Philox::new(7).uniform(3, 0)); // no state
/// assert_ne!(random.uniform(3, 0), random.uniform(4, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The generator of a seed.
    pub const fn new(seed: u64) -> Philox {
        Philox { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The block of a counter.
    pub const fn block(self, counter: [u32; 4]) -> [u32; 4] {
        let ([mut a, mut b, mut c, mut d], [mut k, mut l]) = (counter, self.key);
        let mut round = 0;
        while round < 10 {
            let (x, y) = (MULTIPLIERS[0] as u64 * a as u64, MULTIPLIERS[1] as u64 * c as u64);
            [a, b, c, d] = [(y >> 32) as u32 ^ b ^ k, y as u32, (x >> 32) as u32 ^ d ^ l, x as u32];
            [k, l] = [k.wrapping_add(WEYL[0]), l.wrapping_add(WEYL[1])];
            round += 1;
        }
        [a, b, c, d]
    }

    /// A multiple of 2⁻⁵³ in [0, 1), for a place in a stream: a position of a text, an element of a tensor.
    pub const fn uniform(self, place: u64, stream: u64) -> f64 {
        let counter = [place as u32, (place >> 32) as u32, stream as u32, (stream >> 32) as u32];
        let [a, b, _, _] = self.block(counter);
        let bits = (b as u64) << 32 | a as u64;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A number of the standard normal distribution for a place (Box and Muller 1958).
///
/// ```
/// use samebits::random::{Philox, normal, stream_of};
/// let (random, stream) = (Philox::new(7), stream_of("model.layers.0.q"));
/// let mean = (0..10_000).map(|place| normal(random, place, stream)).sum::<f64>() / 1e4;
/// assert!(mean.abs() < 0.05);
/// assert_eq!(normal(random, 3, stream), normal(random, 3, stream)); // of the place alone
/// ```
pub fn normal(random: Philox, place: u64, stream: u64) -> f64 {
    // 1 − u lies in (0, 1]: its logarithm is finite.
    let radius = sqrt64(-2.0 * ln64(1.0 - random.uniform(2 * place, stream)));
    radius * cos64(2.0 * core::f64::consts::PI * random.uniform(2 * place + 1, stream))
}

/// A number for each name: the stream from which random numbers for it are drawn (FNV-1a).
pub fn stream_of(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
