//! `samebits tokenize` as its users meet it.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::program::{Folder, assert_fails, out, program, run};
use samebits::io::json;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers").join(name)
}

/// Runs `samebits tokenize` with `input` as standard input.
fn tokenize(args: &[&str], model: &Path, input: &[u8]) -> Output {
    let mut command = program();
    command.arg("tokenize").arg("--model").arg(model).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A program that fails early does not read.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("the program ends")
}

#[test]
fn a_table_for_people() {
    let model = data("wordpiece.vocab.txt");
    let shown = tokenize(&["the tiér\u{1b}"], &model, b"");
    assert_eq!(shown.status.code(), Some(0));
    let want = " id  bytes  token\n  2         [CLS]\n173  0..3   the\n387  4..9   tier\n  3         [SEP]\n";
    assert_eq!(out(&shown), want);
}

#[test]
fn ids_from_an_argument_and_from_standard_input_are_the_same() {
    let model = data("gpt2.json");
    let text = "The same bits,\n  everywhere 🚀";
    let argument = tokenize(&["--ids", text], &model, b"");
    for args in [&["--ids"][..], &["--ids", "-"], &["--ids", "--plain"]] {
        assert_eq!(out(&tokenize(args, &model, text.as_bytes())), out(&argument));
    }
    assert!(out(&argument).trim_end().split(' ').all(|id| id.parse::<u32>().is_ok()));
    assert_eq!(out(&tokenize(&["--ids", ""], &model, b"")), "\n");
}

#[test]
fn json_says_everything() {
    let got = tokenize(&["--json", "é the"], &data("llama2.json"), b"");
    let root = json::parse(out(&got).as_bytes()).unwrap();
    let list = |key: &str| root.get(key).unwrap().elements().unwrap().map(|v| v.source().into()).collect();
    let tokens: Vec<String> = list("tokens");
    assert_eq!(tokens, ["\"<s>\"", "\"▁\"", "\"é\"", "\"▁the\""]);
    let bytes: Vec<String> = list("bytes");
    assert_eq!(bytes, ["[0,0]", "[0,2]", "[0,2]", "[2,6]"]);
    let chars: Vec<String> = list("chars");
    assert_eq!(chars, ["[0,0]", "[0,1]", "[0,1]", "[1,5]"]);
    let special: Vec<String> = list("special");
    assert_eq!(special, ["1", "0", "0", "0"]);
}

#[test]
fn every_kind_of_file_and_a_folder_is_opened() {
    for name in ["unigram.json", "wordpiece.vocab.txt", "spm_bpe.model", "spm_unigram.model"] {
        assert_eq!(tokenize(&["a text"], &data(name), b"").status.code(), Some(0), "{name}");
    }
    let folder = Folder::new("tokenize-folder");
    let empty = tokenize(&["a"], &folder.0, b"");
    assert_fails(&empty, 1, "no tokenizer in this folder");
    std::fs::copy(data("spm_bpe.model"), folder.path("tokenizer.model")).unwrap();
    let model = tokenize(&["--ids", "a text"], &folder.0, b"");
    assert_eq!(out(&model), out(&tokenize(&["--ids", "a text"], &data("spm_bpe.model"), b"")));
    // What the model's own configuration says about its ends counts.
    let config = r#"{"add_bos_token": false, "add_eos_token": true}"#;
    std::fs::write(folder.path("tokenizer_config.json"), config).unwrap();
    let ends = tokenize(&["--ids", "a text"], &folder.0, b"");
    let (bare, ends) = (out(&model).trim_end().strip_prefix("1 ").unwrap(), out(&ends).trim_end());
    assert_eq!(ends.strip_suffix(" 2"), Some(bare));
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let folder = Folder::new("tokenize-wrong");
    let model = data("gpt2.json");
    assert_fails(&run(["tokenize", "text"]), 2, "--model PATH");
    assert_fails(&tokenize(&["--ids", "--json", "a"], &model, b""), 2, "two answers");
    assert_fails(&tokenize(&["a", "b"], &model, b""), 2, "unexpected argument");
    assert_fails(&tokenize(&["a"], &folder.path("none.json"), b""), 1, "none.json");
    assert_fails(&tokenize(&["-"], &model, b"ab\xff"), 1, "standard input: byte 2: the text is not UTF-8");
    let cases: [(&str, &[u8], &str); 6] = [
        ("lfs.json", b"version https://git-lfs.github.com/spec/v1\noid x\n", "git-LFS pointer"),
        ("page.json", b"<!DOCTYPE html><html>", "HTML page"),
        ("empty.json", b"", "no tokenizer of a known kind"),
        ("cut.json", b"{\"model\": {", "byte 11: "),
        ("words.txt", b"just\nsome\nwords\n", "no token [UNK]"),
        ("noise.bin", &[7; 999], "no tokenizer of a known kind"),
    ];
    for (name, bytes, message) in cases {
        std::fs::write(folder.path(name), bytes).unwrap();
        let failed = tokenize(&["a"], &folder.path(name), b"");
        assert_fails(&failed, 1, message);
        assert!(String::from_utf8_lossy(&failed.stderr).contains(name), "{name} is not named");
    }
}
