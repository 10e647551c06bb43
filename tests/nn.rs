//! Layers: any form of a weight against its decoded values, fused against unfused, rows against batches.

mod common;

use common::{Random, assert_same, cpus};
use samebits::Cpu;
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::attention::{Attention, Options, Pattern, Products};
use samebits::kernels::gemm::{Bf16, F16};
use samebits::kernels::ggml::{self, Format, Rows};
use samebits::kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use samebits::kernels::{Line, half};
use samebits::nn::{
    CrossAttention, Embedding, FeedForwardNetwork, KeyValues, LayerNorm, Linear, Mixing, MultiHeadAttention,
    Norm, Placement, RmsNorm, Room, Stored, TransformerBlock, Weight, scaled_dot_product_attention,
};
use samebits::pool::Pool;
use samebits::run::Run;

/// The same weight (n, k) in every form that k allows.
fn forms(cpu: Cpu, w: &[f32], n: usize, k: usize) -> Vec<Weight> {
    let narrow = |f: fn(f32) -> u16| w.iter().map(|&x| f(x)).collect::<Vec<u16>>();
    let (bf16, f16) = (narrow(half::f32_to_bf16), narrow(half::f32_to_f16));
    let plain = Weight::from_f32(cpu, MatRef::new(w, n, k));
    let mut all = vec![
        Weight::from_bf16(cpu, MatRef::new(Bf16::slice(&bf16), n, k)),
        Weight::from_f16(cpu, MatRef::new(F16::slice(&f16), n, k)),
        plain.to_nf4(cpu, 64).unwrap(),
        plain.to_nf4(cpu, 7).unwrap(),
        plain,
    ];
    if k.is_multiple_of(32) {
        let quantise = |format: Format| {
            let mut blocks = vec![0; format.bytes(n * k)];
            match format {
                Format::Q8_0 => ggml::quantize_q8_0(cpu, w, &mut blocks).unwrap(),
                _ => ggml::quantize_q4_0(cpu, w, &mut blocks).unwrap(),
            }
            blocks
        };
        for format in [Format::Q8_0, Format::Q4_0] {
            all.push(Weight::from_ggml(Rows::new(format, n, k, &quantise(format))));
        }
        // Another reading of the same bytes: sixteen levels; and blocks of five bits with drawn codes.
        all.push(Weight::from_ggml(Rows::new(Format::Iq4Nl, n, k, &quantise(Format::Q4_0))));
        let mut blocks: Vec<u8> = (0..Format::Q5_0.bytes(n * k)).map(|i| (i * i / 3 + 7 * i) as u8).collect();
        blocks.chunks_mut(22).for_each(|b| b[..2].copy_from_slice(&half::f32_to_f16(0.01).to_le_bytes()));
        all.push(Weight::from_ggml(Rows::new(Format::Q5_0, n, k, &blocks)));
    }
    all
}

#[test]
fn a_stored_weight_multiplies_as_its_decoded_values_do() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        for (n, k) in [(1, 1), (17, 33), (40, 64), (35, 288)] {
            let mut random = Random::new(n as u64);
            let w = random.normal(n * k);
            for weight in forms(cpu, &w, n, k) {
                let decoded = weight.to_rows(cpu);
                let plain = Weight::from_f32(cpu, MatRef::new(&decoded, n, k));
                assert!(weight.bytes() > 0 && (weight.out_features(), weight.in_features()) == (n, k));
                for rows in [1, 2, 9, 30] {
                    let x = random.normal(rows * k);
                    let product = |weight: &Weight| {
                        let mut y = vec![0.0; rows * n];
                        let layer = Linear::new(weight.clone(), Some(vec![0.5; n].into()));
                        layer.forward(&run, MatRef::new(&x, rows, k), MatMut::new(&mut y, rows, n));
                        y
                    };
                    let what = format!("{} {weight:?}, {rows} rows", cpu.tier());
                    assert_same(&product(&weight), &product(&plain), what);
                }
            }
        }
    }
}

