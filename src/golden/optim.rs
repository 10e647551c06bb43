//! Optimizers and FP4.

use super::{Golden, Hash, Random};
use crate::Cpu;
use crate::kernels::nf4::fp4;
use crate::kernels::optim::{AdamW, AdamWOptions, Direction, Lion, Momentum, Sgd, eight};

pub const CASES: &[Golden] = &[
    Golden { name: "optim/sgd", hash: 0xa6b0a69e239a4cc3, run: sgd },
    Golden { name: "optim/adamw", hash: 0x4e6f315b3d36b66c, run: adamw },
    Golden { name: "optim/adamw in eight bits", hash: 0xff976f7dfaf9f36a, run: adamw_eight },
    Golden { name: "optim/lion", hash: 0xfa4368d98cd4844b, run: lion },
    Golden { name: "fp4/quantize", hash: 0x7461b7e3ace03266, run: four },
];

const N: usize = 389;

fn step(t: u64) -> AdamW {
    AdamW::at(t, 0.01, &AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 }, 0.7)
}

fn sgd(cpu: Cpu) -> u64 {
    let (mut p, mut m) = (Random::new(1).normal(N), vec![0.0; N]);
    let sgd = Sgd { lr: 0.01, weight_decay: 0.1, scale: 0.7 };
    for (t, direction) in [Direction::Moment, Direction::Nesterov].into_iter().enumerate() {
        let g = Random::new(t as u64 + 2).normal(N);
        Momentum { sgd, momentum: 0.9, direction }.run(cpu, &mut p, &g, &mut m);
        sgd.run(cpu, &mut p, &g);
    }
    Hash::default().floats(&p).floats(&m).0
}

fn adamw(cpu: Cpu) -> u64 {
    let (mut p, mut m, mut v) = (Random::new(1).normal(N), vec![0.0; N], vec![0.0; N]);
    for t in 1..=3 {
        step(t).run(cpu, &mut p, &Random::new(t + 1).normal(N), &mut m, &mut v);
    }
    Hash::default().floats(&p).floats(&m).floats(&v).0
}

fn adamw_eight(cpu: Cpu) -> u64 {
    let (mut p, mut m, mut v) = (Random::new(1).normal(N), vec![eight::ZERO_CODES[0]; N], vec![0; N]);
    let (mut m_absmax, mut v_absmax) = ([0.0; 2], [0.0; 2]);
    for t in 1..=3 {
        let moments =
            eight::Moments { m: &mut m, v: &mut v, m_absmax: &mut m_absmax, v_absmax: &mut v_absmax };
        eight::adamw(cpu, step(t), &mut p, &Random::new(t + 1).normal(N), moments);
    }
    Hash::default().floats(&p).bytes(&m).bytes(&v).floats(&m_absmax).floats(&v_absmax).0
}

fn lion(cpu: Cpu) -> u64 {
    let (mut p, mut m) = (Random::new(1).normal(N), vec![0.0; N]);
    for t in 1..=3 {
        Lion::new(0.01, [0.9, 0.99], 0.1, 0.7).run(cpu, &mut p, &Random::new(t + 1).normal(N), &mut m);
    }
    Hash::default().floats(&p).floats(&m).0
}

fn four(cpu: Cpu) -> u64 {
    let x = Random::new(1).normal(N);
    let (mut codes, mut absmax, mut back) = (vec![0; N.div_ceil(2)], vec![0.0; N.div_ceil(64)], vec![0.0; N]);
    let coded = fp4::quantize(cpu, &x, 64, &mut codes, &mut absmax);
    fp4::dequantize(cpu, &codes, &absmax, 64, &mut back);
    Hash::default().bytes(&[u8::from(coded.is_ok())]).bytes(&codes).floats(&absmax).floats(&back).0
}
