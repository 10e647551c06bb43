//! Whole models in bf16 and int8, and with attention in bf16: what a split, a batch, threads or a tier may not change, and what is refused.

use crate::common::{assert_same, cpus, slow};
use crate::reference::{Expected, decoder, folder};
use crate::stories;
use samebits::kernels::attention::Products;
use samebits::kernels::optim::AdamWOptions;
use samebits::model::{CacheType, Decoder, Keep, Opening, SentenceEncoder, Sequence, Workspace};
use samebits::nn::{Arithmetic, Compute};
use samebits::pool::Pool;
use samebits::run::Run;
use samebits::train::{Method, Plan, Schedule, Shape, Trainer};

const ATTENTION: Arithmetic = Arithmetic { attention: Products::Bf16, ..Arithmetic::F32 };

const CLASSES: [Arithmetic; 4] = [
    Arithmetic { compute: Compute::Bf16, ..Arithmetic::F32 },
    Arithmetic { compute: Compute::Int8, ..Arithmetic::F32 },
    ATTENTION,
    Arithmetic::BF16,
];

fn model(name: &str, run: &Run<'_>, class: Arithmetic) -> Decoder {
    let mut model = decoder(name, run);
    model.set_arithmetic(run.cpu(), class).unwrap();
    assert_eq!(model.arithmetic(), class);
    model
}

/// Logits after each of `tokens`, given in parts of `step`.
fn logits(run: &Run<'_>, model: &Decoder, tokens: &[u32], step: usize) -> Vec<f32> {
    logits_over(run, model, CacheType::F32, tokens, step)
}

/// The same over a cache of some type.
fn logits_over(run: &Run<'_>, model: &Decoder, kind: CacheType, tokens: &[u32], step: usize) -> Vec<f32> {
    let (mut cache, mut workspace, mut all) = (model.cache_of(kind, 1), Workspace::new(), Vec::new());
    for tokens in tokens.chunks(step) {
        let mut out = vec![0.0; tokens.len() * model.config().vocab];
        let mut batch = [Sequence { tokens, cache: &mut cache }];
        model.forward_all(run, &mut batch, &mut out, &mut workspace).unwrap();
        all.extend(out);
    }
    all
}

#[test]
fn no_split_thread_or_tier_changes_a_bit() {
    let names = ["llama", "qwen3", "gemma2", "phi3_short", "gpt2"];
    for class in CLASSES {
        for name in names.into_iter().take(if slow() { 2 } else { 5 }) {
            let first = Run::here(cpus()[0]);
            let (of_first, ids) = (model(name, &first, class), Expected::of(name).ids("ids"));
            let want = logits(&first, &of_first, &ids, ids.len());
            let exact = logits(&first, &decoder(name, &first), &ids, ids.len());
            let far = want.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(far > 0.0 && far < 0.5, "{name} in {class:?}: {far} from f32");
            for cpu in cpus() {
                let model = model(name, &Run::here(cpu), class);
                for threads in [1, 2, 3, 7] {
                    let pool = Pool::new(threads);
                    for step in [1, 5, ids.len()] {
                        let got = logits(&Run::on(cpu, &pool), &model, &ids, step);
                        let what = format!("{name} in {class:?}, parts of {step}, {threads} threads");
                        assert_same(&got, &want, format!("{what}, {}", cpu.tier()));
                    }
                }
            }
        }
    }
}

