//! Measuring: what the machine can do, what a kernel does of it, and what a plain Rust loop would do.
//!
//! * [`peak`]: ceilings, written in the words of the kernels · [`ceiling`]: which one binds, and its samples
//! * [`cold`]: caches emptied before each call · [`rows`]: the kernels, one entry each · [`measure`]: samples of peak, kernel and plain loop in turn
//! * [`report`]: JSON (with its schema) and CSV · [`svg`]: the roofline as a picture · `record`: runs that are kept and compared
//!
//! ```no_run
//! use samebits::bench::{Plan, Session, rows};
//! use samebits::{Cpu, pool::Pool};
//! let pool = Pool::new(1);
//! let mut session = Session::new(&pool, vec![Cpu::detect()], Plan::default());
//! for entry in rows::entries() {
//!     session.measure(entry, entry.shapes[0]);
//! }
//! println!("{}", session.finish().csv());
//! ```

pub mod ceiling;
pub mod cold;
mod machine;
pub mod measure;
pub(crate) mod memory;
pub(crate) mod model;
pub mod peak;
pub(crate) mod record;
pub mod report;
pub mod rows;
pub(crate) mod search;
pub mod svg;
pub(crate) mod train;

use crate::Cpu;
use crate::pool::Pool;
use ceiling::Ceilings;
use cold::{Cache, Flush};
use machine::Conditions;
use measure::Effort;
use report::{Report, Row};
use rows::{Case, Entry, Inputs};

/// How a session measures.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seconds for each kernel, shape and tier, about.
    pub seconds: f64,
    /// Of the inputs.
    pub seed: u64,
    /// What the caches hold when a call begins.
    pub cache: Cache,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { seconds: 1.0, seed: 1, cache: Cache::Warm }
    }
}

/// A run of measurements under the same conditions.
pub struct Session<'a> {
    pool: &'a Pool,
    cpus: Vec<Cpu>,
    plan: Plan,
    ceilings: Ceilings,
    report: Report,
}

impl<'a> Session<'a> {
    /// Measures on each of `cpus`, slowest first, with the threads of `pool`.
    ///
    /// # Panics
    /// Without a `Cpu`.
    pub fn new(pool: &'a Pool, cpus: Vec<Cpu>, plan: Plan) -> Session<'a> {
        assert!(!cpus.is_empty(), "nothing to measure on");
        let mut conditions = Conditions::new(pool, plan.seed, plan.seconds);
        let ceilings = match plan.cache {
            Cache::Warm => Ceilings::default(),
            Cache::Cold => Ceilings::cold(Flush::new(conditions.walk())),
        };
        conditions.flushed = ceilings.flushed();
        let report = Report { conditions, ceilings: Vec::new(), rows: Vec::new() };
        Session { pool, cpus, plan, ceilings, report }
    }

    /// The machine's own ceilings: multiply-adds of each tier, reads of each cache (warm: they are the caches')
    /// and of memory.
    pub fn roofline(&mut self) {
        let sizes = self.report.conditions.read_sizes();
        self.report.ceilings = ceiling::roofline(&sizes, &self.cpus, self.pool, &mut Ceilings::default());
    }

    /// Measures a kernel at a shape; returns its rows, one a tier.
    pub fn measure(&mut self, entry: &Entry, dims: &[usize]) -> &[Row] {
        let case = Case::new(entry, dims, &mut self.inputs());
        self.measure_case(entry.name, &shape(dims), case)
    }

    /// A source of inputs, from the plan's seed.
    pub fn inputs(&self) -> Inputs {
        Inputs::new(self.plan.seed, *self.cpus.last().expect("checked when made"))
    }

    /// Measures a case made elsewhere.
    pub fn measure_case(&mut self, kernel: &str, shape: &str, mut case: Case) -> &[Row] {
        let effort = Effort { seconds: self.plan.seconds };
        let tiers = measure::measure(&mut case, &self.cpus, self.pool, &mut self.ceilings, effort);
        self.report.conditions.refresh();
        let from = self.report.rows.len();
        self.report.rows.extend(tiers.into_iter().map(|measured| Row {
            kernel: kernel.to_owned(),
            shape: shape.to_owned(),
            work: case.work,
            measured,
        }));
        &self.report.rows[from..]
    }

    /// What was found.
    pub fn finish(self) -> Report {
        self.report
    }

    /// What was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// Dimensions as `--shape` takes them: `8x4096x4096`.
pub fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Bytes a second that the pool's threads read from a buffer of `bytes`, at most 256 MiB: the best of a few passes.
///
/// ```
/// use samebits::{Cpu, bench::read_bandwidth, pool::Pool};
/// assert!(read_bandwidth(Cpu::detect(), &Pool::new(1), 1 << 20) > 0.0);
/// ```
pub fn read_bandwidth(cpu: Cpu, pool: &Pool, bytes: usize) -> f64 {
    let (run, bytes) = (rows::Run { cpu, pool }, bytes.clamp(1 << 16, 256 << 20));
    let mut ceilings = ceiling::Ceilings::default();
    let bound = ceiling::Bound::Memory(peak::Access::Read, bytes);
    let samples = [(); 5].map(|()| ceilings.sample(&run, bound, 0.01));
    1e9 * samples.into_iter().fold(0.0, f64::max)
}
