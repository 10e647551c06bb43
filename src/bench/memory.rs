//! Buffers whose pages are as large as the system gives: where pages are small, a pass over a large buffer
//! measures the look-up of pages too (here a factor of 1.3 on reads from memory).

use crate::kernels::Line;
use crate::sys;

/// `n` times `x`.
pub fn filled<T: Clone>(x: T, n: usize) -> Vec<T> {
    on_huge_pages(vec![x; n])
}

/// `n` lines that hold neither zero nor subnormals.
pub fn lines(n: usize) -> Vec<Line> {
    filled(Line([1.5; 16]), n)
}

/// The same vector, its pages exchanged for huge ones where it is large and the system can.
pub fn on_huge_pages<T>(mut x: Vec<T>) -> Vec<T> {
    sys::memory::use_huge_pages(&mut x);
    x
}

/// Bytes of a huge page, where the system says; else the usual 2 MiB.
pub fn huge_page() -> usize {
    let size = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    size.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(2 << 20)
}

/// The share of this process's resident memory that lies on huge pages, where the system says.
pub fn huge_share() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let kib = |name: &str| -> Option<f64> {
        let line = rollup.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let all = kib("Rss:").unwrap_or(0.0);
    if all > 0.0 { kib("AnonHugePages:").unwrap_or(0.0) / all } else { 0.0 }
}
