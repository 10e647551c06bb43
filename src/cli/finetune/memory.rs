//! `--report-memory`: what training kept, by what it is for, and the peak of the whole process.

use std::io::Write;

use crate::cli::{Align, Console, Failure, Table};
use crate::io::json::Writer;
use crate::sys;
use crate::train::Memory;

const MIB: f64 = (1 << 20) as f64;

/// A line of JSON.
pub fn json(memory: &Memory, console: &mut Console) -> Result<(), Failure> {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("memory")
            .object(|w| memory.parts().iter().for_each(|(name, bytes)| w.key(name).number(*bytes)));
        match sys::peak_memory() {
            Some(bytes) => w.key("peak").number(bytes),
            None => w.key("peak").null(),
        }
    });
    writeln!(console, "{}", w.finish())?;
    Ok(())
}

/// A table.
pub fn table(memory: &Memory, console: &mut Console) -> Result<(), Failure> {
    let mut table = Table::new([("memory", Align::Left), ("MiB", Align::Right)]);
    let mut row = |name: &str, bytes: usize| table.row([name.into(), format!("{:.1}", bytes as f64 / MIB)]);
    memory.parts().iter().for_each(|(name, bytes)| row(name, *bytes));
    row("together", memory.total());
    if let Some(peak) = sys::peak_memory() {
        row("peak of the process", peak);
    }
    write!(console, "{table}")?;
    Ok(())
}
