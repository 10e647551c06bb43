//! How fast it went, for people.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::Cpu;
use crate::bench::read_bandwidth;
use crate::model::Decoder;
use crate::pool::Pool;

/// Times of opening the model, of prompts and of drawing.
#[derive(Default)]
pub struct Speed {
    load: Duration,
    since: Option<Instant>,
    prompt: (usize, Duration),
    drawn: (usize, Duration),
}

impl Speed {
    /// The model took so long to open; nothing was computed yet.
    pub fn new(load: Duration) -> Speed {
        Speed { load, ..Speed::default() }
    }

    /// How long the model took to open.
    pub const fn load(&self) -> Duration {
        self.load
    }

    /// A prompt begins.
    pub fn start(&mut self) {
        self.since = Some(Instant::now());
    }

    /// `tokens` of a prompt were computed.
    pub fn prompt(&mut self, tokens: usize) {
        let time = self.lap();
        add(&mut self.prompt, tokens, time);
    }

    /// `tokens` were drawn.
    pub fn drawn(&mut self, tokens: usize) {
        let time = self.lap();
        add(&mut self.drawn, tokens, time);
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        self.since.replace(now).map_or(Duration::ZERO, |since| now - since)
    }

    /// One line on standard error. A token drawn reads every weight once: so much of the memory's bandwidth.
    pub fn show(&self, model: &Decoder, cpu: Cpu, pool: &Pool) {
        let rate = |(n, time): (usize, Duration)| n as f64 / time.as_secs_f64().max(1e-9);
        let bytes = model.weight_bytes();
        let share = rate(self.drawn) * bytes as f64 / read_bandwidth(cpu, pool, bytes);
        // Nothing is lost where it cannot be shown.
        let _ = writeln!(
            io::stderr(),
            "loaded in {:.0} ms · prompt {} tokens, {:.1} tokens/s · generated {}, {:.1} tokens/s, {:.0} % of the read bandwidth",
            1e3 * self.load.as_secs_f64(),
            self.prompt.0,
            rate(self.prompt),
            self.drawn.0,
            rate(self.drawn),
            100.0 * share
        );
    }
}

fn add(sum: &mut (usize, Duration), tokens: usize, time: Duration) {
    *sum = (sum.0 + tokens, sum.1 + time);
}
