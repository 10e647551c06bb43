//! # Sums, means, norms and extremes of rows
//!
//! **Math.**  Σ x;  Σ x / n;  √Σ x²;  max x;  min x, for one row or for every row of a strided matrix
//! (the transpose of a matrix gives the columns).
//!
//! **Law.**   Clause 2, chains in `f64` for the sums (the root and the quotient are taken in `f64` too, then
//! rounded once). Extremes: chain and tree with the lane words `max` and `min`, from ∓∞; a NaN anywhere wins.
//!
//! ```text
//!   rows that lie side by side: lanes are columns     columns: lanes are sixteen results
//!     x0…x15 │ x16…x31 │ … │ tail −0                    element 0, 16, … ► chain 0 ┐
//!       └──── + ─── + ───────┴─► 16 chains ─tree─►        element 1, 17, … ► chain 1 │ 16 words
//!                                                              ⋮                     │ ─tree─►
//!                                                         element 15, 31, … ► chain 15┘ 16 results
//! ```
//!
//! The two forms fold the same elements in the same order: the same bits.
//!
//! **Registers.**  One row: 16 f64 chains (AVX2 4 ymm, AVX-512 2 zmm, NEON 8 q). Columns: 16 chains for
//!   each of 8 words in the first-level cache (16 KiB).
//!
//! **Cost.**  4 bytes, one conversion and one addition an element: the reading binds.
//!
//! **Error.**  sum, mean: u · |result| + (n / 16 + 5) · 2⁻⁵³ · Σ|x|, so ≤ 4 u · Σ|x| for n ≤ 2³¹; norm2: ≤ 1 ulp for n ≤ 2²⁶
//! (squares are exact in `f64`).  **Reference.**  Higham 2002, §4.2, [doi:10.1137/1.9780898718027](https://doi.org/10.1137/1.9780898718027).  **Next.**  [`crate::softmax`].

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::rows::gather;
use crate::simd::{Floats, Simd, sqrt64, tree};
use crate::view::MatRef;

/// What a row is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Σ x; +0 for nothing.
    Sum,
    /// Σ x / n; NaN for nothing.
    Mean,
    /// √Σ x²; +0 for nothing.
    Norm2,
    /// The largest; NaN where any is NaN; −∞ for nothing.
    Max,
    /// The smallest; NaN where any is NaN; +∞ for nothing.
    Min,
}

/// Σ x by clause 2, chains in `f64`; +0 for nothing.
///
/// ```
/// use samebits_kernels::Cpu;
/// use samebits_kernels::reduce::{argmax, argmin, max, mean, min, norm2, sum};
/// let (cpu, x) = (Cpu::detect(), [3.0, -4.0, 1e9, -1e9]);
/// assert_eq!((sum(cpu, &x), mean(cpu, &x)), (-1.0, -0.25)); // chains in f64
/// assert_eq!(norm2(cpu, &x[..2]), 5.0);
/// assert_eq!((max(cpu, &x), min(cpu, &x)), (1e9, -1e9));
/// assert_eq!((argmax(cpu, &x), argmin(cpu, &x), argmax(cpu, &[])), (Some(2), Some(3), None));
/// ```
pub fn sum(cpu: Cpu, x: &[f32]) -> f32 {
    reduce(cpu, Reduction::Sum, x)
}

/// Σ x / n; NaN for nothing.
pub fn mean(cpu: Cpu, x: &[f32]) -> f32 {
    reduce(cpu, Reduction::Mean, x)
}

/// √Σ x², with no overflow or underflow on the way; +0 for nothing.
pub fn norm2(cpu: Cpu, x: &[f32]) -> f32 {
    reduce(cpu, Reduction::Norm2, x)
}

/// The largest element; NaN where any is NaN; −∞ for nothing.
pub fn max(cpu: Cpu, x: &[f32]) -> f32 {
    reduce(cpu, Reduction::Max, x)
}

/// The smallest element; NaN where any is NaN; +∞ for nothing.
pub fn min(cpu: Cpu, x: &[f32]) -> f32 {
    reduce(cpu, Reduction::Min, x)
}

