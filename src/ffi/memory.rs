//! Pointers of C as references, slices, strings and views: looked at first, then believed.

use std::ffi::{CStr, c_char};

use super::{Fault, Outcome, Status};
use crate::kernels::view::{self, Layout, MatMut, MatRef};

/// `samebits_matrix`: to read, (rows, cols), strides in floats.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Matrix {
    data: *const f32,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

/// `samebits_matrix_mut`: to write.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MatrixMut {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

/// `samebits_heads`: to read, (batch, heads, tokens, dim), strides in floats.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Heads {
    data: *const f32,
    shape: [usize; 4],
    strides: [isize; 4],
}

/// `samebits_heads_mut`: to write.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HeadsMut {
    data: *mut f32,
    shape: [usize; 4],
    strides: [isize; 4],
}

/// A pointer that is neither NULL nor misaligned.
fn sound<T>(pointer: *const T, name: &str) -> Outcome {
    match pointer {
        p if p.is_null() => Err(Fault::argument(format!("{name} is NULL"))),
        p if !p.is_aligned() => {
            let align = align_of::<T>();
            Err(Fault::argument(format!("{name} is not aligned to {align} bytes")))
        }
        _ => Ok(()),
    }
}

/// What `pointer` points to.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that nobody changes while the result lives.
pub(super) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Outcome<&'a T> {
    sound(pointer, name)?;
    // SAFETY: not NULL, aligned, and as the caller says.
    Ok(unsafe { &*pointer })
}

/// What `pointer` points to, or none for NULL.
///
/// # Safety
/// As `reference`.
pub(super) unsafe fn reference_or_none<'a, T>(pointer: *const T, name: &str) -> Outcome<Option<&'a T>> {
    // SAFETY: as the caller says.
    if pointer.is_null() { Ok(None) } else { unsafe { reference(pointer, name) }.map(Some) }
}

/// The same as `reference`, to change.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that nobody else uses while the result lives.
pub(super) unsafe fn exclusive<'a, T>(pointer: *mut T, name: &str) -> Outcome<&'a mut T> {
    sound(pointer, name)?;
    // SAFETY: not NULL, aligned, and as the caller says.
    Ok(unsafe { &mut *pointer })
}

/// Writes where the caller wants a result.
///
/// # Safety
/// `pointer` is NULL or may be written.
pub(super) unsafe fn put<T>(pointer: *mut T, name: &str, value: impl FnOnce() -> T) -> Outcome {
    sound(pointer, name)?;
    // SAFETY: not NULL, aligned, and as the caller says; what was there is not read.
    unsafe { pointer.write(value()) };
    Ok(())
}

/// Drops what a handle points to; NULL is nothing.
///
/// # Safety
/// `handle` is NULL or came from `Box::into_raw`, and nobody uses it any more.
pub(super) unsafe fn close<T>(handle: *mut T) {
    if !handle.is_null() {
        super::door(|| {
            // SAFETY: as the caller says.
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}

fn check_len<T>(pointer: *const T, len: usize, name: &str) -> Outcome {
    sound(pointer, name)?;
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Fault::argument(format!("{name} has {len} elements: more than the address space")));
    }
    Ok(())
}

/// `len` elements; NULL is allowed where there are none.
///
/// # Safety
/// `pointer` is NULL or points to `len` elements that nobody changes while the result lives.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check_len(pointer, len, name)?;
    // SAFETY: not NULL, aligned, within the address space, and as the caller says.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// The same, to write.
///
/// # Safety
/// `pointer` is NULL or points to `len` elements that nobody else uses while the result lives.
pub(super) unsafe fn slice_mut<'a, T>(pointer: *mut T, len: usize, name: &str) -> Outcome<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check_len(pointer, len, name)?;
    // SAFETY: not NULL, aligned, within the address space, and as the caller says.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, len) })
}

/// A string in UTF-8.
///
/// # Safety
/// `pointer` is NULL or points to bytes with a zero at their end, which nobody changes while the result lives.
pub(super) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Outcome<&'a str> {
    sound(pointer, name)?;
    // SAFETY: not NULL, and as the caller says.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes
        .to_str()
        .map_err(|e| Fault::argument(format!("{name} is not UTF-8 from byte {} on", e.valid_up_to())))
}

/// A string, or none for NULL.
///
/// # Safety
/// As `string`.
pub(super) unsafe fn string_or_none<'a>(pointer: *const c_char, name: &str) -> Outcome<Option<&'a str>> {
    // SAFETY: as the caller says.
    if pointer.is_null() { Ok(None) } else { unsafe { string(pointer, name) }.map(Some) }
}

