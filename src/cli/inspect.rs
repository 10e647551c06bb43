//! `samebits inspect`: what a model file holds.

use std::io::Write;

use super::console::{bytes, printable};
use super::values::{Extremes, Number, PIECE, extremes};
use super::{Align, Args, Command, Console, Failure, Flag, Progress, Table, Takes};
use crate::io::json::Writer;
use crate::io::safetensors::{Checkpoint, Dtype, TensorView};
use crate::pool::Pool;
use crate::{Cpu, cpu, pool};

pub const COMMAND: Command = Command {
    name: "inspect",
    summary: "the tensors of a model: types, shapes, bytes, smallest, largest, NaNs",
    operands: "FILE|DIR",
    arity: (1, 1),
    flags: &[Flag { name: "json", takes: Takes::Nothing, help: "the same as one JSON object" }],
    notes: "\
FILE is a safetensors file or the index of a sharded one; DIR is a folder that holds either. Every byte is
read and checked. Smallest and largest leave NaNs out; types that are packed, complex or floats of eight
bits show `-` there.

Example:
  samebits inspect model.safetensors
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let (cpu, pool) = (cpu::default()?, pool::default()?);
    let model = Checkpoint::open(&args.operands()[0])?;
    let mut progress = Progress::new();
    let mut rows = Vec::with_capacity(model.len());
    for (file, content) in model.files() {
        for tensor in content.tensors() {
            console.check_interrupt()?;
            progress.show(format_args!("{}/{} {}", rows.len() + 1, model.len(), printable(tensor.name)));
            rows.push(Row { file, tensor, extremes: tensor_extremes(cpu, pool, tensor) });
        }
    }
    progress.clear();
    let report = Report { model: &model, rows };
    if args.has("json") {
        writeln!(console, "{}", report.json())?
    } else {
        report.print(console)?
    }
    Ok(())
}

/// One tensor, cut into pieces of [`PIECE`] bytes.
fn tensor_extremes(cpu: Cpu, pool: &Pool, tensor: TensorView) -> Option<Extremes> {
    let mut parts = vec![Some(Extremes::default()); tensor.bytes.len().div_ceil(PIECE).max(1)];
    pool.run(tensor.bytes.chunks(PIECE).zip(&mut parts), |(bytes, part), scratch| {
        *part = extremes(cpu, tensor.dtype, bytes, scratch);
    });
    parts.into_iter().reduce(|a, b| Some(a?.join(b?))).flatten()
}

struct Row<'a> {
    file: &'a str,
    tensor: TensorView<'a>,
    /// `None` where the type has no numbers of its own.
    extremes: Option<Extremes>,
}

struct Report<'a> {
    model: &'a Checkpoint,
    rows: Vec<Row<'a>>,
}

impl Report<'_> {
    fn print(&self, console: &mut Console) -> Result<(), Failure> {
        let sharded = self.model.files().len() > 1;
        let mut table = Table::new([
            ("tensor", Align::Left),
            ("dtype", Align::Left),
            ("shape", Align::Left),
            ("bytes", Align::Right),
            ("min", Align::Right),
            ("max", Align::Right),
            ("NaN", Align::Right),
            (if sharded { "file" } else { "" }, Align::Left),
        ]);
        for Row { file, tensor, extremes } in &self.rows {
            let end = |pick: fn((Number, Number)) -> Number| {
                let range = extremes.and_then(|extremes| extremes.range);
                range.map_or_else(|| "-".into(), |range| shown(pick(range)))
            };
            table.row([
                printable(tensor.name),
                tensor.dtype.to_string(),
                crate::error::Shape(tensor.shape).to_string(),
                tensor.bytes.len().to_string(),
                end(|range| range.0),
                end(|range| range.1),
                extremes.map_or_else(|| "-".into(), |extremes| extremes.nans.to_string()),
                if sharded { printable(file) } else { String::new() },
            ]);
        }
        write!(console, "{table}")?;
        for (_, content) in self.model.files() {
            for (key, value) in content.metadata() {
                writeln!(console, "metadata  {} = {}", printable(&key), printable(&value))?;
            }
        }
        writeln!(console, "{}", self.total())?;
        Ok(())
    }

    /// `103 tensors (103 F32), 22713216 elements, 86.6 MiB`, and the NaNs if there are any.
    fn total(&self) -> String {
        let tensors = || self.rows.iter().map(|row| row.tensor);
        let kinds = Dtype::ALL.into_iter().rev().filter_map(|dtype| {
            let count = tensors().filter(|tensor| tensor.dtype == dtype).count();
            (count > 0).then(|| format!("{count} {dtype}"))
        });
        let kinds: Vec<String> = kinds.collect();
        let elements: u128 = tensors().map(|t| t.shape.iter().map(|&n| n as u128).product::<u128>()).sum();
        let size = bytes(tensors().map(|tensor| tensor.bytes.len() as u64).sum());
        let nans: usize = self.rows.iter().filter_map(|row| row.extremes).map(|extremes| extremes.nans).sum();
        let nans = if nans > 0 { format!(", {nans} NaN") } else { String::new() };
        let count = self.rows.len();
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} tensor{plural} ({}), {elements} elements, {size}{nans}", kinds.join(", "))
    }

    fn json(&self) -> String {
        let mut out = Writer::indented();
        out.object(|w| {
            w.key("path").string(&self.model.path().to_string_lossy());
            w.key("files").array(|w| {
                for (name, content) in self.model.files() {
                    w.object(|w| {
                        w.key("name").string(name);
                        w.key("tensors").number(content.len());
                        w.key("metadata").object(|w| {
                            content.metadata().for_each(|(key, value)| w.key(&key).string(&value));
                        });
                    });
                }
            });
            w.key("tensors").array(|w| self.rows.iter().for_each(|row| row.json(w)));
        });
        out.finish()
    }
}

impl Row<'_> {
    fn json(&self, w: &mut Writer) {
        w.object(|w| {
            w.key("name").string(self.tensor.name);
            w.key("dtype").string(self.tensor.dtype.name());
            w.key("shape").array(|w| self.tensor.shape.iter().for_each(|&n| w.number(n)));
            w.key("bytes").number(self.tensor.bytes.len());
            w.key("file").string(self.file);
            let Some(extremes) = self.extremes else { return };
            if let Some((low, high)) = extremes.range {
                number(w.key("min"), low);
                number(w.key("max"), high);
            }
            w.key("nan").number(extremes.nans);
        });
    }
}

/// An infinity is a string: JSON has no number for it.
fn number(w: &mut Writer, n: Number) {
    match n {
        Number::Float(x) if x.is_infinite() => w.string(if x > 0.0 { "inf" } else { "-inf" }),
        Number::Float(x) => w.number(x),
        Number::Integer(n) => match (u64::try_from(n), i64::try_from(n)) {
            (Ok(n), _) => w.number(n),
            (_, Ok(n)) => w.number(n),
            _ => w.string(&n.to_string()),
        },
    }
}

/// Five digits or so.
fn shown(n: Number) -> String {
    match n {
        Number::Integer(n) => n.to_string(),
        Number::Float(0.0) => "0".into(),
        Number::Float(x) if (1e-3..1e5).contains(&x.abs()) => format!("{x:.4}"),
        Number::Float(x) => format!("{x:.3e}"),
    }
}
