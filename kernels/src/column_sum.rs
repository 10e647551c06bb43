//! # Sums of columns: the gradients of a bias, and of what a norm multiplies by
//!
//! **Math.**  db_j = Σ_r dy_rj, over the rows (tokens) of dY (m, n);   weighted: dw_j = Σ_r dy_rj · x̂_rj.
//!
//! **Law.**   Clause 1 with token rows as k: blocks of 256 rows from r = 0; a block sum is one chain from +0, rows
//! ascending (of additions; weighted, of fused multiply-adds); block sums are added in order to +0 or to what the
//! output holds. So batches of a multiple of 256 rows, accumulated, have the bits of one batch.
//!
//! ```text
//!            256 columns: sixteen chains                     a piece: columns that no other piece has
//!   row 0    ████ ──┐                                       ┌────┬────┬────┐
//!   row 1    ████ ──┤ acc ← acc + row                       │    │    │    │ rows
//!     ⋮              │                                       └────┴────┴────┘
//!   row 255  ████ ──┴─► sum ← sum + acc, acc ← 0
//! ```
//!
//! **Registers.**  16 chains: all on AVX-512, some in L1 elsewhere.
//! **Cost.**  4 bytes read an element, one addition: memory binds.
//!
//! **Error.**  ≤ (min(m, 256) + ⌈m/256⌉) u Σ|dy|, in practice ≤ 32 u Σ|dy|.
//! **Reference.**  None: the definition is the algorithm.   **Next.**  `norm/backward.rs`

use crate::gemm::{Accumulate, K_BLOCK};
use crate::rows::word_at;
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Cpu, Kernel, LANES};

/// Columns of a piece.
const PIECE: usize = 256;
/// Words of a strip: memory likes long runs.
const STRIP: usize = 16;

/// The sums of the columns of x, whole or in pieces.
///
/// ```
/// use samebits_kernels::{Cpu, column_sum::ColumnSum, gemm::Accumulate, view::MatRef};
/// let (x, mut out) = ([1.0, 2.0, 3.0, 10.0, 20.0, 30.0], [100.0; 3]);
/// let x = MatRef::new(&x, 2, 3);
/// ColumnSum { x, accumulate: Accumulate::Add, out: &mut out }.run(Cpu::detect());
/// assert_eq!(out, [111.0, 122.0, 133.0]); // the bias's gradient, added to what was there
/// ```
pub struct ColumnSum<'a> {
    /// (rows, n), any strides.
    pub x: MatRef<'a>,
    /// Whether the output is added to.
    pub accumulate: Accumulate,
    /// (n)
    pub out: &'a mut [f32],
}

impl<'a> ColumnSum<'a> {
    /// Computes the sums on this thread.
    ///
    /// # Panics
    /// Where the output is not (n).
    pub fn run(self, cpu: Cpu) {
        let (rows, n) = (self.x.rows(), self.x.cols());
        assert!(self.out.len() == n, "column sums of ({rows}, {n}) into {}", self.out.len());
        cpu.run(Sums { terms: Plain(self.x), rows, accumulate: self.accumulate, out: self.out });
    }

    /// The same sums as pieces, 256 columns each; they may run in any order, on any threads.
    ///
    /// # Panics
    /// Where the output is not (n).
    pub fn pieces(self) -> impl ExactSizeIterator<Item = ColumnSum<'a>> {
        let ColumnSum { x, accumulate, out } = self;
        assert!(out.len() == x.cols(), "column sums of ({}, {}) into {}", x.rows(), x.cols(), out.len());
        out.chunks_mut(PIECE).enumerate().map(move |(i, out)| {
            let cols = i * PIECE..i * PIECE + out.len();
            ColumnSum { x: x.sub(0..x.rows(), cols), accumulate, out }
        })
    }
}

/// What is summed down a column.
pub(crate) trait Terms: Copy {
    /// Adds row `r` of the `N` words from column `at` on to their chains. Must be `#[inline(always)]`.
    fn add<S: Simd, const N: usize>(&self, s: S, r: usize, at: usize, chains: &mut [S::F32; N]);
}

/// The elements themselves.
#[derive(Clone, Copy)]
struct Plain<'a>(MatRef<'a>);

impl Terms for Plain<'_> {
    #[inline(always)]
    fn add<S: Simd, const N: usize>(&self, s: S, r: usize, at: usize, chains: &mut [S::F32; N]) {
        // Looked up once a row, where all of the words are there side by side.
        let words = self.0.row(r).and_then(|row| row[at..].as_chunks::<LANES>().0.first_chunk::<N>());
        match words {
            Some(words) => {
                for (chain, word) in chains.iter_mut().zip(words) {
                    *chain = s.add(*chain, s.load(word));
                }
            }
            None => {
                for (i, chain) in chains.iter_mut().enumerate() {
                    *chain = s.add(*chain, word_at(s, &self.0, r, at + i * LANES, 0.0));
                }
            }
        }
    }
}

/// Sums of `rows` terms a column.
pub(crate) struct Sums<'a, T> {
    pub terms: T,
    pub rows: usize,
    pub accumulate: Accumulate,
    pub out: &'a mut [f32], // (n)
}

impl<T: Terms> Kernel for Sums<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let n = self.out.len();
        let whole = n - n % (STRIP * LANES);
        for at in (0..whole).step_by(STRIP * LANES) {
            self.strip::<S, STRIP>(s, at);
        }
        for at in (whole..n).step_by(LANES) {
            self.strip::<S, 1>(s, at);
        }
    }
}

impl<T: Terms> Sums<'_, T> {
    /// N words of columns.
    #[inline(always)]
    fn strip<S: Simd, const N: usize>(&mut self, s: S, at: usize) {
        let mut sums = [s.splat(0.0); N];
        if self.accumulate == Accumulate::Add {
            for (i, sum) in sums.iter_mut().enumerate() {
                let before = &self.out[at + i * LANES..];
                *sum = match before.first_chunk() {
                    Some(word) => s.load(word),
                    None => s.load_tail(before, 0.0),
                };
            }
        }
        for first in (0..self.rows).step_by(K_BLOCK) {
            let mut chains = [s.splat(0.0); N];
            for r in first..self.rows.min(first + K_BLOCK) {
                self.terms.add(s, r, at, &mut chains);
            }
            for i in 0..N {
                sums[i] = s.add(sums[i], chains[i]);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let place = &mut self.out[at + i * LANES..];
            match place.first_chunk_mut() {
                Some(word) => s.store(word, sum),
                None => s.store_tail(place, sum),
            }
        }
    }
}
