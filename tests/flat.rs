//! Flat models: the bits of the model's own files, whatever its family and the types of its weights, in place or copied;
//! and an error, never a panic, for bytes that are damaged.

mod common;

use common::program::{self, Folder};
use common::{Random, cpus, slow};
use samebits::io::checksum::xxh64;
use samebits::io::tokenizer::{EncodeOptions, FlatTokenizer, Tokenizer};
use samebits::kernels::Line;
use samebits::model::flat::{self, Flat, Forms, Shape};
use samebits::model::{
    Conversion, Decoder, ElementType, Generator, Model, Opening, Sampler, SentenceEncoder, Sequence,
    Settings, Vocabulary, Workspace, convert,
};
use samebits::run::Run;
use samebits::{Cpu, Error};
use std::path::{Path, PathBuf};

const DECODERS: [&str; 13] = [
    "gemma",
    "gemma2",
    "gpt2",
    "llama",
    "llama_dynamic",
    "llama_linear",
    "llama_llama3",
    "llama_yarn",
    "mistral",
    "phi3_long",
    "phi3_short",
    "qwen2",
    "qwen3",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

/// `bytes` where they stay, at a multiple of 64.
fn in_flash(bytes: &[u8]) -> &'static [u8] {
    let lines: &'static mut [Line] = Box::leak(vec![Line::ZERO; bytes.len().div_ceil(64)].into());
    let memory: &'static mut [u8] = Line::elements_mut(lines);
    memory[..bytes.len()].copy_from_slice(bytes);
    &memory[..bytes.len()]
}

fn decoder(model: Model) -> Decoder {
    match model {
        Model::Decoder(decoder) => *decoder,
        Model::Encoder(_) => panic!("a decoder"),
    }
}

/// The bits of the logits after each of some tokens, given in two parts.
fn logits(run: &Run<'_>, model: &Decoder) -> Vec<u32> {
    let vocab = model.config().vocab;
    let tokens: Vec<u32> = (0..9).map(|i| (i * 37 + 5) % vocab as u32).collect();
    let (mut cache, mut workspace, mut all) = (model.cache(9), Workspace::new(), Vec::new());
    for part in [&tokens[..6], &tokens[6..]] {
        let mut out = vec![0.0; part.len() * vocab];
        let mut batch = [Sequence { tokens: part, cache: &mut cache }];
        model.forward_all(run, &mut batch, &mut out, &mut workspace).expect("sound tokens");
        all.extend(out.iter().map(|x| x.to_bits()));
    }
    all
}

/// In place and copied, the flat form of `model` gives its bits; the file.
fn compare(cpu: Cpu, model: Model, what: &str) -> &'static [u8] {
    let file = in_flash(&flat::write(cpu, &model, None).expect("a flat model"));
    let (run, desk) = (Run::here(cpu), decoder(model));
    for (read, how) in [(Flat::in_place(file), "in place"), (Flat::of(file), "copied")] {
        let read = decoder(read.expect("undamaged").model().expect("a sound model"));
        assert_eq!(read.config(), desk.config(), "{what}, {how}");
        assert_eq!(logits(&run, &read), logits(&run, &desk), "{what}, {how}");
    }
    file
}

#[test]
fn every_decoder_has_the_bits_of_its_folder() {
    for cpu in cpus() {
        for name in DECODERS {
            compare(cpu, Model::open(folder(name), cpu).expect("a sound model"), name);
        }
    }
}

#[test]
fn every_type_of_weight_is_kept() {
    let (cpu, work) = (Cpu::detect(), Folder::new("flat_types"));
    let nf4 = Opening { nf4: Some(64), ..Opening::default() };
    let in_nf4 = compare(cpu, Model::open_with(folder("llama"), cpu, nf4).expect("a sound model"), "NF4");
    let in_f32 = compare(cpu, Model::open(folder("llama"), cpu).expect("a sound model"), "F32");
    assert!(in_nf4.len() < in_f32.len(), "{} bytes, {} in f32", in_nf4.len(), in_f32.len());
    for (element, name) in
        [(ElementType::BF16, "bf16.gguf"), (ElementType::F16, "f16.gguf"), (ElementType::Q8_0, "q8_0.gguf")]
    {
        let output = work.path(name);
        let job = Conversion {
            input: folder("llama"),
            output: output.clone(),
            element: Some(element),
            version: 0,
            vocabulary: Vocabulary::Nowhere,
        };
        convert(&job, cpu, &mut |_| Ok(())).expect("a sound model");
        let file = compare(cpu, Model::open(&output, cpu).expect("a sound model"), name);
        assert!(file.len() < in_f32.len(), "{name}: {} bytes, {} in f32", file.len(), in_f32.len());
    }
}

