//! `--rerank` of `search`, `ask` and `serve`: the order is the library's, of the passages that were found.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::io::json::{self, Value};
use samebits::rag::Analyzer;
use samebits::rag::rerank::{self, ranking};
use samebits::{Cpu, run::Run};
use std::fs;
use std::path::Path;

const FOLDER: &str = "tests/data/rerank";
const QUESTION: &str = "what of the sea?";
/// What each of the three kinds is named by: a cross-encoder, late interaction, none.
const NAMES: [&str; 4] =
    ["tests/data/rerank/bert", "tests/data/rerank/roberta", "tests/data/rerank/colbert", "lexical"];

/// An index of sixty rows that all have the question's word, so that all are found.
fn index(folder: &Folder) -> String {
    let words = ["abc", "def", "xyx", "fox", "cba", "fed", "qqq", "what", "zyx"];
    let text = |i: usize| format!("sea {} {} {}", words[i % 9], words[i / 7], "sea ".repeat(i % 5));
    let row = |i: usize| format!("{{\"_id\": \"r{i:02}\", \"text\": \"{}\"}}\n", text(i).trim());
    fs::write(folder.path("rows.jsonl"), (0..60).map(row).collect::<String>()).unwrap();
    let file = folder.path("rows.sbi").to_str().unwrap().to_owned();
    let done = run(["index", folder.path("rows.jsonl").to_str().unwrap(), "-o", &file, "--lexical"]);
    assert!(done.status.success(), "{done:?}");
    file
}

fn printed(args: &[&str]) -> String {
    let done = run(args);
    assert!(done.status.success(), "{done:?}");
    out(&done).trim().to_owned()
}

/// Document, score and text of every hit.
fn hits(file: &str, more: &[&str]) -> Vec<(String, f64, String)> {
    let said = printed(&[&["search", file, QUESTION, "--json"], more].concat());
    let said = json::parse(said.as_bytes()).unwrap();
    let hit = |hit: Value<'_>| {
        let text = |key: &str| hit.get(key).unwrap().as_str().unwrap().into_owned();
        (text("document"), hit.get("score").unwrap().as_f64().unwrap(), text("text"))
    };
    said.get("hits").unwrap().elements().unwrap().map(hit).collect()
}

/// What the library makes of what was found.
fn expected(name: &str, found: &[(String, f64, String)]) -> Vec<(String, f64)> {
    let reranker = rerank::open(Path::new(name), Cpu::detect(), Analyzer::english()).unwrap();
    let texts: Vec<&str> = found.iter().map(|(_, _, text)| text.as_str()).collect();
    let scores = reranker.scores(&Run::here(Cpu::detect()), QUESTION, &texts).unwrap();
    ranking(&scores).into_iter().map(|i| (found[i].0.clone(), f64::from(scores[i]))).collect()
}

#[test]
fn hits_stand_as_the_library_ranks_them() {
    let folder = Folder::new("rerank_search");
    let file = index(&folder);
    let all = hits(&file, &["-k", "100"]);
    assert_eq!(all.len(), 60);
    for name in NAMES {
        for (more, from, k) in [
            (&["-k", "7"][..], 50, 7),
            (&["--rerank-from", "20"], 20, 10),
            // Fewer than are wanted: all that are wanted are looked at.
            (&["-k", "30", "--rerank-from", "5"], 30, 30),
            (&["-k", "100"], 60, 60),
        ] {
            let found = hits(&file, &[&["--rerank", name], more].concat());
            let found: Vec<(String, f64)> = found.into_iter().map(|(id, score, _)| (id, score)).collect();
            assert_eq!(found, expected(name, &all[..from])[..k], "{name} {more:?}");
        }
        // Twice, and on other threads, the same bytes; for people the same order.
        let args = ["search", &file, QUESTION, "--rerank", name, "-k", "3"];
        let shown = printed(&args);
        assert_eq!(shown, printed(&[&args[..], &["--threads", "1"]].concat()));
        let order: Vec<usize> =
            expected(name, &all[..50])[..3].iter().map(|(id, _)| shown.find(id.as_str()).unwrap()).collect();
        assert!(order.is_sorted(), "{name}: {shown}");
    }
    // By what a hit was found is told beside what the reranker says.
    let said = printed(&["search", &file, QUESTION, "--json", "--rerank", "lexical", "-k", "60"]);
    let said = json::parse(said.as_bytes()).unwrap();
    for hit in said.get("hits").unwrap().elements().unwrap() {
        let id = hit.get("document").unwrap().as_str().unwrap();
        let before = all.iter().find(|(known, _, _)| *known == id).unwrap().1;
        assert_eq!(hit.get("retrieved").unwrap().as_f64(), Some(before));
    }
    assert!(!printed(&["search", &file, QUESTION, "--json"]).contains("retrieved"));
}

