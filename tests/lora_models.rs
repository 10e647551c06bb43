//! Adapters on tables, heads and projections that files keep fused, LoRA+, and batches of which each sequence has its
//! own adapter: what `tests/reference/lora_models.py` had from peft.

mod common;

use common::assert_same;
use samebits::io::json;
use samebits::io::safetensors::{Checkpoint, SafeTensors};
use samebits::kernels::Cpu;
use samebits::kernels::optim::AdamWOptions;
use samebits::model::{
    Decoder, DecoderConfig, Examples, Keep, KvCache, ModuleMut, Sequence, Site, Workspace,
};
use samebits::peft::config::{AdapterConfig, Dora};
use samebits::peft::{Adapter, LoraAdapters, LoraOptions, activate, adapt, attach, forward_mixed, stored};
use samebits::pool::Pool;
use samebits::random::Philox;
use samebits::run::Run;
use samebits::train::{Method, Plan, Schedule, Shape, Trainer};
use std::path::PathBuf;

const CASES: [&str; 10] = [
    "table",
    "tied_table",
    "tied_head",
    "phi3",
    "phi3_dora",
    "gpt2",
    "gpt2_dora",
    "patterns",
    "plus",
    "plus_dora",
];
const ENDS: [usize; 3] = [0, 23, 37];

fn plan(case: &str) -> Plan {
    let plus = case.starts_with("plus");
    Plan {
        method: Method::AdamW(AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 }),
        lr: if plus { 2e-3 } else { 1e-2 },
        schedule: Schedule { shape: Shape::Constant, warmup: 0, total: 20, floor: 0.0 },
        clip: None,
        label_smoothing: 0.0,
        keep: Keep::All,
        seed: 1,
        lora_plus: if plus { 16.0 } else { 1.0 },
    }
}

fn folder(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/lora_models").join(case)
}

/// The losses of a case and what it was computed from.
fn record(case: &str) -> Vec<u8> {
    std::fs::read(folder(case).join("losses.json")).unwrap()
}

fn base_of(case: &str) -> String {
    json::parse(&record(case)).unwrap().get("base").unwrap().as_str().unwrap().into_owned()
}

