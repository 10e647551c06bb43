//! # Dot products along rows
//!
//! **Math.**  dot(a, b) = Σ_k a_k · b_k;   dot_rows: one query against every row of a matrix.
//!
//! **Law.**   Clause 2, chains in `f32`: lane l is one fma chain over k = l, l + 16, … from +0; then the tree.
//!
//! ```text
//!   query    q0…q15 │ q16…q31 │ … │ tail +0
//!              │         │
//!   row r   ─ fma ───── fma ─ … ─► 16 lanes ┐
//!   row r+1 ─ fma ───── fma ─ … ─► 16 lanes │ sixteen rows: transposed in registers, then
//!     ⋮                                     │ the tree over words: lane r is row r's dot
//!   row r+15 ─ fma ──── fma ─ … ─► 16 lanes ┘
//! ```
//!
//! A tail is padded with −0 on one side and +0 on the other: fma(−0, +0, c) is c, whatever its sign.
//!
//! **Registers.**  4 rows at once: 4 sums + 1 query word, rows from memory: AVX2 10 ymm, AVX-512 5 zmm,
//!   NEON 20 q.
//!
//! **Cost.**  4 bytes and one fma an element: the reading of the rows binds.
//!
//! **Error.**  [⌈K/16⌉ + 5] · u · Σ|a||b|; ≤ 32 u · Σ|a||b| for every K ≤ 2¹⁶ (tests/reduce.rs).
//! **Reference.**  Higham 2002, §4.2, [doi:10.1137/1.9780898718027](https://doi.org/10.1137/1.9780898718027).  **Next.**  [`crate::topk`].

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::rows::gather;
use crate::simd::{Floats, Simd};
use crate::view::MatRef;

/// Σ a_k · b_k by clause 2; +0 for nothing.
///
/// ```
/// use samebits_kernels::{Cpu, Tier, dot::dot};
/// let (a, b): (Vec<f32>, Vec<f32>) = (1..1000).map(|i| (1.0 / i as f32, i as f32 / 7.0)).unzip();
/// let scalar = dot(Cpu::with_tier(Tier::Scalar).unwrap(), &a, &b);
/// assert!(Cpu::all().all(|cpu| dot(cpu, &a, &b).to_bits() == scalar.to_bits()));
/// ```
///
/// # Panics
/// Where the lengths differ.
pub fn dot(cpu: Cpu, a: &[f32], b: &[f32]) -> f32 {
    assert!(a.len() == b.len(), "dot of {} and {} elements", a.len(), b.len());
    cpu.run(Dot { a, b })
}

/// `out[r] = dot(query, rows[r])`, bit for bit; rows (n, k), any strides.
///
/// ```
/// use samebits_kernels::{Cpu, dot::{dot, dot_rows}, view::MatRef};
/// let (query, rows, mut out) = ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [0.0; 3]);
/// dot_rows(Cpu::detect(), &query, MatRef::new(&rows, 3, 2), &mut out);
/// assert_eq!(out, [11.0, 17.0, 23.0]);
/// assert_eq!(out[1], dot(Cpu::detect(), &query, &rows[2..4]));
/// ```
///
/// # Panics
/// Where `query` is not (k) or `out` not (n).
pub fn dot_rows(cpu: Cpu, query: &[f32], rows: MatRef, out: &mut [f32]) {
    let (n, k) = (rows.rows(), rows.cols());
    assert!(query.len() == k, "query of {} elements, rows ({n}, {k})", query.len());
    assert!(out.len() == n, "output of {} elements, rows ({n}, {k})", out.len());
    cpu.run(DotRows { query, rows, out });
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Dot<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let query = Query::new(self.a);
        let [lanes] = chains(s, query, [self.b]);
        s.sum(lanes)
    }
}

struct DotRows<'a> {
    query: &'a [f32],
    rows: MatRef<'a>,
    out: &'a mut [f32],
}

impl Kernel for DotRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let query = Query::new(self.query);
        if self.rows.cols() > 1 && self.rows.col_stride() != 1 {
            for (r, out) in self.out.iter_mut().enumerate() {
                *out = s.sum(strided(s, query, &self.rows, r));
            }
            return;
        }
        let row = |r: usize| self.rows.row(r).expect("the elements of a row lie side by side");
        for (block, out) in self.out.chunks_mut(LANES).enumerate() {
            let start = block * LANES;
            let mut lanes = [s.splat(0.0); LANES];
            let mut r = 0;
            while r + AT_ONCE <= out.len() {
                let sums = chains(s, query, core::array::from_fn::<_, AT_ONCE, _>(|i| row(start + r + i)));
                lanes[r..r + AT_ONCE].copy_from_slice(&sums);
                r += AT_ONCE;
            }
            while r < out.len() {
                [lanes[r]] = chains(s, query, [row(start + r)]);
                r += 1;
            }
            s.store_tail(out, s.sum_rows(lanes));
        }
    }
}

/// Rows in flight: enough chains to hide the latency of fma, few enough for every tier's registers.
const AT_ONCE: usize = 4;

/// The vector that every row is multiplied with.
#[derive(Clone, Copy)]
struct Query<'a> {
    words: &'a [Floats],
    tail: &'a [f32],
}

impl<'a> Query<'a> {
    #[inline(always)]
    fn new(x: &'a [f32]) -> Self {
        let (words, tail) = x.as_chunks();
        Query { words, tail }
    }
}

/// The sixteen chains of each of `N` rows.
#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, query: Query, rows: [&[f32]; N]) -> [S::F32; N] {
    let rows = rows.map(|r| r.as_chunks::<LANES>());
    let mut sums = [s.splat(0.0); N];
    // One slice length for all: the loop then needs no check of its own.
    let words = rows.map(|(words, _)| &words[..query.words.len()]);
    for (i, q) in query.words.iter().enumerate() {
        let q = s.load(q);
        for r in 0..N {
            sums[r] = s.fma(s.load(&words[r][i]), q, sums[r]);
        }
    }
    if !query.tail.is_empty() {
        let q = s.load_tail(query.tail, 0.0);
        for r in 0..N {
            sums[r] = s.fma(s.load_tail(rows[r].1, -0.0), q, sums[r]);
        }
    }
    sums
}

/// The sixteen chains of a row whose elements lie apart.
#[inline(always)]
fn strided<S: Simd>(s: S, query: Query, rows: &MatRef, r: usize) -> S::F32 {
    let mut sum = s.splat(0.0);
    for (i, q) in query.words.iter().enumerate() {
        sum = s.fma(s.load(&gather(rows, r, i * LANES, -0.0)), s.load(q), sum);
    }
    if !query.tail.is_empty() {
        let x = s.load(&gather(rows, r, query.words.len() * LANES, -0.0));
        sum = s.fma(x, s.load_tail(query.tail, 0.0), sum);
    }
    sum
}
