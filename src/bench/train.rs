//! Steps of training: how long one takes, how much of it is products, and what it keeps in memory.
//!
//! A step is one batch of drawn tokens forward, back and through AdamW. Beside it, in turns: the ceiling of
//! multiply-adds, and the step's matrix products alone, the very calls on the very weights. So the share of products is a
//! matter of time, not of counting. The peak of the process's memory is read before products get buffers of their own.

use super::ceiling::{Bound, Ceilings};
use super::measure::Summary;
use super::model::Row;
use super::rows;
use crate::golden::Random;
use crate::kernels::gemm::Accumulate;
use crate::kernels::optim::AdamWOptions;
use crate::kernels::view::{MatMut, MatRef};
use crate::model::{Decoder, Examples, Keep, Opening};
use crate::nn::{Compute, Linear, input_gradient, weight_gradient};
use crate::peft::config::{AdapterConfig, Dora};
use crate::peft::{LoraOptions, adapt};
use crate::pool::Pool;
use crate::random::Philox;
use crate::run::Run;
use crate::train::{Method, Schedule, Shape, Trainer};
use crate::{Cpu, Result, sys};
use std::path::Path;
use std::time::Instant;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An adapter of rank 8 on every linear layer of the blocks.
    Lora,
    /// The same, the blocks' matrices in NF4.
    Qlora,
    /// Every parameter.
    Full,
}

/// What is measured, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What is trained.
    pub what: What,
    /// The class of products, of adapters f32 or bf16.
    pub compute: Compute,
    /// Sequences of a step.
    pub batch: usize,
    /// Tokens of each.
    pub length: usize,
    /// What blocks keep.
    pub keep: Keep,
    /// Turns after the two steps that warm up.
    pub turns: usize,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Measured {
    /// A step, and the products of one alone, in ms.
    pub rows: [Row; 2],
    /// The time of the products as a share of the step's.
    pub products: Summary,
    /// The peak of the process's memory in bytes, where the system says.
    pub peak: Option<usize>,
}

/// Elements of NF4 with one scale.
const BLOCKSIZE: usize = 64;
/// How long a sample of a ceiling takes.
const CEILING: f64 = 0.02;

/// Measures steps of the model in a folder or file.
///
/// # Errors
/// Where it does not open, has no backward pass, or fewer positions than `plan.length`.
pub fn measure(path: &Path, plan: &Plan, cpu: Cpu, pool: &Pool) -> Result<Measured> {
    let run = Run::on(cpu, pool);
    let nf4 = (plan.what == What::Qlora).then_some(BLOCKSIZE);
    let mut model = Decoder::open_with(path, cpu, Opening { nf4, ..Opening::mapped() })?;
    prepare(&run, &mut model, plan.what)?;
    if plan.compute != Compute::F32 {
        model.set_compute(cpu, plan.compute)?;
    }
    let adapted = |name: &str| plan.what == What::Full || name.contains(".lora_");
    let mut trainer = Trainer::new(model, training(plan), adapted)?;
    let mut random = Random::new(1);
    let (rows, vocab) = (plan.batch * plan.length, trainer.model().config().vocab);
    let ids: Vec<u32> = (0..rows).map(|_| random.below(vocab) as u32).collect();
    let targets: Vec<i32> = (0..rows).map(|_| random.below(vocab) as i32).collect();
    let ends: Vec<usize> = (0..=plan.batch).map(|i| i * plan.length).collect();
    let batch = [Examples { tokens: &ids, targets: &targets, ends: &ends }];
    trainer.step(&run, &batch)?;
    trainer.step(&run, &batch)?;
    let peak = sys::peak_memory();
    let mut products = Products::new(trainer.model(), rows, plan.what);
    products.run(&run, trainer.model());
    let (mut ceilings, mut times, mut shares) = (Ceilings::default(), [vec![], vec![]], [vec![], vec![]]);
    let operations = [operations(trainer.model(), plan), products.operations];
    for _ in 0..plan.turns {
        for i in 0..2 {
            let fma = 1e9 * ceilings.sample(&rows::Run { cpu, pool }, Bound::Arithmetic, CEILING);
            let start = Instant::now();
            match i {
                0 => drop(trainer.step(&run, &batch)?),
                _ => products.run(&run, trainer.model()),
            }
            let seconds = start.elapsed().as_secs_f64();
            times[i].push(1e3 * seconds);
            shares[i].push(operations[i] / seconds / fma);
        }
    }
    let name = format!("step {}×{}", plan.batch, plan.length);
    let share: Vec<f64> = times[0].iter().zip(&times[1]).map(|(step, products)| products / step).collect();
    let row = |i: usize, test: String| Row {
        test,
        unit: "ms",
        rate: Summary::of(&times[i]),
        bound: Bound::Arithmetic.name(),
        of_peak: Summary::of(&shares[i]),
    };
    Ok(Measured {
        rows: [row(0, name), row(1, "products alone".into())],
        products: Summary::of(&share),
        peak,
    })
}

