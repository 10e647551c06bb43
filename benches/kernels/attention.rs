//! Attention: prefill of 2,048 tokens, decode over 4,096 keys of each type that a cache holds.

use criterion::{Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::Line;
use samebits::kernels::attention::{Attention, Options, Pattern, Products, attention, scratch_len};
use samebits::kernels::view::{HeadsMut, HeadsRef};
use samebits::model::{CacheType, LayerCache};
use samebits::nn::KeyValueStore;

/// heads, kv_heads, Lq, Lk, head_dim
type Shape = [usize; 5];

/// `attention`: prefill in operations a second, decode in bytes of keys and values a second.
pub fn benches(c: &mut Criterion) {
    let exact = Products::F32;
    bench(c, "full", [8, 8, 2048, 2048, 64], (CacheType::F32, exact), Pattern::Full);
    for (name, shape) in [("causal", [8, 8, 2048, 2048, 64]), ("decode", [32, 32, 1, 4096, 128])] {
        let of = (CacheType::Bf16, Products::Bf16);
        bench(c, &format!("{name} bf16 products"), shape, of, Pattern::Causal);
    }
    for kind in CacheType::ALL {
        let name =
            |name: &str| if kind == CacheType::F32 { name.into() } else { format!("{name} {}", kind.name()) };
        bench(c, &name("causal"), [8, 8, 2048, 2048, 64], (kind, exact), Pattern::Causal);
        bench(c, &name("decode"), [32, 32, 1, 4096, 128], (kind, exact), Pattern::Causal);
        bench(c, &name("decode groups of 4"), [32, 8, 1, 4096, 128], (kind, exact), Pattern::Causal);
    }
}

fn bench(
    c: &mut Criterion,
    name: &str,
    [h, kv, lq, lk, d]: Shape,
    (kind, products): (CacheType, Products),
    pattern: Pattern,
) {
    let mut random = Random::new(1);
    let q = random.vec(h * lq * d);
    let mut cache = LayerCache::new(kind, kv, d, None, lk);
    cache.push(Cpu::detect(), &random.vec(kv * lk * d), &random.vec(kv * lk * d));
    let row = [4 * d, 2 * d, d + 4][kind as usize];
    let mut out = vec![0.0; h * lq * d];
    let mut scratch = vec![Line::ZERO; scratch_len(d, d)];
    let mut group = c.benchmark_group("attention");
    group.sample_size(10).throughput(match (lq, pattern) {
        (1, _) => Throughput::Bytes((2 * kv * lk * row) as u64),
        (_, Pattern::Causal) => Throughput::Elements((2 * h * lq * lk * d) as u64),
        _ => Throughput::Elements((4 * h * lq * lk * d) as u64),
    });
    for cpu in Cpu::all() {
        group.bench_function(format!("{name} {h}x{lq}x{lk}x{d}/{}", cpu.tier()), |b| {
            b.iter(|| {
                let problem = Attention {
                    q: HeadsRef::new(&q, [1, h, lq, d]),
                    k: cache.keys(),
                    v: cache.values(),
                    out: HeadsMut::new(&mut out, [1, h, lq, d]),
                    lse: None,
                    options: Options { pattern, products, ..Options::for_head_dim(d) },
                };
                attention(cpu, problem, &mut scratch);
            });
        });
    }
    group.finish();
}
