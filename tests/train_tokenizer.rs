//! The trainer of vocabularies: the very file of the `tokenizers` package, which tests/reference/train_tokenizer.py
//! trained from the same text; and what it says to bad options.

mod common;

use common::program;
use samebits::io::tokenizer::{EncodeOptions, Tokenizer, TrainOptions, Trainer};

/// The text of the script.
fn text() -> String {
    let licence = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE-APACHE")).unwrap();
    let extra =
        "aaaa aaaaa aa abab ababab ba cabc abcabc é è été çà 日本語 日本 \n\n  \t x1 y22 z333 don't we'll\n";
    licence + &extra.repeat(3)
}

fn options(vocab: usize) -> TrainOptions {
    let special = ["<|endoftext|>", "<|pad|>"].map(String::from).to_vec();
    TrainOptions { vocab, min_frequency: 2, special }
}

#[test]
fn the_file_of_the_tokenizers_package() {
    let mut trainer = Trainer::new(options(700)).unwrap();
    trainer.feed(&text());
    let trained = trainer.train();
    let want = include_str!("data/tokenizers/trained.json");
    let got = trained.to_json();
    let differs = got.bytes().zip(want.bytes()).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!(
            "{:?} …, want {:?} …",
            &got[at.saturating_sub(60)..][..90],
            &want[at.saturating_sub(60)..][..90]
        );
    }
    assert_eq!(got, want.trim_end());
    assert_eq!((trained.vocab_len(), trained.merges()), (700, 700 - 258));
}

/// Our reader takes the file, every text comes back, and a longer vocabulary makes fewer tokens.
#[test]
fn read_by_our_reader() {
    let text = text();
    let plain = EncodeOptions { special_tokens: false, ..EncodeOptions::default() };
    let folder = std::env::temp_dir().join(format!("samebits-train-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let lengths = [258, 300, 700, 5000].map(|vocab| {
        let mut trainer = Trainer::new(options(vocab)).unwrap();
        trainer.feed(&text);
        let trained = trainer.train();
        assert!(trained.vocab_len() <= vocab);
        let path = folder.join("tokenizer.json");
        std::fs::write(&path, trained.to_json()).unwrap();
        let tokenizer = Tokenizer::open(&path).unwrap();
        let ids = tokenizer.encode(&text, &plain).unwrap().ids;
        assert_eq!(tokenizer.decode(&ids, true), text);
        ids.len()
    });
    assert_eq!(lengths[0], text.len());
    assert!(lengths.is_sorted_by(|a, b| a > b), "{lengths:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nothing_and_nonsense() {
    assert_eq!(Trainer::new(options(300)).unwrap().train().vocab_len(), 258);
    let error = Trainer::new(options(257)).unwrap_err().to_string();
    assert_eq!(error, "a vocabulary of 257: at least 258 are needed, 256 bytes and 2 special tokens");
    for special in [vec!["a"], vec![""], vec!["<s>", "<s>"]] {
        let special = special.into_iter().map(String::from).collect();
        assert!(Trainer::new(TrainOptions { special, ..options(700) }).is_err());
    }
}

/// The command: two files, a folder; the same vocabulary as the library's; complaints.
#[test]
fn the_command() {
    let folder = std::env::temp_dir().join(format!("samebits-train-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (first, second, out) = (folder.join("1.txt"), folder.join("2.txt"), folder.join("out"));
    std::fs::write(&first, text()).unwrap();
    std::fs::write(&second, "low lower lowest\n").unwrap();
    let run = |extra: &[&str]| {
        let mut command = program::program();
        command.arg("train-tokenizer").args([&first, &second]).args(["--vocab", "400"]).args(extra);
        command.output().unwrap()
    };
    let output = run(&["--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let mut trainer = Trainer::new(TrainOptions { vocab: 400, ..TrainOptions::default() }).unwrap();
    trainer.feed(&text());
    trainer.feed("low lower lowest\n");
    let got = std::fs::read_to_string(out.join("tokenizer.json")).unwrap();
    assert_eq!(got, trainer.train().to_json());
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    std::fs::write(&second, [b'a', 0xff]).unwrap();
    let output = run(&["--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("2.txt: byte 1: the text is not UTF-8"), "{message}");
    std::fs::remove_dir_all(folder).unwrap();
}