/// More than a block of keys, in whatever form a cache keeps them: read by the way of many rows and of few.
#[test]
fn attention_in_bf16_reads_every_cache() {
    let names = ["llama", "gemma2", "mistral", "gpt2"];
    for name in names.into_iter().take(if slow() { 1 } else { 4 }) {
        let first = Run::here(cpus()[0]);
        let of_first = model(name, &first, ATTENTION);
        let tokens: Vec<u32> = (0..75).map(|i| (i * i + 3 * i) % of_first.config().vocab as u32).collect();
        let want = CacheType::ALL.map(|kind| logits_over(&first, &of_first, kind, &tokens, tokens.len()));
        let exact = decoder(name, &first);
        for (kind, want) in CacheType::ALL.into_iter().zip(&want) {
            let exact = logits_over(&first, &exact, kind, &tokens, tokens.len());
            let far = want.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(far > 0.0 && far < 0.5, "{name} over {kind:?}: {far} from attention in f32");
            for cpu in cpus() {
                let model = model(name, &Run::here(cpu), ATTENTION);
                for (threads, step) in [(1, 1), (2, 3), (3, 66)] {
                    let got = logits_over(&Run::on(cpu, &Pool::new(threads)), &model, kind, &tokens, step);
                    let what = format!("{name} over {kind:?}, parts of {step}, {threads} threads");
                    assert_same(&got, want, format!("{what}, {}", cpu.tier()));
                }
            }
        }
        // What is rounded twice was rounded once, so that a cache of half the size costs nothing.
        assert_same(&want[1], &want[0], format!("{name}: a cache of bf16 beside one of f32"));
        assert!(want[2] != want[0], "{name}: codes of eight bits are another rounding");
    }
}

/// No weight and no cache is made for it: it may change at any time, and back.
#[test]
fn attention_changes_at_any_time() {
    let run = Run::here(cpus()[0]);
    let (exact, ids) = (decoder("llama", &run), Expected::of("llama").ids("ids"));
    let mut model = model("llama", &run, ATTENTION);
    let rounded = logits(&run, &model, &ids, ids.len());
    model.set_attention(Products::F32);
    assert_same(&logits(&run, &model, &ids, 2), &logits(&run, &exact, &ids, ids.len()), "f32 again");
    model.set_attention(Products::Bf16);
    assert_same(&logits(&run, &model, &ids, 2), &rounded, "bf16 again");
}

#[test]
fn a_row_of_a_batch_has_the_bits_of_a_batch_of_one() {
    for cpu in cpus() {
        let run = Run::here(cpu);
        for class in CLASSES {
            let model = model("llama", &run, class);
            let vocab = model.config().vocab;
            let drawn: Vec<u32> = (0..70).map(|i| (i * i + 3 * i) % vocab as u32).collect();
            for n in if slow() { vec![3] } else { vec![3, 8, 33] } {
                let texts: Vec<&[u32]> = (0..n).map(|i| &drawn[i..i + 1 + i % 6]).collect();
                let mut caches: Vec<_> = (0..n).map(|_| model.cache(2)).collect();
                let both = texts.iter().zip(&mut caches);
                let mut batch: Vec<_> = both.map(|(tokens, cache)| Sequence { tokens, cache }).collect();
                let mut out = vec![0.0; n * vocab];
                model.forward(&run, &mut batch, &mut out, &mut Workspace::new()).unwrap();
                for (text, out) in texts.iter().zip(out.chunks(vocab)) {
                    let alone = logits(&run, &model, text, text.len());
                    let what = format!("{class:?}, batch of {n}, {}", cpu.tier());
                    assert_same(out, &alone[alone.len() - vocab..], what);
                }
            }
        }
    }
}

#[test]
fn a_text_has_one_vector_in_any_company() {
    let texts: [&[u32]; 3] = [&[5, 9, 17, 3], &[7], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]];
    let mut before: Vec<Vec<f32>> = Vec::new();
    for arithmetic in CLASSES {
        let vectors = |run: &Run<'_>, texts: &[&[u32]]| {
            let opening = Opening { arithmetic, ..Opening::default() };
            let model = SentenceEncoder::open_with(folder("bert"), run.cpu(), opening).unwrap();
            assert_eq!(model.encoder.arithmetic(), arithmetic);
            let mut out = vec![0.0; texts.len() * model.encoder.config().dim];
            model.embed(run, texts, &mut out, &mut Workspace::new()).unwrap();
            out
        };
        let want = vectors(&Run::here(cpus()[0]), &texts);
        for cpu in cpus() {
            let pool = Pool::new(2);
            assert_same(
                &vectors(&Run::on(cpu, &pool), &texts),
                &want,
                format!("{arithmetic:?}, two threads"),
            );
            let alone: Vec<f32> = texts.iter().flat_map(|text| vectors(&Run::here(cpu), &[text])).collect();
            assert_same(&alone, &want, format!("{arithmetic:?}, each alone, {}", cpu.tier()));
        }
        assert!(before.iter().all(|other| *other != want), "{arithmetic:?} has bits of its own");
        before.push(want);
    }
}

