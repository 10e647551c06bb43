//! `index`, `search` and `eval`, as their users meet them.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::io::json;
use std::fs;
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder of a few documents of several formats.
fn notes(folder: &Folder) -> String {
    let notes = folder.path("notes");
    fs::create_dir_all(notes.join("deep")).unwrap();
    for (name, content) in [
        (
            "tides.md",
            "# Tides\n\nThe moon pulls the sea.\n\n## Spring tides\n\nSun and moon pull together.\n",
        ),
        ("deep/bread.txt", "Flour, water, salt.\nKnead for ten minutes.\nBake until brown.\n"),
        ("deep/page.html", "<title>Ships</title><p>A ship has a keel.</p><p>The mast carries sails.</p>"),
        (
            "table.csv",
            "id,text,year\nr1,The harbour was built of granite.,1850\nr2,A lantern burns at night.,1920\n",
        ),
        ("code.rs", "/// Adds.\nfn add(a: u32, b: u32) -> u32 {\n    a + b\n}\n"),
        (".hidden", "nobody finds this"),
        ("skipped.log", "nobody finds this either"),
        (".gitignore", "*.log\n"),
    ] {
        fs::write(notes.join(name), content).unwrap();
    }
    text(&notes).into()
}

fn index(paths: &[&str], output: &str, more: &[&str]) -> String {
    let args = [&["index"], paths, &["-o", output, "--lexical"], more].concat();
    let done = run(args);
    assert!(done.status.success(), "{done:?}");
    out(&done).to_owned()
}

fn search(index: &str, query: &str, more: &[&str]) -> Vec<(String, u64, String)> {
    let done = run([&["search", index, query, "--json"], more].concat());
    assert!(done.status.success(), "{done:?}");
    let text = out(&done).to_owned();
    let root = json::parse(text.trim().as_bytes()).unwrap();
    let hit = |hit: json::Value<'_>| {
        let text = |key: &str| hit.get(key).unwrap().as_str().unwrap().into_owned();
        (text("document"), hit.get("line").unwrap().as_u64().unwrap(), text("text"))
    };
    root.get("hits").unwrap().elements().unwrap().map(hit).collect()
}

#[test]
fn a_folder_is_indexed_and_searched() {
    let folder = Folder::new("index_folder");
    let (notes, file) = (notes(&folder), folder.path("notes.sbi"));
    let file = text(&file);
    let said = index(&[&notes], file, &["--size", "60", "--overlap", "0"]);
    assert!(said.contains("6 documents"), "{said}");
    let found = search(file, "who pulls together?", &["-k", "1"]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.as_str(), found[0].1), (format!("{notes}/tides.md").as_str(), 5));
    assert!(found[0].2.starts_with("## Spring tides"));
    let found = search(file, "kneading", &[]);
    assert_eq!((found[0].0.as_str(), found[0].1), (format!("{notes}/deep/bread.txt").as_str(), 1));
    assert_eq!(search(file, "lantern", &[])[0].0, "r2");
    assert!(search(file, "lantern", &["--filter", "year < 1900"]).is_empty());
    assert_eq!(search(file, "harbour", &["--filter", "year < 1900"]).len(), 1);
    assert!(search(file, "nobody", &[]).is_empty());
    assert_eq!(search(file, "ship sails", &[])[0].0, format!("{notes}/deep/page.html"));
    // For people: rank, score, file:line, the words.
    let done = run(["search", file, "moon"]);
    assert!(out(&done).contains("tides.md:") && out(&done).contains("The moon pulls the sea."), "{done:?}");
    // Twice the same bytes.
    assert_eq!(out(&done), out(&run(["search", file, "moon", "--resident"])));
}

#[test]
fn an_update_gives_the_bytes_of_a_new_index() {
    let folder = Folder::new("index_update");
    let notes = notes(&folder);
    let (file, fresh) = (folder.path("notes.sbi"), folder.path("fresh.sbi"));
    let (file, fresh) = (text(&file), text(&fresh));
    index(&[&notes], file, &["--chunker", "sentences"]);
    fs::write(Path::new(&notes).join("tides.md"), "# Tides\n\nThey come twice a day.\n").unwrap();
    fs::remove_file(Path::new(&notes).join("code.rs")).unwrap();
    fs::write(Path::new(&notes).join("new.txt"), "Something new.").unwrap();
    let done = run(["index", &notes, "-o", file, "--update", "--json"]);
    assert!(done.status.success(), "{done:?}");
    let said = out(&done);
    let said = json::parse(said.trim().as_bytes()).unwrap();
    let number = |key: &str| said.get(key).unwrap().as_u64().unwrap();
    assert_eq!([number("documents"), number("changed"), number("removed")], [6, 2, 1]);
    index(&[&notes], fresh, &["--chunker", "sentences"]);
    assert!(fs::read(file).unwrap() == fs::read(fresh).unwrap());
    assert_fails(
        &run(["index", &notes, "-o", file, "--update", "--size", "7"]),
        2,
        "made with other settings",
    );
}

