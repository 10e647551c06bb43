//! Adapters learn: peft's loss curves, over NF4 the gradients of the decoded base, dropout that no cut of a batch
//! changes, and the way into a folder and back.

mod common;

use common::{assert_same, cpus};
use samebits::io::json;
use samebits::io::safetensors::Checkpoint;
use samebits::kernels::Cpu;
use samebits::kernels::cross_entropy::CrossEntropy;
use samebits::kernels::optim::AdamWOptions;
use samebits::model::{Decoder, DecoderConfig, Examples, Keep, Tape};
use samebits::nn::{Compute, Gradients};
use samebits::peft::config::{AdapterConfig, Dora};
use samebits::peft::{Adapter, LoraOptions, activate, adapt, attach, stored};
use samebits::pool::Pool;
use samebits::random::Philox;
use samebits::run::Run;
use samebits::train::{Method, Plan, Schedule, Shape, Trainer};
use std::path::PathBuf;

const ENDS: [usize; 3] = [0, 23, 37];
const PLAN: Plan = Plan {
    method: Method::AdamW(AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }),
    lr: 1e-2,
    schedule: Schedule { shape: Shape::Constant, warmup: 0, total: 20, floor: 0.0 },
    clip: None,
    label_smoothing: 0.0,
    keep: Keep::All,
    seed: 1,
    lora_plus: 1.0,
};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn llama(run: &Run<'_>) -> Decoder {
    let folder = data("models/llama");
    let config = DecoderConfig::from_hf(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = Checkpoint::open(folder.join("model.safetensors")).unwrap();
    Decoder::load(run.cpu(), config, &weights).unwrap()
}

fn is_adapter(name: &str) -> bool {
    name.contains("lora_")
}

/// Tokens of two sequences, and what is to be foretold.
fn batch(tokens: Vec<u32>) -> (Vec<u32>, Vec<i32>) {
    let next = |i: usize| if ENDS.contains(&(i + 1)) { -100 } else { tokens[i + 1] as i32 };
    let targets = (0..tokens.len()).map(next).collect();
    (tokens, targets)
}

fn drawn(seed: u32) -> (Vec<u32>, Vec<i32>) {
    batch((0..37u32).map(|i| (i * i * 5 + i * 7 + seed * 13) % 53).collect())
}

fn step(trainer: &mut Trainer, run: &Run<'_>, (tokens, targets): &(Vec<u32>, Vec<i32>)) -> f64 {
    trainer.step(run, &[Examples { tokens, targets, ends: &ENDS }]).unwrap().loss
}

fn trained(trainer: Trainer) -> Vec<f32> {
    trainer.into_model().with_parameters(|all| {
        all.iter().filter(|p| is_adapter(&p.name)).flat_map(|p| p.values.to_vec()).collect()
    })
}

/// A Llama with a drawn adapter on every linear layer; B is not zero, so that everything has a gradient.
fn adapted(run: &Run<'_>, options: LoraOptions, dora: Dora, mut model: Decoder) -> Decoder {
    let config = AdapterConfig::lora(&options, dora, &["all-linear"], "llama").unwrap();
    assert_eq!(adapt(run, &mut model, ("one", &config), Philox::new(4)).unwrap(), 14);
    model.with_parameters(|mut all| {
        for p in all.iter_mut().filter(|p| p.name.contains("lora_B")) {
            p.values.iter_mut().enumerate().for_each(|(i, b)| *b = ((i * 37 % 19) as f32 - 9.0) / 90.0);
        }
    });
    model.refresh_adapters(run);
    model
}

/// Over a base in bf16, plain or in NF4: the same weights for any threads on every tier, and losses within 1 % of f32's.
#[test]
fn a_base_in_bf16_teaches_the_same() {
    for nf4 in [false, true] {
        let learned = |cpu: Cpu, threads: usize, class: Compute| {
            let pool = Pool::new(threads);
            let run = Run::on(cpu, &pool);
            let mut base = llama(&run);
            if nf4 {
                base.quantize_nf4(&run, 64).unwrap();
            }
            let mut model = adapted(&run, LoraOptions::default(), Dora::Off, base);
            model.set_compute(cpu, class).unwrap();
            let mut trainer = Trainer::new(model, PLAN, is_adapter).unwrap();
            let losses: Vec<f64> = (0..20).map(|i| step(&mut trainer, &run, &drawn(i % 4))).collect();
            (losses, trained(trainer))
        };
        let first = cpus()[0];
        let (exact, _) = learned(first, 1, Compute::F32);
        let (losses, weights) = learned(first, 1, Compute::Bf16);
        assert!(losses[19] < 0.9 * losses[3], "it learns: {losses:?}");
        for (loss, exact) in losses.iter().zip(&exact) {
            assert!(loss != exact && (loss / exact - 1.0).abs() < 0.01, "{loss}, in f32 {exact}");
        }
        for cpu in cpus() {
            for threads in [1, 2, 3, 7] {
                let (other, same) = learned(cpu, threads, Compute::Bf16);
                assert_eq!(other, losses, "{threads} threads, {}", cpu.tier());
                assert_same(&same, &weights, format!("{threads} threads, {}", cpu.tier()));
            }
        }
    }
}

#[test]
fn the_loss_falls_as_peft_says() {
    let run = Run::here(Cpu::detect());
    for method in ["lora", "rslora", "dora"] {
        let folder = data("lora_training").join(method);
        let text = std::fs::read(folder.join("losses.json")).unwrap();
        let record = json::parse(&text).unwrap().get("llama").unwrap();
        let adapter = Adapter::open(run.cpu(), &folder).unwrap();
        let mut model = llama(&run);
        attach(&run, &mut model, "default", &adapter).unwrap();
        activate(&mut model, &[("default", 1.0)]).unwrap();
        let mut trainer = Trainer::new(model, PLAN, is_adapter).unwrap();
        let losses = record.get("losses").unwrap().elements().unwrap();
        for (i, (ids, want)) in record.get("ids").unwrap().elements().unwrap().zip(losses).enumerate() {
            let ids = ids.elements().unwrap().map(|id| id.as_usize().unwrap() as u32).collect();
            let (loss, want) = (step(&mut trainer, &run, &batch(ids)), want.as_f64().unwrap());
            assert!((loss - want).abs() <= 1e-5 * want, "{method}, step {}: loss {loss}, peft {want}", i + 1);
        }
        // What was learned goes into a folder and comes back.
        let mut model = trainer.into_model();
        let learned = stored(&mut model, "default", &adapter.config).unwrap();
        let out = std::env::temp_dir().join(format!("samebits-lora-{method}-{}", std::process::id()));
        learned.save(&out).unwrap();
        assert_eq!(Adapter::open(run.cpu(), &out).unwrap(), learned, "{method}");
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn over_nf4_gradients_are_those_over_the_decoded_base() {
    let run = Run::here(Cpu::detect());
    for dora in [Dora::Off, Dora::On] {
        let mut base = llama(&run);
        base.quantize_nf4(&run, 64).unwrap();
        let mut plain = base.clone();
        plain.make_trainable(&run);
        let (tokens, targets) = drawn(1);
        let gradients = |model: Decoder| {
            let mut model = adapted(&run, LoraOptions::default(), dora, model);
            let mut gradients = Gradients::default();
            model.with_parameters(|all| {
                let own = all.iter().filter(|p| is_adapter(&p.name));
                own.for_each(|p| gradients.train(&p.name, p.values.len()));
            });
            let examples = Examples { tokens: &tokens, targets: &targets, ends: &ENDS };
            let how = CrossEntropy::default();
            model.learn(&run, examples, &how, &mut gradients, &mut Tape::default()).unwrap();
            gradients
        };
        let (of_stored, of_plain) = (gradients(base), gradients(plain));
        assert!(of_stored.iter().all(|(_, g)| g.iter().any(|x| *x != 0.0)));
        for ((name, g), (_, want)) in of_stored.iter().zip(of_plain.iter()) {
            assert_same(g, want, name);
        }
    }
}

#[test]
fn twenty_steps_over_nf4_are_those_over_the_decoded_base() {
    let run = Run::here(Cpu::detect());
    for dora in [Dora::Off, Dora::On] {
        let mut base = llama(&run);
        base.quantize_nf4(&run, 64).unwrap();
        let mut plain = base.clone();
        plain.make_trainable(&run);
        let train = |model: Decoder| {
            let model = adapted(&run, LoraOptions::default(), dora, model);
            let mut trainer = Trainer::new(model, PLAN, is_adapter).unwrap();
            let losses: Vec<f64> = (0..20).map(|i| step(&mut trainer, &run, &drawn(i))).collect();
            assert!(losses[19] < losses[0], "{losses:?}");
            trained(trainer)
        };
        assert_same(&train(base), &train(plain), format!("{dora:?}: twenty steps"));
    }
}

#[test]
fn threads_what_is_kept_and_a_stop_change_no_bit() {
    let options = LoraOptions { dropout: 0.2, rank: 3, ..LoraOptions::default() };
    for dora in [Dora::Off, Dora::On] {
        let train = |run: &Run<'_>, keep: Keep, stop: Option<usize>| {
            let plan = Plan { keep, ..PLAN };
            let model = || adapted(run, options, dora, llama(run));
            let mut trainer = Trainer::new(model(), plan, is_adapter).unwrap();
            for i in 0..6 {
                if stop == Some(i) {
                    let file = format!("samebits-lora-{}-{dora:?}.safetensors", std::process::id());
                    let file = std::env::temp_dir().join(file);
                    trainer.save(&file).unwrap();
                    trainer = Trainer::resume(run, model(), plan, is_adapter, &file).unwrap();
                    std::fs::remove_file(file).unwrap();
                }
                step(&mut trainer, run, &drawn(i as u32));
            }
            trained(trainer)
        };
        let cpu = Cpu::detect();
        let want = train(&Run::here(cpu), Keep::All, None);
        for threads in [2, 3, 7] {
            let pool = Pool::new(threads);
            assert_same(&train(&Run::on(cpu, &pool), Keep::All, None), &want, format!("{threads} threads"));
        }
        assert_same(&train(&Run::here(cpu), Keep::Inputs, None), &want, "inputs kept");
        assert_same(&train(&Run::here(cpu), Keep::All, Some(3)), &want, "3 + 3 steps");
        let none = LoraOptions { dropout: 0.0, ..options };
        let mut whole =
            Trainer::new(adapted(&Run::here(cpu), none, dora, llama(&Run::here(cpu))), PLAN, is_adapter)
                .unwrap();
        (0..6).for_each(|i| {
            step(&mut whole, &Run::here(cpu), &drawn(i));
        });
        assert!(trained(whole) != want, "something is dropped");
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    // With dropout, where PyTorch cannot say: the same numbers are dropped for the same step.
    let run = Run::here(Cpu::detect());
    let options = LoraOptions { dropout: 0.3, rank: 2, alpha: 5.0, ..LoraOptions::default() };
    let (tokens, targets) = drawn(7);
    for dora in [Dora::Off, Dora::On] {
        let mut model = adapted(&run, options, dora, llama(&run));
        let mut gradients = Gradients::default();
        let mut all_names = Vec::new();
        model.with_parameters(|all| {
            for p in all.iter().filter(|p| is_adapter(&p.name)) {
                gradients.train(&p.name, p.values.len());
                all_names.push(p.name.clone());
            }
        });
        let loss = |model: &Decoder, gradients: &mut Gradients| {
            let mut tape = Tape::default();
            tape.draw = Some(samebits::nn::adapter::Draw { random: Philox::new(1), step: 3, first_row: 0 });
            let examples = Examples { tokens: &tokens, targets: &targets, ends: &ENDS };
            model.learn(&run, examples, &CrossEntropy::default(), gradients, &mut tape).unwrap()
        };
        loss(&model, &mut gradients);
        for name in all_names
            .iter()
            .filter(|n| n.contains("blocks.0.attention.v") || n.contains("blocks.1.network.down"))
        {
            // |V| is a constant to DoRA's gradient, not to the loss: only m's slope can be seen.
            if dora == Dora::On && !name.contains("magnitude") {
                continue;
            }
            let g = gradients.get(name).unwrap().to_vec();
            for i in [0, g.len() / 2, g.len() - 1] {
                let mut at = |step: f32| {
                    model.with_parameters(|mut all| {
                        let p = all.iter_mut().find(|p| p.name == *name).unwrap();
                        p.values[i] += step;
                    });
                    model.refresh_adapters(&run);
                    loss(&model, &mut Gradients::default())
                };
                let (up, down) = (at(0.01), at(-0.02));
                at(0.01);
                let slope = (up - down) / 0.02;
                let near = (slope - f64::from(g[i])).abs() <= 2e-3 * f64::from(g[i].abs()) + 2e-3;
                assert!(near, "{name}[{i}]: slope {slope}, gradient {}", g[i]);
            }
        }
    }
}

#[test]
fn what_has_no_place_is_an_error() {
    let run = Run::here(Cpu::detect());
    let mut model = llama(&run);
    let config =
        AdapterConfig::lora(&LoraOptions::default(), Dora::Off, &["nothing_like_it"], "llama").unwrap();
    assert!(
        adapt(&run, &mut model, ("one", &config), Philox::new(1))
            .unwrap_err()
            .to_string()
            .contains("no module")
    );
    assert!(activate(&mut model, &[("one", 1.0)]).unwrap_err().to_string().contains("\"one\""));
    let adapter = Adapter::open(run.cpu(), data("lora_training/lora")).unwrap();
    attach(&run, &mut model, "default", &adapter).unwrap();
    assert!(
        activate(&mut model, &[("default", 1.0), ("other", 1.0)])
            .unwrap_err()
            .to_string()
            .contains("\"other\"")
    );
    let open = |name: &str| {
        let folder = data("models").join(name);
        let config = DecoderConfig::from_hf(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        Decoder::load(run.cpu(), config, &Checkpoint::open(folder.join("model.safetensors")).unwrap())
            .unwrap()
    };
    let error = attach(&run, &mut open("qwen2"), "default", &adapter).unwrap_err().to_string();
    assert!(error.contains("model.layers.0.self_attn.q_proj"), "{error}");
    let error = attach(&run, &mut open("gpt2"), "default", &adapter).unwrap_err().to_string();
    assert!(error.contains("model.layers.0") && error.contains("no module of the model"), "{error}");
    // What has no adapter may be told so.
    activate(&mut open("gpt2"), &[]).unwrap();
    activate(&mut open("phi3_short"), &[]).unwrap();
}
