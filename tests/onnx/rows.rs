//! Softmax, the norms, rotary embedding.

use crate::judge::{Answer, Answers, Bound, Case, U, each, ulps, within};
use crate::proto::Raw;
use samebits::kernels::elementwise::Unary;
use samebits::kernels::norm::{Gain, LayerNorm, RmsNorm};
use samebits::kernels::reduce::Reduction;
use samebits::kernels::rope::{self, Pairing, Rope, Table};
use samebits::kernels::view::HeadsMut;
use samebits::tensor::{Axes, KeepDim, Tensor};

/// `None` for an operator of another kind.
pub fn run(case: &Case) -> Option<Answers> {
    Some(match case.node.op.as_str() {
        "Softmax" => softmax(case),
        "LogSoftmax" => log_softmax(case),
        "LayerNormalization" => layer_norm(case),
        "RMSNormalization" => rms_norm(case),
        "GroupNormalization" => group_norm(case),
        "LpNormalization" => l2_norm(case),
        "RotaryEmbedding" => rotary(case),
        _ => return None,
    })
}

fn softmax(case: &Case) -> Answers {
    let (cpu, x, axis) = (case.cpu, case.floats(0)?, case.axis(-1));
    let y = x.softmax(cpu, axis);
    let below = x.sub(cpu, &x.max(cpu, &[axis], KeepDim::Yes));
    let bound = each(&y, |y| y * U).into_iter().zip(each(&below, |d| 16.0 + 2.0 * d.abs()));
    let bound = bound.map(|(y, size)| y * size + 2f64.powi(-149)).collect();
    within(y, bound)
}

fn log_softmax(case: &Case) -> Answers {
    let y = case.floats(0)?.log_softmax(case.cpu, case.axis(-1));
    let bound = each(&y, |y| U * (16.0 + 2.0 * y.abs()));
    within(y, bound)
}

/// The axes from `axis` on as one: what ONNX normalises.
fn joined(case: &Case, x: &Tensor) -> (Tensor, Vec<usize>) {
    let axis = case.axis(-1);
    let axis = if axis < 0 { axis + x.rank() as isize } else { axis } as usize;
    let (kept, reduced) = x.shape().split_at(axis);
    let rows = x.reshape(&[kept.iter().product(), reduced.iter().product()]);
    (rows, [kept, &vec![1; reduced.len()]].concat())
}

/// The result, and the statistics that ONNX returns with it. NumPy's own result comes from statistics in f32; it is
/// granted the error that ours may have.
fn layer_norm(case: &Case) -> Answers {
    let (cpu, x, eps) = (case.cpu, case.floats(0)?, case.float("epsilon", 1e-5));
    let (weight, bias) = (case.floats(1)?.to_vec::<f32>(), case.floats(2)?.to_vec::<f32>());
    let (rows, kept) = joined(case, &x);
    let y = rows.layer_norm(cpu, &LayerNorm { weight: Some(&weight), bias: Some(&bias), eps });
    let bound = affine_bound(&y.to_vec(), &bias, 3.0 + 3.0);

    let mean = rows.mean(cpu, &[1], KeepDim::Yes);
    let size = rows.unary(cpu, Unary::Abs).mean(cpu, &[1], KeepDim::Yes);
    let centred = rows.sub(cpu, &mean);
    let variance = centred.mul(cpu, &centred).mean(cpu, &[1], KeepDim::Yes);
    let deviation = variance.add(cpu, &Tensor::scalar(eps)).unary(cpu, Unary::Sqrt);
    let inverse = Tensor::scalar(1.0).div(cpu, &deviation);
    let mean_bound = Bound::Within(each(&size, |size| 4.0 * U * size));
    let answer = |t: Tensor, shape: &[usize], bound| Answer { tensor: t.reshape(shape), bound };
    Ok(vec![
        answer(y, x.shape(), Bound::Within(bound)),
        answer(mean, &kept, mean_bound),
        // Half the variance's error (4 u: squares and mean), ε, the root, the quotient.
        answer(inverse, &kept, Bound::Ulps(4.0)),
    ])
}