#[test]
fn an_embedding_gives_the_decoded_rows() {
    let cpu = cpus()[0];
    let w = Random::new(3).normal(40 * 64);
    for table in forms(cpu, &w, 40, 64) {
        let decoded = table.to_rows(cpu);
        if table.stored() == Stored::F32 {
            assert_same(&decoded, &w, "floats");
        }
        let ids = [39, 0, 17, 17];
        let mut x = vec![0.0; ids.len() * 64];
        Embedding::new(table).forward(cpu, &ids, &mut x);
        for (x, id) in x.chunks(64).zip(ids) {
            assert_same(x, &decoded[id as usize * 64..][..64], format!("row {id}"));
        }
    }
}

fn linear(cpu: Cpu, random: &mut Random, n: usize, k: usize) -> Linear {
    let w: Vec<f32> = random.normal(n * k).iter().map(|x| 0.3 * x).collect();
    Linear::new(Weight::from_f32(cpu, MatRef::new(&w, n, k)), Some(random.normal(n).into()))
}

fn block(cpu: Cpu, placement: Placement) -> TransformerBlock {
    let mut random = Random::new(5);
    let (dim, heads, kv_heads, head_dim, hidden) = (24, 4, 2, 6, 40);
    let mut l = |n: usize, k: usize| linear(cpu, &mut random, n, k);
    let attention = MultiHeadAttention {
        q: l(heads * head_dim, dim),
        k: l(kv_heads * head_dim, dim),
        v: l(kv_heads * head_dim, dim),
        o: l(dim, heads * head_dim),
        heads,
        kv_heads,
        head_dim,
        qk_norm: None,
        mixing: Mixing::new(head_dim, Pattern::Causal),
        prefix: None,
    };
    let network = FeedForwardNetwork {
        gate: Some(l(hidden, dim)),
        up: l(hidden, dim),
        down: l(dim, hidden),
        activation: Activation::Silu,
    };
    let norm = Norm::Layer(LayerNorm {
        weight: vec![1.1; dim].into(),
        bias: Some(vec![0.1; dim].into()),
        eps: 1e-5,
    });
    TransformerBlock {
        placement,
        attention_norm: norm.clone(),
        attention,
        attention_after: Some(Norm::Rms(RmsNorm {
            weight: vec![0.9; dim].into(),
            one_plus: true,
            eps: 1e-6,
        })),
        cross: None,
        network_norm: Some(norm),
        network,
        network_after: None,
        adapters: Default::default(),
    }
}

fn forward(run: &Run<'_>, block: &TransformerBlock, x: &[f32], ends: &[usize]) -> Vec<f32> {
    let mut y = x.to_vec();
    let mut room = vec![Line::ZERO; block.room_len(x.len() / 24)];
    block.forward(run, &mut y, None, &mut KeyValues::Here { ends }, None, Room::new(&mut room));
    y
}

#[test]
fn threads_neighbours_and_tiers_change_no_bit_of_a_block() {
    let x = Random::new(8).normal(90 * 24);
    for placement in [Placement::Pre, Placement::Post, Placement::Parallel] {
        let mut first: Option<Vec<f32>> = None;
        for cpu in cpus() {
            let block = block(cpu, placement);
            let ends = [0, 1, 30, 90];
            let all = forward(&Run::here(cpu), &block, &x, &ends);
            for threads in [2, 3, 7] {
                let pool = Pool::new(threads);
                let many = forward(&Run::on(cpu, &pool), &block, &x, &ends);
                assert_same(&many, &all, format!("{placement:?}, {threads} threads"));
            }
            for w in ends.windows(2) {
                let part = w[0] * 24..w[1] * 24;
                let alone = forward(&Run::here(cpu), &block, &x[part.clone()], &[0, w[1] - w[0]]);
                assert_same(&all[part], &alone, format!("{placement:?}, rows {w:?}"));
            }
            assert_same(&all, first.get_or_insert(all.clone()), format!("{placement:?} on {}", cpu.tier()));
        }
    }
}

