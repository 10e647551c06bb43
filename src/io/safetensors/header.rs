//! The header: which tensors a file holds and where, with every rule of the format checked.

use super::Dtype;
use crate::io::json::{self, Excerpt, Kind, Value};
use crate::io::kind::other_kind;
use crate::tensor::{MAX_RANK, Shape};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

/// Headers may have this many bytes, by the format's own limit.
///
/// ```
/// use samebits::io::safetensors::{MAX_HEADER, SafeTensors};
/// let file = (MAX_HEADER + 1).to_le_bytes(); // a header that is longer than the file, and than any may be
/// assert!(SafeTensors::from_bytes(&file).is_err());
/// ```
pub const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the length that precedes the header.
pub(super) const LENGTH_BYTES: u64 = 8;

/// A tensor of a file.
pub(super) struct Entry {
    pub name: Box<str>,
    pub dtype: Dtype,
    pub shape: Shape,
    /// Its bytes, counted from the end of the header.
    pub bytes: Range<usize>,
}

/// What a header says.
pub(super) struct Header {
    /// Sorted by name.
    pub entries: Vec<Entry>,
    /// `__metadata__` as it stands in the file, or `{}`; pairs would take more memory than the text.
    metadata: Box<str>,
}

/// The length of the header of a file of `file_len` bytes that begins with `start` (64 bytes suffice).
pub(super) fn header_len(start: &[u8], file_len: u64) -> Result<usize> {
    // The beginnings of other kinds of files, read as a length, are past any limit.
    length_field(start, file_len).map_err(|e| other_kind(start, "a safetensors file").unwrap_or(e))
}

fn length_field(start: &[u8], file_len: u64) -> Result<usize> {
    let Some(first) = start.first_chunk() else {
        let what = format!("a file of {file_len} bytes, shorter than the {LENGTH_BYTES} of a header length");
        return Err(Error::invalid(what));
    };
    let len = u64::from_le_bytes(*first);
    if len > MAX_HEADER {
        return Err(Error::malformed(
            0,
            format!("the header has {len} bytes, at most {MAX_HEADER} are allowed"),
        ));
    }
    let rest = file_len - LENGTH_BYTES;
    if len > rest {
        return Err(Error::malformed(0, format!("the header has {len} bytes, but only {rest} follow")));
    }
    Ok(len as usize)
}

impl Header {
    /// The pairs of `__metadata__`, in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let pairs = json::parse(self.metadata.as_bytes()).ok().and_then(Value::entries).into_iter().flatten();
        pairs.filter_map(|(key, text)| Some((key, text.as_str()?)))
    }

    /// Reads the header `text` of a file with `data_len` bytes behind it. Offsets in errors count from the
    /// start of the file.
    pub fn parse(text: &[u8], data_len: usize) -> Result<Header> {
        Header::parse_text(text, data_len).map_err(|e| match e {
            Error::Malformed { file, offset: Some(at), what } => {
                Error::Malformed { file, offset: Some(at + LENGTH_BYTES), what }
            }
            other => other,
        })
    }

    fn parse_text(text: &[u8], data_len: usize) -> Result<Header> {
        if text.first() != Some(&b'{') {
            return Err(Error::malformed(0, "the header must begin with '{'"));
        }
        let root = json::parse(text)?;
        let end = root.source().len();
        if let Some(at) = text[end..].iter().position(|&b| b != b' ') {
            return Err(Error::malformed((end + at) as u64, "the header may be padded with spaces only"));
        }
        let fields = || root.entries().into_iter().flatten();
        // Counted first, so that nothing is reserved but what is needed.
        let mut header = Header { entries: Vec::with_capacity(fields().count()), metadata: "{}".into() };
        for (name, value) in fields() {
            if name == "__metadata__" {
                check_metadata(value)?;
                header.metadata = value.source().into();
            } else {
                header.entries.push(entry(&name, value, data_len)?);
            }
        }
        header.entries.sort_unstable_by_key(|e| (e.bytes.start, e.bytes.end));
        contiguous(&header.entries, data_len)?;
        header.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(header)
    }
}

/// `{"format": "pt", …}`: strings alone.
fn check_metadata(value: Value<'_>) -> Result<()> {
    let pairs = value.entries().ok_or_else(|| value.expected("an object of strings for __metadata__"))?;
    match pairs.map(|(_, text)| text).find(|text| text.kind() != Kind::String) {
        Some(other) => Err(other.expected("a string in __metadata__")),
        None => Ok(()),
    }
}

