//! What this core can do at most, measured beside the kernels and written in the same words.
//!
//! * **Arithmetic**: as many independent FMA chains as the tier's matrix tile holds in registers, no memory.
//!   24 chains of a zmm (AVX-512), 12 of a ymm (AVX2), 24 of a q (NEON): more than latency × throughput.
//! * **Integers**: the same of products of eight bits, four steps of sixteen columns a word, as the tier's extras do them.
//! * **Memory**: reads (an `or` of all lines, four streams), writes, copies and updates in place, over a
//!   buffer of the size that the kernel touches; a buffer that fits a cache is read from that cache.
//! * **Clock**: a chain of dependent one-cycle integer operations.
//!
//! Operands come out of [`black_box`], so that nothing is folded or hoisted; they are neither zero nor
//! subnormal, and chains stay finite.
use crate::kernels::simd::quads::{QuadKernel, Quads};
use crate::kernels::simd::{Floats, Simd};
use crate::kernels::{Kernel, LANES, Line};
use std::hint::black_box;
use std::time::Instant;

/// Independent multiply-add chains, `steps` long. Returns the operations done.
pub struct Arithmetic {
    /// Length of each chain.
    pub steps: usize,
}

impl Kernel for Arithmetic {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        // As many words as the tier keeps in registers: the accumulators of its matrix tile.
        match S::TILE.0 * S::TILE.1 {
            24 => chains::<S, 24>(s, self.steps),
            6 => chains::<S, 6>(s, self.steps),
            _ => chains::<S, 2>(s, self.steps),
        }
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, steps: usize) -> f64 {
    // x ← 3/4 x + 1/4 tends to 1 from each start; the compiler knows neither start nor factors.
    let start: [Floats; N] = black_box([[2.0; LANES]; N]);
    let (factor, term) = (s.splat(black_box(0.75)), s.splat(black_box(0.25)));
    let mut acc = [factor; N];
    for (a, x) in acc.iter_mut().zip(&start) {
        *a = s.load(x);
    }
    for _ in 0..steps {
        for a in &mut acc {
            *a = s.fma(*a, factor, term);
        }
    }
    for a in acc {
        black_box(s.to_array(a));
    }
    (steps * N * LANES * 2) as f64
}

/// Independent chains of products of eight bits, `steps` long. Returns the operations done.
pub struct Integers {
    /// Length of each chain.
    pub steps: usize,
}

impl QuadKernel for Integers {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) -> f64 {
        match Q::TILE {
            (12, 2, _) => quads::<S, Q, 12, 2>((s, q), self.steps),
            (4, 1, _) => quads::<S, Q, 4, 1>((s, q), self.steps),
            _ => quads::<S, Q, 2, 1>((s, q), self.steps),
        }
    }
}

/// The tile's sums, of rows that are read anew at each step, or products would be taken out of the loop.
#[inline(always)]
fn quads<S: Simd, Q: Quads<S>, const MR: usize, const NP: usize>((s, q): (S, Q), steps: usize) -> f64 {
    let mut rows = [[0x0301_fe02, 0x0102_0203]; MR];
    let mut right = [q.right(s, s.splat_i(0)); NP];
    for (i, right) in right.iter_mut().enumerate() {
        *right = q.right(s, s.splat_i(black_box(0x0504_0302 + i as i32)));
    }
    let mut sums = [[q.start(s, black_box(0)); NP]; MR];
    for _ in 0..steps {
        black_box(&mut rows);
        for (sums, &row) in sums.iter_mut().zip(&rows) {
            for (sum, &right) in sums.iter_mut().zip(&right) {
                *sum = q.dot(s, row, right, *sum);
            }
        }
    }
    for sum in sums.into_iter().flatten() {
        let mut out = [0; LANES];
        s.store_i(&mut out, q.total(s, sum));
        black_box(out);
    }
    (steps * MR * NP * LANES * 8) as f64
}

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Every byte is read.
    Read,
    /// Every byte is written, past the caches where that is faster.
    Write,
    /// One half is read, the other written.
    Copy,
    /// Every byte is read and written back.
    Update,
}

impl Access {
    /// The name that tables print.
    pub const fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Copy => "copy",
            Access::Update => "update",
        }
    }
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Through the caches.
    Cached,
    /// Past them ([`Simd::stream`]).
    Streamed,
}

