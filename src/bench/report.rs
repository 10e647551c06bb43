//! What a run found, as JSON and CSV. The fields of the JSON, one a line: path, type, meaning. `?` is null
//! where unknown; a `summary` is an object of `median`, `min`, `max` (numbers) and `samples` (integer).
//!
//! ```text
#![doc = include_str!("schema.txt")]
//! ```

use super::ceiling::Ceiling;
use super::machine::Conditions;
use super::measure::{Measured, Noise, Summary};
use super::rows::Work;
use super::svg::{self, Point};
use crate::io::json::Writer;
use std::fmt::Write as _;

/// The documented fields of the JSON: what `samebits bench --help` prints.
pub const SCHEMA: &str = include_str!("schema.txt");

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The kernel.
    pub kernel: String,
    /// Its dimensions, `MxNxK`.
    pub shape: String,
    /// The work of a call.
    pub work: Work,
    /// What was measured.
    pub measured: Measured,
}

/// A run.
///
/// ```
/// use samebits::bench::cold::Cache;
/// use samebits::bench::report::{Report, Row, SCHEMA};
/// use samebits::bench::rows::{Entry, Inputs, entries};
/// use samebits::bench::{Plan, Session, shape};
/// use samebits::{Cpu, pool::Pool};
/// let pool = Pool::new(1);
/// let plan = Plan { seconds: 0.01, seed: 1, cache: Cache::Warm };
/// let mut session = Session::new(&pool, vec![Cpu::detect()], plan);
/// let entry: &Entry = entries().find(|entry| entry.name == "dot_rows").unwrap();
/// let same: Vec<f32> = Inputs::new(1, Cpu::detect()).normal(3); // inputs are those of the seed
/// assert_eq!(same, Inputs::new(1, Cpu::detect()).normal(3));
/// let rows: &[Row] = session.measure(entry, entry.shapes[0]);
/// assert_eq!(rows[0].shape, shape(entry.shapes[0]));
/// let report: Report = session.finish();
/// assert!(report.json().contains("dot_rows") && report.csv().lines().count() == 2);
/// assert!(SCHEMA.contains("kernel"));
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    /// Where and how.
    pub conditions: Conditions,
    /// The machine's ceilings.
    pub ceilings: Vec<Ceiling>,
    /// The kernels.
    pub rows: Vec<Row>,
}

impl Report {
    /// The verdict over all rows: the middle of their spreads.
    pub fn noise(&self) -> Noise {
        let spreads: Vec<f64> = self.rows.iter().map(|r| r.measured.noise.spread).collect();
        Noise { spread: Summary::of(&spreads).median }
    }

    /// The run as JSON.
    pub fn json(&self) -> String {
        self.written(Writer::indented())
    }

    /// The same on one line.
    pub fn json_on_a_line(&self) -> String {
        self.written(Writer::compact())
    }

    fn written(&self, mut w: Writer) -> String {
        w.object(|w| {
            Conditions::write_build(w);
            self.conditions.write_machine(w.key("machine"));
            self.conditions.write_run(w.key("run"), self.noise());
            w.key("ceilings").array(|w| self.ceilings.iter().for_each(|c| c.write(w)));
            w.key("rows").array(|w| self.rows.iter().for_each(|r| r.write(w)));
        });
        w.finish()
    }

    /// One line a row, with a line of names.
    pub fn csv(&self) -> String {
        let mut out = String::from(
            "kernel,shape,tier,threads,unit,median,min,max,samples,bound,peak,of_peak,plain,speedup,\
             seconds,flops,bytes,hash,cache\n",
        );
        for Row { kernel, shape, work, measured: m } in &self.rows {
            let _ = writeln!(
                out,
                "{kernel},{shape},{},{},{},{},{},{},{},{},{},{},{},{},{:e},{},{},{:016x},{}",
                m.tier,
                self.conditions.threads,
                work.unit(),
                m.rate.median,
                m.rate.min,
                m.rate.max,
                m.rate.samples,
                work.bound.name(),
                m.peak.median,
                m.of_peak.median,
                m.plain.median,
                m.speedup.median,
                m.seconds.median,
                work.flops,
                work.bytes,
                m.hash,
                self.conditions.cache()
            );
        }
        out
    }

    /// The run as a picture.
    pub fn svg(&self) -> String {
        let point = |row: &Row| Point {
            label: format!("{} {}", row.kernel, row.shape),
            tier: row.measured.tier,
            intensity: row.work.intensity(),
            gflops: row.work.flops / row.measured.seconds.median * 1e-9,
        };
        let points: Vec<Point> = self.rows.iter().map(point).collect();
        let subtitle = format!("{} · noise: {}", self.conditions.summary(), self.noise().verdict());
        svg::roofline(&subtitle, &self.ceilings, &points)
    }
}

impl Summary {
    /// As an object of JSON.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.object(|w| {
            w.key("median").number(self.median);
            w.key("min").number(self.min);
            w.key("max").number(self.max);
            w.key("samples").number(self.samples);
        });
    }
}

impl Ceiling {
    fn write(&self, w: &mut Writer) {
        w.object(|w| {
            w.key("name").string(self.name);
            w.key("tier").string(self.tier.name());
            w.key("bytes").number(self.bytes);
            w.key("unit").string(if self.bytes == 0 { "GFLOP/s" } else { "GB/s" });
            self.rate.write(w.key("rate"));
        });
    }
}

impl Row {
    fn write(&self, w: &mut Writer) {
        let (work, m) = (&self.work, &self.measured);
        w.object(|w| {
            w.key("kernel").string(&self.kernel);
            w.key("shape").string(&self.shape);
            w.key("tier").string(m.tier.name());
            w.key("unit").string(work.unit());
            w.key("flops").number(work.flops);
            w.key("bytes").number(work.bytes);
            m.seconds.write(w.key("seconds"));
            m.rate.write(w.key("rate"));
            w.key("bound").string(work.bound.name());
            m.peak.write(w.key("peak"));
            m.of_peak.write(w.key("of_peak"));
            w.key("spread").number(m.spread);
            m.plain.write(w.key("plain"));
            m.speedup.write(w.key("speedup"));
            w.key("hash").string(&format!("{:016x}", m.hash));
        });
    }
}
