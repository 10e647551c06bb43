//! A decoder that learns: one step from examples to the next weights, and checkpoints between steps.
//!
//! ```text
//!   micro-batches ─► loss, gradients (added up) ─► clip ─► optimizer ─► weights        Trainer::step
//!                                                                          │
//!   file ◄── weights, moments, count of steps: nothing else ◄──────────────┘           save, resume
//! ```
//!
//! **Law.** Clauses 1 and 9: the same weights for any number of threads, on every tier, whether blocks keep all or only
//! their inputs, and after a stop and a start. Micro-batches whose rows are multiples of 256 (all but the last) move
//! the weights by the very bits of one large batch.

use super::optimizer::{Method, Optimizer, Outcome, Parameter};
use super::schedule::Schedule;
use crate::kernels::attention::Products;
use crate::kernels::cross_entropy::CrossEntropy;
use crate::model::{Decoder, Examples, Keep, Tape};
use crate::nn::adapter::Draw;
use crate::nn::{Compute, Gradients};
use crate::random::Philox;
use crate::run::Run;
use crate::{Error, Result};
use alloc::vec::Vec;

/// How a model is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The optimizer.
    pub method: Method,
    /// The rate that the schedule's factors multiply.
    pub lr: f64,
    /// The factor of each step.
    pub schedule: Schedule,
    /// Gradients are scaled down to this global norm.
    pub clip: Option<f64>,
    /// ε of the loss.
    pub label_smoothing: f32,
    /// What blocks keep on the way forward.
    pub keep: Keep,
    /// Of what is dropped.
    pub seed: u64,
    /// LoRA+ (Hayou et al. 2024): what the rate is multiplied by for B, and for DoRA's lengths as in peft; 1: as A's.
    pub lora_plus: f64,
}

/// A model, what is trained of it, and how far it is.
///
/// ```
/// use samebits::train::data::{Batch, Example, Stream, order};
/// use samebits::train::schedule::{Curve, Schedule, Shape};
/// use samebits::train::{Memory, Plan, Report, Trainer, exact_matches, optimizer::Method};
/// use samebits::model::{Keep, Workspace};
/// use samebits::{Cpu, assets, run::Run};
/// let (run, mut model) = (Run::here(Cpu::detect()), assets::model(Cpu::detect())?);
/// let example = Example::answer(&[5, 6], &[7, 8], 16).unwrap(); // the answer's tokens are targets
/// assert_eq!((&example.tokens[..], &example.targets[..]), (&[5, 6, 7][..], &[-100, 7, 8][..]));
/// model.make_trainable(&run);
/// let plan = Plan {
///     method: Method::ADAMW,
///     lr: 1e-3,
///     schedule: Schedule { shape: Shape::Fall(Curve::Cosine), warmup: 0, total: 20, floor: 0.0 },
///     clip: Some(1.0),
///     label_smoothing: 0.0,
///     keep: Keep::All,
///     seed: 1,
///     lora_plus: 1.0,
/// };
/// let mut trainer = Trainer::new(model, plan, |_| true)?;
/// let batch = Batch::of([&example]);
/// let steps: Vec<Report> = (0..6).map(|_| trainer.step(&run, &[batch.examples()])).collect::<Result<_, _>>()?;
/// assert!(steps[5].loss < steps[0].loss && steps[0].targets == 2);
/// let memory: Memory = trainer.memory(&run);
/// assert!(memory.moments >= 2 * memory.gradients); // AdamW's, of 32 bits
/// let known = exact_matches(&run, trainer.model(), &[example], &mut Workspace::new())?;
/// assert!(known <= 1);
/// // A long text in windows that begin elsewhere in every epoch, taken in an order drawn for each.
/// let stream = Stream::new((0..100).collect(), 10, 1);
/// assert_eq!(stream.window(0, 0).tokens.len(), 10);
/// assert_eq!(order(stream.len(), 1, 0).len(), stream.len());
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    pub(super) model: Decoder,
    pub(super) plan: Plan,
    pub(super) gradients: Gradients,
    pub(super) optimizer: Optimizer,
    pub(super) tape: Tape,
    pub(super) step: u64,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The step, from 1.
    pub step: u64,
    /// The mean loss of a target, before the step.
    pub loss: f64,
    /// Targets that counted.
    pub targets: usize,
    /// The rate.
    pub lr: f64,
    /// Whether the weights moved.
    pub outcome: Outcome,
}

/// The loss over text that is not learned from.
///
/// ```
/// use samebits::train::Loss;
/// let loss = Loss { sum: 2.0 * 8f64.ln(), targets: 2 };
/// assert!((loss.perplexity() - 8.0).abs() < 1e-12); // as unsure as among eight alike
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Σ of the losses.
    pub sum: f64,
    /// Targets that counted.
    pub targets: usize,
}

impl Loss {
    /// The mean loss of a target, in nats; 0 where there is none.
    pub fn mean(&self) -> f64 {
        if self.targets == 0 { 0.0 } else { self.sum / self.targets as f64 }
    }

