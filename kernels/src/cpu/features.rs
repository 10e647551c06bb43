//! What the processor *and* the system offer.
//!
//! On x86 a feature counts only if CPUID names it and the system saves its registers (XCR0): inside a
//! virtual machine or an old kernel one may be there without the other. CPUID is read by hand because
//! `core` has no detection; [`Features::from_leaves`] is a pure function, so every odd machine is a test.

#[cfg(target_arch = "x86_64")]
use core::sync::atomic::{AtomicU32, Ordering};

/// Instruction-set features that kernels ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// AVX2, FMA and F16C, with the system's support for ymm.
    pub avx2: bool,
    /// AVX-512 F, BW, DQ, VL, with the system's support for zmm.
    pub avx512: bool,
    /// AVX-512 VNNI: int8 dot products.
    pub avx512_vnni: bool,
    /// VNNI on ymm registers without AVX-512.
    pub avx_vnni: bool,
    /// AVX-512 BF16: bfloat16 dot products.
    pub avx512_bf16: bool,
    /// AVX-512 FP16: half precision arithmetic.
    pub avx512_fp16: bool,
    /// AMX tiles, with the system's support for them and, as [`Features::detect`] finds, its permission to use them.
    pub amx_tile: bool,
    /// AMX bfloat16.
    pub amx_bf16: bool,
    /// AMX int8.
    pub amx_int8: bool,
    /// A processor with cores of several kinds: only what all of them have may be used.
    pub hybrid: bool,
    /// ARM Advanced SIMD.
    pub neon: bool,
    /// ARM half precision arithmetic.
    pub fp16: bool,
    /// ARM int8 dot products.
    pub dotprod: bool,
    /// ARM int8 matrix products.
    pub i8mm: bool,
    /// ARM bfloat16.
    pub bf16: bool,
}

impl Features {
    /// What this machine has. It is asked once for a process: under a hypervisor each question takes microseconds.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Features {
        static KNOWN: AtomicU32 = AtomicU32::new(0);
        let mut known = KNOWN.load(Ordering::Relaxed);
        if known == 0 {
            // Whoever asks first, the answer is the same.
            known = Features::ask().bits() | 1 << 31;
            KNOWN.store(known, Ordering::Relaxed);
        }
        Features::from_bits(known)
    }

    /// Those of x86-64, a bit each.
    #[cfg(target_arch = "x86_64")]
    const PLACES: [fn(&mut Features) -> &mut bool; 10] = [
        |f| &mut f.avx2,
        |f| &mut f.avx512,
        |f| &mut f.avx512_vnni,
        |f| &mut f.avx_vnni,
        |f| &mut f.avx512_bf16,
        |f| &mut f.avx512_fp16,
        |f| &mut f.amx_tile,
        |f| &mut f.amx_bf16,
        |f| &mut f.amx_int8,
        |f| &mut f.hybrid,
    ];

    #[cfg(target_arch = "x86_64")]
    fn bits(mut self) -> u32 {
        (0..).zip(Features::PLACES).fold(0, |bits, (i, place)| bits | u32::from(*place(&mut self)) << i)
    }

    #[cfg(target_arch = "x86_64")]
    fn from_bits(bits: u32) -> Features {
        let mut features = Features::default();
        for (i, place) in (0..).zip(Features::PLACES) {
            *place(&mut features) = bits >> i & 1 == 1;
        }
        features
    }

    #[cfg(target_arch = "x86_64")]
    fn ask() -> Features {
        let mut features = Features::from_leaves(Leaves::read());
        if features.amx_tile && !permitted() {
            (features.amx_tile, features.amx_bf16, features.amx_int8) = (false, false, false);
        }
        // SAFETY: the processor has tiles, and the extra that is asked for first; the system saves them, they may be used.
        unsafe {
            features.amx_bf16 = features.amx_bf16 && features.avx512_bf16 && agrees_bf16();
            features.amx_int8 = features.amx_int8 && agrees_codes();
        }
        features
    }

    /// What this machine has. Baseline NEON is what the target promises; the extras are known where the
    /// target names them, or by asking the system, which `std` users do (`samebits::cpu`).
    #[cfg(target_arch = "aarch64")]
    pub fn detect() -> Features {
        Features {
            neon: cfg!(target_feature = "neon"),
            fp16: cfg!(target_feature = "fp16"),
            dotprod: cfg!(target_feature = "dotprod"),
            i8mm: cfg!(target_feature = "i8mm"),
            bf16: cfg!(target_feature = "bf16"),
            ..Features::default()
        }
    }

    /// What this machine has: nothing that kernels know.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn detect() -> Features {
        Features::default()
    }

    /// What both have.
    pub(crate) fn intersect(self, b: Features) -> Features {
        Features {
            avx2: self.avx2 & b.avx2,
            avx512: self.avx512 & b.avx512,
            avx512_vnni: self.avx512_vnni & b.avx512_vnni,
            avx_vnni: self.avx_vnni & b.avx_vnni,
            avx512_bf16: self.avx512_bf16 & b.avx512_bf16,
            avx512_fp16: self.avx512_fp16 & b.avx512_fp16,
            amx_tile: self.amx_tile & b.amx_tile,
            amx_bf16: self.amx_bf16 & b.amx_bf16,
            amx_int8: self.amx_int8 & b.amx_int8,
            hybrid: b.hybrid,
            neon: self.neon & b.neon,
            fp16: self.fp16 & b.fp16,
            dotprod: self.dotprod & b.dotprod,
            i8mm: self.i8mm & b.i8mm,
            bf16: self.bf16 & b.bf16,
        }
    }

    /// Reads the features off CPUID's leaves and XCR0.
    #[cfg(target_arch = "x86_64")]
    pub const fn from_leaves(l: Leaves) -> Features {
        const fn all(register: u32, bits: &[u32]) -> bool {
            let mut i = 0;
            while i < bits.len() {
                if register >> bits[i] & 1 == 0 {
                    return false;
                }
                i += 1;
            }
            true
        }
        const fn state(xcr0: u64, mask: u64) -> bool {
            xcr0 & mask == mask
        }
        let seven = l.max_leaf >= 7;
        let xcr0 = if all(l.l1_ecx, &[27]) { l.xcr0 } else { 0 }; // OSXSAVE
        // AVX 28, FMA 12, F16C 29; AVX2 is leaf 7 EBX 5; XCR0: SSE and AVX state
        let avx2 = seven && state(xcr0, 0x6) && all(l.l1_ecx, &[28, 12, 29]) && all(l.l7_ebx, &[5]);
        // F 16, DQ 17, BW 30, VL 31; XCR0: also opmask and both halves of zmm
        let avx512 = avx2 && state(xcr0, 0xe6) && all(l.l7_ebx, &[16, 17, 30, 31]);
        let amx_tile = seven && state(xcr0, 0x6_0000) && all(l.l7_edx, &[24]);
        let sub = seven && l.l7_max_sub >= 1;
        Features {
            avx2,
            avx512,
            avx512_vnni: avx512 && all(l.l7_ecx, &[11]),
            avx_vnni: avx2 && sub && all(l.l7_1_eax, &[4]),
            avx512_bf16: avx512 && sub && all(l.l7_1_eax, &[5]),
            avx512_fp16: avx512 && all(l.l7_edx, &[23]),
            amx_tile,
            amx_bf16: amx_tile && all(l.l7_edx, &[22]),
            amx_int8: amx_tile && all(l.l7_edx, &[25]),
            hybrid: seven && all(l.l7_edx, &[15]),
            neon: false,
            fp16: false,
            dotprod: false,
            i8mm: false,
            bf16: false,
        }
    }
}

