//! `samebits train`: a model from text alone.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::learning::{self, Job, Measure, Settings, Usual};
use super::{Args, Command, Console, Failure, Flag, Takes, read_text};
use crate::golden::Hash;
use crate::io::json::{self, Writer};
use crate::io::tokenizer::{EncodeOptions, Tokenizer, TrainOptions, Trainer as Vocabulary};
use crate::io::{atomic, safetensors};
use crate::kernels::optim::AdamWOptions;
use crate::model::{Decoder, DecoderConfig, read_config, save_folder};
use crate::random::Philox;
use crate::run::Run;
use crate::train::data::{Example, Stream};
use crate::train::{Curve, Loss, Method, Plan, Schedule, Shape};
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "train",
    summary: "a model from text alone, vocabulary and all",
    operands: "",
    arity: (0, 0),
    flags: &[
        Flag { name: "config", takes: Takes::One("FILE"), help: "config.json, as Hugging Face has it" },
        Flag {
            name: "data",
            takes: Takes::One("FILE"),
            help: "the text; <|endoftext|> stands between texts",
        },
        Flag { name: "out", takes: Takes::One("DIR"), help: "the folder of the model" },
        Flag {
            name: "tokenizer",
            takes: Takes::One("PATH"),
            help: "a vocabulary; one is made of the text unless given",
        },
        Flag {
            name: "held-out",
            takes: Takes::One("FILE|P"),
            help: "a text to be judged by, or the last P %",
        },
        Flag {
            name: "judge-every",
            takes: Takes::One("N"),
            help: "steps between looks at it; at the end unless given",
        },
        Flag { name: "steps", takes: Takes::One("N"), help: "steps in all; an epoch's unless given" },
        Flag { name: "epochs", takes: Takes::One("N"), help: "times through the text, instead of --steps" },
        Flag { name: "batch", takes: Takes::One("B"), help: "windows of a step; 8 unless given" },
        Flag { name: "micro", takes: Takes::One("B"), help: "windows in memory at a time; all unless given" },
        Flag {
            name: "seq-len",
            takes: Takes::One("N"),
            help: "tokens of a window; the model's context unless given",
        },
        Flag { name: "lr", takes: Takes::One("X"), help: "the rate, 1e-3 unless given" },
        Flag {
            name: "schedule",
            takes: Takes::One("S"),
            help: "cosine (unless given), wsd, linear or constant",
        },
        Flag { name: "warmup", takes: Takes::One("N"), help: "steps over which the rate rises; a hundredth" },
        Flag { name: "decay", takes: Takes::One("N"), help: "with wsd: steps over which it falls; a fifth" },
        Flag {
            name: "floor",
            takes: Takes::One("P"),
            help: "the part of the rate that is left; 0.1 unless given",
        },
        Flag { name: "weight-decay", takes: Takes::One("X"), help: "AdamW's; 0.1 unless given" },
        Flag { name: "betas", takes: Takes::One("A,B"), help: "AdamW's; 0.9,0.95 unless given" },
        Flag {
            name: "clip",
            takes: Takes::One("X"),
            help: "the most that gradients' norm may be; 1 unless given",
        },
        Flag {
            name: "seed",
            takes: Takes::One("S"),
            help: "of the weights and of the order; 0 unless given",
        },
        learning::CHECKPOINT,
        learning::EVERY,
        learning::RESUME,
        learning::RECOMPUTE,
        learning::LOSS_SVG,
        learning::METRICS,
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
        Flag {
            name: "json",
            takes: Takes::Nothing,
            help: "these lines on standard output, and one at the end",
        },
    ],
    notes: NOTES,
    run,
};

const NOTES: &str = "\
The configuration is that of a decoder of the Llama family; weights are drawn as transformers draws them, with
its initializer_range. The vocabulary has vocab_size tokens, <|endoftext|> the first: it begins and ends every
text. Windows are cut elsewhere in every epoch. OUT is a folder that transformers loads; it is written whole
or not at all, and must not exist yet.

The same command gives the same weights, bit for bit, for any --threads, on every instruction set, and after
--resume; then all other flags must be as they were, but --steps and --decay of wsd: a training goes on as
long as wanted, and ends as one that was as long from the start, if the rate was not falling yet.

Examples:
  samebits train --config small.json --data stories.txt --held-out 2 --epochs 4 --out small
  samebits train --config small.json --data stories.txt --schedule wsd --steps 20000 --checkpoint at --out DIR
";

/// Where nothing else is said.
const USUAL: Usual = Usual { batch: 8, epochs: 1, lr: 1e-3 };

