//! Learning from examples, step by step: what `finetune` and `train` share.

mod curve;
mod record;

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use super::{Args, Console, Failure, Flag, Progress, Takes};
use crate::io::json::Writer;
use crate::model::{Decoder, Keep, Workspace};
use crate::run::Run;
use crate::train::data::{Batch, Example, Stream, order};
use crate::train::{Loss, Outcome, Plan, Report, Trainer, exact_matches};
use record::Record;

/// Flags that mean the same in every command that learns.
pub const CHECKPOINT: Flag =
    Flag { name: "checkpoint", takes: Takes::One("FILE"), help: "written every --every steps" };
pub const EVERY: Flag =
    Flag { name: "every", takes: Takes::One("N"), help: "steps between checkpoints; 100 unless given" };
pub const RESUME: Flag = Flag { name: "resume", takes: Takes::Nothing, help: "go on from the --checkpoint" };
pub const RECOMPUTE: Flag =
    Flag { name: "recompute", takes: Takes::Nothing, help: "compute activations again: less memory" };
pub const LOSS_SVG: Flag =
    Flag { name: "loss-svg", takes: Takes::One("FILE"), help: "the curve of the loss as a picture" };
pub const METRICS: Flag =
    Flag { name: "metrics", takes: Takes::One("FILE"), help: "a line of JSON for each step" };

/// Where examples come from.
pub trait Supply {
    /// Examples of an epoch.
    fn len(&self) -> usize;
    /// Example `i` of an epoch.
    fn example(&self, epoch: u64, i: usize) -> Cow<'_, Example>;
}

impl Supply for Vec<Example> {
    fn len(&self) -> usize {
        self[..].len()
    }

    fn example(&self, _epoch: u64, i: usize) -> Cow<'_, Example> {
        Cow::Borrowed(&self[i])
    }
}

impl Supply for Stream {
    fn len(&self) -> usize {
        self.len()
    }

    fn example(&self, epoch: u64, i: usize) -> Cow<'_, Example> {
        Cow::Owned(self.window(epoch, i))
    }
}

/// What a command does where nothing else is said.
pub struct Usual {
    pub batch: usize,
    pub epochs: u64,
    pub lr: f64,
}

/// What is looked at in examples that are not learned from.
#[derive(Clone, Copy, PartialEq)]
pub enum Measure {
    /// The loss.
    Loss,
    /// Besides, how many answers greedy decoding would give whole.
    Exact,
}

/// How well examples are foretold.
#[derive(Clone, Copy)]
pub struct Judged {
    pub loss: Loss,
    /// Answers that are right to the last token, where that was looked at.
    pub exact: Option<usize>,
    pub examples: usize,
}

/// What the flags that both commands have say.
pub struct Settings {
    /// Examples of a step.
    pub batch: usize,
    /// Examples in memory at a time.
    micro: usize,
    /// Steps of an epoch, of all.
    of_epoch: u64,
    pub total: u64,
    pub seed: u64,
    checkpoint: Option<PathBuf>,
    every: u64,
    /// Steps between two looks at what is held out.
    judge_every: Option<u64>,
    json: bool,
    resume: bool,
    svg: Option<PathBuf>,
    metrics: Option<PathBuf>,
}

impl Settings {
    /// Reads them; `examples` there are in an epoch.
    pub fn read(args: &Args, usual: &Usual, examples: usize) -> Result<Settings, Failure> {
        let batch = args.count("batch", 1..=1 << 20)?.unwrap_or(usual.batch);
        let of_epoch = examples.div_ceil(batch) as u64;
        let epochs = args.count("epochs", 1..=1 << 20)?;
        let total = match (args.count("steps", 1..=u32::MAX as usize)?, epochs) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage("--steps and --epochs exclude each other", None));
            }
            (Some(steps), None) => steps as u64,
            (None, epochs) => of_epoch * epochs.map_or(usual.epochs, |n| n as u64),
        };
        let settings = Settings {
            batch,
            micro: args.count("micro", 1..=1 << 20)?.unwrap_or(batch),
            of_epoch,
            total,
            seed: Settings::seed(args)?,
            checkpoint: args.path("checkpoint"),
            every: args.count("every", 1..=1 << 30)?.unwrap_or(100) as u64,
            judge_every: args.count("judge-every", 1..=1 << 30)?.map(|n| n as u64),
            json: args.has("json"),
            resume: args.has("resume"),
            svg: args.path("loss-svg"),
            metrics: args.path("metrics"),
        };
        if settings.resume && settings.checkpoint.is_none() {
            return Err(Failure::usage("--resume goes with --checkpoint FILE", None));
        }
        Ok(settings)
    }

    /// `--seed`
    pub fn seed(args: &Args) -> Result<u64, Failure> {
        Ok(args.count("seed", 0..=usize::MAX)?.unwrap_or(0) as u64)
    }

    /// What blocks keep, by `--recompute`.
    pub fn keep(args: &Args) -> Keep {
        if args.has("recompute") { Keep::Inputs } else { Keep::All }
    }

    /// A trainer at its beginning, or where `--resume` finds it.
    pub fn trainer(
        &self,
        run: &Run<'_>,
        model: Decoder,
        plan: Plan,
        trained: impl Fn(&str) -> bool,
    ) -> Result<Trainer, Failure> {
        Ok(match self.checkpoint.as_ref().filter(|_| self.resume) {
            None => Trainer::new(model, plan, trained)?,
            Some(path) => Trainer::resume(run, model, plan, trained, path)?,
        })
    }
}

/// Learning under way.
pub struct Job<'a, 'c, 'o> {
    run: &'a Run<'a>,
    settings: Settings,
    console: &'c mut Console<'o>,
    progress: Progress,
    record: Record,
    /// The order of an epoch, the last that was asked for.
    order: (u64, Vec<usize>),
}

