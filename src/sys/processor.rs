//! What the processor says of itself: its name and its caches.

use std::fs;

/// One cache, as a core sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// `L1d`, `L1i`, `L2`, `L3`.
    pub name: String,
    /// Its size in bytes.
    pub bytes: usize,
}

/// The processor's brand, as its maker wrote it; `unknown` where it does not say.
pub fn brand() -> String {
    let brand = brand_string().or_else(brand_from_cpuinfo);
    brand.map_or_else(|| "unknown".into(), |name| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// CPUID leaves 0x8000_0002 to 4: 48 bytes of text.
#[cfg(target_arch = "x86_64")]
fn brand_string() -> Option<String> {
    use crate::kernels::cpu::cpuid;
    if cpuid(0x8000_0000, 0).eax < 0x8000_0004 {
        return None;
    }
    let leaves = (0x8000_0002u32..=0x8000_0004).map(|leaf| cpuid(leaf, 0));
    let bytes: Vec<u8> = leaves
        .flat_map(|l| [l.eax, l.ebx, l.ecx, l.edx])
        .flat_map(u32::to_le_bytes)
        .take_while(|&b| b != 0)
        .collect();
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|name| !name.trim().is_empty())
}

#[cfg(not(target_arch = "x86_64"))]
fn brand_string() -> Option<String> {
    None
}

/// `model name` where Linux has one; on ARM, the numbers of the maker and the part.
fn brand_from_cpuinfo() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    field("model name")
        .or_else(|| Some(format!("implementer {}, part {}", field("CPU implementer")?, field("CPU part")?)))
}

/// The caches, smallest level first: from Linux, else from CPUID; empty where neither says.
pub fn caches() -> Vec<Cache> {
    let system = caches_of_linux();
    if system.is_empty() { caches_of_cpuid() } else { system }
}

fn caches_of_linux() -> Vec<Cache> {
    let cache = |index: usize| {
        let read = |name| {
            let file = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
            fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
        };
        let level = read("level")?.parse().ok()?;
        Some(Cache { name: name(level, &read("type")?), bytes: parse_size(&read("size")?)? })
    };
    (0..8).map_while(cache).collect()
}

fn name(level: u32, kind: &str) -> String {
    let suffix = match kind {
        "Data" => "d",
        "Instruction" => "i",
        _ => "",
    };
    format!("L{level}{suffix}")
}

/// `48K`, `2M`, `491520K`.
fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// Leaf 4 (Intel) or 0x8000_001D (AMD): a cache a subleaf, in the same format.
#[cfg(target_arch = "x86_64")]
fn caches_of_cpuid() -> Vec<Cache> {
    use crate::kernels::cpu::cpuid;
    let leaf = [4, 0x8000_001d]
        .into_iter()
        .find(|&leaf| cpuid(leaf & 0x8000_0000, 0).eax >= leaf && cpuid(leaf, 0).eax & 31 != 0);
    let Some(leaf) = leaf else { return Vec::new() };
    let cache = |sub| {
        let l = cpuid(leaf, sub);
        let kind =
            ["", "Data", "Instruction", "Unified"].get((l.eax & 31) as usize).filter(|k| !k.is_empty())?;
        let (ways, partitions, line) = (l.ebx >> 22, l.ebx >> 12 & 0x3ff, l.ebx & 0xfff);
        let factors = [ways, partitions, line, l.ecx];
        let bytes = factors.into_iter().map(|n| n as usize + 1).product();
        Some(Cache { name: name(l.eax >> 5 & 7, kind), bytes })
    };
    (0..8).map_while(cache).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn caches_of_cpuid() -> Vec<Cache> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_linux_writes_them() {
        for (text, bytes) in
            [("48K", Some(49152)), ("2M", Some(2 << 20)), ("7", Some(7)), ("", None), ("3X", None)]
        {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn both_sources_agree_on_the_first_level() {
        let (linux, cpuid) = (caches_of_linux(), caches_of_cpuid());
        if let (Some(a), Some(b)) = (linux.first(), cpuid.first()) {
            assert_eq!(a, b);
        }
        assert!(!brand().is_empty());
    }
}