    /// e to the mean loss.
    pub fn perplexity(&self) -> f64 {
        crate::kernels::math::exp64(self.mean())
    }
}

impl Trainer {
    /// Trains the parameters of `model` whose names `trained` accepts, those of [`Decoder::with_parameters`]: of a
    /// model that was [made trainable](Decoder::make_trainable) all, else norms, biases and adapters.
    ///
    /// # Errors
    /// Where it accepts none; where the model's products, or those of its attention, are of a class without gradients.
    pub fn new(mut model: Decoder, plan: Plan, trained: impl Fn(&str) -> bool) -> Result<Trainer> {
        if model.matrices().any(|layer| layer.weight.compute() == Compute::Int8) {
            return Err(Error::invalid("products in int8 have no gradients: a model learns in f32 or bf16"));
        }
        if model.attention() != Products::F32 {
            return Err(Error::invalid("attention in bf16 has no gradients: a model learns with it in f32"));
        }
        let mut gradients = Gradients::default();
        model.with_parameters(|all| {
            let chosen = all.iter().filter(|p| trained(&p.name));
            chosen.for_each(|p| gradients.train(&p.name, p.values.len()));
        });
        if gradients.elements() == 0 {
            return Err(Error::invalid("nothing is trained"));
        }
        let (optimizer, tape) = (Optimizer::new(plan.method), Tape::new(plan.keep));
        Ok(Trainer { model, plan, gradients, optimizer, tape, step: 0 })
    }

    /// The model as it is now.
    pub const fn model(&self) -> &Decoder {
        &self.model
    }

    /// The model, to be kept.
    pub fn into_model(self) -> Decoder {
        self.model
    }

    /// Steps taken, skipped ones among them.
    pub const fn steps(&self) -> u64 {
        self.step
    }

    /// Elements that are trained.
    pub fn trained(&self) -> usize {
        self.gradients.elements()
    }

    /// One step: the gradient of the mean loss over the targets of all micro-batches.
    ///
    /// # Errors
    /// As [`Decoder::learn`] and [`Optimizer::step`]; the weights have not changed then. Where no target counts.
    pub fn step(&mut self, run: &Run<'_>, batches: &[Examples<'_>]) -> Result<Report> {
        let how = CrossEntropy { label_smoothing: self.plan.label_smoothing, ..CrossEntropy::default() };
        let targets = batches.iter().map(|b| counted(b, &how)).sum::<usize>();
        if targets == 0 {
            return Err(Error::invalid("a batch without targets"));
        }
        let how = CrossEntropy { scale: 1.0 / targets as f64, ..how };
        self.gradients.clear();
        let shared = self.model.shared();
        for (used, owned) in &shared {
            let n = self.gradients.get(owned).map(<[f32]>::len);
            n.into_iter().for_each(|n| self.gradients.train(used, n));
        }
        let mut loss = 0.0;
        let mut first_row = 0;
        for batch in batches {
            self.tape.draw = Some(Draw { random: Philox::new(self.plan.seed), step: self.step, first_row });
            first_row += batch.tokens.len() as u64;
            loss += self.model.learn(run, *batch, &how, &mut self.gradients, &mut self.tape)?;
        }
        shared.iter().for_each(|(used, owned)| self.gradients.fold(used, owned));
        let lr = self.plan.lr * self.plan.schedule.factor(self.step);
        let outcome = self.move_weights(run, lr)?;
        self.model.refresh_adapters(run);
        self.step += 1;
        Ok(Report { step: self.step, loss, targets, lr, outcome })
    }

    fn move_weights(&mut self, run: &Run<'_>, lr: f64) -> Result<Outcome> {
        let Trainer { model, gradients, optimizer, plan, .. } = self;
        model.with_parameters(|mut all| {
            let trained = all.iter_mut().filter_map(|p| {
                let gradient = gradients.get(&p.name)?;
                let lr_ratio = if learns_faster(&p.name) { plan.lora_plus } else { 1.0 };
                Some(Parameter { lr_ratio, ..Parameter::new(&p.name, p.values, gradient) })
            });
            optimizer.step(run, lr, plan.clip, &mut trained.collect::<Vec<_>>())
        })
    }

    /// The loss of examples that are not learned from.
    ///
    /// # Errors
    /// As [`Decoder::learn`].
    pub fn evaluate(&mut self, run: &Run<'_>, batches: &[Examples<'_>]) -> Result<Loss> {
        let (how, mut loss) = (CrossEntropy::default(), Loss::default());
        let mut nothing = Gradients::default();
        self.tape.draw = None;
        for batch in batches {
            loss.sum += self.model.learn(run, *batch, &how, &mut nothing, &mut self.tape)?;
            loss.targets += counted(batch, &how);
        }
        Ok(loss)
    }
}

/// Whether LoRA+ gives a parameter another rate.
fn learns_faster(name: &str) -> bool {
    name.contains("lora_B") || name.contains("lora_magnitude")
}

fn counted(batch: &Examples<'_>, how: &CrossEntropy) -> usize {
    batch.targets.iter().filter(|&&t| t != how.ignore_index).count()
}
