//! Products with weights of any form, cut into pieces.

use super::compute;
use super::weight::Weight;
use crate::kernels::Cpu;
use crate::kernels::bf16::GemmBf16;
use crate::kernels::gemm::{
    Accumulate, Bf16, Epilogue, F16, Gemm, PackedMatrix, Pieces, Strided, Transposed, Weights,
};
use crate::kernels::ggml::{Packed4, Packed8, Rows};
use crate::kernels::int8::{Codes, Eight, GemmQ8, Nf4, Nibbles};
use crate::kernels::nf4::PackedNf4;
use crate::kernels::pieces;
use crate::kernels::view::{MatMut, MatRef};
use crate::run::{Run, Scratch};

/// A product with a weight, less the weight.
pub(super) struct Job<'a> {
    pub x: MatRef<'a>,
    pub out: MatMut<'a>,
    pub accumulate: Accumulate,
    pub epilogue: Epilogue<'a>,
}

impl<'a> Job<'a> {
    /// Whole for one thread: a cut product packs the same part of its input more than once.
    pub fn cut<W: Weights>(self, b: W, threads: usize) -> Pieces<'a, W> {
        let Job { x: a, out: c, accumulate, epilogue } = self;
        let gemm = Gemm { a, b, c, accumulate, epilogue };
        if threads == 1 { gemm.whole() } else { gemm.pieces() }
    }
}

