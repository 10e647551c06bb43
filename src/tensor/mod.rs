//! Strided tensors.
//!
//! A [`Tensor`] is a window into a shared [`Buffer`]: a shape, a stride for each axis and a first element.
//! Slicing, transposing, broadcasting and most reshapes make another window and copy nothing; what writes
//! copies the buffer first where another tensor shares it, so tensors behave as values.
//!
//! There is no arithmetic here: shapes are worked out, then kernels called; they and the law decide every
//! bit. Arithmetic is done in `f32` and takes the [`Cpu`](crate::Cpu) first; other types are converted with
//! [`Tensor::to`]. No file, thread, clock or global is touched.
//!
//! Mistakes of the caller – axes that do not exist, shapes that do not fit – panic and name the shapes. What
//! comes from data goes through [`Shape::new`], [`Tensor::from_bytes`] and [`Tensor::try_zeros`], which return
//! errors.
//!
//! ```
//! use samebits::{Cpu, tensor::{KeepDim, Tensor}};
//! let cpu = Cpu::detect();
//! let x = Tensor::from_f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
//! let centred = x.sub(cpu, &x.mean(cpu, &[1], KeepDim::Yes));
//! assert_eq!(centred.to_string(), "[[-1.  0.  1.]\n [-1.  0.  1.]]");
//! assert_eq!(x.t().step_by(0, -1).to_vec::<f32>(), [3.0, 6.0, 2.0, 5.0, 1.0, 4.0]);
//! ```

mod buffer;
mod convert;
mod copy;
mod display;
mod dtype;
mod elementwise;
mod index;
mod matmul;
mod reduce;
mod rows;
mod shape;
mod view;
mod walk;

pub use buffer::Buffer;
pub use dtype::{Dtype, Element};
pub use reduce::{Axes, KeepDim};
pub use rows::Which;
pub use shape::{MAX_RANK, Shape};

use crate::kernels::view::{Layout, MatRef};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use shape::{Strides, row_major};

/// A window into a buffer. Cloning shares the elements.
#[derive(Clone)]
pub struct Tensor {
    data: Arc<Buffer>,
    dtype: Dtype,
    shape: Shape,
    /// In elements, for each axis; 0 and negative ones are allowed. Every place that the shape reaches lies
    /// inside the buffer.
    strides: Strides,
    /// The first element, counted from the start of the buffer.
    offset: usize,
}

impl Tensor {
    /// A tensor of `values`, row by row.
    ///
    /// # Panics
    /// Where `values` are not as many as the shape has elements, or `T` does not hold `dtype`.
    #[track_caller]
    pub fn new<T: Element>(dtype: Dtype, values: &[T], shape: &[usize]) -> Tensor {
        assert!(T::is(dtype), "{} values for a tensor of {dtype}", core::any::type_name::<T>());
        let shape = Shape::of(shape);
        assert!(values.len() == shape.elements(), "{} values for shape {shape}", values.len());
        Tensor::whole(Buffer::from(values), dtype, shape)
    }

    /// [`Tensor::new`] for singles.
    #[track_caller]
    pub fn from_f32(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::new(Dtype::F32, values, shape)
    }

    /// A tensor of one number, without axes.
    pub fn scalar(value: f32) -> Tensor {
        Tensor::from_f32(&[value], &[])
    }

    /// A tensor of one number, seen at every place of the shape.
    #[track_caller]
    pub fn full(value: f32, shape: &[usize]) -> Tensor {
        Tensor::scalar(value).broadcast_to(shape)
    }

