//! Caches of bf16 and int8: what a split, a batch, threads, a tier, a copy, a file or a window may not change, and
//! how far their logits are from those of f32.

use crate::common::{assert_same, cpus, slow};
use crate::reference::{Expected, decoder};
use crate::stories;
use samebits::kernels::reduce::argmax;
use samebits::model::{CacheType, Decoder, Generator, KvCache, PromptLookup, Sampler, Sequence, Workspace};
use samebits::pool::Pool;
use samebits::run::Run;

const STORED: [CacheType; 2] = [CacheType::Bf16, CacheType::Int8];

/// Logits after each of `tokens`, given in parts of `step` to `cache`.
fn go_on(run: &Run<'_>, model: &Decoder, cache: &mut KvCache, tokens: &[u32], step: usize) -> Vec<f32> {
    let (mut workspace, mut all) = (Workspace::new(), Vec::new());
    for tokens in tokens.chunks(step) {
        let mut out = vec![0.0; tokens.len() * model.config().vocab];
        let mut batch = [Sequence { tokens, cache }];
        model.forward_all(run, &mut batch, &mut out, &mut workspace).expect("sound tokens");
        all.extend(out);
    }
    all
}

fn logits(run: &Run<'_>, model: &Decoder, kind: CacheType, tokens: &[u32], step: usize) -> Vec<f32> {
    go_on(run, model, &mut model.cache_of(kind, 1), tokens, step)
}

fn drawn(model: &Decoder, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i + 3 * i) as u32 % model.config().vocab as u32).collect()
}

