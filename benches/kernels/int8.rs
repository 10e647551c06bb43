//! Products of integers of eight bits: exact, and with the scales of Q8_0, Q4_K and Q6_K.

use criterion::{BenchmarkId, Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::gemm::Accumulate;
use samebits::kernels::int8::{
    BLOCK, Codes, Eight, GemmI8, GemmQ8, PackedBlocks, PackedI8, Q4K, Q6K, Quantized, Scaling, blocks_len,
    quantize_blocks, scales_len,
};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{Line, Tier};

/// (m, n, k)
const SHAPES: &[(usize, usize, usize)] = &[(512, 512, 512), (128, 1536, 384), (1, 4096, 4096)];

pub fn benches(c: &mut Criterion) {
    for cpu in Cpu::all().filter(|cpu| cpu.tier() != Tier::Scalar) {
        for &(m, n, k) in SHAPES {
            let mut random = Random::new(1);
            let a: Vec<i8> = (0..m * k).map(|_| random.bits() as i8).collect();
            let b: Vec<i8> = (0..k * n).map(|_| random.bits() as i8).collect();
            let mut blocks = vec![Eight::EMPTY; blocks_len(n, k)];
            PackedI8::pack(MatRef::new(&b, k, n), &mut blocks);
            let mut scratch = vec![Line::ZERO; GemmI8::scratch_len(m, k, n)];
            let mut group = c.benchmark_group("gemm_i8");
            group.throughput(Throughput::Elements((2 * m * n * k) as u64)).sample_size(10);
            let mut out = vec![0; m * n];
            group.bench_function(BenchmarkId::new(format!("{m}x{n}x{k}"), cpu.tier()), |bench| {
                bench.iter(|| {
                    let (a, b) = (MatRef::new(&a, m, k), PackedI8::new(n, k, &blocks));
                    let c = MatMut::new(&mut out, m, n);
                    GemmI8 { a, b, c, accumulate: Accumulate::Overwrite }.run(cpu, &mut scratch);
                });
            });
            group.finish();
        }
        scaled::<Eight>(c, cpu, "gemm_q8_0");
        scaled::<Q4K>(c, cpu, "gemm_q4_k");
        scaled::<Q6K>(c, cpu, "gemm_q6_k");
    }
}

/// Rows that are quantised in every call, with a weight of 0: no format is slower with other codes.
fn scaled<C: Codes>(c: &mut Criterion, cpu: Cpu, name: &str) {
    for &(m, n, k) in SHAPES {
        let k = k.next_multiple_of(BLOCK * C::Scales::BLOCKS);
        let (blocks, of_w) = (vec![C::EMPTY; blocks_len(n, k)], vec![C::NO_SCALES; scales_len::<C>(n, k)]);
        let x = Random::new(1).normal(m * k);
        let (mut codes, mut scales, mut out) = (vec![0; m * k], vec![0.0; m * k / BLOCK], vec![0.0; m * n]);
        let mut scratch = vec![Line::ZERO; GemmQ8::<C>::scratch_len(m, k)];
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements((2 * m * n * k) as u64)).sample_size(10);
        group.bench_function(BenchmarkId::new(format!("{m}x{n}x{k}"), cpu.tier()), |bench| {
            bench.iter(|| {
                quantize_blocks(cpu, &x, &mut codes, &mut scales);
                let scales = MatRef::new(&scales, m, k / BLOCK);
                let a = Quantized { codes: MatRef::new(&codes, m, k), scales };
                let w = PackedBlocks::<C>::new(n, k, &blocks, &of_w);
                GemmQ8::new(a, w, MatMut::new(&mut out, m, n)).run(cpu, &mut scratch);
            });
        });
        group.finish();
    }
}
