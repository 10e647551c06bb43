//! Golden hashes: the only check that spans x86 and ARM.
//!
//! Each case feeds a kernel an input made of integers alone (so that it is the same everywhere) and hashes
//! the bits of the result. The committed hash must come out on every tier of every machine; the tour
//! recomputes them all, and so does `tests/golden.rs`. A changed hash is a changed law: a major version.

use crate::Cpu;
use crate::nn::Compute;

mod attention;
mod backward;
mod block;
mod compute;
mod gemm;
mod ggml;
mod int8;
mod math;
mod nf4;
mod optim;
mod position;
mod rope;
mod rows;
mod sampling;
mod search;

/// A kernel, a small input, and the hash that its result must have.
///
/// Any machine can check itself against the hashes of all others:
/// ```
/// use samebits::golden::{Golden, Hash, Random, cases, hash, of_class};
/// use samebits::{Cpu, nn::Compute};
/// let case: &Golden = cases().find(|case| case.name.starts_with("softmax/")).unwrap();
/// assert!(Cpu::all().all(|cpu| (case.run)(cpu) == case.hash));
/// assert!(of_class(Compute::Int8).count() > 0); // whole models, in a class of arithmetic
/// let x = Random::new(7).vec(3);
/// assert_eq!(hash(&x), Hash::default().floats(&x[..1]).floats(&x[1..]).0);
/// ```
pub struct Golden {
    /// `kernel/case`.
    pub name: &'static str,
    /// The committed hash.
    pub hash: u64,
    /// Computes it.
    pub run: fn(Cpu) -> u64,
}

/// Every case, kernel by kernel.
pub fn cases() -> impl Iterator<Item = &'static Golden> {
    const FAMILIES: &[&[Golden]] = &[
        attention::CASES,
        gemm::CASES,
        ggml::CASES,
        int8::CASES,
        nf4::CASES,
        optim::CASES,
        rows::CASES,
        math::CASES,
        rope::CASES,
        position::CASES,
        sampling::CASES,
        search::CASES,
        block::CASES,
        compute::CASES,
        backward::CASES,
    ];
    FAMILIES.iter().copied().flatten()
}

/// Those of whole models whose products are of a class.
pub fn of_class(compute: Compute) -> impl Iterator<Item = &'static Golden> {
    let of = move |name: &str| name.strip_prefix("compute/").is_some_and(|n| n.starts_with(compute.name()));
    cases().filter(move |case| of(case.name))
}

/// FNV-1a over the bits of results; every NaN counts as the same one, for payloads are not promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Takes in bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for &b in bytes {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// Takes in floats.
    #[must_use]
    pub fn floats(self, x: &[f32]) -> Self {
        x.iter().fold(self, |h, &x| h.bytes(&(if x.is_nan() { f32::NAN } else { x }).to_bits().to_le_bytes()))
    }
}

/// The hash of floats.
pub fn hash(x: &[f32]) -> u64 {
    Hash::default().floats(x).0
}

/// A counter-based generator (SplitMix64; Steele, Lea, Flood 2014): integers only, the same everywhere.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// An integer below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits() >> 32) * n as u64 >> 32) as usize
    }

    /// A multiple of 2⁻²³ in [−1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` values in [−1, 1).
    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    /// `n` values, about normal with deviation 1: a sum of four uniforms.
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        let scale = 0.866_025_4; // variance 4 / 3 → 1
        (0..n).map(|_| (self.unit() + self.unit() + self.unit() + self.unit()) * scale).collect()
    }
}
