//! What learns: adapters of each kind, or the model itself.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::cli::{Args, Failure};
use crate::model::{Architecture, Decoder, copy_small, family, save_folder};
use crate::peft::config::{AdaptedModel, AdapterConfig, BottleneckConfig, Dora, PrefixConfig};
use crate::peft::{AdapterKind, LoraOptions, Scaling, adapt, is_adapter, stored};
use crate::random::Philox;
use crate::run::Run;

/// What the adapter is called in memory.
const NAME: &str = "default";

/// Elements of NF4 with one scale, as in the paper.
pub const BLOCKSIZE: usize = 64;

/// The methods: what each is called, the flags that it has besides those of all, and its rate where that is its own.
const METHODS: [(&str, &[&str], Option<f64>); 7] = [
    ("lora", LORA, None),
    ("dora", LORA, None),
    ("qlora", LORA, None),
    ("adapter", &["bottleneck", "reduction"], Some(1e-4)),
    ("ia3", &["targets"], Some(3e-3)),
    ("prefix", &["length"], Some(1e-2)),
    ("full", &[], Some(2e-5)),
];
const LORA: &[&str] =
    &["rank", "alpha", "rslora", "dropout", "targets", "rank-pattern", "alpha-pattern", "lora-plus"];

/// What learns.
pub enum Learner {
    /// An adapter beside the model.
    Adapter(Box<AdapterConfig>),
    /// Every weight; the folder that has the tokenizer.
    Model(PathBuf),
}

/// The method, the flags of others refused.
fn method(args: &Args) -> Result<&'static str, Failure> {
    let given = args.text("method")?.unwrap_or("lora");
    let Some((name, flags, _)) = METHODS.iter().find(|(name, ..)| *name == given) else {
        let known = "lora, dora, qlora, adapter, ia3, prefix or full";
        return Err(Failure::usage(format!("finetune: --method {given:?}: {known}"), None));
    };
    let all = METHODS.iter().flat_map(|(_, flags, _)| flags.iter());
    if let Some(other) = all.into_iter().find(|flag| args.has(flag) && !flags.contains(flag)) {
        let of = METHODS.iter().filter(|(_, flags, _)| flags.contains(other)).map(|(name, ..)| *name);
        let of = of.collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!("finetune: --{other} goes with --method {of}"), None));
    }
    Ok(name)
}

/// The rate where none is given: `usual` where the method has none of its own.
pub fn rate(args: &Args, usual: f64) -> Result<f64, Failure> {
    let name = method(args)?;
    Ok(METHODS.iter().find(|(known, ..)| *known == name).and_then(|(_, _, rate)| *rate).unwrap_or(usual))
}

impl Learner {
    /// Makes the model ready: a new adapter on it, of numbers that `random` draws, or its weights such as learn. `base`
    /// is where the model came from.
    pub fn prepare(
        args: &Args,
        run: &Run<'_>,
        base: &Path,
        model: &mut Decoder,
        random: Philox,
    ) -> Result<Learner, Failure> {
        let name = &*base.to_string_lossy();
        let config = match method(args)? {
            "full" => {
                writable(base, model)?;
                model.make_trainable(run);
                return Ok(Learner::Model(base.into()));
            }
            "adapter" => bottleneck(args, name, model)?,
            "ia3" => ia3(args, name, model)?,
            "prefix" => prefix(args, name, model)?,
            "dora" => lora(args, Dora::On, name)?,
            method => {
                if method == "qlora" {
                    model.quantize_nf4(run, BLOCKSIZE)?;
                }
                lora(args, Dora::Off, name)?
            }
        };
        adapt(run, model, (NAME, &config), random)?;
        Ok(Learner::Adapter(Box::new(config)))
    }

    /// Whether a parameter of the model learns.
    pub fn learns(&self, parameter: &str) -> bool {
        matches!(self, Learner::Model(_)) || is_adapter(parameter)
    }

