//! `samebits quantize`: a model's weights in NF4, in a file that bitsandbytes reads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::console::{bytes, printable};
use super::values::{is_weight, tensor_head};
use super::{Align, Args, Command, Console, Failure, Flag, Progress, Table, Takes};
use crate::io::bitsandbytes::{Nf4, Owned};
use crate::io::json::Writer;
use crate::io::safetensors::{self, SafeTensors, TensorView};
use crate::kernels::nf4::DEFAULT_BLOCKSIZE;
use crate::{Error, cpu, pool};

mod work;

use work::{Engine, Loss, Statistics};

pub const COMMAND: Command = Command {
    name: "quantize",
    summary: "a model's weights in four bits, as bitsandbytes stores them",
    operands: "IN.safetensors OUT.safetensors",
    arity: (2, 2),
    flags: &[
        Flag { name: "nf4", takes: Takes::Nothing, help: "to NF4: has to be said" },
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
Quantised are tensors of two axes in F32, F16 or BF16, except those whose name contains `embed`, `lm_head`,
`wte` or `wpe`: embeddings and output heads, which bitsandbytes leaves as well. A name that contains the TEXT
of an --include is quantised after all, of an --exclude never. All else is copied as it is, byte for byte.

The report says for each tensor: the mean and the largest |x - y|, the sum of |x - y| over that of |x|, and
the bytes of x that were quantised in a second. A NaN or an infinity is an error; OUT is then not written.

Example:
  samebits quantize model.safetensors model-nf4.safetensors --nf4 --double-quant --verify
",
    run,
};

/// What bitsandbytes accepts.
const BLOCKSIZES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Parts of names that are left by default.
const LEFT: [&str; 4] = ["embed", "lm_head", "wte", "wpe"];

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
    let engine = Engine { cpu: cpu::default()?, pool: pool::default()? };
    let model = SafeTensors::open(&plan.input)?;
    let mut progress = Progress::new();
    let mut rows = Vec::new();
    for tensor in model.tensors().filter(|tensor| plan.takes(tensor)) {
        console.check_interrupt()?;
        progress.show(format_args!("quantising {}", printable(tensor.name)));
        let in_file = |e: Error| named(e, &plan.input);
        let (weight, time) = engine.quantize(tensor, plan.blocksize, plan.statistics).map_err(in_file)?;
        let loss = engine.measure(tensor, &weight);
        rows.push(Row { tensor, loss, time, stored: weight.tensors(tensor.name) });
    }
    progress.show("writing");
    let written = write(&plan, &model, &rows)?;
    let verified = if plan.verify {
        console.check_interrupt()?;
        progress.show("verifying");
        verify(&plan, &model, &rows, engine)?;
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
    blocksize: usize,
    statistics: Statistics,
    include: Vec<String>,
    exclude: Vec<String>,
    verify: bool,
}

impl Plan {
    fn new(args: &Args) -> Result<Plan, Failure> {
        if !args.has("nf4") {
            let hint = Some("NF4 is the one format: add --nf4".into());
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
        if std::fs::metadata(&output).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::invalid("not a regular file").in_file(output.display()).into());
        }
        Ok(Plan {
            input,
            output,
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

/// A quantised tensor.
struct Row<'a> {
    tensor: TensorView<'a>,
    loss: Loss,
    time: Duration,
    stored: Vec<Owned>,
}

impl Row<'_> {
    fn stored_bytes(&self) -> usize {
        self.stored.iter().map(|part| part.view().bytes.len()).sum()
    }

    fn mean(&self) -> f64 {
        self.loss.sum / self.tensor.shape.iter().product::<usize>() as f64
    }
}

/// The tensors that are copied.
fn copied<'a>(model: &'a SafeTensors, plan: &Plan) -> impl Iterator<Item = TensorView<'a>> {
    model.tensors().filter(|tensor| !plan.takes(tensor))
}

/// Writes the output; returns its bytes.
fn write(plan: &Plan, model: &SafeTensors, rows: &[Row]) -> Result<u64, Error> {
    let stored = rows.iter().flat_map(|row| &row.stored).map(Owned::view);
    let tensors: Vec<TensorView> = copied(model, plan).chain(stored).collect();
    let metadata: Vec<_> = model.metadata().collect();
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
    safetensors::write(&plan.output, &tensors, &metadata)?;
    let written = std::fs::metadata(&plan.output).map_err(|e| Error::io(&plan.output, "read", e))?;
    Ok(written.len())
}

