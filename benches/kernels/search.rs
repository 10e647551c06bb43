//! Queries against stored rows: out of memory one query, out of the caches many.

use criterion::{BenchmarkId, Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::Line;
use samebits::kernels::int8::{Codes as _, Eight};
use samebits::kernels::search::{Batch, Code, Codes, FloatRows, QueryCodes, Which, dots};

const K: usize = 384;

pub fn benches(c: &mut Criterion) {
    let (rows, queries) = (Random::new(1).vec(20_000 * K), Random::new(2).vec(64 * K));
    for cpu in Cpu::all() {
        let mut group = c.benchmark_group("search");
        for (n, m) in [(20_000, 1), (128, 64)] {
            group.throughput(Throughput::Elements((n * m * K) as u64)).sample_size(10);
            let mut out = vec![0.0; n * m];
            group.bench_function(BenchmarkId::new(format!("{m} of {n}x{K}"), cpu.tier()), |b| {
                let (rows, queries) = (FloatRows::F32(&rows[..n * K]), (&queries[..m * K], K));
                b.iter(|| dots(cpu, rows, Which::From(0, n), queries, &mut out));
            });
        }
        group.finish();
        [Code::Int8, Code::Nf4, Code::Binary].into_iter().for_each(|code| coded(c, cpu, code, &queries[..K]));
        [Code::Int8, Code::Nf4].into_iter().for_each(|code| batched(c, cpu, code, &queries));
    }
}

fn coded(c: &mut Criterion, cpu: Cpu, code: Code, query: &[f32]) {
    let (n, width) = (50_000, code.row_bytes(K));
    let (rows, scales, mut out) = (vec![0x5a; n * width], vec![1.0; n], vec![0.0; n]);
    let mut lines = vec![Line::ZERO; code.query_lines(K)];
    let scale = QueryCodes::fill(cpu, code, query, &mut [0; K], &mut lines);
    let mut group = c.benchmark_group("search codes");
    group.throughput(Throughput::Bytes((n * width) as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new(format!("{code:?} {n}x{K}"), cpu.tier()), |b| {
        let codes = Codes { code, k: K, rows: &rows, scales: &scales };
        let query = [QueryCodes { lines: &lines, scale }];
        b.iter(|| codes.dots(cpu, Which::From(0, n), &query, &mut out));
    });
}

/// All queries at once with as many rows as a search takes at a time.
fn batched(c: &mut Criterion, cpu: Cpu, code: Code, queries: &[f32]) {
    let (n, m) = (Batch::ROWS, queries.len() / K);
    let (rows, ones, mut out) = (vec![0x5a; n * code.row_bytes(K)], vec![1.0; n], vec![0.0; n * m]);
    let (mut blocks, mut scales) = (vec![Eight::EMPTY; Batch::blocks_len(code, m, K)], vec![0.0; m]);
    let mut room = vec![0; m * Batch::depth(code, K)];
    Batch::fill(cpu, code, (queries, K), &mut room, (&mut blocks, &mut scales));
    let mut scratch = vec![Line::ZERO; Batch::scratch_len(code, m, K)];
    let mut group = c.benchmark_group("search codes");
    group.throughput(Throughput::Elements((n * m * K) as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new(format!("{code:?} {m} of {n}x{K}"), cpu.tier()), |b| {
        let codes = Codes { code, k: K, rows: &rows, scales: &ones };
        let batch = Batch::new((code, K), &blocks, &scales);
        b.iter(|| batch.dots(cpu, &codes, Which::From(0, n), &mut scratch, &mut out));
    });
}
