//! `samebits convert`: what comes out computes the same bits, and comes back as it was.

mod common;

use common::program::{Folder, assert_fails, out, run};
use common::{assert_same, cpus};
use samebits::io::bytes::Access;
use samebits::io::gguf::{GgmlType, Gguf};
use samebits::io::safetensors::Checkpoint;
use samebits::kernels::ggml;
use samebits::model::{
    Conversion, Decoder, ElementType, Model, Opening, Sequence, Vocabulary, Workspace, convert,
};
use samebits::run::Run;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// All that GGUF can hold of tests/data/models.
const HELD: [&str; 12] = [
    "llama",
    "llama_linear",
    "llama_dynamic",
    "llama_yarn",
    "llama_llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "phi3_short",
    "phi3_long",
    "gpt2",
];

/// How far a logit may be where sums are taken in another order: as for transformers' (tests/model/reference.rs).
const NEAR: f32 = 1e-4;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

fn job(input: &Path, output: &Path) -> Conversion {
    Conversion {
        input: input.into(),
        output: output.into(),
        element: None,
        version: 0,
        vocabulary: Vocabulary::Nowhere,
    }
}

#[track_caller]
fn converted(job: Conversion) -> Vec<String> {
    let done = convert(&job, cpus().pop().unwrap(), &mut |_| Ok(()));
    done.unwrap_or_else(|e| panic!("{} to {}: {e}", job.input.display(), job.output.display())).notes
}

fn open(path: &Path) -> Decoder {
    match Model::open(path, cpus().pop().unwrap()).unwrap_or_else(|e| panic!("{e}")) {
        Model::Decoder(decoder) => *decoder,
        Model::Encoder(_) => panic!("{} is no decoder", path.display()),
    }
}

fn logits(path: &Path) -> Vec<f32> {
    let decoder = open(path);
    let vocab = decoder.config().vocab;
    let tokens: Vec<u32> = (0..41u32).map(|i| (i * i + 7 * i + 1) % vocab as u32).collect();
    let (mut cache, mut all) = (decoder.cache(1), vec![0.0; tokens.len() * vocab]);
    let mut batch = [Sequence { tokens: &tokens, cache: &mut cache }];
    let run = Run::here(cpus().pop().unwrap());
    decoder.forward_all(&run, &mut batch, &mut all, &mut Workspace::new()).unwrap();
    all
}

/// A copy of a model's folder whose configuration has some text replaced.
fn changed(folder: &Folder, name: &str, from: &str, to: &str) -> PathBuf {
    let path = folder.path(format!("{name}-changed"));
    std::fs::create_dir_all(&path).unwrap();
    let config = std::fs::read_to_string(model(name).join("config.json")).unwrap();
    assert!(config.contains(from), "{name} has no {from}");
    std::fs::write(path.join("config.json"), config.replace(from, to)).unwrap();
    std::fs::copy(model(name).join("model.safetensors"), path.join("model.safetensors")).unwrap();
    path
}

/// Same names, types, shapes and bytes; gains of Gemma to within the rounding of 1 + w.
#[track_caller]
fn assert_same_tensors(got: &Path, want: &Path) {
    let (got, want) = (Checkpoint::open(got).unwrap(), Checkpoint::open(want).unwrap());
    let names = |c: &Checkpoint| c.tensors().map(|t| t.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&want));
    let gemma = want.path().to_string_lossy().contains("gemma");
    for (a, b) in got.tensors().zip(want.tensors()) {
        assert_eq!((a.dtype, a.shape), (b.dtype, b.shape), "{}", a.name);
        if !(gemma && a.name.ends_with("norm.weight")) {
            assert!(a.bytes == b.bytes, "{} of {}", a.name, want.path().display());
            continue;
        }
        let floats = |c: &Checkpoint| c.load(a.name).unwrap().to_vec::<f32>();
        for (x, y) in floats(&got).into_iter().zip(floats(&want)) {
            let bound = (1.0 + y).abs().max(1.0) * (0.5 * f32::EPSILON);
            assert!((x - y).abs() <= bound, "{}: {x:e} for {y:e}", a.name);
            assert_eq!((1.0 + x).to_bits(), (1.0 + y).to_bits(), "{}", a.name);
        }
    }
}

