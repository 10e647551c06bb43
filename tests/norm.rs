//! LayerNorm, RMSNorm and the fused residual addition: twins, truth, special values.

mod common;
use common::chains;
use common::layouts::{Form, Mat};
use common::*;
use samebits::kernels::norm::*;
use samebits::kernels::view::{MatMut, MatRef};

fn layer_twin(x: &[f32], norm: &LayerNorm) -> Vec<f32> {
    let n = x.len() as f64;
    let mean = chains::sum_f64(x.iter().map(|&x| f64::from(x))) / n;
    let squares = chains::sum_f64(x.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)));
    let scale = 1.0 / (squares / n + f64::from(norm.eps)).sqrt();
    let unit = x.iter().map(|&x| ((f64::from(x) - mean) * scale) as f32);
    unit.enumerate()
        .map(|(i, u)| match (norm.weight, norm.bias) {
            (None, None) => u,
            (Some(w), None) => u * w[i],
            (None, Some(b)) => u + b[i],
            (Some(w), Some(b)) => u.mul_add(w[i], b[i]),
        })
        .collect()
}

fn rms_twin(x: &[f32], norm: &RmsNorm) -> Vec<f32> {
    let squares = chains::sum_f64(x.iter().map(|&x| f64::from(x) * f64::from(x)));
    let scale = 1.0 / (squares / x.len() as f64 + f64::from(norm.eps)).sqrt();
    let unit = x.iter().map(|&x| (f64::from(x) * scale) as f32);
    unit.enumerate()
        .map(|(i, u)| match norm.gain {
            Gain::One => u,
            Gain::Weight(w) => u * w[i],
            Gain::OnePlus(w) => u * (1.0 + w[i]),
        })
        .collect()
}

/// Every choice of parameters.
fn layers<'a>(w: &'a [f32], b: &'a [f32]) -> [LayerNorm<'a>; 4] {
    [(None, None), (Some(w), None), (None, Some(b)), (Some(w), Some(b))].map(|(weight, bias)| LayerNorm {
        weight,
        bias,
        eps: 1e-5,
    })
}

fn rmss(w: &[f32]) -> [RmsNorm<'_>; 3] {
    [Gain::One, Gain::Weight(w), Gain::OnePlus(w)].map(|gain| RmsNorm { gain, eps: 1e-6 })
}

#[test]
fn twins() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for n in (0..=67).chain([255, 1000]) {
            let (x, w, mut b) = (random.normal(n), random.normal(n), random.normal(n));
            b.iter_mut().step_by(3).for_each(|b| *b = -0.0);
            for norm in layers(&w, &b) {
                let mut out = vec![f32::NAN; n];
                layer_norm(cpu, MatRef::new(&x, 1, n), &norm, MatMut::new(&mut out, 1, n));
                assert_same(&out, &layer_twin(&x, &norm), format!("{cpu:?} layer n = {n}"));
            }
            for norm in rmss(&w) {
                let mut out = x.clone();
                rms_norm_in_place(cpu, MatMut::new(&mut out, 1, n), &norm);
                assert_same(&out, &rms_twin(&x, &norm), format!("{cpu:?} rms n = {n}"));
            }
        }
    }
}

#[test]
fn strided() {
    let mut random = Random::new(2);
    for cpu in cpus() {
        for (rows, cols) in [(0, 3), (3, 0), (1, 1), (3, 17), (17, 35)] {
            let (x, residual) = (random.normal(rows * cols), random.normal(rows * cols));
            let (w, b) = (random.normal(cols), random.normal(cols));
            let (layer, rms) = (layers(&w, &b)[3], rmss(&w)[2]);
            let each = |f: &dyn Fn(&[f32]) -> Vec<f32>, x: &[f32]| -> Vec<f32> {
                (0..rows).flat_map(|r| f(&x[r * cols..][..cols])).collect()
            };
            let sum: Vec<f32> = x.iter().zip(&residual).map(|(x, r)| x + r).collect();
            for from in Form::ALL {
                for to in Form::ALL {
                    let what = format!("{cpu:?} ({rows}, {cols}) {from:?} → {to:?}");
                    let mut place = Mat::new(from, rows, cols, &x);
                    let other = Mat::new(to, rows, cols, &residual);
                    let mut out = Mat::new(to, rows, cols, &vec![0.0; rows * cols]);
                    layer_norm(cpu, place.view(), &layer, out.view_mut());
                    assert_same(
                        &out.values(),
                        &each(&|x| layer_twin(x, &layer), &x),
                        format!("layer {what}"),
                    );
                    rms_norm(cpu, place.view(), &rms, out.view_mut());
                    assert_same(&out.values(), &each(&|x| rms_twin(x, &rms), &x), format!("rms {what}"));
                    add_rms_norm(cpu, place.view_mut(), other.view(), &rms, out.view_mut());
                    assert_same(&place.values(), &sum, format!("x + residual {what}"));
                    assert_same(
                        &out.values(),
                        &each(&|x| rms_twin(x, &rms), &sum),
                        format!("add rms {what}"),
                    );
                    let mut place = Mat::new(from, rows, cols, &x);
                    add_layer_norm(cpu, place.view_mut(), other.view(), &layer, out.view_mut());
                    assert_same(&place.values(), &sum, format!("x + residual {what}"));
                    assert_same(
                        &out.values(),
                        &each(&|x| layer_twin(x, &layer), &sum),
                        format!("add layer {what}"),
                    );
                    layer_norm_in_place(cpu, place.view_mut(), &layer);
                    assert_same(&place.values(), &out.values(), format!("in place {what}"));
                }
            }
        }
    }
}

