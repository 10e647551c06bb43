//! # One element at a time: arithmetic of two matrices, functions of one
//!
//! **Math.**  out = a ∘ b with ∘ one of + − × ÷ max min;   out = f(x) with f one of −x |x| √x e^x.
//!
//! **Law.**   Clause 3: one exact word an element, so there is no order to fix. `max` and `min` of a NaN and
//! anything is NaN.
//!
//! ```text
//!   a  (rows, cols)  strides ─┐  256 columns at a time: where the elements lie side by side, in place;
//!   b  (rows, cols)  strides ─┤  else gathered to the stack (stride 0: one value, filled in)
//!                             ▼
//!                    out ◄─ word by word ─► scattered where out is strided
//! ```
//!
//! Broadcasting is a stride of 0; a scalar operand has two. Where `out` runs down its columns the whole problem
//! is transposed first; where everything is gapless it is one long row.
//!
//! **Registers.**  Two words.  **Cost.**  12 bytes, one operation an element: memory binds.
//! **Error.**  Each result rounded once; e^x as [`crate::math::exp`].  **Next.**  [`crate::reduce`].

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::map::{self, Lanewise, runs_down};
use crate::math::exp::Exp;
use crate::rows::check_shape;
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};

/// An operation of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a × b
    Mul,
    /// a ÷ b
    Div,
    /// The larger; NaN where either is; b where they are equal (so for zeros of two signs).
    Max,
    /// The smaller; NaN where either is; b where they are equal.
    Min,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// −x: the sign flipped.
    Neg,
    /// |x|: the sign cleared.
    Abs,
    /// √x; NaN below 0.
    Sqrt,
    /// e^x
    Exp,
}

impl Binary {
    /// Every operation.
    pub const ALL: [Binary; 6] =
        [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min];
}

impl Unary {
    /// Every function.
    pub const ALL: [Unary; 4] = [Unary::Neg, Unary::Abs, Unary::Sqrt, Unary::Exp];
}

/// out = a ∘ b, all (rows, cols), any strides; broadcast with strides of 0.
///
/// # Panics
/// Where the shapes differ.
pub fn binary(cpu: Cpu, op: Binary, a: MatRef, b: MatRef, out: MatMut) {
    check_shape(&a, &out.as_ref());
    check_shape(&b, &out.as_ref());
    cpu.run(Zip { op, a: Some(a), b, out });
}

/// a = a ∘ b, both (rows, cols), any strides: with [`Binary::Add`] the residual addition.
///
/// # Panics
/// Where the shapes differ.
pub fn binary_in_place(cpu: Cpu, op: Binary, a: MatMut, b: MatRef) {
    check_shape(&b, &a.as_ref());
    cpu.run(Zip { op, a: None, b, out: a });
}

/// out = f(x), both (rows, cols), any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn unary(cpu: Cpu, f: Unary, x: MatRef, out: MatMut) {
    match f {
        Unary::Neg => map::apply(cpu, Neg, x, out),
        Unary::Abs => map::apply(cpu, Abs, x, out),
        Unary::Sqrt => map::apply(cpu, Sqrt, x, out),
        Unary::Exp => map::apply(cpu, Exp, x, out),
    }
}

/// x = f(x), (rows, cols), any strides.
pub fn unary_in_place(cpu: Cpu, f: Unary, x: MatMut) {
    match f {
        Unary::Neg => map::in_place(cpu, Neg, x),
        Unary::Abs => map::in_place(cpu, Abs, x),
        Unary::Sqrt => map::in_place(cpu, Sqrt, x),
        Unary::Exp => map::in_place(cpu, Exp, x),
    }
}

#[derive(Clone, Copy)]
struct Neg;
#[derive(Clone, Copy)]
struct Abs;
#[derive(Clone, Copy)]
struct Sqrt;

impl Lanewise for Neg {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        s.neg(x)
    }
}

impl Lanewise for Abs {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        s.abs(x)
    }
}

impl Lanewise for Sqrt {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        s.sqrt(x)
    }
}

/// out = a ∘ b, or out = out ∘ b where there is no a.
pub(crate) struct Zip<'a> {
    pub op: Binary,
    pub a: Option<MatRef<'a>>,
    pub b: MatRef<'a>,
    pub out: MatMut<'a>,
}

/// Columns at a time: three blocks of 1 KiB stay in every first-level cache.
const BLOCK: usize = 256;

