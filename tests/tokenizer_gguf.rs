//! Tokenizers in the form that GGUF keeps: the same ids as before.

use std::path::{Path, PathBuf};

use samebits::io::json::{self, Value};
use samebits::io::tokenizer::{Choice, EncodeOptions, OwnedVocabulary, Tokenizer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers")
}

fn elements(value: Value<'_>) -> Vec<Value<'_>> {
    value.elements().expect("a list").collect()
}

/// Each text, and what the real tokenizer of that name makes of it.
fn rows(name: &str) -> Vec<(String, Vec<u32>)> {
    let (texts, out) = (
        std::fs::read(folder().join("texts.json")).unwrap(),
        std::fs::read(folder().join(format!("{name}.out.json"))).unwrap(),
    );
    let texts = elements(json::parse(&texts).unwrap().get("texts").unwrap());
    let ids = elements(json::parse(&out).unwrap().get("plain").unwrap());
    let list = |row: Value<'_>| {
        elements(row.get("ids").unwrap()).iter().map(|id| id.as_usize().unwrap() as u32).collect()
    };
    texts.into_iter().zip(ids).map(|(text, row)| (text.as_str().unwrap().into_owned(), list(row))).collect()
}

/// The vocabulary of a file, as `convert` puts it into a GGUF file.
fn vocabulary(file: &str) -> OwnedVocabulary {
    let path = folder().join(file);
    let tokenizer = Tokenizer::open(&path).unwrap();
    let made = OwnedVocabulary::of_file(&std::fs::read(path).unwrap(), &tokenizer, tokenizer.vocab_len());
    made.unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[track_caller]
fn assert_ids(tokenizer: &Tokenizer, name: &str) {
    let options = EncodeOptions { truncation: Choice::Off, padding: Choice::Off, ..EncodeOptions::plain() };
    for (text, want) in rows(name) {
        assert_eq!(tokenizer.encode(&text, &options).unwrap().ids, want, "{name}: {text:?}");
    }
}

#[test]
fn byte_level_tokenizers_keep_their_ids() {
    // Qwen's texts are composed first: NFC.
    for (name, pre) in [
        ("gpt2", "gpt-2"),
        ("llama3", "llama3"),
        ("qwen2", "qwen2"),
        ("o200k", "gpt-4o"),
        ("falcon", "falcon"),
    ] {
        let made = vocabulary(&format!("{name}.json"));
        assert_eq!((made.model, &*made.pre), ("gpt2", pre), "{name}");
        assert_ids(&Tokenizer::from_gguf_vocabulary(&made.borrow()).unwrap(), name);
    }
}

/// On to a folder: `tokenizer.json` again. What `tokenizers` itself makes of it is
/// `tests/reference/check_tokenizers.py`'s to ask.
#[test]
fn tokenizers_come_back_as_json() {
    let files = ["gpt2.json", "llama3.json", "qwen2.json", "o200k.json", "falcon.json", "llama2.json"];
    for file in files.into_iter().chain(["spm_bpe.model"]) {
        let made = vocabulary(file);
        let text = made.borrow().to_json().unwrap_or_else(|e| panic!("{file}: {e}"));
        let back = Tokenizer::from_json(text.as_bytes()).unwrap();
        let original = Tokenizer::from_gguf_vocabulary(&made.borrow()).unwrap();
        assert_eq!(back.vocab_len(), original.vocab_len(), "{file}");
        let name = file.split('.').next().unwrap();
        // Behind a special token in a text a space is put; SentencePiece does not put it there.
        let special = |text: &str| {
            made.tokens.iter().zip(&made.kinds).any(|(t, k)| [3, 4].contains(k) && text.contains(&**t))
        };
        for (text, _) in rows(name).into_iter().filter(|(text, _)| made.model == "gpt2" || !special(text)) {
            let whole =
                |tokenizer: &Tokenizer| tokenizer.encode(&text, &EncodeOptions::default()).unwrap().ids;
            assert_eq!(whole(&back), whole(&original), "{file}: {text:?}");
        }
        // SentencePiece itself finds no special tokens in a text.
        if file.ends_with(".json") {
            assert_ids(&back, name);
        }
    }
}

#[test]
fn what_json_cannot_hold_is_refused() {
    let refused = |file: &str, why: &str| {
        let error = vocabulary(file).borrow().to_json().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused("spm_unigram.model", "a tokenizer \"t5\" is not written");
    // Spaces at the ends go, as tokenizer.json cannot say it.
    refused("spm_bpe_plain.model", "tokenizer.json cannot give the ids of \" leading");
}
