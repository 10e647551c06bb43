//! Writing version 3.

use super::header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_ALIGNMENT, MAX_RANK, size};
use super::value::Length;
use super::{GgmlType, TensorView, Value, ValueType};
use crate::io::json::Excerpt;
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// Bytes of a tensor's name, at most: ggml keeps 64 with the NUL behind it.
const MAX_NAME: usize = 63;

/// Elements of an array for [`write()`]; see [`super::Array`].
pub struct ArrayBuf {
    kind: ValueType,
    len: usize,
    bytes: Vec<u8>,
}

impl ArrayBuf {
    /// Strings.
    pub fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> ArrayBuf {
        let mut array = ArrayBuf { kind: ValueType::String, len: 0, bytes: Vec::new() };
        for text in texts {
            put_string(&mut array.bytes, text);
            array.len += 1;
        }
        array
    }

    /// Floats.
    pub fn f32s(numbers: &[f32]) -> ArrayBuf {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        ArrayBuf { kind: ValueType::F32, len: numbers.len(), bytes }
    }

    /// Whole numbers.
    pub fn i32s(numbers: &[i32]) -> ArrayBuf {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        ArrayBuf { kind: ValueType::I32, len: numbers.len(), bytes }
    }

    /// Bytes.
    pub fn u8s(bytes: &[u8]) -> ArrayBuf {
        ArrayBuf { kind: ValueType::U8, len: bytes.len(), bytes: bytes.into() }
    }

    /// The array as a value.
    pub fn value(&self) -> Value<'_> {
        Value::Array(super::Array::new(self.kind, self.len, Length::Long, &self.bytes))
    }
}

/// A tensor of a file to be written, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub kind: GgmlType,
    /// The extent of each axis, outermost first.
    pub shape: &'a [usize],
}