/// What a layer's attention makes of q, k and v, (tokens, heads · 6), by the kernel alone; products of bf16.
fn rounded_attention(run: &Run<'_>, [q, k, v]: [&[f32]; 3], rows: usize, pattern: Pattern) -> Vec<f32> {
    let of = |heads: usize| ([1, heads, rows, 6], [0, 6, 6 * heads as isize, 1]);
    let mut mixed = vec![0.0; q.len()];
    let (wide, narrow) = (of(4), of(2));
    let problem = Attention {
        q: HeadsRef::strided(q, 0, wide.0, wide.1),
        k: HeadsRef::strided(k, 0, narrow.0, narrow.1).into(),
        v: HeadsRef::strided(v, 0, narrow.0, narrow.1).into(),
        out: HeadsMut::strided(&mut mixed, 0, wide.0, wide.1),
        lse: None,
        options: Options { products: Products::Bf16, pattern, ..Options::for_head_dim(6) },
    };
    scaled_dot_product_attention(run, problem);
    mixed
}

/// A layer's attention in bf16 is the kernel's over the layer's own q, k and v; cross-attention's goes with it.
#[test]
fn attention_in_bf16_is_the_kernel_of_that_name() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        let mut block = block(cpu, Placement::Pre);
        block.cross =
            Some(CrossAttention { norm: block.attention_norm.clone(), attention: block.attention.clone() });
        block.set_attention(Products::Bf16);
        let (rows, dim) = (70, 24);
        let x = Random::new(9).normal(rows * dim);
        let product = |layer: &Linear, x: &[f32]| {
            let mut y = vec![0.0; rows * layer.out_features()];
            let out = MatMut::new(&mut y, rows, layer.out_features());
            layer.forward(&run, MatRef::new(x, rows, layer.in_features()), out);
            y
        };
        let cross = &block.cross.as_ref().unwrap().attention;
        for (layer, pattern) in [(&block.attention, Pattern::Causal), (cross, Pattern::Full)] {
            let layer =
                MultiHeadAttention { mixing: Mixing { pattern, ..layer.mixing.clone() }, ..layer.clone() };
            let (q, k, v) = (product(&layer.q, &x), product(&layer.k, &x), product(&layer.v, &x));
            let mixed = rounded_attention(&run, [&q, &k, &v], rows, pattern);
            let want = product(&layer.o, &mixed);
            let (mut got, mut room) = (vec![0.0; rows * dim], vec![Line::ZERO; layer.room_len(rows)]);
            let mut keys = KeyValues::Here { ends: &[0, rows] };
            layer.forward(&run, &x, None, &mut keys, None, &mut got, Room::new(&mut room));
            assert_same(&got, &want, format!("{pattern:?} on {}", cpu.tier()));
            if pattern == Pattern::Full {
                layer.forward_cross(&run, &x, (&k, &v), None, &mut got, Room::new(&mut room));
                assert_same(&got, &want, format!("cross-attention on {}", cpu.tier()));
            }
        }
    }
}

