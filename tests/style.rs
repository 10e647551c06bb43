//! The rules of the house that a compiler does not know, read off the source text.
//!
//! The first is the one that costs: a function generic over `Simd` without `#[inline(always)]` is compiled
//! without its tier's instructions. It still gives the right bits, thirty-five times slower.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file of the repository: its path from the root, and its lines.
struct Source {
    path: String,
    lines: Vec<String>,
}

/// Every `.rs` file under `folder`, in order of its path.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let lines = fs::read_to_string(&path).unwrap().lines().map(String::from).collect();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path, lines });
            }
        }
    }
    assert!(!found.is_empty(), "no source under {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// The lines that compile: numbered from 1, without comments, up to the unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.lines.iter().position(|l| l.trim() == "#[cfg(test)]").unwrap_or(self.lines.len());
        self.lines[..tests].iter().enumerate().map(|(i, l)| (i + 1, l.split("//").next().unwrap_or("")))
    }

    /// Where each function with a body begins, and its signature on one line.
    fn functions(&self) -> Vec<(usize, String)> {
        let code: Vec<(usize, &str)> = self.code().collect();
        let mut found = Vec::new();
        for (i, &(number, line)) in code.iter().enumerate() {
            if !is_function(line) {
                continue;
            }
            let rest = code[i..].iter().map(|(_, l)| l.trim());
            let signature = rest.scan(false, |ended, l| {
                let go_on = !*ended;
                *ended |= l.ends_with('{') || l.ends_with(';') || l.ends_with('}');
                go_on.then_some(l)
            });
            let signature = signature.collect::<Vec<_>>().join(" ");
            if !signature.ends_with(';') {
                found.push((number, signature));
            }
        }
        found
    }

    /// Whether one of the attributes above line `number` is `#[inline(always)]`.
    fn inlined(&self, number: usize) -> bool {
        let above = self.lines[..number - 1].iter().rev().map(|l| l.trim());
        above.take_while(|l| l.starts_with('#') || l.starts_with("//")).any(|l| l == "#[inline(always)]")
    }
}

/// `fn`, after any of the words that may stand before it.
fn is_function(line: &str) -> bool {
    let words = line.split_whitespace();
    let mut words =
        words.skip_while(|w| w.starts_with("pub") || ["const", "unsafe", "extern", "\"C\""].contains(w));
    words.next() == Some("fn")
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Fails with every broken place, one a line.
#[track_caller]
fn none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn generic_over_simd_means_inline_always() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for file in sources("kernels/src") {
        // A table's own methods, and everything in an `impl` block that is generic over the tier.
        // The scalar table needs no instructions: its long words are functions of their own, to be small.
        let table = file.path.starts_with("kernels/src/simd/") && !file.path.ends_with("/scalar.rs");
        let mut generic_until = None;
        let functions = file.functions();
        for (number, line) in file.code() {
            if line.trim_start().starts_with("impl<") && line.contains("Simd") {
                generic_until = Some(indent(line));
            } else if generic_until == Some(indent(line)) && line.trim() == "}" {
                generic_until = None;
            }
            let Some((_, signature)) = functions.iter().find(|f| f.0 == number) else { continue };
            let word = table && signature.contains("(self");
            if signature.contains("Simd") || generic_until.is_some() || word {
                seen += 1;
                if !file.inlined(number) {
                    broken.push(format!("{}:{number}: {signature}", file.path));
                }
            }
        }
    }
    assert!(seen > 50, "the search itself is broken: only {seen} functions found");
    none("without #[inline(always)]", broken);
}

/// What clause 3 does not allow, or what would make one tier differ from another.
const FORBIDDEN: &[&str] = &[
    ".exp()",
    ".exp2()",
    ".exp_m1()",
    ".ln()",
    ".ln_1p()",
    ".log(",
    ".log2()",
    ".log10()",
    ".powf(",
    ".powi(",
    ".sin()",
    ".cos()",
    ".sin_cos()",
    ".tan()",
    ".tanh()",
    ".sinh()",
    ".cosh()",
    ".cbrt()",
    ".hypot(",
    ".mul_add(",
    "f32::max",
    "f32::min",
    "f64::max",
    "f64::min",
    "algebraic",
    "_rcp",
    "_rsqrt",
    "vrecp",
    "vrsqrt",
    "_mm_setcsr",
    "maddubs",
    "_reduce_add_p",
    "_reduce_max_p",
    "vaddvq_f",
    "vmaxvq_f",
];

