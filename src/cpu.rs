//! The [`Cpu`] that the process uses where a program does not choose one.
//!
//! It is what detection finds, unless `SAMEBITS_TIER` (or `--tier`) asks for less: `avx2`, or
//! `avx512,-amx,-vnni` for a tier without some extras. A choice can only lower. A tier that does not exist
//! or does not run here is an error that lists those that do, never a silent fallback.

use std::fmt;
use std::sync::OnceLock;

use crate::kernels::Features;
use crate::{Cpu, Error, Tier};

/// The environment variable that lowers the tier.
pub const VARIABLE: &str = "SAMEBITS_TIER";

/// Who chose the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Nobody: the fastest that was detected.
    Detection,
    /// The environment variable `SAMEBITS_TIER`.
    Environment,
    /// The command line's `--tier`.
    CommandLine,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Chosen::Detection => "detection",
            Chosen::Environment => VARIABLE,
            Chosen::CommandLine => "--tier",
        })
    }
}

/// The process's `Cpu`: `SAMEBITS_TIER` where it is set, else [`detect`]. Asked once, then remembered.
///
/// # Errors
/// Where the variable names what does not exist or does not run here.
pub fn default() -> Result<Cpu, Error> {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    if let Some(&cpu) = CPU.get() {
        return Ok(cpu);
    }
    let (cpu, _) = choose(None)?;
    Ok(*CPU.get_or_init(|| cpu))
}

/// `asked` (the command line), else `SAMEBITS_TIER`, else [`detect`]; and which of them it was.
///
/// ```
/// use samebits::{Tier, cpu::{self, Chosen, VARIABLE}};
/// let (cpu, chosen) = cpu::choose(Some("scalar"))?; // what a command line said
/// assert!(cpu.tier() == Tier::Scalar && matches!(chosen, Chosen::CommandLine));
/// let (cpu, chosen) = cpu::choose(None)?;
/// assert_eq!(matches!(chosen, Chosen::Environment), std::env::var_os(VARIABLE).is_some());
/// assert_eq!(cpu.tier(), cpu::default()?.tier());
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// As [`parse`].
pub fn choose(asked: Option<&str>) -> Result<(Cpu, Chosen), Error> {
    if let Some(asked) = asked {
        return Ok((parse(asked)?, Chosen::CommandLine));
    }
    match std::env::var_os(VARIABLE) {
        None => Ok((detect(), Chosen::Detection)),
        Some(value) => Ok((parse(&value.to_string_lossy())?, Chosen::Environment)),
    }
}

/// The fastest tier of this machine, with the extras that only the operating system knows of.
pub fn detect() -> Cpu {
    all().next_back().expect("the scalar tier runs everywhere")
}

/// Every tier of this machine, slowest first, each with all extras.
pub fn all() -> impl DoubleEndedIterator<Item = Cpu> {
    Tier::ALL.into_iter().filter_map(with_tier)
}

/// `tier` where it runs here, with the extras that belong to it: asking for less takes them away too.
fn with_tier(tier: Tier) -> Option<Cpu> {
    Some(machine(tier)?.without(|f| {
        if tier != Tier::Avx512 {
            (f.avx512, f.avx512_vnni, f.avx512_bf16, f.avx512_fp16) = (false, false, false, false);
            (f.amx_tile, f.amx_bf16, f.amx_int8) = (false, false, false);
        }
        if tier == Tier::Scalar {
            *f = Features::default();
        }
    }))
}

#[cfg(not(target_arch = "aarch64"))]
fn machine(tier: Tier) -> Option<Cpu> {
    Cpu::with_tier(tier)
}

