//! Several adapters of one layer made one: `add_weighted_adapter` of peft.
//!
//! ```text
//!   Linear   A = Σ ±√|w s| A_i, B = Σ √|w s| B_i        one rank; products of different adapters mix
//!   Cat      A = (w s A_i …) one below the other, B side by side: exact, the ranks add up
//!   Svd      the leading terms of Σ w s B_i A_i
//!   Ties     as Linear, after each tensor has kept its largest numbers and the signs have voted (Yadav et al. 2023)
//! ```
//!
//! The result has s = 1.

use super::decompose::svd;
use super::{LoraLayer, LoraShape};
use crate::kernels::simd::sqrt64;
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// How adapters are combined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Combine {
    /// A weighted sum of the matrices.
    Linear,
    /// All ranks beside each other: exact.
    Cat,
    /// The best of that rank.
    Svd {
        /// r of the result.
        rank: usize,
    },
    /// A sum of those that agree in sign.
    Ties {
        /// The part of each tensor that is kept.
        density: f64,
    },
}

/// One adapter from several with weights.
///
/// ```
/// use samebits::peft::{Combine, LoraLayer, LoraShape, combine};
/// use samebits::{Cpu, run::Run};
/// let shape = LoraShape { in_features: 1, out_features: 1, rank: 1 };
/// let [two, three] = [2.0, 3.0].map(|b| LoraLayer::from_parts(shape, vec![1.0], vec![b], 1.0));
/// let run = Run::here(Cpu::detect());
/// let sum = combine(&run, &[(&two, 1.0), (&three, 10.0)], Combine::Cat)?;
/// let change: f32 = sum.a.iter().zip(&sum.b).map(|(a, b)| sum.scale * a * b).sum();
/// assert_eq!((sum.shape().rank, change), (2, 32.0)); // all ranks beside each other: exact
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where there is none, shapes differ, one has a magnitude (DoRA), or [`Combine::Linear`] and [`Combine::Ties`] meet
/// different ranks; where a density is not in [0, 1].
pub fn combine(run: &Run<'_>, adapters: &[(&LoraLayer, f32)], how: Combine) -> Result<LoraLayer> {
    let Some((first, _)) = adapters.first() else { return Err(Error::invalid("no adapters to combine")) };
    let shape = first.shape();
    for (layer, _) in adapters {
        let other = layer.shape();
        if (other.in_features, other.out_features) != (shape.in_features, shape.out_features) {
            return Err(Error::invalid(format!("adapters of {shape:?} and {other:?} cannot be combined")));
        }
        if layer.magnitude.is_some() {
            return Err(Error::invalid("adapters with a magnitude (DoRA) cannot be combined"));
        }
        if other.rank != shape.rank && matches!(how, Combine::Linear | Combine::Ties { .. }) {
            let what = format!("ranks {} and {} need Cat or Svd", shape.rank, other.rank);
            return Err(Error::invalid(what));
        }
    }
    match how {
        Combine::Linear => Ok(summed(adapters, shape, sum)),
        Combine::Cat => Ok(cat(adapters, shape)),
        Combine::Svd { rank: 0 } => Err(Error::invalid("a LoRA of rank 0")),
        Combine::Svd { rank } => Ok(decomposed(run, adapters, LoraShape { rank, ..shape })),
        Combine::Ties { density } if (0.0..=1.0).contains(&density) => {
            Ok(summed(adapters, shape, |tensors, weights| ties(tensors, weights, density)))
        }
        Combine::Ties { density } => {
            Err(Error::invalid(format!("a density of {density}, expected 0 up to 1")))
        }
    }
}

/// A and B each made of those of the adapters, the weight of an adapter shared between the two.
fn summed(
    adapters: &[(&LoraLayer, f32)],
    shape: LoraShape,
    join: impl Fn(&[&[f32]], &[f32]) -> Vec<f32>,
) -> LoraLayer {
    let whole = |(layer, weight): &(&LoraLayer, f32)| f64::from(*weight) * f64::from(layer.scale);
    let roots: Vec<f32> = adapters.iter().map(|x| sqrt64(whole(x).abs()) as f32).collect();
    let signed: Vec<f32> =
        adapters.iter().zip(&roots).map(|(x, root)| if whole(x) < 0.0 { -root } else { *root }).collect();
    let (a, b): (Vec<&[f32]>, Vec<&[f32]>) = adapters.iter().map(|(layer, _)| (&*layer.a, &*layer.b)).unzip();
    LoraLayer::from_parts(shape, join(&a, &signed), join(&b, &roots), 1.0)
}

