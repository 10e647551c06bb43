//! Attention: prefill and decode, patterns, masks and biases.

use super::{Golden, Hash, Random};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::attention::{
    Additive, Align, Attention, AttentionBackward, Gradients, Keep, Options, Pattern, Products, Sequences,
    Span, alibi_slopes, attention, attention_backward, backward_scratch_len, fast_scratch_len, scratch_len,
};
use crate::kernels::view::{HeadsMut, HeadsRef};
use crate::model::{CacheType, LayerCache};
use crate::nn::KeyValueStore;

pub const CASES: &[Golden] = &[
    Golden {
        name: "attention/full",
        hash: 0x3e64cdb7617c2359,
        run: |cpu| run(cpu, [4, 4, 70, 150, 32, 32], plain()),
    },
    Golden {
        name: "attention/causal, groups",
        hash: 0x23887e6ed652b35e,
        run: |cpu| run(cpu, [6, 2, 40, 130, 21, 9], Options { pattern: Pattern::Causal, ..plain() }),
    },
    Golden {
        name: "attention/decode, window",
        hash: 0x6d835f4c1fe9626e,
        run: |cpu| run(cpu, [8, 2, 1, 333, 64, 80], Options { pattern: Pattern::Window(200), ..plain() }),
    },
    Golden {
        name: "attention/causal, bf16",
        hash: 0x3d589c9e7a1e2d55,
        run: |cpu| stored(cpu, [6, 2, 40, 130, 21], CacheType::Bf16),
    },
    Golden {
        name: "attention/causal, int8",
        hash: 0x1920962d75051061,
        run: |cpu| stored(cpu, [6, 2, 40, 130, 21], CacheType::Int8),
    },
    Golden {
        name: "attention/decode, bf16",
        hash: 0x754d471533c76bd3,
        run: |cpu| stored(cpu, [8, 2, 1, 333, 64], CacheType::Bf16),
    },
    Golden {
        name: "attention/decode, int8",
        hash: 0x7940a1eff8256ce4,
        run: |cpu| stored(cpu, [8, 2, 1, 333, 64], CacheType::Int8),
    },
    Golden { name: "attention/biases and masks", hash: 0x71e8d03f9040d114, run: biased },
    Golden {
        name: "attention/bf16 products, full",
        hash: 0xe043a44d9a3085dd,
        run: |cpu| run(cpu, [4, 4, 70, 150, 32, 32], halves()),
    },
    Golden {
        name: "attention/bf16 products, causal, groups",
        hash: 0x72259253321b58f1,
        run: |cpu| run(cpu, [6, 2, 40, 130, 21, 9], Options { pattern: Pattern::Causal, ..halves() }),
    },
    Golden {
        name: "attention/bf16 products, decode, window",
        hash: 0xd3c8765835bf56a9,
        run: |cpu| run(cpu, [8, 2, 1, 333, 64, 80], Options { pattern: Pattern::Window(200), ..halves() }),
    },
    Golden {
        name: "attention/bf16 products, biases and masks",
        hash: 0x77f533cbe2739c2d,
        run: |cpu| with_biases(cpu, halves(), run),
    },
    Golden {
        name: "attention/backward, groups",
        hash: 0x74d723fd12188742,
        run: |cpu| gradients(cpu, [6, 2, 70, 130, 21, 9], Options { pattern: Pattern::Causal, ..plain() }),
    },
    Golden { name: "attention/backward, biases and masks", hash: 0xbff2193374373c12, run: biased_gradients },
];

fn plain() -> Options<'static> {
    Options::new(0.25)
}

fn halves() -> Options<'static> {
    Options { products: Products::Bf16, ..plain() }
}

/// heads, kv_heads, Lq, Lk, qk_dim, v_dim of two batch rows.
type Sizes = [usize; 6];

/// q, k, v, and the result and its log-sum-exp.
struct Problem {
    sizes: Sizes,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
}

impl Problem {
    fn run(cpu: Cpu, sizes: Sizes, options: Options<'_>) -> Problem {
        let [h, kv, lq, lk, d, v_dim] = sizes;
        let mut random = Random::new(8);
        let q = random.normal(2 * h * lq * d);
        let k = random.normal(2 * kv * lk * d);
        let v = random.normal(2 * kv * lk * v_dim);
        let (mut out, mut lse) = (vec![0.0; 2 * h * lq * v_dim], vec![0.0; 2 * h * lq]);
        let problem = Attention {
            q: HeadsRef::new(&q, [2, h, lq, d]),
            k: HeadsRef::new(&k, [2, kv, lk, d]).into(),
            v: HeadsRef::new(&v, [2, kv, lk, v_dim]).into(),
            out: HeadsMut::new(&mut out, [2, h, lq, v_dim]),
            lse: Some(HeadsMut::new(&mut lse, [2, h, lq, 1])),
            options,
        };
        let lines = fast_scratch_len(cpu, options.products, d, v_dim);
        attention(cpu, problem, &mut vec![Line::ZERO; lines]);
        Problem { sizes, q, k, v, out, lse }
    }
}

