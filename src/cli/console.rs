//! What a subcommand prints with: standard output, progress on a terminal, tables, numbers for people.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::Failure;
use crate::{Error, sys};

/// Where a subcommand prints its results. It is an [`io::Write`]; errors are those of standard output.
pub struct Console<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Console<'a> {
    /// A console over `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Console { out }
    }

    /// Ends the command in good order if Ctrl-C was pressed: to be asked at every turn of long work. (One that
    /// does not ask is ended all the same, a little later.)
    pub fn check_interrupt(&self) -> Result<(), Failure> {
        if sys::interrupted() { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Does long work that calls back at every turn, and ends it in good order if Ctrl-C was pressed meanwhile.
    pub fn interruptible<T>(
        &self,
        work: impl FnOnce(&dyn Fn() -> crate::Result<()>) -> crate::Result<T>,
    ) -> Result<T, Failure> {
        let pressed = Cell::new(false);
        let done = work(&|| {
            pressed.set(sys::interrupted());
            if pressed.get() { Err(Error::invalid("interrupted")) } else { Ok(()) }
        });
        if pressed.get() { Err(Failure::Interrupted) } else { Ok(done?) }
    }
}

impl Write for Console<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One line on standard error that says how far the work is: only on a terminal, and at most ten times a
/// second. It is wiped when dropped.
pub struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl Progress {
    /// No line yet.
    pub fn new() -> Progress {
        Progress { terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Shows `text` instead of what was shown before.
    pub fn show(&mut self, text: impl fmt::Display) {
        let due = self.shown.is_none_or(|last| last.elapsed() > Duration::from_millis(100));
        if self.terminal && due {
            self.shown = Some(Instant::now());
            // Progress that cannot be shown is no failure.
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }

    /// Wipes the line: before results are printed.
    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text in columns as wide as their widest cell.
pub struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(columns: [(&str, Align); N]) -> Table {
        let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        Table { align: columns.iter().map(|&(_, align)| align).collect(), rows: vec![headings] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// Where it has not one cell a column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.align.len(), "a row of {N} cells in a table of {} columns", self.align.len());
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |c: usize| self.rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(&self.align) {
                match align {
                    Align::Left => write!(line, "{cell:<width$}  ")?,
                    Align::Right => write!(line, "{cell:>width$}  ")?,
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number of bytes for people: `48 KiB`, `86.7 MiB`.
pub fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    let digits = usize::from(value.fract() != 0.0 && value < 1000.0);
    format!("{value:.digits$} {unit}")
}

/// Text from a file, safe for a terminal: control characters are escaped.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new([("name", Align::Left), ("bytes", Align::Right)]);
        table.row(["é".into(), "1".into()]);
        table.row(["weights".into(), "123456".into()]);
        assert_eq!(table.to_string(), "name      bytes\né             1\nweights  123456\n");
    }

    #[test]
    fn bytes_for_people() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (49152, "48 KiB"),
            (90868376, "86.7 MiB"),
            (u64::MAX, "16777216 TiB"),
        ];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
    }
}
