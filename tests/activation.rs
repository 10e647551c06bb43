//! Activations: the same bits as the plain definition on every tier, in every layout, in place, apart, gated and
//! inside other kernels; and their bound over a stride sample of all inputs.

mod common;

use common::layouts::{Form, Mat};
use common::{Cpu, Random, SPECIALS, U, assert_same, cpus, elementary, truth};
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::view::{MatMut, MatRef};

fn reference(f: Activation) -> fn(f64) -> f64 {
    match f {
        Activation::Identity => |x| x,
        Activation::Relu => |x| if x > 0.0 { x } else { 0.0 },
        Activation::GeluErf => truth::gelu_erf,
        Activation::GeluTanh => truth::gelu_tanh,
        Activation::GeluQuick => truth::gelu_quick,
        Activation::Silu => truth::silu,
    }
}

/// Largest `(|y − f(x)| − 2⁻¹⁴⁹) / (u |x|)` over every `stride`th input, and where it is.
fn worst(cpu: Cpu, f: Activation, stride: usize) -> (f64, f32) {
    let truth = reference(f);
    let (mut worst, mut at) = (0.0, 0.0);
    let inputs: Vec<u32> = (0..=u32::MAX).step_by(stride).collect();
    for block in inputs.chunks(1 << 14) {
        let x: Vec<f32> = block.iter().map(|&b| f32::from_bits(b)).collect();
        let mut y = x.clone();
        let n = y.len();
        activation::apply_in_place(cpu, f, MatMut::new(&mut y, 1, n));
        for (&x, &y) in x.iter().zip(&y) {
            if !x.is_finite() || x == 0.0 {
                continue;
            }
            let x64 = f64::from(x);
            let error = ((f64::from(y) - truth(x64)).abs() - 2f64.powi(-149)) / (U * x64.abs());
            assert!(!error.is_nan(), "{f:?}({x:e}) = {y}");
            if error > worst {
                (worst, at) = (error, x);
            }
        }
    }
    (worst, at)
}

fn definition(f: Activation) -> fn(f32) -> f32 {
    match f {
        Activation::Identity => |x| x,
        Activation::Relu => elementary::relu,
        Activation::GeluErf => elementary::gelu_erf,
        Activation::GeluTanh => elementary::gelu_tanh,
        Activation::GeluQuick => elementary::gelu_quick,
        Activation::Silu => elementary::silu,
    }
}

#[test]
fn every_tier_gives_the_bits_of_the_definition() {
    let mut x = Random::new(1).normal(if common::slow() { 300 } else { 30_000 });
    x.iter_mut().enumerate().for_each(|(i, x)| *x *= [0.1, 1.0, 4.0, 30.0][i % 4]);
    x.extend(SPECIALS);
    for f in Activation::ALL {
        let want: Vec<f32> = x.iter().map(|&x| definition(f)(x)).collect();
        for cpu in cpus() {
            let what = format!("{f:?} on {cpu:?}");
            for n in (0..=67).chain([x.len()]) {
                let mut got = x[..n].to_vec();
                activation::apply_in_place(cpu, f, MatMut::new(&mut got, 1, n));
                assert_same(&got, &want[..n], &what);
            }
            for at in 0..=70 {
                let mut got = [1.0; 71];
                got[at] = f32::NAN;
                let want = got.map(definition(f));
                activation::apply_in_place(cpu, f, MatMut::new(&mut got, 1, 71));
                assert!(got[at].is_nan(), "{what}: NaN at {at}");
                assert_same(&got, &want, &what);
            }
        }
    }
}

#[test]
fn every_layout_gives_the_same_bits() {
    let shapes: &[(usize, usize)] =
        if common::slow() { &[(3, 17)] } else { &[(1, 1), (3, 17), (16, 4), (5, 64)] };
    for &(rows, cols) in shapes {
        let x = Random::new(2).normal(rows * cols);
        let up = Random::new(3).normal(rows * cols);
        for f in Activation::ALL {
            let one: Vec<f32> = x.iter().map(|&x| definition(f)(x)).collect();
            let two: Vec<f32> = one.iter().zip(&up).map(|(y, up)| y * up).collect();
            for cpu in cpus() {
                for (from, to) in Form::ALL.into_iter().flat_map(|a| Form::ALL.map(|b| (a, b))) {
                    let what = format!("{f:?} ({rows}, {cols}) {from:?} to {to:?} on {cpu:?}");
                    let (x, up) = (Mat::new(from, rows, cols, &x), Mat::new(to, rows, cols, &up));
                    let mut y = Mat::new(to, rows, cols, &vec![0.0; rows * cols]);
                    activation::apply(cpu, f, x.view(), y.view_mut());
                    assert_same(&y.values(), &one, &what);
                    activation::gated(cpu, f, x.view(), up.view(), y.view_mut());
                    assert_same(&y.values(), &two, format!("gated {what}"));
                    let mut y = x;
                    activation::apply_in_place(cpu, f, y.view_mut());
                    assert_same(&y.values(), &one, format!("in place, {what}"));
                }
            }
        }
    }
}

#[test]
fn the_ends_are_as_documented() {
    let inf = f32::INFINITY;
    for cpu in cpus() {
        for f in Activation::ALL {
            let mut x = [inf, -inf, 0.0, -0.0, -1e30, 1e30, -200.0];
            activation::apply_in_place(cpu, f, MatMut::new(&mut x, 1, 7));
            assert_eq!(x[0], inf, "{f:?}(+inf)");
            let low_end = match f {
                Activation::Identity => x[1] == -inf,
                Activation::Relu | Activation::GeluErf => x[1] == 0.0,
                _ => x[1].is_nan(),
            };
            assert!(low_end, "{f:?}(-inf) = {}", x[1]);
            assert_eq!(x[2].to_bits(), 0, "{f:?}(+0)");
            if f != Activation::Identity {
                assert!(x[3] == 0.0 && x[4] == 0.0 && x[6] == 0.0, "{f:?}: {x:?}");
            }
            assert_eq!(x[5], 1e30, "{f:?}(1e30)");
        }
    }
}

#[test]
#[should_panic(expected = "input is (2, 3), output is (3, 2)")]
fn shapes_that_differ_are_refused() {
    let (x, mut y) = ([0.0; 6], [0.0; 6]);
    let x = MatRef::new(&x, 2, 3);
    activation::apply(Cpu::detect(), Activation::Silu, x, MatMut::new(&mut y, 3, 2));
}

#[test]
fn within_the_bound() {
    let cpu = cpus().pop().expect("scalar at least");
    for f in Activation::ALL {
        let (worst, at) = worst(cpu, f, if common::slow() { 400_009 } else { 503 });
        eprintln!("{f:?}: {worst:.3} u|x| at {at:e}");
        assert!(worst <= 2.5, "{f:?}: {worst} u|x| at {at:e}");
    }
}