fn sum(tensors: &[&[f32]], weights: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; tensors[0].len()];
    for (tensor, weight) in tensors.iter().zip(weights) {
        out.iter_mut().zip(*tensor).for_each(|(out, x)| *out += weight * x);
    }
    out
}

/// Keeps the largest numbers of each tensor, lets the signs vote, and averages those that agree.
fn ties(tensors: &[&[f32]], weights: &[f32], density: f64) -> Vec<f32> {
    let kept: Vec<Vec<f32>> = tensors.iter().map(|t| largest(t, density)).collect();
    let element = |i: usize| {
        let votes: f32 = kept.iter().map(|t| t[i]).sum();
        let positive = votes >= 0.0;
        let agrees = |x: f32| if positive { x > 0.0 } else { x < 0.0 };
        let (mut sum, mut count) = (0.0, 0);
        for (tensor, weight) in kept.iter().zip(weights).filter(|(t, _)| agrees(t[i])) {
            sum += weight * tensor[i];
            count += 1;
        }
        sum / count.max(1) as f32
    };
    (0..kept[0].len()).map(element).collect()
}

/// The tensor with all but its ⌊density · n⌋ largest magnitudes 0; of equal ones the first are kept.
fn largest(tensor: &[f32], density: f64) -> Vec<f32> {
    let keep = (density * tensor.len() as f64) as usize;
    let mut order: Vec<usize> = (0..tensor.len()).collect();
    order.sort_by(|&a, &b| tensor[b].abs().total_cmp(&tensor[a].abs()).then(a.cmp(&b)));
    let mut out = vec![0.0; tensor.len()];
    order.iter().take(keep).for_each(|&i| out[i] = tensor[i]);
    out
}

fn cat(adapters: &[(&LoraLayer, f32)], shape: LoraShape) -> LoraLayer {
    let rank: usize = adapters.iter().map(|(layer, _)| layer.shape().rank).sum();
    let scaled = |(layer, weight): &(&LoraLayer, f32)| {
        let factor = weight * layer.scale;
        layer.a.iter().map(move |x| x * factor).collect::<Vec<f32>>()
    };
    let a = adapters.iter().flat_map(scaled).collect();
    let row = |o: usize| {
        adapters.iter().flat_map(move |(layer, _)| {
            let rank = layer.shape().rank;
            &layer.b[o * rank..][..rank]
        })
    };
    let b = (0..shape.out_features).flat_map(row).copied().collect();
    LoraLayer::from_parts(LoraShape { rank, ..shape }, a, b, 1.0)
}

/// A = Vᵀ, B = U S.
fn decomposed(run: &Run<'_>, adapters: &[(&LoraLayer, f32)], shape: LoraShape) -> LoraLayer {
    let LoraShape { in_features, out_features, rank } = shape;
    let mut delta = vec![0.0; out_features * in_features];
    for (layer, weight) in adapters {
        layer.add_delta(run, *weight, None, &mut delta);
    }
    let delta: Vec<f64> = delta.into_iter().map(f64::from).collect();
    let parts = svd(&delta, out_features, in_features, rank);
    let (mut a, mut b) = (vec![0.0; rank * in_features], vec![0.0; out_features * rank]);
    for (r, ((u, v), s)) in parts.u.iter().zip(&parts.v).zip(&parts.s).enumerate() {
        a[r * in_features..][..in_features].iter_mut().zip(v).for_each(|(a, v)| *a = *v as f32);
        b.iter_mut().skip(r).step_by(rank).zip(u).for_each(|(b, u)| *b = (u * s) as f32);
    }
    LoraLayer::from_parts(shape, a, b, 1.0)
}
