//! Row kernels: a batch of rows out of memory, and one row out of the first-level cache.

use criterion::{BenchmarkId, Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::elementwise::{Binary, binary};
use samebits::kernels::norm::{Gain, LayerNorm, RmsNorm, add_rms_norm, layer_norm, rms_norm};
use samebits::kernels::reduce::{Reduction, reduce_rows};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{cumsum, dot::dot_rows, half, softmax, topk::topk};
use std::hint::black_box;

/// (4096, 1024): 16 MiB in, 16 MiB out.
const ROWS: usize = 4096;
const COLS: usize = 1024;

/// A kernel from rows to rows.
type Kernel = (&'static str, fn(Cpu, MatRef, MatMut));

const FROM_ROWS_TO_ROWS: &[Kernel] = &[
    ("softmax", softmax::softmax),
    ("log_softmax", softmax::log_softmax),
    ("layer_norm", |cpu, x, y| {
        let w = [0.5; COLS];
        layer_norm(cpu, x, &LayerNorm { weight: Some(&w), bias: Some(&w), eps: 1e-5 }, y);
    }),
    ("rms_norm", |cpu, x, y| {
        rms_norm(cpu, x, &RmsNorm { gain: Gain::Weight(&[0.5; COLS]), eps: 1e-6 }, y);
    }),
    ("cumsum", |_, x, y| cumsum::cumsum(x, y)),
    ("add", |cpu, x, y| binary(cpu, Binary::Add, x, x, y)),
];

pub fn benches(c: &mut Criterion) {
    let x = Random::new(1).normal(ROWS * COLS);
    let mut y = vec![0.0; ROWS * COLS];
    copy(c, &x, &mut y);
    for cpu in Cpu::all() {
        for &(name, kernel) in FROM_ROWS_TO_ROWS {
            for rows in [8, ROWS] {
                let bytes = (2 * 4 * rows * COLS) as u64;
                let (x, y) = (&x[..rows * COLS], &mut y[..rows * COLS]);
                let mut group = c.benchmark_group(name);
                group.throughput(Throughput::Bytes(bytes)).sample_size(10);
                group.bench_function(BenchmarkId::new(format!("{rows}x{COLS}"), cpu.tier()), |b| {
                    b.iter(|| kernel(cpu, MatRef::new(black_box(x), rows, COLS), MatMut::new(y, rows, COLS)));
                });
            }
        }
        fused_norm(c, cpu, &x, &mut y);
        reads(c, cpu, &x);
        halves(c, cpu, &x);
    }
}

/// What a kernel from rows to rows cannot beat.
fn copy(c: &mut Criterion, x: &[f32], y: &mut [f32]) {
    let mut group = c.benchmark_group("copy");
    group.throughput(Throughput::Bytes((2 * 4 * x.len()) as u64)).sample_size(10);
    group.bench_function(format!("{ROWS}x{COLS}"), |b| b.iter(|| y.copy_from_slice(black_box(x))));
}

fn fused_norm(c: &mut Criterion, cpu: Cpu, residual: &[f32], y: &mut [f32]) {
    let mut x = residual.to_vec();
    let w = [0.5; COLS];
    let norm = RmsNorm { gain: Gain::Weight(&w), eps: 1e-6 };
    let mut group = c.benchmark_group("add_rms_norm");
    group.throughput(Throughput::Bytes((4 * 4 * x.len()) as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new(format!("{ROWS}x{COLS}"), cpu.tier()), |b| {
        b.iter(|| {
            let x = MatMut::new(&mut x, ROWS, COLS);
            add_rms_norm(cpu, x, MatRef::new(residual, ROWS, COLS), &norm, MatMut::new(y, ROWS, COLS));
        });
    });
}

/// Kernels that only read: their measure is the read bandwidth of the same buffer.
fn reads(c: &mut Criterion, cpu: Cpu, x: &[f32]) {
    let mut out = vec![0.0; ROWS];
    let mut group = c.benchmark_group("dot_rows");
    for (rows, k) in [(ROWS, COLS), (10_000, 384), (100, 384)] {
        group.throughput(Throughput::Bytes((4 * rows * k) as u64)).sample_size(10);
        let mut scores = vec![0.0; rows];
        group.bench_function(BenchmarkId::new(format!("{rows}x{k}"), cpu.tier()), |b| {
            b.iter(|| dot_rows(cpu, &x[..k], MatRef::new(&x[..rows * k], rows, k), &mut scores));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("reduce");
    group.throughput(Throughput::Bytes((4 * x.len()) as u64)).sample_size(10);
    for reduction in [Reduction::Sum, Reduction::Max] {
        group.bench_function(BenchmarkId::new(format!("{reduction:?} {ROWS}x{COLS}"), cpu.tier()), |b| {
            b.iter(|| reduce_rows(cpu, reduction, MatRef::new(x, ROWS, COLS), &mut out));
        });
        group.bench_function(
            BenchmarkId::new(format!("{reduction:?} columns {ROWS}x{COLS}"), cpu.tier()),
            |b| {
                b.iter(|| reduce_rows(cpu, reduction, MatRef::new(x, ROWS, COLS).t(), &mut out[..COLS]));
            },
        );
    }
    group.bench_function(BenchmarkId::new(format!("log_sum_exp {ROWS}x{COLS}"), cpu.tier()), |b| {
        b.iter(|| softmax::log_sum_exp(cpu, MatRef::new(x, ROWS, COLS), &mut out));
    });
    group.finish();
    let mut group = c.benchmark_group("topk");
    group.throughput(Throughput::Bytes((4 * x.len()) as u64)).sample_size(10);
    for k in [10, 100] {
        let (mut values, mut indices) = (vec![0.0; k], vec![0; k]);
        group.bench_function(BenchmarkId::new(format!("{k} of {}", x.len()), cpu.tier()), |b| {
            b.iter(|| topk(cpu, black_box(x), &mut values, &mut indices));
        });
    }
}

fn halves(c: &mut Criterion, cpu: Cpu, x: &[f32]) {
    let mut narrow = vec![0; x.len()];
    let mut wide = vec![0.0; x.len()];
    let mut group = c.benchmark_group("half");
    group.throughput(Throughput::Bytes((6 * x.len()) as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new("narrow f16", cpu.tier()), |b| {
        b.iter(|| half::narrow_f16(cpu, x, &mut narrow))
    });
    group.bench_function(BenchmarkId::new("widen f16", cpu.tier()), |b| {
        b.iter(|| half::widen_f16(cpu, &narrow, &mut wide))
    });
    group.bench_function(BenchmarkId::new("narrow bf16", cpu.tier()), |b| {
        b.iter(|| half::narrow_bf16(cpu, x, &mut narrow))
    });
    group.bench_function(BenchmarkId::new("widen bf16", cpu.tier()), |b| {
        b.iter(|| half::widen_bf16(cpu, &narrow, &mut wide))
    });
}