#[track_caller]
fn assert_near(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let far = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0f32, f32::max);
    assert!(far <= NEAR, "{what}: {far:e}");
}

fn there_and_back(folder: &Folder, name: &str, input: &Path) {
    let (gguf, back) = (folder.path(format!("{name}.gguf")), folder.path(format!("{name}-back")));
    converted(job(input, &gguf));
    if name.starts_with("llama") || name == "mistral" {
        // The dimensions of q and k stand in another order there: their sums are rounded otherwise.
        assert_near(&logits(&gguf), &logits(input), name);
    } else {
        assert_same(&logits(&gguf), &logits(input), format!("{name} as GGUF"));
    }
    converted(job(&gguf, &back));
    assert_same_tensors(&back, input);
    assert_same(&logits(&back), &logits(input), format!("{name} and back"));
}

#[test]
fn gguf_computes_the_bits_of_the_folder_and_comes_back_as_it_was() {
    let folder = Folder::new("convert-there");
    for name in HELD {
        there_and_back(&folder, name, &model(name));
    }
    // Files say nothing of query_pre_attn_scalar: llama.cpp takes head_dim.
    let gemma2 = changed(&folder, "gemma2", "\"query_pre_attn_scalar\": 7", "\"query_pre_attn_scalar\": 6");
    there_and_back(&folder, "gemma2", &gemma2);
}

#[test]
fn what_gguf_cannot_hold_is_refused_by_name() {
    let folder = Folder::new("convert-refused");
    let gguf = folder.path("m.gguf");
    let refuse = |input: &Path, flags: &[&str], message: &str| {
        let mut args = vec![OsStr::new("convert"), input.as_os_str(), gguf.as_os_str()];
        args.extend(flags.iter().map(OsStr::new));
        assert_fails(&run(args), 1, message);
        assert!(!gguf.exists());
    };
    refuse(&model("gemma2"), &[], "scale of the attention scores (query_pre_attn_scalar)");
    refuse(&model("bert"), &[], "Bert is an encoder");
    refuse(&model("llama"), &[], "GGUF cannot hold a tokenizer of the type \"WordLevel\"");
    let relu = changed(&folder, "gpt2", "gelu_new", "relu");
    refuse(&relu, &[], "GGUF cannot hold the activation of this Gpt2 model");
    let windows = "\"layer_types\": [\"sliding_attention\", \"full_attention\"]";
    let config = std::fs::read_to_string(model("qwen3").join("config.json")).unwrap();
    let compact: String = config.split_whitespace().collect();
    assert!(compact.contains("\"layer_types\":[\"full_attention\",\"full_attention\"]"));
    let mixed = folder.path("mixed");
    std::fs::create_dir_all(&mixed).unwrap();
    let compact = compact
        .replace("\"layer_types\":[\"full_attention\",\"full_attention\"]", windows)
        .replace("\"sliding_window\":null", "\"sliding_window\":5");
    std::fs::write(mixed.join("config.json"), compact).unwrap();
    std::fs::copy(model("qwen3").join("model.safetensors"), mixed.join("model.safetensors")).unwrap();
    refuse(&mixed, &[], "GGUF cannot hold the attention windows of this Qwen3 model");
}

#[test]
fn llama2c_holds_plain_llama_alone() {
    let folder = Folder::new("convert-llama2c");
    let bin = folder.path("m.bin");
    let cases = [
        ("bert", "Bert is an encoder"),
        ("gpt2", "llama2.c knows Llama alone, not Gpt2"),
        ("qwen3", "llama2.c knows Llama alone, not Qwen3"),
        ("llama", "llama2.c cannot hold the head_dim"),
    ];
    for (name, message) in cases {
        let output = run([OsStr::new("convert"), model(name).as_os_str(), bin.as_os_str()]);
        assert_fails(&output, 1, message);
        assert!(!bin.exists());
    }
}

