//! `samebits finetune`: a model learns from examples, in a small adapter beside it.

mod input;
mod memory;
mod method;
mod patterns;

use std::io::Write;
use std::path::Path;

use super::learning::{self, Job, Judged, Measure, Settings, Usual};
use super::opening::Chosen;
use super::{Args, Command, Console, Failure, Flag, Takes};
use crate::io::json::Writer;
use crate::io::tokenizer::Tokenizer;
use crate::kernels::optim::AdamWOptions;
use crate::model::{ChatTemplate, Opening};
use crate::nn::Compute;
use crate::random::Philox;
use crate::run::Run;
use crate::train::data::Example;
use crate::train::{Curve, Method, Plan, Schedule, Shape};
use crate::{Error, cpu};
use method::Learner;

pub const COMMAND: Command = Command {
    name: "finetune",
    summary: "a model learns from examples, in an adapter beside it or itself",
    operands: "",
    arity: (0, 0),
    flags: &[
        Flag {
            name: "model",
            takes: Takes::One("DIR"),
            help: "the model; it stays as it is; the one inside",
        },
        Flag {
            name: "data",
            takes: Takes::One("FILE"),
            help: "examples: .jsonl, or any other file as text; those inside",
        },
        Flag { name: "out", takes: Takes::One("DIR"), help: "the folder of what was learned" },
        Flag {
            name: "method",
            takes: Takes::One("M"),
            help: "lora (unless given), dora, qlora, adapter, ia3, prefix or full",
        },
        Flag { name: "rank", takes: Takes::One("R"), help: "of A and B; 8 unless given" },
        Flag {
            name: "alpha",
            takes: Takes::One("X"),
            help: "B A is scaled by alpha / rank; 16 unless given",
        },
        Flag { name: "rslora", takes: Takes::Nothing, help: "by alpha / √rank instead" },
        Flag { name: "dropout", takes: Takes::One("P"), help: "of the adapter's inputs; 0 unless given" },
        Flag {
            name: "targets",
            takes: Takes::Many("NAME"),
            help: "modules with LoRA, all-linear unless given; with IA³, peft's",
        },
        Flag {
            name: "bottleneck",
            takes: Takes::One("KIND"),
            help: "of adapter: pfeiffer (unless given), houlsby or parallel",
        },
        Flag {
            name: "reduction",
            takes: Takes::One("X"),
            help: "features / bottleneck; 16, of parallel 2, unless given",
        },
        Flag { name: "length", takes: Takes::One("N"), help: "tokens of the prefix; 20 unless given" },
        Flag {
            name: "rank-pattern",
            takes: Takes::Many("NAME=R"),
            help: "another rank where the module's name ends so",
        },
        Flag { name: "alpha-pattern", takes: Takes::Many("NAME=X"), help: "likewise another alpha" },
        Flag {
            name: "lora-plus",
            takes: Takes::One("X"),
            help: "B's rate is X times A's (Hayou et al. 2024: 16); 1 unless given",
        },
        Flag { name: "lr", takes: Takes::One("X"), help: "the rate; the method's (below) unless given" },
        Flag {
            name: "warmup",
            takes: Takes::One("N"),
            help: "steps over which it rises; a tenth unless given",
        },
        Flag { name: "epochs", takes: Takes::One("N"), help: "times through the data; 1 unless given" },
        Flag { name: "steps", takes: Takes::One("N"), help: "steps in all, instead of --epochs" },
        Flag { name: "batch", takes: Takes::One("B"), help: "examples of a step; 8 unless given" },
        Flag {
            name: "micro",
            takes: Takes::One("B"),
            help: "examples in memory at a time; all unless given",
        },
        Flag {
            name: "seq-len",
            takes: Takes::One("N"),
            help: "tokens of an example at most; 512 unless given",
        },
        Flag { name: "chat", takes: Takes::One("TEMPLATE"), help: "how \"messages\" are written" },
        Flag {
            name: "held-out",
            takes: Takes::One("FILE"),
            help: "examples to be judged by, before and after",
        },
        Flag {
            name: "exact-match",
            takes: Takes::Nothing,
            help: "count their answers that greedy decoding gives whole",
        },
        Flag { name: "judge-every", takes: Takes::One("N"), help: "steps between looks at them on the way" },
        Flag {
            name: "seed",
            takes: Takes::One("S"),
            help: "of the adapter, the order and what is dropped; 0",
        },
        learning::CHECKPOINT,
        learning::EVERY,
        learning::RESUME,
        Flag { name: "report-memory", takes: Takes::Nothing, help: "what took how much memory, at the end" },
        learning::RECOMPUTE,
        learning::LOSS_SVG,
        learning::METRICS,
        Flag {
            name: "compute",
            takes: Takes::One("CLASS"),
            help: "the base's products in f32 (unless given) or bf16",
        },
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
        Flag {
            name: "json",
            takes: Takes::Nothing,
            help: "a line of JSON for each step, and one at the end",
        },
    ],
    notes: NOTES,
    run,
};

