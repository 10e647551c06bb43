//! Tokenizers in flat models: what their own files give, whatever they are made of, in place or copied; programs that name
//! the parts they read; and no panic for bytes that are damaged.

mod common;

use common::{Random, slow};
use samebits::io::checksum::xxh64;
use samebits::io::json;
use samebits::io::tokenizer::{EncodeOptions, FlatTokenizer, Parts, Tokenizer};
use samebits::kernels::Line;
use samebits::model::Model;
use samebits::model::flat::{self, Flat};
use samebits::{Cpu, Error};
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Every tokenizer there is a small file of.
fn files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(data("tokenizers")).expect("a folder");
    let mut found: Vec<PathBuf> = folder
        .map(|entry| entry.expect("a file").path())
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            let json = name.ends_with(".json") && !name.contains(".out.") && name != "texts.json";
            json || name.ends_with(".model") || name.ends_with(".vocab.txt")
        })
        .collect();
    found.sort();
    assert!(found.len() >= 22, "{} tokenizers", found.len());
    found
}

fn texts() -> Vec<String> {
    let file = std::fs::read(data("tokenizers/texts.json")).expect("a file");
    let root = json::parse(&file).expect("JSON");
    let texts = root.get("texts").and_then(|texts| texts.elements()).expect("an array");
    texts.map(|text| text.as_str().expect("a string").into_owned()).collect()
}

/// A flat model with this tokenizer.
fn model(cpu: Cpu, tokenizer: &FlatTokenizer) -> Vec<u8> {
    let model = Model::open(data("models/llama"), cpu).expect("a sound model");
    flat::write(cpu, &model, Some(tokenizer)).expect("a flat model")
}

/// `bytes` where they stay, at a multiple of 64.
fn in_flash(bytes: &[u8]) -> &'static [u8] {
    let lines: &'static mut [Line] = Box::leak(vec![Line::ZERO; bytes.len().div_ceil(64)].into());
    let memory: &'static mut [u8] = Line::elements_mut(lines);
    memory[..bytes.len()].copy_from_slice(bytes);
    &memory[..bytes.len()]
}

fn assert_same(read: &Tokenizer, desk: &Tokenizer, texts: &[String], what: &str) {
    for pair in texts.windows(2) {
        for options in [
            EncodeOptions::default(),
            EncodeOptions::plain(),
            EncodeOptions { pair: Some(&pair[1]), ..EncodeOptions::default() },
        ] {
            let encode = |t: &Tokenizer| t.encode(&pair[0], &options).map_err(|e| e.to_string());
            let (read_gave, desk_gave) = (encode(read), encode(desk));
            assert_eq!(read_gave, desk_gave, "{what}: {pair:?}");
            let Ok(encoding) = read_gave else { continue };
            for skip in [false, true] {
                assert_eq!(read.decode(&encoding.ids, skip), desk.decode(&encoding.ids, skip), "{what}");
            }
        }
    }
    let special = |t: &Tokenizer| [t.bos_id(), t.eos_id(), t.unk_id(), t.pad_id()];
    assert_eq!(special(read), special(desk), "{what}");
    assert_eq!((read.truncation(), read.padding()), (desk.truncation(), desk.padding()), "{what}");
    assert_eq!(read.vocab_len(), desk.vocab_len(), "{what}");
    for id in 0..read.vocab_len() as u32 + 2 {
        assert_eq!(read.id_to_token(id), desk.id_to_token(id), "{what}: {id}");
        assert_eq!(read.is_special(id), desk.is_special(id), "{what}: {id}");
        if let Some(token) = desk.id_to_token(id) {
            assert_eq!(read.token_to_id(token), desk.token_to_id(token), "{what}: {token:?}");
        }
    }
}

#[test]
fn every_tokenizer_gives_what_its_file_gives() {
    let (cpu, mut texts) = (Cpu::detect(), texts());
    texts.truncate(if slow() { 12 } else { usize::MAX });
    for path in files() {
        let (what, desk) = (path.display().to_string(), Tokenizer::open(&path).expect("a tokenizer"));
        let parts = FlatTokenizer::open(&path).expect("a tokenizer");
        assert!(FlatTokenizer::of(&desk).expect("small enough") == parts, "{what}");
        let file = in_flash(&model(cpu, &parts));
        for flat in [Flat::in_place(file), Flat::of(file)] {
            let read = flat.expect("undamaged").tokenizer().expect("sound").expect("there");
            assert_same(&read, &desk, &texts, &what);
            // And once more: the parts of what was read are the parts.
            assert!(FlatTokenizer::of(&read).expect("small enough") == parts, "{what}");
        }
    }
}

