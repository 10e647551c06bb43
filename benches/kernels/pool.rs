//! What it costs to hand work to threads: calls with pieces of next to no work.

use criterion::Criterion;
use samebits::pool::{Pool, available_threads};

pub fn benches(c: &mut Criterion) {
    for (threads, pieces) in [(1, 1), (1, 64), (available_threads(), 2), (available_threads(), 64)] {
        let pool = Pool::new(threads);
        c.bench_function(&format!("pool/{pieces} pieces/{threads} threads"), |b| {
            let mut out = vec![0.0f32; pieces];
            b.iter(|| pool.run(&mut out, |y, _| *y += 1.0));
        });
    }
}
