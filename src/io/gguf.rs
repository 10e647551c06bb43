//! GGUF: metadata and tensors of ggml's models in one file.
//!
//! ```text
//!   "GGUF"  version  tensors  pairs         u32, u64, u64; little-endian
//!   pairs   key, type, value                numbers, strings, arrays of them; a vocabulary stands here too
//!   tensors name, ne₀ … (innermost first), type, offset
//!   padding to a multiple of general.alignment (32 where it is not said)
//!   data    each tensor at a multiple of the alignment
//! ```
//!
//! Versions 2 and 3 are the same but for big-endian files, which are not read; in version 1 lengths, counts and
//! extents have four bytes. Version 3 is written.
//!
//! Files are untrusted. Lengths and counts are compared with what is left of the file before anything is
//! reserved, products and sums cannot overflow, keys and names stand once, data are inside the file, aligned and
//! nowhere shared, arrays are not nested, a bool is 0 or 1, and strings are UTF-8. Reading takes at most the file
//! once more and four times its header.
//!
//! Shapes are given as everywhere here, outermost first: ggml's `ne` reversed. A weight of `out` features of
//! `in` inputs has shape (out, in), and its blocks run along a row.
//!
//! ```
//! use samebits::io::gguf::{self, GgmlType, Gguf, TensorView, Value};
//! let w = TensorView { name: "w", kind: GgmlType::F32, shape: &[2, 3], bytes: &[0; 24] };
//! let file = gguf::to_bytes(&[("general.architecture", Value::String("llama"))], &[w])?;
//! let file = Gguf::from_bytes(&file)?;
//! assert_eq!(file.entry("general.architecture")?.str()?, "llama");
//! assert_eq!(file.tensor("w")?.shape, [2, 3]);
//! # Ok::<(), samebits::Error>(())
//! ```
//!
//! Reference: github.com/ggml-org/ggml, `docs/gguf.md`, `src/gguf.cpp`.

mod decode;
mod ggml_type;
mod header;
mod value;
mod write;

pub use ggml_type::GgmlType;
pub use header::MAX_RANK;
pub use value::{Array, Elements, Entry, Value, ValueType};
pub use write::{ArrayBuf, TensorInfo, to_bytes};
#[cfg(feature = "std")]
pub use write::{write, write_each};

use crate::io::nearest::no_tensor;
use crate::tensor::{self, Buffer, Shape, Tensor};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use header::Header;

#[cfg(target_endian = "big")]
compile_error!("GGUF data is little-endian and is used in place");

/// A tensor of a file: its bytes as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub kind: GgmlType,
    /// The extent of each axis, outermost first; blocks run along the last.
    pub shape: &'a [usize],
    /// Its elements or blocks, row by row.
    pub bytes: &'a [u8],
}

/// A file, whole in memory or mapped.
pub struct Gguf {
    /// Where it came from, for errors; empty if not from a file.
    name: String,
    /// The bytes of the header: our own, so that they stay as they were checked.
    text: Box<[u8]>,
    header: Header,
    data: Arc<Buffer>,
}

impl Gguf {
    /// Reads a file from memory.
    ///
    /// # Errors
    /// Where a rule of the format is broken.
    pub fn from_bytes(file: &[u8]) -> Result<Gguf> {
        Header::parse(file, file.len())?; // before it is copied
        let mut data = Buffer::zeroed(file.len())?;
        data.elements_mut().copy_from_slice(file);
        Gguf::from_buffer(Arc::new(data))
    }

    /// Reads a file that a buffer holds; tensors are windows into it.
    ///
    /// # Errors
    /// Where a rule of the format is broken.
    pub fn from_buffer(data: Arc<Buffer>) -> Result<Gguf> {
        let file: &[u8] = data.elements();
        let len = Header::parse(file, file.len())?.len;
        // Others may write to a mapped file at any time: what is believed is what was copied, then checked.
        let text: Box<[u8]> = file[..len].into();
        let header = Header::parse(&text, file.len())?;
        Ok(Gguf { name: String::new(), text, header, data })
    }

    /// Reads the file at `path`: into memory, in huge pages where there are any, or as a mapping.
    ///
    /// # Errors
    /// Where the system refuses, where it is not a regular file, or where a rule of the format is broken.
    #[cfg(feature = "std")]
    pub fn open(path: impl AsRef<std::path::Path>, how: super::bytes::Access) -> Result<Gguf> {
        let path = path.as_ref();
        let data = super::bytes::open(path, how)?;
        let read = Gguf::from_buffer(Arc::new(data)).map_err(|e| e.in_file(path.display()))?;
        Ok(Gguf { name: path.display().to_string(), ..read })
    }

    /// Reads what stands before the data of the tensors, and no more: whose metadata are wanted needs no map of the whole.
    #[cfg(feature = "std")]
    pub(crate) fn open_head(path: &std::path::Path) -> Result<Gguf> {
        use std::io::Read;
        let io = |e| Error::io(path, "read", e);
        let mut file = super::bytes::open_regular(path)?;
        let len = usize::try_from(file.metadata().map_err(io)?.len()).unwrap_or(usize::MAX);
        let (mut text, mut room) = (alloc::vec::Vec::new(), 1 << 20);
        loop {
            (&mut file).take((room - text.len()) as u64).read_to_end(&mut text).map_err(io)?;
            match Header::parse(&text, len) {
                Ok(header) => {
                    text.truncate(header.len);
                    let (name, data) = (path.display().to_string(), Arc::new(Buffer::zeroed(0)?));
                    return Ok(Gguf { name, text: text.into(), header, data });
                }
                Err(e) if text.len() < room => return Err(e.in_file(path.display())), // that was all of it
                Err(_) => room = room.saturating_mul(4),
            }
        }
    }