    /// A tensor of zeros.
    ///
    /// # Panics
    /// Where [`Tensor::try_zeros`] has an error.
    #[track_caller]
    pub fn zeros(dtype: Dtype, shape: &[usize]) -> Tensor {
        Tensor::try_zeros(dtype, shape).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A tensor of zeros whose shape comes from data.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::TooLarge`] as [`Shape::new`], or where memory does not suffice.
    pub fn try_zeros(dtype: Dtype, shape: &[usize]) -> Result<Tensor> {
        let shape = Shape::new(shape)?;
        let buffer = Buffer::zeroed(shape.elements() * dtype.size());
        Ok(Tensor::whole(buffer.map_err(|_| Error::TooLarge { shape: (*shape).into() })?, dtype, shape))
    }

    /// A copy of elements that lie row by row, little-endian, as files hold them.
    ///
    /// # Errors
    /// [`Error::Shape`] where `bytes` are not as many as the shape needs, or as [`Shape::new`].
    pub fn from_bytes(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        let shape = Shape::new(shape)?;
        if bytes.len() != shape.elements() * dtype.size() {
            return Err(Error::Shape {
                file: Default::default(),
                name: "a tensor".into(),
                shape: (*shape).into(),
                expected: alloc::format!("one that takes {} bytes of {dtype}", bytes.len()),
            });
        }
        let mut buffer = Buffer::zeroed(bytes.len())?;
        buffer.elements_mut().copy_from_slice(bytes);
        Ok(Tensor::whole(buffer, dtype, shape))
    }

    /// A window into a shared buffer from byte `start` on: no copy. `None` where the elements would not lie
    /// at multiples of their size, or not inside.
    pub fn from_buffer(data: Arc<Buffer>, start: usize, dtype: Dtype, shape: Shape) -> Option<Tensor> {
        let end = start.checked_add(shape.elements() * dtype.size())?;
        if end > data.len() || !start.is_multiple_of(dtype.size()) {
            return None;
        }
        let offset = start / dtype.size();
        Some(Tensor { data, dtype, shape, strides: row_major(&shape), offset })
    }

    /// The window of a whole buffer.
    fn whole(buffer: Buffer, dtype: Dtype, shape: Shape) -> Tensor {
        Tensor { data: Arc::new(buffer), dtype, shape, strides: row_major(&shape), offset: 0 }
    }

    /// The element type.
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The extent of each axis, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one place of each axis to the next.
    pub fn strides(&self) -> &[isize] {
        &self.strides[..self.rank()]
    }

    /// Number of axes.
    pub const fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.elements()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Whether the elements lie row by row without gaps.
    pub fn is_contiguous(&self) -> bool {
        let want = row_major(&self.shape);
        self.is_empty() || (0..self.rank()).all(|a| self.shape[a] == 1 || self.strides[a] == want[a])
    }

    /// Whether both are windows into the same memory.
    pub fn shares_memory(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.data, &other.data)
    }

    /// The elements row by row, where they lie so without gaps.
    ///
    /// # Panics
    /// Where `T` does not hold the tensor's type.
    #[track_caller]
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        let all = self.buffer::<T>();
        match self.is_empty() {
            true => Some(&[]),
            false => self.is_contiguous().then(|| &all[self.offset..self.offset + self.len()]),
        }
    }

    /// A copy of the elements, row by row.
    ///
    /// # Panics
    /// Where `T` does not hold the tensor's type.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        let rows = self.contiguous();
        rows.as_slice().expect("contiguous").to_vec()
    }

    /// The elements row by row, to write. They are copied first where they do not lie so, or where another
    /// tensor shares them.
    ///
    /// # Panics
    /// Where `T` does not hold the tensor's type.
    #[track_caller]
    pub fn make_mut<T: Element>(&mut self) -> &mut [T] {
        self.buffer::<T>();
        if !self.is_contiguous() || Arc::get_mut(&mut self.data).is_none() {
            *self = self.copied();
        }
        let (start, len) = (self.offset, self.len());
        let buffer = Arc::get_mut(&mut self.data).expect("not shared: copied above");
        &mut buffer.elements_mut()[start..start + len]
    }

    /// Lets go of the memory of the rows `rows` of a matrix that lies row by row: see [`Buffer::release`].
    pub fn release_rows(&self, rows: core::ops::Range<usize>) {
        if self.is_contiguous() && self.rank() == 2 {
            let at = |row: usize| (self.offset + row * self.shape[1]) * self.dtype.size();
            self.data.release(at(rows.start)..at(rows.end));
        }
    }

    /// The matrix of the last two axes, for kernels.
    ///
    /// # Panics
    /// Where there are not exactly two axes, or `T` does not hold the tensor's type.
    #[track_caller]
    pub fn as_matrix<T: Element>(&self) -> MatRef<'_, T> {
        let &[rows, cols] = self.shape() else { panic!("a matrix has two axes, shape {}", self.shape) };
        let [row_stride, col_stride, ..] = self.strides;
        MatRef::strided(self.buffer(), self.offset, Layout { rows, cols, row_stride, col_stride })
    }

    /// The whole buffer as numbers.
    #[track_caller]
    fn buffer<T: Element>(&self) -> &[T] {
        assert!(T::is(self.dtype), "a tensor of {} read as {}", self.dtype, core::any::type_name::<T>());
        self.data.elements()
    }

    /// The element at an index, whatever its type.
    ///
    /// # Panics
    /// Where the index leaves the shape.
    #[track_caller]
    pub fn at(&self, index: &[usize]) -> f32 {
        let inside = index.len() == self.rank() && index.iter().zip(self.shape()).all(|(i, n)| i < n);
        assert!(inside, "index {index:?} into shape {}", self.shape);
        self.value(
            index
                .iter()
                .zip(self.strides())
                .fold(self.offset, |at, (&i, &s)| at.wrapping_add_signed(s.wrapping_mul(i as isize))),
        )
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {}, strides {:?})", self.dtype, self.shape, self.strides())
    }
}
