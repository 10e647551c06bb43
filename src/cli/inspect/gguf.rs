//! GGUF files.

use std::path::Path;

use super::report::{Metadata, Report, Row, Source};
use super::tensor_extremes;
use crate::cli::console::printable;
use crate::cli::values::{Extremes, Number, PIECE, of_singles};
use crate::cli::{Console, Failure, Progress};
use crate::io::bytes::Access;
use crate::io::gguf::{GgmlType, Gguf, Value};
use crate::io::safetensors::{self, Dtype};
use crate::kernels::ggml::{Format, dequantize};
use crate::kernels::{LANES, Line};
use crate::pool::Pool;
use crate::{Cpu, cpu, pool};

pub fn run(path: &Path, json: bool, console: &mut Console) -> Result<(), Failure> {
    let (cpu, pool) = (cpu::default()?, pool::default()?);
    let model = Gguf::open(path, Access::Read)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut progress = Progress::new();
    let mut rows = Vec::with_capacity(model.len());
    for t in model.tensors() {
        console.check_interrupt()?;
        progress.show(format_args!("{}/{} {}", rows.len() + 1, model.len(), printable(t.name)));
        let plain = plain(t.kind).map(|dtype| safetensors::TensorView {
            name: t.name,
            dtype,
            shape: t.shape,
            bytes: t.bytes,
        });
        let extremes = match (plain, t.kind.format()) {
            (Some(plain), _) => tensor_extremes(cpu, pool, plain),
            (None, Some(format)) => Some(of_blocks(cpu, pool, format, t.bytes)),
            (None, None) => None,
        };
        let (dtype, bytes) = (t.kind.name(), t.bytes.len());
        rows.push(Row { file: &name, name: t.name, dtype, shape: t.shape, bytes, extremes });
    }
    progress.clear();
    let metadata = model.metadata().map(|e| (e.key.into(), metadata(e.value))).collect();
    let source = Source { name: &name, tensors: model.len(), metadata };
    Report { path: &path.to_string_lossy(), sources: vec![source], rows }.show(json, console)
}

/// The extremes of decoded blocks.
fn of_blocks(cpu: Cpu, pool: &Pool, format: Format, bytes: &[u8]) -> Extremes {
    let piece = PIECE / format.block_bytes() * format.block_bytes();
    let mut parts = vec![Extremes::default(); bytes.len().div_ceil(piece)];
    pool.run(bytes.chunks(piece).zip(&mut parts), |(bytes, part), scratch| {
        // 4096 elements at a time: whole blocks of either length.
        for bytes in bytes.chunks(format.bytes(4096)) {
            let len = bytes.len() / format.block_bytes() * format.block_len();
            let floats = &mut Line::floats_mut(scratch.lines(len.div_ceil(LANES)))[..len];
            dequantize(cpu, format, bytes, floats);
            *part = part.join(of_singles(cpu, floats));
        }
    });
    parts.into_iter().fold(Extremes::default(), Extremes::join)
}

/// The type of numbers that stand one by one.
fn plain(kind: GgmlType) -> Option<Dtype> {
    Some(match kind {
        GgmlType::F32 => Dtype::F32,
        GgmlType::F16 => Dtype::F16,
        GgmlType::BF16 => Dtype::BF16,
        GgmlType::F64 => Dtype::F64,
        GgmlType::I8 => Dtype::I8,
        GgmlType::I16 => Dtype::I16,
        GgmlType::I32 => Dtype::I32,
        GgmlType::I64 => Dtype::I64,
        _ => return None,
    })
}

fn metadata(value: Value<'_>) -> Metadata<'_> {
    match value {
        Value::String(text) => Metadata::Text(text.into()),
        Value::Bool(x) => Metadata::Bool(x),
        Value::Array(array) => Metadata::Array(array.kind().name(), array.len()),
        other => Metadata::Number(match (other.as_i128(), other.as_f64()) {
            (Some(n), _) => Number::Integer(n),
            (_, x) => Number::Float(x.unwrap_or(f64::NAN)),
        }),
    }
}
