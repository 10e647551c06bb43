//! What a layer's keys, or its values, are stored as: (heads, capacity, head_dim) of one type.

use super::file::{Reader, short};
use crate::Result;
use crate::kernels::attention::Stored;
use crate::kernels::view::HeadsRef;
use crate::kernels::{Cpu, half, int8};
use alloc::vec;
use alloc::vec::Vec;

/// What keys and values are stored as.
///
/// Attention reads them as they are stored, a prompt's own among them. So within one type results have the same
/// bits for any split and batch, on a cache that was shortened, copied, saved or restored; between types they
/// differ by what is rounded when tokens are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// As they were computed: 4 bytes a component.
    #[default]
    F32,
    /// Rounded to nearest even: 2 bytes.
    Bf16,
    /// A scale a token and head, and codes: 1 byte, and 4 a row; see [`int8::quantize`].
    Int8,
}

impl CacheType {
    /// All of them; a saved cache has the number in this list.
    pub const ALL: [CacheType; 3] = [CacheType::F32, CacheType::Bf16, CacheType::Int8];

    /// `f32`, `bf16` or `int8`.
    pub const fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::Bf16 => "bf16",
            CacheType::Int8 => "int8",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<CacheType> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Keys or values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Memory {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    /// (heads, capacity, head_dim) and (heads, capacity).
    Int8 {
        codes: Vec<i8>,
        scales: Vec<f32>,
    },
}

/// How a memory's rows lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub heads: usize,
    /// Rows that a head has room for.
    pub capacity: usize,
    pub head_dim: usize,
}

/// Rows on their way: the first `drop` of each head go, `kept` stay, `capacity` is the room afterwards.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub drop: usize,
    pub kept: usize,
    pub capacity: usize,
}

impl Memory {
    /// Zeros. (Pages that nobody wrote take no memory.)
    pub fn new(kind: CacheType, shape: Shape) -> Memory {
        let rows = shape.heads * shape.capacity;
        let n = rows * shape.head_dim;
        match kind {
            CacheType::F32 => Memory::F32(vec![0.0; n]),
            CacheType::Bf16 => Memory::Bf16(vec![0; n]),
            CacheType::Int8 => Memory::Int8 { codes: vec![0; n], scales: vec![0.0; rows] },
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Memory::F32(x) => size_of_val(&x[..]),
            Memory::Bf16(x) => size_of_val(&x[..]),
            Memory::Int8 { codes, scales } => codes.len() + size_of_val(&scales[..]),
        }
    }

    /// Stores row `row` of all rows.
    pub fn set(&mut self, cpu: Cpu, row: usize, x: &[f32]) {
        let place = row * x.len()..(row + 1) * x.len();
        match self {
            Memory::F32(to) => to[place].copy_from_slice(x),
            Memory::Bf16(to) => half::narrow_bf16(cpu, x, &mut to[place]),
            Memory::Int8 { codes, scales } => scales[row] = int8::quantize(cpu, x, &mut codes[place]),
        }
    }

    /// Moves the rows of each head.
    pub fn shift(&mut self, shape: Shape, to: Move) {
        match self {
            Memory::F32(x) => shift(x, shape, to, shape.head_dim),
            Memory::Bf16(x) => shift(x, shape, to, shape.head_dim),
            Memory::Int8 { codes, scales } => {
                shift(codes, shape, to, shape.head_dim);
                shift(scales, shape, to, 1);
            }
        }
    }

    /// The first `len` rows of each head, (1, heads, len, head_dim).
    pub fn view(&self, shape: Shape, len: usize) -> Stored<'_> {
        match self {
            Memory::F32(x) => Stored::F32(view(x, shape, len, shape.head_dim)),
            Memory::Bf16(x) => Stored::Bf16(view(x, shape, len, shape.head_dim)),
            Memory::Int8 { codes, scales } => Stored::Int8 {
                codes: view(codes, shape, len, shape.head_dim),
                scales: view(scales, shape, len, 1),
            },
        }
    }

    /// The same rows as bytes: floats, halves, or codes and then scales.
    pub fn save(&self, shape: Shape, len: usize, to: &mut Vec<u8>) {
        match self {
            Memory::F32(x) => save(x, shape, len * shape.head_dim, |x| x.to_le_bytes(), to),
            Memory::Bf16(x) => save(x, shape, len * shape.head_dim, |x| x.to_le_bytes(), to),
            Memory::Int8 { codes, scales } => {
                save(codes, shape, len * shape.head_dim, |x| x.to_le_bytes(), to);
                save(scales, shape, len, |x| x.to_le_bytes(), to);
            }
        }
    }

    /// What [`Memory::save`] wrote; there is room for nothing else.
    pub fn restore(kind: CacheType, shape: Shape, from: &mut Reader<'_>) -> Result<Memory> {
        let rows = shape.heads.checked_mul(shape.capacity).ok_or_else(short)?;
        let n = rows.checked_mul(shape.head_dim).ok_or_else(short)?;
        Ok(match kind {
            CacheType::F32 => Memory::F32(from.elements(n, f32::from_le_bytes)?),
            CacheType::Bf16 => Memory::Bf16(from.elements(n, u16::from_le_bytes)?),
            CacheType::Int8 => {
                let codes = from.elements(n, i8::from_le_bytes)?;
                Memory::Int8 { codes, scales: from.elements(rows, f32::from_le_bytes)? }
            }
        })
    }
}

/// Moves rows of `width` elements.
fn shift<T: Copy + Default>(x: &mut Vec<T>, shape: Shape, to: Move, width: usize) {
    let (from, kept) = (|head: usize| (head * shape.capacity + to.drop) * width, to.kept * width);
    if to.capacity == shape.capacity {
        for head in 0..shape.heads {
            x.copy_within(from(head)..from(head) + kept, head * to.capacity * width);
        }
        return;
    }
    let mut larger = vec![T::default(); shape.heads * to.capacity * width];
    for head in 0..shape.heads {
        larger[head * to.capacity * width..][..kept].copy_from_slice(&x[from(head)..][..kept]);
    }
    *x = larger;
}

fn view<T>(x: &[T], shape: Shape, len: usize, width: usize) -> HeadsRef<'_, T> {
    let head = (shape.capacity * width) as isize;
    let strides = [head * shape.heads as isize, head, width as isize, 1];
    HeadsRef::strided(x, 0, [1, shape.heads, len, width], strides)
}

/// The first `n` elements of each head.
fn save<T: Copy, const N: usize>(
    x: &[T],
    shape: Shape,
    n: usize,
    bytes: impl Fn(T) -> [u8; N],
    to: &mut Vec<u8>,
) {
    let heads = x.chunks_exact((x.len() / shape.heads.max(1)).max(1)).take(shape.heads);
    to.extend(heads.flat_map(|head| &head[..n]).flat_map(|&x| bytes(x)));
}