    /// What a result is called.
    pub const fn result(&self) -> &'static str {
        match self {
            Learner::Adapter(_) => "adapter",
            Learner::Model(_) => "model",
        }
    }

    /// Writes what was learned.
    pub fn save(&self, run: &Run<'_>, model: &mut Decoder, out: &Path) -> Result<(), Error> {
        match self {
            Learner::Adapter(config) => stored(model, NAME, config)?.save(out),
            Learner::Model(from) => save_folder(model, run.cpu(), out, |folder| copy_small(from, folder)),
        }
    }
}

/// Whether the whole model could be written: said before it learns, not after.
fn writable(base: &Path, model: &Decoder) -> Result<(), Error> {
    if !base.is_dir() {
        let what = "--method full is for models in folders of Hugging Face; samebits convert makes them";
        return Err(Error::invalid(what).in_file(base.display()));
    }
    match model.config().architecture {
        of @ (Architecture::Gpt2 | Architecture::Phi3) => {
            Err(Error::invalid(format!("--method full: the projections of {of:?} are fused in files")))
        }
        _ => Ok(()),
    }
}

fn targets(args: &Args) -> Vec<String> {
    args.all("targets").map(|t| t.to_string_lossy().into_owned()).collect()
}

fn lora(args: &Args, dora: Dora, base: &str) -> Result<AdapterConfig, Failure> {
    let options = LoraOptions {
        rank: args.count("rank", 1..=1 << 16)?.unwrap_or(8),
        alpha: args.number("alpha", 1e-9..=1e9)?.unwrap_or(16.0),
        scaling: if args.has("rslora") { Scaling::ByRoot } else { Scaling::ByRank },
        dropout: args.number("dropout", 0.0..=0.999)?.unwrap_or(0.0) as f32,
        ..LoraOptions::default()
    };
    let given = targets(args);
    let targets: Vec<&str> = match &given[..] {
        [] => vec!["all-linear"],
        given => given.iter().map(String::as_str).collect(),
    };
    super::patterns::with_patterns(args, AdapterConfig::lora(&options, dora, &targets, base)?)
}

fn bottleneck(args: &Args, base: &str, model: &Decoder) -> Result<AdapterConfig, Failure> {
    let kind = match args.text("bottleneck")?.unwrap_or("pfeiffer") {
        "houlsby" => AdapterKind::Houlsby,
        "pfeiffer" => AdapterKind::Pfeiffer,
        "parallel" => AdapterKind::Parallel,
        other => {
            let known = "houlsby, pfeiffer or parallel";
            return Err(Failure::usage(format!("finetune: --bottleneck {other:?}: {known}"), None));
        }
    };
    let mut config = BottleneckConfig::new(kind, model.config().dim);
    if let Some(reduction) = args.number("reduction", 1e-3..=1e6)? {
        config.reduction = reduction;
    }
    let (kind, class) = family(model.config());
    Ok(AdapterConfig::bottleneck(&config, AdaptedModel { class, kind, name: base })?)
}

/// peft's usual modules of each family.
fn ia3(args: &Args, base: &str, model: &Decoder) -> Result<AdapterConfig, Failure> {
    let given = targets(args);
    let usual: &[&str] = match model.config().architecture {
        Architecture::Llama | Architecture::Mistral => &["k_proj", "v_proj", "down_proj"],
        Architecture::Gpt2 => &["c_attn", "mlp.c_proj"],
        _ => &["q_proj", "v_proj", "down_proj"],
    };
    let targets: Vec<&str> =
        if given.is_empty() { usual.to_vec() } else { given.iter().map(String::as_str).collect() };
    let ends = ["down_proj", "mlp.c_proj"];
    let feed_forward: Vec<&str> =
        targets.iter().filter(|t| ends.iter().any(|end| t.ends_with(end))).copied().collect();
    Ok(AdapterConfig::ia3(&targets, &feed_forward, base)?)
}

fn prefix(args: &Args, base: &str, model: &Decoder) -> Result<AdapterConfig, Failure> {
    let c = model.config();
    let tokens = args.count("length", 1..=1 << 16)?.unwrap_or(20);
    let prefix = PrefixConfig { tokens, layers: c.windows.len(), dim: c.kv_heads * c.head_dim };
    Ok(AdapterConfig::prefix(prefix, c.kv_heads, base)?)
}
