//! The matrix product: squares, the shapes of transformers, and one row over packed weights.

use criterion::{Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::bf16::{GemmBf16, PackedBf16};
use samebits::kernels::gemm::{self, Bf16, Element, Gemm, PackedMatrix, Strided, Weights};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{Line, Tier, half};
use std::hint::black_box;

/// (m, n, k)
const SHAPES: &[(usize, usize, usize)] =
    &[(64, 64, 64), (128, 128, 128), (512, 512, 512), (128, 1536, 384), (64, 4096, 64), (8, 2048, 2048)];

pub fn benches(c: &mut Criterion) {
    for cpu in Cpu::all().filter(|cpu| cpu.tier() != Tier::Scalar) {
        for &(m, n, k) in SHAPES {
            let (a, b) = (Random::new(1).vec(m * k), Random::new(2).vec(k * n));
            let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
            product(c, &format!("gemm/{m}x{n}x{k}/{}", cpu.tier()), cpu, a, Strided(b));
        }
        both_bf16(c, cpu);
        let (n, k) = (2048, 2048);
        let (x, w) = (Random::new(1).vec(k), Random::new(2).vec(n * k));
        let (x, w) = (MatRef::new(&x, 1, k), MatRef::new(&w, n, k).t());
        product(c, &format!("gemv/f32 row-major {n}x{k}/{}", cpu.tier()), cpu, x, Strided(w));
        let groups = packed::<f32>(cpu, w);
        let b = PackedMatrix::<f32>::new(&groups, k, n);
        product(c, &format!("gemv/f32 packed {n}x{k}/{}", cpu.tier()), cpu, x, b);
        let bits: Vec<u16> = Random::new(2).vec(n * k).into_iter().map(half::f32_to_bf16).collect();
        let groups = packed(cpu, MatRef::new(Bf16::slice(&bits), n, k).t());
        let b = PackedMatrix::<Bf16>::new(&groups, k, n);
        product(c, &format!("gemv/bf16 packed {n}x{k}/{}", cpu.tier()), cpu, x, b);
    }
}

/// Both sides in bfloat16.
fn both_bf16(c: &mut Criterion, cpu: Cpu) {
    let (m, n, k) = (512, 512, 512);
    let bits: Vec<u16> = Random::new(2).vec(k * n).into_iter().map(half::f32_to_bf16).collect();
    let mut groups = vec![Bf16::ZERO; gemm::packed_len(k, n)];
    let b = PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&bits), k, n), &mut groups);
    let (a, mut out) = (Random::new(1).vec(m * k), vec![0.0; m * n]);
    let mut scratch = vec![Line::ZERO; GemmBf16::scratch_len(m, k, n)];
    let mut group = c.benchmark_group("gemm_bf16");
    group.throughput(Throughput::Elements((2 * m * n * k) as u64));
    group.bench_function(format!("{m}x{n}x{k}/{}", cpu.tier()), |bench| {
        bench.iter(|| {
            let c = MatMut::new(black_box(&mut out), m, n);
            GemmBf16::new(MatRef::new(&a, m, k), b, c).run(cpu, &mut scratch);
        });
    });
    group.finish();
}

fn packed<E: Element>(cpu: Cpu, b: MatRef<'_, E>) -> Vec<E::Group> {
    let mut groups = vec![E::ZERO; gemm::packed_len(b.rows(), b.cols())];
    gemm::pack::<E>(cpu, b, &mut groups);
    groups
}

fn product<W: Weights>(c: &mut Criterion, name: &str, cpu: Cpu, a: MatRef<'_>, b: W) {
    let (m, k, n) = (a.rows(), a.cols(), b.shape().1);
    let mut out = vec![0.0; m * n];
    let mut scratch = vec![Line::ZERO; gemm::scratch_len::<W>(m, k)];
    let (group, rest) = name.split_once('/').unwrap_or((name, ""));
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements((2 * m * n * k) as u64));
    group.bench_function(rest, |bench| {
        bench.iter(|| Gemm::new(a, b, MatMut::new(black_box(&mut out), m, n)).run(cpu, &mut scratch));
    });
    group.finish();
}
