//! Where and how a run was measured: what a reader needs to judge its figures.

use super::measure::{Noise, Stopwatch};
use super::{memory, peak};
use crate::io::json::Writer;
use crate::pool::Pool;
use crate::sys::{self, processor};

/// The conditions of a run.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The processor's own name.
    pub processor: String,
    /// Name and bytes of each data cache, as one core sees it.
    pub caches: Vec<(String, usize)>,
    /// Processors that this process may use.
    pub processors: usize,
    /// Threads of every measurement.
    pub threads: usize,
    /// The processor that the measuring thread is bound to.
    pub pinned: Option<usize>,
    /// The share of resident memory that lies on huge pages.
    pub huge_pages: f64,
    /// The clock, GHz.
    pub clock: f64,
    /// The seed of the inputs.
    pub seed: u64,
    /// Seconds asked for each kernel, shape and tier.
    pub seconds: f64,
    /// Bytes walked before each call; 0 where the caches stay warm.
    pub flushed: usize,
}

impl Conditions {
    /// Looks around. A single thread binds itself to one processor, so that its caches stay its own; several
    /// are left to the system.
    pub fn new(pool: &Pool, seed: u64, seconds: f64) -> Conditions {
        let allowed = sys::affinity();
        let last = allowed.as_ref().and_then(|cpus| cpus.last().copied()).filter(|_| pool.threads() == 1);
        let caches = processor::caches().into_iter().filter(|c| !c.name.ends_with('i'));
        Conditions {
            processor: processor::brand(),
            caches: caches.map(|c| (c.name.trim_end_matches('d').to_owned(), c.bytes)).collect(),
            processors: allowed.map_or_else(crate::pool::available_threads, |cpus| cpus.len()),
            threads: pool.threads(),
            pinned: last.filter(|&cpu| sys::pin(cpu).is_ok()),
            huge_pages: 0.0,
            clock: peak::clock(0.02),
            seed,
            seconds,
            flushed: 0,
        }
    }

    /// Asks again for what changes while buffers are made and the core warms up.
    pub fn refresh(&mut self) {
        self.huge_pages = memory::huge_share();
        self.clock = peak::clock(0.02);
    }

    /// Buffers whose reads show each cache and the memory: half of a cache that is each core's own, a quarter
    /// of a shared one, four times the last.
    pub fn read_sizes(&self) -> Vec<(&'static str, usize)> {
        let size = |name: &str| self.caches.iter().find(|c| c.0 == name).map(|c| c.1);
        let (l1, l2) = (size("L1").unwrap_or(32 << 10), size("L2").unwrap_or(512 << 10));
        let mut sizes = vec![("L1", l1 / 2 * self.threads), ("L2", l2 / 2 * self.threads)];
        // A virtual machine may name a third level of which it gets a part only.
        sizes.extend(size("L3").map(|l3| ("L3", (l3 / 4).max(2 * l2 * self.threads))));
        sizes.push(("DRAM", (4 * size("L3").unwrap_or(l2)).clamp(64 << 20, 256 << 20)));
        sizes
    }

    /// Bytes to walk so that every cache holds other data: twice the last, and four times what the threads have of
    /// the second.
    pub fn walk(&self) -> usize {
        let largest = self.caches.iter().map(|c| c.1).max().unwrap_or(32 << 20);
        let second = self.caches.iter().find(|c| c.0 == "L2").map_or(0, |c| c.1);
        (2 * largest).max(4 * second * self.threads)
    }

    /// `warm`, or `cold`.
    pub const fn cache(&self) -> &'static str {
        if self.flushed > 0 { "cold" } else { "warm" }
    }

    /// The size of the pages behind most of the memory.
    pub fn pages(&self) -> String {
        let kib = if self.huge_pages > 0.5 { memory::huge_page() / 1024 } else { sys::page_size() / 1024 };
        if kib >= 1024 { format!("{} MiB", kib / 1024) } else { format!("{kib} KiB") }
    }

    /// Two or three facts for a heading.
    pub fn summary(&self) -> String {
        let plural = if self.threads == 1 { "" } else { "s" };
        format!("{}, {} thread{plural}, {:.2} GHz", self.processor, self.threads, self.clock)
    }

    /// Every fact, a line each kind, for the head of a table.
    pub fn lines(&self, noise: Noise) -> String {
        let pinned = match self.pinned {
            Some(cpu) => format!("bound to processor {cpu}"),
            None => "not bound to processors".into(),
        };
        let walked = match self.flushed {
            0 => String::new(),
            bytes => format!(" ({} MiB walked before each call)", bytes >> 20),
        };
        format!(
            "{}\n{pinned}, caches {}{walked}, pages of {} ({:.0} % of memory on huge ones), {} time, seed {}, {:.2} s each\n\
             noise: {} (peak samples spread {:.1} %)\n",
            self.summary(),
            self.cache(),
            self.pages(),
            100.0 * self.huge_pages,
            Stopwatch::kind(self.threads),
            self.seed,
            self.seconds,
            noise.verdict(),
            100.0 * noise.spread,
        )
    }

    pub(super) fn write_build(w: &mut Writer) {
        w.key("schema").string("samebits-bench/1");
        w.key("samebits").string(env!("CARGO_PKG_VERSION"));
        match option_env!("SAMEBITS_GIT") {
            Some(commit) => w.key("git").string(commit),
            None => w.key("git").null(),
        }
        w.key("rustc").string(env!("SAMEBITS_RUSTC"));
        w.key("target").string(env!("SAMEBITS_TARGET"));
    }

    pub(super) fn write_machine(&self, w: &mut Writer) {
        w.object(|w| {
            w.key("processor").string(&self.processor);
            w.key("caches").array(|w| {
                for (name, bytes) in &self.caches {
                    w.object(|w| {
                        w.key("name").string(name);
                        w.key("bytes").number(*bytes);
                    });
                }
            });
            w.key("processors").number(self.processors);
        });
    }

    pub(super) fn write_run(&self, w: &mut Writer, noise: Noise) {
        w.object(|w| {
            w.key("threads").number(self.threads);
            match self.pinned {
                Some(cpu) => w.key("pinned").number(cpu),
                None => w.key("pinned").null(),
            }
            w.key("cache").string(self.cache());
            w.key("flushed").number(self.flushed);
            w.key("time").string(Stopwatch::kind(self.threads));
            w.key("pages").string(&self.pages());
            w.key("huge_pages").number(self.huge_pages);
            w.key("clock_ghz").number(self.clock);
            w.key("seed").number(self.seed);
            w.key("seconds").number(self.seconds);
            w.key("noise").object(|w| {
                w.key("spread").number(noise.spread);
                w.key("verdict").string(noise.verdict());
            });
        });
    }
}