#[test]
fn halves_and_blocks_are_those_asked_for() {
    let folder = Folder::new("convert-types");
    let input = model("qwen2");
    let kinds = [(ElementType::F16, GgmlType::F16), (ElementType::BF16, GgmlType::BF16)];
    for (element, kind) in kinds {
        let (gguf, back) = (folder.path(format!("{kind}.gguf")), folder.path(format!("{kind}-folder")));
        converted(Conversion { element: Some(element), ..job(&input, &gguf) });
        let file = Gguf::open(&gguf, Access::Read).unwrap();
        for t in file.tensors() {
            assert_eq!(t.kind, if t.shape.len() == 2 { kind } else { GgmlType::F32 }, "{}", t.name);
        }
        // The same halves in a folder: the same logits, since vectors were f32 before.
        converted(Conversion { element: None, ..job(&gguf, &back) });
        assert_same(&logits(&back), &logits(&gguf), format!("{kind}"));
    }
    let gguf = folder.path("q8.gguf");
    converted(Conversion { element: Some(ElementType::Q8_0), ..job(&input, &gguf) });
    let file = Gguf::open(&gguf, Access::Read).unwrap();
    // Rows of 24 and 28 are no whole blocks.
    assert!(file.tensors().all(|t| t.kind == if t.shape.len() == 2 { GgmlType::F16 } else { GgmlType::F32 }));
    assert_eq!(file.entry("general.file_type").unwrap().usize().unwrap(), 1);
    let error = convert(
        &Conversion { element: Some(ElementType::Q8_0), ..job(&input, &folder.path("d")) },
        cpus().pop().unwrap(),
        &mut |_| Ok(()),
    );
    assert!(error.unwrap_err().to_string().contains("cannot hold q8_0"));
    assert!(!folder.path("d").exists());
    assert!(folder.names().iter().all(|name| !name.ends_with(".tmp")), "{:?}", folder.names());
}

/// Rows of whole blocks, quantised as ggml's; a file says what most of it is.
#[test]
fn blocks_of_eight_and_four_bits_are_those_of_ggml() {
    let folder = Folder::new("convert-blocks");
    let input = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/assets/inside");
    let cpu = cpus().pop().unwrap();
    let exact = Decoder::open_with(&input, cpu, Opening::default()).unwrap();
    let kinds = [(ElementType::Q8_0, GgmlType::Q8_0, 7), (ElementType::Q4_0, GgmlType::Q4_0, 2)];
    for (element, kind, number) in kinds {
        let gguf = folder.path(format!("{}.gguf", element.name()));
        converted(Conversion { element: Some(element), ..job(&input, &gguf) });
        let file = Gguf::open(&gguf, Access::Read).unwrap();
        assert!(file.tensors().all(|t| (t.kind == kind) == (t.shape.len() == 2)));
        assert_eq!(file.entry("general.file_type").unwrap().usize().unwrap(), number);
        let model = Decoder::open_with(&gguf, cpu, Opening::default()).unwrap();
        let rows = |model: &Decoder| model.matrices().nth(5).unwrap().weight.to_rows(cpu);
        let (was, is) = (rows(&exact), rows(&model));
        let mut blocks = vec![0; kind.bytes(was.len()).unwrap()];
        let quantize = if number == 7 { ggml::quantize_q8_0 } else { ggml::quantize_q4_0 };
        quantize(cpu, &was, &mut blocks).unwrap();
        let mut want = vec![0.0; was.len()];
        let format = if number == 7 { ggml::Format::Q8_0 } else { ggml::Format::Q4_0 };
        ggml::dequantize(cpu, format, &blocks, &mut want);
        assert_same(&is, &want, element.name());
    }
}

