//! Buffers whose pages are as large as the system gives: where pages are small, a pass over a large buffer
//! measures the look-up of pages too (here a factor of 1.3 on reads from memory).

use crate::kernels::{Line, Plain};
use crate::sys;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

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

/// Elements that begin at a cache line, as those of a tensor do. A vector on pages of its own begins sixteen bytes past
/// one, and words of 64 bytes lie across two lines each, words of sixteen (the plain loop's) across none.
#[derive(Clone)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Plain> From<Vec<T>> for Aligned<T> {
    fn from(elements: Vec<T>) -> Aligned<T> {
        let lines = filled(Line::ZERO, size_of_val(&elements[..]).div_ceil(size_of::<Line>()));
        let mut aligned = Aligned { lines, len: elements.len(), elements: PhantomData };
        aligned.copy_from_slice(&elements);
        aligned
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &Line::elements(&self.lines)[..self.len]
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut Line::elements_mut(&mut self.lines)[..self.len]
    }
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