/// One row, any reduction.
pub fn reduce(cpu: Cpu, reduction: Reduction, x: &[f32]) -> f32 {
    let mut out = [0.0];
    reduce_rows(cpu, reduction, MatRef::new(x, 1, x.len()), &mut out);
    out[0]
}

/// `out[r]` is the reduction of row r of x, (rows, cols), any strides; `x.t()` reduces the columns.
///
/// ```
/// use samebits_kernels::reduce::{Reduction, reduce, reduce_rows};
/// use samebits_kernels::{Cpu, view::MatRef};
/// let (cpu, x, mut rows, mut cols) = (Cpu::detect(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0; 2], [0.0; 3]);
/// let m = MatRef::new(&x, 2, 3);
/// reduce_rows(cpu, Reduction::Mean, m, &mut rows);
/// reduce_rows(cpu, Reduction::Max, m.t(), &mut cols);
/// assert_eq!((rows, cols), ([2.0, 5.0], [4.0, 5.0, 6.0]));
/// assert_eq!(reduce(cpu, Reduction::Mean, &x[3..]), rows[1]);
/// ```
///
/// # Panics
/// Where `out` is not (rows).
pub fn reduce_rows(cpu: Cpu, reduction: Reduction, x: MatRef, out: &mut [f32]) {
    let (rows, cols) = (x.rows(), x.cols());
    assert!(out.len() == rows, "output of {} elements, input ({rows}, {cols})", out.len());
    match reduction {
        Reduction::Sum => cpu.run(Reduce { x, out, fold: Sums(Plain, |sum, _| sum) }),
        Reduction::Mean => cpu.run(Reduce { x, out, fold: Sums(Plain, |sum, n| sum / n as f64) }),
        Reduction::Norm2 => cpu.run(Reduce { x, out, fold: Sums(Square, |sum, _| sqrt64(sum)) }),
        Reduction::Max => cpu.run(Reduce { x, out, fold: Extreme(Largest) }),
        Reduction::Min => cpu.run(Reduce { x, out, fold: Extreme(Smallest) }),
    }
}

/// The place of the largest element: of the first NaN where there is one, else of the first of equals (−0
/// equals +0); `None` for nothing.
pub fn argmax(cpu: Cpu, x: &[f32]) -> Option<usize> {
    cpu.run(Find { x, what: max(cpu, x) })
}

/// The place of the smallest element, as [`argmax`].
pub fn argmin(cpu: Cpu, x: &[f32]) -> Option<usize> {
    cpu.run(Find { x, what: min(cpu, x) })
}

/// How sixteen chains grow, and what becomes of them.
trait Fold {
    /// The chains of sixteen lanes.
    type Chains<S: Simd>: Copy;
    /// One chain.
    type Lane: Copy;
    /// The element that changes no chain: the padding of tails.
    const NEUTRAL: f32;
    /// Chains of nothing.
    fn start<S: Simd>(&self, s: S) -> Self::Chains<S>;
    /// One element more for each chain.
    fn step<S: Simd>(&self, s: S, chains: Self::Chains<S>, x: S::F32) -> Self::Chains<S>;
    /// A node of the tree, sixteen at once.
    fn join<S: Simd>(&self, s: S, a: Self::Chains<S>, b: Self::Chains<S>) -> Self::Chains<S>;
    /// The chains one by one.
    fn lanes<S: Simd>(&self, s: S, chains: Self::Chains<S>) -> [Self::Lane; LANES];
    /// A node of the tree.
    fn node(a: Self::Lane, b: Self::Lane) -> Self::Lane;
    /// The result of `n` elements.
    fn end(&self, total: Self::Lane, n: usize) -> f32;
}

struct Reduce<'a, F> {
    x: MatRef<'a>,
    out: &'a mut [f32],
    fold: F,
}

