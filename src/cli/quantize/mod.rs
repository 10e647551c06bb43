//! `samebits quantize`: a model's weights in NF4, in a file or folder that bitsandbytes reads; or in GGUF's Q8_0.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::console::printable;
use super::values::is_weight;
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::io::bitsandbytes::{Nf4, Owned};
use crate::io::bytes::Access;
use crate::io::safetensors::{self, Checkpoint, TensorView};
use crate::kernels::nf4::DEFAULT_BLOCKSIZE;
use crate::{Error, cpu, pool};

mod folder;
mod report;
mod work;

use folder::Turned;
use report::{Report, Row};
use work::{Engine, Statistics};

pub const COMMAND: Command = Command {
    name: "quantize",
    summary: "a model's weights in four bits, as bitsandbytes stores them, or in eight",
    operands: "IN OUT",
    arity: (2, 2),
    flags: &[
        Flag {
            name: "nf4",
            takes: Takes::Nothing,
            help: "to NF4: IN and OUT are files .safetensors, or folders",
        },
        Flag { name: "q8", takes: Takes::Nothing, help: "to Q8_0: IN is any model, OUT a file .gguf" },
        Flag {
            name: "blocksize",
            takes: Takes::One("N"),
            help: "weights that share a scale: 32, 64 (default), … 4096",
        },
        Flag { name: "double-quant", takes: Takes::Nothing, help: "scales in eight bits too" },
        Flag {
            name: "include",
            takes: Takes::Many("TEXT"),
            help: "quantise these names although they are left by default",
        },
        Flag { name: "exclude", takes: Takes::Many("TEXT"), help: "leave these names" },
        Flag { name: "verify", takes: Takes::Nothing, help: "read OUT again, decode, compare" },
        Flag { name: "json", takes: Takes::Nothing, help: "the report as one JSON object" },
    ],
    notes: "\
--nf4: quantised are tensors of two axes in F32, F16 or BF16, except those whose name contains `embed`,
`lm_head`, `wte` or `wpe`: embeddings and output heads, which bitsandbytes leaves as well. A name that
contains the TEXT of an --include is quantised after all, of an --exclude never. All else is copied as it is,
byte for byte. Of a model's folder a folder is made: model.safetensors, config.json with the
`quantization_config` that transformers looks for, tokenizer and other small files copied. It must not exist
yet, and appears when it is whole. GPT-2's matrices are turned first, as bitsandbytes turns them.

--q8: every matrix in blocks of 32 signed bytes and a scale, in one GGUF file with the tokenizer; the same as
`samebits convert IN OUT.gguf --type q8_0`, whose --help says more.

The report says for each tensor: the mean and the largest |x - y|, the sum of |x - y| over that of |x|, and
the bytes of x that were quantised in a second. A NaN or an infinity is an error; OUT is then not written.

Examples:
  samebits quantize model.safetensors model-nf4.safetensors --nf4 --double-quant --verify
  samebits quantize Llama-3.2-1B Llama-3.2-1B-nf4 --nf4 --double-quant
  samebits quantize Llama-3.2-1B llama-q8.gguf --q8
",
    run,
};

/// What bitsandbytes accepts.
const BLOCKSIZES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Parts of names that are left by default.
const LEFT: [&str; 4] = ["embed", "lm_head", "wte", "wpe"];

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    if args.has("q8") {
        return folder::q8(args, console);
    }
    let plan = Plan::new(args)?;
    let engine = Engine { cpu: cpu::default()?, pool: pool::default()? };
    let config = if plan.folder { Some(folder::Config::read(&plan)?) } else { None };
    // Mapped: what was quantised is kept, and what it was made of may leave the memory.
    let model = Checkpoint::open_with(&plan.input, Access::Map)?;
    let mut progress = Progress::new();
    let (mut rows, mut room) = (Vec::new(), Turned::default());
    for tensor in model.tensors().filter(|tensor| plan.takes(tensor)) {
        console.check_interrupt()?;
        progress.show(format_args!("quantising {}", printable(tensor.name)));
        let in_file = |e: Error| named(e, &plan.input);
        let upright = upright(config.as_ref(), tensor, &mut room);
        let (weight, time) = engine.quantize(upright, plan.blocksize, plan.statistics).map_err(in_file)?;
        let loss = engine.measure(upright, &weight);
        rows.push(Row { tensor, loss, time, stored: weight.tensors(tensor.name) });
    }
    progress.show("writing");
    let written = match &config {
        Some(config) => config.write(&plan, &model, &rows)?,
        None => write(&plan, &plan.output, &model, &rows)?,
    };
    let verified = if plan.verify {
        console.check_interrupt()?;
        progress.show("verifying");
        verify(&plan, config.as_ref(), &model, &rows, engine)?;
        true
    } else {
        false
    };
    progress.clear();
    let report = Report { plan: &plan, tensors: model.len(), rows, written, verified };
    if args.has("json") {
        writeln!(console, "{}", report.json())?
    } else {
        report.print(console)?
    }
    Ok(())
}

/// What was asked for.
struct Plan {
    input: PathBuf,
    output: PathBuf,
    /// Whether a model's folder becomes a folder.
    folder: bool,
    blocksize: usize,
    statistics: Statistics,
    include: Vec<String>,
    exclude: Vec<String>,
    verify: bool,
}