#[test]
fn kernels_say_only_the_words_of_clause_3() {
    let mut broken = Vec::new();
    for file in sources("kernels/src").iter().chain(&tensor_sources()) {
        for (number, line) in file.code() {
            for word in FORBIDDEN.iter().filter(|w| line.contains(**w)) {
                broken.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    none("outside the law's vocabulary", broken);
}

/// A tensor's arithmetic is a kernel call: the same words are out. Display chooses digits only.
fn tensor_sources() -> Vec<Source> {
    sources("src/tensor").into_iter().filter(|f| !f.path.ends_with("/display.rs")).collect()
}

/// Where `kernels/` may say `unsafe`: what reads registers, pointers or CPUID.
const UNSAFE: &[&str] = &[
    "kernels/src/simd/",
    "kernels/src/cpu.rs",
    "kernels/src/cpu/",
    "kernels/src/line.rs",
    "kernels/src/view",
    "kernels/src/gemm/weights.rs", // stored bits are read as `Bf16` and `F16`, which are nothing else
];

#[test]
fn unsafe_stays_in_its_rooms() {
    let mut broken = Vec::new();
    for file in sources("kernels/src") {
        if UNSAFE.iter().any(|room| file.path.starts_with(room)) {
            continue;
        }
        for (number, line) in file.code() {
            if line.contains("unsafe ") {
                broken.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("unsafe outside simd/, cpu, line.rs, view.rs", broken);
}

/// Files of `kernels/src` that are not kernels (the ground, and definitions of one value at a time): they
/// carry prose of their own.
const INFRASTRUCTURE: &[&str] = &[
    "lib.rs",
    "cpu.rs",
    "line.rs",
    "view.rs",
    "rows.rs",
    "pieces.rs",
    "half.rs",
    "math/mod.rs",
    "math/soft.rs",
];

/// The sections that open a kernel, in this order.
const HEADER: &[&str] = &["**Math", "**Law", "**Registers", "**Cost", "**Error", "**Reference", "**Next"];

/// The `//!` lines of a file.
fn prose(file: &Source) -> String {
    file.lines.iter().take_while(|l| l.starts_with("//!")).map(|l| format!("{l}\n")).collect()
}

#[test]
fn every_kernel_opens_with_its_header() {
    let mut broken = Vec::new();
    let files = sources("kernels/src");
    for file in &files {
        let header = prose(file);
        if header.is_empty() {
            broken.push(format!("{}: no //! at all", file.path));
        }
        let name = file.path.strip_prefix("kernels/src/").unwrap();
        if INFRASTRUCTURE.contains(&name) || name.starts_with("simd/") {
            continue;
        }
        // A kernel is a file at the top or of math/, which has all sections in order; or a folder, whose mod.rs
        // has the mathematics and the law and whose parts, files or folders, have the rest.
        let folder = name.strip_suffix("/mod.rs").filter(|folder| !folder.contains('/'));
        if folder.is_none() && name.contains('/') && !name.starts_with("math/") {
            continue;
        }
        let parts = files.iter().filter(|f| folder.is_some_and(|d| f.path.contains(&format!("/{d}/"))));
        let whole = header.clone() + &parts.map(prose).collect::<String>();
        for (i, section) in HEADER.iter().enumerate() {
            let text = if i < 2 { &header } else { &whole };
            if !text.contains(section) {
                broken.push(format!("{}: no {section}**", file.path));
            }
        }
        let mut places = HEADER.iter().filter_map(|section| header.find(section));
        if folder.is_none() && !places.by_ref().is_sorted() {
            broken.push(format!("{}: sections out of order", file.path));
        }
    }
    none("kernel headers", broken);
}

/// Lines of a file and of a function that a reader is asked to hold.
const FILE: usize = 450;
const FUNCTION: usize = 60;

#[test]
fn files_and_functions_stay_readable() {
    let mut broken = Vec::new();
    for file in sources("kernels/src").iter().chain(&sources("src")).chain(&sources("tests")) {
        let written = file.lines.first().is_some_and(|l| l.contains("written by")); // a table, by its script
        if file.lines.len() > FILE && !written {
            broken.push(format!("{}: {} lines, at most {FILE}", file.path, file.lines.len()));
        }
        if file.path.starts_with("tests/") {
            continue; // a test may be one long table
        }
        for (number, _) in file.functions() {
            let level = indent(&file.lines[number - 1]);
            let mut body = file.lines[number - 1..].iter();
            let ends = |l: &String| indent(l) == level && l.trim_end().ends_with('}');
            let length = body.position(ends).map_or(0, |n| n + 1);
            if length > FUNCTION {
                broken.push(format!("{}:{number}: {length} lines, at most {FUNCTION}", file.path));
            }
        }
    }
    none("too long", broken);
}

#[test]
fn nothing_is_left_open() {
    let words = ["todo!(", "unimplemented!(", "dbg!("];
    let mut broken = Vec::new();
    for file in sources("kernels/src").iter().chain(&sources("src")) {
        for (number, line) in file.code() {
            if words.iter().any(|w| line.contains(w)) {
                broken.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none("left open", broken);
}
