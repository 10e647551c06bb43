//! Sampling: peak, kernel and plain loop in turn, so that a ratio survives a machine that others use too.
//!
//! ```text
//!   round 1:  peak avx2 │ kernel avx2 │ peak avx512 │ kernel avx512 │ plain loop
//!   round 2:  peak avx2 │ …                             each some milliseconds, after one warm call
//! ```
//!
//! A share of the peak is the median of the shares *within* a round, not the ratio of two medians: when a
//! neighbour takes half the memory bandwidth for a second, both halves of the fraction fall together.
//! With cold caches each sample is a single call after a walk over other memory ([`super::cold`]), and so is
//! that of the peak.
//! Plain loops may be a hundred times slower; they are left out of some rounds so as to take at most a
//! third of the time.

use super::ceiling::Ceilings;
use super::rows::{Case, Run};
use crate::pool::Pool;
use crate::{Cpu, Tier, sys};
use std::time::Instant;

/// The median of some samples, with the extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The middle sample, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub samples: usize,
}

impl Summary {
    /// Of at least one sample; all zero for none.
    pub fn of(samples: &[f64]) -> Summary {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        if n == 0 {
            return Summary::default();
        }
        let median = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
        Summary { median, min: sorted[0], max: sorted[n - 1], samples: n }
    }
}

/// What the peak samples say about the quiet of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// From the 10th to the 90th percentile of the peak samples, as a part of their median.
    pub spread: f64,
}

impl Noise {
    /// Of the samples of one thing that should always be the same.
    pub fn of(samples: &[f64]) -> Noise {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        if sorted.is_empty() {
            Noise { spread: 0.0 }
        } else {
            Noise { spread: (at(0.9) - at(0.1)) / at(0.5) }
        }
    }

    /// In a word or two.
    pub fn verdict(self) -> &'static str {
        match self.spread {
            s if s < 0.03 => "quiet",
            s if s < 0.10 => "some noise",
            _ => "noisy: trust the ratios, not the rates",
        }
    }
}

/// One kernel, shape and tier, measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The tier.
    pub tier: Tier,
    /// Seconds a call.
    pub seconds: Summary,
    /// GFLOP/s or GB/s, as `Work::unit` says.
    pub rate: Summary,
    /// The ceiling that binds, in the same unit.
    pub peak: Summary,
    /// `rate / peak`, round by round.
    pub of_peak: Summary,
    /// The plain loop, in the same unit.
    pub plain: Summary,
    /// How many times as fast as the plain loop, round by round.
    pub speedup: Summary,
    /// How far the peak samples spread.
    pub noise: Noise,
    /// How far the shares of the peak do, measured alike.
    pub spread: f64,
    /// Hash of the result's bits: the same on every tier and for any number of threads.
    pub hash: u64,
}

/// How long to sample.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds for each tier of a case, about.
    pub seconds: f64,
}

impl Effort {
    /// Rounds even where they take longer than `seconds`.
    const MIN_ROUNDS: usize = 5;
    /// Rounds beyond which a median does not get better.
    const MAX_ROUNDS: usize = 200;

    /// Length of a sample.
    fn sample(self) -> f64 {
        (self.seconds / 60.0).clamp(0.5e-3, 10e-3)
    }

    fn enough(self, rounds: usize, elapsed: f64, tiers: usize) -> bool {
        let budget = self.seconds * tiers as f64;
        let rounds_wanted = if elapsed > 4.0 * budget { 2 } else { Self::MIN_ROUNDS };
        rounds >= Self::MAX_ROUNDS || sys::interrupted() || elapsed >= budget && rounds >= rounds_wanted
    }
}

/// Samples of one tier.
#[derive(Default)]
struct Samples {
    calls: usize,
    seconds: Vec<f64>,
    rate: Vec<f64>,
    peak: Vec<f64>,
    of_peak: Vec<f64>,
    speedup: Vec<f64>,
    hash: u64,
}

