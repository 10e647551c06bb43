//! `samebits explain`: every row of the bench explained, its loops those of the sources, its point that of the bench.

mod common;

use common::program::{assert_fails, out, run};
use samebits::Tier;
use samebits::bench::rows::entries;
use samebits::io::json::{self, Value};
use std::collections::BTreeSet;
use std::fs;

/// Tiers that compile to machine code here.
const COMPILED: [Tier; 3] = [Tier::Avx512, Tier::Avx2, Tier::Neon];

fn text(page: Value<'_>, key: &str) -> String {
    page.get(key).and_then(|v| v.as_str()).unwrap_or_else(|| panic!("no {key}")).into_owned()
}

fn array<'v>(page: Value<'v>, key: &str) -> Vec<Value<'v>> {
    page.get(key).and_then(|v| v.elements()).unwrap_or_else(|| panic!("no {key}")).collect()
}

/// How many instructions of a loop begin with one of these.
fn count(page: Value<'_>, words: &[&str]) -> usize {
    let all = array(page, "instructions");
    all.iter().filter(|one| words.iter().any(|word| text(**one, "text").starts_with(word))).count()
}

#[test]
fn every_row_of_the_bench_is_explained() {
    for entry in entries() {
        // Two numbers take a moment in a build without optimisation too; most others would take minutes.
        let seconds = if entry.name == "dot" { "0.01" } else { "0" };
        let said = run(["explain", entry.name, "--json", "--seconds", seconds]);
        assert!(said.status.success(), "{said:?}");
        let page = json::parse(out(&said).as_bytes()).unwrap();
        assert_eq!((text(page, "kernel"), text(page, "about")), (entry.name.into(), entry.about.into()));
        for key in ["file", "title", "math", "law", "cost", "shape", "bound"] {
            assert!(!text(page, key).is_empty(), "{}: {key}", entry.name);
        }
        for key in ["elements", "operations", "bytes"] {
            assert!(page.get(key).and_then(|v| v.as_f64()).is_some_and(|n| n > 0.0), "{}: {key}", entry.name);
        }
        let measured = page.get("measured").unwrap();
        for key in ["rate", "speedup"] {
            let median = measured.get(key).and_then(|rate| rate.get("median")?.as_f64());
            assert_eq!(median.is_some_and(|median| median > 0.0), entry.name == "dot", "{}", entry.name);
        }
    }
}

#[test]
fn loops_are_those_of_the_sources() {
    for tier in Tier::ALL {
        // Rows share loops.
        let mut seen = BTreeSet::new();
        for entry in entries() {
            let said = run(["explain", entry.name, "--tier", tier.name(), "--json", "--seconds", "0"]);
            assert!(said.status.success(), "{said:?}");
            let page = json::parse(out(&said).as_bytes()).unwrap();
            let loops = array(page, "loops");
            assert_eq!(
                !loops.is_empty(),
                COMPILED.contains(&tier),
                "{} loops of {} on {tier}",
                loops.len(),
                entry.name
            );
            let new = loops.into_iter().filter(|one| seen.insert(text(*one, "name")));
            new.for_each(|one| check_loop(one, tier));
        }
    }
}

/// The places exist, the end is a jump to the head, and the work is what the kernel says.
fn check_loop(one: Value<'_>, tier: Tier) {
    let name = text(one, "name");
    let all = array(one, "instructions");
    let jump = text(all[all.len() - 1], "text");
    let distance = format!("-{}", all.len() - 1);
    assert!(jump.ends_with(&distance), "{name} on {tier} ends with {jump}");
    for one in &all {
        let (place, source) = (text(*one, "place"), text(*one, "source"));
        let Some((file, _)) = place.split_once(':') else { continue };
        let lines = fs::read_to_string(format!("kernels/src/{file}")).unwrap();
        assert!(
            lines.lines().any(|line| line.trim() == source),
            "{name} on {tier}: {place} is no longer {source:?}: python3 src/assets/listing/make.py write"
        );
    }
    check_work(one, &name, tier);
}

