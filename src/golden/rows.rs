//! Row kernels: reductions, top-k, softmax, norms, arithmetic, half conversion.

use super::{Golden, Hash, Random, hash};
use crate::Cpu;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::norm::{Gain, LayerNorm, RmsNorm};
use crate::kernels::reduce::{self, Reduction};
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{cumsum, dot, half, norm, softmax, topk};

pub const CASES: &[Golden] = &[
    Golden { name: "dot/67 lengths", hash: 0x6dd2810691fde2df, run: dots },
    Golden { name: "dot/rows", hash: 0xe63043a88b78b084, run: dot_rows },
    Golden { name: "reduce/rows", hash: 0x85cfc18d2a30c59f, run: |cpu| reductions(cpu, |x| x) },
    Golden { name: "reduce/columns", hash: 0x92e0d460365bd2c1, run: |cpu| reductions(cpu, |x| x.t()) },
    Golden { name: "topk/ties", hash: 0xc91495535c24daa2, run: ties },
    Golden { name: "softmax/rows", hash: 0x6accca8fdd7b4198, run: |cpu| rows(cpu, softmax::softmax) },
    Golden { name: "softmax/log", hash: 0x047cc993df578e81, run: |cpu| rows(cpu, softmax::log_softmax) },
    Golden { name: "norm/layer", hash: 0xe65d5e0fafdd3db4, run: layer_norm },
    Golden { name: "norm/rms", hash: 0xe4b7b32b14eebc2d, run: rms_norm },
    Golden {
        name: "elementwise/binary",
        hash: 0xe604c0bd1d0d4e22,
        run: |cpu| binary(cpu, &Binary::ALL[..6]),
    },
    Golden { name: "elementwise/pow", hash: 0xa8c922ccdf13bd51, run: |cpu| binary(cpu, &[Binary::Pow]) },
    Golden { name: "softmax/log-sum-exp", hash: 0xdf4b34975e8339a6, run: log_sum_exp },
    Golden {
        name: "cumsum/rows",
        hash: 0x5b4936394b2e760e,
        run: |cpu| rows(cpu, |_, x, out| cumsum::cumsum(x, out)),
    },
    Golden { name: "half/f16 and bf16", hash: 0x0051ebc58975ae4c, run: halves },
];

fn dots(cpu: Cpu) -> u64 {
    let (a, b) = (Random::new(1).normal(67), Random::new(2).normal(67));
    hash(&(0..=67).map(|n| dot::dot(cpu, &a[..n], &b[..n])).collect::<Vec<f32>>())
}

fn dot_rows(cpu: Cpu) -> u64 {
    let (n, k) = (37, 389);
    let (query, x) = (Random::new(1).normal(k), Random::new(2).normal(n * k));
    let mut out = vec![0.0; n];
    dot::dot_rows(cpu, &query, MatRef::new(&x, n, k), &mut out);
    hash(&out)
}

/// Every reduction of the rows of a view of a matrix (37, 389).
fn reductions(cpu: Cpu, view: for<'a> fn(MatRef<'a>) -> MatRef<'a>) -> u64 {
    let x = Random::new(3).normal(37 * 389);
    let x = view(MatRef::new(&x, 37, 389));
    let mut out = vec![0.0; x.rows()];
    let all = [Reduction::Sum, Reduction::Mean, Reduction::Norm2, Reduction::Max, Reduction::Min];
    let each = |h: Hash, reduction| {
        reduce::reduce_rows(cpu, reduction, x, &mut out);
        h.floats(&out)
    };
    all.into_iter().fold(Hash::default(), each).0
}

fn ties(cpu: Cpu) -> u64 {
    let mut random = Random::new(4);
    let scores: Vec<f32> = (0..3000).map(|_| random.below(200) as f32 - 100.0).collect();
    let (mut values, mut indices) = (vec![0.0; 50], vec![0; 50]);
    topk::topk(cpu, &scores, &mut values, &mut indices);
    indices.iter().fold(Hash::default().floats(&values), |h, i| h.bytes(&i.to_le_bytes())).0
}