const NOTES: &str = "\
A line of a .jsonl is an object with \"text\"; or with \"prompt\" and \"completion\", or \"messages\" (a list of
{\"role\", \"content\"}, with --chat): then the loss is that of the answers alone. Any other file is one text.

  lora      y = W x + s B A x                                            lr 2e-4   Hu et al. 2021
  dora      the lengths of rows learn besides                            2e-4      Liu et al. 2024
  qlora     lora, W in NF4                                               2e-4      Dettmers et al. 2023
  adapter   h += s U f(D x + b) + s c; x by --bottleneck:                1e-4
    houlsby     what attention gave, what the network gave; f swish                Houlsby et al. 2019
    pfeiffer    h itself after the network; f ReLU                                 Pfeiffer et al. 2020
    parallel    h before the network, s = 4; f ReLU                                He et al. 2021
  ia3       keys and values l ∘ (W x + b), the network's W (l ∘ x) + b   3e-3      Liu et al. 2022
  prefix    learned keys and values before every text                    1e-2      Li, Liang 2021
  full      every weight; OUT is a model                                 2e-5

adapter writes the folder of the adapters package, full a model's, the others peft's.

Without --model and --data the small model inside the program learns, from pairs inside the program, to say
who has what, in less than a minute; it is judged by pairs whose answers it has not seen.

The weights that come out have the same bits for any --threads, on every instruction set, after --resume, and
for any --micro that is a multiple of 256 tokens. OUT is written whole or not at all, and must not exist yet.
With --resume all other flags must be as they were.

--compute bf16 multiplies rows and the base's weights, forward and back, in bfloat16 with sums in f32, and so
makes the gradients of A and B; what learns stays f32. With qlora the weights are NF4's values, rounded.

--report-memory prints the bytes of the buffers themselves and the most that the process ever had resident:
its code, tokenizer, examples and the threads' scratch are in that besides. --recompute and --micro make
activations small.

Examples:
  samebits finetune --out who-has-what
  samebits generate --adapter who-has-what --prompt 'Tom got a red cup from Mia. Who has the cup now?'
  samebits finetune --model Llama-3.2-1B --data pairs.jsonl --out adapter --epochs 3
  samebits finetune --model Llama-3.2-1B --data book.txt --method qlora --rank 16 --out adapter
  samebits finetune --model Llama-3.2-1B --data book.txt --method adapter --bottleneck houlsby --out it
  samebits finetune --model Llama-3.2-1B --data book.txt --method full --out Llama-of-the-book
  samebits generate --model Llama-3.2-1B --adapter adapter --prompt 'Q: …'
";

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let out = args.path("out");
    let out = out.ok_or_else(|| Failure::usage("finetune: --out is needed", None))?;
    if out.exists() {
        return Err(Error::invalid("it exists already").in_file(out.display()).into());
    }
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let chosen = Chosen::of(args, "finetune")?;
    let tokenizer = chosen.tokenizer()?;
    let lesson = Lesson::of(args, &chosen, &tokenizer)?;
    // Quantised as it is read: a model that fits in NF4 need not fit as floats.
    let compute = compute(args)?;
    let nf4 = (args.text("method")? == Some("qlora")).then_some(method::BLOCKSIZE);
    let (mut model, _) = chosen.open(&run, Opening { nf4, ..Opening::mapped() })?;
    let learner =
        Learner::prepare(args, &run, chosen.name(), &mut model, Philox::new(Settings::seed(args)?))?;
    model.set_compute(run.cpu(), compute)?;
    let settings = Settings::read(args, &lesson.usual, lesson.examples.len())?;
    let plan = plan(args, &lesson.usual, &settings)?;
    let mut trainer = settings.trainer(&run, model, plan, |name| learner.learns(name))?;
    let mut job = Job::new(&run, settings, console)?;
    let mut judged = Vec::new();
    let held_out = lesson.held_out.as_deref();
    judged.extend(held_out.map(|examples| job.judge(&mut trainer, examples, lesson.measure)).transpose()?);
    job.train(&mut trainer, &lesson.examples, held_out)?;
    judged.extend(held_out.map(|examples| job.judge(&mut trainer, examples, lesson.measure)).transpose()?);
    if args.has("report-memory") {
        let report = if args.has("json") { memory::json } else { memory::table };
        report(&trainer.memory(&run), console)?;
    }
    let mut model = trainer.into_model();
    learner.save(&run, &mut model, &out)?;
    finish(args, console, (&out, learner.result()), &judged)
}

