//! Vectors in one of three formats.

use std::io::{self, Seek, SeekFrom, Write};

use crate::cli::Failure;
use crate::io::json::Writer;
use crate::nn::Arithmetic;

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object a line.
    Jsonl,
    /// Little-endian floats, nothing else.
    F32,
    /// NumPy's `.npy`, version 1.0.
    Npy,
}

impl Format {
    /// The format of that name.
    pub fn parse(name: &str) -> Result<Format, Failure> {
        match name {
            "jsonl" => Ok(Format::Jsonl),
            "f32" => Ok(Format::F32),
            "npy" => Ok(Format::Npy),
            _ => Err(Failure::usage(format!("--format: {name:?} is none of jsonl, f32, npy"), None)),
        }
    }
}

/// Where vectors go to.
pub struct Output<W> {
    format: Format,
    /// What vectors were computed in.
    arithmetic: Arithmetic,
    out: W,
    dim: usize,
    rows: u64,
}

/// Bytes of the head of a `.npy` file: whatever the number of rows, it fits.
const HEAD: usize = 128;

impl<W: Write> Output<W> {
    /// Nothing is written yet.
    pub fn new(format: Format, arithmetic: Arithmetic, out: W) -> Output<W> {
        Output { format, arithmetic, out, dim: 0, rows: 0 }
    }

    /// What stands before the first vector, of `dim` floats.
    pub fn begin(&mut self, dim: usize) -> io::Result<()> {
        self.dim = dim;
        if self.format == Format::Npy { self.out.write_all(&self.head()) } else { Ok(()) }
    }

    /// One vector.
    pub fn put(&mut self, id: &str, vector: &[f32]) -> io::Result<()> {
        self.rows += 1;
        if self.format != Format::Jsonl {
            return vector.iter().try_for_each(|x| self.out.write_all(&x.to_le_bytes()));
        }
        let mut w = Writer::compact();
        w.array(|w| vector.iter().for_each(|&x| w.number(x)));
        let class = |(key, class): (&str, &str)| format!(",\"{key}\":\"{class}\"");
        let classes: String = self.arithmetic.unusual().map(class).collect();
        writeln!(self.out, "{{\"id\":{id},\"embedding\":{}{classes}}}", w.finish())
    }

    /// Lets what was written go on its way: who feeds a batch waits for its vectors.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
    fn head(&self) -> [u8; HEAD] {
        let shape = format!("({}, {})", self.rows, self.dim);
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let mut head = [b' '; HEAD];
        head[..10].copy_from_slice(b"\x93NUMPY\x01\x00\x76\x00"); // 118 bytes follow
        head[10..10 + text.len()].copy_from_slice(text.as_bytes());
        head[HEAD - 1] = b'\n';
        head
    }
}

impl<W: Write + Seek> Output<W> {
    /// After the last vector: the head learns how many there were.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.format == Format::Npy {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&self.head())?;
            self.out.seek(SeekFrom::End(0))?;
        }
        Ok(())
    }
}