/// The distance from `got` to `want` in units of the last place of `want`.
fn ulps(got: f32, want: f64) -> f64 {
    let exponent = (want.abs().log2().floor()).max(-126.0);
    (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
}

/// RMSNorm 2.5 ulp, LayerNorm 3 u · (|w x̂| + |b|), on ordinary rows and on the rows that break one-pass or
/// single-precision statistics.
#[test]
fn truth() {
    let mut random = Random::new(3);
    let lengths: &[usize] = if slow() { &[1, 17, 1000] } else { &[1, 2, 17, 384, 1024, 16_384] };
    for cpu in cpus() {
        for &n in lengths {
            for (offset, spread, eps) in [
                (0.0, 1.0, 1e-5),
                (1e6, 0.1, 1e-5),
                (1e3, 1.0, 1e-12),
                (0.0, 1e20, 1e-5),
                (0.0, 1e38, 0.0),
                (0.0, 1e-30, 0.0),
                (0.0, 1e-40, 0.0),
            ] {
                let x: Vec<f32> = random.vec(n).iter().map(|x| offset + x * spread).collect();
                let (w, b) = (random.normal(n), random.normal(n));
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mean = wide.iter().sum::<f64>() / n as f64;
                let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                let square = wide.iter().map(|x| x * x).sum::<f64>() / n as f64;
                let (mut rms, mut layer) = (x.clone(), x.clone());
                let gain = RmsNorm { gain: Gain::Weight(&w), eps };
                rms_norm_in_place(cpu, MatMut::new(&mut rms, 1, n), &gain);
                let norm = LayerNorm { weight: Some(&w), bias: Some(&b), eps };
                layer_norm_in_place(cpu, MatMut::new(&mut layer, 1, n), &norm);
                for i in 0..n {
                    let what = format!("{cpu:?} n = {n}, {offset} ± {spread:e}, element {i}");
                    let want = wide[i] / (square + f64::from(eps)).sqrt() * f64::from(w[i]);
                    assert!(ulps(rms[i], want) <= 2.5, "rms {what}: {} for {want}", rms[i]);
                    if variance + f64::from(eps) == 0.0 {
                        continue;
                    }
                    let (wx, b) = (
                        (wide[i] - mean) / (variance + f64::from(eps)).sqrt() * f64::from(w[i]),
                        f64::from(b[i]),
                    );
                    let bound = 3.0 * U * (wx.abs() + b.abs());
                    assert!(
                        (f64::from(layer[i]) - (wx + b)).abs() <= bound,
                        "layer {what}: {} for {}",
                        layer[i],
                        wx + b
                    );
                }
            }
        }
    }
}

#[test]
fn special_values() {
    let rms = RmsNorm { gain: Gain::One, eps: 1e-6 };
    let layer = LayerNorm { weight: None, bias: None, eps: 1e-5 };
    for cpu in cpus() {
        for n in 1..=70 {
            let mut x = vec![0.0; n];
            rms_norm_in_place(cpu, MatMut::new(&mut x, 1, n), &rms);
            assert_same(&x, &vec![0.0; n], "a row of zeros");
            let mut x = vec![7.25; n];
            layer_norm_in_place(cpu, MatMut::new(&mut x, 1, n), &layer);
            assert_same(&x, &vec![0.0; n], "a row without spread");
            for at in 0..n {
                let mut x = vec![1.0; 2 * n];
                x[at] = f32::NAN;
                let mut y = x.clone();
                rms_norm_in_place(cpu, MatMut::new(&mut x, 2, n), &rms);
                layer_norm_in_place(cpu, MatMut::new(&mut y, 2, n), &layer);
                assert!(x[..n].iter().chain(&y[..n]).all(|y| y.is_nan()), "{cpu:?} n = {n}, NaN at {at}");
                assert!(
                    x[n..].iter().chain(&y[n..]).all(|y| y.is_finite()),
                    "{cpu:?} n = {n}: the other row"
                );
            }
        }
        let mut x = [f32::INFINITY, 1.0, -1.0];
        rms_norm_in_place(cpu, MatMut::new(&mut x, 1, 3), &rms);
        assert_same(&x, &[f32::NAN, 0.0, -0.0], "infinity");
    }
}

#[test]
#[should_panic(expected = "parameter of 2 elements, rows of 3")]
fn parameters_must_fit() {
    let norm = RmsNorm { gain: Gain::Weight(&[1.0, 2.0]), eps: 0.0 };
    rms_norm_in_place(cpus()[0], MatMut::new(&mut [0.0; 3], 1, 3), &norm);
}
