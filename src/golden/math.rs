//! Elementary functions, in `f32` over all exponents and in `f64`, and the activations made of them.

use super::{Golden, Hash, Random, hash};
use crate::Cpu;
use crate::kernels::activation::{self, Activation};
use crate::kernels::map::{self, Lanewise};
use crate::kernels::math::{self, Erf, Exp, Ln, Sigmoid, Tanh};
use crate::kernels::view::{MatMut, MatRef};

pub const CASES: &[Golden] = &[
    Golden { name: "math/exp", hash: 0xead2038dc132d0a1, run: |cpu| of(cpu, Exp) },
    Golden { name: "math/ln", hash: 0x2534db185ca2138b, run: |cpu| of(cpu, Ln) },
    Golden { name: "math/tanh", hash: 0xf890593aa462a00c, run: |cpu| of(cpu, Tanh) },
    Golden { name: "math/erf", hash: 0xf9ad7fddfd0e6dba, run: |cpu| of(cpu, Erf) },
    Golden { name: "math/sigmoid", hash: 0xfe55cd4f0fd1c129, run: |cpu| of(cpu, Sigmoid) },
    Golden { name: "math/f64", hash: 0x7c7165e82d26d2f4, run: doubles },
    Golden { name: "activation/all", hash: 0x658598b4a5b7d754, run: activations },
    Golden { name: "activation/gated", hash: 0xd764baff257aaaf5, run: gated },
];

/// 4,001 inputs: a stride through every bit pattern, and as many of ordinary size.
fn inputs() -> Vec<f32> {
    let mut x: Vec<f32> = (0..2_000).map(|i: u32| f32::from_bits(i.wrapping_mul(2_147_459))).collect();
    x.extend(Random::new(1).normal(2_001).iter().map(|x| x * 4.0));
    x
}

fn of<F: Lanewise>(cpu: Cpu, f: F) -> u64 {
    let mut x = inputs();
    map::slice(cpu, f, &mut x);
    hash(&x)
}

/// The same on every tier: they have no vector code.
fn doubles(_: Cpu) -> u64 {
    let mut random = Random::new(2);
    let mut all = Hash::default();
    for _ in 0..500 {
        let x = f64::from(random.unit()) + f64::from(random.unit()) / 16_777_216.0;
        let (sin, cos) = math::sin_cos64(x * 16_000_000.0);
        let pow = math::pow64(1e5 * x.abs(), 10.0 * x);
        for y in [math::exp64(700.0 * x), math::ln64(x.abs() * 1e9), pow, sin, cos] {
            all = all.bytes(&y.to_bits().to_le_bytes());
        }
    }
    all.0
}

fn activations(cpu: Cpu) -> u64 {
    Activation::ALL
        .iter()
        .fold(Hash::default(), |all, &f| {
            let mut x = inputs();
            let n = x.len();
            activation::apply_in_place(cpu, f, MatMut::new(&mut x, 1, n));
            all.floats(&x)
        })
        .0
}

fn gated(cpu: Cpu) -> u64 {
    let (gate, up) = (Random::new(3).normal(7 * 37), Random::new(4).normal(7 * 37));
    Activation::ALL
        .iter()
        .fold(Hash::default(), |all, &f| {
            let mut y = vec![0.0; 7 * 37];
            let (gate, up) = (MatRef::new(&gate, 7, 37), MatRef::new(&up, 37, 7).t());
            activation::gated(cpu, f, gate, up, MatMut::new(&mut y, 7, 37));
            all.floats(&y)
        })
        .0
}
