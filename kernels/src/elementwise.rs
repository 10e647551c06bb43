//! # Arithmetic of two matrices, functions of one, by name
//!
//! **Math.**  out = a ∘ b with ∘ one of + − × ÷ max min pow;   out = f(x) with f one of −x |x| √x e^x ln tanh σ erf.
//!
//! **Law.**   Clause 3: exact words, one element at a time. `max` and `min` of a NaN and anything are NaN.
//!
//! ```text
//!   enum ─► a function of `map.rs` with a loop of its own: nothing is decided inside a loop
//! ```
//!
//! **Registers.**  Two words, and what f needs.  **Cost.**  8 or 12 bytes, one operation an element: memory
//! binds (functions: see [`crate::math`]).
//! **Error.**  Each result rounded once (pow: 0.5 ulp and 2⁻²⁷ of one); functions within the bounds of `math/`.
//! **Reference.**  IEEE 754-2019, [doi:10.1109/IEEESTD.2019.8766229](https://doi.org/10.1109/IEEESTD.2019.8766229), clause 5.  **Next.**  [`crate::reduce`].

use crate::Cpu;
use crate::map::{self, Lanewise, Pairwise};
use crate::math::{Erf, Exp, Ln, Sigmoid, Tanh, pow64};
use crate::simd::{Floats, Simd};
use crate::view::{Layout, MatMut, MatRef};

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
    /// a^b as IEEE 754's pow: any base where b is an integer; computed in `f64`, number by number, and rounded once.
    Pow,
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
    /// ln x; NaN below 0
    Ln,
    /// tanh x
    Tanh,
    /// 1 / (1 + e^−x)
    Sigmoid,
    /// erf x
    Erf,
}

impl Binary {
    /// Every operation.
    pub const ALL: [Binary; 7] =
        [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min, Binary::Pow];
}

impl Unary {
    /// Every function.
    pub const ALL: [Unary; 8] =
        [Unary::Neg, Unary::Abs, Unary::Sqrt, Unary::Exp, Unary::Ln, Unary::Tanh, Unary::Sigmoid, Unary::Erf];
}

/// out = a ∘ b, all (rows, cols), any strides; broadcast with strides of 0, a scalar with two.
///
/// ```
/// use samebits_kernels::elementwise::{Binary, binary, binary_in_place, scalar_in_place};
/// use samebits_kernels::{Cpu, view::{Layout, MatMut, MatRef}};
/// let (cpu, a, row, mut out) = (Cpu::detect(), [1.0, 2.0, 3.0, 4.0], [10.0, 20.0], [0.0; 4]);
/// // The row for both rows: a stride of 0.
/// let b = MatRef::strided(&row, 0, Layout { rows: 2, cols: 2, row_stride: 0, col_stride: 1 });
/// binary(cpu, Binary::Add, MatRef::new(&a, 2, 2), b, MatMut::new(&mut out, 2, 2));
/// assert_eq!(out, [11.0, 22.0, 13.0, 24.0]);
/// binary_in_place(cpu, Binary::Div, MatMut::new(&mut out, 2, 2), b);
/// scalar_in_place(cpu, Binary::Max, MatMut::new(&mut out, 2, 2), 1.15);
/// assert_eq!(out, [1.15, 1.15, 1.3, 1.2]);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn binary(cpu: Cpu, op: Binary, a: MatRef, b: MatRef, out: MatMut) {
    match op {
        Binary::Add => map::zip(cpu, Add, a, b, out),
        Binary::Sub => map::zip(cpu, Sub, a, b, out),
        Binary::Mul => map::zip(cpu, Mul, a, b, out),
        Binary::Div => map::zip(cpu, Div, a, b, out),
        Binary::Max => map::zip(cpu, Max, a, b, out),
        Binary::Min => map::zip(cpu, Min, a, b, out),
        Binary::Pow => map::zip(cpu, Pow, a, b, out),
    }
}

/// a = a ∘ b, both (rows, cols), any strides: with [`Binary::Add`] the residual addition.
///
/// # Panics
/// Where the shapes differ.
pub fn binary_in_place(cpu: Cpu, op: Binary, a: MatMut, b: MatRef) {
    match op {
        Binary::Add => map::zip_in_place(cpu, Add, a, b),
        Binary::Sub => map::zip_in_place(cpu, Sub, a, b),
        Binary::Mul => map::zip_in_place(cpu, Mul, a, b),
        Binary::Div => map::zip_in_place(cpu, Div, a, b),
        Binary::Max => map::zip_in_place(cpu, Max, a, b),
        Binary::Min => map::zip_in_place(cpu, Min, a, b),
        Binary::Pow => map::zip_in_place(cpu, Pow, a, b),
    }
}