/// The place of a strided view: how far its elements lie before and after the first.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The address of its lowest element.
    base: *const f32,
    /// The first element, counted from the lowest.
    offset: usize,
    /// Floats from the lowest to the highest element, both counted; 0 of a view without elements.
    len: usize,
}

impl Place {
    fn of<const N: usize>(
        data: *const f32,
        shape: [usize; N],
        strides: [isize; N],
        name: &str,
    ) -> Outcome<Place> {
        if shape.contains(&0) {
            return Ok(Place { base: core::ptr::NonNull::dangling().as_ptr(), offset: 0, len: 0 });
        }
        sound(data, name)?;
        let extent = || {
            let (mut low, mut high) = (0isize, 0isize);
            for (n, stride) in shape.into_iter().zip(strides) {
                let reach = isize::try_from(n - 1).ok()?.checked_mul(stride)?;
                low = low.checked_add(reach.min(0))?;
                high = high.checked_add(reach.max(0))?;
            }
            let len = high.checked_sub(low)?.checked_add(1)?;
            (len <= isize::MAX / 4).then_some((low, len as usize))
        };
        let (low, len) = extent().ok_or_else(|| {
            Fault::argument(format!(
                "{name}: shape {shape:?} with strides {strides:?} leaves the address space"
            ))
        })?;
        // Wrapping: the address is used only where the caller's word makes it one of its own.
        Ok(Place { base: data.wrapping_offset(low), offset: low.unsigned_abs(), len })
    }

    /// Its name and the bytes that it spans: an address and a number.
    fn bytes<'n>(&self, name: &'n str) -> Bytes<'n> {
        (name, self.base as usize, 4 * self.len)
    }

    /// Refuses an output that may share memory with an input.
    pub(super) fn apart(&self, name: &str, inputs: &[(&str, Place)]) -> Outcome {
        inputs.iter().try_for_each(|(other, place)| apart(&[self.bytes(name)], &[place.bytes(other)]))
    }

    /// The same, of inputs that are bytes.
    pub(super) fn apart_from(&self, name: &str, inputs: &[Bytes<'_>]) -> Outcome {
        apart(&[self.bytes(name)], inputs)
    }
}

/// A name, an address, and how many bytes lie there.
pub(super) type Bytes<'n> = (&'n str, usize, usize);

/// Refuses memory that is to be written and lies in other memory of the call.
pub(super) fn apart(outputs: &[Bytes<'_>], inputs: &[Bytes<'_>]) -> Outcome {
    for (i, &(name, at, len)) in outputs.iter().enumerate() {
        for &(other, place, size) in outputs[i + 1..].iter().chain(inputs) {
            let ends = (at.saturating_add(len), place.saturating_add(size));
            if len > 0 && size > 0 && at < ends.1 && place < ends.0 {
                return Err(Fault::argument(format!("{name} overlaps {other}")));
            }
        }
    }
    Ok(())
}

/// Each axis, from the smallest stride up, must step over all that lies below it.
fn distinct<const N: usize>(shape: [usize; N], strides: [isize; N], name: &str) -> Outcome {
    let mut axes: Vec<(usize, usize)> =
        strides.iter().map(|s| s.unsigned_abs()).zip(shape).filter(|(_, n)| *n > 1).collect();
    axes.sort_unstable();
    let (mut extent, empty) = (0, shape.contains(&0));
    for (stride, n) in axes {
        if stride <= extent && !empty {
            return Err(Fault::argument(format!(
                "{name}: shape {shape:?} with strides {strides:?} has two elements in one place"
            )));
        }
        extent += (n - 1).saturating_mul(stride);
    }
    Ok(())
}

impl Matrix {
    /// Where it lies.
    pub(super) fn place(&self, name: &str) -> Outcome<Place> {
        Place::of(self.data, [self.rows, self.cols], [self.row_stride, self.col_stride], name)
    }

    /// As kernels read it.
    ///
    /// # Safety
    /// Every element is there, and nobody changes one while the result lives.
    pub(super) unsafe fn view<'a>(&self, name: &str) -> Outcome<MatRef<'a>> {
        let place = self.place(name)?;
        // SAFETY: from the lowest to the highest element, as the caller says.
        let data = unsafe { slice(place.base, place.len, name) }?;
        let Matrix { rows, cols, row_stride, col_stride, .. } = *self;
        Ok(MatRef::strided(data, place.offset, Layout { rows, cols, row_stride, col_stride }))
    }

    /// (rows, cols)
    pub(super) const fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

impl MatrixMut {
    /// The same to read.
    pub(super) const fn as_matrix(&self) -> Matrix {
        let MatrixMut { data, rows, cols, row_stride, col_stride } = *self;
        Matrix { data, rows, cols, row_stride, col_stride }
    }