/// n u (|w x̂| + |b|), w x̂ being what is left of y without b.
fn affine_bound(y: &[f32], bias: &[f32], n: f64) -> Vec<f64> {
    let bound = |(y, b): (&f32, &f32)| n * U * ((f64::from(*y) - f64::from(*b)).abs() + f64::from(b.abs()));
    y.iter().zip(bias.iter().cycle()).map(bound).collect()
}

/// As [`layer_norm`]: ours, and as much for NumPy's.
fn rms_norm(case: &Case) -> Answers {
    let (x, eps) = (case.floats(0)?, case.float("epsilon", 1e-5));
    let weight = case.floats(1)?.to_vec::<f32>();
    let (rows, _) = joined(case, &x);
    ulps(rows.rms_norm(case.cpu, &RmsNorm { gain: Gain::Weight(&weight), eps }).reshape(x.shape()), 2.5 + 2.5)
}

/// Layer norm of each group of channels, then weight and bias of each channel.
fn group_norm(case: &Case) -> Answers {
    let (cpu, x, eps) = (case.cpu, case.floats(0)?, case.float("epsilon", 1e-5));
    let (groups, channels) = (case.int("num_groups", 1) as usize, x.shape()[1]);
    let rows = x.reshape(&[x.shape()[0] * groups, x.len() / x.shape()[0] / groups]);
    let normed = rows.layer_norm(cpu, &LayerNorm { weight: None, bias: None, eps }).reshape(x.shape());
    let a_channel = |t: Tensor| t.reshape(&[channels, 1, 1]).broadcast_to(x.shape()).contiguous();
    let (weight, bias) = (a_channel(case.floats(1)?), a_channel(case.floats(2)?));
    let y = normed.mul(cpu, &weight).add(cpu, &bias);
    // Three of layer norm, one a rounding of product and sum; and as much for NumPy's.
    let bound = affine_bound(&y.to_vec(), &bias.to_vec(), 5.0 + 5.0);
    within(y, bound)
}

fn l2_norm(case: &Case) -> Answers {
    let (cpu, x, axis) = (case.cpu, case.floats(0)?, case.axis(-1));
    if case.int("p", 2) != 2 {
        return Err("only the norm of p = 2".into());
    }
    let norm = x.reduce(cpu, Reduction::Norm2, Axes::These(&[axis]), KeepDim::Yes);
    ulps(x.div(cpu, &norm), 2.0) // one of the norm, one of the quotient
}

/// (batch, tokens, hidden), or (batch, heads, tokens, head_dim).
fn rotary(case: &Case) -> Answers {
    let (cpu, mut x) = (case.cpu, case.floats(0)?);
    let (cos, sin) = (case.floats(1)?, case.floats(2)?);
    let positions = case.raw(3).map(Raw::ints).ok_or("a table of a row a token")?;
    let positions: Vec<u32> = positions.iter().map(|&p| p as u32).collect();
    let (batch, pairs) = (x.shape()[0], cos.shape()[1]);
    let by_token = x.shape().len() == 3;
    let [heads, tokens, dim] = match *x.shape() {
        [_, tokens, hidden] => {
            let heads = case.int("num_heads", 1) as usize;
            [heads, tokens, hidden / heads]
        }
        [_, heads, tokens, dim] => [heads, tokens, dim],
        ref other => panic!("rotary embedding of shape {other:?}"),
    };
    let pairing = if case.int("interleaved", 0) == 1 { Pairing::Interleaved } else { Pairing::Half };
    let (cos, sin) = (cos.to_vec::<f32>(), sin.to_vec::<f32>());
    let table = Table { cos: &cos, sin: &sin, pairs };
    let before = x.to_vec::<f32>();
    let each_batch = x.len() / batch;
    for (x, positions) in x.make_mut::<f32>().chunks_mut(each_batch).zip(positions.chunks(tokens)) {
        let x = match by_token {
            true => HeadsMut::by_token(x, tokens, heads, dim),
            false => HeadsMut::new(x, [1, heads, tokens, dim]),
        };
        rope::in_place(cpu, &Rope { table, pairing, positions }, x);
    }
    // Each output is two products, rounded twice: what turns is never longer than the pair.
    let longest = before.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let bound = vec![2.0 * U * 2.0 * f64::from(longest); x.len()];
    within(x, bound)
}
