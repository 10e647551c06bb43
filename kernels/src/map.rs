//! # Elementwise kernels: one function, every element
//!
//! **Math.**  y = f(x), or y = f(a, b), each element for itself.
//!
//! **Law.**  Clause 3. No element sees another, so neither length, stride, place nor tier can change a bit.
//!
//! ```text
//!   a  (rows, cols)  strides ─┐  256 columns at a time: where the elements lie side by side, in place;
//!   b  (rows, cols)  strides ─┤  else gathered to the stack (stride 0: one value, filled in)
//!                             ▼
//!                     y  ◄─ f, word by word ─► scattered where y is strided
//! ```
//!
//! Broadcasting is a stride of 0. Where `y` runs down its columns the whole problem is transposed first; where
//! everything is gapless it is one long row. A tail is padded with +0, and only the tail is written.
//!
//! **Registers.**  Those of `f`.   **Cost.**  4 bytes read (8 for two inputs) and 4 written an element; memory
//! binds unless `f` needs more than about 16 operations a line.   **Error.**  That of `f`.
//!
//! **Reference.**  None: the definition is the algorithm.   **Next.**  `math/`, `activation.rs` and
//! `elementwise.rs` hold the functions.

use crate::rows::{Row, RowKernel, Rows, check_shape, set_word_at, word_at};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// A function of one number, lane by lane.
///
/// ```
/// use samebits_kernels::map::{Lanewise, apply, in_place};
/// use samebits_kernels::{Cpu, simd::Simd, view::{MatMut, MatRef}};
/// #[derive(Clone, Copy)]
/// struct Clamped(f32);
/// impl Lanewise for Clamped {
///     #[inline(always)]
///     fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
///         s.min(s.max(x, s.splat(-self.0)), s.splat(self.0))
///     }
/// }
/// let (x, mut y) = ([-3.0, 0.5, 8.0], [0.0; 3]);
/// apply(Cpu::detect(), Clamped(2.0), MatRef::new(&x, 1, 3), MatMut::new(&mut y, 1, 3));
/// assert_eq!(y, [-2.0, 0.5, 2.0]);
/// in_place(Cpu::detect(), Clamped(1.0), MatMut::new(&mut y, 1, 3));
/// assert_eq!(y, [-1.0, 0.5, 1.0]);
/// ```
pub trait Lanewise: Copy {
    /// `f(x)` in every lane. Must be `#[inline(always)]`.
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32;
}

/// A function of two numbers, lane by lane.
///
/// ```
/// use samebits_kernels::map::{Pairwise, zip, zip_in_place};
/// use samebits_kernels::{Cpu, simd::Simd, view::{MatMut, MatRef}};
/// /// a + w · (b − a)
/// #[derive(Clone, Copy)]
/// struct Between(f32);
/// impl Pairwise for Between {
///     #[inline(always)]
///     fn of<S: Simd>(&self, s: S, a: S::F32, b: S::F32) -> S::F32 {
///         s.fma(s.splat(self.0), s.sub(b, a), a)
///     }
/// }
/// let (mut a, b, mut y) = ([0.0, 4.0], [1.0, 8.0], [0.0; 2]);
/// let (to_b, cpu) = (MatRef::new(&b, 1, 2), Cpu::detect());
/// zip(cpu, Between(0.25), MatRef::new(&a, 1, 2), to_b, MatMut::new(&mut y, 1, 2));
/// zip_in_place(cpu, Between(0.25), MatMut::new(&mut a, 1, 2), to_b);
/// assert_eq!((a, y), ([0.25, 5.0], [0.25, 5.0]));
/// ```
pub trait Pairwise: Copy {
    /// `f(a, b)` in every lane. Must be `#[inline(always)]`.
    fn of<S: Simd>(&self, s: S, a: S::F32, b: S::F32) -> S::F32;
}

