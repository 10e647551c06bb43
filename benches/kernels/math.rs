//! Elementary functions in place over a line that stays in the first-level cache, and over 16 MiB.

use criterion::{Criterion, Throughput};
use samebits::golden::Random;
use samebits::kernels::Cpu;
use samebits::kernels::map::{self, Lanewise};
use samebits::kernels::math::{Erf, Exp, Ln, Sigmoid, Tanh};
use std::hint::black_box;

pub fn benches(c: &mut Criterion) {
    for cpu in Cpu::all().skip(1) {
        function(c, cpu, "exp", Exp);
        function(c, cpu, "ln", Ln);
        function(c, cpu, "tanh", Tanh);
        function(c, cpu, "erf", Erf);
        function(c, cpu, "sigmoid", Sigmoid);
    }
}

fn function<F: Lanewise>(c: &mut Criterion, cpu: Cpu, name: &str, f: F) {
    for n in [4096usize, 4 << 20] {
        let mut x = Random::new(1).vec(n);
        let mut group = c.benchmark_group("math");
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("{name}/{n}/{}", cpu.tier()), |b| {
            // exp of exp of … overflows and ln becomes NaN, for which no tier slows down.
            b.iter(|| map::slice(cpu, f, black_box(&mut x)));
        });
        group.finish();
    }
}
