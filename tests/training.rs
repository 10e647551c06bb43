//! Training: PyTorch's loss curve, the same weights for any threads and tier, after a stop and a start, and however a
//! batch is cut.

mod common;

use common::{assert_same, cpus};
use samebits::Tier;
use samebits::io::json;
use samebits::io::safetensors::Checkpoint;
use samebits::kernels::Cpu;
use samebits::kernels::cross_entropy::CrossEntropy;
use samebits::kernels::optim::AdamWOptions;
use samebits::model::{Decoder, DecoderConfig, Examples, Keep, Tape};
use samebits::nn::Gradients;
use samebits::pool::Pool;
use samebits::run::Run;
use samebits::train::{Curve, Method, Outcome, Plan, Report, Schedule, Shape, Trainer};
use std::path::PathBuf;

const STEPS: usize = 20;
const ENDS: [usize; 3] = [0, 23, 37];

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn decoder(name: &str, run: &Run<'_>) -> Decoder {
    let folder = data("models").join(name);
    let config = DecoderConfig::from_hf(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = Checkpoint::open(folder.join("model.safetensors")).unwrap();
    let mut model = Decoder::load(run.cpu(), config, &weights).unwrap_or_else(|e| panic!("{name}: {e}"));
    model.make_trainable(run);
    model
}

/// What tests/reference/training.py did.
const PLAN: Plan = Plan {
    method: Method::AdamW(AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 }),
    lr: 5e-3,
    schedule: Schedule { shape: Shape::Fall(Curve::Linear), warmup: 4, total: STEPS as u64, floor: 0.0 },
    clip: Some(1.0),
    label_smoothing: 0.0,
    keep: Keep::All,
    seed: 0,
    lora_plus: 1.0,
};

struct Curves(Vec<u8>);

impl Curves {
    fn open() -> Curves {
        Curves(std::fs::read(data("training.json")).unwrap())
    }

    fn losses(&self, name: &str) -> Vec<f64> {
        let all = json::parse(&self.0).unwrap().get(name).unwrap().get("losses").unwrap();
        all.elements().unwrap().map(|x| x.as_f64().unwrap()).collect()
    }

    /// The batches of all steps.
    fn batches(&self, name: &str) -> Vec<Batch> {
        let all = json::parse(&self.0).unwrap().get(name).unwrap().get("ids").unwrap();
        let ids =
            |step: json::Value<'_>| step.elements().unwrap().map(|x| x.as_usize().unwrap() as u32).collect();
        all.elements().unwrap().map(|step| Batch::of(ids(step), &ENDS)).collect()
    }
}

struct Batch {
    tokens: Vec<u32>,
    targets: Vec<i32>,
    ends: Vec<usize>,
}

impl Batch {
    /// Every token but the last of a sequence is to foretell the next.
    fn of(tokens: Vec<u32>, ends: &[usize]) -> Batch {
        let next = |i: usize| if ends.contains(&(i + 1)) { -100 } else { tokens[i + 1] as i32 };
        let targets = (0..tokens.len()).map(next).collect();
        Batch { tokens, targets, ends: ends.to_vec() }
    }

    fn examples(&self) -> Examples<'_> {
        Examples { tokens: &self.tokens, targets: &self.targets, ends: &self.ends }
    }
}

fn weights(trainer: Trainer) -> Vec<f32> {
    trainer.into_model().with_parameters(|all| all.iter().flat_map(|p| p.values.to_vec()).collect())
}

fn step(trainer: &mut Trainer, run: &Run<'_>, batch: &Batch) -> Report {
    trainer.step(run, &[batch.examples()]).unwrap()
}

#[test]
fn the_loss_falls_as_pytorch_says() {
    let curves = Curves::open();
    let run = Run::here(Cpu::detect());
    for name in ["llama", "qwen3", "gpt2"] {
        let mut trainer = Trainer::new(decoder(name, &run), PLAN, |_| true).unwrap();
        let losses = curves.losses(name);
        for (i, (batch, want)) in curves.batches(name).iter().zip(&losses).enumerate() {
            let report = step(&mut trainer, &run, batch);
            assert_eq!((report.step, report.targets), (i as u64 + 1, 35));
            let off = (report.loss - want).abs() / want;
            assert!(off <= 1e-5, "{name}, step {}: loss {}, PyTorch {want}", i + 1, report.loss);
            assert!(matches!(report.outcome, Outcome::Stepped { norm } if norm > 0.0));
        }
    }
}

/// Of all weights after twenty steps: the same on x86 and ARM.
const WEIGHTS: u64 = 0x36d2_999c_0bff_15b3;