    /// Whether this is where `x` lies, element by element.
    pub(super) fn is(&self, x: &Matrix) -> bool {
        let strides = (self.row_stride, self.col_stride) == (x.row_stride, x.col_stride);
        core::ptr::eq(self.data, x.data) && strides && self.as_matrix().shape() == x.shape()
    }

    /// As kernels write it.
    ///
    /// # Safety
    /// Every element is there, and nobody else uses what lies between the lowest and the highest while the result lives.
    pub(super) unsafe fn view<'a>(&self, name: &str) -> Outcome<MatMut<'a>> {
        let place = self.as_matrix().place(name)?;
        let MatrixMut { rows, cols, row_stride, col_stride, .. } = *self;
        distinct([rows, cols], [row_stride, col_stride], name)?;
        // SAFETY: from the lowest to the highest element, as the caller says.
        let data = unsafe { slice_mut(place.base.cast_mut(), place.len, name) }?;
        Ok(MatMut::strided(data, place.offset, Layout { rows, cols, row_stride, col_stride }))
    }
}

impl Heads {
    /// Where it lies.
    pub(super) fn place(&self, name: &str) -> Outcome<Place> {
        Place::of(self.data, self.shape, self.strides, name)
    }

    /// (batch, heads, tokens, dim)
    pub(super) const fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// As kernels read it.
    ///
    /// # Safety
    /// Every element is there, and nobody changes one while the result lives.
    pub(super) unsafe fn view<'a>(&self, name: &str) -> Outcome<view::HeadsRef<'a>> {
        let place = self.place(name)?;
        // SAFETY: from the lowest to the highest element, as the caller says.
        let data = unsafe { slice(place.base, place.len, name) }?;
        Ok(view::HeadsRef::strided(data, place.offset, self.shape, self.strides))
    }
}

impl HeadsMut {
    /// The same to read.
    pub(super) const fn as_heads(&self) -> Heads {
        let HeadsMut { data, shape, strides } = *self;
        Heads { data, shape, strides }
    }

    /// As kernels write it.
    ///
    /// # Safety
    /// Every element is there, and nobody else uses what lies between the lowest and the highest while the result lives.
    pub(super) unsafe fn view<'a>(&self, name: &str) -> Outcome<view::HeadsMut<'a>> {
        let place = self.as_heads().place(name)?;
        distinct(self.shape, self.strides, name)?;
        // SAFETY: from the lowest to the highest element, as the caller says.
        let data = unsafe { slice_mut(place.base.cast_mut(), place.len, name) }?;
        Ok(view::HeadsMut::strided(data, place.offset, self.shape, self.strides))
    }
}

/// `samebits_buffer`: memory of the caller for a text.
#[repr(C)]
pub struct Buffer {
    data: *mut c_char,
    capacity: usize,
    length: usize,
}

impl Buffer {
    /// Bytes that have room, the zero aside.
    pub(super) const fn room(&self) -> usize {
        self.capacity.saturating_sub(1)
    }

    /// The bytes to write to.
    ///
    /// # Safety
    /// `data` is NULL or has `capacity` bytes that nobody else uses while the result lives.
    unsafe fn bytes(&mut self) -> Outcome<&mut [u8]> {
        // SAFETY: as the caller says.
        unsafe { slice_mut(self.data.cast::<u8>(), self.capacity, "buffer.data") }
    }

    /// All of `text` and a zero, or nothing; `length` says how many bytes there are without the zero.
    ///
    /// # Safety
    /// As `bytes`.
    pub(super) unsafe fn whole(&mut self, text: &str) -> Outcome {
        self.length = text.len();
        // SAFETY: as the caller says.
        let bytes = unsafe { self.bytes() }?;
        if bytes.len() <= text.len() {
            let message = format!("a buffer of {} bytes, {} are needed", bytes.len(), text.len() + 1);
            return Err(Fault { status: Status::Capacity, message });
        }
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes[text.len()] = 0;
        Ok(())
    }

    /// As many whole characters of `text` as fit with a zero behind them; how many bytes they are.
    ///
    /// # Safety
    /// As `bytes`.
    pub(super) unsafe fn part(&mut self, text: &str) -> Outcome<usize> {
        self.length = 0;
        // SAFETY: as the caller says.
        let bytes = unsafe { self.bytes() }?;
        let Some(room) = bytes.len().checked_sub(1) else {
            return Err(Fault { status: Status::Capacity, message: "a buffer of 0 bytes".into() });
        };
        let length = (0..=room.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        bytes[length] = 0;
        self.length = length;
        Ok(length)
    }
}
