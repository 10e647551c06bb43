//! Vectors where they lie: in an index, or in the bytes of a file.
//!
//! ```text
//!   0   "sbvector" │ version u32 │ metric u8 │ type u8 │ 0 u16 │ dim u64 │ count u64 │ length of all u64 │ 0 …   64 bytes
//!   64  squares   count f32, under L2 alone: each row's product with itself                                 each section
//!       rows      count × the bytes of a row                                                                padded with 0
//!   metric: 0 cosine, 1 dot, 2 L2     type: 0 f32                       little-endian         to a multiple of 64 bytes
//! ```
//!
//! Sections lie at multiples of 64 from the start, so where the start is aligned to 64, as in a mapped file, they are
//! read in place. The length of all must be just what the sections take; nothing else is allocated, and nothing read.

use super::form::{Form, Metric, Role, VectorType};
use crate::kernels::line::numbers;
use crate::{Cpu, Error, Result};
use std::io::{self, Write};

const MAGIC: &[u8; 8] = b"sbvector";
const VERSION: u32 = 1;
/// Bytes of the header, and what sections are aligned to.
const ALIGN: usize = 64;

/// Vectors of one [`Form`], borrowed: row r is vector r.
#[derive(Clone, Copy, Debug)]
pub struct VectorsRef<'a> {
    pub(super) form: Form,
    pub(super) count: usize,
    /// (count) under L2, else nothing.
    pub(super) squares: &'a [f32],
    /// (count, bytes of a row).
    pub(super) rows: &'a [u8],
}

impl<'a> VectorsRef<'a> {
    /// The vectors in `bytes`, which must start at a multiple of 64.
    ///
    /// # Errors
    /// Where they are no vectors, of a version that is not known, or not as long as they say.
    pub fn parse(bytes: &'a [u8]) -> Result<VectorsRef<'a>> {
        let (form, count) = parse_header(bytes)?;
        let mut at = ALIGN;
        let mut section = |len: usize| {
            let start = at;
            at += padded(len);
            &bytes[start..start + len]
        };
        let squares = section(form.squares_bytes(count));
        let rows = section(form.row_bytes() * count);
        let unaligned = || Error::invalid("vectors that do not start at a multiple of 64 bytes");
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN);
        let squares = numbers(squares).filter(|_| aligned).ok_or_else(unaligned)?;
        Ok(VectorsRef { form, count, squares, rows })
    }

    /// What they are.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that [`VectorsRef::write`] writes.
    pub fn written_len(&self) -> usize {
        written_len(&self.form, self.count).unwrap_or(usize::MAX)
    }

    /// Writes them as [`VectorsRef::parse`] reads them, row `order[i]` in place i.
    ///
    /// # Errors
    /// What `to` says.
    ///
    /// # Panics
    /// Where `order` names a row that is not there.
    pub fn write(&self, order: impl Iterator<Item = u32> + Clone, to: &mut impl Write) -> io::Result<()> {
        let count = order.clone().count();
        let all = written_len(&self.form, count).ok_or(io::ErrorKind::OutOfMemory)?;
        to.write_all(&header(&self.form, count, all))?;
        if self.form.has_squares() {
            for r in order.clone() {
                to.write_all(&self.squares[r as usize].to_le_bytes())?;
            }
        }
        pad(to, self.form.squares_bytes(count))?;
        for r in order {
            to.write_all(self.row_bytes(r))?;
        }
        pad(to, self.form.row_bytes() * count)
    }

    fn row_bytes(&self, r: u32) -> &'a [u8] {
        let width = self.form.row_bytes();
        &self.rows[r as usize * width..][..width]
    }

    /// The floats of all rows.
    pub(super) fn floats(&self) -> &'a [f32] {
        numbers(self.rows).expect("sections are aligned")
    }

    /// Row `r` as it is compared: under cosine a unit vector.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&self, r: u32) -> Vec<f32> {
        self.floats()[r as usize * self.form.dim..][..self.form.dim].to_vec()
    }

    /// Queries, one after the other, as they are compared.
    pub(super) fn prepare(&self, cpu: Cpu, queries: &[f32]) -> Result<Vec<f32>> {
        self.form.prepare(cpu, queries, queries.len() / self.form.dim, Role::Query)
    }
}

impl Form {
    fn squares_bytes(&self, count: usize) -> usize {
        if self.has_squares() { 4 * count } else { 0 }
    }
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

fn pad(to: &mut impl Write, len: usize) -> io::Result<()> {
    to.write_all(&[0; ALIGN][..padded(len) - len])
}

/// Bytes in all; `None` past the address space.
fn written_len(form: &Form, count: usize) -> Option<usize> {
    // An upper bound that cannot overflow first: then the sum itself cannot.
    let row = form.row_bytes().checked_add(4)?.checked_add(2 * ALIGN)?;
    row.checked_mul(count)?.checked_add(4 * ALIGN)?;
    Some(ALIGN + padded(form.squares_bytes(count)) + padded(form.row_bytes() * count))
}

fn header(form: &Form, count: usize, all: usize) -> [u8; ALIGN] {
    let mut header = [0; ALIGN];
    let place = |of: usize| u8::try_from(of).unwrap_or(u8::MAX);
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12] = place(Metric::ALL.iter().position(|m| *m == form.metric).unwrap_or(usize::MAX));
    header[13] = place(VectorType::ALL.iter().position(|t| *t == form.kind).unwrap_or(usize::MAX));
    for (at, number) in [(16, form.dim), (24, count), (32, all)] {
        header[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    header
}

/// What the vectors are and how many, where all sections lie inside `bytes`.
fn parse_header(bytes: &[u8]) -> Result<(Form, usize)> {
    let short = || Error::malformed(0, format!("{} bytes, vectors begin with {ALIGN}", bytes.len()));
    let header: &[u8; ALIGN] = bytes.first_chunk().ok_or_else(short)?;
    if header[..8] != MAGIC[..] {
        return Err(Error::malformed(0, "expected \"sbvector\""));
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let version = number(8) as u32;
    if version != VERSION {
        return Err(Error::malformed(8, format!("vectors of version {version}, {VERSION} is known")));
    }
    let unknown =
        |at: usize, what| move || Error::malformed(at as u64, format!("{what} {} is not known", header[at]));
    let metric = *Metric::ALL.get(usize::from(header[12])).ok_or_else(unknown(12, "metric"))?;
    let kind = *VectorType::ALL.get(usize::from(header[13])).ok_or_else(unknown(13, "vector type"))?;
    if let Some(at) = (14..16).chain(40..ALIGN).find(|&at| header[at] != 0) {
        return Err(Error::malformed(at as u64, format!("{}, expected 0", header[at])));
    }
    let size = |at: usize| usize::try_from(number(at)).unwrap_or(usize::MAX);
    let form = Form { kind, ..Form::new(size(16), metric)? };
    let (count, all) = (size(24), size(32));
    if count as u64 > u64::from(u32::MAX) {
        return Err(Error::malformed(24, format!("{count} vectors, at most 2^32 - 1")));
    }
    if written_len(&form, count) != Some(all) || all != bytes.len() {
        let what = format!("{count} vectors of {} elements in {} bytes, {all} stated", form.dim, bytes.len());
        return Err(Error::malformed(32, what));
    }
    Ok((form, count))
}
