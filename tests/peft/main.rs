//! Adapters: against peft, whose folders and outputs tests/reference/peft_folders.py committed, and against the
//! `adapters` package (tests/reference/bottleneck.py); what is refused; what stays the same bits.

#[path = "../common/mod.rs"]
mod common;

mod config;
mod files;
mod gguf;
mod layers;
mod matrices;

use common::{Cpu, Random};
use samebits::io::safetensors::SafeTensors;
use samebits::kernels::Line;
use samebits::kernels::view::MatRef;
use samebits::nn::{Linear, Room, Weight};
use samebits::peft::{LinearWithLora, LoraLayer, LoraShape};
use samebits::run::Run;
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/peft").join(name)
}

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.load(name).unwrap_or_else(|e| panic!("{e}")).to_f32_vec(Cpu::detect())
}

/// A weight of a file.
fn weight(cpu: Cpu, file: &SafeTensors, name: &str) -> Weight {
    Weight::from_tensor(cpu, &file.load(name).unwrap())
}

/// A module of the small model.
fn linear(cpu: Cpu, file: &SafeTensors, module: &str) -> Linear {
    let bias = format!("base/{module}.bias");
    let bias = file.tensor(&bias).is_ok().then(|| floats(file, &bias).into());
    Linear::new(weight(cpu, file, &format!("base/{module}.weight")), bias)
}

/// A base of drawn numbers.
fn drawn_linear(cpu: Cpu, seed: u64, [n, k]: [usize; 2]) -> Linear {
    let w = Random::new(seed).normal(n * k);
    Linear::new(Weight::from_f32(cpu, MatRef::new(&w, n, k)), Some(Random::new(seed + 1).normal(n).into()))
}

/// An adapter of drawn numbers.
fn drawn_lora(seed: u64, [n, k, rank]: [usize; 3]) -> LoraLayer {
    let shape = LoraShape { in_features: k, out_features: n, rank };
    let mut random = Random::new(seed);
    LoraLayer::from_parts(shape, random.normal(rank * k), random.normal(n * rank), 0.5)
}

fn forward(run: &Run<'_>, layer: &LinearWithLora, x: &[f32]) -> Vec<f32> {
    let rows = x.len() / layer.base().in_features();
    let mut out = vec![f32::NAN; rows * layer.base().out_features()];
    let mut room = vec![Line([f32::NAN; 16]); layer.room_len(rows)];
    layer.forward(run, x, &mut out, Room::new(&mut room));
    out
}

#[track_caller]
fn assert_near(got: &[f32], want: &[f32], tolerance: f32, what: impl std::fmt::Display) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let size = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * size, "{what}: element {i} is {g}, want {w}");
    }
}
