//! What is kept of a training: a line a step in a file, and the points of the curve.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::curve::{Curve, draw};
use crate::train::Report;
use crate::{Error, Result};

/// Losses so far.
pub struct Record {
    steps: Curve,
    held_out: Curve,
    file: Option<(PathBuf, File)>,
}

impl Record {
    /// Nothing yet. Lines go to `path`, behind those that are there where training goes on.
    pub fn new(path: Option<&Path>, goes_on: bool) -> Result<Record> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(goes_on).truncate(!goes_on);
            let file = options.open(path).map_err(|e| Error::io(path, "open", e))?;
            Ok::<_, Error>((path.to_path_buf(), file))
        };
        let file = path.map(open).transpose()?;
        Ok(Record { steps: Vec::new(), held_out: Vec::new(), file })
    }

    /// A step, and its line.
    pub fn step(&mut self, report: &Report, line: &str) -> Result<()> {
        self.steps.push((report.step as f64, report.loss));
        self.write(line)
    }

    /// The loss of what is held out after a step, and its line.
    pub fn held_out(&mut self, step: u64, loss: f64, line: &str) -> Result<()> {
        self.held_out.push((step as f64, loss));
        self.write(line)
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        writeln!(file, "{line}").map_err(|e| Error::io(&*path, "write", e))
    }

    /// The curve as a picture.
    pub fn draw(&self, path: &Path) -> Result<()> {
        let picture = draw(&self.steps, &self.held_out);
        crate::io::atomic::write(path, |out| out.write_all(picture.as_bytes()))
    }
}
