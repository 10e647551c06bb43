//! Which instruction sets run here, and the one place that branches on it.
//!
//! [`Cpu`] is a token: holding one proves that its tier's instructions run on this machine, so every
//! kernel is safe to call. There is no global; whoever embeds the crate decides where to keep it.
//! [`Cpu::run`] is the only dispatch in the crate: it enters a function compiled with the tier's
//! instructions and everything generic below it is inlined there.

use crate::simd::quads::{Halves, QuadKernel, Quads};
use crate::simd::{Scalar, Simd};

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use crate::simd::Wasm;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
use crate::simd::{Avx2, quads::VnniShort};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
use crate::simd::{
    Avx512,
    quads::Vnni,
    tiles::{Amx, AmxHalves},
};
#[cfg(target_arch = "aarch64")]
use crate::simd::{
    Neon,
    quads::{DotProd, Long, Matrix},
};

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512")))]
use crate::simd::tiles::Plain;

mod features;
pub use features::Features;
#[cfg(target_arch = "x86_64")]
pub use features::{Leaves, cpuid};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Plain Rust, everywhere: the definition of every word.
    Scalar,
    /// WebAssembly's 128-bit SIMD, where the module is compiled with it.
    Simd128,
    /// 128-bit ARM SIMD.
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

impl Tier {
    /// Every tier, slowest first.
    pub const ALL: [Tier; 5] = [Tier::Scalar, Tier::Simd128, Tier::Neon, Tier::Avx2, Tier::Avx512];

    /// The name that `SAMEBITS_TIER` and the command line use.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Scalar => "scalar",
            Tier::Simd128 => "simd128",
            Tier::Neon => "neon",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
        }
    }

    /// The tier of that name.
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|t| t.name() == name)
    }
}

impl core::fmt::Display for Tier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// Proof that a tier runs here, with the extras found beside it.
#[derive(Clone, Copy)]
pub struct Cpu {
    token: Token,
    features: Features,
}

#[derive(Clone, Copy)]
enum Token {
    Scalar(Scalar),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(Wasm),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
    Avx2(Avx2),
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
    Avx512(Avx512),
}

/// A kernel body, generic over the instruction set. Its `run` must be `#[inline(always)]`.
pub trait Kernel {
    /// What the kernel returns.
    type Output;
    /// The body.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

impl Cpu {
    /// The fastest tier of this machine.
    pub fn detect() -> Cpu {
        let features = Features::detect();
        Tier::ALL.iter().rev().find_map(|&t| Cpu::new(t, features)).expect("scalar runs everywhere")
    }

    /// `tier`, where this machine runs it.
    pub fn with_tier(tier: Tier) -> Option<Cpu> {
        Cpu::new(tier, Features::detect())
    }

    /// One `Cpu` for every tier of this machine, slowest first: what tests loop over.
    pub fn all() -> impl Iterator<Item = Cpu> {
        Tier::ALL.into_iter().filter_map(Cpu::with_tier)
    }

    /// For targets that cannot be asked (no CPUID, no operating system): the best tier of `features`.
    ///
    /// # Safety
    /// Every feature that is set must be supported by the processor and enabled by the system.
    pub unsafe fn assume(features: Features) -> Cpu {
        Tier::ALL.iter().rev().find_map(|&t| Cpu::new(t, features)).expect("scalar runs everywhere")
    }

    /// The same machine without some extras; tiers are lowered by [`Cpu::with_tier`].
    #[must_use]
    pub fn without(mut self, lower: impl FnOnce(&mut Features)) -> Cpu {
        let before = self.features;
        lower(&mut self.features);
        self.features = self.features.intersect(before);
        self
    }

    /// Whether its code is to be small, not fast: [`Simd::SMALL`].
    pub(crate) const fn is_small(self) -> bool {
        matches!(self.token, Token::Scalar(_))
    }

    /// The tier that [`Cpu::run`] enters.
    pub const fn tier(self) -> Tier {
        match self.token {
            Token::Scalar(_) => Tier::Scalar,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Token::Simd128(_) => Tier::Simd128,
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => Tier::Neon,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
            Token::Avx2(_) => Tier::Avx2,
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
            Token::Avx512(_) => Tier::Avx512,
        }
    }

    /// What detection found, less what was taken away.
    pub const fn features(self) -> Features {
        self.features
    }