/// What begins and ends every text.
const END: &str = "<|endoftext|>";

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let needed = |name: &str| {
        args.path(name).ok_or_else(|| Failure::usage(format!("train: --{name} is needed"), None))
    };
    let (config, data, out) = (needed("config")?, needed("data")?, needed("out")?);
    if out.exists() {
        return Err(Error::invalid("it exists already").in_file(out.display()).into());
    }
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let texts = Texts::read(args, &data)?;
    let mut start = Start::read(&config)?;
    let words = start.vocabulary(args, &texts.learned)?;
    let length = args.count("seq-len", 1..=start.config.context)?.unwrap_or(start.config.context);
    let seed = Settings::seed(args)?;
    let stream = Stream::new(ids(&words.tokenizer, &texts.learned)?, length, seed);
    if stream.is_empty() {
        let what = format!("too short for a window of {length} tokens");
        return Err(Error::invalid(what).in_file(data.display()).into());
    }
    let held_out = match &texts.held_out {
        Some(text) => Example::windows(&ids(&words.tokenizer, text)?, length),
        None => Vec::new(),
    };
    let settings = Settings::read(args, &USUAL, stream.len())?;
    let plan = plan(args, &settings)?;
    let mut model = Decoder::random(run.cpu(), &start.config, start.deviation, Philox::new(seed))?;
    model.make_trainable(&run);
    let mut trainer = settings.trainer(&run, model, plan, |_| true)?;
    let mut job = Job::new(&run, settings, console)?;
    job.train(&mut trainer, &stream, Some(&held_out))?;
    let loss = job.judge(&mut trainer, &held_out, Measure::Loss)?.loss;
    let model = trainer.into_model();
    save_folder(&model, run.cpu(), &out, |folder| words.write(folder))?;
    finish(args, console, &out, texts.held_out.as_deref().map(|text| (loss, text)))
}

/// What is learned from and what is not.
struct Texts {
    learned: String,
    held_out: Option<String>,
}

impl Texts {
    fn read(args: &Args, data: &Path) -> Result<Texts, Failure> {
        let mut learned = read_text(data)?;
        let Some(given) = args.text("held-out")? else { return Ok(Texts { learned, held_out: None }) };
        let Ok(percent) = given.parse::<f64>() else {
            return Ok(Texts { learned, held_out: Some(read_text(Path::new(given))?) });
        };
        if !(0.0..100.0).contains(&percent) {
            return Err(Failure::usage(format!("--held-out: {given} % of the text"), None));
        }
        // Whole texts: from the first that ends behind the place.
        let most = (learned.len() as f64 * (1.0 - percent / 100.0)) as usize;
        let at = learned.match_indices(END).map(|(at, _)| at + END.len()).find(|&at| at >= most);
        let at = at.ok_or_else(|| Error::invalid(format!("no {END} stands before the last {percent} %")));
        let held_out = learned.split_off(at.map_err(|e| e.in_file(data.display()))?);
        Ok(Texts { learned, held_out: Some(held_out) })
    }
}

/// The configuration of the model that is to be.
struct Start {
    config: DecoderConfig,
    deviation: f64,
}

impl Start {
    fn read(path: &Path) -> Result<Start, Error> {
        let text = read_config(path)?;
        let read = || {
            let config = DecoderConfig::from_hf(&text)?;
            let given = json::parse(&text)?.get("initializer_range").and_then(|v| v.as_f64());
            let deviation = given.unwrap_or(0.02);
            if !(0.0..=10.0).contains(&deviation) {
                return Err(Error::invalid(format!("initializer_range is {deviation}")));
            }
            Ok(Start { config, deviation })
        };
        read().map_err(|e| e.in_file(path.display()))
    }

    /// That of `--tokenizer`, else one of the text's own; the configuration learns which tokens begin and end texts.
    fn vocabulary(&mut self, args: &Args, text: &str) -> Result<Words, Failure> {
        let most = self.config.vocab;
        let words = match args.path("tokenizer") {
            Some(path) => Words::open(&path)?,
            None => Words::of(text, most)?,
        };
        let found = words.tokenizer.vocab_len();
        if found > most {
            let what = format!("the vocabulary has {found} tokens, vocab_size is {most}");
            return Err(Error::invalid(what).into());
        }
        let end = words.tokenizer.eos_id();
        let end = end.ok_or_else(|| Error::invalid("the vocabulary has no token that ends a text"))?;
        self.config.bos = words.tokenizer.bos_id().or(Some(end));
        self.config.eos = vec![end];
        Ok(words)
    }
}

/// A vocabulary and the files that hold it.
struct Words {
    tokenizer: Tokenizer,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// What says to transformers how [`JSON`] is read.
const CONFIG: &str = "tokenizer_config.json";
const JSON: &str = "tokenizer.json";

impl Words {
    fn open(path: &Path) -> Result<Words, Error> {
        let file = if path.is_dir() { path.join(JSON) } else { path.into() };
        let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, "read", e))?;
        let tokenizer = Tokenizer::open(&file)?;
        let name = PathBuf::from(file.file_name().unwrap_or_default());
        let config = match std::fs::read(file.with_file_name(CONFIG)) {
            Ok(config) => Some(config),
            Err(_) if name.extension().is_some_and(|kind| kind == "json") => Some(config_of(&tokenizer)),
            Err(_) => None,
        };
        let config = config.map(|config| (CONFIG.into(), config));
        Ok(Words { tokenizer, files: [(name, bytes)].into_iter().chain(config).collect() })
    }

    fn of(text: &str, vocab: usize) -> Result<Words, Error> {
        let mut trainer = Vocabulary::new(TrainOptions { vocab, ..TrainOptions::default() })?;
        // What stands between texts is a token of its own.
        text.split(END).for_each(|text| trainer.feed(text.trim()));
        let json = trainer.train().to_json_with_beginning();
        let tokenizer = Tokenizer::from_json(json.as_bytes())?;
        let config = config_of(&tokenizer);
        Ok(Words { tokenizer, files: vec![(JSON.into(), json.into_bytes()), (CONFIG.into(), config)] })
    }

    fn write(&self, folder: &Path) -> Result<(), Error> {
        for (name, bytes) in &self.files {
            atomic::write(&folder.join(name), |out| out.write_all(bytes))?;
        }
        Ok(())
    }
}