/// Functions of I numbers with O results, lane by lane.
///
/// ```
/// use samebits_kernels::map::{Lanes, lanes};
/// use samebits_kernels::{Cpu, simd::Simd, view::{MatMut, MatRef}};
/// #[derive(Clone, Copy)]
/// struct SumAndProduct;
/// impl Lanes<2, 2> for SumAndProduct {
///     #[inline(always)]
///     fn of<S: Simd>(&self, s: S, [a, b]: [S::F32; 2]) -> [S::F32; 2] {
///         [s.add(a, b), s.mul(a, b)]
///     }
/// }
/// let (a, b, mut sum, mut product) = ([2.0, 3.0], [5.0, 7.0], [0.0; 2], [0.0; 2]);
/// let x = [MatRef::new(&a, 1, 2), MatRef::new(&b, 1, 2)];
/// lanes(Cpu::detect(), SumAndProduct, x, [MatMut::new(&mut sum, 1, 2), MatMut::new(&mut product, 1, 2)]);
/// assert_eq!((sum, product), ([7.0, 10.0], [10.0, 21.0]));
/// ```
pub trait Lanes<const I: usize, const O: usize>: Copy {
    /// The results in every lane. Must be `#[inline(always)]`.
    fn of<S: Simd>(&self, s: S, x: [S::F32; I]) -> [S::F32; O];
}

/// `y = f(x)` for every element of (rows, cols) matrices, each of any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn lanes<const I: usize, const O: usize, F: Lanes<I, O>>(cpu: Cpu, f: F, x: [MatRef; I], y: [MatMut; O]) {
    for y in &y {
        x.iter().for_each(|x| check_shape(x, &y.as_ref()));
    }
    cpu.run(Each { f, x, y });
}

struct Each<'a, F, const I: usize, const O: usize> {
    f: F,
    x: [MatRef<'a>; I],
    y: [MatMut<'a>; O],
}

impl<F: Lanes<I, O>, const I: usize, const O: usize> Kernel for Each<'_, F, I, O> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (rows, cols) = self.y.first().map_or((0, 0), |y| (y.rows(), y.cols()));
        for r in 0..rows {
            for at in (0..cols).step_by(LANES) {
                let mut words = [s.splat(0.0); I];
                for (word, x) in words.iter_mut().zip(&self.x) {
                    *word = word_at(s, x, r, at, 0.0);
                }
                for (y, word) in self.y.iter_mut().zip(self.f.of(s, words)) {
                    set_word_at(s, y, r, at, word);
                }
            }
        }
    }
}

/// `x = f(x)` for every element of a slice.
pub fn slice<F: Lanewise>(cpu: Cpu, f: F, x: &mut [f32]) {
    let n = x.len();
    in_place(cpu, f, MatMut::new(x, 1, n));
}

/// `x = f(x)` for every element of a (rows, cols) matrix; any strides.
pub fn in_place<F: Lanewise>(cpu: Cpu, f: F, x: MatMut) {
    let ([], out) = straighten([], x);
    cpu.run(Rows { x: None, out, kernel: Map(f) });
}

/// `y = f(x)` for every element of a (rows, cols) matrix; any strides.
///
/// # Panics
/// Where the shapes differ.
pub fn apply<F: Lanewise>(cpu: Cpu, f: F, x: MatRef, y: MatMut) {
    check_shape(&x, &y.as_ref());
    let ([x], out) = straighten([x], y);
    cpu.run(Rows { x: Some(x), out, kernel: Map(f) });
}

/// `y = f(a, b)` for every element of (rows, cols) matrices; any strides, broadcast with strides of 0.
///
/// # Panics
/// Where the shapes differ.
pub fn zip<F: Pairwise>(cpu: Cpu, f: F, a: MatRef, b: MatRef, y: MatMut) {
    check_shape(&a, &y.as_ref());
    check_shape(&b, &y.as_ref());
    let ([a, b], y) = straighten([a, b], y);
    cpu.run(Zip { f, a: Some(a), b, y });
}

/// `a = f(a, b)` for every element of (rows, cols) matrices; any strides, `b` broadcast with strides of 0.
///
/// # Panics
/// Where the shapes differ.
pub fn zip_in_place<F: Pairwise>(cpu: Cpu, f: F, a: MatMut, b: MatRef) {
    check_shape(&b, &a.as_ref());
    let ([b], y) = straighten([b], a);
    cpu.run(Zip { f, a: None, b, y });
}

