//! Vectors where they lie: in an index, or in the bytes of a file.
//!
//! ```text
//!   0   "sbvector" │ version u32 │ metric u8 │ type u8 │ kept u8 │ 0 u8 │ dim u64 │ count u64 │ length of all u64
//!   40  0 u64 × 2 │ FNV-1a of all before u64
//!   64  squares   count f32, under L2 alone: each row's product with itself            each section starts at a multiple
//!       scales    count f32, of codes alone                                            of 64 and is padded with 0 to one
//!       rows      count × the bytes of a row: floats, halves or codes
//!       kept      count × dim f32 or f16: what is kept beside codes                    all of it little-endian
//!   metric: 0 cosine, 1 dot, 2 L2     type: 0 f32, 1 f16, 2 int8, 3 NF4, 4 binary     kept: 0 nothing, 1 f32, 2 f16
//! ```
//!
//! Codes are padded with 0 to a multiple of 64 bytes a row. NF4 has the first element in the high nibble, bits have it in
//! the highest place.
//!
//! Sections lie at multiples of 64 from the start, so where the start is aligned to 64, as in a mapped file, they are
//! read in place. The length of all must be just what the sections take; nothing else is allocated, and nothing read.

use super::encode::Stored;
use super::form::{Form, Full, Metric, Role, VectorType};
use crate::io::checksum::xxh64;
use crate::kernels::line::numbers;
use crate::kernels::search::{Codes, FloatRows, Which, dots};
use crate::{Cpu, Error, Result};
use std::io::{self, Write};

const MAGIC: &[u8; 8] = b"sbvector";
const VERSION: u32 = 1;
/// Bytes of the header, and what sections are aligned to.
pub(super) const ALIGN: usize = 64;

/// Vectors of one [`Form`], borrowed: row r is vector r.
#[derive(Clone, Copy, Debug)]
pub struct VectorsRef<'a> {
    pub(super) form: Form,
    pub(super) count: usize,
    /// (count) under L2, else nothing.
    pub(super) squares: &'a [f32],
    /// (count) of codes, else nothing.
    pub(super) scales: &'a [f32],
    /// (count, bytes of a row).
    pub(super) rows: &'a [u8],
    /// (count, bytes of what is kept).
    pub(super) full: &'a [u8],
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
        let [squares, scales, rows, full] = sizes(&form, count).map(&mut section);
        let unaligned = || Error::invalid("vectors that do not start at a multiple of 64 bytes");
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN);
        let squares = numbers(squares).filter(|_| aligned).ok_or_else(unaligned)?;
        let scales = numbers(scales).ok_or_else(unaligned)?;
        Ok(VectorsRef { form, count, squares, scales, rows, full })
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
        let [squares, scales, rows, full] = sizes(&self.form, count);
        for (numbers, len) in [(self.squares, squares), (self.scales, scales)] {
            if len > 0 {
                for r in order.clone() {
                    to.write_all(&numbers[r as usize].to_le_bytes())?;
                }
            }
            pad(to, len)?;
        }
        for r in order.clone() {
            to.write_all(row_of(self.rows, r, self.form.row_bytes()))?;
        }
        pad(to, rows)?;
        for r in order {
            to.write_all(row_of(self.full, r, self.form.full_bytes()))?;
        }
        pad(to, full)
    }

    /// Row `r` as it is compared, or what its codes stand for: under cosine a unit vector before it was rounded.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&self, cpu: Cpu, r: u32) -> Vec<f32> {
        let mut out = vec![0.0; self.form.dim];
        self.decode(cpu, r, &mut out);
        out
    }

    fn decode(&self, cpu: Cpu, r: u32, out: &mut [f32]) {
        let bytes = row_of(self.rows, r, self.form.row_bytes());
        let full = row_of(self.full, r, self.form.full_bytes());
        let scale = self.scales.get(r as usize).copied().unwrap_or(0.0);
        Stored { bytes, full, scale }.decode(&self.form, cpu, out);
    }

    /// The memory that a search reads whole, as if it were floats.
    pub(crate) fn scanned(&self) -> &'a [f32] {
        numbers(self.rows).unwrap_or_default()
    }

    pub(super) fn square(&self, r: u32) -> f32 {
        self.squares.get(r as usize).copied().unwrap_or(0.0)
    }

    /// The rows by which scores are computed, where they are floats.
    pub(super) fn floats(&self) -> Option<FloatRows<'a>> {
        match (self.form.kind, self.form.full) {
            (VectorType::F32, _) => numbers(self.rows).map(FloatRows::F32),
            (VectorType::F16, _) => numbers(self.rows).map(FloatRows::F16),
            (_, Full::F32) => numbers(self.full).map(FloatRows::F32),
            (_, Full::F16) => numbers(self.full).map(FloatRows::F16),
            (_, Full::Dropped) => None,
        }
    }

    /// The codes by which rows are found, where there are any.
    pub(super) fn codes(&self) -> Option<Codes<'a>> {
        let code = self.form.kind.code()?;
        Some(Codes { code, k: self.form.dim, rows: self.rows, scales: self.scales })
    }

    /// The products that scores are made of: of one prepared query with some rows.
    pub(super) fn products(&self, cpu: Cpu, query: &[f32], rows: &[u32], out: &mut [f32]) {
        match self.floats() {
            Some(floats) => dots(cpu, floats, Which::At(rows), (query, self.form.dim), out),
            None => {
                let mut decoded = vec![0.0; rows.len() * self.form.dim];
                for (&r, x) in rows.iter().zip(decoded.chunks_exact_mut(self.form.dim)) {
                    self.decode(cpu, r, x);
                }
                let all = Which::From(0, rows.len());
                dots(cpu, FloatRows::F32(&decoded), all, (query, self.form.dim), out);
            }
        }
    }

    /// Queries, one after the other, as they are compared.
    pub(super) fn prepare(&self, cpu: Cpu, queries: &[f32]) -> Result<Vec<f32>> {
        self.form.prepare(cpu, queries, queries.len() / self.form.dim, Role::Query)
    }
}

