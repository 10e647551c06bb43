//! `samebits train` as its users meet it: the same weights for any number of threads, after a stop, and for a longer
//! training; the folder that comes out; complaints. tests/reference/check_train.py loads such a folder in transformers.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::io::safetensors::{Dtype, TensorView, write};
use samebits::io::tokenizer::{EncodeOptions, Tokenizer};
use samebits::model::{Decoder, Generator, Opening, Sampler, Sequence, Workspace};
use samebits::run::Run;
use samebits::train::data::Example;
use samebits::train::exact_matches;
use std::path::Path;

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 72,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "initializer_range": 0.05}"#;

/// Forty little texts.
fn text() -> String {
    let names = ["Tom", "Lily", "Ben", "Mia", "Sam"];
    let things = ["ball", "hat", "cup", "kite", "drum", "book", "shoe", "bell"];
    let one = |i: usize| {
        let (a, b, x) = (names[i % 5], names[(i + 1 + i % 4) % 5], things[i % 8]);
        format!("{a} had a {x}. {a} gave the {x} to {b}. Now {b} has the {x}.\n<|endoftext|>\n")
    };
    (0..40).map(one).collect()
}

/// A folder with a configuration and a text.
struct Room {
    folder: Folder,
    config: String,
    data: String,
}

impl Room {
    fn new(test: &str) -> Room {
        let folder = Folder::new(test);
        std::fs::write(folder.path("small.json"), CONFIG).unwrap();
        std::fs::write(folder.path("text.txt"), text()).unwrap();
        let path = |name: &str| folder.path(name).to_str().unwrap().to_string();
        let (config, data) = (path("small.json"), path("text.txt"));
        Room { folder, config, data }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path(name).to_str().unwrap().into()
    }

    /// `train` with these flags, to the folder `to`.
    fn train(&self, to: &str, more: &[&str]) -> std::process::Output {
        let to = self.path(to);
        let mut all = vec!["train", "--config", &self.config, "--data", &self.data, "--out", &to];
        if !more.contains(&"--seq-len") {
            all.extend(["--seq-len", "24", "--batch", "4"]);
        }
        all.extend(["--lr", "0.01"]);
        all.extend(more);
        run(all)
    }

    fn trained(&self, to: &str, more: &[&str]) -> Vec<u8> {
        let done = self.train(to, more);
        assert!(done.status.success(), "{done:?}");
        std::fs::read(self.folder.path(to).join("model.safetensors")).unwrap()
    }
}

#[test]
fn the_same_weights_on_any_number_of_threads_and_from_micro_batches_and_activations_computed_again() {
    let room = Room::new("train-bits");
    let steps = ["--steps", "12"];
    let want = room.trained("one", &[&steps[..], &["--threads", "1"]].concat());
    for threads in ["2", "3"] {
        let got = room.trained(threads, &[&steps[..], &["--threads", threads]].concat());
        assert!(got == want, "{threads} threads");
    }
    let wide = ["--steps", "4", "--seq-len", "32", "--batch", "16"];
    let whole = room.trained("whole", &wide);
    // 8 windows of 32 tokens are a block of 256 rows.
    assert!(room.trained("micro", &[&wide[..], &["--micro", "8"]].concat()) == whole, "micro-batches");
    assert!(room.trained("less", &[&steps[..], &["--recompute"]].concat()) == want, "activations again");
    assert!(room.trained("seed", &[&steps[..], &["--seed", "1"]].concat()) != want, "another seed");
}