/// The program itself: its words, and that a failure in the middle leaves nothing.
#[test]
fn the_command_converts_and_leaves_nothing_behind_when_it_fails() {
    let folder = Folder::new("convert-command");
    let (gguf, input) = (folder.path("m.gguf"), model("phi3_long"));
    let output = run([OsStr::new("convert"), input.as_os_str(), gguf.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        out(&output).contains("tensors in") && out(&output).contains("weights alone"),
        "{}",
        out(&output)
    );
    // A folder that is not empty is not replaced.
    std::fs::create_dir(folder.path("full")).unwrap();
    std::fs::write(folder.path("full/file"), "x").unwrap();
    let output = run([OsStr::new("convert"), gguf.as_os_str(), folder.path("full").as_os_str()]);
    assert_fails(&output, 1, "cannot rename the new folder to it");
    assert_eq!(folder.names(), ["full", "m.gguf"]);
    let output = run([OsStr::new("convert"), gguf.as_os_str(), gguf.as_os_str()]);
    assert_fails(&output, 2, "the output would replace the input");
    let output = run([OsStr::new("convert"), gguf.as_os_str(), OsStr::new("o"), OsStr::new("--type=f8")]);
    assert_fails(&output, 2, "--type: \"f8\" is no type");
    let output = run([OsStr::new("convert"), gguf.as_os_str(), OsStr::new("o.safetensors")]);
    assert_fails(&output, 1, "models are written as a folder, .gguf or .bin");
}

fn stories() -> Option<PathBuf> {
    let data = std::env::var_os("SAMEBITS_DATA");
    if data.is_none() {
        eprintln!("skipped: SAMEBITS_DATA is not set");
    }
    Some(PathBuf::from(data?).join("models/stories260K"))
}

#[test]
fn stories_go_to_gguf_tell_the_same_and_come_back() {
    let Some(stories) = stories() else { return };
    let folder = Folder::new("convert-stories");
    let (gguf, v0, v1) = (folder.path("s.gguf"), folder.path("s.bin"), folder.path("s1.bin"));
    let bin = stories.join("stories260K.bin");
    let tokenizer = Vocabulary::File(stories.join("tok512.bin"));
    converted(Conversion { vocabulary: tokenizer, ..job(&bin, &gguf) });
    let args = [OsStr::new("generate"), OsStr::new("--model"), gguf.as_os_str()];
    let flags = ["--temperature", "0", "--max-tokens", "200", "--prompt", ""].map(OsStr::new);
    let text = run(args.into_iter().chain(flags));
    assert_eq!(text.status.code(), Some(0), "{}", String::from_utf8_lossy(&text.stderr));
    let want = std::fs::read_to_string(stories.join("expected_greedy_200steps.txt")).unwrap();
    assert_eq!(out(&text).trim(), want.trim());

    converted(job(&gguf, &v0));
    let (got, want) = (std::fs::read(&v0).unwrap(), std::fs::read(&bin).unwrap());
    assert_eq!(got.len(), want.len());
    // Readers compute the tables of cos and sin anew; ours are exact, the original's were made in f32.
    let tables = 4 * 512 * 8;
    let end = want.len() - tables;
    assert!(got[..end] == want[..end], "weights of version 0");
    let floats =
        |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect() };
    for (i, (a, b)) in floats(&got[end..]).into_iter().zip(floats(&want[end..])).enumerate() {
        assert!((a - b).abs() < 1e-4, "cos or sin {i}: {a} for {b}");
    }
    converted(Conversion { version: 1, ..job(&gguf, &v1) });
    assert!(
        std::fs::read(&v1).unwrap() == std::fs::read(stories.join("stories260K_v1.bin")).unwrap(),
        "version 1"
    );
    let back = folder.path("folder");
    converted(job(&v0, &back));
    assert_near(&logits(&back), &logits(&bin), "a folder of the checkpoint");
}