fn base(run: &Run<'_>, name: &str) -> Decoder {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name);
    let mut config = DecoderConfig::from_hf(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    config.length = config.length.min(128); // what selects LongRoPE's factors
    Decoder::load(run.cpu(), config, &Checkpoint::open(folder.join("model.safetensors")).unwrap()).unwrap()
}

/// The model of a case under its adapter.
fn adapted(run: &Run<'_>, case: &str) -> (Decoder, Adapter) {
    let mut model = base(run, &base_of(case));
    let adapter = Adapter::open(run.cpu(), folder(case)).unwrap();
    attach(run, &mut model, "it", &adapter).unwrap();
    activate(&mut model, &[("it", 1.0)]).unwrap();
    (model, adapter)
}

fn logits(run: &Run<'_>, model: &Decoder, ids: &[u32]) -> Vec<f32> {
    let mut out = vec![0.0; ids.len() * model.config().vocab];
    let mut cache = model.cache(ids.len());
    let mut batch = [Sequence { tokens: ids, cache: &mut cache }];
    model.forward_all(run, &mut batch, &mut out, &mut Workspace::new()).unwrap();
    out
}

/// Ids and a tensor of `expected.safetensors`.
fn expected(case: &str, name: &str) -> (Vec<u32>, Vec<f32>) {
    let file = SafeTensors::open(folder(case).join("expected.safetensors")).unwrap();
    let ids = file.load("ids").unwrap().to_vec::<i32>().into_iter().map(|id| id as u32).collect();
    (ids, file.load(name).unwrap().to_vec::<f32>())
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off = got.iter().zip(want).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(got.len() == want.len() && off <= 1e-5 * largest, "{what}: off by {off}, largest {largest}");
}

#[test]
fn logits_are_those_of_peft() {
    let run = Run::here(Cpu::detect());
    for case in CASES {
        let (model, _) = adapted(&run, case);
        let (ids, want) = expected(case, "logits");
        let got = logits(&run, &model, &ids);
        assert_close(&got, &want, case);
        let without = logits(&run, &base(&run, &base_of(case)), &ids);
        let largest = got.iter().zip(&without).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(largest > 0.1, "{case}: the adapter says something");
        // Token by token the same bits.
        let (mut cache, mut workspace) = (model.cache(ids.len()), Workspace::new());
        let vocab = model.config().vocab;
        for (i, token) in ids.iter().enumerate() {
            let mut one = vec![0.0; vocab];
            let mut batch = [Sequence { tokens: &[*token], cache: &mut cache }];
            model.forward(&run, &mut batch, &mut one, &mut workspace).unwrap();
            assert_same(&one, &got[i * vocab..][..vocab], format!("{case}, token {i}"));
        }
    }
}

/// Tokens and what follows each in its sequence.
fn targets(ids: &[u32], ends: &[usize]) -> Vec<i32> {
    let next = |i: usize| if ends.contains(&(i + 1)) { -100 } else { ids[i + 1] as i32 };
    (0..ids.len()).map(next).collect()
}

fn is_adapter(name: &str) -> bool {
    name.contains("lora_")
}

#[test]
fn the_loss_falls_as_peft_says() {
    let run = Run::here(Cpu::detect());
    for case in CASES {
        let text = record(case);
        let text = json::parse(&text).unwrap();
        let (model, adapter) = adapted(&run, case);
        let mut trainer = Trainer::new(model, plan(case), is_adapter).unwrap();
        let losses = text.get("losses").unwrap().elements().unwrap();
        for (i, (ids, want)) in text.get("ids").unwrap().elements().unwrap().zip(losses).enumerate() {
            let ids: Vec<u32> = ids.elements().unwrap().map(|id| id.as_usize().unwrap() as u32).collect();
            let examples = Examples { tokens: &ids, targets: &targets(&ids, &ENDS), ends: &ENDS };
            let loss = trainer.step(&run, &[examples]).unwrap().loss;
            let want = want.as_f64().unwrap();
            assert!((loss - want).abs() <= 1e-5 * want, "{case}, step {}: loss {loss}, peft {want}", i + 1);
        }
        // What was learned goes into a folder and, on a fresh base, gives the same bits.
        let mut learned = trainer.into_model();
        let saved = stored(&mut learned, "it", &adapter.config).unwrap();
        let out = std::env::temp_dir().join(format!("samebits-lora-models-{case}-{}", std::process::id()));
        saved.save(&out).unwrap();
        let opened = Adapter::open(run.cpu(), &out).unwrap();
        assert_eq!(opened, saved, "{case}");
        std::fs::remove_dir_all(&out).unwrap();
        let mut fresh = base(&run, &base_of(case));
        attach(&run, &mut fresh, "again", &opened).unwrap();
        activate(&mut fresh, &[("again", 1.0)]).unwrap();
        let (ids, _) = expected(case, "logits");
        assert_same(&logits(&run, &fresh, &ids), &logits(&run, &learned, &ids), case);
    }
}

/// All that is trained, after three steps over some thousand tokens.
fn train(run: &Run<'_>, case: &str, keep: Keep, micro: usize) -> Vec<f32> {
    let (model, _) = adapted(run, case);
    let mut trainer = Trainer::new(model, Plan { keep, ..plan(case) }, is_adapter).unwrap();
    for step in 0..3u32 {
        let ids: Vec<u32> = (0..640).map(|i: u32| (i * i * 5 + i * 7 + step * 13) % 53).collect();
        // Sequences of 128 tokens; two of them are a block of clause 1.
        let cut: Vec<(&[u32], Vec<i32>, Vec<usize>)> = ids
            .chunks(micro)
            .map(|ids| {
                let ends: Vec<usize> = (0..=ids.len()).step_by(128).collect();
                (ids, targets(ids, &ends), ends)
            })
            .collect();
        let batches: Vec<Examples<'_>> =
            cut.iter().map(|(tokens, targets, ends)| Examples { tokens, targets, ends }).collect();
        trainer.step(run, &batches).unwrap();
    }
    trainer.into_model().with_parameters(|all| {
        all.iter().filter(|p| is_adapter(&p.name)).flat_map(|p| p.values.to_vec()).collect()
    })
}

#[test]
fn threads_cuts_and_what_is_kept_change_no_bit() {
    let (cpu, pool) = (Cpu::detect(), Pool::new(3));
    for case in ["table", "tied_table", "tied_head", "phi3", "gpt2_dora"] {
        let want = train(&Run::here(cpu), case, Keep::All, 640);
        assert_same(&train(&Run::on(cpu, &pool), case, Keep::All, 640), &want, format!("{case}: 3 threads"));
        assert_same(&train(&Run::here(cpu), case, Keep::Inputs, 640), &want, format!("{case}: inputs kept"));
        assert_same(&train(&Run::here(cpu), case, Keep::All, 256), &want, format!("{case}: micro-batches"));
    }
}

#[test]
fn the_layers_of_a_module_share_one_a() {
    let run = Run::here(Cpu::detect());
    let mut model = base(&run, "phi3_short");
    let options = LoraOptions { rank: 2, dropout: 0.25, ..LoraOptions::default() };
    let config = AdapterConfig::lora(&options, Dora::Off, &["all-linear"], "phi3").unwrap();
    // Four modules a layer, of seven layers here; one A and one B each.
    assert_eq!(adapt(&run, &mut model, ("one", &config), Philox::new(4)).unwrap(), 8);
    let mut trainer = Trainer::new(model, plan("phi3"), is_adapter).unwrap();
    assert_eq!(trainer.trained(), 2 * 2 * (24 + 48 + 24 + 24 + 24 + 56 + 28 + 24));
    for _ in 0..2 {
        let ids: Vec<u32> = (0..37).map(|i| (i * i * 5 + i * 7) % 53).collect();
        let examples = Examples { tokens: &ids, targets: &targets(&ids, &ENDS), ends: &ENDS };
        trainer.step(&run, &[examples]).unwrap();
    }
    let mut model = trainer.into_model();
    let mut fused = 0;
    for ModuleMut { site, .. } in model.modules_mut() {
        let Site::Linear(layers) = site else { continue };
        let a_of = |layer: &mut samebits::nn::Linear| -> Option<Vec<f32>> {
            let adapters = layer.adapter.as_mut()?.as_any().downcast_mut::<LoraAdapters>()?;
            Some(adapters.get("one")?.a.clone())
        };
        let all: Vec<_> = layers.into_iter().filter_map(|(_, layer)| a_of(layer)).collect();
        fused += all.len().saturating_sub(1);
        assert!(all.iter().all(|a| *a == all[0]));
    }
    assert_eq!(fused, 2 * (2 + 1));
}

/// The logits of sequences alone: a prompt, then two more tokens one by one.
fn alone(run: &Run<'_>, model: &Decoder, (prompt, more): (&[u32], &[u32])) -> Vec<Vec<f32>> {
    let (mut cache, mut workspace) = (model.cache(64), Workspace::new());
    let mut tokens = vec![prompt];
    tokens.extend(more.chunks(1));
    let one = |tokens: &[u32]| {
        let mut out = vec![0.0; model.config().vocab];
        let mut batch = [Sequence { tokens, cache: &mut cache }];
        model.forward(run, &mut batch, &mut out, &mut workspace).unwrap();
        out
    };
    tokens.into_iter().map(one).collect()
}

#[test]
fn every_sequence_of_a_batch_has_its_own_adapter() {
    let (cpu, pool) = (Cpu::detect(), Pool::new(3));
    for run in [Run::here(cpu), Run::on(cpu, &pool)] {
        let kinds = [
            ("llama", ["plus", "plus_dora"]),
            ("llama_linear", ["table", "table"]),
            ("phi3_short", ["phi3", "phi3_dora"]),
        ];
        for (name, cases) in kinds {
            let mut model = base(&run, name);
            let plain = model.clone();
            let mut single = Vec::new();
            for (adapter, case) in ["a", "b"].into_iter().zip(cases) {
                let stored = Adapter::open(cpu, folder(case)).unwrap();
                attach(&run, &mut model, adapter, &stored).unwrap();
                let mut one = plain.clone();
                attach(&run, &mut one, "it", &stored).unwrap();
                activate(&mut one, &[("it", 1.0)]).unwrap();
                single.push(one);
            }
            let prompts: [&[u32]; 5] = [&[1, 5, 9], &[7], &[3, 3, 40, 22, 8], &[11, 2], &[50, 1, 0, 4]];
            let more = [17, 31];
            let names = [Some("a"), None, Some("b"), Some("a"), None];
            let model_of = |name: Option<&str>| match name {
                None => &plain,
                Some(name) => &single[usize::from(name == "b")],
            };
            let want: Vec<Vec<Vec<f32>>> = prompts
                .iter()
                .zip(names)
                .map(|(prompt, name)| alone(&run, model_of(name), (prompt, &more)))
                .collect();
            let vocab = model.config().vocab;
            let mut caches: Vec<KvCache> = prompts.iter().map(|_| model.cache(64)).collect();
            let mut workspace = Workspace::new();
            for step in 0..3 {
                let next = [more[step.max(1) - 1]];
                let mut batch: Vec<Sequence<'_>> = caches
                    .iter_mut()
                    .zip(prompts)
                    .map(|(cache, prompt)| Sequence { tokens: if step == 0 { prompt } else { &next }, cache })
                    .collect();
                let mut out = vec![0.0; 5 * vocab];
                forward_mixed(&run, &mut model, &names, &mut batch, &mut out, &mut workspace).unwrap();
                for (i, want) in want.iter().enumerate() {
                    assert_same(
                        &out[i * vocab..][..vocab],
                        &want[step],
                        format!("{name}: sequence {i}, step {step}"),
                    );
                }
            }
            // The choice was for those passes alone; and another adapter takes a name's place without more ado.
            let (ids, _) = expected(cases[0], "logits");
            assert_same(&logits(&run, &model, &ids), &logits(&run, &plain, &ids), "nothing is active");
            let other = Adapter::open(cpu, folder(cases[1])).unwrap();
            attach(&run, &mut model, "a", &other).unwrap();
            activate(&mut model, &[("a", 1.0)]).unwrap();
            assert_same(&logits(&run, &model, &ids), &logits(&run, &single[1], &ids), "swapped");
            let mut cache = model.cache(4);
            let mut batch = [Sequence { tokens: &[1], cache: &mut cache }];
            let mut out = vec![0.0; vocab];
            let error = forward_mixed(&run, &mut model, &[Some("c")], &mut batch, &mut out, &mut workspace);
            assert!(error.unwrap_err().to_string().contains("\"c\""));
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let run = Run::here(Cpu::detect());
    let mut model = base(&run, "llama_linear");
    let options = LoraOptions::default();
    let config = AdapterConfig::lora(&options, Dora::On, &["embed_tokens"], "llama").unwrap();
    let error = adapt(&run, &mut model, ("one", &config), Philox::new(1)).unwrap_err().to_string();
    assert!(error.contains("model.embed_tokens") && error.contains("DoRA"), "{error}");
    // A table that is not the model's: the adapter was made for another.
    let adapter = Adapter::open(run.cpu(), folder("table")).unwrap();
    assert_eq!(
        adapter.copies.keys().map(String::as_str).collect::<Vec<_>>(),
        ["lm_head", "model.embed_tokens"]
    );
    let error = attach(&run, &mut base(&run, "llama_yarn"), "it", &adapter).unwrap_err().to_string();
    assert!(error.contains("model.embed_tokens") && error.contains("made for another"), "{error}");
    for (name, case, module) in [("qwen2", "phi3", "gate_up_proj"), ("gpt2", "plus", "down_proj")] {
        let adapter = Adapter::open(run.cpu(), folder(case)).unwrap();
        let error = attach(&run, &mut base(&run, name), "it", &adapter).unwrap_err().to_string();
        assert!(error.contains(module), "{error}");
    }
}
