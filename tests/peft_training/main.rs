//! IA³, prefixes and bottleneck adapters in whole models: the loss curves of peft and of the `adapters` package, their
//! logits, the same bits however it is computed, gradients, folders.

#[path = "../common/mod.rs"]
mod common;

mod bits;
mod files;

use common::{assert_same, cpus};
use samebits::io::json;
use samebits::io::safetensors::{Checkpoint, Dtype, SafeTensors, TensorView, to_bytes};
use samebits::kernels::Cpu;
use samebits::kernels::cross_entropy::CrossEntropy;
use samebits::kernels::optim::AdamWOptions;
use samebits::model::{Decoder, DecoderConfig, Examples, Keep, KvCache, Sequence, Tape, Workspace};
use samebits::nn::Gradients;
use samebits::peft::config::{AdaptedModel, AdapterConfig, BottleneckConfig, Dora, PrefixConfig};
use samebits::peft::{
    Adapter, AdapterKind, LoraOptions, Parts, Scaling, activate, adapt, attach, is_adapter, stored,
};
use samebits::pool::Pool;
use samebits::random::Philox;
use samebits::run::Run;
use samebits::train::{Method, Plan, Schedule, Shape, Trainer};
use std::path::{Path, PathBuf};

const ENDS: [usize; 3] = [0, 23, 37];
const STEPS: usize = 20;
const PLAN: Plan = Plan {
    method: Method::AdamW(AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }),
    lr: 1e-2,
    schedule: Schedule { shape: Shape::Constant, warmup: 0, total: STEPS as u64, floor: 0.0 },
    clip: None,
    label_smoothing: 0.0,
    keep: Keep::All,
    seed: 1,
    lora_plus: 1.0,
};
/// Folders with a record of losses, and the model that they are for.
const METHODS: [(&str, &str); 6] = [
    ("lora_training/ia3", "llama"),
    ("lora_training/prefix", "llama"),
    ("bottleneck_training/houlsby", "llama"),
    ("bottleneck_training/pfeiffer", "llama"),
    ("bottleneck_training/parallel", "llama"),
    ("bottleneck_training/gpt2", "gpt2"),
];

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn decoder(name: &str, run: &Run<'_>) -> Decoder {
    let folder = data("models").join(name);
    let config = DecoderConfig::from_hf(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = Checkpoint::open(folder.join("model.safetensors")).unwrap();
    Decoder::load(run.cpu(), config, &weights).unwrap()
}

/// A model with the adapter of a folder.
fn adapted(run: &Run<'_>, model: &str, folder: &Path) -> Decoder {
    let mut model = decoder(model, run);
    let adapter = Adapter::open(run.cpu(), folder).unwrap();
    attach(run, &mut model, "default", &adapter).unwrap();
    activate(&mut model, &[("default", 1.0)]).unwrap();
    model
}

struct Batch {
    tokens: Vec<u32>,
    targets: Vec<i32>,
}

impl Batch {
    fn of(tokens: Vec<u32>) -> Batch {
        let next = |i: usize| if ENDS.contains(&(i + 1)) { -100 } else { tokens[i + 1] as i32 };
        let targets = (0..tokens.len()).map(next).collect();
        Batch { tokens, targets }
    }

    fn drawn(seed: u32) -> Batch {
        Batch::of((0..37u32).map(|i| (i * i * 5 + i * 7 + seed * 13) % 53).collect())
    }

    fn examples(&self) -> Examples<'_> {
        Examples { tokens: &self.tokens, targets: &self.targets, ends: &ENDS }
    }
}

/// The batches of a record, and the losses before them.
fn record(folder: &str) -> (Vec<Batch>, Vec<f64>) {
    let text = std::fs::read(data(folder).join("losses.json")).unwrap();
    let root = json::parse(&text).unwrap();
    let root = root.get("llama").unwrap_or(root);
    let ids =
        |step: json::Value<'_>| step.elements().unwrap().map(|x| x.as_usize().unwrap() as u32).collect();
    let batches = root.get("ids").unwrap().elements().unwrap().map(|step| Batch::of(ids(step))).collect();
    (batches, root.get("losses").unwrap().elements().unwrap().map(|x| x.as_f64().unwrap()).collect())
}

fn values(model: &mut Decoder) -> Vec<f32> {
    model.with_parameters(|all| {
        all.iter().filter(|p| is_adapter(&p.name)).flat_map(|p| p.values.to_vec()).collect()
    })
}

/// The logits after every token of both sequences, fed in parts of at most `part` tokens.
fn logits(model: &Decoder, run: &Run<'_>, batch: &Batch, part: usize) -> Vec<f32> {
    let vocab = model.config().vocab;
    let mut workspace = Workspace::new();
    let mut all = Vec::new();
    for w in ENDS.windows(2) {
        let mut cache = model.cache(4);
        for tokens in batch.tokens[w[0]..w[1]].chunks(part) {
            let mut some = vec![0.0; tokens.len() * vocab];
            let mut sequences = [Sequence { tokens, cache: &mut cache }];
            model.forward_all(run, &mut sequences, &mut some, &mut workspace).unwrap();
            all.extend(some);
        }
    }
    all
}