/// A program that names the forms of its weights reads those, and says which other it met.
#[test]
fn only_the_named_forms_are_read() {
    let cpu = Cpu::detect();
    let nf4 = Opening { nf4: Some(64), ..Opening::default() };
    let model = Model::open_with(folder("llama"), cpu, nf4).expect("a sound model");
    let file = in_flash(&flat::write(cpu, &model, None).expect("a flat model"));
    let (flat, run) = (Flat::in_place(file).expect("undamaged"), Run::here(cpu));
    let read = decoder(flat.model_of(Forms::NONE.nf4().f32()).expect("its forms"));
    let refused = flat.encoder_of(Forms::ALL).map(|_| ()).expect_err("a decoder").to_string();
    assert!(refused.contains("the model is a decoder, expected an encoder"), "{refused}");
    assert_eq!(logits(&run, &read), logits(&run, &decoder(model)));
    for (forms, name) in [(Forms::NONE.bf16().nf4(), "f32"), (Forms::NONE.f32().f16().ggml(), "NF4")] {
        let said = flat.model_of(forms).map(|_| ()).expect_err("a form that was not named").to_string();
        let expected = format!("a weight in {name}, which this program does not read");
        assert!(said.contains(&expected), "{said:?}, expected {expected:?}");
    }
}

/// Those that only others' files have: Q4_0, and blocks that are multiplied row by row.
#[test]
fn blocks_of_ggml_are_kept() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let path = PathBuf::from(data).join("models/tiny-random-llama-gguf/llama-2-tiny-random.gguf");
    compare(Cpu::detect(), Model::open(path, Cpu::detect()).expect("a sound model"), "a GGUF file");
}

#[test]
fn encoders_give_the_vectors_of_their_folders() {
    for cpu in cpus() {
        for name in ["bert", "roberta"] {
            let model = Model::open(folder(name), cpu).expect("a sound model");
            let read = Flat::in_place(in_flash(&flat::write(cpu, &model, None).expect("a flat model")));
            let vector = |model: SentenceEncoder| {
                let mut out = vec![0.0; model.encoder.config().dim];
                let run = Run::here(cpu);
                model.embed(&run, &[&[2, 9, 40, 3]], &mut out, &mut Workspace::new()).expect("sound ids");
                out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let Model::Encoder(model) = model else { panic!("an encoder") };
            let (read, desk) = (read.expect("whole"), vector(*model));
            let Ok(Model::Encoder(either)) = read.model() else { panic!("an encoder") };
            assert_eq!(vector(*either), desk, "{name}");
            assert_eq!(vector(read.encoder_of(Forms::NONE.f32()).expect("its forms")), desk, "{name}");
            let refused = read.decoder_of(Forms::ALL).map(|_| ()).expect_err("an encoder").to_string();
            assert!(refused.contains("the model is an encoder, expected a decoder"), "{refused}");
        }
    }
}

#[test]
fn tokenizers_go_along() {
    let cpu = Cpu::detect();
    for name in ["bert", "llama"] {
        let model = Model::open(folder(name), cpu).expect("a sound model");
        let tokenizer = FlatTokenizer::open(folder(name)).expect("a tokenizer");
        let file = flat::write(cpu, &model, Some(&tokenizer)).expect("a flat model");
        let read = Flat::of(&file).expect("whole").tokenizer().expect("sound").expect("there");
        let desk = Tokenizer::open(folder(name)).expect("a tokenizer");
        for text in ["The same bits, on the desk and in flash.", "", "naïve \u{1f600}"] {
            let ids = |t: &Tokenizer| t.encode(text, &EncodeOptions::default()).expect("text").ids;
            assert_eq!(ids(&read), ids(&desk), "{name}: {text}");
        }
    }
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        return eprintln!("skipped: SAMEBITS_DATA is not set");
    };
    for name in ["stories260K-f32.gguf", "tok512.bin", "tok512.model"] {
        let path = PathBuf::from(&data).join("models/stories260K").join(name);
        let model = Model::open(folder("llama"), cpu).expect("a sound model");
        let tokenizer = FlatTokenizer::open(&path).expect("a tokenizer");
        let file = flat::write(cpu, &model, Some(&tokenizer)).expect("a flat model");
        let read = Flat::of(&file).expect("whole").tokenizer().expect("sound").expect("there");
        let ids = |t: &Tokenizer| t.encode("Once upon a time", &EncodeOptions::default()).expect("text").ids;
        assert_eq!(ids(&read), ids(&Tokenizer::open(&path).expect("a tokenizer")), "{name}");
    }
}

/// The model inside with its tokenizer.
fn inside() -> &'static [u8] {
    let cpu = Cpu::detect();
    let model = Model::Decoder(Box::new(samebits::assets::model(cpu).expect("the model inside")));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assets/inside");
    let tokenizer = FlatTokenizer::open(folder).expect("its tokenizer");
    in_flash(&flat::write(cpu, &model, Some(&tokenizer)).expect("a flat model"))
}

/// Tokens of a story, and what its buffers took.
fn story(model: &Decoder, sampler: Sampler, prompt: &[u32], steps: usize) -> (Vec<u32>, usize) {
    let run = Run::here(Cpu::detect());
    let mut generator = Generator::new(model, sampler, prompt.len() + steps);
    generator.feed(&run, prompt, |_| Ok::<(), Error>(())).expect("room");
    for _ in 0..steps {
        generator.next(&run).expect("a token");
    }
    (generator.tokens().to_vec(), generator.bytes())
}