/// `{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}`, nothing less and nothing more.
fn entry(name: &str, value: Value<'_>, data_len: usize) -> Result<Entry> {
    let shown = Excerpt(name);
    let at = value.offset() as u64;
    let fields = value.entries().ok_or_else(|| value.expected(&format!("an object for tensor {shown}")))?;
    let (mut dtype, mut shape, mut bytes) = (None, None, None);
    for (key, value) in fields {
        match &*key {
            "dtype" => dtype = Some(dtype_of(value)?),
            "shape" => shape = Some(shape_of(value)?),
            "data_offsets" => bytes = Some(offsets(name, value, data_len)?),
            _ => return Err(Error::malformed(at, format!("tensor {shown}: unknown key {}", Excerpt(&key)))),
        }
    }
    let missing = |key| Error::malformed(at, format!("tensor {shown}: no {key}"));
    let dtype = dtype.ok_or_else(|| missing("dtype"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let bytes = bytes.ok_or_else(|| missing("data_offsets"))?;
    let bits = shape.elements() as u128 * dtype.bits() as u128;
    if !bits.is_multiple_of(8) {
        let what = format!("tensor {shown}: {dtype} of shape {shape} does not fill whole bytes");
        return Err(Error::malformed(at, what));
    }
    let (need, have) = (bits / 8, bytes.len());
    if need != have as u128 {
        let what =
            format!("tensor {shown}: {dtype} of shape {shape} takes {need} bytes, data_offsets give {have}");
        return Err(Error::malformed(at, what));
    }
    Ok(Entry { name: name.into(), dtype, shape, bytes })
}

fn dtype_of(value: Value<'_>) -> Result<Dtype> {
    let name = value.as_str().ok_or_else(|| value.expected("a string for dtype"))?;
    Dtype::from_name(&name)
        .ok_or_else(|| Error::malformed(value.offset() as u64, format!("unknown dtype {}", Excerpt(&name))))
}

fn shape_of(value: Value<'_>) -> Result<Shape> {
    let extents = value.elements().ok_or_else(|| value.expected("an array for shape"))?;
    let (mut dims, mut rank) = ([0; MAX_RANK], 0);
    for extent in extents {
        if rank == MAX_RANK {
            let what = format!("a shape of more than {MAX_RANK} axes");
            return Err(Error::malformed(value.offset() as u64, what));
        }
        dims[rank] = whole(extent)?;
        rank += 1;
    }
    Shape::new(&dims[..rank]).map_err(|e| Error::malformed(value.offset() as u64, format!("{e}")))
}

fn offsets(name: &str, value: Value<'_>, data_len: usize) -> Result<Range<usize>> {
    let mut both = value.elements().ok_or_else(|| value.expected("an array for data_offsets"))?;
    let (Some(start), Some(end), None) = (both.next(), both.next(), both.next()) else {
        return Err(Error::malformed(value.offset() as u64, "data_offsets must be two numbers"));
    };
    let (start, end) = (whole(start)?, whole(end)?);
    if start > end || end > data_len {
        let name = Excerpt(name);
        let what = format!("tensor {name}: data_offsets {start}..{end} leave the {data_len} bytes of data");
        return Err(Error::malformed(value.offset() as u64, what));
    }
    Ok(start..end)
}

/// A number of bytes or elements.
fn whole(value: Value<'_>) -> Result<usize> {
    value.as_usize().ok_or_else(|| {
        let what =
            format!("expected a whole number from 0 to {}, found {}", usize::MAX, Excerpt(value.source()));
        Error::malformed(value.offset() as u64, what)
    })
}

/// The tensors, by offset, must follow each other from the first byte of data to the last: a hole could hide
/// another file, an overlap could make a small file pass for terabytes.
fn contiguous(entries: &[Entry], data_len: usize) -> Result<()> {
    let mut end = 0;
    for e in entries {
        let (name, Range { start, .. }) = (Excerpt(&e.name), &e.bytes);
        if *start > end {
            return Err(Error::invalid(format!("a hole of {} bytes before tensor {name}", start - end)));
        }
        if *start < end {
            return Err(Error::invalid(format!(
                "tensor {name} overlaps the one before it by {} bytes",
                end - start
            )));
        }
        end = e.bytes.end;
    }
    if end != data_len {
        return Err(Error::invalid(format!("{} bytes of data belong to no tensor", data_len - end)));
    }
    Ok(())
}