#[test]
fn the_loss_falls_as_peft_and_the_adapters_package_say() {
    let run = Run::here(Cpu::detect());
    for (folder, name) in METHODS {
        let adapter = Adapter::open(run.cpu(), data(folder)).unwrap();
        let mut model = adapted(&run, name, &data(folder));
        assert_eq!(
            stored(&mut model, "default", &adapter.config).unwrap(),
            adapter,
            "{folder}: what was read"
        );
        let mut trainer = Trainer::new(model, PLAN, is_adapter).unwrap();
        let (batches, losses) = record(folder);
        for (i, (batch, want)) in batches.iter().zip(&losses).enumerate() {
            let loss = trainer.step(&run, &[batch.examples()]).unwrap().loss;
            assert!((loss - want).abs() <= 1e-5 * want, "{folder}, step {}: loss {loss}, want {want}", i + 1);
        }
        assert_eq!(losses.len(), STEPS);
        // What was learned goes into a folder and comes back.
        let mut model = trainer.into_model();
        let learned = stored(&mut model, "default", &adapter.config).unwrap();
        assert_ne!(learned, adapter, "{folder}: something was learned");
        let out = std::env::temp_dir().join(format!(
            "samebits-peft-{}-{}",
            learned_name(folder),
            std::process::id()
        ));
        learned.save(&out).unwrap();
        assert_eq!(Adapter::open(run.cpu(), &out).unwrap(), learned, "{folder}");
        let text = |folder: &Path| std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
        assert_eq!(text(&out), text(&data(folder)), "{folder}: the configuration, byte for byte");
        std::fs::remove_dir_all(&out).unwrap();
    }
}

fn learned_name(folder: &str) -> String {
    folder.replace('/', "-")
}

/// What was made elsewhere says here what it says there: LoRA, DoRA and the others, after learning.
#[test]
fn their_adapters_give_their_logits() {
    let run = Run::here(Cpu::detect());
    let learned = ["lora", "rslora", "dora", "ia3", "prefix", "projected"];
    let learned = learned.map(|method| (format!("lora_training/{method}"), "learned", "llama"));
    let drawn = METHODS.into_iter().filter(|(folder, _)| folder.starts_with("bottleneck"));
    let drawn = drawn.map(|(folder, name)| (folder.to_string(), "", name));
    for (folder, inner, name) in learned.into_iter().chain(drawn) {
        let path = data(&folder).join(inner);
        let model = adapted(&run, name, &path);
        let said = SafeTensors::open(path.join("logits.safetensors")).unwrap();
        let want: Vec<f32> = said.load("logits").unwrap().to_vec();
        let batch = &record(&folder).0[0];
        let got = logits(&model, &run, batch, 64);
        let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let far = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        assert!(far <= 1e-5 * largest, "{folder}: {far:e} of {largest} from theirs");
        let base = logits(&decoder(name, &run), &run, batch, 64);
        assert!(base.iter().zip(&want).any(|(a, b)| (a - b).abs() > 1e-2), "{folder}: it changes something");
    }
}

/// By default a new adapter changes nothing, to the bit.
#[test]
fn new_adapters_change_nothing() {
    let run = Run::here(Cpu::detect());
    let batch = Batch::drawn(5);
    for (folder, name) in METHODS.into_iter().filter(|(folder, _)| !folder.ends_with("prefix")) {
        let config = Adapter::open(run.cpu(), data(folder)).unwrap().config;
        let config = match folder.starts_with("bottleneck") {
            true => {
                let options = config.field("config").unwrap().replace("\"bert\"", "\"mam_adapter\"");
                config.with_field("config", &options).unwrap()
            }
            false => config,
        };
        let mut model = decoder(name, &run);
        let base = logits(&model, &run, &batch, 64);
        let count = adapt(&run, &mut model, ("new", &config), Philox::new(3)).unwrap();
        let want = match stored(&mut model, "new", &config).unwrap().parts {
            Parts::Ia3(all) => all.len(),
            Parts::Bottleneck(all) => all.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count, want, "{folder}");
        assert_same(&logits(&model, &run, &batch, 64), &base, folder);
        // With weights in between they are between; and 0 is the base.
        let mut model = adapted(&run, name, &data(folder));
        values_times(&mut model, 1.25);
        let whole = logits(&model, &run, &batch, 64);
        activate(&mut model, &[("default", 0.5)]).unwrap();
        assert!(logits(&model, &run, &batch, 64) != whole, "{folder}");
        activate(&mut model, &[("default", 0.0)]).unwrap();
        assert_same(&logits(&model, &run, &batch, 64), &base, format!("{folder}, weight 0"));
    }
}

fn values_times(model: &mut Decoder, factor: f32) {
    model.with_parameters(|mut all| {
        let own = all.iter_mut().filter(|p| is_adapter(&p.name));
        own.for_each(|p| p.values.iter_mut().for_each(|x| *x *= factor));
    });
}