/// `kernels` has no operating system to ask; `std` asks it for the extras.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
fn machine(tier: Tier) -> Option<Cpu> {
    let bare = Cpu::with_tier(tier)?;
    if tier == Tier::Scalar {
        return Some(bare);
    }
    let mut features = bare.features();
    features.fp16 |= std::arch::is_aarch64_feature_detected!("fp16");
    features.dotprod |= std::arch::is_aarch64_feature_detected!("dotprod");
    features.i8mm |= std::arch::is_aarch64_feature_detected!("i8mm");
    features.bf16 |= std::arch::is_aarch64_feature_detected!("bf16");
    // SAFETY: what the kernels' own detection found, and what the system says besides.
    Some(unsafe { Cpu::assume(features) })
}

/// Reads `TIER[,-EXTRA…]`: a tier of this machine, without some extras.
///
/// ```
/// use samebits::{Tier, cpu};
/// let scalar = cpu::parse("scalar")?;
/// assert_eq!((scalar.tier(), cpu::extras(scalar).len()), (Tier::Scalar, 0));
/// assert!(cpu::parse("abacus").unwrap_err().to_string().contains("abacus"));
/// assert!(cpu::names().ends_with("scalar")); // the fastest first
/// assert!(cpu::all().any(|one| one.tier() == cpu::detect().tier())); // the slowest first
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Tier`], with what runs here, where there is no such tier; [`Error::Usage`] for an extra that
/// is unknown.
pub fn parse(asked: &str) -> Result<Cpu, Error> {
    let mut words = asked.split(',').map(str::trim);
    let name = words.next().unwrap_or_default();
    let cpu = Tier::from_name(name).and_then(with_tier);
    let mut cpu = cpu.ok_or_else(|| Error::Tier { asked: name.into(), available: names() })?;
    for word in words {
        let extra = word.strip_prefix('-').and_then(|name| EXTRAS.iter().find(|extra| extra.option == name));
        let extra = extra.ok_or_else(|| unknown_extra(asked, word))?;
        cpu = cpu.without(extra.clear);
    }
    Ok(cpu)
}

fn unknown_extra(asked: &str, word: &str) -> Error {
    let known: Vec<_> = EXTRAS.iter().map(|extra| format!("-{}", extra.option)).collect();
    Error::Usage {
        what: format!("tier {asked:?}: {word:?} takes no extra away"),
        hint: Some(format!("a tier may be followed by {}", known.join(", "))),
    }
}

/// The tiers of this machine, fastest first: `avx512, avx2, scalar`.
pub fn names() -> String {
    let names: Vec<_> = all().rev().map(|cpu| cpu.tier().name()).collect();
    names.join(", ")
}

/// Instructions beside the tier's own that some kernels use, with the same bits as without.
struct Extra {
    option: &'static str,
    clear: fn(&mut Features),
}

const EXTRAS: &[Extra] = &[
    Extra { option: "vnni", clear: |f| (f.avx512_vnni, f.avx_vnni) = (false, false) },
    Extra { option: "bf16", clear: |f| (f.avx512_bf16, f.bf16) = (false, false) },
    Extra { option: "fp16", clear: |f| (f.avx512_fp16, f.fp16) = (false, false) },
    Extra { option: "amx", clear: |f| (f.amx_tile, f.amx_bf16, f.amx_int8) = (false, false, false) },
    Extra { option: "dotprod", clear: |f| f.dotprod = false },
    Extra { option: "i8mm", clear: |f| f.i8mm = false },
];

/// The extras that `cpu` has, by the names that vendors use.
pub fn extras(cpu: Cpu) -> Vec<&'static str> {
    let f = cpu.features();
    let all = [
        ("AVX512-VNNI", f.avx512_vnni),
        ("AVX-VNNI", f.avx_vnni),
        ("AVX512-BF16", f.avx512_bf16),
        ("AVX512-FP16", f.avx512_fp16),
        ("AMX-TILE", f.amx_tile),
        ("AMX-BF16", f.amx_bf16),
        ("AMX-INT8", f.amx_int8),
        ("FP16", f.fp16),
        ("DotProd", f.dotprod),
        ("I8MM", f.i8mm),
        ("BF16", f.bf16),
    ];
    all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}
