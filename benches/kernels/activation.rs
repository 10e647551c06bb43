//! Activations of a (4096, 1024) matrix into another, beside the copy of the same bytes.

use criterion::{Criterion, Throughput};
use samebits::golden::Random;
use samebits::kernels::Cpu;
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::view::{MatMut, MatRef};
use std::hint::black_box;

const SHAPE: (usize, usize) = (4096, 1024);

pub fn benches(c: &mut Criterion) {
    let (rows, cols) = SHAPE;
    let x = Random::new(1).normal(rows * cols);
    let up = Random::new(2).normal(rows * cols);
    let mut y = vec![0.0f32; rows * cols];
    let mut group = c.benchmark_group("activation");
    group.throughput(Throughput::Bytes(8 * (rows * cols) as u64));
    group.bench_function("copy/4096x1024/memcpy", |b| b.iter(|| y.copy_from_slice(black_box(&x))));
    for cpu in Cpu::all().skip(1) {
        for f in &Activation::ALL[1..] {
            group.bench_function(format!("{f:?}/4096x1024/{}", cpu.tier()), |b| {
                b.iter(|| {
                    let y = MatMut::new(&mut y, rows, cols);
                    activation::apply(cpu, *f, MatRef::new(black_box(&x), rows, cols), y);
                });
            });
        }
    }
    group.throughput(Throughput::Bytes(12 * (rows * cols) as u64));
    for cpu in Cpu::all().skip(1) {
        group.bench_function(format!("swiglu/4096x1024/{}", cpu.tier()), |b| {
            b.iter(|| {
                let (gate, up) = (MatRef::new(black_box(&x), rows, cols), MatRef::new(&up, rows, cols));
                activation::gated(cpu, Activation::Silu, gate, up, MatMut::new(&mut y, rows, cols));
            });
        });
    }
    group.finish();
}