impl Kernel for Zip<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Zip { op, mut a, mut b, mut out } = self;
        if runs_down(&out.as_ref()) {
            (a, b, out) = (a.map(MatRef::t), b.t(), out.t());
        }
        (a, b, out) = as_one_row(a, b, out);
        let mut buffers = [[0.0; BLOCK]; 3];
        for r in 0..out.rows() {
            for start in (0..out.cols()).step_by(BLOCK) {
                let cols = start..out.cols().min(start + BLOCK);
                let b = b.sub(r..r + 1, cols.clone());
                let a = a.map(|a| a.sub(r..r + 1, cols.clone()));
                let block = Zip { op, a, b, out: out.reborrow().sub(r..r + 1, cols) };
                zip_block(s, block, &mut buffers);
            }
        }
    }
}

/// One long row instead of many, where nothing lies between the rows.
#[inline(always)]
fn as_one_row<'a>(
    a: Option<MatRef<'a>>,
    b: MatRef<'a>,
    out: MatMut<'a>,
) -> (Option<MatRef<'a>>, MatRef<'a>, MatMut<'a>) {
    let n = out.rows() * out.cols();
    let flat = |x: MatRef<'a>| x.contiguous().map(|x| MatRef::new(x, 1, n));
    let (flat_a, flat_b) = (a.map(flat), flat(b));
    let (Some(flat_b), false) = (flat_b, matches!(flat_a, Some(None))) else { return (a, b, out) };
    match out.into_contiguous() {
        Ok(out) => (flat_a.flatten(), flat_b, MatMut::new(out, 1, n)),
        Err(out) => (a, b, out),
    }
}

/// One block of one row: operands brought side by side, the operation, the result put where it belongs.
#[inline(always)]
fn zip_block<S: Simd>(s: S, block: Zip, [a_buffer, b_buffer, out_buffer]: &mut [[f32; BLOCK]; 3]) {
    let Zip { op, a, b, mut out } = block;
    let n = out.cols();
    let b = side_by_side(&b, b_buffer);
    let a = match a {
        Some(a) => side_by_side(&a, a_buffer),
        None => {
            // In place: a copy of the block, for `out` is written over.
            copy(&out.as_ref(), &mut a_buffer[..n]);
            &a_buffer[..n]
        }
    };
    if let Some(out) = out.row(0) {
        zip(s, op, a, b, out);
        return;
    }
    zip(s, op, a, b, &mut out_buffer[..n]);
    for (c, &y) in out_buffer[..n].iter().enumerate() {
        *out.at(0, c) = y;
    }
}

/// The only row of `x`, in its own place or copied to `buffer`.
#[inline(always)]
fn side_by_side<'a>(x: &MatRef<'a>, buffer: &'a mut [f32; BLOCK]) -> &'a [f32] {
    match x.row(0) {
        Some(row) => row,
        None => {
            copy(x, &mut buffer[..x.cols()]);
            &buffer[..x.cols()]
        }
    }
}

#[inline(always)]
fn copy(x: &MatRef, out: &mut [f32]) {
    match x.row(0) {
        Some(row) => out.copy_from_slice(row),
        None if x.col_stride() == 0 => out.fill(x.get(0, 0)),
        None => out.iter_mut().enumerate().for_each(|(c, y)| *y = x.get(0, c)),
    }
}

/// out = a ∘ b. The operation is known before the loop, so each has a loop of its own.
#[inline(always)]
fn zip<S: Simd>(s: S, op: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
    match op {
        Binary::Add => words(s, a, b, out, |a, b| s.add(a, b)),
        Binary::Sub => words(s, a, b, out, |a, b| s.sub(a, b)),
        Binary::Mul => words(s, a, b, out, |a, b| s.mul(a, b)),
        Binary::Div => words(s, a, b, out, |a, b| s.div(a, b)),
        Binary::Max => words(s, a, b, out, |a, b| s.select(s.unordered(a, b), s.add(a, b), s.max(a, b))),
        Binary::Min => words(s, a, b, out, |a, b| s.select(s.unordered(a, b), s.add(a, b), s.min(a, b))),
    }
}

#[inline(always)]
fn words<S: Simd>(s: S, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(S::F32, S::F32) -> S::F32) {
    let n = out.len();
    let ((a, a_tail), (b, b_tail)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        s.store(out, f(s.load(a), s.load(b)));
    }
    if !out_tail.is_empty() {
        s.store_tail(out_tail, f(s.load_tail(a_tail, 0.0), s.load_tail(b_tail, 0.0)));
    }
}
