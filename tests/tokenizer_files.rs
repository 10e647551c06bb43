//! Tokenizers out of files that are wrong, hostile, or ask for what is not known: an error that says so, in
//! bounded time and memory, and never a panic.

use std::path::{Path, PathBuf};

use samebits::io::tokenizer::Tokenizer;
use samebits::io::tokenizer::{Choice, EncodeOptions, GgufVocabulary, Truncation};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers").join(name)
}

fn text(name: &str) -> String {
    String::from_utf8(std::fs::read(file(name)).unwrap()).unwrap()
}

#[track_caller]
fn refused(json: &str, message: &str) {
    match Tokenizer::from_json(json.as_bytes()) {
        Ok(_) => panic!("accepted: {json}"),
        Err(error) => assert!(error.to_string().contains(message), "{error} does not say {message:?}"),
    }
}

/// A small file with one part replaced.
fn with(part: &str, value: &str) -> String {
    let parts = [
        ("added_tokens", "[]"),
        ("normalizer", "null"),
        ("pre_tokenizer", "null"),
        ("post_processor", "null"),
        ("decoder", "null"),
        ("truncation", "null"),
        ("padding", "null"),
        ("model", r#"{"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}"#),
    ];
    let part =
        |(name, default): (&str, &str)| format!("{name:?}: {}", if name == part { value } else { default });
    format!("{{{}}}", parts.map(part).join(", "))
}

#[test]
fn what_is_not_known_is_refused_with_its_name() {
    assert!(Tokenizer::from_json(with("", "").as_bytes()).is_ok());
    refused(&with("model", r#"{"type": "Neural", "vocab": {}}"#), "the model \"Neural\" is not known");
    refused(&with("normalizer", r#"{"type": "Rot13"}"#), "the normalizer \"Rot13\"");
    refused(&with("pre_tokenizer", r#"{"type": "UnicodeScripts"}"#), "\"UnicodeScripts\"");
    refused(&with("decoder", r#"{"type": "CTC"}"#), "\"CTC\"");
    refused(&with("post_processor", r#"{"type": "Odd"}"#), "\"Odd\"");
    let split = |pattern: &str| {
        let split = format!(
            r#"{{"type": "Split", "pattern": {{"Regex": {pattern}}}, "behavior": "Isolated", "invert": false}}"#
        );
        with("pre_tokenizer", &split)
    };
    refused(&split(r#""(a+)+$""#), r#"the regular expression "(a+)+$" is not one of those known"#);
    refused(&split(r#""""#), "is not one of those known");
    refused(&split(r#""x|""#), "is not one of those known");
    refused(&with("padding", r#"{"strategy": "Most"}"#), "the padding strategy \"Most\"");
    let dropout = r#"{"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}"#;
    refused(&with("model", dropout), "dropout");
}

#[test]
fn contradictions_are_refused() {
    let model = |model: &str| with("model", model);
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}"#), "duplicate key");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}"#), "share the id 0");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": -1}, "merges": []}"#), "whole number");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 1.5}, "merges": []}"#), "whole number");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}"#), "far beyond");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 18446744073709551615}, "merges": []}"#), "far beyond");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}"#), "the token \"b\"");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}"#), "the token \"ab\"");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}"#), "two tokens");
    refused(&model(r#"{"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b", "c"]]}"#), "two tokens");
    refused(&model(r#"{"type": "BPE", "vocab": {}, "unk_token": "u", "merges": []}"#), "unknown token");
    refused(&model(r#"{"type": "WordPiece", "vocab": {"a": 0}}"#), "unknown token \"[UNK]\"");
    refused(&model(r#"{"type": "Unigram", "unk_id": 5, "vocab": [["a", 0.0]]}"#), "\"unk_id\" is 5");
    refused(&model(r#"{"type": "Unigram", "vocab": [["a", 0.0], ["a", 1.0]]}"#), "is both 0 and 1");
    refused(&model(r#"{"type": "Unigram", "vocab": [["a"]]}"#), "a token and its score");
    refused(&model(r#"{"type": "Unigram", "vocab": [["a", 1e999]]}"#), "byte ");
    let token = |id: &str, content: &str| {
        with("added_tokens", &format!(r#"[{{"id": {id}, "content": {content:?}, "special": true}}]"#))
    };
    refused(&token("7", "a"), "has id 7, in the vocabulary 0");
    refused(&token("4294967295", "z"), "4294967295");
    refused(&token("18446744073709551615", "z"), "32 bits");
    let cls = r#"{"type": "BertProcessing", "cls": ["c", 77], "sep": ["a", 0]}"#;
    refused(&with("post_processor", cls), "puts in the id 77");
    let charsmap = |table: &str| {
        with("normalizer", &format!(r#"{{"type": "Precompiled", "precompiled_charsmap": {table:?}}}"#))
    };
    refused(&charsmap("A*=="), "not base64");
    refused(&charsmap("/////w=="), "longer than the table");
    refused("[]", "expected a tokenizer, found an array");
    refused("{}", "\"model\" is missing");
}

#[test]
fn nesting_is_bounded_and_needs_no_stack() {
    let mut deep = r#"{"type": "NFC"}"#.to_string();
    for _ in 0..60 {
        deep = format!(r#"{{"type": "Sequence", "normalizers": [{deep}]}}"#);
    }
    let json = with("normalizer", &deep);
    let thread = std::thread::Builder::new().stack_size(128 << 10);
    let read = thread.spawn(move || Tokenizer::from_json(json.as_bytes()).is_ok()).unwrap();
    assert!(read.join().unwrap());
    let deeper = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    refused(&with("normalizer", &deeper), "nested deeper");
}

#[test]
fn cut_and_damaged_files_never_panic() {
    for name in ["wordpiece.json", "llama3.json", "unigram.json", "llama2.json"] {
        let whole = text(name);
        let step = whole.len() / 61;
        for end in (0..whole.len()).step_by(step.max(1)).filter(|&end| whole.is_char_boundary(end)) {
            assert!(Tokenizer::from_json(&whole.as_bytes()[..end]).is_err(), "{name} cut at {end}");
        }
    }
    for name in ["spm_bpe.model", "spm_unigram.model", "spm_bpe_plain.model"] {
        let whole = std::fs::read(file(name)).unwrap();
        for at in 0..whole.len() {
            // A file cut between two fields may still be whole; it must not panic.
            let cut = Tokenizer::from_sentencepiece(&whole[..at]);
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            for read in [cut, Tokenizer::from_sentencepiece(&damaged)].into_iter().flatten() {
                let ids = read.encode("the text é 1 😀", &EncodeOptions::plain()).unwrap().ids;
                read.decode(&ids, false);
            }
        }
    }
    let mut bin = vec![4, 0, 0, 0];
    for (score, piece) in [(0.0f32, "<unk>"), (0.0, "\n<s>\n"), (0.0, "\n</s>\n"), (-1.0, "a"), (-2.0, "aa")]
    {
        bin.extend(score.to_le_bytes());
        bin.extend((piece.len() as u32).to_le_bytes());
        bin.extend(piece.bytes());
    }
    assert_eq!(
        Tokenizer::from_llama2c(&bin).unwrap().encode("aaa", &EncodeOptions::plain()).unwrap().ids,
        [0, 4, 3]
    );
    for end in 0..bin.len() {
        let read = Tokenizer::from_llama2c(&bin[..end]);
        assert!(read.is_err() || read.unwrap().vocab_len() < 5, "cut at {end}");
    }
    bin[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = Tokenizer::from_llama2c(&bin).unwrap_err().to_string();
    assert_eq!(error, "byte 4: a piece longer than what is left of the file");
}

#[test]
fn vocabularies_of_gguf_are_checked() {
    let good = GgufVocabulary {
        model: "llama",
        pre: "default",
        tokens: vec!["<unk>", "<s>", "</s>", "a"],
        scores: vec![0.0; 4],
        kinds: vec![2, 3, 3, 1],
        ..GgufVocabulary::default()
    };
    assert!(Tokenizer::from_gguf_vocabulary(&good).is_ok());
    let wrong: [(GgufVocabulary<'_>, &str); 9] = [
        (GgufVocabulary { model: "rwkv", ..good.clone() }, "tokenizer.ggml.model \"rwkv\""),
        (GgufVocabulary { scores: vec![0.0; 3], ..good.clone() }, "scores has 3 entries for 4 tokens"),
        (GgufVocabulary { scores: vec![f32::NAN; 4], ..good.clone() }, "NaN"),
        (GgufVocabulary { kinds: vec![2, 3, 3, 9], ..good.clone() }, "token 3 has the unknown type 9"),
        (GgufVocabulary { kinds: vec![1, 3, 3, 1], ..good.clone() }, "one unknown piece"),
        (GgufVocabulary { bos: Some(4), ..good.clone() }, "id 4, but there are 4"),
        (GgufVocabulary { tokens: vec!["<unk>", "a", "b", "a"], ..good.clone() }, "is both 1 and 3"),
        (GgufVocabulary { model: "gpt2", pre: "odd", ..good.clone() }, "tokenizer.ggml.pre \"odd\""),
        (GgufVocabulary { model: "bert", ..good.clone() }, "no token [UNK]"),
    ];
    for (vocabulary, message) in wrong {
        let error = Tokenizer::from_gguf_vocabulary(&vocabulary).unwrap_err().to_string();
        assert!(error.contains(message), "{error} does not say {message:?}");
    }
}

#[test]
fn empty_patterns_and_tokens_make_progress() {
    let empty = r#"{"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false}"#;
    let split = Tokenizer::from_json(with("pre_tokenizer", empty).as_bytes()).unwrap();
    assert_eq!(split.encode("abab", &EncodeOptions::plain()).unwrap().ids, [2, 2]);
    let replace = r#"{"type": "Replace", "pattern": {"String": ""}, "content": "x"}"#;
    let replaced = Tokenizer::from_json(with("normalizer", replace).as_bytes()).unwrap();
    assert_eq!(replaced.encode("ab", &EncodeOptions::plain()).unwrap().ids, [2]);
    let added = r#"[{"id": 9, "content": "", "special": false}]"#;
    let added = Tokenizer::from_json(with("added_tokens", added).as_bytes()).unwrap();
    assert_eq!(added.encode("ab", &EncodeOptions::plain()).unwrap().ids, [2]);
}

#[test]
fn limits_that_leave_no_room_are_errors() {
    let tokenizer = Tokenizer::open(file("wordpiece.json")).unwrap();
    let cut = |length| EncodeOptions {
        truncation: Choice::Use(Truncation::to(length)),
        padding: Choice::Off,
        ..EncodeOptions::default()
    };
    for length in 0..2 {
        let error = tokenizer.encode("the text", &cut(length)).unwrap_err().to_string();
        assert!(error.contains("leaves no room"), "{error}");
    }
    assert_eq!(tokenizer.encode("the text", &cut(2)).unwrap().ids, [2, 3]);
    let pair = EncodeOptions { pair: Some("a b c d e f"), ..cut(8) };
    assert_eq!(tokenizer.encode("x", &pair).unwrap().len(), 8);
}

#[test]
fn special_tokens_in_a_stranger_s_text_can_be_mere_characters() {
    let tokenizer = Tokenizer::open(file("llama3.json")).unwrap();
    let text = "a <|end_of_text|> b";
    let end = tokenizer.eos_id().unwrap();
    let parsed = tokenizer.encode(text, &EncodeOptions::plain()).unwrap().ids;
    assert!(parsed.contains(&end));
    for choice in [Choice::Off, Choice::Use(false)] {
        let options = EncodeOptions { special_text: choice, ..EncodeOptions::plain() };
        let ids = tokenizer.encode(text, &options).unwrap().ids;
        assert!(!ids.contains(&end));
        assert_eq!(tokenizer.decode(&ids, true), text);
    }
}
