//! The model inside the program: its size, its stories, and what it learns.

mod common;

use common::program::{Folder, out, run};
use samebits::assets;
use samebits::io::json;
use samebits::io::tokenizer::{EncodeOptions, Tokenizer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/src/assets/inside/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn field(line: &str, name: &str) -> f64 {
    let value = json::parse(line.as_bytes()).unwrap();
    value.get(name).and_then(|v| v.as_f64()).unwrap_or_else(|| panic!("{name} in {line}"))
}

#[test]
fn all_of_it_has_less_than_900_kilobytes() {
    let sizes = ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| file(name).metadata().unwrap().len());
    let all: u64 = sizes.iter().sum();
    println!("{sizes:?} bytes: {all}");
    assert!(all <= 900_000, "{all} bytes");
}

/// A text as `generate` gives it.
fn story(more: &[&str]) -> String {
    let done = run(["generate", "--json", "--max-tokens", "200"].iter().chain(more));
    assert!(done.status.success(), "{done:?}");
    let said = json::parse(out(&done).as_bytes()).unwrap();
    said.get("text").and_then(|v| v.as_str()).unwrap().into_owned()
}

/// As it tells them unless told otherwise, and greedily: no four tokens in a row stand three times in 200.
#[test]
fn stories_do_not_go_round_in_circles() {
    let tokenizer = assets::tokenizer().unwrap();
    for more in [&[][..], &["--temperature", "0"]] {
        let story = story(more);
        println!("{more:?}: {story}\n");
        let ids = tokenizer.encode(&story, &EncodeOptions::plain()).unwrap().ids;
        let mut counts = BTreeMap::new();
        ids.windows(4).for_each(|four| *counts.entry(four).or_insert(0) += 1);
        let (four, most) = counts.iter().max_by_key(|(_, n)| **n).unwrap();
        assert!(*most < 3, "{more:?}: {:?} stands {most} times in {story}", tokenizer.decode(four, true));
        assert!(ids.len() > 100, "{more:?}: {story}");
    }
}

#[test]
fn without_a_prompt_a_story_begins() {
    let done = run(["generate", "--max-tokens", "5"]);
    assert!(out(&done).starts_with("Once upon a time"), "{done:?}");
    let done = run(["generate", "--max-tokens", "5", "--prompt", "Ben"]);
    assert!(done.status.success() && !out(&done).contains("Once upon"), "{done:?}");
}

/// Lines of pairs.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let value = json::parse(line.as_bytes()).unwrap();
        let text = |name| value.get(name).and_then(json::Value::as_str).unwrap().into_owned();
        (text("prompt"), text("completion"))
    };
    text.lines().map(pair).collect()
}

#[test]
fn no_held_out_answer_stands_among_those_that_are_learned() {
    let [learned, held_out] = assets::PAIRS.map(pairs);
    assert!(learned.len() >= 600 && held_out.len() >= 200);
    let answers: BTreeSet<&str> = learned.iter().map(|(_, answer)| answer.as_str()).collect();
    assert!(held_out.iter().all(|(_, answer)| !answers.contains(answer.as_str())));
    assert!(learned.iter().all(|(prompt, answer)| !prompt.contains(answer.trim())));
}

/// The demonstration: whole where that takes a minute, else its first steps.
#[test]
fn it_learns_to_say_who_has_what() {
    let folder = Folder::new("inside-finetune");
    let to = folder.path("adapter");
    let to = to.to_str().unwrap();
    let whole = !cfg!(debug_assertions) && std::env::var_os("SAMEBITS_SLOW").is_none();
    let few = |name: &str, text: &str, n: usize| {
        std::fs::write(
            folder.path(name),
            text.lines().take(n).map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
        folder.path(name).to_str().unwrap().to_string()
    };
    let [data, held_out] =
        [few("data.jsonl", assets::PAIRS[0], 16), few("held-out.jsonl", assets::PAIRS[1], 8)];
    let mut ask = vec!["finetune", "--out", to, "--json"];
    if !whole {
        ask.extend([
            "--data",
            &data,
            "--held-out",
            &held_out,
            "--exact-match",
            "--steps",
            "2",
            "--lr",
            "1e-3",
        ]);
    }
    let done = run(&ask);
    assert!(done.status.success(), "{done:?}");
    let last = out(&done).lines().last().unwrap();
    println!("{last}");
    let all = field(last, "held_out_examples");
    assert!(field(last, "exact_before") <= 0.02 * all, "{last}");
    assert!(field(last, "held_out_after") < field(last, "held_out_before"), "{last}");
    if !whole {
        return println!("SKIPPED: all steps and pairs, in a debug build or with SAMEBITS_SLOW");
    }
    assert!(all >= 200.0 && field(last, "exact_after") > 0.9 * all, "{last}");

    // Decoding step by step says what was counted.
    let [_, held_out] = assets::PAIRS.map(pairs);
    let right = held_out.iter().take(20).filter(|(prompt, answer)| {
        let ask =
            ["generate", "--adapter", to, "--temperature", "0", "--max-tokens", "20", "--prompt", prompt];
        out(&run(ask)).trim_end() == answer.as_str()
    });
    assert!(right.count() >= 16);
}

/// The files load as any folder does.
#[test]
fn its_folder_is_a_model() {
    let path = file("").to_str().unwrap().to_string();
    let said = |more: &[&str]| {
        let ask = [
            "generate",
            "--prompt",
            "Tom had a dog",
            "--max-tokens",
            "12",
            "--temperature",
            "0",
            "--repeat-penalty",
            "1",
        ];
        out(&run(ask.iter().chain(more))).to_string()
    };
    assert_eq!(said(&["--model", &path]), said(&[]));
    assert_eq!(Tokenizer::open(&path).unwrap().vocab_len(), 1536);
}