impl<'a> TensorInfo<'a> {
    const fn of(t: &TensorView<'a>) -> TensorInfo<'a> {
        TensorInfo { name: t.name, kind: t.kind, shape: t.shape }
    }
}

/// A file in memory. See [`write()`].
///
/// # Errors
/// As [`write()`], without the file system's.
pub fn to_bytes(metadata: &[(&str, Value<'_>)], tensors: &[TensorView<'_>]) -> Result<Vec<u8>> {
    let (mut out, alignment) = prepare_views(metadata, tensors)?;
    for t in tensors {
        out.extend_from_slice(t.bytes);
        out.resize(out.len().next_multiple_of(alignment), 0);
    }
    Ok(out)
}

/// Writes a file of version 3, whole or not at all (see [`crate::io::atomic`]): metadata and tensors in the
/// order given, data aligned to 32 bytes or to what `general.alignment` among the metadata says.
///
/// # Errors
/// [`Error::Malformed`] for a duplicate, empty or too long key or name, or bytes that do not fit type and
/// shape; [`Error::Io`] with what the system refused.
#[cfg(feature = "std")]
pub fn write(
    path: &std::path::Path,
    metadata: &[(&str, Value<'_>)],
    tensors: &[TensorView<'_>],
) -> Result<()> {
    let (head, alignment) = prepare_views(metadata, tensors).map_err(|e| e.in_file(path.display()))?;
    crate::io::atomic::write(path, |out| {
        out.write_all(&head)?;
        let zeros = alloc::vec![0; alignment];
        tensors.iter().try_for_each(|t| {
            out.write_all(t.bytes)?;
            out.write_all(&zeros[..padding(t.bytes.len(), alignment)])
        })
    })
}

/// [`write()`] for tensors that are made one after the other: `bytes` is asked for those of each in order, so that no
/// more than one has to be in memory.
///
/// ```
/// use samebits::io::gguf::{self, GgmlType, Gguf, MAX_RANK, TensorInfo, TensorView};
/// use samebits::io::bytes::Access;
/// let path = std::env::temp_dir().join(format!("samebits-each-{}.gguf", std::process::id()));
/// let info = |name| TensorInfo { name, kind: GgmlType::F32, shape: &[2] };
/// // The second tensor is made when the first is written.
/// gguf::write_each(&path, &[], &[info("a"), info("b")], |i| Ok([[0; 8], [1; 8]][i].to_vec()))?;
/// assert_eq!(Gguf::open(&path, Access::Read)?.tensor("b")?.bytes, [1; 8]);
/// let wide = TensorView { name: "w", kind: GgmlType::F32, shape: &[1; MAX_RANK + 1], bytes: &[0; 4] };
/// assert!(gguf::write(&path, &[], &[wide]).is_err()); // the file stays as it was
/// assert_eq!(Gguf::open(&path, Access::Read)?.len(), 2);
/// std::fs::remove_file(&path).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// As [`write()`]; whatever `bytes` fails with; [`Error::Malformed`] where it gives more or fewer bytes than type and
/// shape need.
#[cfg(feature = "std")]
pub fn write_each(
    path: &std::path::Path,
    metadata: &[(&str, Value<'_>)],
    tensors: &[TensorInfo<'_>],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let (head, alignment) = prepare(metadata, tensors).map_err(|e| e.in_file(path.display()))?;
    crate::io::atomic::try_write(path, |put| {
        put(&head)?;
        let zeros = alloc::vec![0; alignment];
        tensors.iter().enumerate().try_for_each(|(i, t)| {
            let bytes = bytes(i)?;
            fits(t, bytes.len())?;
            put(&bytes)?;
            put(&zeros[..padding(bytes.len(), alignment)])
        })
    })
}

#[cfg(feature = "std")]
fn padding(len: usize, alignment: usize) -> usize {
    len.next_multiple_of(alignment) - len
}

/// [`prepare`] for tensors whose bytes are there.
fn prepare_views(metadata: &[(&str, Value<'_>)], tensors: &[TensorView<'_>]) -> Result<(Vec<u8>, usize)> {
    let infos: Vec<TensorInfo<'_>> = tensors.iter().map(TensorInfo::of).collect();
    let prepared = prepare(metadata, &infos)?;
    infos.iter().zip(tensors).try_for_each(|(info, t)| fits(info, t.bytes.len()))?;
    Ok(prepared)
}

/// All that stands before the data, padded; and what the data are aligned to.
fn prepare(metadata: &[(&str, Value<'_>)], tensors: &[TensorInfo<'_>]) -> Result<(Vec<u8>, usize)> {
    unique("metadata key", metadata.iter().map(|pair| pair.0))?;
    unique("tensor", tensors.iter().map(|t| t.name))?;
    let alignment = alignment(metadata)?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for &(key, value) in metadata {
        if key.is_empty() || key.len() > usize::from(u16::MAX) {
            return Err(Error::invalid(format!("a metadata key of {} bytes", key.len())));
        }
        put_string(&mut out, key);
        out.extend_from_slice(&(value.kind() as u32).to_le_bytes());
        put_value(&mut out, value);
    }
    let mut offset = 0usize;
    for t in tensors {
        let bytes = check(t)?;
        put_string(&mut out, t.name);
        out.extend_from_slice(&(t.shape.len() as u32).to_le_bytes());
        for &extent in t.shape.iter().rev() {
            out.extend_from_slice(&(extent as u64).to_le_bytes());
        }
        out.extend_from_slice(&t.kind.number().to_le_bytes());
        out.extend_from_slice(&(offset as u64).to_le_bytes());
        let next = bytes.checked_next_multiple_of(alignment).and_then(|bytes| offset.checked_add(bytes));
        offset = next.ok_or_else(|| Error::invalid("tensors larger than the address space"))?;
    }
    out.resize(out.len().next_multiple_of(alignment), 0);
    Ok((out, alignment))
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|w| w[0] == w[1]) {
        Some(w) => Err(Error::invalid(format!("duplicate {what} {}", Excerpt(w[0])))),
        None => Ok(()),
    }
}

fn alignment(metadata: &[(&str, Value<'_>)]) -> Result<usize> {
    match metadata.iter().find(|pair| pair.0 == ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT as usize),
        Some((_, Value::U32(n))) if n.is_power_of_two() && *n <= MAX_ALIGNMENT => Ok(*n as usize),
        Some(_) => Err(Error::invalid(format!("{ALIGNMENT_KEY} must be a u32 and a power of two"))),
    }
}

/// The bytes that a tensor takes.
fn check(t: &TensorInfo<'_>) -> Result<usize> {
    let shown = Excerpt(t.name);
    if t.name.len() > MAX_NAME {
        let len = t.name.len();
        return Err(Error::invalid(format!("tensor {shown}: a name of {len} bytes, at most {MAX_NAME}")));
    }
    if t.shape.len() > MAX_RANK {
        let rank = t.shape.len();
        return Err(Error::invalid(format!(
            "tensor {shown} has {rank} axes, at most {MAX_RANK} are allowed"
        )));
    }
    size(t.kind, t.shape).map_err(|e| Error::invalid(format!("tensor {shown}: {e}")))
}

fn fits(t: &TensorInfo<'_>, have: usize) -> Result<()> {
    if check(t)? == have {
        return Ok(());
    }
    let (shown, kind, shape) = (Excerpt(t.name), t.kind, crate::error::Shape(t.shape));
    Err(Error::invalid(format!("tensor {shown}: {have} bytes do not make {kind} of shape {shape}")))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::U8(x) => out.push(x),
        Value::I8(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::U16(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I16(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::U32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::F32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::Bool(x) => out.push(x.into()),
        Value::String(text) => put_string(out, text),
        Value::U64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::F64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::Array(array) => {
            out.extend_from_slice(&(array.kind() as u32).to_le_bytes());
            out.extend_from_slice(&(array.len() as u64).to_le_bytes());
            match array.kind() {
                // One by one, for in version 1 their lengths are short.
                ValueType::String => array.iter().for_each(|text| put_value(out, text)),
                _ => out.extend_from_slice(array.bytes()),
            }
        }
    }
}