/// `--compute`: the class of the base's products, forward and backward, and of the gradients of A and B; what learns is f32.
fn compute(args: &Args) -> Result<Compute, Failure> {
    let class = args.compute()?;
    if class == Compute::Int8 {
        return Err(Failure::usage("finetune: products in int8 have no gradients: f32 or bf16", None));
    }
    if class != Compute::F32 && args.text("method")? == Some("full") {
        let what = format!("finetune: every weight learns in f32 alone, not in {}", class.name());
        return Err(Failure::usage(what, None));
    }
    Ok(class)
}

/// What is learned, and by what it is judged.
struct Lesson {
    examples: Vec<Example>,
    held_out: Option<Vec<Example>>,
    measure: Measure,
    usual: Usual,
}

impl Lesson {
    /// `--data` and `--held-out`; the pairs inside the program where the model is the one inside and there is no other
    /// data.
    fn of(args: &Args, chosen: &Chosen, tokenizer: &Tokenizer) -> Result<Lesson, Failure> {
        let template = args.text("chat")?.map(ChatTemplate::from_name).transpose()?;
        let length = args.count("seq-len", 2..=1 << 24)?.unwrap_or(512);
        let input = input::Input { tokenizer, template, length };
        let exact = if args.has("exact-match") { Measure::Exact } else { Measure::Loss };
        if let Some(data) = args.path("data") {
            let held_out = args.path("held-out").map(|path| input.read(&path)).transpose()?;
            let examples = input.read(&data)?;
            return Ok(Lesson { examples, held_out, measure: exact, usual: USUAL });
        }
        if !chosen.is_inside() || args.has("held-out") {
            return Err(Failure::usage("finetune: --data is needed", None));
        }
        let [examples, held_out] = input.inside()?;
        Ok(Lesson { examples, held_out: Some(held_out), measure: Measure::Exact, usual: USUAL_INSIDE })
    }
}

/// Where nothing else is said.
const USUAL: Usual = Usual { batch: 8, epochs: 1, lr: 2e-4 };
/// The same for the pairs inside.
const USUAL_INSIDE: Usual = Usual { batch: 16, epochs: 3, lr: 3e-3 };

fn plan(args: &Args, usual: &Usual, settings: &Settings) -> Result<Plan, Failure> {
    let total = settings.total;
    let warmup = args.count("warmup", 0..=1 << 30)?.map_or(total / 10, |n| n as u64);
    let options = AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 };
    Ok(Plan {
        method: Method::AdamW(options),
        lr: args.number("lr", 0.0..=1e3)?.unwrap_or(method::rate(args, usual.lr)?),
        schedule: Schedule { shape: Shape::Fall(Curve::Cosine), warmup, total, floor: 0.0 },
        clip: Some(1.0),
        label_smoothing: 0.0,
        keep: Settings::keep(args),
        seed: settings.seed,
        lora_plus: args.number("lora-plus", 1e-3..=1e6)?.unwrap_or(1.0),
    })
}

fn finish(
    args: &Args,
    console: &mut Console,
    (out, result): (&Path, &str),
    judged: &[Judged],
) -> Result<(), Failure> {
    if args.has("json") {
        let (mut w, compute) = (Writer::compact(), args.compute()?);
        w.object(|w| {
            w.key(result).string(&out.to_string_lossy());
            w.key("compute").string(compute.name());
            if let [before, after] = judged {
                w.key("held_out_before").number(before.loss.mean());
                w.key("held_out_after").number(after.loss.mean());
                if let (Some(before), Some(after)) = (before.exact, after.exact) {
                    w.key("exact_before").number(before);
                    w.key("exact_after").number(after);
                }
                w.key("held_out_examples").number(before.examples);
            }
        });
        writeln!(console, "{}", w.finish())?;
        return Ok(());
    }
    if let [before, after] = judged {
        let (was, is) = (before.loss.mean(), after.loss.mean());
        writeln!(console, "held out: loss {was:.4} before, {is:.4} after")?;
        if let (Some(was), Some(is)) = (before.exact, after.exact) {
            let all = before.examples;
            let percent = |n: usize| 100.0 * n as f64 / all as f64;
            let (of_before, of_after) = (percent(was), percent(is));
            writeln!(
                console,
                "held out: {was} of {all} answers right before ({of_before:.1} %), {is} after ({of_after:.1} %)"
            )?;
        }
    }
    writeln!(console, "{}: the {result}", out.display())?;
    Ok(())
}
