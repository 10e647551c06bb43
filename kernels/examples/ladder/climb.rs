//! A ladder, and how it is climbed: each rung checked, then timed.

use samebits_kernels::Cpu;
use std::fmt;
use std::time::Instant;

/// What a rung's result is held to.
#[derive(Clone, Copy)]
pub enum Law {
    /// The bits of the library's kernel.
    Obeyed,
    /// The bound of `f64`, since in this it differs.
    Differs(&'static str),
}

/// One idea more.
pub struct Rung<P> {
    /// What the idea is called.
    pub name: &'static str,
    /// Why it is faster than the rung below.
    pub why: &'static str,
    /// What it is held to.
    pub law: Law,
    /// Computes the whole result anew.
    pub run: fn(&mut P, Cpu),
}

/// Inputs and a result.
pub trait Problem {
    /// The result.
    fn out(&mut self) -> &mut [f32];
    /// What it is in `f64`, and how far from that an element may be.
    fn truth(&self) -> Vec<(f64, f64)>;
}

/// The rungs of one kernel, the lowest first; the highest is the library's.
pub struct Ladder<P: 'static> {
    /// The kernel.
    pub name: &'static str,
    /// Its sizes.
    pub shape: String,
    /// The work of a call, in units of 10⁹ a second.
    pub work: f64,
    /// `GFLOP/s` or `GB/s`.
    pub unit: &'static str,
    /// Inputs and result.
    pub problem: P,
    /// The rungs.
    pub rungs: &'static [Rung<P>],
}

/// A rung that was timed.
pub struct Timed {
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub why: &'static str,
    /// What differs from the law.
    pub law: Law,
    /// In the ladder's unit.
    pub rate: f64,
    /// Times the rung below.
    pub gain: f64,
}

/// A ladder that was climbed.
pub struct Climbed {
    /// The kernel, its sizes, the tier.
    pub title: String,
    /// The unit of rates.
    pub unit: &'static str,
    /// The rungs.
    pub rungs: Vec<Timed>,
}

impl<P: Problem> Ladder<P> {
    /// Checks every rung.
    ///
    /// # Panics
    /// Where a result is not what the rung is held to.
    pub fn check(&mut self, cpu: Cpu) {
        let full = self.rungs.last().expect("a ladder has rungs");
        self.problem.out().fill(f32::NAN);
        (full.run)(&mut self.problem, cpu);
        let expected = self.problem.out().to_vec();
        let truth = self.problem.truth();
        for rung in self.rungs {
            self.problem.out().fill(f32::NAN);
            (rung.run)(&mut self.problem, cpu);
            for (i, ((&got, &bits), &(exact, bound))) in
                self.problem.out().iter().zip(&expected).zip(&truth).enumerate()
            {
                let place = format!("{} {}, element {i}: {got}", self.name, rung.name);
                let error = (f64::from(got) - exact).abs();
                assert!(error <= bound, "{place} is {error:e} from {exact}, at most {bound:e}");
                if matches!(rung.law, Law::Obeyed) {
                    assert!(got.to_bits() == bits.to_bits(), "{place}, the library's kernel gives {bits}");
                }
            }
        }
    }

    /// Checks every rung, then times it: the best of some calls, about a third of a second.
    pub fn climb(mut self, cpu: Cpu) -> Climbed {
        self.check(cpu);
        let mut rungs: Vec<Timed> = Vec::new();
        for &Rung { name, why, law, run } in self.rungs {
            let (start, mut best) = (Instant::now(), f64::INFINITY);
            let mut calls = 0;
            while calls < 3 || start.elapsed().as_secs_f64() < 0.35 {
                let call = Instant::now();
                run(std::hint::black_box(&mut self.problem), cpu);
                best = best.min(call.elapsed().as_secs_f64());
                calls += 1;
            }
            let rate = self.work / best * 1e-9;
            let gain = rungs.last().map_or(1.0, |below| rate / below.rate);
            rungs.push(Timed { name, why, law, rate, gain });
        }
        Climbed { title: format!("{} {}, {}", self.name, self.shape, cpu.tier()), unit: self.unit, rungs }
    }
}

impl fmt::Display for Climbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        for Timed { name, why, law, rate, gain } in &self.rungs {
            writeln!(f, "{name:<10} {rate:>8.2} {}  {gain:>5.2} ×  {why}", self.unit)?;
            if let Law::Differs(how) = law {
                writeln!(f, "{:<10} {:>26}not the law's bits: {how}", "", "")?;
            }
        }
        let (first, last) = (&self.rungs[0], &self.rungs[self.rungs.len() - 1]);
        writeln!(
            f,
            "{:<10} {:>8.1} times {}, with the same bits on every machine\n",
            "in all",
            last.rate / first.rate,
            first.name
        )
    }
}

/// Numbers from −1 to 1 that look random, the same everywhere.
pub fn drawn(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}