#[test]
fn without_a_model_the_table_inside_serves() {
    let folder = Folder::new("index_inside");
    let (notes, file) = (notes(&folder), folder.path("notes.sbi"));
    let file = text(&file);
    for more in [&[][..], &["--vectors", "int8", "--graph"], &["--unit", "tokens", "--size", "16"]] {
        let done = run([&["index", &notes, "-o", file], more].concat());
        assert!(done.status.success(), "{done:?}");
        // No word of the question stands there.
        let found = search(file, "recipe dough oven", &["--mode", "dense", "-k", "1"]);
        assert_eq!(found[0].0, format!("{notes}/deep/bread.txt"), "{more:?}");
        assert_eq!(search(file, "harbour", &[])[0].0, "r1", "{more:?}");
    }
}

#[test]
fn what_cannot_be_read_is_listed() {
    let folder = Folder::new("index_unreadable");
    let (notes, file) = (notes(&folder), folder.path("notes.sbi"));
    fs::write(Path::new(&notes).join("broken.txt"), [0xff, 0xfe, 0]).unwrap();
    fs::write(Path::new(&notes).join("broken.jsonl"), "{\"text\": \n").unwrap();
    let said = index(&[&notes], text(&file), &[]);
    assert!(said.contains("6 documents"), "{said}");
    for name in ["broken.txt: ", "broken.jsonl: "] {
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[test]
fn mistakes_get_one_line() {
    let folder = Folder::new("index_mistakes");
    let (notes, file) = (notes(&folder), folder.path("notes.sbi"));
    let file = text(&file);
    assert_fails(&run(["index", &notes]), 2, "--output");
    assert_fails(&run(["index", "-o", file]), 2, "expected PATH…");
    assert_fails(&run(["index", "/nowhere", "-o", file, "--lexical"]), 1, "/nowhere");
    assert_fails(&run(["index", &notes, "-o", file, "--lexical", "--chunker", "best"]), 2, "best");
    assert_fails(
        &run(["index", &notes, "-o", file, "--lexical", "--size", "10", "--overlap", "10"]),
        2,
        "overlap",
    );
    assert!(!Path::new(file).exists());
    let twice = folder.path("twice.jsonl");
    fs::write(&twice, "{\"_id\": \"r1\", \"text\": \"x\"}\n").unwrap();
    let done = run(["index", &notes, text(&twice), "-o", file, "--lexical"]);
    assert_fails(&done, 1, "two documents are called \"r1\"");
    index(&[&notes], file, &[]);
    assert_fails(&run(["search", file, "sea", "--filter", "year >"]), 2, "--filter");
    assert_fails(&run(["search", file, "sea", "--mode", "dense"]), 2, "no vectors");
    assert_fails(&run(["search", file, "sea", "-k", "0"]), 2, "--k");
    assert_fails(&run(["search", file]), 2, "QUERY");
    assert_fails(&run(["search", "/nowhere.sbi", "sea"]), 1, "/nowhere.sbi");
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    assert_fails(&run(["search", file, "sea"]), 1, "notes.sbi: byte 16");
    let mut bytes = bytes;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(file, &bytes).unwrap();
    assert_fails(&run(["search", file, "sea"]), 1, "\"lengths\" is damaged");
}

#[test]
fn a_collection_is_judged() {
    let folder = Folder::new("index_eval");
    fs::create_dir(folder.path("qrels")).unwrap();
    let corpus = "{\"_id\": \"a\", \"title\": \"Moon\", \"text\": \"It pulls the sea.\"}\n\
                  {\"_id\": \"b\", \"title\": \"\", \"text\": \"Bread needs salt and the sea has it.\"}\n\
                  {\"_id\": \"c\", \"title\": \"\", \"text\": \"Nothing of it.\"}\n";
    let queries = "{\"_id\": \"1\", \"text\": \"moon\"}\n{\"_id\": \"2\", \"text\": \"sea salt\"}\n";
    fs::write(folder.path("corpus.jsonl"), corpus).unwrap();
    fs::write(folder.path("queries.jsonl"), queries).unwrap();
    // The second query's best is b, which has both words; a, the relevant one, comes second.
    fs::write(folder.path("qrels/test.tsv"), "query-id\tcorpus-id\tscore\n1\ta\t1\n2\ta\t1\n").unwrap();
    let path = folder.path("");
    let done = run(["eval", text(&path), "--mode", "lexical", "--json"]);
    assert!(done.status.success(), "{done:?}");
    let said = out(&done);
    let said = json::parse(said.trim().as_bytes()).unwrap();
    let lexical = said.get("modes").unwrap().get("lexical").unwrap();
    let number = |key: &str| lexical.get(key).unwrap().as_f64().unwrap();
    assert_eq!(number("mrr@10"), 0.75);
    assert!((number("ndcg@10") - (1.0 + 1.0 / 3f64.log2()) / 2.0).abs() < 1e-12);
    assert_eq!(number("recall@10"), 1.0);
    assert_fails(&run(["eval", text(&path), "--mode", "lexical", "--split", "dev"]), 1, "dev.tsv");
    fs::write(folder.path("qrels/test.tsv"), "1\ta\t1\n9\ta\t1\n").unwrap();
    assert_fails(&run(["eval", text(&path), "--mode", "lexical"]), 1, "no query \"9\"");
}