#[test]
fn the_story_of_the_model_inside_is_the_same_and_takes_what_was_said() {
    let file = inside();
    let flat = Flat::in_place(file).expect("undamaged");
    let (read, tokenizer) = (decoder(flat.model().expect("sound")), flat.tokenizer().expect("sound"));
    let desk = samebits::assets::model(Cpu::detect()).expect("the model inside");
    let prompt = tokenizer.expect("there").encode("Ben had a kite.", &EncodeOptions::default());
    let prompt = prompt.expect("text").ids;
    let steps = if slow() { 8 } else { 40 };
    for sampler in [Sampler::greedy(), Sampler::new(&Settings::default(), 7).expect("settings")] {
        let (tokens, bytes) = story(&read, sampler.clone(), &prompt, steps);
        assert_eq!(tokens, story(&desk, sampler, &prompt, steps).0);
        assert_eq!(bytes, Shape::of(file).arena_len(prompt.len() + steps, prompt.len()));
    }
}

/// What became of damaged bytes: an error, or a model that computes.
fn survives(bytes: &[u8]) -> bool {
    let Ok(flat) = Flat::of(bytes) else { return false };
    let _ = flat.tokenizer();
    let Ok(Model::Decoder(model)) = flat.model() else { return false };
    let mut out = vec![0.0; model.config().vocab];
    let mut batch = [Sequence { tokens: &[1, 2], cache: &mut model.cache(2) }];
    let _ = model.forward(&Run::here(Cpu::detect()), &mut batch, &mut out, &mut Workspace::new());
    true
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused() {
    let file = inside();
    for end in (0..300).chain((300..file.len()).step_by(file.len() / 300)) {
        assert!(Flat::of(&file[..end]).is_err(), "{end} bytes of {}", file.len());
    }
    let (mut bytes, mut random) = (file.to_vec(), Random::new(1));
    for i in 0..3_000 {
        // Every bit of the header, then any.
        let bit = if i < 512 { i } else { random.below(8 * file.len()) };
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Flat::of(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Flat::of(&bytes).is_ok());
}

/// Whoever forges a file forges its checksum too.
#[test]
fn a_forged_file_is_refused_or_computes() {
    let (cpu, mut refused, mut computed) = (Cpu::detect(), 0, 0);
    for name in ["llama", "llama_yarn", "gpt2"] {
        let model = Model::open(folder(name), cpu).expect("a sound model");
        let tokenizer = FlatTokenizer::open(folder("llama")).expect("a tokenizer");
        let file = flat::write(cpu, &model, Some(&tokenizer)).expect("a flat model");
        let mut random = Random::new(2);
        for i in 0..if slow() { 300 } else { 2_500 } {
            let mut bytes = file.clone();
            // The configuration, bit by bit; then any bytes, a few at once.
            for _ in 0..1 + i % 3 {
                let at = if i < 1_600 { 64 + random.below(400) } else { 32 + random.below(file.len() - 32) };
                bytes[at] ^= 1 << random.below(8);
            }
            let sum = xxh64(&bytes[32..]);
            bytes[24..32].copy_from_slice(&sum.to_le_bytes());
            *if survives(&bytes) { &mut computed } else { &mut refused } += 1;
        }
        for end in (64..file.len()).step_by(file.len() / 200) {
            let mut bytes = file[..end].to_vec();
            bytes[16..24].copy_from_slice(&(end as u64).to_le_bytes());
            let sum = xxh64(&bytes[32..]);
            bytes[24..32].copy_from_slice(&sum.to_le_bytes());
            assert!(!survives(&bytes), "{name}: {end} bytes of {}", file.len());
        }
    }
    assert!(refused > 100 && computed > 100, "{refused} refused, {computed} computed");
}

#[test]
fn the_command_writes_what_every_other_reads() {
    let work = Folder::new("flat_command");
    let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assets/inside");
    let [flat, again] = [work.path("inside.flat"), work.path("again.flat")];
    let ok = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        program::out(&output).to_string()
    };
    let convert = |a: &Path, b: &Path| {
        ok(program::run(["convert".as_ref(), "--flat".as_ref(), a.as_os_str(), b.as_os_str()]))
    };
    assert!(convert(&inside, &flat).contains("a flat model"));
    let prompt = ["--prompt", "Ben had a kite.", "--max-tokens", "12"];
    let story = [&["generate", "--temperature", "0", "--repeat-penalty", "1"], &prompt[..]].concat();
    let of = |more: &[&str]| ok(program::run([&story[..], more].concat()));
    assert_eq!(of(&["--model", &flat.to_string_lossy()]), of(&[]));
    // Of a flat file, another: the same bytes.
    convert(&flat, &again);
    assert_eq!(std::fs::read(&flat).expect("a file"), std::fs::read(&again).expect("a file"));
    let folder = work.path("nothing");
    std::fs::create_dir(&folder).expect("a folder");
    let flags = ["convert".as_ref(), "--flat".as_ref(), folder.as_os_str(), again.as_os_str()];
    program::assert_fails(&program::run(flags), 2, "no tokenizer in this folder");
}