/// Measures `case` on each of `cpus`, with the ceilings and the plain loop in turn.
///
/// A kernel of one's own, against the plain loop and what the machine can do:
/// ```
/// use samebits::bench::ceiling::Ceilings;
/// use samebits::bench::measure::{Effort, Measured, Noise, Stopwatch, Summary, measure, repeats_for};
/// use samebits::bench::peak::Access;
/// use samebits::bench::rows::{Body, Case, Run, Work};
/// use samebits::{Cpu, kernels::reduce, pool::Pool};
/// let (pool, work) = (Pool::new(1), Work::memory(4096.0, Access::Read, 4 * 4096));
/// let body = Body::new(
///     (vec![1.0; 4096], 0.0),
///     |state: &mut (Vec<f32>, f32), run: &Run| state.1 = reduce::sum(run.cpu, &state.0),
///     |state| state.1 = state.0.iter().sum(),
///     |state| vec![state.1],
/// );
/// let mut case = Case::of(work, body);
/// let effort = Effort { seconds: 0.01 };
/// let rows: Vec<Measured> = measure(&mut case, &[Cpu::detect()], &pool, &mut Ceilings::default(), effort);
/// assert!(case.result() == [4096.0] && rows[0].seconds.median > 0.0);
/// let watch = Stopwatch::start(&pool);
/// assert!(repeats_for(0.001, &mut |n| (0..n).for_each(|_| case.plain())) >= 1 && watch.seconds() > 0.0);
/// assert_eq!(Summary::of(&[3.0, 1.0, 2.0]).median, 2.0);
/// assert_eq!(Noise::of(&[5.0; 10]).spread, 0.0);
/// ```
pub fn measure(
    case: &mut Case,
    cpus: &[Cpu],
    pool: &Pool,
    ceilings: &mut Ceilings,
    effort: Effort,
) -> Vec<Measured> {
    let work = case.work;
    let cold = ceilings.flushed() > 0;
    let calls = |call: &mut dyn FnMut()| if cold { once(call) } else { calls(effort, call) };
    let mut tiers: Vec<Samples> = cpus.iter().map(|&cpu| warm_up(case, &Run { cpu, pool }, &calls)).collect();
    let plain_calls = calls(&mut || case.plain());
    let (start, mut in_plain, mut plain) = (Instant::now(), 0.0, Vec::new());
    let mut rounds = 0;
    while !effort.enough(rounds, start.elapsed().as_secs_f64(), cpus.len()) {
        for (&cpu, samples) in cpus.iter().zip(&mut tiers) {
            let run = Run { cpu, pool };
            let peak = ceilings.sample(&run, work.bound, effort.sample());
            ceilings.prepare(pool);
            let seconds = time(pool, samples.calls, &mut || case.ours(&run));
            let rate = work.rate(seconds);
            samples.seconds.push(seconds);
            samples.rate.push(rate);
            samples.peak.push(peak);
            samples.of_peak.push(rate / peak);
        }
        if plain.is_empty() || in_plain < start.elapsed().as_secs_f64() / 3.0 {
            let t = Instant::now();
            ceilings.prepare(pool);
            let rate = work.rate(time(pool, plain_calls, &mut || case.plain()));
            in_plain += t.elapsed().as_secs_f64();
            plain.push(rate);
            for samples in &mut tiers {
                samples.speedup.push(samples.rate[rounds] / rate);
            }
        }
        rounds += 1;
    }
    let summed = |(cpu, s): (&Cpu, &Samples)| s.summary(cpu.tier(), &plain);
    cpus.iter().zip(&tiers).map(summed).collect()
}

fn warm_up(case: &mut Case, run: &Run<'_>, calls: &dyn Fn(&mut dyn FnMut()) -> usize) -> Samples {
    let calls = calls(&mut || case.ours(run));
    Samples { calls, hash: case.hash(), ..Samples::default() }
}

/// A sample of one call: all that is cold about the next is gone.
fn once(call: &mut dyn FnMut()) -> usize {
    call();
    1
}

/// How many calls make a sample. The first call, which warms up, tells where one is long enough already.
fn calls(effort: Effort, call: &mut dyn FnMut()) -> usize {
    let first = Instant::now();
    call();
    if first.elapsed().as_secs_f64() > 2.0 * effort.sample() {
        return 1;
    }
    repeats_for(effort.sample(), &mut |n| (0..n).for_each(|_| call()))
}

