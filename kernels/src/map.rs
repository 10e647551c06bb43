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
//! Where `y` runs down its columns the whole problem is transposed first; where nothing lies between the rows
//! it is one long row.
//!
//! **Registers.**  Those of `f`.   **Cost.**  4 bytes read (8 for two inputs) and 4 written an element; memory
//! binds unless `f` needs more than about 20 operations a line.   **Error.**  That of `f`.
//!
//! **Next.**  `math/`, `activation.rs` and `elementwise.rs` hold the functions.

use crate::rows::{Row, RowKernel, Rows, check_shape, gather};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// A function of one number, lane by lane.
pub trait Lanewise: Copy {
    /// `f(x)` in every lane. Must be `#[inline(always)]`.
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32;
}

/// A function of two numbers, lane by lane.
pub trait Pairwise: Copy {
    /// `f(a, b)` in every lane. Must be `#[inline(always)]`.
    fn of<S: Simd>(&self, s: S, a: S::F32, b: S::F32) -> S::F32;
}

/// `x = f(x)` for every element of a slice.
pub fn slice<F: Lanewise>(cpu: Cpu, f: F, x: &mut [f32]) {
    let n = x.len();
    in_place(cpu, f, MatMut::new(x, 1, n));
}

/// `x = f(x)` for every element of a (rows, cols) matrix; any strides.
pub fn in_place<F: Lanewise>(cpu: Cpu, f: F, x: MatMut) {
    run(cpu, f, None, x);
}

/// `y = f(x)` for every element of a (rows, cols) matrix; any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn apply<F: Lanewise>(cpu: Cpu, f: F, x: MatRef, y: MatMut) {
    check_shape(&x, &y.as_ref());
    run(cpu, f, Some(x), y);
}

fn run<F: Lanewise>(cpu: Cpu, f: F, x: Option<MatRef>, out: MatMut) {
    let down = runs_down(&out.as_ref());
    let (x, out) = if down { (x.map(MatRef::t), out.t()) } else { (x, out) };
    let (x, out) = as_one_row(x, out);
    cpu.run(Rows { x, out, kernel: Map(f) });
}

/// Whether neighbours lie in a column rather than in a row.
#[inline(always)]
pub(crate) fn runs_down(out: &MatRef) -> bool {
    out.rows() > 1 && out.row_stride().unsigned_abs() < out.col_stride().unsigned_abs()
}

/// One long row instead of many, where nothing lies between the rows.
fn as_one_row<'a>(x: Option<MatRef<'a>>, out: MatMut<'a>) -> (Option<MatRef<'a>>, MatMut<'a>) {
    let n = out.rows() * out.cols();
    let flat = x.map(|x| x.contiguous());
    if flat == Some(None) {
        return (x, out);
    }
    match out.into_contiguous() {
        Ok(out) => (flat.flatten().map(|x| MatRef::new(x, 1, n)), MatMut::new(out, 1, n)),
        Err(out) => (x, out),
    }
}

/// A function of each lane, as a row kernel.
struct Map<F>(F);

impl<F: Lanewise> RowKernel for Map<F> {
    #[inline(always)]
    fn row<S: Simd, R: Row>(&self, s: S, row: &mut R) {
        for i in 0..row.words() {
            let y = self.0.of(s, row.read(s, i));
            row.write(s, i, y);
        }
        if row.has_tail() {
            let y = self.0.of(s, row.read_tail(s, 0.0));
            row.write_tail(s, y);
        }
    }
}

/// `y = f(a, b)` for every element of (rows, cols) matrices; any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn zip<F: Pairwise>(cpu: Cpu, f: F, a: MatRef, b: MatRef, y: MatMut) {
    check_shape(&a, &y.as_ref());
    check_shape(&b, &y.as_ref());
    let down = runs_down(&y.as_ref());
    let (a, b, y) = if down { (a.t(), b.t(), y.t()) } else { (a, b, y) };
    cpu.run(Zip { f, a, b, y });
}

struct Zip<'a, F> {
    f: F,
    a: MatRef<'a>, // (rows, cols)
    b: MatRef<'a>, // (rows, cols)
    y: MatMut<'a>, // (rows, cols)
}

impl<F: Pairwise> Kernel for Zip<'_, F> {
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
fn side_by_side<S: Simd, F: Pairwise>(s: S, f: F, a: &[f32], b: &[f32], y: &mut [f32]) {
    let (a_lines, a_tail) = a.as_chunks::<LANES>();
    let (b_lines, b_tail) = b.as_chunks::<LANES>();
    let (y_lines, y_tail) = y.as_chunks_mut::<LANES>();
    for ((a, b), y) in a_lines.iter().zip(b_lines).zip(y_lines) {
        s.store(y, f.of(s, s.load(a), s.load(b)));
    }
    if !y_tail.is_empty() {
        s.store_tail(y_tail, f.of(s, s.load_tail(a_tail, 0.0), s.load_tail(b_tail, 0.0)));
    }
}

/// Row `r`, sixteen elements at a time through arrays.
#[inline(always)]
fn strided<S: Simd, F: Pairwise>(s: S, f: F, (a, b): (MatRef, MatRef), y: &mut MatMut, r: usize) {
    for start in (0..y.cols()).step_by(LANES) {
        let (a, b) = (gather(&a, r, start, 0.0), gather(&b, r, start, 0.0));
        let word = s.to_array(f.of(s, s.load(&a), s.load(&b)));
        for (c, v) in (start..y.cols()).zip(word) {
            *y.at(r, c) = v;
        }
    }
}
