//! stories260K, a trained Llama: the text that llama2.c prints, byte for byte, on every tier and number of
//! threads; and what a split, a batch or a shortened cache may not change.

use crate::common::{assert_same, cpus, slow};
use samebits::io::bytes::Access;
use samebits::io::gguf::{Gguf, ValueType};
use samebits::kernels::reduce::argmax;
use samebits::model::{
    BeamSearch, CacheType, Decoder, DecoderConfig, Generator, GgufTensors, KvCache, Model, Opening,
    PromptLookup, Sampler, Sequence, Settings, Workspace,
};
use samebits::pool::Pool;
use samebits::run::Run;
use samebits::{Cpu, Tier};
use std::path::PathBuf;

const BOS: u32 = 1;

fn folder() -> Option<PathBuf> {
    let data = std::env::var_os("SAMEBITS_DATA");
    if data.is_none() {
        eprintln!("skipped: SAMEBITS_DATA is not set");
    }
    Some(PathBuf::from(data?).join("models/stories260K"))
}

pub fn open(cpu: Cpu) -> Option<Decoder> {
    match Model::open(folder()?.join("stories260K-f32.gguf"), cpu).expect("a sound model") {
        Model::Decoder(decoder) => Some(*decoder),
        Model::Encoder(_) => panic!("a Llama is a decoder"),
    }
}

/// Logits after each of `tokens`, given in parts of `step`.
fn logits(run: &Run<'_>, model: &Decoder, tokens: &[u32], step: usize) -> Vec<f32> {
    let (mut cache, mut workspace) = (model.cache(4), Workspace::new());
    let mut all = Vec::new();
    for part in tokens.chunks(step) {
        let mut out = vec![0.0; part.len() * model.config().vocab];
        let mut batch = [Sequence { tokens: part, cache: &mut cache }];
        model.forward_all(run, &mut batch, &mut out, &mut workspace).expect("sound tokens");
        all.extend(out);
    }
    all
}

/// Greedy tokens after `BOS`.
pub fn greedy(run: &Run<'_>, model: &Decoder, steps: usize) -> Vec<u32> {
    let (mut cache, mut workspace) = (model.cache(steps), Workspace::new());
    let mut tokens = vec![BOS];
    let mut out = vec![0.0; model.config().vocab];
    for _ in 0..steps {
        let last = [tokens[tokens.len() - 1]];
        let mut batch = [Sequence { tokens: &last, cache: &mut cache }];
        model.forward(run, &mut batch, &mut out, &mut workspace).expect("sound tokens");
        tokens.push(argmax(run.cpu(), &out).expect("logits") as u32);
    }
    tokens
}

/// The text of tokens, as llama2.c prints it.
fn text(file: &Gguf, tokens: &[u32]) -> String {
    let pieces = file.entry("tokenizer.ggml.tokens").unwrap().array(ValueType::String).unwrap();
    let pieces: Vec<String> = pieces.iter().map(|p| p.as_str().unwrap().replace('▁', " ")).collect();
    let mut bytes = Vec::new();
    for &t in tokens {
        let piece = &pieces[t as usize];
        match piece.strip_prefix("<0x").and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(piece.as_bytes()),
        }
    }
    String::from_utf8(bytes).expect("whole characters")
}

#[test]
fn writes_the_story_that_llama2c_writes() {
    let Some(folder) = folder() else { return };
    let file = Gguf::open(folder.join("stories260K-f32.gguf"), samebits::io::bytes::Access::Read).unwrap();
    let want = std::fs::read_to_string(folder.join("expected_greedy_200steps.txt")).unwrap();
    for cpu in cpus() {
        if slow() && cpu.tier() == Tier::Scalar {
            continue;
        }
        let model = open(cpu).unwrap();
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            let tokens = greedy(&Run::on(cpu, &pool), &model, 200);
            let story = text(&file, &tokens[1..]);
            assert_eq!(story.trim_start(), want.trim(), "{} on {threads} threads", cpu.tier());
        }
    }
}

