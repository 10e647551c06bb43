//! The ceilings of the roofline: a kernel's own, sampled beside it, and the machine's, for the picture.

use super::cold::Flush;
use super::measure::{Stopwatch, Summary, repeats_for};
use super::peak::{Access, Arithmetic, Integers, Memory, Store};
use super::rows::Run;
use crate::kernels::Line;
use crate::pool::Pool;
use crate::{Cpu, Tier};
use std::collections::BTreeMap;

/// What limits a kernel from above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The rate of multiply-adds of the tier.
    Arithmetic,
    /// The rate of products of eight bits of the tier and its extras.
    Integers,
    /// Memory: so many bytes touched in this way.
    Memory(Access, usize),
}

impl Bound {
    /// The name that tables print: `fma`, `read`, …
    pub const fn name(self) -> &'static str {
        match self {
            Bound::Arithmetic => "fma",
            Bound::Integers => "int8",
            Bound::Memory(access, _) => access.name(),
        }
    }
}

/// Samples ceilings; keeps the buffer, and what was found out about each ceiling at its first sample.
#[derive(Default)]
pub struct Ceilings {
    lines: Vec<Line>,
    /// Where the caches are to be cold.
    flush: Option<Flush>,
    known: BTreeMap<(Tier, Option<Access>, usize), Known>,
}

/// How to sample a ceiling.
#[derive(Clone, Copy)]
struct Known {
    /// Steps of the chains, or passes over the buffer, that take about as long as a sample should.
    repeats: usize,
    /// The faster way of writing so many lines.
    store: Store,
}

impl Ceilings {
    /// With a walk before each sample.
    pub fn cold(flush: Flush) -> Ceilings {
        Ceilings { flush: Some(flush), ..Ceilings::default() }
    }

    /// Bytes walked before each call that is timed; 0 where the caches stay warm.
    pub fn flushed(&self) -> usize {
        self.flush.as_ref().map_or(0, Flush::bytes)
    }

    /// Makes the caches cold, where they are to be.
    pub fn prepare(&mut self, pool: &Pool) {
        self.flush.iter_mut().for_each(|flush| flush.walk(pool));
    }

    /// One sample of about `seconds`: GFLOP/s or GB/s of all threads of the pool together.
    pub fn sample(&mut self, run: &Run<'_>, bound: Bound, seconds: f64) -> f64 {
        match bound {
            Bound::Arithmetic => self.chains(run, 0, |steps| run.cpu.run(Arithmetic { steps }), seconds),
            Bound::Integers => self.chains(run, 1, |steps| run.cpu.run_quads(Integers { steps }), seconds),
            Bound::Memory(access, bytes) => self.memory(run, access, bytes, seconds),
        }
    }

    /// One piece a thread, long enough that a late one does not matter: `work` does so many steps and says how many
    /// operations they were; `kind` tells one sort of work from another.
    fn chains(
        &mut self,
        run: &Run<'_>,
        kind: usize,
        work: impl Fn(usize) -> f64 + Sync,
        seconds: f64,
    ) -> f64 {
        const STEPS: usize = 512;
        let flops = work(STEPS);
        let mut chains = |repeats| {
            run.pool.run(0..run.pool.threads(), |_, _| {
                work(STEPS * repeats);
            });
        };
        let known = self
            .known
            .entry((run.cpu.tier(), None, kind))
            .or_insert_with(|| Known { repeats: repeats_for(seconds, &mut chains), store: Store::Cached });
        let time = Stopwatch::start(run.pool);
        chains(known.repeats);
        flops * (known.repeats * run.pool.threads()) as f64 / time.seconds() * 1e-9
    }

    fn memory(&mut self, run: &Run<'_>, access: Access, bytes: usize, seconds: f64) -> f64 {
        let count = bytes.div_ceil(size_of::<Line>()).max(8 * run.pool.threads());
        if self.lines.len() < count {
            self.lines = super::memory::lines(count);
        }
        let (lines, flush) = (&mut self.lines[..count], &mut self.flush);
        let known = self.known.entry((run.cpu.tier(), Some(access), count)).or_insert_with(|| {
            let mut try_out = |store| {
                let repeats = match flush {
                    Some(_) => 1,
                    None => repeats_for(seconds, &mut |n| pass(run, lines, (access, store), n)),
                };
                let samples = [(); 3].map(|()| sample(run, (lines, flush), access, Known { repeats, store }));
                (Summary::of(&samples).median, Known { repeats, store })
            };
            let cached = try_out(Store::Cached);
            if matches!(access, Access::Read | Access::Update) {
                return cached.1;
            }
            let streamed = try_out(Store::Streamed);
            if streamed.0 > cached.0 { streamed.1 } else { cached.1 }
        });
        sample(run, (lines, flush), access, *known)
    }
}

