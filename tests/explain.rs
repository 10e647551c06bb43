//! `samebits explain`: every page whole, its loops those of the sources, its point that of the bench.

mod common;

use common::program::{assert_fails, out, run};
use samebits::Tier;
use samebits::io::json::{self, Value};
use std::fs;

const KERNELS: [&str; 6] = ["gemm", "gemv", "softmax", "attention", "nf4", "dot"];

fn text(page: Value<'_>, key: &str) -> String {
    page.get(key).and_then(|v| v.as_str()).unwrap_or_else(|| panic!("no {key}")).into_owned()
}

/// How many instructions of a loop begin with one of these.
fn count(page: Value<'_>, words: &[&str]) -> usize {
    let all = page.get("loop").unwrap().get("instructions").unwrap().elements().unwrap();
    all.filter(|one| words.iter().any(|word| text(*one, "text").starts_with(word))).count()
}

#[test]
fn every_kernel_has_a_page_on_every_tier() {
    for kernel in KERNELS {
        for tier in Tier::ALL {
            // One dot product takes a moment in a build without optimisation too; the others would take minutes.
            let seconds = if kernel == "dot" { "0.01" } else { "0" };
            let said = run(["explain", kernel, "--tier", tier.name(), "--json", "--seconds", seconds]);
            assert!(said.status.success(), "{said:?}");
            let page = json::parse(out(&said).as_bytes()).unwrap();
            for key in ["title", "math", "law", "cost", "bound"] {
                assert!(!text(page, key).is_empty(), "{kernel} on {tier}: {key}");
            }
            let runs = kernel == "dot" && samebits::cpu::parse(tier.name()).is_ok();
            let measured = page.get("measured").unwrap();
            let rate = measured.get("rate").and_then(|rate| rate.get("median")?.as_f64());
            assert_eq!(rate.is_some_and(|rate| rate > 0.0), runs, "{kernel} on {tier}");
            // Loops are kept of the tiers that compile to machine code here.
            if matches!(tier, Tier::Scalar | Tier::Simd128) {
                assert!(page.get("loop").unwrap().is_null());
                continue;
            }
            check_loop(kernel, page);
        }
    }
}

/// The places exist, the end is a jump to the head, and the work is what the kernel says.
fn check_loop(kernel: &str, page: Value<'_>) {
    let tier = text(page, "tier");
    let all: Vec<_> = page.get("loop").unwrap().get("instructions").unwrap().elements().unwrap().collect();
    let jump = text(all[all.len() - 1], "text");
    let distance = format!("-{}", all.len() - 1);
    assert!(jump.ends_with(&distance), "{kernel} on {tier} ends with {jump}");
    for one in &all {
        let (place, source) = (text(*one, "place"), text(*one, "source"));
        let Some((file, _)) = place.split_once(':') else { continue };
        let lines = fs::read_to_string(format!("kernels/src/{file}")).unwrap();
        assert!(
            lines.lines().any(|line| line.trim() == source),
            "{kernel} on {tier}: {place} is no longer {source:?}: python3 src/assets/listing/make.py write"
        );
    }
    let multiply = count(page, &["vfmadd", "vfnmadd", "vfmsub", "fmla", "fmls"]);
    // A tile of 8 × 3 lines, of 6 × 1 lines of two or four registers; 3 panels of queries, or 5 rows.
    let step = match (kernel, &*tier) {
        ("gemm", "avx512") => 24,
        ("gemm", "avx2") => 12,
        ("gemm", _) => 24,
        ("attention", "avx512") => 24,
        ("attention", "avx2") => 10,
        ("attention", _) => 20,
        ("nf4", _) => return assert!(count(page, &["vmulps", "fmul"]) >= 8, "{kernel} on {tier}"),
        _ => 1,
    };
    assert!(multiply > 0 && multiply.is_multiple_of(step), "{kernel} on {tier}: {multiply} multiply-adds");
}

#[test]
fn the_page_for_people() {
    let said = run(["explain", "gemm", "--tier", "avx512", "--seconds", "0"]);
    assert!(said.status.success());
    for word in [
        "Clause 1.",
        "registers  avx512 8×3",
        "operations a byte",
        "gemm/tile.rs:",
        "multiply-adds; compiled by",
    ] {
        assert!(out(&said).contains(word), "no {word:?} in\n{}", out(&said));
    }
    // A tier without a listing says why, each its own.
    for (tier, words) in [
        ("scalar", &["scalar is the definition", "simd/scalar.rs"]),
        ("simd128", &["each engine makes its own machine code", "it is emulated in f64"]),
    ] {
        let said = run(["explain", "softmax", "--tier", tier, "--seconds", "0"]);
        assert!(said.status.success(), "{said:?}");
        words.iter().for_each(|word| assert!(out(&said).contains(word), "no {word:?} in\n{}", out(&said)));
        assert_eq!(out(&said).contains("scalar is the definition"), tier == "scalar");
    }
    let list = run(["explain"]);
    KERNELS.iter().for_each(|kernel| assert!(out(&list).contains(kernel)));
}

#[test]
fn what_has_no_page_is_refused() {
    assert_fails(&run(["explain", "sofmax"]), 2, "did you mean softmax?");
    assert_fails(&run(["explain", "zzzzzz"]), 2, "one of gemm, gemv");
    assert_fails(&run(["explain", "gemm", "--tier", "sse9"]), 2, "this machine runs");
    assert_fails(&run(["explain", "--json"]), 2, "which kernel?");
}