impl Plan {
    fn new(args: &Args) -> Result<Plan, Failure> {
        if !args.has("nf4") {
            let hint = Some("add --nf4 or --q8".into());
            return Err(Failure::usage("quantize: to which format?", hint));
        }
        let blocksize = args.count("blocksize", 32..=4096)?.unwrap_or(DEFAULT_BLOCKSIZE);
        if !BLOCKSIZES.contains(&blocksize) {
            let what = format!("--blocksize: {blocksize} is not a power of two, which bitsandbytes needs");
            return Err(Failure::usage(what, None));
        }
        let names = |flag| args.all(flag).map(|text| text.to_string_lossy().into_owned()).collect();
        let [input, output] = [0, 1].map(|i| PathBuf::from(&args.operands()[i]));
        if same_file(&input, &output) {
            let what = format!("{}: the output would replace the input", output.display());
            return Err(Failure::usage(what, None));
        }
        let folder = input.is_dir();
        if folder && folder::is_taken(&output) {
            let what = "this exists: a folder is written where nothing is yet";
            return Err(Error::invalid(what).in_file(output.display()).into());
        }
        if !folder && std::fs::metadata(&output).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::invalid("not a regular file").in_file(output.display()).into());
        }
        Ok(Plan {
            input,
            output,
            folder,
            blocksize,
            statistics: if args.has("double-quant") { Statistics::Nested } else { Statistics::Plain },
            include: names("include"),
            exclude: names("exclude"),
            verify: args.has("verify"),
        })
    }

    /// Whether a tensor is quantised: see the help.
    fn takes(&self, tensor: &TensorView) -> bool {
        let named = |parts: &[String]| parts.iter().any(|part| tensor.name.contains(part.as_str()));
        let matrix = tensor.shape.len() == 2 && !tensor.bytes.is_empty() && is_weight(tensor.dtype);
        let left = LEFT.iter().any(|part| tensor.name.contains(part));
        matrix && !named(&self.exclude) && (!left || named(&self.include))
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let file = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        file(a).is_some() && file(a) == file(b)
    }
    #[cfg(not(unix))]
    {
        let file = |path: &Path| std::fs::canonicalize(path).ok();
        a == b || file(a).is_some() && file(a) == file(b)
    }
}

/// A bad value is an error of the file that holds it.
fn named(error: Error, file: &Path) -> Error {
    match error {
        Error::Value { name, index, value, expected } => {
            Error::Value { name: format!("{}: {name}", file.display()), index, value, expected }
        }
        other => other.in_file(file.display()),
    }
}

/// The tensor as it is quantised: see [`folder::Config::upright`].
fn upright<'a>(
    config: Option<&folder::Config>,
    tensor: TensorView<'a>,
    room: &'a mut Turned,
) -> TensorView<'a> {
    config.map_or(tensor, |config| config.upright(tensor, room))
}

/// The tensors that are copied.
fn copied<'a>(model: &'a Checkpoint, plan: &Plan) -> impl Iterator<Item = TensorView<'a>> {
    model.tensors().filter(|tensor| !plan.takes(tensor))
}

/// Writes a file; returns its bytes.
fn write(plan: &Plan, path: &Path, model: &Checkpoint, rows: &[Row]) -> Result<u64, Error> {
    let stored = rows.iter().flat_map(|row| &row.stored).map(Owned::view);
    let tensors: Vec<TensorView> = copied(model, plan).chain(stored).collect();
    let metadata: Vec<_> = model.files().next().into_iter().flat_map(|(_, file)| file.metadata()).collect();
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
    // A map that lost pages reads as zeros: what was made of them is not kept.
    model.check()?;
    safetensors::write(path, &tensors, &metadata)?;
    model.check()?;
    let written = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
    Ok(written.len())
}

/// Reads the output again: what was copied is the same, what was quantised decodes to the same bits and so
/// loses what was reported, and nothing else is there.
fn verify(
    plan: &Plan,
    config: Option<&folder::Config>,
    model: &Checkpoint,
    rows: &[Row],
    engine: Engine,
) -> Result<(), Error> {
    let mut room = Turned::default();
    let checkpoint = Checkpoint::open(&plan.output)?;
    let Some((_, output)) = checkpoint.files().next() else {
        return Err(Error::invalid("holds nothing").in_file(plan.output.display()));
    };
    let wrong = |name: &str, what: &str| {
        Error::invalid(format!("tensor {name:?} {what}")).in_file(plan.output.display())
    };
    for row in rows {
        let name = row.tensor.name;
        let weight = Nf4::read(output, name).map_err(|e| e.in_file(plan.output.display()))?;
        let weight = weight.ok_or_else(|| wrong(name, "is not in NF4"))?;
        if engine.measure(upright(config, row.tensor, &mut room), &weight) != row.loss {
            return Err(wrong(name, "decodes to other bits than those that were quantised"));
        }
    }
    let mut count = rows.iter().map(|row| row.stored.len()).sum();
    for tensor in copied(model, plan) {
        count += 1;
        if output.tensor(tensor.name)? != tensor {
            return Err(wrong(tensor.name, "is not the input's"));
        }
    }
    if output.len() != count {
        return Err(
            Error::invalid(format!("{} tensors, not {count}", output.len())).in_file(plan.output.display())
        );
    }
    Ok(())
}
