//! Activations: truth over a stride sample of all inputs.

mod common;

use common::{U, truth};
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::view::MatMut;

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
fn worst(cpu: common::Cpu, f: Activation, stride: usize) -> (f64, f32) {
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

#[test]
fn within_the_bound() {
    let cpu = common::cpus().pop().expect("scalar at least");
    for f in Activation::ALL {
        let (worst, at) = worst(cpu, f, if common::slow() { 400_009 } else { 1_009 });
        eprintln!("{f:?}: {worst:.3} u|x| at {at:e}");
        assert!(worst <= 2.5, "{f:?}: {worst} u|x| at {at:e}");
    }
}
