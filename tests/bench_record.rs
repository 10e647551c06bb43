//! `samebits bench --record` and `--compare`: runs are kept, and what changed is told from noise.

mod common;

use common::program::{Folder, assert_fails, out, program};
use samebits::io::json;
use std::fs;
use std::process::Output;

fn bench(folder: &Folder, args: &[&str]) -> Output {
    program().current_dir(&folder.0).arg("bench").args(args).output().unwrap()
}

/// The only record below `folder`.
fn record(folder: &Folder) -> String {
    let only = |path: &str| {
        let mut names = fs::read_dir(folder.path(path)).unwrap().map(|e| e.unwrap().file_name());
        let first = names.next().unwrap().to_string_lossy().into_owned();
        assert!(names.next().is_none(), "more than one in {path}");
        format!("{path}/{first}")
    };
    only(&only("benches/record"))
}

#[test]
fn the_runs_of_a_day_are_one_record() {
    let folder = Folder::new("bench_record");
    for kernel in ["dot", "sum"] {
        let shape = ["--shape", "4096", "--seconds", "0.01", "--record"];
        let done = bench(&folder, &[&[kernel][..], &shape].concat());
        assert!(done.status.success(), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("recorded in benches/record/"));
    }
    let path = record(&folder);
    let (_, date) = path.rsplit_once('/').unwrap();
    assert!(date.len() == "2026-11-29.json".len() && date.starts_with("20"), "{path}");
    let text = fs::read_to_string(folder.path(&path)).unwrap();
    let value = json::parse(text.as_bytes()).unwrap();
    assert_eq!(value.get("runs").unwrap().elements().unwrap().count(), 2);
    let same = bench(&folder, &["--compare", &path, &path]);
    assert!(out(&same).contains("1.000") && out(&same).contains("the same"), "{}", out(&same));
    fs::write(folder.path(&path), "{}").unwrap();
    let refused = bench(&folder, &["dot", "--shape", "64", "--seconds", "0.01", "--record"]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("this is no record")
    );
    assert_eq!(fs::read_to_string(folder.path(&path)).unwrap(), "{}", "what is no record is left alone");
}

/// A run with one kernel, as `bench --json` prints it.
fn run(of_peak: f64, spread: f64, kernel: &str, hash: &str) -> String {
    let summary = |x: f64| {
        let (min, max) = (x * (1.0 - spread / 2.0), x * (1.0 + spread / 2.0));
        format!("{{\"median\": {x}, \"min\": {min}, \"max\": {max}, \"samples\": 9}}")
    };
    format!(
        "{{\"schema\": \"samebits-bench/1\", \"machine\": {{\"processor\": \"P\"}}, \"run\": {{\"threads\": 1, \"cache\": \"warm\"}}, \
         \"rows\": [{{\"kernel\": \"{kernel}\", \"shape\": \"8\", \"tier\": \"avx2\", \"unit\": \"GB/s\", \"rate\": {}, \
         \"of_peak\": {}, \"spread\": {spread}, \"hash\": \"{hash}\"}}]}}",
        summary(40.0 * of_peak),
        summary(of_peak)
    )
}

#[test]
fn verdicts() {
    let folder = Folder::new("bench_compare");
    let compare = |before: String, after: String| {
        fs::write(folder.path("a"), before).unwrap();
        fs::write(folder.path("b"), after).unwrap();
        let done = bench(&folder, &["--compare", "a", "b", "--json"]);
        assert!(done.status.success(), "{done:?}");
        let all = json::parse(out(&done).as_bytes()).unwrap();
        let verdict = |row: json::Value<'_>| row.get("verdict").unwrap().as_str().unwrap().into_owned();
        all.elements().unwrap().map(verdict).collect::<Vec<_>>()
    };
    let quiet = || run(0.8, 0.01, "dot", "00");
    assert_eq!(compare(quiet(), run(0.79, 0.01, "dot", "00")), ["the same"]);
    assert_eq!(compare(quiet(), run(0.70, 0.01, "dot", "00")), ["slower"]);
    assert_eq!(compare(quiet(), run(0.70, 0.50, "dot", "00")), ["the same"], "noise is no change");
    assert_eq!(compare(quiet(), run(0.90, 0.01, "dot", "00")), ["faster"]);
    assert_eq!(compare(quiet(), run(0.80, 0.01, "dot", "01")), ["other bits"]);
    let elsewhere = |hash| run(0.40, 0.01, "dot", hash).replace("\"P\"", "\"Q\"");
    assert_eq!(compare(quiet(), elsewhere("00")), ["other processor"], "two peaks");
    assert_eq!(compare(quiet(), elsewhere("01")), ["other bits"], "which are the same everywhere");
    let people = bench(&folder, &["--compare", "a", "b"]);
    assert!(out(&people).starts_with("not of one processor: P; Q\n"), "{}", out(&people));
    assert_eq!(compare(quiet(), run(0.80, 0.01, "sum", "00")), ["gone", "new"]);
    let people = bench(&folder, &["--compare", "a", "b"]);
    assert!(out(&people).ends_with("1 new, 1 gone\n"), "{}", out(&people));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = Folder::new("bench_compare_wrong");
    fs::write(folder.path("a"), run(0.8, 0.01, "dot", "00")).unwrap();
    fs::write(folder.path("b"), "{\"schema\": \"other\"}").unwrap();
    fs::write(folder.path("c"), run(0.8, 0.01, "dot", "00").replace("\"spread\"", "\"spare\"")).unwrap();
    assert_fails(&bench(&folder, &["--compare", "a"]), 2, "--compare takes two files");
    assert_fails(&bench(&folder, &["--compare", "a", "none"]), 1, "none: cannot open");
    assert_fails(&bench(&folder, &["--compare", "a", "b"]), 1, "b: this is neither a record");
    assert_fails(&bench(&folder, &["--compare", "a", "c"]), 1, "c: ");
}
