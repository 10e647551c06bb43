//! A product of low rank added on the way to C: W x + B (A x), the forward pass of LoRA, without another pass through C.
//!
//! **Math.**  c_ij ← … + Σ_κ h_iκ · b_κj, κ < r; H (m, r) holds the rows that came out of A, B (r, n) is packed.
//! **Law.**   Clause 1: that product alone, added to C: a block sum of (at most) 256 κ is one FMA chain from +0, block sums
//! are added in order. So what is fused has the bits of two products one after the other.
//!
//! ```text
//!    the tile's sums (MR × NP lines, in L1)     four rows of H       a panel of B (r × 16)
//!      ░░░░ ░░░░                                  h₀κ ────────►  fma   │▒▒▒▒│ κ
//!      ░░░░ ░░░░  + bias, activation, residual  +                      │▒▒▒▒│ ▼     ──►  C
//! ```
//!
//! **Registers.**  4 accumulators, a line of B, a broadcast: on AVX2 and NEON, where a line is two and four registers, 11
//! and 21.   **Cost.**  r FMAs a line of C, no more memory than H and B, which stay in L1. A pass of its own reads
//! and writes all of C for r = 8 steps of arithmetic: 25 GFLOP/s of the 117 that Zen 4's FMA has.
//! **Reference.**  Hu et al. 2021, *LoRA*, [arXiv:2106.09685](https://arxiv.org/abs/2106.09685).

use super::tile::{chain, store};
use super::{GROUP, K_BLOCK, PackedMatrix, Weights};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// H (m, r) and B (r, n): their product is added last.
///
/// ```
/// use samebits_kernels::gemm::{Epilogue, Gemm, LowRank, PackedMatrix, Strided, pack, packed_len};
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// let (cpu, x, w, h, b, mut c) = (Cpu::detect(), [1.0, 2.0], [3.0, 4.0], [0.5], [100.0], [0.0]);
/// let mut groups = vec![Default::default(); packed_len(1, 1)];
/// pack(cpu, MatRef::new(&b, 1, 1), &mut groups);
/// let low_rank = LowRank { h: MatRef::new(&h, 1, 1), b: PackedMatrix::new(&groups, 1, 1) };
/// let job = Gemm::new(MatRef::new(&x, 1, 2), Strided(MatRef::new(&w, 2, 1)), MatMut::new(&mut c, 1, 1));
/// let mut scratch = vec![Line::ZERO; job.scratch_len()];
/// Gemm { epilogue: Epilogue { low_rank: Some(low_rank), ..Epilogue::NONE }, ..job }.run(cpu, &mut scratch);
/// assert_eq!(c, [11.0 + 0.5 * 100.0]); // LoRA: X · W + H · B
/// ```
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// H, (m, r), the elements of a row side by side.
    pub h: MatRef<'a>,
    /// B, (r, n), r > 0.
    pub b: PackedMatrix<'a>,
}

/// Rows of C at a time: as many chains hide an FMA's latency.
pub(super) const ROWS: usize = 4;

impl<'a> LowRank<'a> {
    pub(super) fn check(&self, m: usize, n: usize) {
        let (r, cols) = self.b.shape();
        let fits = (self.h.rows(), self.h.cols(), cols) == (m, r, n) && r > 0;
        let lies = self.h.col_stride() == 1 || r == 1;
        assert!(
            fits,
            "gemm: low rank ({}, {}) · ({r}, {cols}) for C ({m}, {n})",
            self.h.rows(),
            self.h.cols()
        );
        assert!(lies, "gemm: the rows of a low rank's left side lie across memory");
    }

    pub(super) fn sub(&self, rows: Range<usize>, cols: Range<usize>) -> LowRank<'a> {
        let rank = 0..self.h.cols();
        LowRank { h: self.h.sub(rows, rank), b: self.b.columns(cols) }
    }

    /// A block sum of one tile, from row `at.0`, column `at.1`; rows past the last are the last again.
    #[inline(always)]
    pub(super) fn block<S: Simd, const MR: usize, const NP: usize>(
        &self,
        s: S,
        (r, col): (usize, usize),
        ks: Range<usize>,
    ) -> [[S::F32; NP]; MR] {
        let group = ks.start / GROUP;
        let rows = self.h.sub(r..(r + MR).min(self.h.rows()), 0..self.h.cols());
        let rows = rows.band::<MR>(ks).expect("rows side by side");
        let panels: [_; NP] = core::array::from_fn(|p| self.b.panel(col / LANES + p));
        chain(s, rows, panels, group)
    }

    /// Adds all of them to `lines`, those of four rows (as far as there are some) and sixteen columns.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&self, s: S, at: (usize, usize), lines: &mut [Line; ROWS]) {
        let rank = self.h.cols();
        for k0 in (0..rank).step_by(K_BLOCK) {
            let sums = self.block::<S, ROWS, 1>(s, at, k0..(k0 + K_BLOCK).min(rank));
            for (line, [sum]) in lines.iter_mut().zip(sums) {
                let v = s.add(s.load(line), sum);
                s.store(line, v);
            }
        }
    }
}

/// A tile's sums and its block of low rank, to its place in C. A function of its own: the registers of the tile before
/// it are the tile's.
pub(super) struct LowRankTile<'f, 'c, const MR: usize, const NP: usize> {
    /// Of one block.
    pub low: &'f LowRank<'c>,
    /// Row and column of C.
    pub at: (usize, usize),
    pub sums: &'f [[Line; NP]; MR],
    pub place: &'f mut MatMut<'c>,
}

impl<const MR: usize, const NP: usize> Kernel for LowRankTile<'_, '_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LowRankTile { low, at, sums, place } = self;
        store(s, &mut place.tile::<MR, NP>(), sums, &low.block(s, at, 0..low.h.cols()));
    }
}
