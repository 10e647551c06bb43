//! # The k largest of n
//!
//! **Math.**  The first k of the scores in this total order: larger before smaller; a NaN before every number, as
//! `max` lets it win; equals (two NaN, or −0 and +0, too) by their place, lower first.
//!
//! **Law.**   Comparisons alone: no rounding, and a total order has one answer.
//!
//! ```text
//!   scores   x0…x15 │ x16…x31 │ … ─► any lane > the worst kept?  ── no ──► next (nearly always)
//!                                                    │ yes
//!                                                    ▼
//!                        heap of k, its root the worst kept: the root is replaced and sinks
//!   end      roots taken out one by one ─► sorted, best first
//! ```
//!
//! **Registers.**  The threshold and 4 words.
//!
//! **Cost.**  4 bytes and 1 comparison a score: the reading binds. A score that enters costs log₂ k steps; in
//! random order k · ln(n / k) enter, in rising order all do.
//!
//! **Error.**  None.  **Reference.**  Williams 1964 (heap).  **Next.**  [`crate::dot`].

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::simd::Simd;

/// Writes the k = `values.len()` largest scores, best first, and their places; returns how many there are:
/// min(k, n). What lies behind them is left as it was. A NaN comes before every number, equals by place.
///
/// # Panics
/// Where `values` and `indices` differ in length, or there are more than 2³² scores.
pub fn topk(cpu: Cpu, scores: &[f32], values: &mut [f32], indices: &mut [u32]) -> usize {
    let (k, places) = (values.len(), indices.len());
    assert!(k == places, "{k} values, {places} indices");
    assert!(scores.len() as u64 <= 1 << 32, "{} scores: more than 2^32", scores.len());
    let k = k.min(scores.len());
    if k > 0 {
        cpu.run(TopK { scores, heap: Heap { values: &mut values[..k], indices: &mut indices[..k] } });
    }
    k
}

struct TopK<'a> {
    scores: &'a [f32],
    heap: Heap<'a>,
}

/// Words compared at a time.
const WORDS: usize = 4;

impl Kernel for TopK<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let k = self.heap.values.len();
        let (first, rest) = self.scores.split_at(k);
        self.heap.fill(first);
        let (blocks, tail) = rest.as_chunks::<{ WORDS * LANES }>();
        for (b, block) in blocks.iter().enumerate() {
            // What is not larger than the worst kept comes later than it, so it loses a tie too.
            let worst = s.splat(self.heap.values[0]);
            let (words, _) = block.as_chunks::<LANES>();
            let mut any = s.mask_from_bits(0);
            for w in words {
                let x = s.load(w);
                any = s.mask_or(any, s.mask_or(s.gt(x, worst), s.is_nan(x)));
            }
            if s.any(any) {
                self.heap.offer(block, k + b * block.len());
            }
        }
        self.heap.offer(tail, self.scores.len() - tail.len());
        self.heap.sort();
    }
}

/// The best so far in the caller's memory, as a heap with the worst at the root.
struct Heap<'a> {
    values: &'a mut [f32],
    indices: &'a mut [u32],
}

impl Heap<'_> {
    /// Starts with as many scores as the heap holds.
    fn fill(&mut self, scores: &[f32]) {
        self.values.copy_from_slice(scores);
        for (i, index) in self.indices.iter_mut().enumerate() {
            *index = i as u32;
        }
        let n = self.values.len();
        for at in (0..n / 2).rev() {
            self.sink(at, n);
        }
    }

    /// Takes in the scores that beat the root; `start` is the place of the first.
    fn offer(&mut self, scores: &[f32], start: usize) {
        for (i, &x) in scores.iter().enumerate() {
            let place = (start + i) as u32;
            if before((x, place), (self.values[0], self.indices[0])) {
                (self.values[0], self.indices[0]) = (x, place);
                self.sink(0, self.values.len());
            }
        }
    }

    /// Heap to list, best first: the worst goes to the end, again and again.
    fn sort(&mut self) {
        for end in (1..self.values.len()).rev() {
            self.values.swap(0, end);
            self.indices.swap(0, end);
            self.sink(0, end);
        }
    }

    /// Moves the entry at `at` down until nothing below it, within `len` entries, is worse.
    fn sink(&mut self, mut at: usize, len: usize) {
        let entry = (self.values[at], self.indices[at]);
        loop {
            let mut child = 2 * at + 1;
            if child >= len {
                break;
            }
            if child + 1 < len && before(self.get(child), self.get(child + 1)) {
                child += 1;
            }
            if before(self.get(child), entry) {
                break;
            }
            (self.values[at], self.indices[at]) = self.get(child);
            at = child;
        }
        (self.values[at], self.indices[at]) = entry;
    }

    fn get(&self, i: usize) -> (f32, u32) {
        (self.values[i], self.indices[i])
    }
}

/// Whether `a` comes before `b` in the order of this file.
fn before(a: (f32, u32), b: (f32, u32)) -> bool {
    match (a.0.is_nan(), b.0.is_nan()) {
        (true, true) => a.1 < b.1,
        (nan, other) if nan != other => nan,
        _ => a.0 > b.0 || a.0 == b.0 && a.1 < b.1,
    }
}
