//! Writing: the layout of the reference implementation, byte for byte.

use super::{Dtype, TensorView, header};
use crate::io::json::{Excerpt, Writer};
use crate::tensor::Shape;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A tensor of a file to be written, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub dtype: Dtype,
    /// The extent of each axis, outermost first.
    pub shape: &'a [usize],
}

impl<'a> TensorInfo<'a> {
    /// All but the bytes of a tensor.
    pub const fn of(t: &TensorView<'a>) -> TensorInfo<'a> {
        TensorInfo { name: t.name, dtype: t.dtype, shape: t.shape }
    }
}

/// A file in memory. See [`write()`].
///
/// # Errors
/// As [`write()`], without the file system's.
pub fn to_bytes(tensors: &[TensorView<'_>], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let (head, ordered) = prepare_views(tensors, metadata)?;
    let mut out = Vec::with_capacity(head.len() + ordered.iter().map(|t| t.bytes.len()).sum::<usize>());
    out.extend_from_slice(&head);
    ordered.iter().for_each(|t| out.extend_from_slice(t.bytes));
    Ok(out)
}

/// Writes a file, whole or not at all (see [`crate::io::atomic`]).
///
/// The order is the reference implementation's: element types from the widest to the narrowest, names
/// ascending within one; so the same tensors give the same bytes, in whatever order they come. Metadata
/// pairs are sorted by key.
///
/// # Errors
/// [`Error::Malformed`] for a duplicate or reserved name or key, or bytes that do not fit dtype and shape;
/// [`Error::Io`] with what the system refused.
#[cfg(feature = "std")]
pub fn write(path: &std::path::Path, tensors: &[TensorView<'_>], metadata: &[(&str, &str)]) -> Result<()> {
    let (head, ordered) = prepare_views(tensors, metadata).map_err(|e| e.in_file(path.display()))?;
    crate::io::atomic::write(path, |out| {
        out.write_all(&head)?;
        ordered.iter().try_for_each(|t| out.write_all(t.bytes))
    })
}

/// [`write()`] for tensors that are made one after the other: `bytes` is asked for those of `tensors[i]`, in the order
/// of the file, so that no more than one has to be in memory.
///
/// # Errors
/// As [`write()`]; whatever `bytes` fails with; [`Error::Malformed`] where it gives more or fewer bytes than type and
/// shape need.
#[cfg(feature = "std")]
pub fn write_each(
    path: &std::path::Path,
    tensors: &[TensorInfo<'_>],
    metadata: &[(&str, &str)],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let (head, order) = prepare(tensors, metadata).map_err(|e| e.in_file(path.display()))?;
    crate::io::atomic::try_write(path, |put| {
        put(&head)?;
        order.iter().try_for_each(|&i| {
            let bytes = bytes(i)?;
            fits(&tensors[i], bytes.len())?;
            put(&bytes)
        })
    })
}

/// [`prepare`] for tensors whose bytes are there.
fn prepare_views<'a>(
    tensors: &[TensorView<'a>],
    metadata: &[(&str, &str)],
) -> Result<(Vec<u8>, Vec<TensorView<'a>>)> {
    let infos: Vec<TensorInfo<'_>> = tensors.iter().map(TensorInfo::of).collect();
    infos.iter().zip(tensors).try_for_each(|(info, t)| fits(info, t.bytes.len()))?;
    let (head, order) = prepare(&infos, metadata)?;
    Ok((head, order.into_iter().map(|i| tensors[i]).collect()))
}

/// Length and header, padded so that the data start at a multiple of 8; and the order of the tensors.
fn prepare(tensors: &[TensorInfo<'_>], metadata: &[(&str, &str)]) -> Result<(Vec<u8>, Vec<usize>)> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&tensors[a], &tensors[b]);
        b.dtype.cmp(&a.dtype).then(a.name.cmp(b.name))
    });
    let mut pairs = metadata.to_vec();
    pairs.sort();
    check_names(tensors, &pairs)?;

    let mut w = Writer::compact();
    let mut start = 0usize;
    let mut all = Ok(());
    w.object(|w| {
        if !pairs.is_empty() {
            w.key("__metadata__").object(|w| pairs.iter().for_each(|(k, v)| w.key(k).string(v)));
        }
        all = order.iter().try_for_each(|&i| {
            let t = &tensors[i];
            let end = start.checked_add(size(t)?);
            let end = end.ok_or_else(|| Error::invalid("tensors larger than the address space"))?;
            w.key(t.name).object(|w| entry(w, t, [start, end]));
            start = end;
            Ok(())
        });
    });
    all?;
    Ok((frame(w.finish())?, order))
}

fn entry(w: &mut Writer, t: &TensorInfo<'_>, offsets: [usize; 2]) {
    w.key("dtype").string(t.dtype.name());
    w.key("shape").array(|w| t.shape.iter().for_each(|&n| w.number(n)));
    w.key("data_offsets").array(|w| offsets.iter().for_each(|&at| w.number(at)));
}

/// Puts the length before the header and the padding behind it.
fn frame(text: String) -> Result<Vec<u8>> {
    let len = text.len().next_multiple_of(8);
    if len as u64 > header::MAX_HEADER {
        return Err(Error::invalid(format!("a header of {len} bytes, at most {} fit", header::MAX_HEADER)));
    }
    let mut head = Vec::with_capacity(8 + len);
    head.extend_from_slice(&(len as u64).to_le_bytes());
    head.extend_from_slice(text.as_bytes());
    head.resize(8 + len, b' ');
    Ok(head)
}

fn check_names(tensors: &[TensorInfo<'_>], metadata: &[(&str, &str)]) -> Result<()> {
    let mut names: Vec<&str> = tensors.iter().map(|t| t.name).collect();
    names.sort_unstable();
    let keys = metadata.iter().map(|p| p.0);
    let twice = names.windows(2).find(|w| w[0] == w[1]).map(|w| w[0]);
    let twice = twice.or_else(|| keys.clone().zip(keys.skip(1)).find(|(a, b)| a == b).map(|(a, _)| a));
    if let Some(name) = twice {
        return Err(Error::invalid(format!("duplicate name {}", Excerpt(name))));
    }
    if names.binary_search(&"__metadata__").is_ok() {
        return Err(Error::invalid("a tensor cannot be named \"__metadata__\""));
    }
    Ok(())
}

/// The bytes of a tensor; none where they are no whole number that fits the address space.
fn bytes_of(t: &TensorInfo<'_>) -> Result<Option<usize>> {
    let bits = Shape::new(t.shape)?.elements().checked_mul(t.dtype.bits());
    Ok(bits.filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8))
}

fn size(t: &TensorInfo<'_>) -> Result<usize> {
    bytes_of(t)?.ok_or_else(|| Error::TooLarge { shape: t.shape.to_vec() })
}

fn fits(t: &TensorInfo<'_>, have: usize) -> Result<()> {
    if bytes_of(t)? == Some(have) {
        return Ok(());
    }
    let (name, dtype, shape) = (Excerpt(t.name), t.dtype, crate::error::Shape(t.shape));
    Err(Error::invalid(format!("tensor {name}: {have} bytes do not make {dtype} of shape {shape}")))
}