/// The registers that detection reads (Intel SDM vol. 2A, CPUID; vol. 1, 13.3 XCR0).
///
/// ```
/// use samebits_kernels::cpu::{Features, Leaves, cpuid};
/// let read = Leaves::read();
/// assert!(Features::from_leaves(read).avx2 || !Features::detect().avx2);
/// assert!(read.max_leaf == cpuid(0, 0).eax);
/// // A processor that has every bit, under a system that saves no vector registers:
/// let unsaved = Leaves { l1_ecx: !0, l7_ebx: !0, xcr0: 0, ..read };
/// assert!(!Features::from_leaves(unsaved).avx2);
/// ```
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Leaves {
    pub max_leaf: u32,
    pub l1_ecx: u32,
    pub l7_ebx: u32,
    pub l7_ecx: u32,
    pub l7_edx: u32,
    pub l7_max_sub: u32,
    pub l7_1_eax: u32,
    pub xcr0: u64,
}

#[cfg(target_arch = "x86_64")]
impl Leaves {
    /// Asks this processor.
    pub fn read() -> Leaves {
        let max_leaf = cpuid(0, 0).eax;
        let one = cpuid(1, 0);
        let mut l = Leaves { max_leaf, l1_ecx: one.ecx, ..Leaves::default() };
        if max_leaf >= 7 {
            let seven = cpuid(7, 0);
            (l.l7_max_sub, l.l7_ebx, l.l7_ecx, l.l7_edx) = (seven.eax, seven.ebx, seven.ecx, seven.edx);
            if seven.eax >= 1 {
                l.l7_1_eax = cpuid(7, 1).eax;
            }
        }
        if l.l1_ecx >> 27 & 1 == 1 {
            l.xcr0 = xgetbv();
        }
        l
    }
}

/// What CPUID says of a leaf and a part of it.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // newer compilers call it safe, the oldest supported does not
pub fn cpuid(leaf: u32, sub: u32) -> core::arch::x86_64::CpuidResult {
    // SAFETY: every x86-64 processor has the instruction, which reads and changes nothing else.
    unsafe { core::arch::x86_64::__cpuid_count(leaf, sub) }
}

/// Whether tiles may be used.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
use crate::simd::tiles::{agrees_bf16, agrees_codes, permitted};

/// Without the tier that they belong to nothing here uses tiles.
#[cfg(all(target_arch = "x86_64", not(all(target_feature = "sse2", feature = "avx512"))))]
const fn permitted() -> bool {
    false
}

/// Nor is there anything to try.
#[cfg(all(target_arch = "x86_64", not(all(target_feature = "sse2", feature = "avx512"))))]
const unsafe fn agrees_bf16() -> bool {
    false
}

/// Nor here.
#[cfg(all(target_arch = "x86_64", not(all(target_feature = "sse2", feature = "avx512"))))]
const unsafe fn agrees_codes() -> bool {
    false
}

/// XCR0. Call only where CPUID reports OSXSAVE.
#[cfg(target_arch = "x86_64")]
fn xgetbv() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that the processor and the system enable XGETBV; it reads one register.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    (high as u64) << 32 | low as u64
}
