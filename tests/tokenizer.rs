//! Tokenizers against the real ones: small ones of every kind, whose ids `tests/reference/tokenizer_ids.py`
//! wrote down, and published ones in `SAMEBITS_DATA`.

use std::path::{Path, PathBuf};

use samebits::io::json::{self, Value};
use samebits::io::tokenizer::{Choice, EncodeOptions, Encoding, Tokenizer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers")
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn numbers(value: Value<'_>) -> Vec<usize> {
    value.elements().expect("an array").map(|v| v.as_usize().expect("a number")).collect()
}

fn ids(value: Value<'_>) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

fn strings(value: Value<'_>) -> Vec<String> {
    value.elements().expect("an array").map(|v| v.as_str().expect("a string").into_owned()).collect()
}

/// The texts, and the pairs of texts.
fn texts() -> (Vec<String>, Vec<(String, String)>) {
    let file = read(folder().join("texts.json"));
    let root = json::parse(&file).unwrap();
    let pairs = root.get("pairs").unwrap().elements().unwrap().map(|pair| {
        let [a, b] = strings(pair).try_into().expect("two texts");
        (a, b)
    });
    (strings(root.get("texts").unwrap()), pairs.collect())
}

/// What the real tokenizer gave, under `key`, one entry a text.
fn list<'a>(root: Value<'a>, key: &str) -> Vec<Value<'a>> {
    root.get(key).and_then(|v| v.elements()).unwrap_or_else(|| panic!("no {key}")).collect()
}

fn untouched() -> EncodeOptions<'static> {
    EncodeOptions { truncation: Choice::Off, padding: Choice::Off, ..EncodeOptions::default() }
}

fn flat(offsets: &[(usize, usize)]) -> Vec<usize> {
    offsets.iter().flat_map(|&(start, end)| [start, end]).collect()
}

/// Offsets in bytes and in characters must say the same.
fn check_offsets(text: &str, encoding: &Encoding) {
    for (&(start, end), &(first, last)) in encoding.offsets.iter().zip(&encoding.char_offsets) {
        assert!(text.get(start..end).is_some(), "{text:?}: bytes {start}..{end}");
        assert_eq!((text[..start].chars().count(), text[..end].chars().count()), (first, last), "{text:?}");
    }
}

const SMALL: [&str; 15] = [
    "wordpiece",
    "wordpiece_cased",
    "gpt2",
    "roberta",
    "llama3",
    "qwen2",
    "o200k",
    "falcon",
    "deepseek",
    "llama2",
    "gemma",
    "clip",
    "unigram",
    "unigram_bytes",
    "wordlevel",
];