    /// `tier` where `features` suffice for it: the only place that makes a token.
    fn new(tier: Tier, features: Features) -> Option<Cpu> {
        let token = match tier {
            Tier::Scalar => Some(Token::Scalar(Scalar::new())),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            // SAFETY: an engine that runs a module compiled so has the instructions.
            Tier::Simd128 => Some(Token::Simd128(unsafe { Wasm::assume() })),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: detection, or the caller of `assume`, says that NEON is there.
            Tier::Neon => features.neon.then(|| Token::Neon(unsafe { Neon::assume() })),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
            // SAFETY: likewise for AVX2, FMA, F16C.
            Tier::Avx2 => features.avx2.then(|| Token::Avx2(unsafe { Avx2::assume() })),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
            Tier::Avx512 => (features.avx2 && features.avx512)
                // SAFETY: likewise for AVX-512 F, BW, DQ, VL and all that AVX2's tier has.
                .then(|| Token::Avx512(unsafe { Avx512::assume() })),
            #[allow(unreachable_patterns)]
            _ => None,
        };
        Some(Cpu { token: token?, features })
    }

    /// Runs `kernel` compiled for this tier. With [`Cpu::run_quads`] the only dispatch in the crate.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.token {
            Token::Scalar(s) => s.outline(kernel),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Token::Simd128(s) => s.outline(kernel),
            #[cfg(target_arch = "aarch64")]
            Token::Neon(s) => s.outline(kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
            Token::Avx2(s) => s.outline(kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
            Token::Avx512(s) => s.outline(kernel),
        }
    }

    /// Runs `kernel`, compiled for this tier, over the words for codes of eight bits that its extras allow.
    #[inline]
    pub fn run_quads<K: QuadKernel>(self, kernel: K) -> K::Output {
        match self.token {
            Token::Scalar(s) => Halves.outline(s, kernel),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Token::Simd128(s) => Halves.outline(s, kernel),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: detection, or the caller of `assume`, says that I8MM and DotProd are there.
            Token::Neon(s) if self.features.i8mm && self.features.dotprod => {
                unsafe { Matrix::assume() }.outline(s, kernel)
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: likewise for DotProd alone.
            Token::Neon(s) if self.features.dotprod => unsafe { DotProd::assume() }.outline(s, kernel),
            #[cfg(target_arch = "aarch64")]
            Token::Neon(s) => Long.outline(s, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
            // SAFETY: likewise for AVX-VNNI.
            Token::Avx2(s) if self.features.avx_vnni => unsafe { VnniShort::assume() }.outline(s, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
            Token::Avx2(s) => Halves.outline(s, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
            // SAFETY: likewise for AVX-512 VNNI.
            Token::Avx512(s) if self.features.avx512_vnni => unsafe { Vnni::assume() }.outline(s, kernel),
            #[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
            Token::Avx512(s) => Halves.outline(s, kernel),
        }
    }
}

/// Matrix units, for this thread.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
impl Cpu {
    /// Whether tiles are there and may be used.
    fn has_tiles(self) -> bool {
        self.tier() == Tier::Avx512 && self.features.amx_tile
    }

    /// That for bfloat16.
    #[inline]
    pub(crate) fn tiles_bf16(self) -> Option<Amx> {
        // SAFETY: detection, or the caller of `assume`, says that the unit is there and may be used.
        (self.has_tiles() && self.features.amx_bf16 && self.features.avx512_bf16)
            .then(|| unsafe { Amx::assume() })
    }

    /// That for codes of eight bits.
    #[inline]
    pub(crate) fn tiles_codes(self) -> Option<Amx> {
        // SAFETY: likewise.
        (self.has_tiles() && self.features.amx_int8).then(|| unsafe { Amx::assume() })
    }

    /// The same for half tiles.
    #[inline]
    pub(crate) fn half_tiles(self) -> Option<AmxHalves> {
        // SAFETY: likewise.
        (self.has_tiles() && self.features.amx_int8).then(|| unsafe { AmxHalves::assume() })
    }
}

/// Matrix units: none is known here.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512")))]
impl Cpu {
    #[inline]
    pub(crate) fn tiles_bf16(self) -> Option<Plain> {
        None
    }

    #[inline]
    pub(crate) fn tiles_codes(self) -> Option<Plain> {
        None
    }

    #[inline]
    pub(crate) fn half_tiles(self) -> Option<Plain> {
        None
    }
}

impl core::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Cpu({})", self.tier())
    }
}
