//! The gradients of activations, softmax and norms: the same bits as plain loops on every tier, in every layout, in
//! place and apart; against differences in `f64`.

mod common;

use common::differences::{assert_near, gradient, weighted};
use common::elementary as plain;
use common::layouts::{Form, Mat};
use common::{Random, assert_same, chains, cpus, slow, truth};
use samebits::kernels::activation::{self, Activation, GatedInputs};
use samebits::kernels::gemm::Accumulate;
use samebits::kernels::norm::{
    Gain, LayerNorm, NormBackward, NormWeights, RmsNorm, Stats, layer_norm_backward, rms_norm_backward,
};
use samebits::kernels::softmax::{
    log_softmax_backward, log_softmax_backward_in_place, softmax_backward, softmax_backward_in_place,
};
use samebits::kernels::view::MatRef;

/// f and f' in plain `f32`.
fn definition(f: Activation) -> [fn(f32) -> f32; 2] {
    match f {
        Activation::Identity => [|x| x, |_| 1.0],
        Activation::Relu => [plain::relu, |x| if x <= 0.0 { 0.0 } else { 1.0 }],
        Activation::GeluErf => [plain::gelu_erf, plain::gelu_erf_slope],
        Activation::GeluTanh => [plain::gelu_tanh, plain::gelu_tanh_slope],
        Activation::GeluQuick => [plain::gelu_quick, plain::gelu_quick_slope],
        Activation::Silu => [plain::silu, plain::silu_slope],
    }
}

/// dy · f'(x); relu selects.
fn activation_twin(f: Activation, dy: f32, x: f32) -> f32 {
    match f {
        Activation::Relu if x <= 0.0 => 0.0,
        Activation::Relu | Activation::Identity => dy,
        _ => dy * definition(f)[1](x),
    }
}

/// Rows whose elements pass every branch.
fn inputs(seed: u64, n: usize) -> Vec<f32> {
    let mut x = Random::new(seed).normal(n);
    x.iter_mut().enumerate().for_each(|(i, x)| *x *= [0.1, 1.0, 4.0, 30.0, 1e20][i % 5]);
    x
}

const SHAPES: [(usize, usize); 6] = [(0, 3), (1, 1), (5, 1), (3, 17), (4, 48), (17, 35)];

#[test]
fn activations() {
    for (rows, cols) in (0..=67).map(|n| (1, n)).chain(SHAPES) {
        let n = rows * cols;
        let (x, dy, up) = (inputs(1, n), Random::new(2).normal(n), Random::new(3).normal(n));
        for f in Activation::ALL {
            let each = |of: &dyn Fn(usize) -> f32| (0..n).map(of).collect::<Vec<f32>>();
            let dx = each(&|i| activation_twin(f, dy[i], x[i]));
            let dgate = each(&|i| activation_twin(f, dy[i] * up[i], x[i]));
            let dup = each(&|i| dy[i] * definition(f)[0](x[i]));
            for form in Form::ALL {
                let mat = |x: &[f32]| Mat::new(form, rows, cols, x);
                let [x, up, dy] = [mat(&x), mat(&up), mat(&dy)];
                for cpu in cpus() {
                    let what = format!("{f:?} ({rows}, {cols}) {form:?} on {}", cpu.tier());
                    let [mut a, mut b] = [mat(&vec![0.0; n]), mat(&vec![0.0; n])];
                    activation::backward(cpu, f, x.view(), dy.view(), a.view_mut());
                    assert_same(&a.values(), &dx, &what);
                    let mut here = mat(&dy.values());
                    activation::backward_in_place(cpu, f, x.view(), here.view_mut());
                    assert_same(&here.values(), &dx, format!("{what} in place"));
                    let given = GatedInputs { gate: x.view(), up: up.view(), dy: dy.view() };
                    activation::gated_backward(cpu, f, given, a.view_mut(), b.view_mut());
                    assert_same(&a.values(), &dgate, format!("{what}, gate"));
                    assert_same(&b.values(), &dup, format!("{what}, up"));
                }
            }
        }
    }
}

/// The slope and the sum of its absolute terms, in `f64`.
fn slope(f: Activation, x: f64) -> (f64, f64) {
    let sigma_form = |t: f64, dt: f64| {
        let bell = truth::sigmoid(t) * truth::sigmoid(-t) * x * dt;
        // Where e^t is tiny, the rounding of t is multiplied by |t|.
        let size = (truth::sigmoid(t) + bell.abs()) * (t.abs() / 8.0).max(1.0);
        (truth::sigmoid(t) + bell, size)
    };
    match f {
        Activation::Identity => (1.0, 1.0),
        Activation::Relu => (if x > 0.0 { 1.0 } else { 0.0 }, 1.0),
        Activation::GeluErf => {
            let phi = if x == 0.0 { 0.5 } else { truth::gelu_erf(x) / x };
            let bell = x * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            (phi + bell, phi + bell.abs())
        }
        Activation::GeluTanh => {
            let c = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            sigma_form(c * (x + 0.044715 * x * x * x), c * (1.0 + 3.0 * 0.044715 * x * x))
        }
        Activation::GeluQuick => sigma_form(1.702 * x, 1.702),
        Activation::Silu => sigma_form(x, 1.0),
    }
}

