//! `samebits convert`: a model from one kind of file to another.

use std::io::Write;
use std::path::PathBuf;

use super::console::printable;
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::cpu;
use crate::io::atomic;
use crate::io::tokenizer::FlatTokenizer;
use crate::model::{Conversion, ElementType, FileKind, Model, Opening, Vocabulary, convert, flat};

pub const COMMAND: Command = Command {
    name: "convert",
    summary: "a model from one kind of file to another: Hugging Face, GGUF, llama2.c, flat",
    operands: "IN OUT",
    arity: (2, 2),
    flags: &[
        Flag {
            name: "type",
            takes: Takes::One("TYPE"),
            help: "matrices as f32, f16, bf16, q8_0 or q4_0 (GGUF alone); default: as they are",
        },
        Flag {
            name: "tokenizer",
            takes: Takes::One("PATH"),
            help: "the tokenizer for a GGUF or flat file: a file, or a folder that holds one",
        },
        Flag { name: "no-tokenizer", takes: Takes::Nothing, help: "a GGUF or flat file of weights alone" },
        Flag { name: "flat", takes: Takes::Nothing, help: "one block for devices without files; see below" },
        Flag {
            name: "version",
            takes: Takes::One("0|1"),
            help: "of a llama2.c checkpoint: 0 (default, what run.c reads) or 1",
        },
    ],
    notes: "\
IN is a folder with config.json and safetensors, a GGUF file, or a checkpoint of llama2.c. OUT is what its
name says: NAME.gguf, NAME.bin (llama2.c), else a folder. Decoders are converted: Llama, Mistral, Qwen2,
Qwen3, Gemma, Gemma 2, Phi-3, GPT-2; llama2.c holds Llama without biases alone.

In f32 both files compute the same logits, bit for bit; but where the rows of q and k move (Llama, Mistral:
folder to GGUF or llama2.c), the order of a sum changes, and with it a last digit. What OUT cannot hold is
refused by its name, a tokenizer too: --no-tokenizer then writes the weights. Vectors of a GGUF file are
always f32; a matrix whose rows are not whole blocks of 32 becomes f16, as llama.cpp's converter does.
Blocks that are read (Q4_K …) and NF4 are decoded.

With --flat OUT is one block of memory that a program reads where it lies, in flash for instance: weights in
the types that they have, packed as kernels read them, configuration, tokenizer, checksum. Encoders too. The
bits of every result are those of IN; generate, embed and the others open such files as well.

Examples:
  samebits convert --flat stories15M.gguf stories15M.flat
  samebits convert Llama-3.2-1B llama.gguf --type q8_0
  samebits convert llama.gguf Llama-3.2-1B-folder --type bf16
  samebits convert stories15M.bin stories15M.gguf --tokenizer tokenizer.bin
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    if args.has("flat") {
        return flat(args, console);
    }
    let job = job(args)?;
    let (mut progress, cpu) = (Progress::new(), cpu::default()?);
    let converted = console.interruptible(|go_on| {
        convert(&job, cpu, &mut |name| {
            progress.show(format_args!("converting {}", printable(name)));
            go_on()
        })
    })?;
    progress.clear();
    let output = printable(&job.output.to_string_lossy());
    writeln!(console, "{} tensors in {output}, {}", converted.tensors, converted.kind.name())?;
    for note in &converted.notes {
        writeln!(console, "note: {note}")?;
    }
    Ok(())
}

/// `--flat`
fn flat(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let [input, output] = paths(args)?;
    if let Some(other) = ["type", "version"].into_iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("--flat keeps the types: --{other} is for other kinds"), None));
    }
    let tokenizer = match vocabulary(args)? {
        Vocabulary::Nowhere => None,
        Vocabulary::File(path) => Some(FlatTokenizer::open(path)?),
        Vocabulary::Own => Some(FlatTokenizer::open(&input).map_err(|e| {
            let hint = Some("--tokenizer PATH names one, --no-tokenizer leaves it out".into());
            Failure::usage(e.to_string(), hint)
        })?),
    };
    let (mut progress, cpu) = (Progress::new(), cpu::default()?);
    progress.show(format_args!("converting {}", printable(&input.to_string_lossy())));
    let model = Model::open_with(&input, cpu, Opening::mapped())?;
    let bytes = flat::write(cpu, &model, tokenizer.as_ref()).map_err(|e| e.in_file(input.display()))?;
    atomic::write(&output, |to| to.write_all(&bytes))?;
    progress.clear();
    writeln!(console, "{} bytes in {}, a flat model", bytes.len(), printable(&output.to_string_lossy()))?;
    Ok(())
}

/// IN and OUT, which are not the same.
fn paths(args: &Args) -> Result<[PathBuf; 2], Failure> {
    let [input, output] = [0, 1].map(|i| PathBuf::from(&args.operands()[i]));
    if std::fs::canonicalize(&input).ok().is_some_and(|a| std::fs::canonicalize(&output).ok() == Some(a)) {
        let what = format!("{}: the output would replace the input", output.display());
        return Err(Failure::usage(what, None));
    }
    Ok([input, output])
}

fn vocabulary(args: &Args) -> Result<Vocabulary, Failure> {
    match (args.path("tokenizer"), args.has("no-tokenizer")) {
        (Some(_), true) => Err(Failure::usage("--tokenizer and --no-tokenizer exclude each other", None)),
        (Some(path), false) => Ok(Vocabulary::File(path)),
        (None, true) => Ok(Vocabulary::Nowhere),
        (None, false) => Ok(Vocabulary::Own),
    }
}

fn job(args: &Args) -> Result<Conversion, Failure> {
    let [input, output] = paths(args)?;
    let element = match args.text("type")? {
        None => None,
        Some(name) => {
            let found = ElementType::ALL.into_iter().find(|element| element.name() == name);
            let unknown = || {
                let hint = Some("f32, f16, bf16, q8_0 and q4_0 are known".into());
                Failure::usage(format!("--type: {name:?} is no type"), hint)
            };
            Some(found.ok_or_else(unknown)?)
        }
    };
    let vocabulary = vocabulary(args)?;
    if vocabulary != Vocabulary::Own && FileKind::of_name(&output)? != FileKind::Gguf {
        return Err(Failure::usage("--tokenizer and --no-tokenizer are for GGUF files", None));
    }
    let version = args.count("version", 0..=1)?.unwrap_or(0) as u32;
    Ok(Conversion { input, output, element, version, vocabulary })
}
