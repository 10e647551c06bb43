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
/// ```
/// use samebits::kernels::gemm::{Accumulate, LowRank, PackedMatrix, pack, packed_len};
/// use samebits::kernels::view::{MatMut, MatRef};
/// use samebits::nn::{Compute, Weight, bias_gradient, input_gradient, input_gradient_low_rank, weight_gradient};
/// use samebits::{Cpu, run::Run};
/// // y = x Wᵀ + b with W (2, 3), of one row.
/// let (run, w, x, dy) = (Run::here(Cpu::detect()), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [1.0, 10.0]);
/// let (mut dx, mut dw, mut db) = ([0.0; 3], [0.0; 6], [0.5, 0.5]);
/// let weight = Weight::from_f32(run.cpu(), MatRef::new(&w, 2, 3));
/// let (x, dy) = (MatRef::new(&x, 1, 3), MatRef::new(&dy, 1, 2));
/// input_gradient(&run, &weight, dy, Accumulate::Overwrite, MatMut::new(&mut dx, 1, 3));
/// weight_gradient(&run, Compute::F32, (x, dy), Accumulate::Overwrite, MatMut::new(&mut dw, 2, 3));
/// bias_gradient(&run, dy, Accumulate::Add, &mut db);
/// assert_eq!((dx, db), ([41.0, 52.0, 63.0], [1.5, 10.5])); // dy W, and dy added
/// assert_eq!(dw, [7.0, 8.0, 9.0, 70.0, 80.0, 90.0]); // dyᵀ x
/// // Beside it an adapter: its dH (1, 1) times A (1, 3), in the same pass.
/// let mut a = vec![Default::default(); packed_len(1, 3)];
/// pack(run.cpu(), MatRef::new(&[1.0, 1.0, 2.0], 1, 3), &mut a);
/// let change = LowRank { h: MatRef::new(&[0.5], 1, 1), b: PackedMatrix::new(&a, 1, 3) };
/// input_gradient_low_rank(&run, &weight, dy, change, (MatMut::new(&mut dx, 1, 3), Accumulate::Overwrite));
/// assert_eq!(dx, [41.5, 52.5, 64.0]);
/// ```
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
    let (cpu, rows, n) = (run.cpu(), b.rows(), b.cols());
    // Panels that one thread packs at a time: what it reads of a row lies together.
    let band = n.div_ceil(LANES).div_ceil(run.threads()).max(8);
    let mut groups = run.bf16_groups(packed_len(rows, n));
    let bands = groups.chunks_mut((band * rows.div_ceil(GROUP)).max(1)).enumerate();
    run.pieces(bands, |(i, groups), _| {
        let cols = i * band * LANES..n.min((i + 1) * band * LANES);
        PackedBf16::pack_floats(cpu, b.sub(0..rows, cols), groups);
    });
    let b = PackedBf16::new(&groups, rows, n);
    run_bf16(run, GemmBf16 { accumulate, ..GemmBf16::new(a.t(), b, c) });
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
/// ```
/// use samebits::{Cpu, kernels::view::{MatMut, MatRef}, nn::embedding_gradient, run::Run};
/// let (dy, mut table) = ([1.0, 2.0, 4.0], [0.0; 4]);
/// let (dy, to) = (MatRef::new(&dy, 3, 1), MatMut::new(&mut table, 4, 1));
/// embedding_gradient(&Run::here(Cpu::detect()), &[3, 0, 3], dy, to);
/// assert_eq!(table, [2.0, 0.0, 0.0, 5.0]);
/// ```
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
/// ```
/// use samebits::kernels::norm::{Gain, NormBackward, RmsNorm, Stats};
/// use samebits::kernels::{gemm::Accumulate::Overwrite, view::{MatMut, MatRef}};
/// use samebits::{Cpu, nn::{NormKind, norm_gradient, norm_weight_gradient}, run::Run};
/// let (run, x, dy, mut dx, mut dw) = (Run::here(Cpu::detect()), [1.0, 7.0], [1.0, 0.0], [0.0; 2], [0.0; 2]);
/// let (x, dy, mut stats) = (MatRef::new(&x, 1, 2), MatRef::new(&dy, 1, 2), [Stats::default()]);
/// let norm = NormKind::Rms(RmsNorm { gain: Gain::One, eps: 0.0 });
/// let rows = NormBackward { x, dy, dx: MatMut::new(&mut dx, 1, 2), accumulate: Overwrite, stats: &mut stats };
/// norm_gradient(&run, &norm, rows);
/// norm_weight_gradient(&run, (x, dy), &stats, Overwrite, &mut dw);
/// assert_eq!(dw, [0.2, 0.0]); // x₀ / √((1 + 49) / 2)
/// assert!((dx[0] - 0.196).abs() < 1e-7); // 1 / 5 − x₀² / 5³ / 2
/// ```
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
/// ```
/// use samebits::kernels::attention::{AttentionBackward, Gradients, Options};
/// use samebits::kernels::view::{HeadsMut, HeadsRef};
/// use samebits::{Cpu, nn::attention_gradients, run::Run};
/// // Two keys that score alike: p = ½, ½; the result is 2.
/// let (one, two) = ([1, 1, 1, 1], [1, 1, 2, 1]);
/// let (mut dq, mut dk, mut dv) = ([0.0], [0.0; 2], [0.0; 2]);
/// let problem = AttentionBackward {
///     q: HeadsRef::new(&[0.0], one),
///     k: HeadsRef::new(&[1.0, 5.0], two),
///     v: HeadsRef::new(&[1.0, 3.0], two),
///     out: HeadsRef::new(&[2.0], one),
///     lse: HeadsRef::new(&[core::f32::consts::LN_2], one),
///     d_out: HeadsRef::new(&[1.0], one),
///     options: Options::new(1.0),
/// };
/// let to = Gradients { dq: HeadsMut::new(&mut dq, one), dk: HeadsMut::new(&mut dk, two), dv: HeadsMut::new(&mut dv, two) };
/// attention_gradients(&Run::here(Cpu::detect()), &problem, to, &mut [0.0], None);
/// assert!((dv[0] - 0.5).abs() < 1e-6); // p
/// assert!((dq[0] - 2.0).abs() < 1e-5); // ½ (1 − 2) · 1 + ½ (3 − 2) · 5
/// ```
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