#[test]
fn a_stop_changes_nothing_and_a_training_can_be_prolonged() {
    let room = Room::new("train-resume");
    let at = room.path("checkpoint");
    let wsd = |steps: &'static str, decay: &'static str| {
        ["--schedule", "wsd", "--warmup", "3", "--steps", steps, "--decay", decay]
    };
    let whole = room.trained("whole", &wsd("20", "6"));
    let kept = ["--checkpoint", &at, "--every", "5"];
    room.trained("first", &[&wsd("10", "0")[..], &kept].concat());
    let rest = room.trained("rest", &[&wsd("20", "6")[..], &kept, &["--resume"]].concat());
    assert!(rest == whole, "10 + 10 steps are 20");
    let other =
        room.train("other", &[&wsd("20", "6")[..], &kept, &["--resume", "--weight-decay", "0.2"]].concat());
    assert_fails(&other, 1, "another plan");
}

#[test]
fn what_comes_out_is_a_model_that_has_learned() {
    let room = Room::new("train-out");
    let (svg, metrics) = (room.path("loss.svg"), room.path("metrics.jsonl"));
    let more = [
        "--epochs",
        "12",
        "--held-out",
        "10",
        "--judge-every",
        "20",
        "--loss-svg",
        &svg,
        "--metrics",
        &metrics,
    ];
    let done = room.train("model", &more);
    assert!(done.status.success(), "{done:?}");
    let said = out(&done);
    for part in ["parameters trained (100.00 %)", "held out: loss", "bits a byte", "the model, weights "] {
        assert!(said.contains(part), "{said}");
    }
    let lines = std::fs::read_to_string(&metrics).unwrap();
    assert!(lines.lines().count() > 20 && lines.contains("\"held_out\""), "{lines}");
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && picture.contains("held out"));
    let mut names: Vec<_> =
        std::fs::read_dir(room.path("model")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let tokenizer = ["tokenizer.json", "tokenizer_config.json"];
    assert_eq!(
        names,
        [&["config.json", "generation_config.json", "model.safetensors"][..], &tokenizer].concat()
    );

    let ask = ["generate", "--model", &room.path("model"), "--prompt", "Tom had a ball. Tom gave the"];
    let text = run(ask.iter().chain(&["--temperature", "0", "--max-tokens", "6"]));
    assert!(out(&text).trim_start().starts_with("ball to"), "{text:?}");

    // The vocabulary of another model.
    let again = room.train("again", &["--steps", "1", "--tokenizer", &room.path("model")]);
    assert!(again.status.success(), "{again:?}");
    for name in tokenizer {
        let file = |of: &str| std::fs::read_to_string(room.folder.path(of).join(name)).unwrap();
        assert!(file("again") == file("model"), "{name}");
    }
    let config = std::fs::read_to_string(room.folder.path("model").join("tokenizer_config.json")).unwrap();
    for part in
        ["PreTrainedTokenizerFast", r#""bos_token": "<|endoftext|>""#, r#""eos_token": "<|endoftext|>""#]
    {
        assert!(config.contains(part), "{config}");
    }
}

#[test]
fn bad_input_is_one_line() {
    let room = Room::new("train-errors");
    assert_fails(&run(["train", "--config", &room.config, "--data", &room.data]), 2, "--out is needed");
    assert_fails(&room.train("a", &["--schedule", "step"]), 2, "cosine, wsd, linear or constant");
    assert_fails(&room.train("a", &["--betas", "0.9"]), 2, "--betas");
    assert_fails(&room.train("a", &["--steps", "2", "--epochs", "2"]), 2, "exclude each other");
    assert_fails(&room.train("a", &["--resume"]), 2, "--checkpoint");
    assert_fails(&room.train("a", &["--held-out", "100"]), 2, "--held-out");
    assert_fails(&room.train("a", &["--tokenizer", &room.path("none.json")]), 1, "none.json");
    std::fs::write(room.folder.path("short.txt"), "Tom had a ball.").unwrap();
    let short = room.path("short.txt");
    let small = run(["train", "--config", &room.config, "--data", &short, "--out", &room.path("a")]);
    assert_fails(&small, 1, "too short");
    std::fs::write(room.folder.path("bad.json"), CONFIG.replace("300", "200")).unwrap();
    let all = ["--data", &room.data, "--out", &room.path("b")];
    let with = |config: &str| run(["train", "--config", config].iter().chain(&all));
    assert_fails(&with(&room.path("bad.json")), 1, "a vocabulary of 200");
    std::fs::write(room.folder.path("bad.json"), CONFIG.replace("0.05", "-1")).unwrap();
    assert_fails(&with(&room.path("bad.json")), 1, "initializer_range");
    std::fs::write(room.folder.path("bad.json"), "{\"model_type\": \"bert\"}").unwrap();
    assert_fails(&with(&room.path("bad.json")), 1, "encoder");
    assert!(!Path::new(&room.path("b")).exists(), "nothing was written");
    std::fs::create_dir(room.path("there")).unwrap();
    assert_fails(&room.train("there", &[]), 1, "it exists already");
}

/// What is counted as an exact answer is what greedy decoding writes, with all of it right and not less.
#[test]
fn an_exact_answer_is_what_greedy_decoding_writes() {
    let cpu = samebits::Cpu::detect();
    let run = Run::here(cpu);
    let path = format!("{}/tests/data/models/llama", env!("CARGO_MANIFEST_DIR"));
    let model = Decoder::open_with(path, cpu, Opening::default()).unwrap();
    let mut examples = Vec::new();
    for i in 0..11 {
        let prompt: Vec<u32> = (0..2 + i % 3).map(|j| 3 + (7 * i + j) % 50).collect();
        let mut generator = Generator::new(&model, Sampler::greedy(), 64);
        generator.feed(&run, &prompt, |_| Ok::<(), samebits::Error>(())).unwrap();
        let mut answer: Vec<u32> = (0..4).map(|_| generator.next(&run).unwrap()).collect();
        // Every third answer has one wrong token, at another place each time.
        if i % 3 == 0 {
            let at = i as usize / 3 % 4;
            answer[at] = (answer[at] + 1) % 53;
        }
        examples.push(Example::answer(&prompt, &answer, 64).unwrap());
    }
    let exact = |of: &[Example]| exact_matches(&run, &model, of, &mut Workspace::new()).unwrap();
    assert_eq!(exact(&examples), 7);
    for (i, example) in examples.iter().enumerate() {
        assert_eq!(exact(std::slice::from_ref(example)), usize::from(i % 3 != 0), "{i}");
    }
}

/// For tests/reference/check_train.py: a trained folder, and what it says to a text, in `SAMEBITS_TRAIN_OUT`.
#[test]
fn written_for_transformers() {
    let Ok(to) = std::env::var("SAMEBITS_TRAIN_OUT") else {
        println!("SKIPPED: SAMEBITS_TRAIN_OUT says where to");
        return;
    };
    let room = Room::new("train-transformers");
    room.trained("model", &["--epochs", "4"]);
    std::fs::rename(room.path("model"), &to).unwrap();
    let cpu = samebits::Cpu::detect();
    let model = Decoder::open_with(&to, cpu, Opening::default()).unwrap();
    let tokenizer = Tokenizer::open(&to).unwrap();
    let tokens = tokenizer.encode("Tom had a ball. Sam has it now.", &EncodeOptions::default()).unwrap().ids;
    let mut logits = vec![0.0; tokens.len() * 300];
    let mut cache = model.cache(tokens.len());
    let mut batch = [Sequence { tokens: &tokens, cache: &mut cache }];
    model.forward_all(&Run::here(cpu), &mut batch, &mut logits, &mut Workspace::new()).unwrap();
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let ids: Vec<u8> = tokens.iter().flat_map(|&t| i64::from(t).to_le_bytes()).collect();
    let shape = [tokens.len(), 300];
    let views = [
        TensorView { name: "logits", dtype: Dtype::F32, shape: &shape, bytes: &bytes },
        TensorView { name: "tokens", dtype: Dtype::I64, shape: &shape[..1], bytes: &ids },
    ];
    write(&Path::new(&to).join("logits.safetensors"), &views, &[]).unwrap();
}