#[test]
fn answers_rest_on_what_stands_first_and_the_trace_says_so() {
    let folder = Folder::new("rerank_ask");
    let file = index(&folder);
    let all = hits(&file, &["-k", "100"]);
    for name in NAMES {
        let more = ["--rerank", name, "--rerank-from", "40", "-k", "6", "--trace"];
        let said = printed(&[&["ask", &file, QUESTION, "--json"], &more[..]].concat());
        let said = json::parse(said.as_bytes()).unwrap();
        let trace: Vec<Value<'_>> = said.get("trace").unwrap().elements().unwrap().collect();
        let names: Vec<String> =
            trace.iter().map(|stage| stage.get("name").unwrap().as_str().unwrap().into_owned()).collect();
        assert_eq!(names, ["retrieve", "rerank", "assemble", "extract"]);
        let items = |stage: usize| -> Vec<(String, f64)> {
            let item = |item: Value<'_>| {
                let what = item.get("what").unwrap().as_str().unwrap().into_owned();
                (what.split(':').next().unwrap().to_owned(), item.get("score").unwrap().as_f64().unwrap())
            };
            trace[stage].get("items").unwrap().elements().unwrap().map(item).collect()
        };
        let before: Vec<(String, f64)> =
            all[..40].iter().map(|(id, score, _)| (id.clone(), *score)).collect();
        assert_eq!(items(0), before);
        let ranked = expected(name, &all[..40]);
        assert_eq!(items(1), ranked, "{name}");
        assert!(trace[1].get("ms").unwrap().as_f64().unwrap() >= 0.0);
        // The context has of the first six those whose texts differ, the best first.
        let citation = |citation: Value<'_>| {
            let document = citation.get("document").unwrap().as_str().unwrap().into_owned();
            (document, citation.get("score").unwrap().as_f64().unwrap())
        };
        let cited: Vec<(String, f64)> =
            said.get("citations").unwrap().elements().unwrap().map(citation).collect();
        assert!(!cited.is_empty() && cited.iter().all(|cited| ranked[..6].contains(cited)), "{cited:?}");
        assert_eq!(cited[0].1, ranked[0].1);
        let shown = printed(&[&["ask", &file, QUESTION], &more[..]].concat());
        let (_, stage) = shown.split_once("rerank  ").unwrap_or_else(|| panic!("{shown}"));
        assert!(stage.contains(" ms") && stage.contains("… 35 more"), "{shown}");
    }
}

#[test]
fn mistakes_name_the_folder() {
    let folder = Folder::new("rerank_mistakes");
    let file = index(&folder);
    let empty = folder.path("empty");
    fs::create_dir(&empty).unwrap();
    let labels = folder.path("labels");
    fs::create_dir(&labels).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(FOLDER).join("bert").join(name), labels.join(name)).unwrap();
    }
    let (empty, labels) = (empty.to_str().unwrap(), labels.to_str().unwrap());
    for command in ["search", "ask", "serve"] {
        let question: &[&str] = if command == "serve" { &["--port", "0"] } else { &["sea"] };
        let fails = |more: &[&str], code, what| {
            assert_fails(&run([&[command, &file], question, more].concat()), code, what);
        };
        fails(&["--rerank", "no/such/folder"], 1, "no/such/folder");
        fails(&["--rerank", empty], 1, empty);
        // Without a tokenizer, and of another family.
        fails(&["--rerank", labels], 1, labels);
        fails(&["--rerank", "tests/data/models/llama"], 1, "tests/data/models/llama/config.json");
        fails(&["--rerank-from", "5"], 2, "--rerank");
        fails(&["--rerank", "lexical", "--rerank-from", "0"], 2, "--rerank-from");
    }
}
