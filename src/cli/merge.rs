//! `samebits merge`: adapters made part of a model.

use std::io::Write;

use super::console::{bytes, printable};
use super::{Args, Command, Console, Failure, Flag, Progress, Takes, given_adapters};
use crate::io::json::Writer;
use crate::model::{DecoderConfig, read_config};
use crate::peft::{Adapter, Export, Exported, Recoded, export};
use crate::run::Run;
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "merge",
    summary: "adapters made part of a model: a folder that needs none",
    operands: "",
    arity: (0, 0),
    flags: &[
        Flag { name: "model", takes: Takes::One("DIR"), help: "the model, a folder of Hugging Face" },
        Flag {
            name: "adapter",
            takes: Takes::Many("DIR[=W]"),
            help: "an adapter of peft or in GGUF, with a weight; 1 unless given",
        },
        Flag { name: "out", takes: Takes::One("DIR"), help: "the new folder" },
        Flag { name: "into-nf4", takes: Takes::Nothing, help: "weights in NF4 are rounded to NF4 again" },
        Flag {
            name: "into-floats",
            takes: Takes::Nothing,
            help: "a model in NF4 is decoded to the type that it was quantised from",
        },
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
        Flag { name: "json", takes: Takes::Nothing, help: "the report as one JSON object" },
    ],
    notes: "\
OUT is written whole or not at all: config.json, one model.safetensors, the tokenizer. W + sum of w s B A is
computed in f32 and stored in the type of W; a sum that is not finite, or does not fit, is an error that names
the weight. LoRA, rsLoRA and DoRA, also on embeddings and the head: where those are tied, OUT is not.

A model in NF4 is refused, for to round the sum again may lose more than the adapter says: --into-nf4 does it
and reports how much, --into-floats writes floats. The report says what was rounded, relative to the weights
and to what the adapters changed: from 1 on, rounding outweighs them. One weight is in memory at a time.

Examples:
  samebits merge --model Llama-3.2-1B --adapter adapter --out merged
  samebits merge --model Llama-3.2-1B-nf4 --adapter a --adapter b=0.5 --out merged --into-floats
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let needed = |name: &str| {
        args.path(name).ok_or_else(|| Failure::usage(format!("merge: --{name} is needed"), None))
    };
    let (model, output) = (needed("model")?, needed("out")?);
    let given = given_adapters(args);
    if given.is_empty() {
        return Err(Failure::usage("merge: --adapter is needed", None));
    }
    let nf4 = match (args.has("into-nf4"), args.has("into-floats")) {
        (true, true) => {
            return Err(Failure::usage("--into-nf4 and --into-floats exclude each other", None));
        }
        (true, false) => Some(Recoded::Nf4),
        (false, true) => Some(Recoded::Floats),
        (false, false) => None,
    };
    if output.exists() {
        return Err(Error::invalid("it exists already").in_file(output.display()).into());
    }
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let path = model.join("config.json");
    let config = DecoderConfig::from_hf(&read_config(&path)?).map_err(|e| e.in_file(path.display()))?;
    let mut adapters = Vec::new();
    for (path, weight) in given {
        adapters.push((Adapter::open_for(run.cpu(), &path, &config)?, weight));
    }
    let job = Export { model, adapters, output, nf4 };
    let mut progress = Progress::new();
    let exported = console.interruptible(|go_on| {
        export(&run, &job, &mut |name| {
            progress.show(format_args!("merging {}", printable(name)));
            go_on()
        })
    })?;
    progress.clear();
    report(&exported, &job, args.has("json"), console)
}

fn report(done: &Exported, job: &Export, json: bool, console: &mut Console) -> Result<(), Failure> {
    let output = job.output.to_string_lossy();
    if json {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("out").string(&output);
            w.key("merged").number(done.merged);
            w.key("tensors").number(done.tensors);
            w.key("bytes").number(done.bytes);
            w.key("memory").number(done.memory);
            w.key("untied").boolean(done.untied);
            w.key("error").number(done.error);
            w.key("error_of_change").number(done.error_of_change);
        });
        writeln!(console, "{}", w.finish())?;
        return Ok(());
    }
    writeln!(
        console,
        "{} of {} weights merged, {} in {}; {} in memory at a time",
        done.merged,
        done.tensors,
        bytes(done.bytes),
        printable(&output),
        bytes(done.memory as u64)
    )?;
    if done.error > 0.0 {
        writeln!(
            console,
            "rounded: {:.2e} of the weights, {:.2} of what the adapters change",
            done.error, done.error_of_change
        )?;
    }
    if done.untied {
        writeln!(console, "note: the head is a weight of its own now (tie_word_embeddings false)")?;
    }
    Ok(())
}
