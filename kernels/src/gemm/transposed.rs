//! The product with the transpose of stored weights: dX = dY · W, the backward pass of y = x · Wᵀ.
//!
//! **Math.**  dx_iκ = Σ_j dy_ij · w_jκ, W (n, k) as it was packed for the forward product: panels of sixteen n, k
//! running down each.   **Law.**  Clause 1 with n in the place of k: blocks of 256 of n, one FMA chain each. A weight
//! is decoded to the same `f32` as ever, so the bits are those of the product with the dequantised matrix.
//!
//! ```text
//!   a panel of W: sixteen n, k by k                     panels of sixteen k, n by n: what the tile reads
//!     κ   │ n0 n1 … n15 │ ┐ decoded 128 of k             n0  │ κ κ+1 … κ+15 │
//!     κ+1 │ n0 n1 … n15 │ │ at a time, in L1   ──►       n1  │ κ κ+1 … κ+15 │
//!     ⋮                   ┘ 16 × 16 turned in registers  ⋮
//! ```
//!
//! W is never materialised: what is decoded is the sliver of 512 × 128 that the tile multiplies next.
//!
//! **Cost.**  For each 1,032 rows of dY every weight is decoded and turned once: a store, a load, a sixteenth of a
//! transpose (64 shuffles for 256 weights), a store. From 64 rows on the FMA binds.
//! **Reference.**  Dettmers et al. 2023, *QLoRA*, [arXiv:2305.14314](https://arxiv.org/abs/2305.14314), where W is dequantised whole.  **Next.**  `many.rs`

use super::many::SLIVER;
use super::weights::{Bf16, F16, GROUP, PackedMatrix, Weights, multiply, room_groups};
use super::{Gemm, pack};
use crate::ggml::{Packed4, Packed8, Rows};
use crate::nf4::PackedNf4;
use crate::simd::Simd;
use crate::view::{MatRef, Stripe};
use crate::{Cpu, LANES, Line};
use core::ops::Range;

/// Weights that can be turned: every kind, packed for the forward product.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the kinds name themselves
pub enum Turned<'a> {
    F32(PackedMatrix<'a>),
    Bf16(PackedMatrix<'a, Bf16>),
    F16(PackedMatrix<'a, F16>),
    Nf4(PackedNf4<'a>),
    Ggml8(Packed8<'a>),
    Ggml4(Packed4<'a>),
    Blocks(Rows<'a>),
}

/// The transpose of weights as a matrix (n, k) that a product can read, or some of its columns.
///
/// One type for all kinds, so that the loops around the tile are compiled once.
///
/// ```
/// use samebits_kernels::gemm::{Gemm, PackedMatrix, Transposed, Turned, pack, packed_len};
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// let (cpu, w, dy, mut dx) = (Cpu::detect(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 10.0], [0.0; 3]);
/// let mut groups = vec![Default::default(); packed_len(3, 2)];
/// pack(cpu, MatRef::new(&w, 2, 3).t(), &mut groups); // W (2, 3) packed for X · Wᵀ …
/// let turned = Transposed::new(Turned::F32(PackedMatrix::new(&groups, 3, 2)));
/// let job = Gemm::new(MatRef::new(&dy, 1, 2), turned, MatMut::new(&mut dx, 1, 3)); // … read for dY · W
/// let mut scratch = vec![Line::ZERO; job.scratch_len()];
/// job.run(cpu, &mut scratch);
/// assert_eq!(dx, [41.0, 52.0, 63.0]);
/// ```
#[derive(Clone, Copy)]
pub struct Transposed<'a> {
    weights: Turned<'a>,
    /// The first column, a multiple of 16, and how many.
    first: usize,
    cols: usize,
}

impl<'a> Transposed<'a> {
    /// Of weights (n, k), the whole.
    pub fn new(weights: Turned<'a>) -> Self {
        let (k, _) = weights.shape();
        Transposed { weights, first: 0, cols: k }
    }
}

impl Turned<'_> {
    /// (k, n): that of the forward product.
    fn shape(&self) -> (usize, usize) {
        match self {
            Turned::F32(w) => w.shape(),
            Turned::Bf16(w) => w.shape(),
            Turned::F16(w) => w.shape(),
            Turned::Nf4(w) => w.shape(),
            Turned::Ggml8(w) => w.shape(),
            Turned::Ggml4(w) => w.shape(),
            Turned::Blocks(w) => w.shape(),
        }
    }
}

impl<'a> Weights for Transposed<'a> {
    type Panel = Stripe<'a>;
    const PANELS: bool = false;

    fn shape(&self) -> (usize, usize) {
        (self.weights.shape().1, self.cols)
    }

    #[inline(never)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }

    fn columns(self, cols: Range<usize>) -> Self {
        Transposed { first: self.first + cols.start, cols: cols.len(), ..self }
    }

    fn panel(&self, _: usize) -> Stripe<'a> {
        unreachable!("the transpose of panels has no panels")
    }

    #[inline(always)]
    fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
        None
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        let end = (panels.end * LANES).min(self.cols);
        let rows = self.first + panels.start * LANES..self.first + end;
        match &self.weights {
            Turned::F32(w) => w.fill_turned(s, rows, k, room),
            Turned::Bf16(w) => w.fill_turned(s, rows, k, room),
            Turned::F16(w) => w.fill_turned(s, rows, k, room),
            Turned::Nf4(w) => w.fill_turned(s, rows, k, room),
            Turned::Ggml8(w) => w.fill_turned(s, rows, k, room),
            Turned::Ggml4(w) => w.fill_turned(s, rows, k, room),
            Turned::Blocks(w) => w.fill_turned(s, rows, k, room),
        }
    }
}

/// Groups of the rows of a sliver, and one between panels.
const GROUPS: usize = room_groups(SLIVER * LANES);

/// [`Weights::fill_turned`] of weights in panels.
#[inline(always)]
pub(super) fn fill<S: Simd, W: Weights>(
    s: S,
    w: &W,
    rows: Range<usize>,
    cols: Range<usize>,
    room: &mut [[Line; GROUP]],
) {
    let mut decoded = [[Line::ZERO; GROUP]; GROUPS]; // (rows, 16 columns)
    for (i, col) in cols.clone().step_by(LANES).enumerate() {
        w.fill(s, col / LANES..col / LANES + 1, rows.clone(), &mut decoded);
        let tiles = decoded.as_flattened().as_chunks::<LANES>().0;
        let places = room.chunks_mut(room_groups(cols.len()));
        for (tile, place) in tiles[..rows.len().div_ceil(LANES)].iter().zip(places) {
            let mut words = [s.splat(0.0); LANES];
            for (word, line) in words.iter_mut().zip(tile) {
                *word = s.load(line);
            }
            let place = &mut place.as_flattened_mut()[i * LANES..][..LANES];
            for (line, word) in place.iter_mut().zip(s.transpose(words)) {
                s.store(line, word);
            }
        }
    }
}

const _: () = assert!(pack::packed_len(SLIVER * LANES, LANES) < GROUPS);
