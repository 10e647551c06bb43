//! Products with weights of any form, cut into pieces.
//!
//! A piece knows some rows of its input, some outputs of its weight, and the weight; what computes it is the weight's
//! [form](super::weight). So a program has the kernels of the forms that it makes weights of, and no others.

use super::compute;
use super::weight::Weight;
use crate::kernels::Cpu;
use crate::kernels::bf16::GemmBf16;
use crate::kernels::gemm::{Accumulate, Epilogue, Gemm, Weights};
use crate::kernels::int8::Quantized;
use crate::kernels::pieces::{self, Pieces};
use crate::kernels::view::{MatMut, MatRef};
use crate::run::{Run, Scratch};
use core::ops::Range;

/// A product with a weight, less the weight.
pub(super) struct Job<'a> {
    pub x: MatRef<'a>,
    pub out: MatMut<'a>,
    pub accumulate: Accumulate,
    pub epilogue: Epilogue<'a>,
}

impl<'a> Job<'a> {
    /// The product with `b`.
    pub fn gemm<W: Weights>(self, b: W) -> Gemm<'a, W> {
        let Job { x: a, out: c, accumulate, epilogue } = self;
        Gemm { a, b, c, accumulate, epilogue }
    }
}

/// A product with a weight, or a piece of one.
pub(super) struct Part<'a> {
    pub job: Job<'a>,
    /// The rows in codes, for a weight that multiplies those.
    pub codes: Option<Quantized<'a>>,
    pub weight: &'a Weight,
    /// Its outputs.
    pub cols: Range<usize>,
}

impl Part<'_> {
    /// Computes it with this thread's scratch, over a weight that kernels read as `all`.
    pub fn over<W: Weights>(self, all: W, cpu: Cpu, scratch: &mut Scratch) {
        run_gemm(self.job.gemm(all.columns(self.cols)), cpu, scratch);
    }
}

impl pieces::Cut for Part<'_> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.job.out.rows(), self.job.out.cols(), self.job.x.cols())
    }

    fn split_rows(self, at: usize) -> (Self, Self) {
        let Part { job: Job { x, out, accumulate, epilogue }, codes, weight, cols } = self;
        let (m, n) = (x.rows(), out.cols());
        let (upper, lower) = out.split_rows(at);
        let part = |rows: Range<usize>, out| Part {
            job: Job {
                x: x.sub(rows.clone(), 0..x.cols()),
                out,
                accumulate,
                epilogue: epilogue.sub(rows.clone(), 0..n),
            },
            codes: codes.map(|codes| codes.rows(rows)),
            weight,
            cols: cols.clone(),
        };
        (part(0..at, upper), part(at..m, lower))
    }

    fn split_cols(self, at: usize) -> (Self, Self) {
        let Part { job: Job { x, out, accumulate, epilogue }, codes, weight, cols } = self;
        let (m, n) = (x.rows(), out.cols());
        let (left, right) = out.split_cols(at);
        let part = |part: Range<usize>, out| Part {
            job: Job { x, out, accumulate, epilogue: epilogue.sub(0..m, part.clone()) },
            codes,
            weight,
            cols: cols.start + part.start..cols.start + part.end,
        };
        (part(0..at, left), part(at..n, right))
    }
}

/// Computes a product with this thread's scratch.
pub(super) fn run_gemm<W: Weights>(gemm: Gemm<'_, W>, cpu: Cpu, scratch: &mut Scratch) {
    let need = gemm.scratch_len();
    gemm.run(cpu, scratch.lines(need));
}

/// Computes a product on all threads. Whole for one thread: a cut product packs the same part of its input more than once.
pub(super) fn run_cut<W: Weights>(run: &Run<'_>, gemm: Gemm<'_, W>) {
    let cpu = run.cpu();
    let pieces = if run.threads() == 1 { gemm.whole() } else { gemm.pieces() };
    run.pieces(pieces, |gemm, scratch| run_gemm(gemm, cpu, scratch));
}

/// [`run_gemm`] of bfloat16.
pub(super) fn run_gemm_bf16(gemm: GemmBf16<'_>, cpu: Cpu, scratch: &mut Scratch) {
    let need = GemmBf16::scratch_len(gemm.a.rows(), gemm.a.cols(), gemm.c.cols());
    gemm.run(cpu, scratch.lines(need));
}

/// [`run_cut`] of bfloat16.
pub(super) fn run_bf16(run: &Run<'_>, gemm: GemmBf16<'_>) {
    let cpu = run.cpu();
    let pieces = if run.threads() == 1 { gemm.whole() } else { gemm.pieces() };
    run.pieces(pieces, |gemm, scratch| run_gemm_bf16(gemm, cpu, scratch));
}

/// Computes products with weights, as one job for all threads; before it, the codes of rows that weights in codes read.
pub(super) fn run_jobs<'a, const N: usize>(run: &Run<'_>, jobs: [Option<(&'a Weight, Job<'a>)>; N]) {
    let rows = compute::Rows::of(run, jobs.each_ref().map(|job| job.as_ref().map(|(w, job)| (*w, job.x))));
    let (cpu, codes, threads) = (run.cpu(), rows.views(), run.threads());
    let jobs = jobs.into_iter().zip(codes);
    let pieces = jobs.filter_map(|(job, codes)| {
        let (weight, job) = job?;
        weight.check(&job);
        // Whole for one thread: see above.
        let most = if threads == 1 { (usize::MAX, usize::MAX) } else { weight.piece(job.x.rows()) };
        let cols = 0..weight.out_features();
        Some(Pieces::of(Part { job, codes, weight, cols }, most))
    });
    run.pieces(pieces.flatten(), |part: Part<'_>, scratch| part.weight.run(part, cpu, scratch));
}