/// The three forms of the file are one model: not a bit differs, read or mapped.
#[test]
fn checkpoints_of_llama2c_are_the_same_model() {
    let cpu = cpus()[cpus().len() - 1];
    let Some(want) = open(cpu) else { return };
    let run = Run::here(cpu);
    let tokens = [1, 403, 407, 261, 378];
    let want = logits(&run, &want, &tokens, 5);
    for name in ["stories260K.bin", "stories260K_v1.bin", "stories260K-f32.gguf"] {
        let path = folder().unwrap().join(name);
        for how in [Access::Read, Access::Map] {
            if how == Access::Map && !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
                continue;
            }
            let opening = Opening { access: how, ..Opening::default() };
            let Model::Decoder(model) = Model::open_with(&path, cpu, opening).unwrap() else {
                panic!("{name}")
            };
            assert_same(&logits(&run, &model, &tokens, 5), &want, format!("{name}, {how:?}"));
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_split_of_a_prompt() {
    for cpu in cpus() {
        let Some(model) = open(cpu) else { return };
        let run = Run::here(cpu);
        let tokens = greedy(&run, &model, if slow() { 20 } else { 150 });
        let want = logits(&run, &model, &tokens, tokens.len());
        for step in [1, 2, 3, 7, 16, 64, 65] {
            assert_same(
                &logits(&run, &model, &tokens, step),
                &want,
                format!("{}, parts of {step}", cpu.tier()),
            );
        }
    }
}

#[test]
fn a_row_of_a_batch_has_the_bits_of_a_batch_of_one() {
    for cpu in cpus() {
        let Some(model) = open(cpu) else { return };
        let (run, vocab) = (Run::here(cpu), model.config().vocab);
        for n in [3, 8, 33, 64].into_iter().take(if slow() { 1 } else { 4 }) {
            let texts: Vec<Vec<u32>> =
                (0..n).map(|i| (0..1 + i % 9).map(|j| (3 + 7 * i + 11 * j) as u32 % 512).collect()).collect();
            let mut caches = vec![model.cache(8); n];
            let mut batch: Vec<_> =
                texts.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { tokens, cache }).collect();
            let mut out = vec![0.0; n * vocab];
            model.forward(&run, &mut batch, &mut out, &mut Workspace::new()).unwrap();
            for (text, out) in texts.iter().zip(out.chunks(vocab)) {
                let alone = logits(&run, &model, text, text.len());
                assert_same(out, &alone[alone.len() - vocab..], format!("{}, batch of {n}", cpu.tier()));
            }
        }
    }
}

#[test]
fn a_shortened_or_copied_cache_goes_on_as_if_nothing_had_been() {
    let Some(model) = open(cpus()[0]) else { return };
    let run = Run::here(cpus()[0]);
    let (mut workspace, mut out) = (Workspace::new(), vec![0.0; 512]);
    let mut go = |cache: &mut _, tokens: &[u32]| {
        model.forward(&run, &mut [Sequence { tokens, cache }], &mut out, &mut workspace).unwrap();
        out.clone()
    };
    let mut cache = model.cache(2);
    go(&mut cache, &[1, 403, 407]);
    let mut copy = cache.clone();
    let want = go(&mut cache, &[261]);
    assert_same(&go(&mut copy, &[261]), &want, "copied");
    go(&mut copy, &[5, 6, 7]);
    assert!(copy.truncate(3));
    assert_same(&go(&mut copy, &[261]), &want, "shortened");
    assert!(copy.truncate(3));
    let saved = copy.save();
    let mut restored = KvCache::restore(&saved).unwrap();
    assert_eq!(restored.save(), saved);
    assert_same(&go(&mut restored, &[261]), &want, "restored");
    for at in [0, 5, 9, 40, saved.len() / 2, saved.len() - 1] {
        let mut damaged = saved.clone();
        damaged[at] ^= 16;
        assert!(KvCache::restore(&damaged).is_err(), "byte {at} changed");
        assert!(KvCache::restore(&saved[..at]).is_err(), "cut off at {at}");
    }
    let other = KvCache::new(CacheType::F32, 1, 8, &[None; 5], 4);
    let error = model.forward(
        &run,
        &mut [Sequence { tokens: &[1], cache: &mut { other } }],
        &mut vec![0.0; 512],
        &mut Workspace::new(),
    );
    assert!(error.unwrap_err().to_string().contains("another model"));
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let Some(folder) = folder() else { return };
    let file = Gguf::open(folder.join("stories260K-f32.gguf"), samebits::io::bytes::Access::Read).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let load = |config: DecoderConfig| {
        let error = Decoder::load(Cpu::detect(), config.clone(), &GgufTensors::new(&file, &config));
        error.expect_err("another model").to_string()
    };
    let more = DecoderConfig { windows: vec![None; config.windows.len() + 1], ..config.clone() };
    assert!(load(more).contains("model.layers.5."), "the tensor that is not there");
    let fewer = DecoderConfig { windows: vec![None; config.windows.len() - 1], ..config.clone() };
    assert!(load(fewer).contains("is no part of this architecture"));
    let wider = DecoderConfig { hidden: config.hidden + 1, ..config };
    assert!(load(wider).contains("mlp.gate_proj.weight"), "the tensor of another shape");
}

#[test]
fn drafts_change_no_token_of_a_text_drawn_or_greedy() {
    let Some(model) = open(cpus()[0]) else { return };
    let run = Run::here(cpus().pop().unwrap());
    let drawn = Settings { temperature: 1.5, top_k: 0, ..Settings::default() };
    for sampler in [Sampler::greedy(), Sampler::new(&drawn, 5).unwrap()] {
        let write = |lookup: Option<PromptLookup>| {
            let generator = Generator::new(&model, sampler.clone(), 300);
            let mut generator = match lookup {
                Some(lookup) => generator.with_lookup(lookup),
                None => generator,
            };
            let mut all = Vec::new();
            for said in [&[1u32, 403, 407][..], &[9, 9]] {
                generator.feed::<samebits::Error>(&run, said, |_| Ok(())).unwrap();
                all.extend((0..if slow() { 9 } else { 120 }).map(|_| generator.next(&run).unwrap()));
            }
            assert_eq!(generator.tokens().len(), all.len() + 5);
            all
        };
        let want = write(None);
        for max_draft in [1, 4, 10] {
            assert_eq!(write(Some(PromptLookup { max_ngram: 2, max_draft })), want, "drafts of {max_draft}");
        }
    }
}

#[test]
fn one_beam_is_greedy_and_more_find_likelier_texts() {
    let Some(model) = open(cpus()[0]) else { return };
    let run = Run::here(cpus().pop().unwrap());
    let search = |beams| {
        let rules = BeamSearch { length_penalty: 0.0, ..BeamSearch::new(beams, 512, 12) };
        model.search(&run, &rules, &[BOS], CacheType::F32).unwrap()
    };
    let (one, four) = (search(1), search(4));
    assert_eq!(one[0].tokens, greedy(&run, &model, 12)[1..]);
    assert!(four.len() == 4 && four[0].score >= one[0].score);
    // The score is the sum of the losses, which the model gives for the text as a whole.
    let text: Vec<u32> = core::iter::once(BOS).chain(four[0].tokens.iter().copied()).collect();
    let losses = model.losses(&run, &text, CacheType::F32, &mut Workspace::new()).unwrap();
    let sum: f64 = losses.iter().map(|&x| f64::from(x)).sum();
    assert!((sum + four[0].score).abs() < 1e-4, "{sum} {}", four[0].score);
}
