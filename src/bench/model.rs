//! Whole models: prompts and tokens a second, as llama-bench names them, and texts a second of encoders.
//!
//! `pp512` computes a prompt of 512 drawn tokens, `tg128` generates 128 tokens one by one behind an empty prompt (or as
//! many as a [`Plan`] says);
//! `embed B×T` turns B texts of T tokens each into vectors. Samples of the ceiling that binds take turns with
//! them: multiply-adds for prompts and texts, reads of as many bytes as the weights have for tokens.
//!
//! `load read` and `load mapped` open the model, whose files the system has in memory after the first time: in
//! turns with copies of as many bytes.

use super::ceiling::{Bound, Ceilings};
use super::measure::Summary;
use super::peak::Access;
use super::rows;
use crate::Cpu;
use crate::Result;
use crate::golden::Random;
use crate::io::bytes;
use crate::model::{CacheType, Decoder, Model, Opening, SentenceEncoder, Sequence, Workspace, files};
use crate::pool::Pool;
use crate::run::Run;
use std::path::Path;
use std::time::Instant;

/// One thing measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// `pp512`, `tg128`, `embed 32×128`.
    pub test: String,
    /// `tokens/s`, `texts/s`, or `ms` of loading.
    pub unit: &'static str,
    /// So many of them.
    pub rate: Summary,
    /// Of the ceiling sampled in the same turn: `fma`, `read` or `copy`.
    pub bound: &'static str,
    /// The share of that ceiling.
    pub of_peak: Summary,
}

/// How long a sample of a ceiling takes.
const CEILING: f64 = 0.02;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Turns after the one that warms up.
    pub turns: usize,
    /// What a decoder's keys and values are stored as.
    pub kind: CacheType,
    /// Lengths of prompts.
    pub prompts: Vec<usize>,
    /// Tokens that are generated; 0: none.
    pub tokens: usize,
}

/// Measures what the model is for.
///
/// # Errors
/// Where the model cannot compute so many tokens.
pub fn measure(model: &Model, plan: &Plan, cpu: Cpu, pool: &Pool) -> Result<Vec<Row>> {
    let mut bench = Bench { cpu, pool, kind: plan.kind, ceilings: Ceilings::default(), turns: plan.turns };
    match model {
        Model::Decoder(model) => {
            let prompts = plan.prompts.iter().filter(|&&n| n > 0);
            let mut rows = prompts.map(|&n| bench.prompt(model, n)).collect::<Result<Vec<_>>>()?;
            if plan.tokens > 0 {
                rows.push(bench.tokens(model, plan.tokens)?);
            }
            Ok(rows)
        }
        Model::Encoder(model) => {
            let shapes = [(1, 16), (1, 128), (8, 16), (8, 128), (32, 16), (32, 128)];
            let fits = |&(_, tokens): &(usize, usize)| tokens <= model.max_tokens;
            shapes.into_iter().filter(fits).map(|(texts, tokens)| bench.texts(model, texts, tokens)).collect()
        }
    }
}

/// Opens the model in both ways, in turns: how long that takes.
///
/// # Errors
/// Where it does not open.
pub fn load((path, opening): (&Path, Opening), cpu: Cpu, pool: &Pool, turns: usize) -> Result<[Row; 2]> {
    let bytes = files::weight_bytes(path)? as usize;
    let bound = Bound::Memory(Access::Copy, bytes.clamp(1 << 16, 1 << 30));
    let mut ceilings = Ceilings::default();
    let (mut times, mut shares) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for turn in 0..=turns {
        for (i, access) in [bytes::Access::Read, bytes::Access::Map].into_iter().enumerate() {
            let peak = 1e9 * ceilings.sample(&rows::Run { cpu, pool }, bound, CEILING);
            let start = Instant::now();
            drop(Model::open_with(path, cpu, Opening { access, ..opening })?);
            let seconds = start.elapsed().as_secs_f64();
            if turn > 0 {
                times[i].push(1e3 * seconds);
                // Each byte is read once and written once.
                shares[i].push(2.0 * bytes as f64 / seconds / peak);
            }
        }
    }
    let row = |i: usize, test: &str| Row {
        test: test.into(),
        unit: "ms",
        rate: Summary::of(&times[i]),
        bound: bound.name(),
        of_peak: Summary::of(&shares[i]),
    };
    Ok([row(0, "load read"), row(1, "load mapped")])
}

