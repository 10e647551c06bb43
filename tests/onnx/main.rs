//! ONNX's own tests of its operators, as the judge of what our operations mean: attention with every mask,
//! norms over axes, products of all ranks, slices with negative steps … as someone else has defined them.
//!
//! Each test is a model of one node, its operands, and results that ONNX's reference implementation computed with
//! NumPy. What an operator maps to is in `moves`, `arithmetic`, `rows` and `attend`, through the public interface
//! alone. Bits must be equal where nothing is rounded, or once; else the bound is the one that the kernel's
//! header states. A test that asks for what we do not have is named with the reason; none may fail.

mod arithmetic;
mod attend;
#[path = "../common/mod.rs"]
mod common;
mod judge;
mod moves;
mod proto;
mod rows;

use judge::{Answers, Case};
use samebits::Cpu;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// As many as pass; not fewer again.
const PASSED: usize = 198;

fn answer(case: &Case) -> Answers {
    let kinds = [moves::run, arithmetic::run, rows::run, attend::run];
    let found = kinds.iter().find_map(|run| run(case));
    found.unwrap_or_else(|| Err(absent(&case.node.op).into()))
}

/// Why we have no such operator.
fn absent(op: &str) -> &'static str {
    match op {
        "Adagrad" | "Adam" | "Momentum" | "Dropout" => "training comes later",
        "NegativeLogLikelihoodLoss" | "SoftmaxCrossEntropyLoss" => "losses come with training",
        "ScatterND" => "a scatter that adds or compares comes with training",
        "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear"
        | "QLinearMatMul"
        | "MatMulInteger" => "int8 and float8 come later",
        "Einsum" => "no einsum: permute, matmul and sum have names",
        "LinearAttention" => "no linear attention",
        _ => "no such operator",
    }
}

#[test]
fn operators() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let folder = PathBuf::from(data).join("kernels/onnx-node");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut tests: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    tests.sort();
    for cpu in common::cpus() {
        let mut all = Tally::default();
        tests.iter().for_each(|test| all.judge(cpu, test));
        println!("{}: {} of {} passed", cpu.tier(), all.passed, tests.len());
        for (reason, n) in &all.reasons {
            println!("  {n:3} not applicable: {reason}");
        }
        assert!(all.failed.is_empty(), "{}: {:#?}", cpu.tier(), all.failed);
        assert!(all.passed >= PASSED, "{} passed: fewer than there were", all.passed);
    }
}

/// What became of the tests on a tier.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    /// How many tests are not applicable, by why.
    reasons: BTreeMap<String, usize>,
}

impl Tally {
    /// One test: a line of the table.
    fn judge(&mut self, cpu: Cpu, folder: &Path) {
        let name = folder.file_name().unwrap().to_string_lossy();
        let case = Case::read(cpu, folder);
        let line = |what: &str, why: &str| println!("{what:<15} {:<24} {name}: {why}", case.node.op);
        match answer(&case).map(|answers| case.judge(&answers)) {
            Ok(Ok(share)) => {
                line("passed", &format!("{:.0} % of the bound", share * 100.0));
                self.passed += 1;
            }
            Ok(Err(why)) => {
                line("FAILED", &why);
                self.failed.push(format!("{name}: {why}"));
            }
            Err(reason) => {
                line("not applicable", &reason);
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }
}
