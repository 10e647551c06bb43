//! Rotary embedding of 8 heads × 4096 tokens × 64 dimensions in place, beside the copy of the same bytes.

use criterion::{Criterion, Throughput};
use samebits::golden::Random;
use samebits::kernels::Cpu;
use samebits::kernels::rope::{self, Pairing, Rope, Table};
use samebits::kernels::view::{HeadsMut, HeadsRef};
use std::hint::black_box;

pub fn benches(c: &mut Criterion) {
    let (tokens, heads, head_dim, pairs) = (4096, 8, 64, 32);
    let mut frequencies = vec![0.0; pairs];
    rope::frequencies(10_000.0, &mut frequencies);
    let (mut cos, mut sin) = (vec![0.0; tokens * pairs], vec![0.0; tokens * pairs]);
    rope::fill_table(0, &frequencies, 1.0, &mut cos, &mut sin);
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let x = Random::new(1).vec(tokens * heads * head_dim);
    let mut y = x.clone();
    let mut group = c.benchmark_group("rope");
    group.throughput(Throughput::Bytes(8 * x.len() as u64));
    group.bench_function("copy/4096x8x64/memcpy", |b| b.iter(|| y.copy_from_slice(black_box(&x))));
    for cpu in Cpu::all().skip(1) {
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let table = Table { cos: &cos, sin: &sin, pairs };
            let rope = Rope { table, pairing, positions: &positions };
            let (n, t, d) = (x.len() as isize, tokens as isize, head_dim as isize);
            for (order, strides) in
                [("by token", [n, d, d * heads as isize, 1]), ("by head", [n, t * d, d, 1])]
            {
                let shape = [1, heads, tokens, head_dim];
                group.bench_function(format!("{pairing:?}, {order}/4096x8x64/{}", cpu.tier()), |b| {
                    b.iter(|| {
                        rope::in_place(cpu, &rope, HeadsMut::strided(black_box(&mut y), 0, shape, strides))
                    });
                });
                group.bench_function(format!("{pairing:?}, {order}, apart/4096x8x64/{}", cpu.tier()), |b| {
                    b.iter(|| {
                        let from = HeadsRef::strided(black_box(&x), 0, shape, strides);
                        rope::apply(cpu, &rope, from, HeadsMut::strided(&mut y, 0, shape, strides));
                    });
                });
            }
        }
    }
    group.finish();
}
