//! NF4: quantise, dequantise and multiply by a 4096² weight.

use criterion::{Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::Line;
use samebits::kernels::gemm::Gemm;
use samebits::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4};
use samebits::kernels::view::{MatMut, MatRef};

/// (n, k) of the weight.
const SHAPE: (usize, usize) = (4096, 4096);
const BLOCKSIZE: usize = nf4::DEFAULT_BLOCKSIZE;

/// All of them.
pub fn benches(c: &mut Criterion) {
    codes_and_values(c);
    products(c);
}

/// `nf4_gemm`: operations a second, of 1, 8 and 128 rows.
fn products(c: &mut Criterion) {
    let (n, k) = SHAPE;
    let mut random = Random::new(2);
    let a = random.normal(128 * k);
    let mut codes = vec![0; nf4::code_bytes(n * k)];
    let mut absmax = vec![0.0; nf4::block_count(n * k, BLOCKSIZE)];
    nf4::quantize(Cpu::detect(), &random.normal(n * k), BLOCKSIZE, &mut codes, &mut absmax).expect("finite");
    let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
    let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, BLOCKSIZE)];
    let w = PackedNf4::pack(RowNf4::new(n, k, BLOCKSIZE, &codes, &absmax), &mut lines, &mut scales);
    let mut out = vec![0.0; 128 * n];
    for m in [1, 8, 128] {
        let mut group = c.benchmark_group("nf4_gemm");
        group.sample_size(10).throughput(Throughput::Elements(2 * (m * n * k) as u64));
        for cpu in Cpu::all() {
            group.bench_function(format!("{m}x{n}x{k}/{}", cpu.tier()), |b| {
                let mut scratch =
                    vec![Line::ZERO; samebits::kernels::gemm::scratch_len::<PackedNf4<'_>>(m, k)];
                b.iter(|| {
                    let (a, c) = (MatRef::new(&a[..m * k], m, k), MatMut::new(&mut out[..m * n], m, n));
                    Gemm::new(a, w, c).run(cpu, &mut scratch);
                });
            });
        }
        group.finish();
    }
}

/// `nf4_quantize`, `nf4_dequantize`: bytes of f32 a second.
fn codes_and_values(c: &mut Criterion) {
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