/// How many repeats fill about `seconds`; at least one. `run` is given how often to repeat.
pub fn repeats_for(seconds: f64, run: &mut dyn FnMut(usize)) -> usize {
    let mut repeats = 1;
    loop {
        let t = Instant::now();
        run(repeats);
        let taken = t.elapsed().as_secs_f64();
        // Long enough to be believed, then extrapolated.
        if taken >= seconds / 4.0 {
            return ((repeats as f64 * seconds / taken) as usize).max(1);
        }
        repeats *= 4;
    }
}

/// Seconds a call, over `calls`, after one that warms the caches (unless one is long enough to do so itself).
fn time(pool: &Pool, calls: usize, call: &mut dyn FnMut()) -> f64 {
    if calls > 1 {
        call();
    }
    let time = Stopwatch::start(pool);
    (0..calls).for_each(|_| call());
    time.seconds() / calls as f64
}

/// Measures time. A single thread's is that on the processor: what it waited in the run queue, while others
/// ran there, is taken off, where the system says how long that was. Of several threads it is the wall's.
pub struct Stopwatch {
    /// Run-queue seconds at the start.
    waited: Option<f64>,
    start: Instant,
}

impl Stopwatch {
    /// Longer than this between two lines of this file, and the thread was not running.
    const BLINK: f64 = 50e-6;

    /// Starts.
    pub fn start(pool: &Pool) -> Stopwatch {
        loop {
            let asked = Instant::now();
            let waited = if pool.threads() == 1 { run_queue_seconds() } else { None };
            let start = Instant::now();
            // Sent to the queue between the question and the start, it would have that wait taken off.
            if waited.is_none() || (start - asked).as_secs_f64() < Self::BLINK {
                return Stopwatch { waited, start };
            }
        }
    }

    /// Seconds since the start; never 0.
    pub fn seconds(&self) -> f64 {
        let wall = self.start.elapsed().as_secs_f64();
        let (Some(before), Some(after)) = (self.waited, run_queue_seconds()) else { return wall.max(1e-9) };
        // Likewise between the end and this question.
        let later = self.start.elapsed().as_secs_f64() - wall;
        let waited = after - before - if later < Self::BLINK { 0.0 } else { later };
        (wall - waited.max(0.0)).max(1e-9)
    }

    /// What it measures, in words.
    pub fn kind(threads: usize) -> &'static str {
        if threads == 1 && run_queue_seconds().is_some() { "wall less run queue" } else { "wall" }
    }
}

/// How long this thread has waited for a processor since it began (Linux: `schedstat`, second field, ns).
fn run_queue_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().nth(1)?.parse::<u64>().ok()? as f64 * 1e-9)
}

impl Samples {
    fn summary(&self, tier: Tier, plain: &[f64]) -> Measured {
        Measured {
            tier,
            seconds: Summary::of(&self.seconds),
            rate: Summary::of(&self.rate),
            peak: Summary::of(&self.peak),
            of_peak: Summary::of(&self.of_peak),
            plain: Summary::of(plain),
            speedup: Summary::of(&self.speedup),
            noise: Noise::of(&self.peak),
            spread: Noise::of(&self.of_peak).spread,
            hash: self.hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_many() {
        let of = |samples: &[f64]| Summary::of(samples);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Summary { median: 2.0, min: 1.0, max: 3.0, samples: 3 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 8.0]), Summary { median: 3.0, min: 1.0, max: 8.0, samples: 4 });
        assert_eq!(of(&[]), Summary::default());
    }

    #[test]
    fn one_outlier_in_twenty_is_no_noise() {
        let mut samples = vec![100.0; 20];
        samples[7] = 3.0;
        assert_eq!(Noise::of(&samples).verdict(), "quiet");
        samples[..5].fill(93.0);
        assert_eq!(Noise::of(&samples).verdict(), "some noise");
        samples[..10].fill(50.0);
        assert!(Noise::of(&samples).verdict().starts_with("noisy"));
    }

    #[test]
    fn repeats_fill_the_time() {
        let pool = Pool::new(1);
        let mut ran = 0;
        let repeats = repeats_for(2e-3, &mut |n| {
            ran += n;
            let time = Stopwatch::start(&pool);
            while time.start.elapsed().as_secs_f64() < n as f64 * 20e-6 {}
        });
        assert!(ran > 10 && (1..=100).contains(&repeats), "{repeats} after {ran}");
    }
}