#[test]
fn slopes_are_true() {
    let x: Vec<f32> = (-1300..1300).map(|i| i as f32 * 0.0113 + 1e-4).collect();
    for f in Activation::ALL {
        let (want, gauge): (Vec<f64>, Vec<f64>) = x.iter().map(|&x| slope(f, f64::from(x))).unzip();
        let mut got = vec![1.0; x.len()];
        let mut dx = Mat::new(Form::Contiguous, 1, x.len(), &got);
        let dy = Mat::new(Form::Contiguous, 1, x.len(), &got);
        for cpu in cpus() {
            activation::backward(cpu, f, MatRef::new(&x, 1, x.len()), dy.view(), dx.view_mut());
            got = dx.values();
            assert_near(&got, &want, &gauge, format!("{f:?} on {}", cpu.tier()));
        }
        // The formulae above are slopes indeed.
        let value: fn(f64) -> f64 = match f {
            Activation::GeluErf => truth::gelu_erf,
            Activation::GeluTanh => truth::gelu_tanh,
            Activation::GeluQuick => truth::gelu_quick,
            Activation::Silu => truth::silu,
            _ => continue,
        };
        let few: Vec<f32> = x.iter().copied().filter(|x| x.abs() < 6.0).step_by(7).collect();
        for (x, d) in few.iter().zip(gradient(&few, |x| x.iter().map(|&x| value(x)).sum())) {
            assert!((slope(f, f64::from(*x)).0 - d).abs() < 1e-9, "{f:?} at {x}: {d}");
        }
        let ends = [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::NAN].map(definition(f)[1]);
        assert!(ends[0] == 1.0 && ends[2] == 1.0 && ends[1].abs() <= 1.0, "{f:?}: {ends:?}");
    }
}

/// Zeros up to whole lines, as the padded tail adds them.
fn padded<T: Default>(x: impl ExactSizeIterator<Item = T>) -> impl Iterator<Item = T> {
    let more = x.len().next_multiple_of(16) - x.len();
    x.chain((0..more).map(|_| T::default()))
}

fn softmax_twin(y: &[f32], dy: &[f32]) -> Vec<f32> {
    let d = chains::dot(y, dy);
    y.iter().zip(dy).map(|(y, dy)| y * (dy - d)).collect()
}

fn log_softmax_twin(y: &[f32], dy: &[f32]) -> Vec<f32> {
    let sum = chains::sum_f64(dy.iter().map(|&dy| f64::from(dy))) as f32;
    y.iter().zip(dy).map(|(&y, &dy)| (-plain::exp(y)).mul_add(sum, dy)).collect()
}

#[test]
fn softmaxes() {
    for (rows, cols) in (0..=67).map(|n| (1, n)).chain(SHAPES) {
        let (x, dy) = (Random::new(4).normal(rows * cols), Random::new(5).normal(rows * cols));
        let (y, log): (Vec<f32>, Vec<f32>) = x
            .chunks(cols.max(1))
            .flat_map(|x| {
                let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
                x.iter().map(move |&x| {
                    let log = f64::from(x) - sum.ln();
                    (log.exp() as f32, log as f32)
                })
            })
            .unzip();
        let rows_of = |twin: fn(&[f32], &[f32]) -> Vec<f32>, y: &[f32]| -> Vec<f32> {
            y.chunks(cols.max(1)).zip(dy.chunks(cols.max(1))).flat_map(|(y, dy)| twin(y, dy)).collect()
        };
        let (want, want_log) = (rows_of(softmax_twin, &y), rows_of(log_softmax_twin, &log));
        for form in Form::ALL {
            let mat = |x: &[f32]| Mat::new(form, rows, cols, x);
            for cpu in cpus() {
                let what = format!("({rows}, {cols}) {form:?} on {}", cpu.tier());
                let mut dx = mat(&vec![0.0; rows * cols]);
                softmax_backward(cpu, mat(&y).view(), mat(&dy).view(), dx.view_mut());
                assert_same(&dx.values(), &want, &what);
                log_softmax_backward(cpu, mat(&log).view(), mat(&dy).view(), dx.view_mut());
                assert_same(&dx.values(), &want_log, format!("log {what}"));
                let (mut a, mut b) = (mat(&dy), mat(&dy));
                softmax_backward_in_place(cpu, mat(&y).view(), a.view_mut());
                log_softmax_backward_in_place(cpu, mat(&log).view(), b.view_mut());
                assert_same(&a.values(), &want, format!("{what} in place"));
                assert_same(&b.values(), &want_log, format!("log {what} in place"));
            }
        }
        if rows == 1 && cols > 0 {
            softmax_truth(&x, &dy, [&want, &want_log]);
        }
    }
}

