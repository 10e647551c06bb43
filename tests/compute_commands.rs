//! `--compute` and `--attention`, as users meet them: said in what comes out, the same on every thread and tier, never mixed in silence.

mod common;

use common::program::{Folder, assert_fails, out, program, run};
use samebits::io::bytes::Access;
use samebits::io::json;
use samebits::kernels::attention::Products;
use samebits::nn::{Arithmetic, Compute};
use samebits::rag::embed::{Options, open};
use samebits::rag::{Index, Retriever};
use samebits::{Cpu, Tier};
use std::fs;

const BERT: &str = "tests/data/models/bert";
const CROSS: &str = "tests/data/rerank/bert";

fn printed(args: &[&str]) -> String {
    let done = run(args);
    assert!(done.status.success(), "{args:?}: {done:?}");
    out(&done).trim().to_owned()
}

fn said(text: &str, key: &str) -> String {
    let root = json::parse(text.as_bytes()).unwrap();
    root.get(key).map(|value| value.as_str().unwrap().into_owned()).unwrap_or_default()
}

#[test]
fn a_text_of_each_class_is_the_same_for_any_threads_and_tier() {
    let mut texts = Vec::new();
    let all = Compute::ALL.map(Arithmetic::from);
    for class in all.into_iter().chain([Arithmetic { attention: Products::Bf16, ..Arithmetic::F32 }]) {
        let [(_, compute), (_, attention)] = class.named();
        let classes = ["--compute", compute, "--attention", attention];
        let flags = ["generate", "--temperature", "0", "--max-tokens", "40", "--json"];
        let flags = [&flags[..], &classes].concat();
        let all = printed(&flags);
        assert_eq!([said(&all, "compute"), said(&all, "attention")], [compute, attention]);
        let text = said(&all, "text");
        assert_eq!(said(&printed(&[&flags[..], &["--threads", "2"]].concat()), "text"), text);
        for cpu in Cpu::all().filter(|cpu| cpu.tier() != Tier::Scalar) {
            for tier in [cpu.tier().name().to_owned(), format!("{},-vnni,-dotprod", cpu.tier().name())] {
                let done = program().args(&flags).env("SAMEBITS_TIER", &tier).output().unwrap();
                // Not every tier knows every extra.
                if done.status.success() {
                    assert_eq!(said(out(&done).trim(), "text"), text, "{class:?}, {tier}");
                }
            }
        }
        texts.push(text);
    }
    assert!(texts.iter().all(|text| text.len() > 60), "{texts:?}");
}

#[test]
fn the_perplexity_of_each_class_is_near_that_of_f32() {
    let folder = Folder::new("compute_perplexity");
    let file = folder.path("text.txt");
    let story = "Once upon a time there was a little boy named Tom. He had a red ball and a small dog. ";
    fs::write(&file, story.repeat(4)).unwrap();
    let [f32, bf16, int8] = Compute::ALL.map(|class| {
        let flags = ["perplexity", "--text", file.to_str().unwrap(), "--json", "--compute", class.name()];
        let all = printed(&flags);
        assert_eq!(said(&all, "compute"), class.name());
        json::parse(all.as_bytes()).unwrap().get("perplexity").unwrap().as_f64().unwrap()
    });
    assert!(bf16 != f32 && (bf16 / f32 - 1.0).abs() < 0.02, "{bf16} beside {f32}");
    assert!(int8 != f32 && (int8 / f32 - 1.0).abs() < 0.1, "{int8} beside {f32}");
    let plain = printed(&["perplexity", "--text", file.to_str().unwrap(), "--compute", "int8"]);
    assert!(plain.ends_with(", in int8"), "{plain}");
    let attention = |flags: &[&str]| {
        printed(&[&["perplexity", "--text", file.to_str().unwrap(), "--attention", "bf16"], flags].concat())
    };
    let all = attention(&["--json"]);
    assert_eq!([said(&all, "compute"), said(&all, "attention")], ["f32", "bf16"]);
    let rounded = json::parse(all.as_bytes()).unwrap().get("perplexity").unwrap().as_f64().unwrap();
    assert!(rounded != f32 && (rounded / f32 - 1.0).abs() < 0.02, "{rounded} beside {f32}");
    // Of keys that are rounded as they are read it is nothing that they were before, as they were kept.
    assert_eq!(
        attention(&["--cache", "bf16", "--json"]).replace("\"bf16\",\"compute", "\"f32\",\"compute"),
        all
    );
    assert!(attention(&["--compute", "bf16"]).ends_with(", in bf16, attention in bf16"));
}