/// What a text becomes where a program reads `parts`.
fn ids(file: &'static [u8], parts: Parts) -> Result<Vec<u32>, Error> {
    let tokenizer = Flat::in_place(file)?.tokenizer_of(parts)?.expect("there");
    Ok(tokenizer.encode("Naïve cats, 2 of them.", &EncodeOptions::default())?.ids)
}

#[test]
fn only_the_named_parts_are_read() {
    const NONE: Parts = Parts::NONE;
    let named = [
        ("gpt2.json", NONE.byte_level()),
        ("llama3.json", NONE.byte_level().split()),
        ("qwen2.json", NONE.byte_level().split()),
        ("o200k.json", NONE.byte_level().split()),
        ("llama2.json", NONE.sentencepiece()),
        ("gemma.json", NONE.sentencepiece()),
        ("spm_bpe.model", NONE.sentencepiece()),
        ("spm_unigram.model", NONE.unigram()),
        ("wordpiece.json", NONE.word_piece()),
    ];
    for (i, (name, parts)) in named.iter().enumerate() {
        let path = data("tokenizers").join(name);
        let tokenizer = FlatTokenizer::open(&path).expect("a tokenizer");
        let file = in_flash(&model(Cpu::detect(), &tokenizer));
        let desk = Tokenizer::open(&path).expect("a tokenizer");
        let expected = desk.encode("Naïve cats, 2 of them.", &EncodeOptions::default()).expect("text").ids;
        assert_eq!(ids(file, *parts).expect("its parts"), expected, "{name}");
        let others = [NONE, if i < 4 { NONE.sentencepiece().unigram() } else { NONE.byte_level() }];
        for parts in others {
            let said = ids(file, parts).expect_err("a part that was not named").to_string();
            let is = said.contains(" of a tokenizer, number ")
                && said.contains(", which this program does not read");
            assert!(is, "{name}: {said}");
        }
    }
}

/// Whoever forges a file forges its checksum too.
#[test]
fn forged_parts_are_refused_or_work() {
    let (mut refused, mut read, mut random) = (0, 0, Random::new(3));
    let text = "Naïve cats, 2 of them 😀 — fi\u{301}sh<0x0A></s>";
    for path in files() {
        let tokenizer = FlatTokenizer::open(&path).expect("a tokenizer");
        let file = model(Cpu::detect(), &tokenizer);
        let at = u32::from_le_bytes(file[32..36].try_into().expect("four bytes")) as usize;
        let len = u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
        for i in 0..if slow() { 20 } else { 200 } {
            let mut bytes = file.clone();
            // The tables anywhere; the fields behind them, near the end; whole words of any value.
            for _ in 0..1 + i % 3 {
                let back = if i % 2 == 0 { len } else { len.min(600) };
                let place = at + 4 + len - back + random.below(back);
                match i % 5 {
                    0 => bytes[place / 4 * 4..][..4].copy_from_slice(&u32::MAX.to_le_bytes()),
                    1 => bytes[place] = random.below(4) as u8,
                    _ => bytes[place] ^= 1 << random.below(8),
                }
            }
            let sum = xxh64(&bytes[32..]);
            bytes[24..32].copy_from_slice(&sum.to_le_bytes());
            let Ok(Some(tokenizer)) = Flat::of(&bytes).expect("a good checksum").tokenizer() else {
                refused += 1;
                continue;
            };
            read += 1;
            if let Ok(encoding) = tokenizer.encode(text, &EncodeOptions::plain()) {
                let _ = tokenizer.decode(&encoding.ids, false);
            }
            let _ = tokenizer.decode(&(0..40).chain([u32::MAX]).collect::<Vec<_>>(), true);
        }
    }
    assert!(refused > 20 && read > 20, "{refused} refused, {read} read");
}