/// Reads the output again: what was copied is the same, what was quantised decodes to the same bits and so
/// loses what was reported, and nothing else is there.
fn verify(plan: &Plan, model: &SafeTensors, rows: &[Row], engine: Engine) -> Result<(), Error> {
    let output = SafeTensors::open(&plan.output)?;
    let wrong = |name: &str, what: &str| {
        Error::invalid(format!("tensor {name:?} {what}")).in_file(plan.output.display())
    };
    for row in rows {
        let name = row.tensor.name;
        let weight = Nf4::read(&output, name).map_err(|e| e.in_file(plan.output.display()))?;
        let weight = weight.ok_or_else(|| wrong(name, "is not in NF4"))?;
        if engine.measure(row.tensor, &weight) != row.loss {
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

struct Report<'a> {
    plan: &'a Plan,
    tensors: usize,
    rows: Vec<Row<'a>>,
    written: u64,
    verified: bool,
}

impl Report<'_> {
    fn print(&self, console: &mut Console) -> Result<(), Failure> {
        let mut table = Table::new([
            ("tensor", Align::Left),
            ("shape", Align::Left),
            ("bytes", Align::Right),
            ("in NF4", Align::Right),
            ("mean err", Align::Right),
            ("max err", Align::Right),
            ("relative", Align::Right),
            ("GB/s", Align::Right),
        ]);
        for row in &self.rows {
            table.row([
                printable(row.tensor.name),
                crate::error::Shape(row.tensor.shape).to_string(),
                row.tensor.bytes.len().to_string(),
                row.stored_bytes().to_string(),
                format!("{:.6}", row.mean()),
                format!("{:.6}", row.loss.max),
                format!("{:.4}", row.loss.relative()),
                format!("{:.2}", rate(row.tensor.bytes.len(), row.time)),
            ]);
        }
        write!(console, "{table}")?;
        writeln!(console, "{}", self.total())?;
        if self.verified {
            writeln!(
                console,
                "verified: the file decodes to these very bits, and what was copied is the same"
            )?;
        }
        Ok(())
    }

    fn before(&self) -> usize {
        self.rows.iter().map(|row| row.tensor.bytes.len()).sum()
    }

    fn after(&self) -> usize {
        self.rows.iter().map(Row::stored_bytes).sum()
    }

    fn time(&self) -> Duration {
        self.rows.iter().map(|row| row.time).sum()
    }

    fn total(&self) -> String {
        let loss = self.rows.iter().map(|row| row.loss).fold(Loss::default(), Loss::join);
        format!(
            "{} of {} tensors in NF4, {} to {}, relative error {:.4}, {:.2} GB/s; {} holds {}",
            self.rows.len(),
            self.tensors,
            bytes(self.before() as u64),
            bytes(self.after() as u64),
            loss.relative(),
            rate(self.before(), self.time()),
            printable(&self.plan.output.to_string_lossy()),
            bytes(self.written),
        )
    }

    fn json(&self) -> String {
        let mut out = Writer::indented();
        out.object(|w| {
            w.key("input").string(&self.plan.input.to_string_lossy());
            w.key("output").string(&self.plan.output.to_string_lossy());
            w.key("output_bytes").number(self.written);
            w.key("format").string("nf4");
            w.key("blocksize").number(self.plan.blocksize);
            w.key("double_quant").boolean(self.plan.statistics == Statistics::Nested);
            w.key("verified").boolean(self.verified);
            w.key("tensors_in_input").number(self.tensors);
            w.key("gb_per_s").number(rate(self.before(), self.time()));
            w.key("tensors").array(|w| self.rows.iter().for_each(|row| row.json(w)));
        });
        out.finish()
    }
}

impl Row<'_> {
    fn json(&self, w: &mut Writer) {
        w.object(|w| {
            let TensorView { name, dtype, shape, bytes } = self.tensor;
            tensor_head(w, (name, dtype.name()), shape, bytes.len());
            w.key("nf4_bytes").number(self.stored_bytes());
            w.key("mean_error").number(self.mean());
            w.key("max_error").number(self.loss.max);
            w.key("relative_error").number(self.loss.relative());
            w.key("gb_per_s").number(rate(self.tensor.bytes.len(), self.time));
        });
    }
}

/// 10⁹ bytes a second; 0 where nothing was done.
fn rate(bytes: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { bytes as f64 / time.as_secs_f64() / 1e9 }
}
