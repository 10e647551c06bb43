//! safetensors: named tensors behind a JSON header.
//!
//! ```text
//!   8 bytes   N, little-endian          at most 100,000,000 and inside the file
//!   N bytes   {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}, padded with spaces
//!   the rest  the data: every byte belongs to exactly one tensor
//! ```
//!
//! Files are untrusted. What the format demands is checked before anything is reserved: lengths against the
//! file, offsets from 0 to the end without hole or overlap, products and sums without overflow, names without
//! duplicates. Reading takes at most four times the file and 1 MiB, and no decompression exists, so the size
//! on disk bounds the memory. Tensors may have at most [`MAX_RANK`](crate::tensor::MAX_RANK) axes.
//!
//! ```
//! use samebits::io::safetensors::{Dtype, SafeTensors, TensorView, to_bytes};
//! let bytes = [0u8; 24];
//! let w = TensorView { name: "w", dtype: Dtype::F32, shape: &[2, 3], bytes: &bytes };
//! let file = SafeTensors::from_bytes(&to_bytes(&[w], &[("format", "pt")])?)?;
//! assert_eq!(file.tensor("w")?.shape, [2, 3]);
//! # Ok::<(), samebits::Error>(())
//! ```
//!
//! Reference: github.com/huggingface/safetensors, `tensor.rs`.

mod dtype;
mod header;
mod write;

#[cfg(feature = "std")]
mod checkpoint;
#[cfg(feature = "std")]
mod file;

#[cfg(feature = "std")]
pub use checkpoint::Checkpoint;
pub use dtype::Dtype;
pub use header::MAX_HEADER;
pub use write::{TensorInfo, to_bytes};
#[cfg(feature = "std")]
pub use write::{write, write_each};

use crate::io::nearest::no_tensor;
use crate::tensor::{self, Buffer, Shape, Tensor};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use header::{Entry, Header, LENGTH_BYTES};

#[cfg(target_endian = "big")]
compile_error!("safetensors data is little-endian and is used in place");

/// A tensor of a file: its bytes as they are stored, little-endian, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub dtype: Dtype,
    /// The extent of each axis, outermost first.
    pub shape: &'a [usize],
    /// Its elements; any alignment.
    pub bytes: &'a [u8],
}

/// A file, whole in memory, its data at a multiple of 64; or mapped.
pub struct SafeTensors {
    /// Where it came from, for errors; empty if not from a file.
    name: String,
    header: Header,
    data: Arc<Buffer>,
    /// Where the data begin in it.
    base: usize,
}

impl SafeTensors {
    /// Reads a file from memory.
    ///
    /// # Errors
    /// Where a rule of the format is broken.
    pub fn from_bytes(file: &[u8]) -> Result<SafeTensors> {
        let len = header::header_len(file, file.len() as u64)?;
        let (text, data) = file[LENGTH_BYTES as usize..].split_at(len);
        let header = Header::parse(text, data.len())?;
        let mut buffer = Buffer::zeroed(data.len())?;
        buffer.elements_mut().copy_from_slice(data);
        Ok(SafeTensors { name: String::new(), header, data: Arc::new(buffer), base: 0 })
    }

    /// The memory that holds the data: [`Buffer::check`] says whether a mapping is still whole.
    pub const fn data(&self) -> &Arc<Buffer> {
        &self.data
    }

    /// Number of tensors.
    pub const fn len(&self) -> usize {
        self.header.entries.len()
    }

    /// The file that it was read from; empty where it came from memory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it holds no tensor.
    pub const fn is_empty(&self) -> bool {
        self.header.entries.is_empty()
    }

    /// The tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.header.entries.iter().map(|e| self.view(e))
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::NoTensor`], with the most similar name as a hint.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let names = || self.header.entries.iter().map(|e| &*e.name);
        self.find(name).map(|e| self.view(e)).ok_or_else(|| no_tensor(&self.name, name, names()))
    }

    /// The tensor of that name, to compute with: a window into the file's memory, or a copy where its bytes
    /// do not lie at multiples of their size.
    ///
    /// # Errors
    /// As [`SafeTensors::tensor`]; [`Error::Dtype`] for a type that tensors do not have.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let view = self.tensor(name)?;
        let dtype = match view.dtype {
            Dtype::F32 => tensor::Dtype::F32,
            Dtype::F16 => tensor::Dtype::F16,
            Dtype::BF16 => tensor::Dtype::BF16,
            Dtype::I32 => tensor::Dtype::I32,
            Dtype::U8 => tensor::Dtype::U8,
            other => {
                let (dtype, expected) = (other.name().into(), Cow::Borrowed("F32, F16, BF16, I32 or U8"));
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

    /// The pairs of `__metadata__`, in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.header.metadata()
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        let entries = &self.header.entries;
        entries.binary_search_by(|e| (*e.name).cmp(name)).ok().map(|i| &entries[i])
    }

    fn view<'a>(&'a self, e: &'a Entry) -> TensorView<'a> {
        let bytes = &self.data.elements()[self.base..][e.bytes.clone()];
        TensorView { name: &e.name, dtype: e.dtype, shape: &e.shape, bytes }
    }
}
