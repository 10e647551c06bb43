//! A whole model in each class of arithmetic: logits of a little Llama, part of its text at once, the rest token by
//! token; attention in bf16 beside both.

use super::{Golden, Random, hash};
use crate::kernels::attention::Products;
use crate::model::{Decoder, DecoderConfig, Sequence, Source, Workspace};
use crate::nn::{Arithmetic, Compute};
use crate::run::Run;
use crate::tensor::Tensor;
use crate::{Cpu, Result};

pub const CASES: &[Golden] = &[
    Golden {
        name: "compute/f32, logits of a llama",
        hash: 0x3ef3337351dce503,
        run: |cpu| logits(cpu, Compute::F32.into(), false),
    },
    Golden {
        name: "compute/f32, attention in bf16",
        hash: 0x7a7b090107490966,
        run: |cpu| logits(cpu, Arithmetic { attention: Products::Bf16, ..Arithmetic::F32 }, false),
    },
    Golden {
        name: "compute/bf16, logits of a llama",
        hash: 0xf01944642b7488f2,
        run: |cpu| logits(cpu, Compute::Bf16.into(), false),
    },
    Golden {
        name: "compute/bf16, attention too",
        hash: 0x4f78faea11fe5d34,
        run: |cpu| logits(cpu, Arithmetic::BF16, false),
    },
    Golden {
        name: "compute/int8, logits of a llama",
        hash: 0x9cd9db6cecf2940c,
        run: |cpu| logits(cpu, Compute::Int8.into(), false),
    },
    Golden {
        name: "compute/int8, one in NF4",
        hash: 0xfa0d9debea8c68a7,
        run: |cpu| logits(cpu, Compute::Int8.into(), true),
    },
];

const DIM: usize = 64;
/// Not whole blocks of 32.
const HIDDEN: usize = 108;
const VOCAB: usize = 70;
const TOKENS: u32 = 21;

/// Weights drawn by their names.
struct Drawn;

impl Drawn {
    fn all() -> Vec<(String, Vec<usize>)> {
        let mut all = vec![
            ("model.embed_tokens.weight".into(), vec![VOCAB, DIM]),
            ("model.norm.weight".into(), vec![DIM]),
        ];
        for layer in 0..2 {
            let shapes: [(&str, &[usize]); 9] = [
                ("self_attn.q_proj", &[DIM, DIM]),
                ("self_attn.k_proj", &[DIM / 2, DIM]),
                ("self_attn.v_proj", &[DIM / 2, DIM]),
                ("self_attn.o_proj", &[DIM, DIM]),
                ("mlp.gate_proj", &[HIDDEN, DIM]),
                ("mlp.up_proj", &[HIDDEN, DIM]),
                ("mlp.down_proj", &[DIM, HIDDEN]),
                ("input_layernorm", &[DIM]),
                ("post_attention_layernorm", &[DIM]),
            ];
            let named = |(name, shape): (&str, &[usize])| {
                (format!("model.layers.{layer}.{name}.weight"), shape.to_vec())
            };
            all.extend(shapes.map(named));
        }
        all
    }
}

impl Source for Drawn {
    fn file(&self) -> String {
        "drawn".into()
    }
    fn names(&self) -> Vec<String> {
        Drawn::all().into_iter().map(|(name, _)| name).collect()
    }
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let all = Drawn::all();
        let at = all.iter().position(|(known, _)| known == name).expect("a tensor of a Llama");
        let (shape, mut random) = (&all[at].1, Random::new(40 + at as u64));
        let values: Vec<f32> = match shape[..] {
            [n] => random.normal(n).iter().map(|x| 1.0 + 0.125 * x).collect(),
            _ => random.normal(shape.iter().product()).iter().map(|x| 0.125 * x).collect(),
        };
        Ok(Tensor::from_f32(&values, shape))
    }
}

/// The logits after 13 tokens and after each of eight more.
fn logits(cpu: Cpu, arithmetic: Arithmetic, nf4: bool) -> u64 {
    let config = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {DIM},
            "intermediate_size": {HIDDEN}, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": {VOCAB}, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}}"#
    );
    let config = DecoderConfig::from_hf(config.as_bytes()).expect("a sound configuration");
    let mut model = Decoder::load(cpu, config, &Drawn).expect("a sound model");
    let run = Run::here(cpu);
    if nf4 {
        model.quantize_nf4(&run, 64).expect("finite weights");
    }
    model.set_arithmetic(cpu, arithmetic).expect("finite weights");
    let (mut cache, mut workspace) = (model.cache(64), Workspace::new());
    let (mut all, mut one) = (Vec::new(), vec![0.0; VOCAB]);
    let tokens: Vec<u32> = (0..TOKENS).map(|i| (i * i + 3 * i) % VOCAB as u32).collect();
    let (prompt, rest) = tokens.split_at(13);
    for tokens in core::iter::once(prompt).chain(rest.chunks(1)) {
        let mut batch = [Sequence { tokens, cache: &mut cache }];
        model.forward(&run, &mut batch, &mut one, &mut workspace).expect("sound tokens");
        all.extend_from_slice(&one);
    }
    hash(&all)
}