/// Rows for columns where neighbours of `y` lie in a column; then one long row where nothing lies between the rows.
fn straighten<'a, const N: usize>(
    mut x: [MatRef<'a>; N],
    mut y: MatMut<'a>,
) -> ([MatRef<'a>; N], MatMut<'a>) {
    let (row_stride, col_stride) = (y.as_ref().row_stride(), y.col_stride());
    if y.rows() > 1 && row_stride.unsigned_abs() < col_stride.unsigned_abs() {
        (x, y) = (x.map(MatRef::t), y.t());
    }
    let flat = x.map(|x| x.contiguous());
    if flat.contains(&None) {
        return (x, y);
    }
    let n = y.rows() * y.cols();
    match y.into_contiguous() {
        Ok(y) => (flat.map(|x| MatRef::new(x.unwrap_or_default(), 1, n)), MatMut::new(y, 1, n)),
        Err(y) => (x, y),
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

/// y = f(a, b), or y = f(y, b) where there is no a.
pub(crate) struct Zip<'a, F> {
    pub f: F,
    pub a: Option<MatRef<'a>>, // (rows, cols)
    pub b: MatRef<'a>,         // (rows, cols)
    pub y: MatMut<'a>,         // (rows, cols)
}

/// Columns at a time: three blocks of 1 KiB stay in every first-level cache.
const BLOCK: usize = 256;

impl<F: Pairwise> Kernel for Zip<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Zip { f, a, b, mut y } = self;
        let mut buffers = [[0.0; BLOCK]; 3];
        for r in 0..y.rows() {
            let mut start = 0;
            while start < y.cols() {
                let cols = start..y.cols().min(start + BLOCK);
                start = cols.end;
                let b = b.sub(r..r + 1, cols.clone());
                let a = a.map(|a| a.sub(r..r + 1, cols.clone()));
                let block = Zip { f, a, b, y: y.reborrow().sub(r..r + 1, cols) };
                zip_block(s, block, &mut buffers);
            }
        }
    }
}

/// One block of one row: operands brought side by side, the function, the result put where it belongs.
#[inline(always)]
fn zip_block<S: Simd, F: Pairwise>(s: S, block: Zip<F>, buffers: &mut [[f32; BLOCK]; 3]) {
    let [a_buffer, b_buffer, y_buffer] = buffers;
    let Zip { f, a, b, mut y } = block;
    let n = y.cols();
    let a = match a {
        Some(a) => side_by_side(a, a_buffer),
        None => {
            copy(y.as_ref(), &mut a_buffer[..n]);
            &a_buffer[..n]
        }
    };
    let b = side_by_side(b, b_buffer);
    let apart = y.row(0).is_none();
    let to = match y.row(0) {
        Some(row) => row,
        None => &mut y_buffer[..n],
    };
    words(s, f, a, b, to);
    if apart {
        scatter(&y_buffer[..n], y);
    }
}

// No word of the vocabulary is said in these three: as functions of their own they stand once in the program.

/// The only row of `x`, in its own place or copied to `buffer`.
#[inline(never)]
fn side_by_side<'a>(x: MatRef<'a>, buffer: &'a mut [f32; BLOCK]) -> &'a [f32] {
    match x.row(0) {
        Some(row) => row,
        None => {
            copy(x, &mut buffer[..x.cols()]);
            &buffer[..x.cols()]
        }
    }
}

/// The only row of `x`.
#[inline(never)]
fn copy(x: MatRef, out: &mut [f32]) {
    match x.row(0) {
        Some(row) => out.copy_from_slice(row),
        None if x.col_stride() == 0 => out.fill(x.get(0, 0)),
        None => out.iter_mut().enumerate().for_each(|(c, y)| *y = x.get(0, c)),
    }
}

/// The only row of `y`.
#[inline(never)]
fn scatter(from: &[f32], mut y: MatMut) {
    for (c, &value) in from.iter().enumerate() {
        *y.at(0, c) = value;
    }
}

#[inline(always)]
fn words<S: Simd, F: Pairwise>(s: S, f: F, a: &[f32], b: &[f32], y: &mut [f32]) {
    let n = y.len();
    let ((a, a_tail), (b, b_tail)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
    let (y, y_tail) = y.as_chunks_mut::<LANES>();
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        s.store(y, f.of(s, s.load(a), s.load(b)));
    }
    if !y_tail.is_empty() {
        s.store_tail(y_tail, f.of(s, s.load_tail(a_tail, 0.0), s.load_tail(b_tail, 0.0)));
    }
}
