//! `samebits quantize` on whole models: a folder in NF4 that opens, generates and computes what its decoded weights
//! do; a GGUF file in Q8_0.

mod common;

use common::program::{Folder, assert_fails, out, run};
use common::{assert_same, cpus};
use samebits::io::bytes::Access;
use samebits::io::gguf::{GgmlType, Gguf};
use samebits::io::json;
use samebits::io::safetensors::SafeTensors;
use samebits::model::{Conversion, ElementType, Model, Sequence, Vocabulary, Workspace, convert};
use samebits::run::Run;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

fn quantize(input: &Path, output: &Path, flags: &[&str]) -> Output {
    let args = [OsStr::new("quantize"), input.as_os_str(), output.as_os_str()];
    run(args.into_iter().chain(flags.iter().map(OsStr::new)))
}

#[track_caller]
fn done(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    out(output)
}

fn logits(path: &Path) -> Vec<f32> {
    let cpu = cpus().pop().unwrap();
    let Model::Decoder(decoder) = Model::open(path, cpu).unwrap_or_else(|e| panic!("{e}")) else {
        panic!("{} is no decoder", path.display())
    };
    let tokens: Vec<u32> = (0..23u32).map(|i| (i * i + 5 * i + 2) % decoder.config().vocab as u32).collect();
    let (mut cache, mut all) = (decoder.cache(1), vec![0.0; tokens.len() * decoder.config().vocab]);
    let mut batch = [Sequence { tokens: &tokens, cache: &mut cache }];
    decoder.forward_all(&Run::here(cpu), &mut batch, &mut all, &mut Workspace::new()).unwrap();
    all
}

/// Decoding first and computing in f32 gives the same bits as computing with NF4.
#[test]
fn a_folder_in_nf4_computes_what_its_decoded_weights_do() {
    let folder = Folder::new("quantize-folder");
    for name in ["llama", "qwen2", "gemma2", "phi3_long", "gpt2"] {
        for (i, flags) in [&["--nf4"][..], &["--nf4", "--double-quant"], &["--nf4", "--blocksize=32"]]
            .into_iter()
            .enumerate()
        {
            let (nf4, decoded) = (folder.path(format!("{name}-{i}")), folder.path(format!("{name}-{i}-f32")));
            let text = quantize(&model(name), &nf4, &[flags, &["--verify"]].concat());
            assert!(done(&text).contains("verified"), "{}", out(&text));
            let job = Conversion {
                input: nf4.clone(),
                output: decoded.clone(),
                element: Some(ElementType::F32),
                version: 0,
                vocabulary: Vocabulary::Own,
            };
            convert(&job, cpus().pop().unwrap(), &mut |_| Ok(())).unwrap_or_else(|e| panic!("{e}"));
            let got = logits(&nf4);
            assert_same(&got, &logits(&decoded), format!("{name} {flags:?}"));
            let far = got.iter().zip(logits(&model(name))).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far > 1e-4, "{name} {flags:?}: nothing was quantised");
        }
    }
}