struct Bench<'p> {
    cpu: Cpu,
    pool: &'p Pool,
    kind: CacheType,
    ceilings: Ceilings,
    turns: usize,
}

impl Bench<'_> {
    /// Turns of `work`, which does `count` things at a cost of `each` operations or bytes, and of its ceiling.
    fn turns(
        &mut self,
        (test, unit): (String, &'static str),
        (count, each, bound): (usize, f64, Bound),
        mut work: impl FnMut(&Run<'_>) -> Result<()>,
    ) -> Result<Row> {
        let run = Run::on(self.cpu, self.pool);
        let (mut rates, mut shares) = (Vec::new(), Vec::new());
        for turn in 0..=self.turns {
            let peak =
                1e9 * self.ceilings.sample(&rows::Run { cpu: self.cpu, pool: self.pool }, bound, CEILING);
            let start = Instant::now();
            work(&run)?;
            let rate = count as f64 / start.elapsed().as_secs_f64();
            if turn > 0 {
                rates.push(rate);
                shares.push(rate * each / peak);
            }
        }
        let (rate, of_peak) = (Summary::of(&rates), Summary::of(&shares));
        Ok(Row { test, unit, rate, bound: bound.name(), of_peak })
    }

    fn prompt(&mut self, model: &Decoder, tokens: usize) -> Result<Row> {
        let tokens = tokens.min(model.config().context);
        let ids = drawn(tokens, model.config().vocab);
        let (mut logits, mut workspace) = (vec![0.0; model.config().vocab], Workspace::new());
        let (each, kind) = (model.operations(tokens) / tokens as f64, self.kind);
        self.turns((format!("pp{tokens}"), "tokens/s"), (tokens, each, Bound::Arithmetic), |run| {
            let mut cache = model.cache_of(kind, tokens);
            let mut batch = [Sequence { tokens: &ids, cache: &mut cache }];
            model.forward(run, &mut batch, &mut logits, &mut workspace)
        })
    }

    fn tokens(&mut self, model: &Decoder, tokens: usize) -> Result<Row> {
        let tokens = tokens.min(model.config().context);
        let ids = drawn(tokens, model.config().vocab);
        let (mut logits, mut workspace) = (vec![0.0; model.config().vocab], Workspace::new());
        let (bytes, kind) = (model.weight_bytes(), self.kind);
        let bound = Bound::Memory(Access::Read, bytes.clamp(1 << 16, 1 << 30));
        self.turns((format!("tg{tokens}"), "tokens/s"), (tokens, bytes as f64, bound), |run| {
            let mut cache = model.cache_of(kind, tokens);
            ids.chunks(1).try_for_each(|tokens| {
                let mut batch = [Sequence { tokens, cache: &mut cache }];
                model.forward(run, &mut batch, &mut logits, &mut workspace)
            })
        })
    }

    fn texts(&mut self, model: &SentenceEncoder, texts: usize, tokens: usize) -> Result<Row> {
        let config = model.encoder.config();
        let ids = drawn(tokens, config.vocab);
        let all: Vec<&[u32]> = vec![&ids; texts];
        let (mut out, mut workspace) = (vec![0.0; texts * config.dim], Workspace::new());
        let what = (format!("embed {texts}×{tokens}"), "texts/s");
        // A call a turn is too short to time where it takes less than a few milliseconds.
        let calls = (512 / (texts * tokens)).max(1);
        self.turns(what, (calls * texts, model.encoder.operations(tokens), Bound::Arithmetic), |run| {
            (0..calls).try_for_each(|_| model.embed(run, &all, &mut out, &mut workspace))
        })
    }
}

/// Tokens without meaning.
fn drawn(n: usize, vocab: usize) -> Vec<u32> {
    let mut random = Random::new(1);
    random.normal(n).iter().map(|x| ((x.abs() * 1e6) as usize % vocab) as u32).collect()
}