    /// Whether a regular file begins as GGUF files do. What cannot be read is reported by who reads it next.
    #[cfg(feature = "std")]
    pub fn is_at(path: &std::path::Path) -> bool {
        use std::io::Read;
        let mut magic = [0; 4];
        path.is_file()
            && std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
            && &magic == b"GGUF"
    }

    /// Where it came from; empty if not from a file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 1, 2 or 3.
    pub const fn version(&self) -> u32 {
        self.header.version
    }

    /// What the data are aligned to, in bytes.
    pub const fn alignment(&self) -> usize {
        self.header.alignment as usize
    }

    /// The memory that holds the file: [`Buffer::check`] says whether a mapping is still whole.
    pub const fn data(&self) -> &Arc<Buffer> {
        &self.data
    }

    /// Keys and values, in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = Entry<'_>> {
        self.header.pairs.iter().filter_map(|pair| {
            let (key, value) = (self.header.key(&self.text, pair), self.header.value(&self.text, pair)?);
            Some(Entry { key, value })
        })
    }

    /// The value of that key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.header.value(&self.text, self.header.find(&self.text, key)?)
    }

    /// The value of a key that must be there, to be asked for its type: `file.entry("llama.block_count")?.usize()?`.
    ///
    /// # Errors
    /// [`Error::Malformed`] that names the key where it is not there.
    pub fn entry<'a>(&'a self, key: &'a str) -> Result<Entry<'a>> {
        let missing = || Error::invalid(format!("no metadata {key:?}")).in_file(&self.name);
        self.find(key).ok_or_else(missing)
    }

    /// The value of a key that may be absent, to be asked for its type.
    pub fn find<'a>(&'a self, key: &'a str) -> Option<Entry<'a>> {
        self.get(key).map(|value| Entry { key, value })
    }

    /// Number of tensors.
    pub const fn len(&self) -> usize {
        self.header.tensors.len()
    }

    /// Whether it holds no tensor.
    pub const fn is_empty(&self) -> bool {
        self.header.tensors.is_empty()
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.header.tensors.iter().map(|t| self.view(t))
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::NoTensor`], with the most similar name as a hint.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let names = || self.header.tensors.iter().map(|t| self.header.name(&self.text, t));
        let found = self.header.find_tensor(&self.text, name);
        found.map(|t| self.view(t)).ok_or_else(|| no_tensor(&self.name, name, names()))
    }

    /// The tensor of that name, to compute with: a window into the file's memory, or a copy where its bytes
    /// do not lie at multiples of their size.
    ///
    /// # Errors
    /// As [`Gguf::tensor`]; [`Error::Dtype`] for a type that tensors do not have (blocks are decoded by
    /// [`TensorView::decode`]).
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let view = self.tensor(name)?;
        let dtype = match view.kind {
            GgmlType::F32 => tensor::Dtype::F32,
            GgmlType::F16 => tensor::Dtype::F16,
            GgmlType::BF16 => tensor::Dtype::BF16,
            GgmlType::I32 => tensor::Dtype::I32,
            other => {
                let (dtype, expected) = (other.name().into(), Cow::Borrowed("F32, F16, BF16 or I32"));
                return Err(Error::Dtype { file: self.name.clone(), name: name.into(), dtype, expected });
            }
        };
        let shape = Shape::new(view.shape)?;
        let start = view.bytes.as_ptr().addr() - self.data.elements::<u8>().as_ptr().addr();
        match Tensor::from_buffer(self.data.clone(), start, dtype, shape) {
            Some(tensor) => Ok(tensor),
            None => Tensor::from_bytes(dtype, view.shape, view.bytes),
        }
    }

    fn view<'a>(&'a self, t: &'a header::Entry) -> TensorView<'a> {
        let bytes = &self.data.elements()[t.range()];
        TensorView { name: self.header.name(&self.text, t), kind: t.kind, shape: t.shape(), bytes }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_however_long_it_is() {
        let path = std::env::temp_dir().join(format!("samebits-head-{}", std::process::id()));
        for (i, len) in [5, (1 << 20) - 64, 1 << 20, 5 << 20].into_iter().enumerate() {
            let long = "x".repeat(len);
            let w = TensorView { name: "w", kind: GgmlType::F32, shape: &[2, 1 << 10], bytes: &[0; 8 << 10] };
            let bytes = to_bytes(&[("long", Value::String(&long))], &[w]).expect("a file");
            std::fs::write(&path, &bytes).expect("written");
            let head = Gguf::open_head(&path).expect("a head");
            assert_eq!(head.entry("long").expect("there").str().expect("text"), long);
            assert!(
                head.text.len() + (8 << 10) <= bytes.len() && head.data.elements::<u8>().is_empty(),
                "{len}"
            );
            std::fs::write(&path, &bytes[..bytes.len() - [4097, len / 2, len, 9 << 10][i]]).expect("written");
            let error = Gguf::open_head(&path).err().expect("cut").to_string();
            assert_eq!(error, Gguf::open(&path, Default::default()).err().expect("cut").to_string());
        }
        std::fs::remove_file(path).expect("removed");
    }
}