fn config_of(tokenizer: &Tokenizer) -> Vec<u8> {
    tokenizer.special_tokens().config_json(None).into_bytes()
}

/// The tokens of texts, each with what begins and ends it; one token does for both.
fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Error> {
    let (begin, end) = (tokenizer.bos_id(), tokenizer.eos_id());
    let mut ids = Vec::new();
    for text in text.split(END).map(str::trim).filter(|text| !text.is_empty()) {
        ids.extend(begin.filter(|id| ids.last() != Some(id)));
        ids.extend(tokenizer.encode(text, &EncodeOptions::plain())?.ids);
        ids.extend(end);
    }
    Ok(ids)
}

fn plan(args: &Args, settings: &Settings) -> Result<Plan, Failure> {
    let total = settings.total;
    let warmup = args.count("warmup", 0..=1 << 30)?.map_or(total / 100, |n| n as u64);
    let decay = args.count("decay", 0..=u32::MAX as usize)?.map_or(total / 5, |n| n as u64);
    let floor = args.number("floor", 0.0..=1.0)?.unwrap_or(0.1);
    let shape = match args.text("schedule")?.unwrap_or("cosine") {
        "cosine" => Shape::Fall(Curve::Cosine),
        "linear" => Shape::Fall(Curve::Linear),
        "wsd" => Shape::StableThenFall { decay, curve: Curve::OneMinusSqrt },
        "constant" => Shape::Constant,
        other => {
            let what = format!("train: --schedule {other:?}: cosine, wsd, linear or constant");
            return Err(Failure::usage(what, None));
        }
    };
    let options = AdamWOptions {
        betas: betas(args)?,
        eps: 1e-8,
        weight_decay: args.number("weight-decay", 0.0..=10.0)?.unwrap_or(0.1),
    };
    Ok(Plan {
        method: Method::AdamW(options),
        lr: args.number("lr", 0.0..=1e3)?.unwrap_or(USUAL.lr),
        schedule: Schedule { shape, warmup, total, floor },
        clip: Some(args.number("clip", 1e-9..=1e9)?.unwrap_or(1.0)),
        label_smoothing: 0.0,
        keep: Settings::keep(args),
        seed: settings.seed,
        lora_plus: 1.0,
    })
}

/// `--betas A,B`
fn betas(args: &Args) -> Result<[f64; 2], Failure> {
    let Some(text) = args.text("betas")? else { return Ok([0.9, 0.95]) };
    let beta = |text: &str| text.parse().ok().filter(|beta| (0.0..1.0).contains(beta));
    let both = text.split_once(',').and_then(|(a, b)| Some([beta(a)?, beta(b)?]));
    both.ok_or_else(|| {
        Failure::usage(format!("--betas: {text:?} is not two numbers from 0 to below 1"), None)
    })
}

fn finish(
    args: &Args,
    console: &mut Console,
    out: &Path,
    held_out: Option<(Loss, &str)>,
) -> Result<(), Failure> {
    // Tokens that begin and end texts are foretold too; their share of the bits is the texts' all the same.
    let bits = |loss: &Loss, text: &str| {
        let bytes: usize = text.split(END).map(|text| text.trim().len()).sum();
        loss.sum / core::f64::consts::LN_2 / bytes.max(1) as f64
    };
    let hash = hash(&out.join("model.safetensors"))?;
    if args.has("json") {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("model").string(&out.to_string_lossy());
            if let Some((loss, text)) = held_out {
                w.key("held_out").number(loss.mean());
                w.key("bits_per_byte").number(bits(&loss, text));
            }
            w.key("hash").string(&format!("{hash:016x}"));
        });
        writeln!(console, "{}", w.finish())?;
        return Ok(());
    }
    if let Some((loss, text)) = held_out {
        let (mean, perplexity) = (loss.mean(), loss.perplexity());
        let bits = bits(&loss, text);
        writeln!(console, "held out: loss {mean:.4}, perplexity {perplexity:.2}, {bits:.4} bits a byte")?;
    }
    writeln!(console, "{}: the model, weights {hash:016x}", out.display())?;
    Ok(())
}

/// A number for the bits of a model's file (FNV-1a).
fn hash(path: &Path) -> Result<u64, Error> {
    let file = safetensors::SafeTensors::open(path)?;
    Ok(file.tensors().fold(Hash::default(), |hash, tensor| hash.bytes(tensor.bytes)).0)
}
