//! `samebits bench`: its output has the documented form, and what it measures is right.

mod common;

use common::{Cpu, Tier, cpus};
use samebits::bench::ceiling::Ceiling;
use samebits::bench::cold::Cache;
use samebits::bench::measure::{Stopwatch, Summary};
use samebits::bench::peak::{Access, Arithmetic, Memory, Store};
use samebits::bench::report::SCHEMA;
use samebits::bench::rows::{Case, Entry, Inputs, Run, entries};
use samebits::bench::svg::{Point, roofline};
use samebits::bench::{Plan, Session, shape};
use samebits::io::json::{self, Kind, Value};
use samebits::kernels::Line;
use samebits::pool::Pool;
use std::collections::BTreeSet;

/// Exit code, standard output, standard error.
fn samebits(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = samebits::cli::run(args.iter().map(Into::into), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Two kernels, a shape each, every tier.
const QUICK: &[&str] =
    &["bench", "dot", "softmax", "--shape=4096", "--shape=64x64", "--seconds=0.001", "--tier=all"];

fn quick(more: &[&str]) -> String {
    let (code, out, err) = samebits(&[QUICK, more].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    out
}

/// Every value of `value` with its path, as the schema writes paths; summaries are not entered.
fn walk(value: Value<'_>, path: &str, seen: &mut Vec<(String, String)>) {
    let dot = if path.is_empty() { "" } else { "." };
    let mut keys = value.entries().into_iter().flatten().map(|(key, _)| key);
    if keys.any(|key| key == "samples") {
        let fields = value.entries().unwrap().map(|(key, v)| (key.into_owned(), v.as_f64().is_some()));
        let want = ["median", "min", "max", "samples"].map(|key| (key.to_owned(), true));
        assert_eq!(fields.collect::<Vec<_>>(), want, "{path}");
        seen.push((path.into(), "summary".into()));
    } else if let Some(entries) = value.entries() {
        entries.for_each(|(key, value)| walk(value, &format!("{path}{dot}{key}"), seen));
    } else if let Some(elements) = value.elements() {
        elements.for_each(|value| walk(value, &format!("{path}[]"), seen));
    } else {
        let kind = match value.kind() {
            Kind::String => "string",
            Kind::Null => "null",
            _ if value.as_u64().is_some() => "integer",
            _ if value.as_f64().is_some() => "number",
            kind => panic!("{path}: {kind:?} is in no schema"),
        };
        seen.push((path.into(), kind.into()));
    }
}

#[test]
fn json_has_the_documented_fields_and_no_other() {
    documented(&quick(&["--json"]));
    documented(&quick(&["--json", "--cold"]));
}

fn documented(text: &str) {
    let mut seen = Vec::new();
    walk(json::parse(text.as_bytes()).unwrap(), "", &mut seen);
    let mut paths: BTreeSet<&str> = seen.iter().map(|(path, _)| path.as_str()).collect();
    for line in SCHEMA.lines() {
        let mut words = line.split_whitespace();
        let (path, kind) = (words.next().unwrap(), words.next().unwrap());
        assert!(words.next().is_some(), "{path}: no meaning given");
        assert!(paths.remove(path), "{path} is documented and not there");
        for (_, found) in seen.iter().filter(|(p, _)| p == path) {
            let fits = match kind {
                "integer?" | "string?" => found == "null" || *found == kind[..kind.len() - 1],
                "number" => found == "number" || found == "integer",
                _ => found == kind,
            };
            assert!(fits, "{path}: {found} where {kind} is documented");
        }
    }
    assert!(paths.is_empty(), "not documented: {paths:?}");
}

#[test]
fn json_rows_hold_together() {
    let text = quick(&["--json"]);
    let report = json::parse(text.as_bytes()).unwrap();
    let number = |row: Value<'_>, path: &[&str]| {
        path.iter().try_fold(row, |v, key| v.get(key)).and_then(Value::as_f64).unwrap()
    };
    let rows: Vec<_> = report.get("rows").unwrap().elements().unwrap().collect();
    assert_eq!(rows.len(), 2 * Cpu::all().count());
    for &row in &rows {
        for summary in ["seconds", "rate", "peak", "of_peak", "plain", "speedup"] {
            let [min, median, max] = ["min", "median", "max"].map(|key| number(row, &[summary, key]));
            assert!(0.0 < min && min <= median && median <= max, "{summary}: {min} {median} {max}");
        }
        let rate = number(row, &["bytes"]) / number(row, &["seconds", "median"]) * 1e-9;
        assert!((rate / number(row, &["rate", "median"]) - 1.0).abs() < 0.5, "rate and seconds disagree");
        let same = |other: &&Value<'_>| {
            ["kernel", "shape"]
                .iter()
                .all(|key| other.get(key).unwrap().as_str() == row.get(key).unwrap().as_str())
        };
        let hash = row.get("hash").unwrap().as_str();
        assert!(rows.iter().filter(same).all(|r| r.get("hash").unwrap().as_str() == hash), "other bits");
    }
}

#[test]
fn csv_has_a_cell_under_every_heading() {
    let text = quick(&["--csv"]);
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    assert_eq!(head[..4], ["kernel", "shape", "tier", "threads"]);
    let words = ["kernel", "shape", "tier", "unit", "bound", "hash", "cache"];
    let mut rows = 0;
    for line in lines {
        assert_eq!(line.len(), head.len());
        for (heading, cell) in head.iter().zip(line) {
            assert!(
                words.contains(heading) || cell.parse::<f64>().is_ok_and(|x| x > 0.0),
                "{heading}: {cell}"
            );
        }
        rows += 1;
    }
    assert_eq!(rows, 2 * Cpu::all().count());
}

/// Cold or warm stands in every form of the output.
#[test]
fn the_output_says_whether_caches_were_cold() {
    for (flags, word) in [(&[][..], "warm"), (&["--cold"][..], "cold")] {
        let with = |more: &[&str]| quick(&[flags, more].concat());
        let text = with(&["--json"]);
        let run = json::parse(text.as_bytes()).unwrap().get("run").unwrap();
        assert_eq!(run.get("cache").unwrap().as_str().unwrap(), word);
        assert_eq!(run.get("flushed").unwrap().as_u64().unwrap() > 0, word == "cold");
        let csv = with(&["--csv"]);
        assert!(csv.lines().next().unwrap().ends_with(",cache"));
        assert!(csv.lines().skip(1).all(|line| line.ends_with(&format!(",{word}"))), "{csv}");
        let table = with(&[]);
        assert!(table.contains(&format!("caches {word}")), "{table}");
        assert_eq!(table.contains("MiB walked before each call"), word == "cold", "{table}");
    }
}

/// Half a cache of data read after a walk over other memory takes longer; so does its peak.
#[test]
fn a_cold_call_pays_for_memory() {
    if common::slow() {
        eprintln!("skipped: needs a release build on a real machine");
        return;
    }
    let pool = Pool::new(1);
    let best = |cache| {
        let plan = Plan { seconds: 0.05, cache, ..Plan::default() };
        let mut session = Session::new(&pool, vec![Cpu::detect()], plan);
        let entry = entries().find(|e| e.name == "dot").unwrap();
        let measured = &session.measure(entry, &[16384])[0].measured;
        (measured.rate.median, measured.peak.median)
    };
    let (warm, cold) = (best(Cache::Warm), best(Cache::Cold));
    assert!(cold.0 < 0.7 * warm.0, "dot of 128 KiB: warm {} GB/s, cold {}", warm.0, cold.0);
    assert!(cold.1 < 0.7 * warm.1, "reads of 128 KiB: warm {} GB/s, cold {}", warm.1, cold.1);
}

#[test]
fn svg_is_well_formed_and_names_everything() {
    let path = std::env::temp_dir().join(format!("samebits-{}.svg", std::process::id()));
    let table = quick(&["--svg", path.to_str().unwrap()]);
    let svg = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let texts = well_formed(&svg);
    for word in ["dot", "softmax"] {
        assert!(table.contains(word));
        let labels = texts.iter().filter(|t| t.starts_with(&format!("{word} "))).count();
        assert_eq!(labels, Cpu::all().count(), "{word}");
    }
    for cpu in cpus() {
        let level = format!("{} fma", cpu.tier());
        assert!(texts.iter().any(|t| t.contains(&level)), "no level for {level}");
    }
    for word in ["L1 read", "L2 read", "DRAM read", "operations per byte of memory traffic", "GFLOP/s"] {
        assert!(texts.iter().any(|t| t.contains(word)), "{word}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn svg_of_many_points_has_a_key() {
    let summary = Summary { median: 100.0, min: 90.0, max: 101.0, samples: 5 };
    let fma = Ceiling { name: "fma", tier: Tier::Scalar, bytes: 0, rate: summary };
    let point = |i: usize| Point {
        label: format!("kernel{i} <64x64>"),
        tier: Tier::Scalar,
        intensity: 0.25 + (i % 9) as f64,
        gflops: 1.0 + (i % 7) as f64,
    };
    let points: Vec<Point> = (0..90).map(point).collect();
    let svg = roofline("a & b", &[fma], &points);
    let texts = well_formed(&svg);
    for i in 0..90 {
        let (number, name) = ((i + 1).to_string(), format!("kernel{i} &lt;64x64&gt;"));
        assert_eq!(texts.iter().filter(|t| **t == name).count(), 1, "{name}");
        assert!(texts.iter().filter(|t| **t == number).count() >= 2, "{number}: at the point and in the key");
    }
    assert!(texts.contains(&"a &amp; b"));
}

/// Checks that tags nest and attributes are quoted; returns the text of the elements.
fn well_formed(xml: &str) -> Vec<&str> {
    let (mut open, mut texts) = (Vec::new(), Vec::new());
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        assert!(!text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").contains('&'), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
        if !text.trim().is_empty() {
            texts.push(text);
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    texts
}

#[test]
fn mistakes_are_explained() {
    let cases: &[(&[&str], &str)] = &[
        (&["bench", "sofmax"], "did you mean softmax?"),
        (&["bench", "zzz"], "kernels: "),
        (&["bench", "dot", "--shape", "3x"], "not a shape"),
        (&["bench", "dot", "--shape", "0"], "not a shape"),
        (&["bench", "dot", "--shape", "3x4x5x6x7"], "dimensions: dot N"),
        (&["bench", "gemm", "--shape", "9999999x9999999x9999999"], "8 GiB"),
        (&["bench", "--json", "--csv"], "exclude each other"),
        (&["bench", "--tier", "sse9"], "this machine runs"),
        (&["bench", "--threads", "0"], "--threads"),
        (&["bench", "--seconds", "-1"], "--seconds"),
        (&["bench", "--weights", "x", "--shape", "2x2"], "--weights"),
    ];
    for (args, hint) in cases {
        let (code, out, err) = samebits(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(hint), "{args:?}: {err}");
        assert!(err.lines().count() <= 2, "{args:?}: {err}");
    }
}

#[test]
fn help_documents_the_schema() {
    let (code, out, _) = samebits(&["bench", "--help"]);
    assert_eq!(code, 0);
    assert!(out.contains(SCHEMA.trim_end()) && out.contains("Example"));
}

/// Odd and small, one for each number of dimensions.
fn small(entry: &Entry) -> Vec<usize> {
    let dims: &[usize] = match entry.dims.split('x').count() {
        1 => &[1003],
        2 => &[37, 100],
        3 => &[6, 33, 70],
        _ => &[3, 5, 7, 9, 11],
    };
    dims[..entry.dims.split('x').count()].to_vec()
}

/// The plain loop computes the same thing, and ours has the same bits on every tier and any threads.
#[test]
fn both_calls_compute_the_same() {
    let (one, three) = (Pool::new(1), Pool::new(3));
    for entry in entries() {
        let dims = small(entry);
        let name = format!("{} {}", entry.name, shape(&dims));
        // A new case each time: its output starts as zeros, so a call that does nothing is noticed.
        let new = || Case::new(entry, &dims, &mut Inputs::new(7, Cpu::detect()));
        let mut case = new();
        case.plain();
        let plain = case.result();
        let mut hashes = BTreeSet::new();
        for cpu in cpus() {
            for pool in [&one, &three] {
                let mut case = new();
                case.ours(&Run { cpu, pool });
                hashes.insert(case.hash());
                let ours = case.result();
                assert_eq!(ours.len(), plain.len(), "{name}");
                for (i, (a, b)) in ours.iter().zip(&plain).enumerate() {
                    assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{name}: element {i}: {a}, plain {b}");
                }
            }
        }
        assert_eq!(hashes.len(), 1, "{name}: other bits on another tier or with other threads");
    }
}

#[test]
fn the_work_of_every_shape_is_positive() {
    for entry in entries() {
        assert!(!entry.shapes.is_empty() && !entry.about.is_empty(), "{}", entry.name);
        for dims in entry.shapes {
            let work = (entry.work)(dims);
            assert_eq!(dims.len(), entry.dims.split('x').count(), "{}", entry.name);
            assert!(work.flops > 0.0 && work.bytes > 0.0, "{}", entry.name);
        }
    }
}

/// A peak that the compiler had folded or hoisted would not take longer for more work.
#[test]
fn peaks_do_all_their_work() {
    if common::slow() {
        eprintln!("skipped: needs a release build on a real machine");
        return;
    }
    /// Folded work takes the same time, real work four times; a busy machine may blur the four, not the order.
    const MORE: f64 = 1.7;
    let pool = Pool::new(1);
    let best = |run: &mut dyn FnMut()| {
        let once = |()| {
            let time = Stopwatch::start(&pool);
            run();
            time.seconds()
        };
        [(); 9].map(once).into_iter().fold(f64::INFINITY, f64::min)
    };
    let mut lines = vec![Line([1.5; 16]); 256];
    for cpu in cpus() {
        let chains = |steps| {
            best(&mut || {
                cpu.run(Arithmetic { steps });
            })
        };
        let ratio = chains(80_000) / chains(20_000);
        assert!(ratio > MORE, "{}: multiply-adds, four times the steps: {ratio}", cpu.tier());
        for access in [Access::Read, Access::Write, Access::Copy, Access::Update] {
            let mut pass = |passes| {
                best(&mut || {
                    let (lines, store) = (&mut lines[..], Store::Cached);
                    cpu.run(Memory { lines, access, store, passes });
                })
            };
            let ratio = pass(8000) / pass(2000);
            let (tier, name) = (cpu.tier(), access.name());
            assert!(ratio > MORE, "{tier}: {name}, four times the passes: {ratio}");
        }
    }
}