/// The model as it is trained.
fn prepare(run: &Run<'_>, model: &mut Decoder, what: What) -> Result<()> {
    match what {
        What::Full => {
            model.make_trainable(run);
            return Ok(());
        }
        What::Qlora => model.quantize_nf4(run, BLOCKSIZE)?,
        What::Lora => {}
    }
    let options = LoraOptions { alpha: 16.0, ..LoraOptions::default() };
    let config = AdapterConfig::lora(&options, Dora::Off, &["all-linear"], "")?;
    adapt(run, model, ("default", &config), Philox::new(1)).map(drop)
}

fn training(plan: &Plan) -> crate::train::Plan {
    let options = AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 };
    crate::train::Plan {
        method: Method::AdamW(options),
        lr: 1e-4,
        schedule: Schedule { shape: Shape::Constant, warmup: 0, total: 1 << 20, floor: 0.0 },
        clip: None,
        label_smoothing: 0.0,
        keep: plan.keep,
        seed: 1,
        lora_plus: 1.0,
    }
}

/// Multiplications and additions that a step cannot do without: a product of a layer forward, one back to its input,
/// one to its weight where it is trained; attention's two products forward and five back; and the adapters'.
fn operations(model: &Decoder, plan: &Plan) -> f64 {
    let (config, tokens) = (model.config(), (plan.batch * plan.length) as f64);
    let passes = if plan.what == What::Full { 3.0 } else { 2.0 };
    let matrices: f64 = model.matrices().map(|w| 2.0 * (w.in_features() * w.out_features()) as f64).sum();
    let ranks = |l: &Linear| 6.0 * 8.0 * (l.in_features() + l.out_features()) as f64;
    let adapters: f64 = match plan.what {
        What::Full => 0.0,
        _ => model.matrices().filter(|l| l.adapter.is_some()).map(ranks).sum(),
    };
    let seen = |window: &Option<usize>| {
        let (n, w) = (plan.length, window.unwrap_or(plan.length).min(plan.length));
        (w * (w + 1) / 2 + (n - w) * w) as f64
    };
    let pairs = plan.batch as f64 * config.windows.iter().map(seen).sum::<f64>();
    let attention = 7.0 * 2.0 * pairs * (config.heads * config.head_dim) as f64;
    tokens * (passes * matrices + adapters) + attention
}

/// The matrix products of a step, but for attention's and the adapters'.
struct Products {
    what: What,
    operations: f64,
    rows: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

impl Products {
    fn new(model: &Decoder, rows: usize, what: What) -> Products {
        let widest = |f: fn(&Linear) -> usize| model.matrices().map(f).max().unwrap_or(0);
        let weights = if what == What::Full { widest(|l| l.in_features() * l.out_features()) } else { 0 };
        let (inputs, outputs) = (widest(Linear::in_features), widest(Linear::out_features));
        let passes = if what == What::Full { 3.0 } else { 2.0 };
        let each = |l: &Linear| passes * 2.0 * (rows * l.in_features() * l.out_features()) as f64;
        Products {
            what,
            operations: model.matrices().map(each).sum(),
            rows,
            x: vec![0.5; rows * inputs],
            y: vec![0.5; rows * outputs],
            dx: vec![0.0; rows * inputs],
            dw: vec![0.0; weights],
        }
    }

    /// Forward, and back, of every layer.
    fn run(&mut self, run: &Run<'_>, model: &Decoder) {
        for layer in model.matrices() {
            let (n, k, rows) = (layer.out_features(), layer.in_features(), self.rows);
            let (x, y) = (MatRef::new(&self.x[..rows * k], rows, k), &mut self.y[..rows * n]);
            layer.forward_base(run, x, MatMut::new(y, rows, n));
            let (dy, dx) = (MatRef::new(y, rows, n), MatMut::new(&mut self.dx[..rows * k], rows, k));
            input_gradient(run, &layer.weight, dy, Accumulate::Overwrite, dx);
            if self.what == What::Full {
                let dw = MatMut::new(&mut self.dw[..n * k], n, k);
                weight_gradient(run, layer.weight.compute(), (x, dy), Accumulate::Overwrite, dw);
            }
        }
    }
}