#[test]
fn an_index_says_its_class_and_is_searched_in_it_alone() {
    let folder = Folder::new("compute_index");
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let rows: String =
        ["abc def", "xyx fox abc", "the sea", "cba fed what"].iter().enumerate().map(row).collect();
    fs::write(folder.path("rows.jsonl"), rows).unwrap();
    let (rows, file, exact) = (path("rows.jsonl"), path("int8.sbi"), path("f32.sbi"));
    let made = |output: &str, class: &str| {
        printed(&["index", &rows, "-o", output, "--model", BERT, "--json", "--compute", class])
    };
    assert_eq!(said(&made(&file, "int8"), "compute"), "int8");
    assert_eq!(said(&made(&exact, "f32"), "compute"), "f32");
    let search = ["search", &file, "abc", "--mode", "dense", "--json"];
    assert_eq!(said(&printed(&search), "compute"), "int8");
    let ask = printed(&["ask", &file, "abc", "--json"]);
    assert_eq!(said(&ask, "compute"), "int8");
    let searched = printed(&["search", &exact, "abc", "--mode", "dense", "--json"]);
    assert!(!searched.contains("\"compute\""), "f32 is what is usual: {searched}");
    assert_ne!(hits(&searched), hits(&printed(&search)), "vectors of two classes");
    // Updates keep the class, or are refused.
    let update = ["index", &rows, "-o", &file, "--model", BERT, "--update"];
    assert!(printed(&update).contains("0 new or changed"));
    let other = [&update[..], &["--compute", "bf16"]].concat();
    assert_fails(&run(other), 2, "it was made with other settings");
    // In a library too, no model of another class takes its place.
    let index = Index::open(file.as_ref(), Access::Map).unwrap();
    assert_eq!(index.settings().arithmetic, Compute::Int8.into());
    for (compute, fits) in [(Compute::Int8, true), (Compute::F32, false), (Compute::Bf16, false)] {
        let options =
            Options { normalize: true, dim: None, arithmetic: compute.into(), ..Options::default() };
        let model = open(BERT, Cpu::detect(), options).unwrap();
        assert_eq!(Retriever::new(&index, Some(&*model)).is_ok(), fits, "{compute:?}");
    }
    // Attention is a setting beside it.
    let rounded = path("attention.sbi");
    let made = ["index", &rows, "-o", &rounded, "--model", BERT, "--json", "--attention", "bf16"];
    let made = printed(&made);
    assert_eq!([said(&made, "compute"), said(&made, "attention")], ["f32", "bf16"]);
    let searched_so = printed(&["search", &rounded, "abc", "--mode", "dense", "--json"]);
    assert_eq!([said(&searched_so, "compute"), said(&searched_so, "attention")], ["", "bf16"]);
    assert_ne!(hits(&searched_so), hits(&searched), "vectors of two kinds");
    let update = ["index", &rows, "-o", &rounded, "--model", BERT, "--update"];
    assert!(printed(&update).contains("0 new or changed"));
    assert_fails(&run([&update[..], &["--attention", "f32"]].concat()), 2, "it was made with other settings");
    let index = Index::open(rounded.as_ref(), Access::Map).unwrap();
    let arithmetic = index.settings().arithmetic;
    assert_eq!(arithmetic, Arithmetic { attention: Products::Bf16, ..Arithmetic::F32 });
    for (arithmetic, fits) in [(arithmetic, true), (Arithmetic::F32, false), (Arithmetic::BF16, false)] {
        let model = open(
            BERT,
            Cpu::detect(),
            Options { normalize: true, dim: None, arithmetic, ..Options::default() },
        )
        .unwrap();
        assert_eq!(Retriever::new(&index, Some(&*model)).is_ok(), fits, "{arithmetic:?}");
    }
    assert_fails(&run(["index", "merge", &rounded, &exact, "-o", &path("all.sbi")]), 1, "other settings");
    assert_fails(&run(["index", "merge", &file, &exact, "-o", &path("all.sbi")]), 1, "other settings");
}