impl<F: Fold> Kernel for Reduce<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Reduce { x, out, fold } = self;
        if x.col_stride() != 1 && x.row_stride() == 1 && x.rows() > 1 && x.cols() > 1 {
            let columns = x.t(); // (k, results)
            for (block, out) in out.chunks_mut(WORDS * LANES).enumerate() {
                let start = block * WORDS * LANES;
                down(s, &fold, columns.sub(0..columns.rows(), start..start + out.len()), out);
            }
            return;
        }
        for (r, out) in out.iter_mut().enumerate() {
            let chains = match x.row(r) {
                Some(row) => along(s, &fold, row),
                None => along_strided(s, &fold, &x, r),
            };
            *out = fold.end(tree(fold.lanes(s, chains), F::node), x.cols());
        }
    }
}

/// The chains of a row that lies side by side.
#[inline(always)]
fn along<S: Simd, F: Fold>(s: S, fold: &F, row: &[f32]) -> F::Chains<S> {
    let (words, tail) = row.as_chunks();
    let mut chains = fold.start(s);
    for x in words {
        chains = fold.step(s, chains, s.load(x));
    }
    if !tail.is_empty() {
        chains = fold.step(s, chains, s.load_tail(tail, F::NEUTRAL));
    }
    chains
}

/// The chains of a row whose elements lie apart.
#[inline(always)]
fn along_strided<S: Simd, F: Fold>(s: S, fold: &F, x: &MatRef, r: usize) -> F::Chains<S> {
    let mut chains = fold.start(s);
    for start in (0..x.cols()).step_by(LANES) {
        chains = fold.step(s, chains, s.load(&gather(x, r, start, F::NEUTRAL)));
    }
    chains
}

/// Words of columns at a time: 512 bytes of every row, and chains of 16 KiB.
const WORDS: usize = 8;

/// Up to `WORDS` words of columns of `x` (k, columns) at once: chain i takes rows i, i + 16, …; then the tree over
/// words.
#[inline(always)]
fn down<S: Simd, F: Fold>(s: S, fold: &F, x: MatRef, out: &mut [f32]) {
    let mut chains = [[fold.start(s); WORDS]; LANES];
    for k in 0..x.rows() {
        let row = x.row(k).expect("columns of the transpose lie side by side");
        let (words, tail) = row.as_chunks();
        let chain = &mut chains[k % LANES];
        for (chain, x) in chain.iter_mut().zip(words) {
            *chain = fold.step(s, *chain, s.load(x));
        }
        if !tail.is_empty() {
            chain[words.len()] = fold.step(s, chain[words.len()], s.load_tail(tail, F::NEUTRAL));
        }
    }
    for (w, out) in out.chunks_mut(LANES).enumerate() {
        let lanes = fold.lanes(s, joined(s, fold, &chains, w));
        for (out, total) in out.iter_mut().zip(lanes) {
            *out = fold.end(total, x.rows());
        }
    }
}

/// The tree over the chains of word `w`.
#[inline(always)]
fn joined<S: Simd, F: Fold>(
    s: S,
    fold: &F,
    chains: &[[F::Chains<S>; WORDS]; LANES],
    w: usize,
) -> F::Chains<S> {
    let mut x = [fold.start(s); LANES];
    for i in 0..LANES {
        x[i] = chains[i][w];
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            x[i] = fold.join(s, x[i], x[i + half]);
        }
    }
    x[0]
}

/// Chains of sums in `f64`: of what, and what becomes of the total.
struct Sums<T>(T, fn(f64, usize) -> f64);

/// What an element adds to a sum.
trait Term {
    fn of<S: Simd>(&self, s: S, x: S::F64) -> S::F64;
}

/// The element itself.
struct Plain;

/// Its square, exact: 24 + 24 bits fit 53.
struct Square;

impl Term for Plain {
    #[inline(always)]
    fn of<S: Simd>(&self, _: S, x: S::F64) -> S::F64 {
        x
    }
}

impl Term for Square {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F64) -> S::F64 {
        s.mul_d(x, x)
    }
}

