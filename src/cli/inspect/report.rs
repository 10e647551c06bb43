//! What `inspect` shows: a table and a sum, or JSON.

use std::borrow::Cow;
use std::io::Write;

use crate::cli::console::{bytes, printable};
use crate::cli::values::{Extremes, Number, tensor_head};
use crate::cli::{Align, Console, Failure, Table};
use crate::io::json::Writer;

/// A tensor.
pub struct Row<'a> {
    pub file: &'a str,
    pub name: &'a str,
    pub dtype: &'static str,
    pub shape: &'a [usize],
    pub bytes: usize,
    /// `None` where the type has no numbers of its own.
    pub extremes: Option<Extremes>,
}

/// A value of metadata.
pub enum Metadata<'a> {
    Text(Cow<'a, str>),
    Number(Number),
    Bool(bool),
    /// The type of the elements, and how many: vocabularies have too many to show.
    Array(&'static str, usize),
}

/// A file.
pub struct Source<'a> {
    pub name: &'a str,
    pub tensors: usize,
    pub metadata: Vec<(Cow<'a, str>, Metadata<'a>)>,
}

/// A model.
pub struct Report<'a> {
    pub path: &'a str,
    pub sources: Vec<Source<'a>>,
    pub rows: Vec<Row<'a>>,
}

impl Report<'_> {
    /// Prints it.
    pub fn show(&self, json: bool, console: &mut Console) -> Result<(), Failure> {
        if json {
            writeln!(console, "{}", self.json())?;
            return Ok(());
        }
        write!(console, "{}", self.table())?;
        for (key, value) in self.sources.iter().flat_map(|source| &source.metadata) {
            writeln!(console, "metadata  {} = {}", printable(key), value.shown())?;
        }
        writeln!(console, "{}", self.total())?;
        Ok(())
    }

    fn table(&self) -> Table {
        let sharded = self.sources.len() > 1;
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
        for Row { file, name, dtype, shape, bytes, extremes } in &self.rows {
            let end = |pick: fn((Number, Number)) -> Number| {
                let range = extremes.and_then(|extremes| extremes.range);
                range.map_or_else(|| "-".into(), |range| shown(pick(range)))
            };
            table.row([
                printable(name),
                dtype.to_string(),
                crate::error::Shape(shape).to_string(),
                bytes.to_string(),
                end(|range| range.0),
                end(|range| range.1),
                extremes.map_or_else(|| "-".into(), |extremes| extremes.nans.to_string()),
                if sharded { printable(file) } else { String::new() },
            ]);
        }
        table
    }

    /// `103 tensors (103 F32), 22713216 elements, 86.6 MiB`, and the NaNs if there are any.
    fn total(&self) -> String {
        let mut kinds: Vec<(usize, &str)> = Vec::new();
        for row in &self.rows {
            match kinds.iter_mut().find(|(_, dtype)| *dtype == row.dtype) {
                Some((count, _)) => *count += 1,
                None => kinds.push((1, row.dtype)),
            }
        }
        kinds.sort_by_key(|&(count, dtype)| (std::cmp::Reverse(count), dtype));
        let kinds: Vec<String> = kinds.iter().map(|(count, dtype)| format!("{count} {dtype}")).collect();
        let elements = self.rows.iter().map(|t| t.shape.iter().map(|&n| n as u128).product::<u128>());
        let elements: u128 = elements.sum();
        let size = bytes(self.rows.iter().map(|tensor| tensor.bytes as u64).sum());
        let nans: usize = self.rows.iter().filter_map(|row| row.extremes).map(|extremes| extremes.nans).sum();
        let nans = if nans > 0 { format!(", {nans} NaN") } else { String::new() };
        let count = self.rows.len();
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} tensor{plural} ({}), {elements} elements, {size}{nans}", kinds.join(", "))
    }

    fn json(&self) -> String {
        let mut out = Writer::indented();
        out.object(|w| {
            w.key("path").string(self.path);
            w.key("files").array(|w| {
                for source in &self.sources {
                    w.object(|w| {
                        w.key("name").string(source.name);
                        w.key("tensors").number(source.tensors);
                        w.key("metadata").object(|w| {
                            source.metadata.iter().for_each(|(key, value)| value.json(w.key(key)));
                        });
                    });
                }
            });
            w.key("tensors").array(|w| self.rows.iter().for_each(|row| row.json(w)));
        });
        out.finish()
    }
}

impl Metadata<'_> {
    /// One line, cut where it is long.
    fn shown(&self) -> String {
        const LONGEST: usize = 120;
        match self {
            Metadata::Text(text) => match text.char_indices().nth(LONGEST) {
                Some((cut, _)) => format!("{}…", printable(&text[..cut])),
                None => printable(text),
            },
            Metadata::Number(n) => shown(*n),
            Metadata::Bool(x) => x.to_string(),
            Metadata::Array(kind, len) => format!("[{len} {kind}]"),
        }
    }

    fn json(&self, w: &mut Writer) {
        match self {
            Metadata::Text(text) => w.string(text),
            Metadata::Number(n) => number(w, *n),
            Metadata::Bool(x) => w.boolean(*x),
            Metadata::Array(kind, len) => w.object(|w| {
                w.key("type").string(kind);
                w.key("length").number(*len);
            }),
        }
    }
}

impl Row<'_> {
    fn json(&self, w: &mut Writer) {
        w.object(|w| {
            tensor_head(w, (self.name, self.dtype), self.shape, self.bytes);
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

/// An infinity or a NaN is a string: JSON has no number for it.
fn number(w: &mut Writer, n: Number) {
    match n {
        Number::Float(x) if x.is_nan() => w.string("nan"),
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