#[test]
fn threads_and_tiers_train_the_same_weights() {
    let batches = Curves::open().batches("llama");
    let train = |run: &Run<'_>, keep: Keep, steps: usize| {
        let mut trainer = Trainer::new(decoder("llama", run), Plan { keep, ..PLAN }, |_| true).unwrap();
        batches[..steps].iter().for_each(|batch| {
            step(&mut trainer, run, batch);
        });
        weights(trainer)
    };
    let cpu = Cpu::detect();
    let want = train(&Run::here(cpu), Keep::All, STEPS);
    assert_eq!(samebits::golden::hash(&want), WEIGHTS, "the hash of the weights");
    for threads in [1, 2, 3, 7] {
        let pool = Pool::new(threads);
        assert_same(&train(&Run::on(cpu, &pool), Keep::All, STEPS), &want, format!("{threads} threads"));
    }
    assert_same(&train(&Run::here(cpu), Keep::Inputs, STEPS), &want, "inputs kept");
    for cpu in cpus().into_iter().filter(|cpu| cpu.tier() != Tier::Scalar || !common::slow()) {
        assert_same(&train(&Run::here(cpu), Keep::All, STEPS), &want, format!("{}", cpu.tier()));
    }
}

#[test]
fn five_steps_a_stop_and_five_are_ten() {
    let (run, batches) = (Run::here(Cpu::detect()), Curves::open().batches("qwen3"));
    let all = |name: &str| !name.contains("norm");
    let mut through = Trainer::new(decoder("qwen3", &run), PLAN, all).unwrap();
    batches[..10].iter().for_each(|batch| {
        step(&mut through, &run, batch);
    });
    let file = std::env::temp_dir().join(format!("samebits-training-{}.safetensors", std::process::id()));
    let mut first = Trainer::new(decoder("qwen3", &run), PLAN, all).unwrap();
    batches[..5].iter().for_each(|batch| {
        step(&mut first, &run, batch);
    });
    first.save(&file).unwrap();
    drop(first);
    let mut second = Trainer::resume(&run, decoder("qwen3", &run), PLAN, all, &file).unwrap();
    assert_eq!(second.steps(), 5);
    batches[5..10].iter().for_each(|batch| {
        step(&mut second, &run, batch);
    });
    assert_same(&weights(second), &weights(through), "5 + 5 and 10 steps");

    let refused = |plan: Plan, all: fn(&str) -> bool| {
        Trainer::resume(&run, decoder("qwen3", &run), plan, all, &file).unwrap_err().to_string()
    };
    assert!(refused(Plan { lr: 1.0, ..PLAN }, |n| !n.contains("norm")).contains("another plan"));
    assert!(refused(PLAN, |_| true).contains("are trained"));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = refused(PLAN, |n| !n.contains("norm"));
    assert!(error.contains("samebits-training"), "the file is named: {error}");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn micro_batches_of_whole_blocks_are_one_batch_to_the_bit() {
    let run = Run::here(Cpu::detect());
    let drawn = |n: usize, seed: usize| {
        (0..n).map(|i| ((i * i * 7 + i * 3 + seed * 11) % 53) as u32).collect::<Vec<_>>()
    };
    // Rows 0..256, 256..512 and 512..600 in sequences that the model has positions for.
    let parts =
        [(drawn(256, 1), vec![0, 100, 256]), (drawn(256, 2), vec![0, 128, 256]), (drawn(88, 3), vec![0, 88])];
    let (mut tokens, mut ends) = (Vec::new(), vec![0]);
    for (part, at) in &parts {
        ends.extend(at[1..].iter().map(|end| tokens.len() + end));
        tokens.extend(part);
    }
    let whole = Batch::of(tokens, &ends);
    let parts = parts.map(|(tokens, ends)| Batch::of(tokens, &ends));
    let train = |name: &str, batches: &[Examples<'_>]| {
        let mut trainer = Trainer::new(decoder(name, &run), PLAN, |_| true).unwrap();
        for _ in 0..2 {
            trainer.step(&run, batches).unwrap();
        }
        weights(trainer)
    };
    let micro: Vec<Examples<'_>> = parts.iter().map(Batch::examples).collect();
    for name in ["llama", "qwen2"] {
        let what = format!("{name}: three micro-batches and one batch");
        assert_same(&train(name, &micro), &train(name, &[whole.examples()]), what);
    }
}

#[test]
fn a_step_that_is_not_finite_moves_nothing() {
    let run = Run::here(Cpu::detect());
    let batch = &Curves::open().batches("llama")[0];
    let mut model = decoder("llama", &run);
    model.make_trainable(&run);
    model
        .with_parameters(|mut all| all.iter_mut().for_each(|p| p.values.iter_mut().for_each(|x| *x *= 1e30)));
    let before = weights(Trainer::new(model.clone(), PLAN, |_| true).unwrap());
    let mut trainer = Trainer::new(model, PLAN, |_| true).unwrap();
    assert_eq!(step(&mut trainer, &run, batch).outcome, Outcome::Skipped);
    assert_same(&weights(trainer), &before, "weights");
}

#[test]
fn only_what_is_chosen_moves_and_text_is_judged_without_learning() {
    let run = Run::here(Cpu::detect());
    let batches = Curves::open().batches("gpt2");
    let mut trainer = Trainer::new(decoder("gpt2", &run), PLAN, |n| n.ends_with("up.weight")).unwrap();
    assert_eq!(trainer.trained(), 2 * 20 * 28);
    let judged = |trainer: &mut Trainer| trainer.evaluate(&run, &[batches[0].examples()]).unwrap();
    let first = judged(&mut trainer);
    assert_eq!((first, first.targets), (judged(&mut trainer), 35));
    for _ in 0..10 {
        step(&mut trainer, &run, &batches[0]);
    }
    let last = judged(&mut trainer);
    assert!(last.mean() < first.mean() && last.perplexity() < first.perplexity());
    let moved = |model: Decoder| {
        let mut model = model;
        model.with_parameters(|all| {
            all.iter().map(|p| (p.name.clone(), p.values.to_vec())).collect::<Vec<_>>()
        })
    };
    for ((name, was), (_, is)) in moved(decoder("gpt2", &run)).iter().zip(&moved(trainer.into_model())) {
        assert_eq!(was != is, name.ends_with("up.weight"), "{name}");
    }
    assert!(Trainer::new(decoder("gpt2", &run), PLAN, |_| false).is_err());
}

/// The losses of some batches and the sum of their gradients; a table that is the head too has one for each use.
fn learn(run: &Run<'_>, name: &str, batches: &[Batch]) -> (Vec<f64>, Gradients) {
    let mut model = decoder(name, run);
    let mut gradients = Gradients::default();
    model.with_parameters(|all| all.iter().for_each(|p| gradients.train(&p.name, p.values.len())));
    if model.config().tied {
        gradients.train("head.weight", model.config().vocab * model.config().dim);
    }
    let (how, mut tape) = (CrossEntropy::default(), Tape::default());
    let one = |batch: &Batch| model.learn(run, batch.examples(), &how, &mut gradients, &mut tape).unwrap();
    (batches.iter().map(one).collect(), gradients)
}

/// Sequences of these lengths, each a batch, and all of them packed into one.
fn alone_and_packed(lengths: &[usize]) -> (Vec<Batch>, Batch) {
    let drawn = |n: usize, seed: usize| -> Vec<u32> {
        (0..n).map(|i| ((i * i * 7 + i * 3 + seed * 11) % 53) as u32).collect()
    };
    let alone: Vec<Batch> =
        lengths.iter().enumerate().map(|(i, &n)| Batch::of(drawn(n, i), &[0, n])).collect();
    let tokens = alone.iter().flat_map(|batch| batch.tokens.clone()).collect();
    let mut ends = vec![0];
    lengths.iter().for_each(|n| ends.push(ends[ends.len() - 1] + n));
    (alone, Batch::of(tokens, &ends))
}

#[test]
fn rows_that_are_packed_learn_as_they_do_alone() {
    let run = Run::here(Cpu::detect());
    // Attention is kept apart by the ends of the sequences. Each has 256 rows or is the last, so that sums over rows are
    // cut at the same places: then packing changes no bit of a gradient.
    let (alone, packed) = alone_and_packed(&[256, 256, 31]);
    let (losses, want) = learn(&run, "llama", &alone);
    let (of_packed, got) = learn(&run, "llama", &[packed]);
    let sum: f64 = losses.iter().sum();
    assert!((of_packed[0] - sum).abs() <= 1e-12 * sum, "{of_packed:?} {losses:?}");
    for ((name, got), (_, want)) in got.iter().zip(want.iter()) {
        assert!(want.iter().any(|g| *g != 0.0), "{name}");
        assert_same(got, want, format!("{name}: packed and alone"));
    }
}

#[test]
fn micro_batches_of_any_length_are_one_batch() {
    let run = Run::here(Cpu::detect());
    let (mut alone, mut packed) = alone_and_packed(&[2, 17, 3, 11, 5, 8, 13, 4]);
    // One of them has nothing to learn from.
    alone[3].targets.fill(-100);
    packed.targets[22..33].fill(-100);
    let (losses, got) = learn(&run, "qwen2", &alone);
    let (loss, want) = learn(&run, "qwen2", &[packed]);
    assert_eq!(losses[3], 0.0);
    assert!((losses.iter().sum::<f64>() - loss[0]).abs() <= 2e-6 * loss[0], "{losses:?} {loss:?}");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|g| g * g).sum::<f64>().sqrt();
    for ((name, got), (_, want)) in got.iter().zip(want.iter()) {
        let size = norm(&mut want.iter().map(|g| f64::from(*g)));
        let far = norm(&mut want.iter().zip(got).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        assert!(size > 0.0 && far <= 2e-6 * size, "{name}: {far} of {size}");
    }
}