impl<'a, 'c, 'o> Job<'a, 'c, 'o> {
    /// Not begun yet.
    pub fn new(run: &'a Run<'a>, settings: Settings, console: &'c mut Console<'o>) -> Result<Self, Failure> {
        let record = Record::new(settings.metrics.as_deref(), settings.resume)?;
        Ok(Job { run, settings, console, progress: Progress::new(), record, order: (0, Vec::new()) })
    }

    /// How well examples that are not learned from are foretold.
    pub fn judge(
        &mut self,
        trainer: &mut Trainer,
        examples: &[Example],
        measure: Measure,
    ) -> Result<Judged, Failure> {
        let mut judged = Judged { loss: Loss::default(), exact: None, examples: examples.len() };
        let mut workspace = Workspace::new();
        for (i, chunk) in examples.chunks(8).enumerate() {
            self.console.check_interrupt()?;
            self.progress.show(format_args!("judging {} of {}", 8 * i, examples.len()));
            let loss = trainer.evaluate(self.run, &[Batch::of(chunk).examples()])?;
            judged.loss.sum += loss.sum;
            judged.loss.targets += loss.targets;
            if measure == Measure::Exact {
                let right = exact_matches(self.run, trainer.model(), chunk, &mut workspace)?;
                judged.exact = Some(judged.exact.unwrap_or(0) + right);
            }
        }
        self.progress.clear();
        Ok(judged)
    }

    /// Takes all steps that are left; looks at `held_out` now and then, where that was asked for.
    pub fn train(
        &mut self,
        trainer: &mut Trainer,
        supply: &dyn Supply,
        held_out: Option<&[Example]>,
    ) -> Result<(), Failure> {
        let (start, first, mut tokens) = (Instant::now(), trainer.steps(), 0);
        while trainer.steps() < self.settings.total {
            self.console.check_interrupt()?;
            let batches = self.batches(supply, trainer.steps());
            tokens += batches.iter().map(Batch::len).sum::<usize>();
            let examples: Vec<_> = batches.iter().map(Batch::examples).collect();
            let report = trainer.step(self.run, &examples)?;
            let seconds = start.elapsed().as_secs_f64();
            self.tell(&report, (seconds, report.step - first), tokens as f64 / seconds)?;
            let last = report.step == self.settings.total;
            let due = |every: u64| last || report.step.is_multiple_of(every);
            if let (Some(every), Some(examples)) = (self.settings.judge_every, held_out)
                && due(every)
            {
                let judged = self.judge(trainer, examples, Measure::Loss)?;
                self.tell_held_out(report.step, &judged.loss)?;
            }
            if let Some(path) = self.settings.checkpoint.as_ref().filter(|_| due(self.settings.every)) {
                trainer.save(path)?;
            }
        }
        self.progress.clear();
        if let Some(path) = &self.settings.svg {
            self.record.draw(path)?;
        }
        if !self.settings.json {
            let (trained, all) = (trainer.trained(), trainer.model().parameters());
            let share = 100.0 * trained as f64 / all as f64;
            let total = self.settings.total;
            writeln!(self.console, "{trained} of {all} parameters trained ({share:.2} %), {total} steps")?;
        }
        Ok(())
    }

    /// The micro-batches of a step.
    fn batches(&mut self, supply: &dyn Supply, step: u64) -> Vec<Batch> {
        let Settings { batch, micro, of_epoch, seed, .. } = self.settings;
        let (epoch, place) = (step / of_epoch, (step % of_epoch) as usize);
        if self.order.0 != epoch || self.order.1.is_empty() {
            self.order = (epoch, order(supply.len(), seed, epoch));
        }
        let order = &self.order.1;
        let chosen = &order[place * batch..order.len().min((place + 1) * batch)];
        let part = |part: &[usize]| {
            let examples: Vec<Cow<'_, Example>> = part.iter().map(|&i| supply.example(epoch, i)).collect();
            Batch::of(examples.iter().map(AsRef::as_ref))
        };
        chosen.chunks(micro).map(part).collect()
    }

    fn tell(&mut self, report: &Report, (seconds, steps): (f64, u64), rate: f64) -> Result<(), Failure> {
        let line = line_of(report, rate);
        self.record.step(report, &line)?;
        if self.settings.json {
            writeln!(self.console, "{line}")?;
            self.console.flush()?;
        }
        let total = self.settings.total;
        let left = seconds / steps as f64 * (total - report.step) as f64;
        let (step, loss) = (report.step, report.loss);
        self.progress.show(format_args!(
            "step {step} of {total}, loss {loss:.4}, {rate:.0} tokens/s, {left:.0} s left"
        ));
        Ok(())
    }

    fn tell_held_out(&mut self, step: u64, loss: &Loss) -> Result<(), Failure> {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("step").number(step);
            w.key("held_out").number(loss.mean());
        });
        let line = w.finish();
        self.record.held_out(step, loss.mean(), &line)?;
        if self.settings.json {
            writeln!(self.console, "{line}")?;
        } else {
            writeln!(self.console, "step {step}: held out {:.4}", loss.mean())?;
        }
        self.console.flush()?;
        Ok(())
    }
}

/// What a step did as a line of JSON.
fn line_of(report: &Report, rate: f64) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("step").number(report.step);
        w.key("loss").number(report.loss);
        w.key("lr").number(report.lr);
        w.key("targets").number(report.targets);
        match report.outcome {
            Outcome::Stepped { norm } => w.key("norm").number(norm),
            Outcome::Skipped => w.key("norm").null(),
        }
        w.key("tokens_per_second").number(rate.round());
    });
    w.finish()
}