/// x = x ∘ scalar, (rows, cols), any strides.
pub fn scalar_in_place(cpu: Cpu, op: Binary, x: MatMut, scalar: f32) {
    let same = Layout { rows: x.rows(), cols: x.cols(), row_stride: 0, col_stride: 0 };
    binary_in_place(cpu, op, x, MatRef::strided(&[scalar], 0, same));
}

/// out = f(x), both (rows, cols), any strides.
///
/// ```
/// use samebits_kernels::elementwise::{Unary, unary, unary_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (cpu, x, mut out) = (Cpu::detect(), [0.0, -4.0, 9.0], [0.0; 3]);
/// unary(cpu, Unary::Abs, MatRef::new(&x, 1, 3), MatMut::new(&mut out, 1, 3));
/// unary_in_place(cpu, Unary::Sqrt, MatMut::new(&mut out, 1, 3));
/// assert_eq!(out, [0.0, 2.0, 3.0]);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn unary(cpu: Cpu, f: Unary, x: MatRef, out: MatMut) {
    match f {
        Unary::Neg => map::apply(cpu, Neg, x, out),
        Unary::Abs => map::apply(cpu, Abs, x, out),
        Unary::Sqrt => map::apply(cpu, Sqrt, x, out),
        Unary::Exp => map::apply(cpu, Exp, x, out),
        Unary::Ln => map::apply(cpu, Ln, x, out),
        Unary::Tanh => map::apply(cpu, Tanh, x, out),
        Unary::Sigmoid => map::apply(cpu, Sigmoid, x, out),
        Unary::Erf => map::apply(cpu, Erf, x, out),
    }
}

/// x = f(x), (rows, cols), any strides.
pub fn unary_in_place(cpu: Cpu, f: Unary, x: MatMut) {
    match f {
        Unary::Neg => map::in_place(cpu, Neg, x),
        Unary::Abs => map::in_place(cpu, Abs, x),
        Unary::Sqrt => map::in_place(cpu, Sqrt, x),
        Unary::Exp => map::in_place(cpu, Exp, x),
        Unary::Ln => map::in_place(cpu, Ln, x),
        Unary::Tanh => map::in_place(cpu, Tanh, x),
        Unary::Sigmoid => map::in_place(cpu, Sigmoid, x),
        Unary::Erf => map::in_place(cpu, Erf, x),
    }
}

/// One word as a function for [`crate::map`]: `Name: Trait(a, …) = word;`
macro_rules! words {
    ($($name:ident: $trait:ident($($x:ident),+) = |$s:ident| $e:expr;)*) => {$(
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl $trait for $name {
            #[inline(always)]
            fn of<S: Simd>(&self, $s: S, $($x: S::F32),+) -> S::F32 { $e }
        }
    )*};
}

words! {
    Add: Pairwise(a, b) = |s| s.add(a, b);
    Sub: Pairwise(a, b) = |s| s.sub(a, b);
    Mul: Pairwise(a, b) = |s| s.mul(a, b);
    Div: Pairwise(a, b) = |s| s.div(a, b);
    Max: Pairwise(a, b) = |s| s.select(s.unordered(a, b), s.add(a, b), s.max(a, b));
    Min: Pairwise(a, b) = |s| s.select(s.unordered(a, b), s.add(a, b), s.min(a, b));
    Pow: Pairwise(a, b) = |s| s.load(&powers(&s.to_array(a), &s.to_array(b)));
    Neg: Lanewise(x) = |s| s.neg(x);
    Abs: Lanewise(x) = |s| s.abs(x);
    Sqrt: Lanewise(x) = |s| s.sqrt(x);
}

/// a^b, lane by lane. No word is said here: one copy serves every tier.
#[inline(never)]
fn powers(a: &Floats, b: &Floats) -> Floats {
    let mut out = *a;
    for (a, b) in out.iter_mut().zip(b) {
        *a = power(*a, *b);
    }
    out
}

fn power(a: f32, b: f32) -> f32 {
    // From 2²⁴ on every number is an even integer; the infinities count as such.
    let whole = b as i32;
    let (integer, odd) =
        if b.abs() < 16_777_216.0 { (whole as f32 == b, whole % 2 != 0) } else { (true, false) };
    if a < 0.0 && (b.is_nan() || !integer && a != f32::NEG_INFINITY) {
        return f32::NAN;
    }
    let size = pow64(f64::from(a.abs()), f64::from(b)) as f32;
    if odd && a.is_sign_negative() { -size } else { size }
}
