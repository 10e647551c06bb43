//! Kernels that turn a matrix into another of its shape: by rows (softmax, norms) or element by element
//! (activations). Each reads once and writes once, so the copy rate binds, unless `exp` does before.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::Cpu;
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::activation::{self, Activation};
use crate::kernels::math::exp::Exp;
use crate::kernels::norm::{Gain, LayerNorm, RmsNorm, layer_norm, rms_norm};
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{map, softmax};

/// The entries. Operations an element: see [`Work::flops`].
pub const FAMILY: &[Entry] = &[
    entry("softmax", "softmax of rows", |d| work(d, 14.0), |d, i| body(d, i, ours::softmax, plain::softmax)),
    entry(
        "log_softmax",
        "logarithm of the softmax of rows",
        |d| work(d, 14.0),
        |d, i| body(d, i, ours::log_softmax, plain::log_softmax),
    ),
    entry(
        "layer_norm",
        "LayerNorm with weight and bias",
        |d| work(d, 8.0),
        |d, i| body(d, i, ours::layer_norm, plain::layer_norm),
    ),
    entry(
        "rms_norm",
        "RMSNorm with weight",
        |d| work(d, 4.0),
        |d, i| body(d, i, ours::rms_norm, plain::rms_norm),
    ),
    entry(
        "gelu_erf",
        "GELU as in BERT",
        |d| work(d, 14.0),
        |d, i| body(d, i, ours::gelu_erf, plain::gelu_erf),
    ),
    entry(
        "gelu_tanh",
        "GELU as in GPT-2",
        |d| work(d, 18.0),
        |d, i| body(d, i, ours::gelu_tanh, plain::gelu_tanh),
    ),
    entry("silu", "x · σ(x)", |d| work(d, 12.0), |d, i| body(d, i, ours::silu, plain::silu)),
    entry("exp", "e^x of every element", |d| work(d, 10.0), |d, i| body(d, i, ours::exp, plain::exp)),
];

type Make = fn(&[usize], &mut Inputs) -> Body;

const fn entry(name: &'static str, about: &'static str, work: fn(&[usize]) -> Work, make: Make) -> Entry {
    Entry { name, about, dims: "ROWSxN", shapes: &[&[4096, 1024], &[64, 1024]], work, make }
}

fn work(dims: &[usize], flops: f64) -> Work {
    let n = dims[0] * dims[1];
    Work::memory(flops * n as f64, Access::Copy, 8 * n)
}

/// What norms multiply by and add, (n).
struct Weights {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Some rows at once.
type Ours = fn(Cpu, &Weights, MatRef<'_>, MatMut<'_>);
/// One row.
type Plain = fn(&Weights, &[f32], &mut [f32]);

struct Map {
    x: Vec<f32>,
    y: Vec<f32>,
    n: usize,
    weights: Weights,
    ours: Ours,
    plain: Plain,
}

fn body(dims: &[usize], inputs: &mut Inputs, ours: Ours, plain: Plain) -> Body {
    let (rows, n) = (dims[0], dims[1]);
    let weights = Weights { weight: inputs.normal(n), bias: inputs.normal(n) };
    let map = Map { x: inputs.normal(rows * n), y: filled(0.0, rows * n), n, weights, ours, plain };
    Body::new(
        map,
        |m, run| m.ours(run),
        |m| {
            for (x, y) in m.x.chunks(m.n).zip(m.y.chunks_mut(m.n)) {
                (m.plain)(&m.weights, x, y);
            }
        },
        |m| m.y.clone(),
    )
}

impl Map {
    fn ours(&mut self, run: &Run<'_>) {
        let Map { x, y, n, weights, ours, .. } = self;
        let n = *n;
        let part = parts(x.len() / n, run) * n;
        run.pool.run(x.chunks(part).zip(y.chunks_mut(part)), |(x, y), _| {
            let rows = x.len() / n;
            ours(run.cpu, weights, MatRef::new(x, rows, n), MatMut::new(y, rows, n));
        });
    }
}

mod ours {
    use super::*;

    pub fn softmax(cpu: Cpu, _: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        softmax::softmax(cpu, x, y);
    }

    pub fn log_softmax(cpu: Cpu, _: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        softmax::log_softmax(cpu, x, y);
    }

    pub fn layer_norm(cpu: Cpu, w: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        let norm = LayerNorm { weight: Some(&w.weight), bias: Some(&w.bias), eps: plain::EPS };
        super::layer_norm(cpu, x, &norm, y);
    }

    pub fn rms_norm(cpu: Cpu, w: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        super::rms_norm(cpu, x, &RmsNorm { gain: Gain::Weight(&w.weight), eps: plain::EPS }, y);
    }

    pub fn gelu_erf(cpu: Cpu, _: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        activation::apply(cpu, Activation::GeluErf, x, y);
    }

    pub fn gelu_tanh(cpu: Cpu, _: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        activation::apply(cpu, Activation::GeluTanh, x, y);
    }

    pub fn silu(cpu: Cpu, _: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        activation::apply(cpu, Activation::Silu, x, y);
    }

    pub fn exp(cpu: Cpu, _: &Weights, x: MatRef<'_>, y: MatMut<'_>) {
        map::apply(cpu, Exp, x, y);
    }
}

mod plain {
    use super::Weights;

    pub const EPS: f32 = 1e-5;

    pub fn softmax(_: &Weights, x: &[f32], y: &mut [f32]) {
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - max).exp();
        }
        let scale = 1.0 / y.iter().sum::<f32>();
        for y in y {
            *y *= scale;
        }
    }

    pub fn log_softmax(_: &Weights, x: &[f32], y: &mut [f32]) {
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = x.iter().map(|x| (x - max).exp()).sum::<f32>().ln();
        for (y, x) in y.iter_mut().zip(x) {
            *y = x - max - log_sum;
        }
    }

    pub fn layer_norm(w: &Weights, x: &[f32], y: &mut [f32]) {
        let n = x.len() as f32;
        let mean = x.iter().sum::<f32>() / n;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
        let scale = 1.0 / (variance + EPS).sqrt();
        for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(&w.weight).zip(&w.bias) {
            *y = (x - mean) * scale * weight + bias;
        }
    }

    pub fn rms_norm(w: &Weights, x: &[f32], y: &mut [f32]) {
        let mean_square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
        let scale = 1.0 / (mean_square + EPS).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(&w.weight) {
            *y = x * scale * weight;
        }
    }

    pub fn gelu_erf(_: &Weights, x: &[f32], y: &mut [f32]) {
        map(x, y, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)));
    }

    /// Abramowitz and Stegun 7.1.26: the standard library has no erf.
    fn erf(x: f32) -> f32 {
        let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
        let p =
            ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
        (1.0 - p * (-x * x).exp()).copysign(x)
    }

    pub fn gelu_tanh(_: &Weights, x: &[f32], y: &mut [f32]) {
        map(x, y, |x| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()));
    }

    pub fn silu(_: &Weights, x: &[f32], y: &mut [f32]) {
        map(x, y, |x| x / (1.0 + (-x).exp()));
    }

    pub fn exp(_: &Weights, x: &[f32], y: &mut [f32]) {
        map(x, y, f32::exp);
    }

    fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    }
}