/// Against differences of the softmax in `f64`.
fn softmax_truth(x: &[f32], dy: &[f32], [got, log]: [&[f32]; 2]) {
    let sum = |x: &[f64]| x.iter().map(|x| x.exp()).sum::<f64>();
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let p: Vec<f64> = wide.iter().map(|x| x.exp() / sum(&wide)).collect();
    let size: f64 = p.iter().zip(dy).map(|(p, dy)| p * f64::from(dy.abs())).sum();
    let want = gradient(x, |x| weighted(dy, x.iter().map(|v| v.exp() / sum(x))));
    let gauge: Vec<f64> = p.iter().zip(dy).map(|(p, dy)| p * (f64::from(dy.abs()) + size)).collect();
    assert_near(got, &want, &gauge, format!("softmax of {}", x.len()));
    let total: f64 = dy.iter().map(|dy| f64::from(dy.abs())).sum();
    let want = gradient(x, |x| weighted(dy, x.iter().map(|v| v - sum(x).ln())));
    let gauge: Vec<f64> = p.iter().zip(dy).map(|(p, dy)| f64::from(dy.abs()) + p * total).collect();
    assert_near(log, &want, &gauge, format!("log-softmax of {}", x.len()));
}

/// Parameters of both norms, for one twin.
#[derive(Clone, Copy)]
struct Norm<'a> {
    /// Whether the mean is taken away.
    centred: bool,
    weight: Option<&'a [f32]>,
    base: f32,
    eps: f32,
}

impl Norm<'_> {
    /// dx and the statistics of a row.
    fn twin(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Stats) {
        let n = x.len() as f64;
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let mean = if self.centred { chains::sum_f64(wide(x)) / n } else { 0.0 };
        let squares = chains::sum_f64(wide(x).iter().map(|x| (x - mean) * (x - mean)));
        let scale = 1.0 / (squares / n + f64::from(self.eps)).sqrt();
        let weight = |i: usize| self.base + self.weight.map_or(1.0, |w| w[i]);
        let g: Vec<f64> = (0..x.len()).map(|i| f64::from(dy[i]) * f64::from(weight(i))).collect();
        let unit: Vec<f64> = wide(x).iter().map(|x| (x - mean) * scale).collect();
        let plain = chains::sum_f64(padded(g.iter().copied())) / n;
        let slope = chains::sum_f64(padded(g.iter().zip(&unit).map(|(g, u)| g * u))) / n;
        let one = |(g, u): (&f64, &f64)| {
            let centred = if self.centred { g - plain } else { *g };
            ((centred - u * slope) * scale) as f32
        };
        (g.iter().zip(&unit).map(one).collect(), Stats { mean, scale })
    }

    fn run(&self, cpu: samebits::Cpu, rows: NormBackward<'_>) {
        let &Norm { centred, weight, base, eps } = self;
        let gain = match weight {
            None => Gain::One,
            Some(w) if base == 1.0 => Gain::OnePlus(w),
            Some(w) => Gain::Weight(w),
        };
        if centred {
            layer_norm_backward(cpu, &LayerNorm { weight, bias: None, eps }, rows);
        } else {
            rms_norm_backward(cpu, &RmsNorm { gain, eps }, rows);
        }
    }

    /// Σ dy · y in `f64`, of one row.
    fn loss(&self, x: &[f64], w: &[f64], dy: &[f32]) -> f64 {
        let n = x.len() as f64;
        let mean = if self.centred { x.iter().sum::<f64>() / n } else { 0.0 };
        let squares = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let r = 1.0 / (squares + f64::from(self.eps)).sqrt();
        weighted(dy, x.iter().zip(w).map(|(x, w)| (x - mean) * r * (f64::from(self.base) + w)))
    }
}

fn norms(w: &[f32]) -> [Norm<'_>; 5] {
    let norm = |centred, weight, base| Norm { centred, weight, base, eps: 1e-5 };
    [
        norm(true, None, -0.0),
        norm(true, Some(w), -0.0),
        norm(false, None, -0.0),
        norm(false, Some(w), -0.0),
        norm(false, Some(w), 1.0),
    ]
}

