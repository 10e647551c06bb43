//! Tiny random models against what transformers computes with them (tests/reference/models.py).

use crate::common::{assert_same, cpus, slow};
use samebits::Tier;
use samebits::io::safetensors::{Checkpoint, SafeTensors};
use samebits::kernels::reduce::argmax;
use samebits::model::{CacheType, Decoder, DecoderConfig, Encoder, EncoderConfig, Sequence, Workspace};
use samebits::run::Run;
use std::path::PathBuf;

const DECODERS: [&str; 13] = [
    "llama",
    "llama_linear",
    "llama_dynamic",
    "llama_yarn",
    "llama_llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "phi3_short",
    "phi3_long",
    "gpt2",
];

/// How far a logit may be from transformers', which sums in another order.
const NEAR: f32 = 1e-4;

pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

pub struct Expected(SafeTensors);

impl Expected {
    pub fn of(name: &str) -> Expected {
        Expected(SafeTensors::open(folder(name).join("expected.safetensors")).expect("a committed file"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0.load(name).unwrap().to_vec()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.0.load(name).unwrap().to_vec::<i32>().into_iter().map(|id| id as u32).collect()
    }
}

pub fn decoder(name: &str, run: &Run<'_>) -> Decoder {
    let text = std::fs::read(folder(name).join("config.json")).unwrap();
    let mut config = DecoderConfig::from_hf(&text).unwrap();
    // What the reference computed its logits for: 37 tokens. Afterwards it changes the base at every step.
    config.length = match name {
        "llama_dynamic" => 37,
        "phi3_short" => 101,
        _ => config.length,
    };
    let weights = Checkpoint::open(folder(name).join("model.safetensors")).unwrap();
    Decoder::load(run.cpu(), config, &weights).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[track_caller]
fn assert_near(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let far = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0f32, f32::max);
    assert!(far <= NEAR, "{what}: {far:e} from transformers");
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    for cpu in cpus() {
        if slow() && cpu.tier() == Tier::Scalar {
            continue;
        }
        let run = Run::here(cpu);
        for name in DECODERS {
            let (model, expected) = (decoder(name, &run), Expected::of(name));
            let (ids, vocab) = (expected.ids("ids"), model.config().vocab);
            let (mut cache, mut workspace) = (model.cache(8), Workspace::new());
            let mut logits = vec![0.0; ids.len() * vocab];
            let mut batch = [Sequence { tokens: &ids, cache: &mut cache }];
            model.forward_all(&run, &mut batch, &mut logits, &mut workspace).unwrap();
            assert_near(&logits, &expected.floats("logits"), &format!("{name} on {}", cpu.tier()));
            if name == "llama_dynamic" {
                continue;
            }
            let mut last = logits[logits.len() - vocab..].to_vec();
            let steps = expected.ids("greedy").into_iter().zip(expected.floats("margin"));
            for (step, (want, margin)) in steps.enumerate() {
                if margin < NEAR {
                    break;
                }
                let next = argmax(cpu, &last).unwrap() as u32;
                assert_eq!(next, want, "{name} on {}, step {step}, margin {margin:e}", cpu.tier());
                let mut batch = [Sequence { tokens: &[next], cache: &mut cache }];
                model.forward(&run, &mut batch, &mut last, &mut workspace).unwrap();
            }
        }
    }
}

/// The loss of a text is the cross-entropy of the logits, here taken in f64 from transformers' own.
#[test]
fn losses_are_the_cross_entropy_of_the_logits() {
    let run = Run::here(cpus().pop().unwrap());
    for name in ["llama", "gemma2", "gpt2"] {
        let (model, expected) = (decoder(name, &run), Expected::of(name));
        let (ids, vocab) = (expected.ids("ids"), model.config().vocab);
        let losses = model.losses(&run, &ids, CacheType::F32, &mut Workspace::new()).unwrap();
        assert_eq!(losses.len(), ids.len() - 1);
        for (i, (row, loss)) in expected.floats("logits").chunks(vocab).zip(losses).enumerate() {
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let want = sum.ln() - f64::from(row[ids[i + 1] as usize]);
            assert!(
                (f64::from(loss) - want).abs() <= f64::from(2.0 * NEAR),
                "{name}, token {i}: {loss}, {want}"
            );
        }
    }
}

#[test]
fn no_split_of_a_prompt_changes_a_bit_of_any_architecture() {
    let run = Run::here(cpus().pop().unwrap());
    for name in DECODERS {
        let (model, ids) = (decoder(name, &run), Expected::of(name).ids("ids"));
        let vocab = model.config().vocab;
        let all = |step: usize| {
            let (mut cache, mut workspace, mut all) = (model.cache(1), Workspace::new(), Vec::new());
            for tokens in ids.chunks(step) {
                let mut out = vec![0.0; tokens.len() * vocab];
                let mut batch = [Sequence { tokens, cache: &mut cache }];
                model.forward_all(&run, &mut batch, &mut out, &mut workspace).unwrap();
                all.extend(out);
            }
            all
        };
        let want = all(ids.len());
        for step in [1, 5, 16] {
            assert_same(&all(step), &want, format!("{name}, parts of {step}"));
        }
    }
}

/// A window drops keys in blocks of 64 from the cache: what is dropped was not seen any more.
#[test]
fn a_windowed_cache_that_drops_keys_gives_the_bits_of_one_that_keeps_them() {
    let run = Run::here(cpus().pop().unwrap());
    for name in ["mistral", "gemma2"] {
        let model = decoder(name, &run);
        let vocab = model.config().vocab;
        let tokens: Vec<u32> = (0..400).map(|i| (i * i + 3 * i) as u32 % vocab as u32).collect();
        let whole = {
            let (mut cache, mut out) = (model.cache(400), vec![0.0; 400 * vocab]);
            let mut batch = [Sequence { tokens: &tokens, cache: &mut cache }];
            model.forward_all(&run, &mut batch, &mut out, &mut Workspace::new()).unwrap();
            out
        };
        let (mut cache, mut workspace) = (model.cache(400), Workspace::new());
        for (i, token) in tokens.iter().enumerate() {
            let mut out = vec![0.0; vocab];
            let mut batch = [Sequence { tokens: &[*token], cache: &mut cache }];
            model.forward(&run, &mut batch, &mut out, &mut workspace).unwrap();
            assert_same(&out, &whole[i * vocab..][..vocab], format!("{name}, token {i}"));
        }
        assert!(cache.truncate(399), "the last token may go");
        if name == "mistral" {
            let all_keys = 2 * 2 * 400 * 2 * 6 * 4; // K and V, layers, tokens, heads, components, bytes
            assert!(cache.bytes() < all_keys, "{} bytes: the window drops keys", cache.bytes());
            assert!(!cache.truncate(100), "keys that position 100 sees are gone");
        }
    }
}

#[test]
fn hidden_rows_of_encoders_are_those_of_transformers() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        for name in ["bert", "roberta"] {
            let text = std::fs::read(folder(name).join("config.json")).unwrap();
            let config = EncoderConfig::from_hf(&text).unwrap();
            let weights = Checkpoint::open(folder(name).join("model.safetensors")).unwrap();
            let model = Encoder::load(cpu, config, &weights).unwrap_or_else(|e| panic!("{name}: {e}"));
            let expected = Expected::of(name);
            let (ids, segments) = (expected.ids("ids"), expected.ids("segments"));
            let mut out = vec![0.0; ids.len() * model.config().dim];
            let mut workspace = Workspace::new();
            model.forward_segments(&run, &[&ids], &[&segments], &mut out, &mut workspace).unwrap();
            assert_near(&out, &expected.floats("hidden"), &format!("{name} on {}", cpu.tier()));
            // The same text between others.
            let (short, dim) = (&ids[..5], model.config().dim);
            let mut many = vec![0.0; (ids.len() + 10) * dim];
            let texts = [short, &ids, short];
            let kinds = [&segments[..5], &segments, &segments[..5]];
            model.forward_segments(&run, &texts, &kinds, &mut many, &mut workspace).unwrap();
            assert_same(&many[5 * dim..][..out.len()], &out, format!("{name} among others"));
        }
    }
}
