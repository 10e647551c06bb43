//! `samebits inspect`: what a model file holds.

mod gguf;
mod report;

use std::path::Path;

use super::console::printable;
use super::values::{Extremes, PIECE, extremes};
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::io::gguf::Gguf;
use crate::io::safetensors::{Checkpoint, TensorView};
use crate::pool::Pool;
use crate::{Cpu, cpu, pool};
use report::{Metadata, Report, Row, Source};

pub const COMMAND: Command = Command {
    name: "inspect",
    summary: "the tensors of a model: types, shapes, bytes, smallest, largest, NaNs",
    operands: "FILE|DIR",
    arity: (1, 1),
    flags: &[Flag { name: "json", takes: Takes::Nothing, help: "the same as one JSON object" }],
    notes: "\
FILE is a safetensors file, the index of a sharded one, or a GGUF file; DIR is a folder that holds one of the
first two. Every byte is read and checked. Smallest and largest leave NaNs out; types that are packed, complex
or floats of eight bits show `-` there.

Examples:
  samebits inspect model.safetensors
  samebits inspect model-Q4_K_M.gguf --json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let path = Path::new(&args.operands()[0]);
    if Gguf::is_at(path) {
        return gguf::run(path, args.has("json"), console);
    }
    let (cpu, pool) = (cpu::default()?, pool::default()?);
    let model = Checkpoint::open(path)?;
    let mut progress = Progress::new();
    let mut rows = Vec::with_capacity(model.len());
    for (file, content) in model.files() {
        for tensor in content.tensors() {
            console.check_interrupt()?;
            progress.show(format_args!("{}/{} {}", rows.len() + 1, model.len(), printable(tensor.name)));
            rows.push(Row {
                file,
                name: tensor.name,
                dtype: tensor.dtype.name(),
                shape: tensor.shape,
                bytes: tensor.bytes.len(),
                extremes: tensor_extremes(cpu, pool, tensor),
            });
        }
    }
    progress.clear();
    let sources = model.files().map(|(name, content)| Source {
        name,
        tensors: content.len(),
        metadata: content.metadata().map(|(key, value)| (key, Metadata::Text(value))).collect(),
    });
    let path = model.path().to_string_lossy();
    Report { path: &path, sources: sources.collect(), rows }.show(args.has("json"), console)
}

/// One tensor, cut into pieces of [`PIECE`] bytes.
fn tensor_extremes(cpu: Cpu, pool: &Pool, tensor: TensorView) -> Option<Extremes> {
    let mut parts = vec![Some(Extremes::default()); tensor.bytes.len().div_ceil(PIECE).max(1)];
    pool.run(tensor.bytes.chunks(PIECE).zip(&mut parts), |(bytes, part), scratch| {
        *part = extremes(cpu, tensor.dtype, bytes, scratch);
    });
    parts.into_iter().reduce(|a, b| Some(a?.join(b?))).flatten()
}
