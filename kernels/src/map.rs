//! # Elementwise kernels: one function, every element
//!
//! **Math.**  y = f(x), or y = f(a, b), each element for itself.
//!
//! **Law.**  Clause 3. No element sees another, so neither length, stride, place nor tier can change a bit.
//!
//! ```text
//!   x0…x15 │ x16…x31 │ … │ tail
//!     │        │           │ padded with +0
//!     f        f           f
//!     ▼        ▼           ▼ only the tail is written
//! ```
//!
//! **Registers.**  Those of `f`.   **Cost.**  4 bytes read (8 for two inputs) and 4 written an element; memory
//! binds unless `f` needs more than about 16 operations a line.   **Error.**  That of `f`.
//!
//! **Next.**  `math/` and `activation.rs` hold the functions.

use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// A function of one number, lane by lane.
pub trait Unary: Copy {
    /// `f(x)` in every lane. Must be `#[inline(always)]`.
    fn at<S: Simd>(self, s: S, x: S::F32) -> S::F32;
}

/// A function of two numbers, lane by lane.
pub trait Binary: Copy {
    /// `f(a, b)` in every lane. Must be `#[inline(always)]`.
    fn at<S: Simd>(self, s: S, a: S::F32, b: S::F32) -> S::F32;
}

/// `x = f(x)` for every element.
pub fn in_place<F: Unary>(cpu: Cpu, f: F, x: &mut [f32]) {
    cpu.run(InPlace { f, x });
}

struct InPlace<'a, F> {
    f: F,
    x: &'a mut [f32],
}

impl<F: Unary> Kernel for InPlace<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (lines, tail) = self.x.as_chunks_mut::<LANES>();
        for x in lines {
            let y = self.f.at(s, s.load(x));
            s.store(x, y);
        }
        if !tail.is_empty() {
            let y = self.f.at(s, s.load_tail(tail, 0.0));
            s.store_tail(tail, y);
        }
    }
}

/// `y = f(x)` for every element of a (rows, cols) matrix; any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn apply<F: Unary>(cpu: Cpu, f: F, x: MatRef, y: MatMut) {
    zip(cpu, First(f), x, x, y);
}

/// A function of one number as one of two that ignores the second.
#[derive(Clone, Copy)]
struct First<F>(F);

impl<F: Unary> Binary for First<F> {
    #[inline(always)]
    fn at<S: Simd>(self, s: S, a: S::F32, _: S::F32) -> S::F32 {
        self.0.at(s, a)
    }
}

/// `y = f(a, b)` for every element of (rows, cols) matrices; any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn zip<F: Binary>(cpu: Cpu, f: F, a: MatRef, b: MatRef, y: MatMut) {
    let shapes = [(a.rows(), a.cols()), (b.rows(), b.cols()), (y.rows(), y.cols())];
    assert!(shapes[0] == shapes[2] && shapes[1] == shapes[2], "elementwise: shapes {shapes:?} differ");
    cpu.run(Zip { f, a, b, y });
}

struct Zip<'a, F> {
    f: F,
    a: MatRef<'a>, // (rows, cols)
    b: MatRef<'a>, // (rows, cols)
    y: MatMut<'a>, // (rows, cols)
}

impl<F: Binary> Kernel for Zip<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Zip { f, a, b, mut y } = self;
        for r in 0..y.rows() {
            match (a.row(r), b.row(r), y.row(r)) {
                (Some(a), Some(b), Some(y)) => side_by_side(s, f, a, b, y),
                _ => strided(s, f, (a, b), &mut y, r),
            }
        }
    }
}

/// One row whose elements lie side by side in all three.
#[inline(always)]
fn side_by_side<S: Simd, F: Binary>(s: S, f: F, a: &[f32], b: &[f32], y: &mut [f32]) {
    let (a_lines, a_tail) = a.as_chunks::<LANES>();
    let (b_lines, b_tail) = b.as_chunks::<LANES>();
    let (y_lines, y_tail) = y.as_chunks_mut::<LANES>();
    for ((a, b), y) in a_lines.iter().zip(b_lines).zip(y_lines) {
        s.store(y, f.at(s, s.load(a), s.load(b)));
    }
    if !y_tail.is_empty() {
        s.store_tail(y_tail, f.at(s, s.load_tail(a_tail, 0.0), s.load_tail(b_tail, 0.0)));
    }
}

/// Row `r`, sixteen elements at a time through an array.
#[inline(always)]
fn strided<S: Simd, F: Binary>(s: S, f: F, (a, b): (MatRef, MatRef), y: &mut MatMut, r: usize) {
    let mut start = 0;
    while start < y.cols() {
        let n = LANES.min(y.cols() - start);
        let (mut a16, mut b16) = ([0.0; LANES], [0.0; LANES]);
        for l in 0..n {
            a16[l] = a.get(r, start + l);
            b16[l] = b.get(r, start + l);
        }
        let y16 = s.to_array(f.at(s, s.load(&a16), s.load(&b16)));
        for (l, &v) in y16[..n].iter().enumerate() {
            *y.at(r, start + l) = v;
        }
        start += n;
    }
}
