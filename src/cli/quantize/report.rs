//! What `samebits quantize` says when it is done.

use std::io::Write;
use std::time::Duration;

use super::Plan;
use super::work::{Loss, Statistics};
use crate::cli::console::{bytes, printable};
use crate::cli::values::tensor_head;
use crate::cli::{Align, Console, Failure, Table};
use crate::io::bitsandbytes::Owned;
use crate::io::json::Writer;
use crate::io::safetensors::TensorView;

/// A quantised tensor.
pub struct Row<'a> {
    pub tensor: TensorView<'a>,
    pub loss: Loss,
    pub time: Duration,
    pub stored: Vec<Owned>,
}

impl Row<'_> {
    fn stored_bytes(&self) -> usize {
        self.stored.iter().map(|part| part.view().bytes.len()).sum()
    }

    fn mean(&self) -> f64 {
        self.loss.sum / self.tensor.shape.iter().product::<usize>() as f64
    }
}

pub struct Report<'a> {
    pub plan: &'a Plan,
    pub tensors: usize,
    pub rows: Vec<Row<'a>>,
    pub written: u64,
    pub verified: bool,
}

impl Report<'_> {
    pub fn print(&self, console: &mut Console) -> Result<(), Failure> {
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

    pub fn json(&self) -> String {
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