#[test]
fn norms_twin() {
    for (rows, cols) in (1..=67).map(|n| (1, n)).chain(SHAPES).chain([(300, 70)]) {
        if slow() && rows * cols > 2000 {
            continue;
        }
        let n = rows * cols;
        let (x, dy, w) = (Random::new(6).normal(n), Random::new(7).normal(n), Random::new(8).normal(cols));
        let prior = Random::new(9).normal(n);
        for norm in norms(&w) {
            let each: Vec<_> = x.chunks(cols).zip(dy.chunks(cols)).map(|(x, dy)| norm.twin(x, dy)).collect();
            let want: Vec<f32> = each.iter().flat_map(|row| row.0.clone()).collect();
            let added: Vec<f32> = prior.iter().zip(&want).map(|(a, b)| a + b).collect();
            let want_stats: Vec<Stats> = each.iter().map(|row| row.1).collect();
            let want_w = weights_twin(&x, &dy, &want_stats, cols);
            for form in Form::ALL {
                let mat = |x: &[f32]| Mat::new(form, rows, cols, x);
                let [x, dy] = [mat(&x), mat(&dy)];
                for cpu in cpus() {
                    let what = format!("({rows}, {cols}) {form:?} on {}", cpu.tier());
                    for (accumulate, want) in [(Accumulate::Overwrite, &want), (Accumulate::Add, &added)] {
                        let (mut dx, mut stats) = (mat(&prior), vec![Stats::default(); rows]);
                        let dx_view = dx.view_mut();
                        let rows = NormBackward {
                            x: x.view(),
                            dy: dy.view(),
                            dx: dx_view,
                            accumulate,
                            stats: &mut stats,
                        };
                        norm.run(cpu, rows);
                        assert_same(&dx.values(), want, format!("{what} {accumulate:?}"));
                        assert_eq!(stats, want_stats, "{what}");
                    }
                    let mut dw = vec![f32::NAN; cols];
                    let job = NormWeights {
                        x: x.view(),
                        dy: dy.view(),
                        stats: &want_stats,
                        accumulate: Accumulate::Overwrite,
                        out: &mut dw,
                    };
                    job.pieces().for_each(|piece| piece.run(cpu));
                    assert_same(&dw, &want_w, format!("{what}, dw"));
                }
            }
        }
    }
}

fn weights_twin(x: &[f32], dy: &[f32], stats: &[Stats], cols: usize) -> Vec<f32> {
    let mut sums = vec![0.0; cols];
    for (j, sum) in sums.iter_mut().enumerate() {
        for (block, stats) in stats.chunks(256).enumerate() {
            let mut chain = 0.0f32;
            for (i, s) in stats.iter().enumerate() {
                let at = (block * 256 + i) * cols + j;
                chain = dy[at].mul_add(((f64::from(x[at]) - s.mean) * s.scale) as f32, chain);
            }
            *sum += chain;
        }
    }
    sums
}

#[test]
fn norms_are_true() {
    for n in [1, 2, 7, 33, 200] {
        let (x, dy, w) = (Random::new(10).normal(n), Random::new(11).normal(n), Random::new(12).normal(n));
        for norm in norms(&w) {
            let (got, stats) = norm.twin(&x, &dy);
            let (wx, ww): (Vec<f64>, Vec<f64>) = (
                x.iter().map(|&x| f64::from(x)).collect(),
                (0..n).map(|i| norm.weight.map_or(1.0, |w| f64::from(w[i]))).collect(),
            );
            let g: Vec<f64> =
                (0..n).map(|i| (f64::from(dy[i]) * (f64::from(norm.base) + ww[i])).abs()).collect();
            let unit: Vec<f64> = wx.iter().map(|x| ((x - stats.mean) * stats.scale).abs()).collect();
            let size = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
            let (plain, slope) = (size(&|i| g[i]), size(&|i| g[i] * unit[i]));
            let gauge: Vec<f64> = (0..n).map(|i| (g[i] + plain + unit[i] * slope) * stats.scale).collect();
            if n > 1 {
                // (A row of one has a variance of 0: differences there see ε.)
                assert_near(&got, &gradient(&x, |x| norm.loss(x, &ww, &dy)), &gauge, format!("dx of {n}"));
            }
            if norm.weight.is_some() {
                let want = gradient(&w, |w| norm.loss(&wx, w, &dy));
                let gauge: Vec<f64> = (0..n).map(|i| f64::from(dy[i].abs()) * unit[i]).collect();
                assert_near(&weights_twin(&x, &dy, &[stats], n), &want, &gauge, format!("dw of {n}"));
            }
        }
    }
}