fn row_of(rows: &[u8], r: u32, width: usize) -> &[u8] {
    &rows[r as usize * width..][..width]
}

/// Bytes of the four sections.
fn sizes(form: &Form, count: usize) -> [usize; 4] {
    let floats = |there: bool| if there { 4 * count } else { 0 };
    let rows = [form.row_bytes() * count, form.full_bytes() * count];
    [floats(form.has_squares()), floats(form.has_scales()), rows[0], rows[1]]
}

pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

fn pad(to: &mut impl Write, len: usize) -> io::Result<()> {
    to.write_all(&[0; ALIGN][..padded(len) - len])
}

/// Bytes in all; `None` past the address space.
fn written_len(form: &Form, count: usize) -> Option<usize> {
    // An upper bound that cannot overflow first: then the sum itself cannot.
    let row = form.row_bytes() + form.full_bytes() + 8;
    row.checked_mul(count)?.checked_add(5 * ALIGN)?;
    Some(ALIGN + sizes(form, count).map(padded).iter().sum::<usize>())
}

fn header(form: &Form, count: usize, all: usize) -> [u8; ALIGN] {
    let mut header = [0; ALIGN];
    let place = |of: usize| u8::try_from(of).unwrap_or(u8::MAX);
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12] = place(Metric::ALL.iter().position(|m| *m == form.metric).unwrap_or(usize::MAX));
    header[13] = place(VectorType::ALL.iter().position(|t| *t == form.kind).unwrap_or(usize::MAX));
    header[14] = place(Full::ALL.iter().position(|f| *f == form.full).unwrap_or(usize::MAX));
    for (at, number) in [(16, form.dim), (24, count), (32, all)] {
        header[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    let sum = xxh64(&header[..SUM]);
    header[SUM..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Where the header's checksum is.
const SUM: usize = 56;

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
    if number(SUM) != xxh64(&header[..SUM]) {
        return Err(Error::malformed(SUM as u64, "the checksum of the header is another: it was changed"));
    }
    let unknown =
        |at: usize, what| move || Error::malformed(at as u64, format!("{what} {} is not known", header[at]));
    let metric = *Metric::ALL.get(usize::from(header[12])).ok_or_else(unknown(12, "metric"))?;
    let kind = *VectorType::ALL.get(usize::from(header[13])).ok_or_else(unknown(13, "vector type"))?;
    let full = *Full::ALL.get(usize::from(header[14])).ok_or_else(unknown(14, "what is kept,"))?;
    if kind.code().is_none() && full != Full::Dropped {
        return Err(Error::malformed(14, "something is kept beside codes, and there are none"));
    }
    if let Some(at) = (15..16).chain(40..SUM).find(|&at| header[at] != 0) {
        return Err(Error::malformed(at as u64, format!("{}, expected 0", header[at])));
    }
    let size = |at: usize| usize::try_from(number(at)).unwrap_or(usize::MAX);
    let form = Form::new(size(16), metric)?.stored(kind, full);
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