#[test]
fn small_tokenizers_give_the_ids_offsets_and_texts_of_the_real_ones() {
    let (texts, pairs) = texts();
    for name in SMALL {
        let tokenizer = Tokenizer::open(folder().join(format!("{name}.json"))).unwrap();
        let file = read(folder().join(format!("{name}.out.json")));
        let want = json::parse(&file).unwrap();
        let rows = list(want, "plain")
            .into_iter()
            .zip(list(want, "whole"))
            .zip(strings(want.get("decoded").unwrap()));
        for (text, ((plain, whole), decoded)) in texts.iter().zip(rows) {
            let got = tokenizer.encode(text, &EncodeOptions::plain()).unwrap();
            assert_eq!(got.ids, ids(plain.get("ids").unwrap()), "{name}: {text:?}");
            assert_eq!(flat(&got.char_offsets), numbers(plain.get("offsets").unwrap()), "{name}: {text:?}");
            check_offsets(text, &got);
            let got = tokenizer.encode(text, &untouched()).unwrap();
            assert_eq!(got.ids, ids(whole), "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&got.ids, true), decoded, "{name}: {text:?}");
        }
        for ((first, second), want) in pairs.iter().zip(list(want, "pairs")) {
            let got = tokenizer.encode(first, &EncodeOptions { pair: Some(second), ..untouched() }).unwrap();
            assert_eq!(got.ids, ids(want.get("ids").unwrap()), "{name}: {first:?} {second:?}");
            assert_eq!(got.type_ids, ids(want.get("types").unwrap()), "{name}: {first:?} {second:?}");
            assert_eq!(got.special, ids(want.get("special").unwrap()), "{name}: {first:?} {second:?}");
        }
        let batch: Vec<&str> = texts[8..20].iter().map(String::as_str).collect();
        let got = tokenizer.encode_batch(&batch, &EncodeOptions::default()).unwrap();
        for (got, want) in got.iter().zip(list(want, "batch")) {
            assert_eq!(got.ids, ids(want.get("ids").unwrap()), "{name}: batch");
            assert_eq!(got.type_ids, ids(want.get("types").unwrap()), "{name}: batch");
            assert_eq!(got.attention, ids(want.get("attention").unwrap()), "{name}: batch");
            assert_eq!(got.special, ids(want.get("special").unwrap()), "{name}: batch");
        }
        let limits: Vec<_> = list(want, "limits").iter().map(|v| v.as_bool().unwrap()).collect();
        assert_eq!(limits, [tokenizer.truncation().is_some(), tokenizer.padding().is_some()], "{name}");
    }
}

/// The folder of real files, or nothing and a word about it.
fn data() -> Option<PathBuf> {
    let data = std::env::var_os("SAMEBITS_DATA").map(PathBuf::from);
    if data.is_none() {
        eprintln!("skipped: SAMEBITS_DATA is not set");
    }
    data
}

#[test]
fn published_tokenizers_give_the_ids_of_the_real_ones() {
    let Some(data) = data() else { return };
    let (texts, _) = texts();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder().join("real")).unwrap() {
        let file = read(entry.unwrap().path());
        let want = json::parse(&file).unwrap();
        let name = want.get("file").unwrap().as_str().unwrap();
        let tokenizer = Tokenizer::open(data.join(&*name)).unwrap();
        for (text, want) in texts.iter().zip(list(want, "ids")) {
            let got = tokenizer.encode(text, &EncodeOptions::plain()).unwrap();
            assert_eq!(got.ids, ids(want), "{name}: {text:?}");
            check_offsets(text, &got);
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen} tokenizers");
}

#[test]
fn long_documents_give_the_ids_of_the_real_tokenizers() {
    let Some(data) = data() else { return };
    let folder = data.join("tokenizers/rten-reftests");
    let cases = [
        ("Metal_umlaut", "bert-base-uncased", "models/bert-base-uncased/vocab.txt"),
        ("monty-python-credits", "bert-base-uncased", "models/bert-base-uncased/vocab.txt"),
        ("monty-python-credits", "gpt2", "models/gpt2/tokenizer.json"),
    ];
    for (text, model, file) in cases {
        let tokenizer = Tokenizer::open(folder.join(file)).unwrap();
        let want = read(folder.join(format!("{text}-{model}.json")));
        let want = ids(json::parse(&want).unwrap().get("token_ids").unwrap());
        let text = String::from_utf8(read(folder.join(format!("{text}.txt")))).unwrap();
        assert_eq!(tokenizer.encode(&text, &EncodeOptions::default()).unwrap().ids, want, "{model}");
    }
}

#[test]
fn a_vocabulary_alone_is_bert_s_tokenizer() {
    let (texts, _) = texts();
    for name in ["wordpiece", "wordpiece_cased"] {
        let tokenizer = Tokenizer::open(folder().join(format!("{name}.vocab.txt"))).unwrap();
        let file = read(folder().join(format!("{name}.out.json")));
        for (text, want) in texts.iter().zip(list(json::parse(&file).unwrap(), "whole")) {
            let got = tokenizer.encode(text, &EncodeOptions::default()).unwrap();
            assert_eq!(got.ids, ids(want), "{name}: {text:?}");
        }
        let named = [tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()];
        assert_eq!(named, ["[CLS]", "[SEP]", "[UNK]", "[PAD]"].map(|token| tokenizer.token_to_id(token)));
    }
}

#[test]
fn small_sentencepiece_models_give_the_ids_of_the_real_ones() {
    let (texts, _) = texts();
    for name in ["spm_bpe", "spm_bpe_plain", "spm_unigram", "spm_unigram_bytes"] {
        let tokenizer = Tokenizer::open(folder().join(format!("{name}.model"))).unwrap();
        let file = read(folder().join(format!("{name}.out.json")));
        let want = json::parse(&file).unwrap();
        let rows = list(want, "plain").into_iter().zip(strings(want.get("decoded").unwrap()));
        for (text, (plain, decoded)) in texts.iter().zip(rows) {
            let got = tokenizer.encode(text, &EncodeOptions::plain()).unwrap();
            assert_eq!(got.ids, ids(plain.get("ids").unwrap()), "{name}: {text:?}");
            // SentencePiece gives a byte the place of its character's beginning, and counts removed spaces to
            // the piece before: beginnings agree.
            let begins: Vec<usize> = got.offsets.iter().map(|o| o.0).collect();
            let want: Vec<usize> = numbers(plain.get("offsets").unwrap()).into_iter().step_by(2).collect();
            assert_eq!(begins, want, "{name}: {text:?}");
            check_offsets(text, &got);
            if !got.ids.contains(&tokenizer.unk_id().unwrap()) {
                assert_eq!(tokenizer.decode(&got.ids, true), decoded, "{name}: {text:?}");
            }
        }
    }
}

fn text_of(part: &str) -> &str {
    let text = part.strip_suffix("__ggml_vocab_test__\n").unwrap_or(part);
    text.strip_suffix('\n').expect("a line end before the separator")
}

#[test]
fn vocabularies_of_ggml_give_the_ids_of_the_original_tokenizers() {
    let Some(data) = data() else { return };
    for name in ["gpt-2", "falcon", "llama-spm", "bert-bge"] {
        let file = data.join(format!("tokenizers/ggml-vocab/ggml-vocab-{name}.gguf"));
        let tokenizer = Tokenizer::open(&file).unwrap();
        let texts = String::from_utf8(read(file.with_extension("gguf.inp"))).unwrap();
        let want = String::from_utf8(read(file.with_extension("gguf.out"))).unwrap();
        let texts = texts.strip_suffix("__ggml_vocab_test__\n").expect("a closing line");
        let texts: Vec<&str> = texts.split_inclusive("__ggml_vocab_test__\n").map(text_of).collect();
        assert_eq!(texts.len(), want.lines().count(), "{name}");
        for (text, want) in texts.iter().zip(want.lines()) {
            let want: Vec<u32> = want.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(
                tokenizer.encode(text, &EncodeOptions::plain()).unwrap().ids,
                want,
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn llama2_c_and_sentencepiece_have_one_tokenizer() {
    let Some(data) = data() else { return };
    let (texts, _) = texts();
    let folder = data.join("models/stories260K");
    let a = Tokenizer::open(folder.join("tok512.bin")).unwrap();
    let b = Tokenizer::open(folder.join("tok512.model")).unwrap();
    assert_eq!((a.vocab_len(), a.bos_id(), a.eos_id()), (b.vocab_len(), b.bos_id(), b.eos_id()));
    // The file without a normaliser keeps spaces that the other removes.
    let plain = |t: &&String| !t.contains("  ") && !t.contains('▁') && t.trim_matches(' ') == **t;
    for text in texts.iter().filter(plain) {
        let encode = |tokenizer: &Tokenizer| tokenizer.encode(text, &EncodeOptions::default()).unwrap().ids;
        assert_eq!(encode(&a), encode(&b), "{text:?}");
        assert_eq!(a.decode(&encode(&a), true), *text);
    }
}