/// The hash of `out` and the log-sum-exp.
fn run(cpu: Cpu, sizes: Sizes, options: Options<'_>) -> u64 {
    let Problem { out, lse, .. } = Problem::run(cpu, sizes, options);
    Hash::default().floats(&out).floats(&lse).0
}

/// The hash of all gradients.
fn gradients(cpu: Cpu, sizes: Sizes, options: Options<'_>) -> u64 {
    let p = Problem::run(cpu, sizes, options);
    let [h, kv, lq, lk, d, v_dim] = p.sizes;
    let d_out = Random::new(10).normal(p.out.len());
    let backward = AttentionBackward {
        q: HeadsRef::new(&p.q, [2, h, lq, d]),
        k: HeadsRef::new(&p.k, [2, kv, lk, d]),
        v: HeadsRef::new(&p.v, [2, kv, lk, v_dim]),
        out: HeadsRef::new(&p.out, [2, h, lq, v_dim]),
        lse: HeadsRef::new(&p.lse, [2, h, lq, 1]),
        d_out: HeadsRef::new(&d_out, [2, h, lq, v_dim]),
        options,
    };
    let (mut dq, mut dk, mut dv) = (p.q.clone(), p.k.clone(), p.v.clone());
    let (mut delta, mut dsinks) = (p.lse.clone(), vec![0.0; h]);
    let to = Gradients {
        dq: HeadsMut::new(&mut dq, [2, h, lq, d]),
        dk: HeadsMut::new(&mut dk, [2, kv, lk, d]),
        dv: HeadsMut::new(&mut dv, [2, kv, lk, v_dim]),
    };
    let mut scratch = vec![Line::ZERO; backward_scratch_len(d, v_dim)];
    attention_backward(cpu, &backward, to, &mut delta, &mut scratch);
    if options.sinks.is_some() {
        backward.sinks(cpu, HeadsRef::new(&delta, [2, h, lq, 1]), &mut dsinks);
    }
    Hash::default().floats(&dq).floats(&dk).floats(&dv).floats(&dsinks).0
}

/// Keys and values put into a layer's cache and read from there: heads, kv_heads, Lq, Lk, head_dim.
fn stored(cpu: Cpu, [h, kv, lq, lk, d]: [usize; 5], kind: CacheType) -> u64 {
    let mut random = Random::new(18);
    let q = random.normal(h * lq * d);
    let mut cache = LayerCache::new(kind, kv, d, None, lk);
    cache.push(cpu, &random.normal(lk * kv * d), &random.normal(lk * kv * d));
    let mut out = vec![0.0; h * lq * d];
    let problem = Attention {
        q: HeadsRef::new(&q, [1, h, lq, d]),
        k: cache.keys(),
        v: cache.values(),
        out: HeadsMut::new(&mut out, [1, h, lq, d]),
        lse: None,
        options: Options { pattern: Pattern::Causal, ..plain() },
    };
    attention(cpu, problem, &mut vec![Line::ZERO; scratch_len(d, d)]);
    super::hash(&out)
}

/// Padding on the left and right, a keep mask, a bias, ALiBi, softcap and sinks.
fn with_biases(cpu: Cpu, plain: Options<'_>, run: fn(Cpu, Sizes, Options<'_>) -> u64) -> u64 {
    let (h, lq, lk) = (3, 30, 90);
    let mut random = Random::new(9);
    let keep: Vec<u8> = (0..lq * lk).map(|_| (random.below(9) != 0) as u8).collect();
    let bias: Vec<f32> =
        random.normal(lk).iter().map(|&x| if x > 2.0 { f32::NEG_INFINITY } else { x }).collect();
    let mut slopes = [0.0; 3];
    alibi_slopes(8.0, &mut slopes);
    let sinks = [0.5, -1.0, 2.0];
    let options = Options {
        align: Align::TopLeft,
        sequences: Sequences::Padded {
            queries: None,
            keys: &[Span { start: 0, len: 80 }, Span { start: 7, len: 83 }],
        },
        keep: Some(Keep(HeadsRef::strided(&keep, 0, [2, h, lq, lk], [0, 0, lk as isize, 1]))),
        additive: Some(Additive(HeadsRef::strided(&bias, 0, [2, h, lq, lk], [0, 0, 0, 1]))),
        softcap: Some(3.0),
        alibi: Some(&slopes),
        sinks: Some(&sinks),
        ..plain
    };
    run(cpu, [h, h, lq, lk, 16, 16], options)
}

fn biased(cpu: Cpu) -> u64 {
    with_biases(cpu, plain(), run)
}

fn biased_gradients(cpu: Cpu) -> u64 {
    with_biases(cpu, plain(), gradients)
}