/// `passes` times over `lines`. Returns the bytes moved.
///
/// ```
/// use samebits::bench::peak::{Access, Arithmetic, Integers, Memory, Store, clock};
/// use samebits::{Cpu, kernels::Line};
/// let (cpu, mut lines) = (Cpu::detect(), vec![Line::ZERO; 64]);
/// let moved = cpu.run(Memory { lines: &mut lines, access: Access::Read, store: Store::Cached, passes: 3 });
/// assert_eq!(moved as usize, 3 * 64 * 64); // bytes
/// assert!(cpu.run(Arithmetic { steps: 100 }) as usize > 100); // operations
/// assert!(cpu.run_quads(Integers { steps: 100 }) as usize > 100);
/// assert!(clock(0.001) > 0.0); // GHz
/// ```
pub struct Memory<'a> {
    /// The buffer.
    pub lines: &'a mut [Line],
    /// What is done to it.
    pub access: Access,
    /// How lines are written.
    pub store: Store,
    /// How often.
    pub passes: usize,
}

impl Kernel for Memory<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let Memory { lines, access, store, passes } = self;
        let bytes = size_of_val(lines) as f64 * passes as f64;
        for _ in 0..passes {
            let lines = black_box(&mut *lines);
            match access {
                Access::Read => read(s, lines),
                Access::Update => update(s, lines),
                Access::Write => write(s, lines, store),
                Access::Copy => {
                    let (from, to) = lines.split_at_mut(lines.len() / 2);
                    copy(s, from, to, store);
                }
            }
        }
        s.fence();
        // An update moves every byte twice.
        if access == Access::Update { 2.0 * bytes } else { bytes }
    }
}

/// Four streams, so that four pages are under way in the prefetchers, and `or`, which is never the limit.
#[inline(always)]
fn read<S: Simd>(s: S, lines: &[Line]) {
    let quarter = lines.len() / 4;
    let (ab, cd) = lines.split_at(2 * quarter);
    let ((a, b), (c, d)) = (ab.split_at(quarter), cd.split_at(quarter));
    let mut acc = [s.splat_i(black_box(1)); 4];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        acc[0] = s.or_i(acc[0], s.bits(s.load(a)));
        acc[1] = s.or_i(acc[1], s.bits(s.load(b)));
        acc[2] = s.or_i(acc[2], s.bits(s.load(c)));
        acc[3] = s.or_i(acc[3], s.bits(s.load(d)));
    }
    let all = s.or_i(s.or_i(acc[0], acc[1]), s.or_i(acc[2], acc[3]));
    black_box(s.to_array(s.of_bits(all)));
}

#[inline(always)]
fn update<S: Simd>(s: S, lines: &mut [Line]) {
    // Flips nothing, but the compiler cannot know.
    let flip = s.splat_i(black_box(0));
    for line in lines {
        let v = s.of_bits(s.xor_i(s.bits(s.load(line)), flip));
        s.store(line, v);
    }
}

#[inline(always)]
fn write<S: Simd>(s: S, lines: &mut [Line], store: Store) {
    let v = s.splat(black_box(1.0));
    // One loop each: a word inside a closure may lose the tier's instructions.
    match store {
        Store::Cached => {
            for line in lines {
                s.store(line, v);
            }
        }
        Store::Streamed => {
            for line in lines {
                s.stream(line, v);
            }
        }
    }
}

#[inline(always)]
fn copy<S: Simd>(s: S, from: &[Line], to: &mut [Line], store: Store) {
    match store {
        Store::Cached => {
            for (to, from) in to.iter_mut().zip(from) {
                s.store(to, s.load(from));
            }
        }
        Store::Streamed => {
            for (to, from) in to.iter_mut().zip(from) {
                s.stream(to, s.load(from));
            }
        }
    }
}

/// The clock in GHz: two dependent integer operations of one cycle each, for about `seconds`.
pub fn clock(seconds: f64) -> f64 {
    const STEPS: u64 = 100_000;
    let (a, b) = (black_box(0x9e37_79b9_7f4a_7c15u64), black_box(0x0123_4567_89ab_cdefu64));
    let (start, mut best) = (Instant::now(), 0.0f64);
    while start.elapsed().as_secs_f64() < seconds {
        let mut x = black_box(a);
        let t = Instant::now();
        for _ in 0..STEPS {
            x = (x ^ a).wrapping_add(b);
        }
        black_box(x);
        best = best.max((2 * STEPS) as f64 / t.elapsed().as_secs_f64() * 1e-9);
    }
    best
}