/// Bias, activation and residual in the product's own tile, and as steps of their own.
#[test]
fn fused_and_unfused_networks_have_the_same_bits() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        let block = block(cpu, Placement::Pre);
        let network = &block.network;
        let (rows, dim, hidden) = (11, 24, 40);
        let (x, residual) = (Random::new(1).normal(rows * dim), Random::new(2).normal(rows * dim));
        let mut fused = vec![0.0; rows * dim];
        let mut room = vec![Line::ZERO; network.room_len(rows)];
        network.forward(&run, &x, Some(&residual), &mut fused, Room::new(&mut room));

        let product = |layer: &Linear, x: &[f32], k: usize, n: usize| {
            let bare = Linear::new(layer.weight.clone(), None);
            let mut y = vec![0.0; rows * n];
            bare.forward(&run, MatRef::new(x, rows, k), MatMut::new(&mut y, rows, n));
            let bias = layer.bias.as_ref().unwrap();
            y.chunks_mut(n).for_each(|y| y.iter_mut().zip(bias.iter()).for_each(|(y, b)| *y += b));
            y
        };
        let mut gate = product(network.gate.as_ref().unwrap(), &x, dim, hidden);
        activation::apply_in_place(cpu, Activation::Silu, MatMut::new(&mut gate, rows, hidden));
        let up = product(&network.up, &x, dim, hidden);
        let h: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| g * u).collect();
        let y = product(&network.down, &h, hidden, dim);
        let unfused: Vec<f32> = y.iter().zip(&residual).map(|(y, r)| y + r).collect();
        assert_same(&fused, &unfused, cpu.tier());
    }
}

/// The matrix of weights, and the fused kernel that never has one: within the bounds of both.
#[test]
fn attention_with_and_without_the_matrix_agree() {
    use samebits::kernels::attention::{Additive, Attention, Keep, Options, Sequences, Span};
    use samebits::kernels::view::{HeadsMut, HeadsRef};
    use samebits::nn::{attention_with_weights, scaled_dot_product_attention};
    let cpu = cpus().pop().unwrap();
    let ([b, h, kv, lq, lk, d], mut random) = ([2, 4, 2, 9, 70, 8], Random::new(6));
    let (q, k, v) =
        (random.normal(b * h * lq * d), random.normal(b * kv * lk * d), random.normal(b * kv * lk * d));
    let keep: Vec<u8> = (0..b * h * lq * lk).map(|i| u8::from(i % 7 != 3)).collect();
    let additive = random.normal(lq * lk);
    let (slopes, sinks) = ([0.5, 0.25, 0.125, 0.0625], [0.0, 1.0, -1.0, 3.0]);
    let plain = Options::for_head_dim(d);
    let spans = [Span { start: 3, len: 60 }, Span { start: 0, len: 70 }];
    let additive = Additive(HeadsRef::strided(&additive, 0, [b, h, lq, lk], [0, 0, lk as isize, 1]));
    let cases = [
        plain,
        Options { pattern: Pattern::Causal, ..plain },
        Options { pattern: Pattern::Window(5), softcap: Some(2.0), ..plain },
        Options { keep: Some(Keep(HeadsRef::new(&keep, [b, h, lq, lk]))), ..plain },
        Options { additive: Some(additive), alibi: Some(&slopes), sinks: Some(&sinks), ..plain },
        Options {
            pattern: Pattern::Causal,
            sequences: Sequences::Padded { queries: None, keys: &spans },
            ..plain
        },
    ];
    for (i, options) in cases.into_iter().enumerate() {
        let (mut fused, mut unfused) = (vec![0.0; b * h * lq * d], vec![f32::NAN; b * h * lq * d]);
        let problem = |out| Attention {
            q: HeadsRef::new(&q, [b, h, lq, d]),
            k: HeadsRef::new(&k, [b, kv, lk, d]).into(),
            v: HeadsRef::new(&v, [b, kv, lk, d]).into(),
            out,
            lse: None,
            options,
        };
        scaled_dot_product_attention(&Run::here(cpu), problem(HeadsMut::new(&mut fused, [b, h, lq, d])));
        let weights = attention_with_weights(cpu, problem(HeadsMut::new(&mut unfused, [b, h, lq, d])));
        for (f, u) in fused.iter().zip(&unfused) {
            assert!((f - u).abs() <= 4e-6, "case {i}: {f} fused, {u} unfused");
        }
        for row in weights.chunks(lk) {
            let sum: f32 = row.iter().sum();
            let whole = options.sinks.is_none();
            assert!(
                if whole { (sum - 1.0).abs() < 1e-5 } else { sum < 1.0 },
                "case {i}: weights sum to {sum}"
            );
        }
    }
}