fn row((i, text): (usize, &&str)) -> String {
    format!("{{\"_id\": \"r{i}\", \"text\": \"{text}\"}}\n")
}

fn hits(text: &str) -> String {
    text.split_once("\"hits\":").unwrap().1.to_owned()
}

#[test]
fn a_reranker_has_a_class_of_its_own() {
    let folder = Folder::new("compute_rerank");
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let rows: String = ["abc def sea", "sea fox abc", "the sea"].iter().enumerate().map(row).collect();
    fs::write(folder.path("rows.jsonl"), rows).unwrap();
    let file = path("rows.sbi");
    printed(&["index", &path("rows.jsonl"), "-o", &file, "--lexical"]);
    let search = ["search", &file, "sea", "--json", "--rerank", CROSS];
    let (exact, rounded) = (printed(&search), printed(&[&search[..], &["--compute", "bf16"]].concat()));
    assert_eq!(said(&rounded, "rerank_compute"), "bf16");
    assert_ne!(hits(&exact), hits(&rounded));
    assert_fails(
        &run(["search", &file, "sea", "--compute", "bf16"]),
        2,
        "--compute is of the model of --rerank",
    );
    let rounded = printed(&[&search[..], &["--attention", "bf16"]].concat());
    assert_eq!([said(&rounded, "rerank_compute"), said(&rounded, "rerank_attention")], ["", "bf16"]);
    assert_ne!(hits(&exact), hits(&rounded));
    let alone = ["search", &file, "sea", "--attention", "bf16"];
    assert_fails(&run(alone), 2, "--attention is of the model of --rerank");
    let lexical = ["search", &file, "sea", "--rerank", "lexical", "--compute", "int8"];
    assert_fails(&run(lexical), 1, "`lexical` has no products to compute in int8");
}

#[test]
fn vectors_say_their_class_and_tables_have_none() {
    let folder = Folder::new("compute_embed");
    let file = folder.path("texts.txt");
    fs::write(&file, "abc def\nthe sea\n").unwrap();
    let file = file.to_str().unwrap();
    let embed = |class: &str| printed(&["embed", "--model", BERT, file, "--compute", class]);
    assert!(embed("int8").lines().all(|line| said(line, "compute") == "int8"));
    assert!(!embed("f32").contains("compute"));
    let rounded = printed(&["embed", "--model", BERT, file, "--attention", "bf16"]);
    let is_said = |line| [said(line, "compute"), said(line, "attention")] == ["", "bf16"];
    assert!(rounded.lines().all(is_said) && !embed("f32").contains("attention"));
    assert_fails(&run(["embed", file, "--attention", "bf16"]), 1, "no attention to compute in bf16");
    assert_fails(&run(["embed", file, "--attention", "int8"]), 2, "is none of f32, bf16");
    assert_fails(&run(["index", file, "-o", "x.sbi", "--lexical", "--attention", "bf16"]), 2, "exclude");
    assert_fails(&run(["bench", "--train", BERT, "--attention", "bf16"]), 2, "exclude each other");
    assert_fails(&run(["bench", "--attention", "bf16"]), 2, "goes with --model");
    assert_fails(&run(["embed", file, "--compute", "int8"]), 1, "no products to compute in int8");
    assert_fails(&run(["embed", file, "--compute", "fp8"]), 2, "is none of f32, bf16, int8");
    assert_fails(&run(["index", file, "-o", "x.sbi", "--lexical", "--compute", "bf16"]), 2, "exclude");
}

#[test]
fn info_checks_every_class() {
    let info = printed(&["info", "--json"]);
    let root = json::parse(info.as_bytes()).unwrap();
    for class in Compute::ALL {
        let right = root.get("classes").unwrap().get(class.name()).unwrap().as_bool();
        assert_eq!(right, Some(true), "{class:?}");
    }
    let tiers: Vec<_> = Cpu::all().map(|cpu| cpu.tier().name()).collect();
    let line = format!("classes      f32, bf16, int8: the committed bits on {}", tiers.join(" = "));
    assert!(printed(&["info"]).contains(&line));
}