/// A kernel over rows (9, 389) whose largest differences pass the range of exp.
fn rows(cpu: Cpu, kernel: fn(Cpu, MatRef, MatMut)) -> u64 {
    let x: Vec<f32> = Random::new(5).normal(9 * 389).iter().map(|x| x * 30.0).collect();
    let mut out = vec![0.0; x.len()];
    kernel(cpu, MatRef::new(&x, 9, 389), MatMut::new(&mut out, 9, 389));
    hash(&out)
}

/// Of the rows and of the columns.
fn log_sum_exp(cpu: Cpu) -> u64 {
    let x: Vec<f32> = Random::new(5).normal(9 * 389).iter().map(|x| x * 30.0).collect();
    let x = MatRef::new(&x, 9, 389);
    let each = |h: Hash, x: MatRef| {
        let mut out = vec![0.0; x.rows()];
        softmax::log_sum_exp(cpu, x, &mut out);
        h.floats(&out)
    };
    [x, x.t()].into_iter().fold(Hash::default(), each).0
}

fn layer_norm(cpu: Cpu) -> u64 {
    let n = 389;
    let (x, w, b) = (Random::new(6).normal(9 * n), Random::new(7).normal(n), Random::new(8).normal(n));
    let mut out = vec![0.0; x.len()];
    let params = LayerNorm { weight: Some(&w), bias: Some(&b), eps: 1e-5 };
    norm::layer_norm(cpu, MatRef::new(&x, 9, n), &params, MatMut::new(&mut out, 9, n));
    hash(&out)
}

/// The residual addition first; both results count.
fn rms_norm(cpu: Cpu) -> u64 {
    let n = 389;
    let (mut x, residual, w) =
        (Random::new(9).normal(9 * n), Random::new(10).normal(9 * n), Random::new(11).normal(n));
    let mut out = vec![0.0; x.len()];
    let params = RmsNorm { gain: Gain::OnePlus(&w), eps: 1e-6 };
    let (x_mut, y) = (MatMut::new(&mut x, 9, n), MatMut::new(&mut out, 9, n));
    norm::add_rms_norm(cpu, x_mut, MatRef::new(&residual, 9, n), &params, y);
    Hash::default().floats(&x).floats(&out).0
}

fn binary(cpu: Cpu, operations: &[Binary]) -> u64 {
    let (a, b) = (Random::new(12).normal(37 * 21), Random::new(13).normal(37 * 21));
    let mut out = vec![0.0; a.len()];
    let each = |h: Hash, op| {
        let b = MatRef::new(&b, 21, 37).t();
        elementwise::binary(cpu, op, MatRef::new(&a, 37, 21), b, MatMut::new(&mut out, 37, 21));
        h.floats(&out)
    };
    operations.iter().copied().fold(Hash::default(), each).0
}

/// Every half widened and a sample of floats narrowed.
fn halves(cpu: Cpu) -> u64 {
    let all: Vec<u16> = (0..=u16::MAX).step_by(7).collect();
    let sample: Vec<f32> =
        (0..=u32::MAX).step_by(429_497).map(f32::from_bits).filter(|x| !x.is_nan()).collect();
    let (mut wide, mut narrow) = (vec![0.0; all.len()], vec![0; sample.len()]);
    let mut h = Hash::default();
    half::widen_f16(cpu, &all, &mut wide);
    h = h.floats(&wide);
    half::widen_bf16(cpu, &all, &mut wide);
    h = h.floats(&wide);
    for narrowed in [half::narrow_f16, half::narrow_bf16] {
        narrowed(cpu, &sample, &mut narrow);
        h = narrow.iter().fold(h, |h, x| h.bytes(&x.to_le_bytes()));
    }
    h.0
}