/// GB/s over some passes.
fn sample(
    run: &Run<'_>,
    (lines, flush): (&mut [Line], &mut Option<Flush>),
    access: Access,
    known: Known,
) -> f64 {
    flush.iter_mut().for_each(|flush| flush.walk(run.pool));
    let time = Stopwatch::start(run.pool);
    pass(run, lines, (access, known.store), known.repeats);
    let moved = if access == Access::Update { 2.0 } else { 1.0 };
    moved * size_of_val(lines) as f64 * known.repeats as f64 / time.seconds() * 1e-9
}

/// Each thread passes over its own part of the buffer, again and again.
fn pass(run: &Run<'_>, lines: &mut [Line], (access, store): (Access, Store), passes: usize) {
    let part = lines.len().div_ceil(run.pool.threads());
    run.pool.run(lines.chunks_mut(part), |lines, _| {
        run.cpu.run(Memory { lines, access, store, passes });
    });
}

/// A line of the roofline picture.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// `L1`, `L2`, `L3`, `DRAM`, or `fma`.
    pub name: &'static str,
    /// The tier that it was measured with.
    pub tier: Tier,
    /// Bytes of the buffer that was read; 0 for `fma`.
    pub bytes: usize,
    /// GB/s read, or GFLOP/s.
    pub rate: Summary,
}

/// Measures the machine: multiply-adds of each tier, and reads of a buffer in each cache and in memory with
/// the fastest of the tiers. The samples of the ceilings take turns.
///
/// ```
/// use samebits::bench::ceiling::{Bound, Ceiling, Ceilings, roofline};
/// use samebits::bench::cold::Flush;
/// use samebits::{Cpu, bench::rows::Run, pool::Pool};
/// let (pool, cpu, mut ceilings) = (Pool::new(1), Cpu::detect(), Ceilings::default());
/// let rate = ceilings.sample(&Run { cpu, pool: &pool }, Bound::Arithmetic, 0.001);
/// assert!(rate > 0.0 && Bound::Arithmetic.name() == "fma");
/// let lines: Vec<Ceiling> = roofline(&[("L1", 16 << 10)], &[cpu], &pool, &mut ceilings);
/// assert!(lines.iter().any(|line| line.name == "L1" && line.rate.median > 0.0));
/// let mut cold = Ceilings::cold(Flush::new(1 << 20)); // a walk over a MiB before each sample
/// cold.prepare(&pool);
/// assert_eq!(cold.flushed(), 1 << 20);
/// ```
pub fn roofline(
    sizes: &[(&'static str, usize)],
    cpus: &[Cpu],
    pool: &Pool,
    ceilings: &mut Ceilings,
) -> Vec<Ceiling> {
    const ROUNDS: usize = 7;
    const SECONDS: f64 = 4e-3;
    let fma = cpus.iter().map(|&cpu| ("fma", cpu, Bound::Arithmetic, 0));
    let best = *cpus.last().expect("at least one tier");
    let read = sizes.iter().map(|&(name, bytes)| (name, best, Bound::Memory(Access::Read, bytes), bytes));
    let all: Vec<_> = fma.chain(read).collect();
    let mut samples = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for (samples, &(_, cpu, bound, _)) in samples.iter_mut().zip(&all) {
            samples.push(ceilings.sample(&Run { cpu, pool }, bound, SECONDS));
        }
    }
    let ceiling = |((name, cpu, _, bytes), samples): ((_, Cpu, _, _), Vec<f64>)| Ceiling {
        name,
        tier: cpu.tier(),
        bytes,
        rate: Summary::of(&samples),
    };
    all.into_iter().zip(samples).map(ceiling).collect()
}