impl<T: Term> Fold for Sums<T> {
    type Chains<S: Simd> = S::F64;
    type Lane = f64;
    /// x + −0 is x, also for x = −0.
    const NEUTRAL: f32 = -0.0;
    #[inline(always)]
    fn start<S: Simd>(&self, s: S) -> S::F64 {
        s.splat_d(0.0)
    }
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, chains: S::F64, x: S::F32) -> S::F64 {
        s.add_d(chains, self.0.of(s, s.widen(x)))
    }
    #[inline(always)]
    fn join<S: Simd>(&self, s: S, a: S::F64, b: S::F64) -> S::F64 {
        s.add_d(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, chains: S::F64) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        s.store_d(&mut lanes, chains);
        lanes
    }
    #[inline(always)]
    fn node(a: f64, b: f64) -> f64 {
        a + b
    }
    #[inline(always)]
    fn end(&self, total: f64, n: usize) -> f32 {
        (self.1)(total, n) as f32
    }
}

/// Chains of extremes: the lane words drop a NaN, so the lanes that met one are kept beside them.
struct Extreme<T>(T);

/// The better of two.
trait Better {
    /// Worse than every number.
    const WORST: f32;
    fn pick<S: Simd>(&self, s: S, a: S::F32, b: S::F32) -> S::F32;
    fn beats(a: f32, b: f32) -> bool;
}

struct Largest;
struct Smallest;

impl Better for Largest {
    const WORST: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn pick<S: Simd>(&self, s: S, a: S::F32, b: S::F32) -> S::F32 {
        s.max(a, b)
    }
    #[inline(always)]
    fn beats(a: f32, b: f32) -> bool {
        a > b
    }
}

impl Better for Smallest {
    const WORST: f32 = f32::INFINITY;
    #[inline(always)]
    fn pick<S: Simd>(&self, s: S, a: S::F32, b: S::F32) -> S::F32 {
        s.min(a, b)
    }
    #[inline(always)]
    fn beats(a: f32, b: f32) -> bool {
        a < b
    }
}

impl<T: Better> Fold for Extreme<T> {
    type Chains<S: Simd> = (S::F32, S::Mask);
    type Lane = f32;
    const NEUTRAL: f32 = T::WORST;
    #[inline(always)]
    fn start<S: Simd>(&self, s: S) -> (S::F32, S::Mask) {
        (s.splat(T::WORST), s.mask_from_bits(0))
    }
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, (best, nan): (S::F32, S::Mask), x: S::F32) -> (S::F32, S::Mask) {
        (self.0.pick(s, x, best), s.mask_or(nan, s.is_nan(x)))
    }
    #[inline(always)]
    fn join<S: Simd>(&self, s: S, a: (S::F32, S::Mask), b: (S::F32, S::Mask)) -> (S::F32, S::Mask) {
        (self.0.pick(s, a.0, b.0), s.mask_or(a.1, b.1))
    }
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, (best, nan): (S::F32, S::Mask)) -> Floats {
        s.to_array(s.select(nan, s.splat(f32::NAN), best))
    }
    #[inline(always)]
    fn node(a: f32, b: f32) -> f32 {
        if a.is_nan() || T::beats(a, b) { a } else { b }
    }
    #[inline(always)]
    fn end(&self, total: f32, _: usize) -> f32 {
        total
    }
}

/// The first element equal to `what`, or the first NaN where `what` is one.
struct Find<'a> {
    x: &'a [f32],
    what: f32,
}

impl Find<'_> {
    /// Lane l is bit l.
    #[inline(always)]
    fn hits<S: Simd>(&self, s: S, x: S::F32) -> u32 {
        s.mask_bits(if self.what.is_nan() { s.is_nan(x) } else { s.eq(x, s.splat(self.what)) })
    }
}

impl Kernel for Find<'_> {
    type Output = Option<usize>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Option<usize> {
        let (words, tail) = self.x.as_chunks();
        for (i, x) in words.iter().enumerate() {
            let hits = self.hits(s, s.load(x));
            if hits != 0 {
                return Some(i * LANES + hits.trailing_zeros() as usize);
            }
        }
        let hits = self.hits(s, s.load_tail(tail, 0.0)) & ((1 << tail.len()) - 1);
        (hits != 0).then(|| words.len() * LANES + hits.trailing_zeros() as usize)
    }
}