#[test]
fn no_split_thread_or_tier_changes_a_bit() {
    for kind in STORED {
        for name in ["llama", "qwen3", "gemma2", "phi3_short", "gpt2"] {
            let first = Run::here(cpus()[0]);
            let (model, ids) = (decoder(name, &first), Expected::of(name).ids("ids"));
            let want = logits(&first, &model, kind, &ids, ids.len());
            assert_ne!(want, logits(&first, &model, CacheType::F32, &ids, ids.len()), "{name}: it rounds");
            for cpu in cpus() {
                let model = decoder(name, &Run::here(cpu));
                for threads in [1, 2, 3, 7] {
                    let pool = Pool::new(threads);
                    for step in [1, 5, ids.len()] {
                        let got = logits(&Run::on(cpu, &pool), &model, kind, &ids, step);
                        let what = format!("{name}, {kind:?}, parts of {step}, {threads} threads");
                        assert_same(&got, &want, format!("{what}, {}", cpu.tier()));
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_of_a_batch_has_the_bits_of_a_batch_of_one() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        let model = decoder("llama", &run);
        let vocab = model.config().vocab;
        for n in [3, 8, 33, 64].into_iter().take(if slow() { 1 } else { 4 }) {
            let texts: Vec<Vec<u32>> = (0..n).map(|i| drawn(&model, 70)[i..i + 1 + i % 6].to_vec()).collect();
            // All types side by side in one batch.
            let kind = |i: usize| CacheType::ALL[i % 3];
            let mut caches: Vec<_> = (0..n).map(|i| model.cache_of(kind(i), 2)).collect();
            let mut batch: Vec<_> =
                texts.iter().zip(&mut caches).map(|(tokens, cache)| Sequence { tokens, cache }).collect();
            let mut out = vec![0.0; n * vocab];
            model.forward(&run, &mut batch, &mut out, &mut Workspace::new()).unwrap();
            for (i, (text, out)) in texts.iter().zip(out.chunks(vocab)).enumerate() {
                let alone = logits(&run, &model, kind(i), text, text.len());
                assert_same(out, &alone[alone.len() - vocab..], format!("{}, batch of {n}", cpu.tier()));
            }
        }
    }
}

/// A window drops keys in blocks of 64 from the cache; what is left moves in each type as its rows lie.
#[test]
fn a_windowed_cache_that_drops_keys_gives_the_bits_of_one_that_keeps_them() {
    let run = Run::here(cpus().pop().unwrap());
    for (kind, row) in [(CacheType::Bf16, 2 * 6), (CacheType::Int8, 6 + 4)] {
        for name in ["mistral", "gemma2"] {
            let model = decoder(name, &run);
            let (tokens, vocab) = (drawn(&model, 400), model.config().vocab);
            let whole = go_on(&run, &model, &mut model.cache_of(kind, 400), &tokens, 400);
            let mut cache = model.cache_of(kind, 400);
            let got = go_on(&run, &model, &mut cache, &tokens, 1);
            assert_same(&got, &whole, format!("{name}, {kind:?}"));
            if name == "mistral" {
                let all = 2 * 2 * 400 * 2 * row; // K and V, layers, tokens, heads, bytes of a row
                assert!(cache.bytes() < all, "{} of {all} bytes: the window drops keys", cache.bytes());
                assert!(!cache.truncate(100), "keys that position 100 sees are gone");
            }
            let mut restored = KvCache::restore(&cache.save()).unwrap();
            assert!(cache.truncate(399) && restored.truncate(399), "the last token may go");
            let last = &whole[399 * vocab..];
            assert_same(&go_on(&run, &model, &mut cache, &tokens[399..], 1), last, "shortened");
            assert_same(&go_on(&run, &model, &mut restored, &tokens[399..], 1), last, "restored");
        }
    }
}

#[test]
fn a_shortened_copied_or_restored_cache_goes_on_as_if_nothing_had_been() {
    let run = Run::here(cpus().pop().unwrap());
    let model = decoder("llama", &run);
    let tokens = drawn(&model, 90);
    for kind in CacheType::ALL {
        let mut cache = model.cache_of(kind, 3);
        go_on(&run, &model, &mut cache, &tokens[..70], 70);
        let (mut copy, saved) = (cache.clone(), cache.save());
        let want = go_on(&run, &model, &mut cache, &tokens[70..], 20);
        assert_same(&go_on(&run, &model, &mut copy, &tokens[70..], 1), &want, format!("{kind:?}, copied"));
        go_on(&run, &model, &mut copy, &tokens[5..9], 4);
        assert!(copy.truncate(70));
        assert_eq!(copy.save(), saved, "{kind:?}: what is left is what was there");
        assert_same(&go_on(&run, &model, &mut copy, &tokens[70..], 7), &want, format!("{kind:?}, shortened"));
        let mut restored = KvCache::restore(&saved).unwrap();
        assert_eq!((restored.kind(), restored.save()), (kind, saved.clone()));
        let got = go_on(&run, &model, &mut restored, &tokens[70..], 3);
        assert_same(&got, &want, format!("{kind:?}, restored"));
        for at in (0..saved.len()).step_by(saved.len() / 61) {
            let mut damaged = saved.clone();
            damaged[at] ^= 16;
            assert!(KvCache::restore(&damaged).is_err(), "{kind:?}: byte {at} changed");
            assert!(KvCache::restore(&saved[..at]).is_err(), "{kind:?}: cut off at {at}");
        }
    }
}

/// The checksum of a saved cache.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 8);
    let hash = bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325u64, |hash, word| {
        let mut eight = [0; 8];
        eight[..word.len()].copy_from_slice(word);
        (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    bytes.extend(hash.to_le_bytes());
    bytes
}

#[test]
fn a_file_that_says_another_type_or_version_is_refused_by_name() {
    let run = Run::here(cpus()[0]);
    let model = decoder("llama", &run);
    let mut cache = model.cache_of(CacheType::Int8, 1);
    go_on(&run, &model, &mut cache, &[1, 2, 3], 3);
    let saved = cache.save();
    assert_eq!(seal(saved.clone()), saved);
    let refused = |at: usize, byte: u8| {
        let mut other = saved.clone();
        other[at] = byte;
        KvCache::restore(&seal(other)).expect_err("another file").to_string()
    };
    let types = "a cache of type 7; f32 (0), bf16 (1), int8 (2) are known";
    assert!(refused(8, 7).contains(types), "{}", refused(8, 7));
    // Codes of a byte are no floats and no halves: with other sizes, what follows is no layer or ends too early.
    for kind in [0, 1] {
        assert!(refused(8, kind).contains("a layer"), "{}", refused(8, kind));
    }
    assert!(refused(4, 1).contains("a cache of version 1, 3 is known"), "{}", refused(4, 1));
    // A header that promises more than any memory has.
    assert!(refused(8 + 4 * 8 + 7, 0x7f).contains("middle of a layer"));
}

#[test]
fn drafts_change_no_token() {
    let run = Run::here(cpus().pop().unwrap());
    let model = decoder("llama", &run);
    for kind in STORED {
        let write = |lookup: Option<PromptLookup>| {
            let generator = Generator::new(&model, Sampler::greedy(), 120).with_cache(kind);
            let mut generator = match lookup {
                Some(lookup) => generator.with_lookup(lookup),
                None => generator,
            };
            generator.feed::<samebits::Error>(&run, &[1, 2, 3], |_| Ok(())).unwrap();
            assert_eq!(generator.cache().kind(), kind);
            (0..100).map(|_| generator.next(&run).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(write(Some(PromptLookup::default())), write(None), "{kind:?}");
    }
}

#[test]
fn memory_falls_with_the_type() {
    let bytes = |kind| KvCache::new(kind, 8, 128, &[None; 3], 1000).bytes();
    let rows = 2 * 3 * 8 * 1000;
    assert_eq!(CacheType::ALL.map(bytes), [rows * 512, rows * 256, rows * 132]);
}

/// The README's table: the largest difference of a logit from f32's, and perplexities. `--nocapture` prints it.
#[test]
fn how_far_the_logits_are_from_those_of_f32() {
    let run = Run::here(cpus().pop().unwrap());
    let tiny = ["llama", "qwen3", "gemma2", "mistral", "gpt2"];
    let mut models: Vec<_> =
        tiny.map(|name| (name, decoder(name, &run), Expected::of(name).ids("ids"))).into();
    if let Some(model) = stories::open(run.cpu()) {
        let mut tokens = vec![1];
        let mut cache = model.cache(200);
        while tokens.len() < 200 {
            let last = tokens.len() - 1;
            let out = go_on(&run, &model, &mut cache, &tokens[last..], 1);
            tokens.push(argmax(run.cpu(), &out).unwrap() as u32);
        }
        models.push(("stories260K", model, tokens));
    }
    for (name, model, tokens) in &models {
        let all = |kind| logits(&run, model, kind, tokens, tokens.len());
        let perplexity = |kind| {
            let losses = model.losses(&run, tokens, kind, &mut Workspace::new()).unwrap();
            (losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64).exp()
        };
        let (want, exact) = (all(CacheType::F32), perplexity(CacheType::F32));
        let size = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        println!("{name}: {} tokens, logits to {size:.2}, perplexity f32 {exact:.4}", tokens.len());
        for (kind, far, worse) in [(CacheType::Bf16, 0.02, 0.003), (CacheType::Int8, 0.06, 0.01)] {
            let difference = all(kind).iter().zip(&want).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            let other = perplexity(kind);
            println!("  {}: largest difference {difference:.5}, perplexity {other:.4}", kind.name());
            assert!(difference > 0.0 && difference <= far * size, "{name}, {kind:?}: {difference} of {size}");
            assert!((other / exact - 1.0).abs() <= worse, "{name}, {kind:?}: {other} for {exact}");
        }
    }
}
