//! Ladders: four kernels, each built up from the loop that everybody writes first to the one in the library.
//!
//! ```text
//!   cargo run --release -p samebits-kernels --example ladder                       all four
//!   cargo run --release -p samebits-kernels --example ladder -- gemm               one
//!   cargo run --release -p samebits-kernels --example ladder -- gemm --svg gemm.svg   and a picture of it
//! ```
//!
//! `--note TEXT` writes into the picture where and when it was measured; `src/assets/measured/make.py` makes all four so.
//!
//! A rung is a function that computes the whole result, with one idea more than the rung below it. Before a rung is
//! timed its result is looked at: where it obeys the law it must have the very bits of the library's kernel; where its
//! order or its roundings are others (said beside it) it must keep to the bound of `f64`. Read the rungs of one file from
//! top to bottom: [`gemm`] first.
//!
//! The plain rungs are compiled for the baseline of the target, as a program is unless it says otherwise (on x86-64: SSE2,
//! no multiply-add). From *vector* on a rung is a [`Kernel`](samebits_kernels::Kernel), compiled for every tier.

mod attention;
mod climb;
mod gemm;
mod nf4;
mod softmax;
mod svg;

use samebits_kernels::Cpu;

fn main() {
    let (mut names, mut picture, mut note) = (Vec::new(), None, String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--svg" => picture = Some(words.next().unwrap_or_else(|| usage("--svg needs a file"))),
            "--note" => note = words.next().unwrap_or_else(|| usage("--note needs a text")),
            "gemm" | "softmax" | "attention" | "nf4" => names.push(word),
            other => usage(&format!("{other:?} is no ladder")),
        }
    }
    if names.is_empty() {
        names = ["gemm", "softmax", "attention", "nf4"].map(String::from).to_vec();
    }
    if picture.is_some() && names.len() > 1 {
        usage("--svg draws one ladder");
    }
    if picture.is_none() && !note.is_empty() {
        usage("--note is for --svg");
    }
    for name in names {
        let timed = match name.as_str() {
            "gemm" => gemm::ladder(512, 512, 512).climb(Cpu::detect()),
            "softmax" => softmax::ladder(4096, 1024).climb(Cpu::detect()),
            "attention" => attention::ladder(8, 512, 64).climb(Cpu::detect()),
            _ => nf4::ladder(128, 1024, 1024).climb(Cpu::detect()),
        };
        print!("{timed}");
        if let Some(path) = &picture
            && let Err(error) = std::fs::write(path, svg::draw(&timed, &note))
        {
            eprintln!("ladder: {path}: {error}");
            std::process::exit(1);
        }
    }
}

/// Says what is wrong, and ends.
fn usage(what: &str) -> ! {
    eprintln!("ladder: {what}\nusage: ladder [gemm|softmax|attention|nf4]… [--svg FILE [--note TEXT]]");
    std::process::exit(2)
}
