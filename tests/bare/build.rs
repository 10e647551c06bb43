//! The model to be carried, `SAMEBITS_FLAT`, and each program's memory map.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=SAMEBITS_FLAT");
    let model = env::var("SAMEBITS_FLAT").expect("SAMEBITS_FLAT names a file of `samebits convert --flat`");
    println!("cargo::rerun-if-changed={model}");
    let to = PathBuf::from(env::var("OUT_DIR").expect("cargo says")).join("model.flat");
    fs::copy(&model, to).expect("SAMEBITS_FLAT can be read");
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says");
    for program in ["cortex_m", "aarch64", "linux"] {
        println!("cargo::rerun-if-changed={here}/{program}.ld");
        println!("cargo::rustc-link-arg-bin={program}=-T{here}/{program}.ld");
    }
}
