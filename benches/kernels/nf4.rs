//! NF4: quantise and dequantise a 4096² weight.

use criterion::{Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::nf4;

/// (n, k) of the weight.
const SHAPE: (usize, usize) = (4096, 4096);
const BLOCKSIZE: usize = nf4::DEFAULT_BLOCKSIZE;

/// `nf4_quantize`, `nf4_dequantize`: bytes of f32 a second.
pub fn benches(c: &mut Criterion) {
    let (n, k) = SHAPE;
    let x = Random::new(1).normal(n * k);
    let mut codes = vec![0; nf4::code_bytes(n * k)];
    let mut absmax = vec![0.0; nf4::block_count(n * k, BLOCKSIZE)];
    let mut back = vec![0.0f32; n * k];
    for cpu in Cpu::all() {
        let mut group = c.benchmark_group("nf4_quantize");
        group.sample_size(10).throughput(Throughput::Bytes(4 * (n * k) as u64));
        group.bench_function(format!("{n}x{k}/{}", cpu.tier()), |b| {
            b.iter(|| nf4::quantize(cpu, &x, BLOCKSIZE, &mut codes, &mut absmax).expect("finite"));
        });
        group.finish();
        let mut group = c.benchmark_group("nf4_dequantize");
        group.sample_size(10).throughput(Throughput::Bytes(4 * (n * k) as u64));
        group.bench_function(format!("{n}x{k}/{}", cpu.tier()), |b| {
            b.iter(|| nf4::dequantize(cpu, &codes, &absmax, BLOCKSIZE, &mut back));
        });
        group.finish();
    }
}