/// Of each class: how far a logit may be from f32's, of the largest; and a perplexity, of f32's.
const LIMITS: [(f32, f64); 4] = [(0.03, 0.02), (0.1, 0.03), (0.03, 0.02), (0.03, 0.02)];

/// The README's table: the largest difference of a logit from f32's, and perplexities; of `SAMEBITS_LLAMA`'s model too,
/// where that is set. `--nocapture` prints it.
#[test]
fn how_far_the_logits_are_from_those_of_f32() {
    let run = Run::here(cpus().pop().unwrap());
    let tiny = ["llama", "qwen3", "gemma2", "mistral", "gpt2"];
    let mut models: Vec<_> =
        tiny.map(|name| (name, decoder(name, &run), Expected::of(name).ids("ids"))).into();
    if let Some(model) = stories::open(run.cpu()) {
        let tokens = stories::greedy(&run, &model, 199);
        models.push(("stories260K", model, tokens));
    }
    if let Some(path) = std::env::var_os("SAMEBITS_LLAMA") {
        let model = Decoder::open_with(path, run.cpu(), Opening::default()).unwrap();
        let vocab = model.config().vocab as u32;
        models.push(("SAMEBITS_LLAMA", model, (0..64).map(|i| (i * i * 31 + 7 * i) % vocab).collect()));
    }
    for (name, model, tokens) in models {
        let all = |model: &Decoder| logits(&run, model, &tokens, tokens.len());
        let perplexity = |model: &Decoder| {
            let losses = model.losses(&run, &tokens, CacheType::F32, &mut Workspace::new()).unwrap();
            (losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64).exp()
        };
        let (want, exact) = (all(&model), perplexity(&model));
        let size = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        println!("{name}: {} tokens, logits to {size:.2}, perplexity f32 {exact:.4}", tokens.len());
        for (class, (far, worse)) in CLASSES.into_iter().zip(LIMITS) {
            let mut model = model.clone();
            model.set_arithmetic(run.cpu(), class).unwrap();
            let difference = all(&model).iter().zip(&want).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            let other = perplexity(&model);
            println!("  {:?}: largest difference {difference:.5}, perplexity {other:.4}", class.named());
            assert!(
                difference > 0.0 && difference <= far * size,
                "{name}, {class:?}: {difference} of {size}"
            );
            assert!((other / exact - 1.0).abs() <= worse, "{name}, {class:?}: {other} for {exact}");
        }
    }
}

#[test]
fn a_model_whose_products_have_no_gradients_does_not_learn() {
    let run = Run::here(cpus()[0]);
    let plan = Plan {
        method: Method::AdamW(AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }),
        lr: 0.1,
        schedule: Schedule { shape: Shape::Constant, warmup: 0, total: 1, floor: 0.0 },
        clip: None,
        label_smoothing: 0.0,
        keep: Keep::All,
        seed: 0,
        lora_plus: 1.0,
    };
    let refused = |class| {
        let model = model("llama", &run, class);
        Trainer::new(model, plan, |_| true).unwrap_err().to_string()
    };
    let what = "products in int8 have no gradients: a model learns in f32 or bf16";
    assert_eq!(refused(Compute::Int8.into()), what);
    let what = "attention in bf16 has no gradients: a model learns with it in f32";
    assert_eq!(refused(ATTENTION), what);
}
