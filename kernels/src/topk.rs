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
//! **Error.**  None.  **Reference.**  Williams 1964 (heap, [doi:10.1145/512274.512284](https://doi.org/10.1145/512274.512284)).  **Next.**  [`crate::dot`].

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::simd::Simd;

/// Writes the k = `values.len()` largest scores, best first, and their places; returns how many there are:
/// min(k, n). What lies behind them is left as it was. A NaN comes before every number, equals by place.
///
/// ```
/// use samebits_kernels::{Cpu, topk::{Best, Places, topk}};
/// let (cpu, scores) = (Cpu::detect(), [0.1, 0.9, 0.5, 0.9]);
/// let (mut values, mut indices) = ([0.0; 3], [0; 3]);
/// assert_eq!(topk(cpu, &scores, &mut values, &mut indices), 3);
/// assert_eq!((values, indices), ([0.9, 0.9, 0.5], [1, 3, 2])); // equals by place
/// // The same of scores that come in parts.
/// let (mut some, mut at) = ([0.0; 3], [0; 3]);
/// let mut best = Best::new(&mut some, &mut at);
/// best.offer(cpu, &scores[2..], Places::At(&[2, 3]));
/// best.offer(cpu, &scores[..2], Places::At(&[0, 1]));
/// best.offer(cpu, &[0.2], Places::From(4));
/// assert_eq!((best.finish(), some, at), (3, values, indices));
/// ```
///
/// # Panics
/// Where `values` and `indices` differ in length, or there are more than 2³² scores.
pub fn topk(cpu: Cpu, scores: &[f32], values: &mut [f32], indices: &mut [u32]) -> usize {
    let mut best = Best::new(values, indices);
    best.offer(cpu, scores, Places::From(0));
    best.finish()
}

/// The best so far of scores that come in parts: what [`topk`] says of all of them at once.
pub struct Best<'a> {
    heap: Heap<'a>,
    /// So many came; a heap from k on, until then a list.
    held: usize,
}

/// Which places scores have.
#[derive(Clone, Copy)]
pub enum Places<'a> {
    /// This, the next, …: later ones than all before.
    From(u32),
    /// These, in any order.
    At(&'a [u32]),
}

impl Places<'_> {
    fn get(&self, i: usize) -> u32 {
        match self {
            Places::From(start) => start + i as u32,
            Places::At(places) => places[i],
        }
    }
}

impl<'a> Best<'a> {
    /// None yet; the k = `values.len()` best will be kept there.
    ///
    /// # Panics
    /// Where `values` and `indices` differ in length.
    pub fn new(values: &'a mut [f32], indices: &'a mut [u32]) -> Best<'a> {
        let (k, places) = (values.len(), indices.len());
        assert!(k == places, "{k} values, {places} indices");
        Best { heap: Heap { values, indices }, held: 0 }
    }

    /// Takes in those of `scores` that are good enough.
    ///
    /// # Panics
    /// Where places pass 2³², or there are not as many as scores.
    pub fn offer(&mut self, cpu: Cpu, scores: &[f32], places: Places) {
        match places {
            Places::From(start) => {
                let end = u64::from(start) + scores.len() as u64;
                assert!(end <= 1 << 32, "{end} scores: more than 2^32");
            }
            Places::At(at) => {
                assert!(at.len() == scores.len(), "{} scores, {} places", scores.len(), at.len())
            }
        }
        let k = self.heap.values.len();
        let first = scores.len().min(k - self.held);
        for (i, &x) in scores[..first].iter().enumerate() {
            (self.heap.values[self.held], self.heap.indices[self.held]) = (x, places.get(i));
            self.held += 1;
        }
        if first > 0 && self.held == k {
            (0..k / 2).rev().for_each(|at| self.heap.sink(at, k));
        }
        if first < scores.len() && k > 0 {
            cpu.run(Offer { heap: &mut self.heap, scores, places, from: first });
        }
    }

    /// The worst kept, once there are k: what is not larger comes in by its place alone, or not at all.
    pub fn worst(&self) -> Option<f32> {
        self.heap.values.first().copied().filter(|_| self.held == self.heap.values.len())
    }

    /// Puts the best first; returns how many there are.
    pub fn finish(self) -> usize {
        let Heap { values, indices } = self.heap;
        let mut heap = Heap { values: &mut values[..self.held], indices: &mut indices[..self.held] };
        (0..self.held / 2).rev().for_each(|at| heap.sink(at, self.held));
        heap.sort();
        self.held
    }
}

/// Scores from `from` on, for a heap that is full.
struct Offer<'h, 'a> {
    heap: &'h mut Heap<'a>,
    scores: &'h [f32],
    places: Places<'h>,
    from: usize,
}

/// Words compared at a time.
const WORDS: usize = 4;

impl Kernel for Offer<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let scores = self.scores;
        let (blocks, tail) = scores[self.from..].as_chunks::<{ WORDS * LANES }>();
        let mut at = self.from;
        for block in blocks {
            let (words, _) = block.as_chunks::<LANES>();
            let mut any = s.mask_from_bits(0);
            for w in words {
                any = s.mask_or(any, self.better(s, s.load(w)));
            }
            if s.any(any) {
                for (w, start) in words.iter().zip((at..).step_by(LANES)) {
                    self.word(s, w, start);
                }
            }
            at += block.len();
        }
        for (w, start) in tail.chunks(LANES).zip((at..).step_by(LANES)) {
            self.word(s, w, start);
        }
    }
}

impl Offer<'_, '_> {
    /// What may come in. Where places ascend, what is not larger than the worst kept comes later than it and loses a tie
    /// too.
    #[inline(always)]
    fn better<S: Simd>(&self, s: S, x: S::F32) -> S::Mask {
        let worst = s.splat(self.heap.values[0]);
        let better = match self.places {
            Places::From(_) => s.gt(x, worst),
            Places::At(_) => s.ge(x, worst),
        };
        s.mask_or(better, s.is_nan(x))
    }

    /// Takes in those of sixteen scores, or of fewer, that beat the root; the first is the one numbered `start`.
    #[inline(always)]
    fn word<S: Simd>(&mut self, s: S, scores: &[f32], start: usize) {
        let better = s.mask_bits(self.better(s, s.load_tail(scores, 0.0)));
        let some = better & u32::MAX >> (32 - scores.len());
        if some != 0 {
            self.heap.offer((scores, some), self.places, start);
        }
    }
}

/// The best so far in the caller's memory, as a heap with the worst at the root.
struct Heap<'a> {
    values: &'a mut [f32],
    indices: &'a mut [u32],
}

impl Heap<'_> {
    /// Takes in those of `some` of the scores that beat the root; the first is the one numbered `start`.
    fn offer(&mut self, (scores, mut some): (&[f32], u32), places: Places, start: usize) {
        while some != 0 {
            let i = some.trailing_zeros() as usize;
            some &= some - 1;
            let (x, place) = (scores[i], places.get(start + i));
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
