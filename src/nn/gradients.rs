//! Gradients of products, sums and attention, on the threads of a [`Run`].
//!
//! ```text
//!   y = x Wᵀ + b      dx = dy W                  over W as it is stored, decoded tile by tile
//!                     dW (+)= dyᵀ x   db (+)= Σ dy    token rows in blocks of 256
//! ```
//!
//! **Law.**  Clauses 1 and 9: no thread count changes a bit; batches of a multiple of 256 rows, accumulated, have the
//! bits of one batch; a gradient over stored weights has the bits of the one over their decoded values.

use super::compute::Compute;
use super::product::{Job, run_bf16};
use super::weight::Weight;
use crate::kernels::LANES;
use crate::kernels::attention::{AttentionBackward, Gradients, backward_scratch_len};
use crate::kernels::bf16::{GemmBf16, PackedBf16};
use crate::kernels::column_sum::ColumnSum;
use crate::kernels::gemm::{Accumulate, Epilogue, GROUP, Gemm, LowRank, Strided, packed_len};
use crate::kernels::norm::{LayerNorm, RmsNorm};
use crate::kernels::norm::{NormBackward, NormWeights, Stats, layer_norm_backward, rms_norm_backward};
use crate::kernels::scatter::ScatterAdd;
use crate::kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use crate::run::Run;

/// dx (rows, in) = dy (rows, out) · W, or that added to dx; in the class of W, f32 or bf16 (clause 10 with the outputs as k).
///
/// # Panics
/// Where the shapes disagree, or W is of int8.
pub fn input_gradient(run: &Run<'_>, w: &Weight, dy: MatRef<'_>, accumulate: Accumulate, dx: MatMut<'_>) {
    let job = Job { x: dy, out: dx, accumulate, epilogue: Epilogue::NONE };
    w.multiply_turned(run, job);
}