/// As many instructions of the kind that tells as the tile has, or its step.
fn check_work(one: Value<'_>, name: &str, tier: Tier) {
    // In sums of sixteen, in whole tiles: one, two or four registers are a line.
    let registers = match tier {
        Tier::Avx512 => 1,
        Tier::Avx2 => 2,
        _ => 4,
    };
    let wide = tier == Tier::Avx512;
    let (words, lines): (&[&str], usize) = match name {
        "gemm" | "gemm_each" | "attention_products_bf16" => (FMA, if wide { 24 } else { 6 }),
        "gemv_bf16" | "gemv_f16" | "dot_rows" => (FMA, 4),
        "gemv_rows" => (FMA, 16),
        "gemm_bf16" => (FMA, if wide { 24 } else { 4 }),
        // Two by two tiles, whatever a line is.
        "gemm_bf16_amx" => (&["tdpbf16ps"], 4),
        "gemm_i8" => (DOTS, if wide { 64 } else { 32 }),
        "gemm_q8_0" => (DOTS, 32),
        "gemv_q8_0" | "gemv_q4_0" => (DOTS, 8),
        "gemv_q4_k" | "gemv_q6_k" | "rope" => (FMA, 2),
        "log_softmax" | "cross_entropy" | "silu" | "exp" => (FMA, 9),
        "gelu_erf" => (FMA, 15),
        "rms_norm" => (&["vmulpd", "fmul"], 2),
        "layer_norm" => (&["vsubpd", "fsub"], 2),
        "rope_interleaved" => (&["vshufps", "rev64"], 1),
        "attention" | "attention_backward" => (FMA, if wide { 24 } else { 5 }),
        "attention_decode_bf16" | "bf16_to_f32" => (&["vpslld", "shll"], 1),
        "attention_decode_products_bf16" => (&["vcmplt_oqps", "vcmpgt_oqps", "fcmgt"], 1),
        "attention_decode_int8" => (&["vcvtdq2ps", "scvtf"], 1),
        "nf4" => (&["vmulps", "fmul"], 8),
        "nf4_gemv" => (FMA, if wide { 32 } else { 8 }),
        "nf4_quantize" => (&["vcmpgt_oqps", "fcmgt"], 8),
        "nf4_dequantize" => (&["vmulps", "fmul"], 2),
        "sum" => (&["vaddpd", "fadd"], 2),
        "max" => (&["vcmpunordps", "fcmeq"], 1),
        "search" => (FMA, if wide { 16 } else { 4 }),
        "search_int8" => (DOTS, 1),
        "search_nf4" => (DOTS, 2),
        "search_binary" => (&["vpshufb", "tbl"], 2),
        "topk" => (&["vcmpunordps", "fcmeq"], 4),
        "f16_to_f32" => (&["vcvtph2ps", "fmul"], 1),
        "f32_to_f16" => (&["vcvtps2ph", "shrn"], 1),
        // One narrows a line.
        "f32_to_bf16" => (&["vpmovdw", "vpackusdw", "shrn"], 1),
        "layer_norm_backward" => (&["vmulpd", "fmul"], 8),
        "swiglu_backward" => (&["vdivps", "fdiv"], 2),
        "column_sum" => (&["vaddps", "fadd"], 16),
        _ => (FMA, 1),
    };
    let step = match name {
        "gemm_bf16_amx" | "f32_to_bf16" => lines,
        _ => registers * lines,
    };
    let found = count(one, words);
    assert!(found > 0 && found.is_multiple_of(step), "{name} on {tier}: {found} of {words:?}");
}

/// Products of four pairs of bytes, added to a sum of thirty-two bits.
const DOTS: &[&str] = &["vpdpbusd", "{vex} vpdpbusd", "sdot"];

/// Multiply-adds of floats.
const FMA: &[&str] = &["vfmadd", "vfnmadd", "vfmsub", "fmla", "fmls"];

#[test]
fn the_page_for_people() {
    let said = run(["explain", "gemm", "--tier", "avx512", "--seconds", "0"]);
    assert!(said.status.success());
    for word in [
        "gemm on avx512: C = A · B, f32; B is packed anew",
        "kernels/src/gemm/mod.rs: C = A · B, the product of matrices",
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
}

#[test]
fn every_row_shows_a_loop() {
    for entry in entries() {
        for tier in COMPILED {
            let said = run(["explain", entry.name, "--tier", tier.name(), "--seconds", "0"]);
            assert!(said.status.success(), "{said:?}");
            let page = out(&said);
            assert!(page.contains("\nloop       ") && !page.contains("none listed"), "{page}");
            assert!(page.contains("instructions"), "{page}");
        }
    }
}

#[test]
fn without_a_kernel_all_are_listed() {
    let list = run(["explain"]);
    let lines: Vec<_> = out(&list).lines().collect();
    for entry in entries() {
        let line = lines.iter().find(|line| line.split(' ').next() == Some(entry.name));
        let line = line.unwrap_or_else(|| panic!("no {} in\n{}", entry.name, out(&list)));
        assert!(line.ends_with(entry.about), "{line}");
        assert!(line.chars().count() <= 110, "{line}");
    }
    assert!(lines.contains(&"cross_entropy                  loss and gradient of logits"), "{}", out(&list));
}

#[test]
fn what_has_no_page_is_refused() {
    assert_fails(&run(["explain", "sofmax"]), 2, "did you mean softmax?");
    assert_fails(&run(["explain", "rms"]), 2, "did you mean rms_norm?");
    assert_fails(&run(["explain", "q6_k"]), 2, "did you mean gemm_q6_k or gemv_q6_k?");
    assert_fails(&run(["explain", "zzzzzz"]), 2, "`samebits explain` lists what there is");
    assert_fails(&run(["explain", "gemm", "--tier", "sse9"]), 2, "this machine runs");
    assert_fails(&run(["explain", "--json"]), 2, "which kernel?");
    // A loop's name leads to its row.
    let said = run(["explain", "nf4", "--seconds", "0"]);
    assert!(out(&said).starts_with("nf4_gemm on "), "{}", out(&said));
}
