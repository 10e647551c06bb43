//! The models to be carried, `SAMEBITS_FLAT` and `SAMEBITS_FLAT_ENCODER`, and each program's memory map.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo says"));
    for (variable, name) in [("SAMEBITS_FLAT", "model.flat"), ("SAMEBITS_FLAT_ENCODER", "encoder.flat")] {
        println!("cargo::rerun-if-env-changed={variable}");
        let Ok(model) = env::var(variable) else {
            panic!("{variable} names no file of `samebits convert --flat`")
        };
        println!("cargo::rerun-if-changed={model}");
        fs::copy(&model, out.join(name)).unwrap_or_else(|e| panic!("{variable}: {model}: {e}"));
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says");
    for map in ["cortex_m", "aarch64", "linux"] {
        println!("cargo::rerun-if-changed={here}/{map}.ld");
        for program in [map.into(), format!("{map}_more")] {
            println!("cargo::rustc-link-arg-bin={program}=-T{here}/{map}.ld");
        }
    }
}
