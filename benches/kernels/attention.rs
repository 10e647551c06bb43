//! Attention: prefill of 2,048 tokens, decode over 4,096 keys.

use criterion::{Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::Line;
use samebits::kernels::attention::{Attention, Options, Pattern, attention, scratch_len};
use samebits::kernels::view::{HeadsMut, HeadsRef};

/// heads, kv_heads, Lq, Lk, head_dim
type Shape = [usize; 5];

/// `attention`: prefill in operations a second, decode in bytes of keys and values a second.
pub fn benches(c: &mut Criterion) {
    bench(c, "full", [8, 8, 2048, 2048, 64], Pattern::Full);
    bench(c, "causal", [8, 8, 2048, 2048, 64], Pattern::Causal);
    bench(c, "decode", [32, 32, 1, 4096, 128], Pattern::Causal);
    bench(c, "decode groups of 4", [32, 8, 1, 4096, 128], Pattern::Causal);
}

fn bench(c: &mut Criterion, name: &str, [h, kv, lq, lk, d]: Shape, pattern: Pattern) {
    let mut random = Random::new(1);
    let (q, k, v) = (random.vec(h * lq * d), random.vec(kv * lk * d), random.vec(kv * lk * d));
    let mut out = vec![0.0; h * lq * d];
    let mut scratch = vec![Line::ZERO; scratch_len(d, d)];
    let mut group = c.benchmark_group("attention");
    group.sample_size(10).throughput(match (lq, pattern) {
        (1, _) => Throughput::Bytes((8 * kv * lk * d) as u64),
        (_, Pattern::Causal) => Throughput::Elements((2 * h * lq * lk * d) as u64),
        _ => Throughput::Elements((4 * h * lq * lk * d) as u64),
    });
    for cpu in Cpu::all() {
        group.bench_function(format!("{name} {h}x{lq}x{lk}x{d}/{}", cpu.tier()), |b| {
            b.iter(|| {
                let problem = Attention {
                    q: HeadsRef::new(&q, [1, h, lq, d]),
                    k: HeadsRef::new(&k, [1, kv, lk, d]),
                    v: HeadsRef::new(&v, [1, kv, lk, d]),
                    out: HeadsMut::new(&mut out, [1, h, lq, d]),
                    lse: None,
                    options: Options { pattern, ..Options::for_head_dim(d) },
                };
                attention(cpu, problem, &mut scratch);
            });
        });
    }
    group.finish();
}