/// The pieces of a product, one kind for each kind of weight.
pub(super) enum Cut<'a> {
    F32(Pieces<'a, PackedMatrix<'a>>),
    Bf16(Pieces<'a, PackedMatrix<'a, Bf16>>),
    F16(Pieces<'a, PackedMatrix<'a, F16>>),
    Nf4(Pieces<'a, PackedNf4<'a>>),
    Ggml8(Pieces<'a, Packed8<'a>>),
    Ggml4(Pieces<'a, Packed4<'a>>),
    Blocks(Pieces<'a, Rows<'a>>),
    /// A matrix as it lies.
    Strided(Pieces<'a, Strided<'a>>),
    /// The transpose of any of the packed.
    Turned(Pieces<'a, Transposed<'a>>),
    InBf16(pieces::Pieces<GemmBf16<'a>>),
    Eight(pieces::Pieces<GemmQ8<'a, Eight>>),
    Four(pieces::Pieces<GemmQ8<'a, Nibbles>>),
    Nf4Codes(pieces::Pieces<GemmQ8<'a, Nf4>>),
}

impl<'a> Cut<'a> {
    /// A product in bf16, cut as [`Job::cut`] cuts.
    pub fn in_bf16(product: GemmBf16<'a>, threads: usize) -> Cut<'a> {
        Cut::InBf16(if threads == 1 { product.whole() } else { product.pieces() })
    }
}

/// One piece of a product.
pub(super) enum Piece<'a> {
    F32(Gemm<'a, PackedMatrix<'a>>),
    Bf16(Gemm<'a, PackedMatrix<'a, Bf16>>),
    F16(Gemm<'a, PackedMatrix<'a, F16>>),
    Nf4(Gemm<'a, PackedNf4<'a>>),
    Ggml8(Gemm<'a, Packed8<'a>>),
    Ggml4(Gemm<'a, Packed4<'a>>),
    Blocks(Gemm<'a, Rows<'a>>),
    Strided(Gemm<'a, Strided<'a>>),
    Turned(Gemm<'a, Transposed<'a>>),
    InBf16(GemmBf16<'a>),
    Eight(GemmQ8<'a, Eight>),
    Four(GemmQ8<'a, Nibbles>),
    Nf4Codes(GemmQ8<'a, Nf4>),
}

impl<'a> Iterator for Cut<'a> {
    type Item = Piece<'a>;
    fn next(&mut self) -> Option<Piece<'a>> {
        match self {
            Cut::F32(pieces) => pieces.next().map(Piece::F32),
            Cut::Bf16(pieces) => pieces.next().map(Piece::Bf16),
            Cut::F16(pieces) => pieces.next().map(Piece::F16),
            Cut::Nf4(pieces) => pieces.next().map(Piece::Nf4),
            Cut::Ggml8(pieces) => pieces.next().map(Piece::Ggml8),
            Cut::Ggml4(pieces) => pieces.next().map(Piece::Ggml4),
            Cut::Blocks(pieces) => pieces.next().map(Piece::Blocks),
            Cut::Strided(pieces) => pieces.next().map(Piece::Strided),
            Cut::Turned(pieces) => pieces.next().map(Piece::Turned),
            Cut::InBf16(pieces) => pieces.next().map(Piece::InBf16),
            Cut::Eight(pieces) => pieces.next().map(Piece::Eight),
            Cut::Four(pieces) => pieces.next().map(Piece::Four),
            Cut::Nf4Codes(pieces) => pieces.next().map(Piece::Nf4Codes),
        }
    }
}

impl Piece<'_> {
    /// Computes it with this thread's scratch.
    pub(super) fn run(self, cpu: Cpu, scratch: &mut Scratch) {
        fn go<W: Weights>(gemm: Gemm<'_, W>, cpu: Cpu, scratch: &mut Scratch) {
            let need = gemm.scratch_len();
            gemm.run(cpu, scratch.lines(need));
        }
        fn codes<C: Codes>(gemm: GemmQ8<'_, C>, cpu: Cpu, scratch: &mut Scratch) {
            let need = GemmQ8::<C>::scratch_len(gemm.c.rows(), gemm.a.codes.cols());
            gemm.run(cpu, scratch.lines(need));
        }
        match self {
            Piece::F32(gemm) => go(gemm, cpu, scratch),
            Piece::Bf16(gemm) => go(gemm, cpu, scratch),
            Piece::F16(gemm) => go(gemm, cpu, scratch),
            Piece::Nf4(gemm) => go(gemm, cpu, scratch),
            Piece::Ggml8(gemm) => go(gemm, cpu, scratch),
            Piece::Ggml4(gemm) => go(gemm, cpu, scratch),
            Piece::Blocks(gemm) => go(gemm, cpu, scratch),
            Piece::Strided(gemm) => go(gemm, cpu, scratch),
            Piece::Turned(gemm) => go(gemm, cpu, scratch),
            Piece::InBf16(gemm) => {
                let need = GemmBf16::scratch_len(gemm.a.rows(), gemm.a.cols());
                gemm.run(cpu, scratch.lines(need));
            }
            Piece::Eight(gemm) => codes(gemm, cpu, scratch),
            Piece::Four(gemm) => codes(gemm, cpu, scratch),
            Piece::Nf4Codes(gemm) => codes(gemm, cpu, scratch),
        }
    }
}

/// A product with a matrix (k, n) as it lies.
pub(super) fn cut_strided<'a>(job: Job<'a>, b: MatRef<'a>, threads: usize) -> Cut<'a> {
    Cut::Strided(job.cut(Strided(b), threads))
}

/// Runs all pieces of some products, as one job for all threads.
pub(super) fn run_all<'a>(run: &Run<'_>, cuts: impl IntoIterator<Item = Cut<'a>, IntoIter: Send>) {
    let cpu = run.cpu();
    run.pieces(cuts.into_iter().flatten(), |piece, scratch| piece.run(cpu, scratch));
}

/// Computes products with weights, as one job for all threads; before it, the codes of rows that weights in codes read.
pub(super) fn run_jobs<'a, const N: usize>(run: &Run<'_>, jobs: [Option<(&'a Weight, Job<'a>)>; N]) {
    let rows = compute::Rows::of(run, jobs.each_ref().map(|job| job.as_ref().map(|(w, job)| (*w, job.x))));
    let (codes, threads) = (rows.views(), run.threads());
    let jobs = jobs.into_iter().zip(codes);
    run_all(run, jobs.filter_map(|(job, codes)| job.map(|(w, job)| w.pieces(job, codes, threads))));
}
