//! Optimizers: one step over a tensor out of memory.

use criterion::{BenchmarkId, Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::nf4::fp4;
use samebits::kernels::optim::{AdamW, AdamWOptions, Lion, eight, sum_of_squares};
use std::hint::black_box;

/// 64 MiB of weights.
const N: usize = 1 << 24;

pub fn benches(c: &mut Criterion) {
    let g = Random::new(1).vec(N);
    let (mut p, mut m, mut v) = (Random::new(2).vec(N), vec![0.0; N], vec![0.0; N]);
    let (mut m_codes, mut v_codes) = (vec![eight::ZERO_CODES[0]; N], vec![eight::ZERO_CODES[1]; N]);
    let (mut m_absmax, mut v_absmax) = (vec![0.0; N / 256], vec![0.0; N / 256]);
    let step = AdamW::at(2, 1e-4, &AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 }, 0.5);
    for cpu in Cpu::all() {
        let mut bench = |name: &str, bytes: usize, f: &mut dyn FnMut()| {
            let mut group = c.benchmark_group(name);
            group.throughput(Throughput::Bytes((bytes * N) as u64)).sample_size(10);
            group.bench_function(BenchmarkId::new("16M", cpu.tier()), |b| b.iter(&mut *f));
        };
        bench("adamw", 28, &mut || step.run(cpu, &mut p, black_box(&g), &mut m, &mut v));
        bench("lion", 20, &mut || Lion::new(1e-4, [0.9, 0.99], 0.1, 0.5).run(cpu, &mut p, &g, &mut m));
        bench("adamw_8bit", 16, &mut || {
            let moments = eight::Moments {
                m: &mut m_codes,
                v: &mut v_codes,
                m_absmax: &mut m_absmax,
                v_absmax: &mut v_absmax,
            };
            eight::adamw(cpu, step, &mut p, black_box(&g), moments);
        });
        bench("sum_of_squares", 4, &mut || _ = black_box(sum_of_squares(cpu, black_box(&g))));
        let (codes, absmax) = (&mut m_codes[..N / 2], &mut m[..N / 64]);
        bench("fp4_quantize", 5, &mut || fp4::quantize(cpu, black_box(&g), 64, codes, absmax).unwrap());
    }
}