#[test]
fn a_folder_in_nf4_has_what_its_readers_look_for() {
    let folder = Folder::new("quantize-readers");
    let nf4 = folder.path("nf4");
    done(&quantize(&model("llama"), &nf4, &["--nf4", "--double-quant"]));
    assert_eq!(folder.names(), ["nf4"], "no temporary folder is left");
    assert!(nf4.join("tokenizer.json").is_file());
    let config = std::fs::read(nf4.join("config.json")).unwrap();
    let config = json::parse(&config).expect("JSON");
    let quantization = config.get("quantization_config").expect("a quantization_config");
    let text = |key: &str| quantization.get(key).map(|v| v.source().to_string());
    let expected = [
        ("quant_method", "\"bitsandbytes\""),
        ("load_in_4bit", "true"),
        ("bnb_4bit_quant_type", "\"nf4\""),
        ("bnb_4bit_use_double_quant", "true"),
        ("bnb_4bit_quant_storage", "\"uint8\""),
        ("llm_int8_skip_modules", "null"),
    ];
    for (key, value) in expected {
        assert_eq!(text(key).as_deref(), Some(value), "{key}");
    }
    let (got, want) = (nf4.join("model.safetensors"), model("llama").join("model.safetensors"));
    let (got, want) = (SafeTensors::open(got).unwrap(), SafeTensors::open(want).unwrap());
    for t in want.tensors().filter(|t| t.shape.len() == 1 || t.name.contains("embed")) {
        assert_eq!(got.tensor(t.name).unwrap(), t);
    }
    let args = ["generate", "--prompt", "w1 w2", "--temperature", "0", "--max-tokens", "6", "--model"];
    let text = run(args.map(OsStr::new).into_iter().chain([nf4.as_os_str()]));
    assert!(!done(&text).trim().is_empty());

    // A layer that was left has to be named, or transformers would look for its codes.
    let left = folder.path("left");
    done(&quantize(&model("llama"), &left, &["--nf4", "--exclude", "layers.1.mlp.up_proj"]));
    let config = std::fs::read_to_string(left.join("config.json")).unwrap();
    assert!(config.contains("\"model.layers.1.mlp.up_proj\"") && config.contains("\"lm_head\""), "{config}");
    assert_fails(
        &quantize(&nf4, &folder.path("twice"), &["--nf4"]),
        1,
        "config.json: the model is quantised",
    );
}

#[test]
fn what_cannot_become_a_folder_in_nf4_is_refused() {
    let folder = Folder::new("quantize-refused");
    let to = folder.path("out");
    assert_fails(&quantize(&model("llama"), &to, &[]), 2, "to which format?");
    assert_fails(&quantize(&model("llama"), &to, &["--q8"]), 2, "--q8 writes a file .gguf");
    let gguf = folder.path("m.gguf");
    assert_fails(
        &quantize(&model("llama"), &gguf, &["--q8", "--verify"]),
        2,
        "--q8 does not go with --verify",
    );
    assert!(folder.names().is_empty());
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("file"), "x").unwrap();
    assert_fails(&quantize(&model("llama"), &to, &["--nf4"]), 1, "a folder is written where nothing is yet");
    assert_eq!(folder.names(), ["out"]);
}

/// A trained model, whose rows of 64 are whole blocks; those of 172 are not, and become f16.
#[test]
fn stories_in_q8_0_are_near_the_original() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let folder = Folder::new("quantize-q8");
    let (input, q8) =
        (PathBuf::from(data).join("models/stories260K/stories260K-f32.gguf"), folder.path("q8.gguf"));
    done(&quantize(&input, &q8, &["--q8"]));
    let (file, original) =
        (Gguf::open(&q8, Access::Read).unwrap(), Gguf::open(&input, Access::Read).unwrap());
    assert_eq!(file.entry("general.file_type").unwrap().usize().unwrap(), 7);
    let cpu = cpus().pop().unwrap();
    let mut blocks = 0;
    for t in file.tensors() {
        let (mut got, mut want) = (vec![0.0; t.elements()], vec![0.0; t.elements()]);
        t.decode(cpu, &mut got).unwrap();
        original.tensor(t.name).unwrap().decode(cpu, &mut want).unwrap();
        let kind = match t.shape {
            &[_, k] if k % 32 == 0 => GgmlType::Q8_0,
            [_, _] => GgmlType::F16,
            _ => GgmlType::F32,
        };
        assert_eq!(t.kind, kind, "{}", t.name);
        if kind != GgmlType::Q8_0 {
            continue;
        }
        blocks += 1;
        for (got, want) in got.chunks(32).zip(want.chunks(32)) {
            let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            // Half a step, and the rounding of the scale to a half, 127 times.
            let bound = largest / 127.0 * 0.5 + largest * 2.0f32.powi(-11) + 1e-7;
            got.iter().zip(want).for_each(|(a, b)| assert!((a - b).abs() <= bound, "{}: {a} {b}", t.name));
        }
    }
    assert!(blocks > 20, "{blocks} matrices in blocks");
    let args = ["generate", "--prompt", "", "--temperature", "0", "--max-tokens", "8", "--model"];
    let text = run(args.map(OsStr::new).into_iter().chain([q8.as_os_str()]));
    assert!(done(&text).starts_with("Once upon a time"), "{}", out(&text));
}
