//! Whole transformer blocks: a Llama's behind a cache, a BERT's over texts end to end.

use super::{Golden, Random, hash};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::activation::Activation;
use crate::kernels::attention::Pattern;
use crate::kernels::rope::Pairing;
use crate::kernels::view::MatRef;
use crate::model::{CacheType, LayerCache};
use crate::nn::{
    FeedForwardNetwork, KeyValueStore, KeyValues, LayerNorm, Linear, Mixing, MultiHeadAttention, Norm,
    Placement, RmsNorm, Room, RotaryConfig, RotaryEmbedding, RotaryTable, TransformerBlock, Weight,
};
use crate::run::Run;

pub const CASES: &[Golden] = &[
    Golden { name: "block/llama, cached", hash: 0x093caa3c11b8de79, run: llama },
    Golden { name: "block/bert, packed", hash: 0xff43ba09660df94d, run: bert },
];

const DIM: usize = 32;

/// A layer of drawn weights: NF4 for kind 1, floats and a bias for kind 2.
fn linear(cpu: Cpu, random: &mut Random, [n, k]: [usize; 2], kind: usize) -> Linear {
    let w: Vec<f32> = random.normal(n * k).iter().map(|x| 0.25 * x).collect();
    let plain = Weight::from_f32(cpu, MatRef::new(&w, n, k));
    let weight = if kind == 1 { plain.to_nf4(cpu, 64).expect("finite weights") } else { plain };
    Linear::new(weight, (kind == 2).then(|| random.normal(n).into()))
}

/// A block whose layers are all of one kind: a gated Llama's before a norm, else a BERT's.
fn block(cpu: Cpu, norm: Norm, placement: Placement, kind: usize) -> TransformerBlock {
    let mut random = Random::new(21);
    let mut layer = |n, k| linear(cpu, &mut random, [n, k], kind);
    let llama = placement == Placement::Pre;
    let (heads, kv_heads, head_dim, hidden) = (4, if llama { 2 } else { 4 }, 10, 48);
    let attention = MultiHeadAttention {
        q: layer(heads * head_dim, DIM),
        k: layer(kv_heads * head_dim, DIM),
        v: layer(kv_heads * head_dim, DIM),
        o: layer(DIM, heads * head_dim),
        heads,
        kv_heads,
        head_dim,
        qk_norm: None,
        mixing: Mixing::new(head_dim, if llama { Pattern::Window(50) } else { Pattern::Full }),
        prefix: None,
    };
    let network = FeedForwardNetwork {
        gate: llama.then(|| layer(hidden, DIM)),
        up: layer(hidden, DIM),
        down: layer(DIM, hidden),
        activation: if llama { Activation::Silu } else { Activation::GeluErf },
    };
    TransformerBlock {
        placement,
        attention_norm: norm.clone(),
        attention,
        attention_after: None,
        cross: None,
        network_norm: Some(norm),
        network,
        network_after: None,
        adapters: Default::default(),
    }
}

/// 80 tokens, two thirds at once and the others one by one, NF4 weights, a window of 50.
fn llama(cpu: Cpu) -> u64 {
    let norm = Norm::Rms(RmsNorm { weight: vec![0.75; DIM].into(), one_plus: false, eps: 1e-5 });
    let block = block(cpu, norm, Placement::Pre, 1);
    let rotary = RotaryEmbedding::new(&RotaryConfig::new(10, 10_000.0, Pairing::Half), 80).expect("sound");
    let mut table = RotaryTable::new();
    table.grow(&rotary, 80);
    let mut cache = LayerCache::new(CacheType::F32, 2, 10, Some(50), 16);
    let mut x = Random::new(22).normal(80 * DIM);
    let mut room = vec![Line::ZERO; block.room_len(54)];
    let mut from = 0;
    for to in core::iter::once(54).chain(55..=80) {
        let positions: Vec<u32> = (from as u32..to as u32).collect();
        let mut caches: [&mut dyn KeyValueStore; 1] = [&mut cache];
        let mut keys = KeyValues::Cached { ends: &[0, to - from], caches: &mut caches };
        let rows = &mut x[from * DIM..to * DIM];
        let rope = rotary.rope(&table, &positions);
        block.forward(&Run::here(cpu), rows, Some(&rope), &mut keys, None, Room::new(&mut room));
        from = to;
    }
    hash(&x)
}

/// Three texts of 1, 17 and 45 tokens.
fn bert(cpu: Cpu) -> u64 {
    let norm = Norm::Layer(LayerNorm {
        weight: vec![1.25; DIM].into(),
        bias: Some(vec![0.5; DIM].into()),
        eps: 1e-12,
    });
    let block = block(cpu, norm, Placement::Post, 2);
    let mut x = Random::new(23).normal(63 * DIM);
    let mut room = vec![Line::ZERO; block.room_len(63)];
    let mut keys = KeyValues::Here { ends: &[0, 1, 18, 63] };
    block.forward(&Run::here(cpu), &mut x, None, &mut keys, None, Room::new(&mut room));
    hash(&x)
}
