//! # Scatter-add of rows: the gradient of an embedding
//!
//! **Math.**  Row i_t of out ← that row + x_t, i = `ids`, for every token t;  x (tokens, n), out (vocabulary, n).
//!
//! **Law.**   Clause 9: in token order. Each element of `out` is one chain of additions from what it held, so that
//! tokens given in several calls, in order, have the bits of one call.
//!
//! ```text
//!   ids   7   2   7   …                       a piece: 64 columns of all rows of `out`,
//!   x     x₀  x₁  x₂  …                       every token: no two pieces write one element
//!         │   │   └──► out[7] + x₂            ┌────┬────┬──
//!         │   └──────► out[2] + x₁            │    │    │   vocabulary
//!         └──────────► out[7] + x₀            └────┴────┴──
//! ```
//!
//! **Registers.**  One line.   **Cost.**  12 bytes and one addition an element of x: memory binds.
//! **Error.**  ≤ (times that an id occurs) u Σ|x|; rows that no id names are not touched.
//! **Reference.**  None: the definition is the algorithm.   **Next.**  `cross_entropy.rs`

use crate::rows::{set_word_at, word_at};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// Columns of a piece: whole lines of memory, a few pages of them.
const PIECE: usize = 64;

/// Rows of x to be added to the rows of `out` that `ids` name, whole or in pieces.
///
/// ```
/// use samebits_kernels::{Cpu, scatter::ScatterAdd, view::{MatMut, MatRef}};
/// // The gradient of a table of three rows, of which tokens looked up 2, 0 and 2 again.
/// let (ids, x, mut out) = ([2, 0, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0; 6]);
/// ScatterAdd { ids: &ids, x: MatRef::new(&x, 3, 2), out: MatMut::new(&mut out, 3, 2) }.run(Cpu::detect());
/// assert_eq!(out, [3.0, 4.0, 0.0, 0.0, 6.0, 8.0]);
/// ```
pub struct ScatterAdd<'a> {
    /// (tokens): the row for each.
    pub ids: &'a [u32],
    /// (tokens, n), any strides.
    pub x: MatRef<'a>,
    /// (rows, n), any strides.
    pub out: MatMut<'a>,
}

impl<'a> ScatterAdd<'a> {
    #[track_caller]
    fn check(&self) {
        let ScatterAdd { ids, x, out } = self;
        let given = (ids.len(), x.cols());
        assert!(
            given == (x.rows(), out.cols()),
            "{given:?} ids and columns for {x:?} into {:?}",
            out.as_ref()
        );
        if let Some((t, id)) = ids.iter().enumerate().find(|&(_, &id)| id as usize >= out.rows()) {
            panic!("id {id} of token {t} in a table of {} rows", out.rows());
        }
    }

    /// Adds them on this thread.
    ///
    /// # Panics
    /// Where the shapes disagree or an id names no row.
    pub fn run(self, cpu: Cpu) {
        self.check();
        cpu.run(self);
    }

    /// The same as pieces, 64 columns each; they may run in any order, on any threads.
    ///
    /// # Panics
    /// Where the shapes disagree or an id names no row.
    pub fn pieces(self) -> impl Iterator<Item = ScatterAdd<'a>> {
        self.check();
        let ScatterAdd { ids, x, out } = self;
        let mut rest = Some((x, out));
        core::iter::from_fn(move || {
            let (x, out) = rest.take()?;
            let n = out.cols();
            let at = PIECE.min(n);
            let (here, more) = out.split_cols(at);
            if at < n {
                rest = Some((x.sub(0..x.rows(), at..n), more));
            }
            Some(ScatterAdd { ids, x: x.sub(0..x.rows(), 0..at), out: here })
        })
    }
}

impl Kernel for ScatterAdd<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (t, &id) in self.ids.iter().enumerate() {
            let row = id as usize;
            for at in (0..self.x.cols()).step_by(LANES) {
                let before = word_at(s, &self.out.as_ref(), row, at, 0.0);
                let sum = s.add(before, word_at(s, &self.x, t, at, 0.0));
                set_word_at(s, &mut self.out, row, at, sum);
            }
        }
    }
}