/// [`input_gradient`] and the gradient through an adapter of low rank, in one pass through dx: the bits of two.
///
/// # Panics
/// Where the shapes disagree.
pub fn input_gradient_low_rank(
    run: &Run<'_>,
    w: &Weight,
    dy: MatRef<'_>,
    change: LowRank<'_>,
    (dx, accumulate): (MatMut<'_>, Accumulate),
) {
    let epilogue = Epilogue { low_rank: Some(change), ..Epilogue::NONE };
    w.multiply_turned(run, Job { x: dy, out: dx, accumulate, epilogue });
}

/// dW (out, in) = dyᵀ · x, or that added to dW; dy (rows, out), x (rows, in); in the class of the layer's products, f32 or
/// bf16 (clause 10 with the rows as k).
///
/// # Panics
/// Where the shapes disagree, or the class is int8.
pub fn weight_gradient(
    run: &Run<'_>,
    compute: Compute,
    (x, dy): (MatRef<'_>, MatRef<'_>),
    accumulate: Accumulate,
    dw: MatMut<'_>,
) {
    /// Up to so many columns of x, those of a low rank, it is dWᵀ = xᵀ · dy that is computed, to the same bits: dy, the
    /// larger matrix, need not be turned then.
    const NARROW: usize = 64;
    let turned = x.cols() <= NARROW && x.cols() < dy.cols();
    let (a, b, c) = if turned { (x, dy, dw.t()) } else { (dy, x, dw) };
    match compute {
        Compute::F32 => {
            let cpu = run.cpu();
            let job = Gemm { accumulate, ..Gemm::new(a.t(), Strided(b), c) };
            run.pieces(job.pieces(), |piece, scratch| {
                let need = piece.scratch_len();
                piece.run(cpu, scratch.lines(need));
            });
        }
        Compute::Bf16 => multiply_rounded(run, (a, b), accumulate, c),
        Compute::Int8 => panic!("products in int8 have no gradients"),
    }
}

/// c (m, n) = aᵀ · b of bfloat16; a (rows, m), b (rows, n), which is packed first.
fn multiply_rounded(run: &Run<'_>, (a, b): (MatRef<'_>, MatRef<'_>), accumulate: Accumulate, c: MatMut<'_>) {
    /// Panels that one thread packs at a time.
    const BAND: usize = 8;
    let (cpu, rows, n) = (run.cpu(), b.rows(), b.cols());
    let mut groups = run.bf16_groups(packed_len(rows, n));
    let bands = groups.chunks_mut((BAND * rows.div_ceil(GROUP)).max(1)).enumerate();
    run.pieces(bands, |(i, groups), _| {
        let cols = i * BAND * LANES..n.min((i + 1) * BAND * LANES);
        PackedBf16::pack_floats(cpu, b.sub(0..rows, cols), groups);
    });
    let b = PackedBf16::new(&groups, rows, n);
    run_bf16(run, GemmBf16 { a: a.t(), b, c, accumulate, epilogue: Epilogue::NONE });
}

/// db (out) = the sums of the columns of dy (rows, out), or those added to db.
///
/// # Panics
/// Where the shapes disagree.
pub fn bias_gradient(run: &Run<'_>, dy: MatRef<'_>, accumulate: Accumulate, db: &mut [f32]) {
    let cpu = run.cpu();
    run.pieces(ColumnSum { x: dy, accumulate, out: db }.pieces(), |piece, _| piece.run(cpu));
}

/// The rows of dy (tokens, features) added to the rows of `table` (vocabulary, features) that `ids` name, in order.
///
/// # Panics
/// Where the shapes disagree or an id names no row.
pub fn embedding_gradient(run: &Run<'_>, ids: &[u32], dy: MatRef<'_>, table: MatMut<'_>) {
    let cpu = run.cpu();
    run.pieces(ScatterAdd { ids, x: dy, out: table }.pieces(), |piece, _| piece.run(cpu));
}

/// A norm of either kind, as its kernel takes it.
#[derive(Clone, Copy, Debug)]
pub enum NormKind<'a> {
    /// With mean and variance.
    Layer(LayerNorm<'a>),
    /// With the mean square.
    Rms(RmsNorm<'a>),
}

/// dx (rows, n), and the statistics of the rows for [`norm_weight_gradient`].
///
/// # Panics
/// Where the shapes disagree.
pub fn norm_gradient(run: &Run<'_>, norm: &NormKind<'_>, rows: NormBackward<'_>) {
    /// Floats of a piece at least.
    const PIECE: usize = 1 << 15;
    let NormBackward { x, dy, dx, accumulate, stats } = rows;
    let (cpu, height) = (run.cpu(), (PIECE / x.cols().max(1)).max(1));
    let inputs = x.bands(height).zip(dy.bands(height));
    let pieces = inputs.zip(dx.bands(height).zip(stats.chunks_mut(height)));
    run.pieces(pieces, |((x, dy), (dx, stats)), _| {
        let rows = NormBackward { x, dy, dx, accumulate, stats };
        match norm {
            NormKind::Layer(norm) => layer_norm_backward(cpu, norm, rows),
            NormKind::Rms(norm) => rms_norm_backward(cpu, norm, rows),
        }
    });
}

/// dw (n) of a norm, from the statistics of [`norm_gradient`].
///
/// # Panics
/// Where the shapes disagree.
pub fn norm_weight_gradient(
    run: &Run<'_>,
    (x, dy): (MatRef<'_>, MatRef<'_>),
    stats: &[Stats],
    accumulate: Accumulate,
    dw: &mut [f32],
) {
    let cpu = run.cpu();
    let job = NormWeights { x, dy, stats, accumulate, out: dw };
    run.pieces(job.pieces(), |piece, _| piece.run(cpu));
}

/// dQ, dK and dV of an attention, and of its sinks added to `dsinks`, where it has them. `delta` is room for
/// (batch × heads × Lq) floats.
///
/// # Panics
/// Where the shapes disagree.
pub fn attention_gradients(
    run: &Run<'_>,
    problem: &AttentionBackward<'_>,
    to: Gradients<'_>,
    delta: &mut [f32],
    dsinks: Option<&mut [f32]>,
) {
    let ([b, h, lq, d], cpu) = (problem.q.shape(), run.cpu());
    let (shape, lines) = ([b, h, lq, 1], backward_scratch_len(d, problem.v.shape()[3]));
    let first = problem.queries(to.dq, HeadsMut::new(&mut *delta, shape));
    run.pieces(first, |piece, scratch| piece.run(cpu, scratch.lines(lines)));
    let second = problem.keys(HeadsRef::new(delta, shape), to.dk, to.dv);
    run.pieces(second, |piece, scratch| piece.run(cpu, scratch.lines(lines)));
    if let Some(dsinks) = dsinks {
        problem.sinks(cpu, HeadsRef::new(delta, shape), dsinks);
    }
}
