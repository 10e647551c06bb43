//! Quantising to Q8_0 and Q4_0.

use super::common::{Cpu, Random, cpus};
use samebits::kernels::ggml::{Format, dequantize, quantize_q4_0, quantize_q8_0};
use samebits::kernels::half::f32_to_f16;
use samebits::kernels::nf4::NotFinite;
use std::path::PathBuf;

type Quantize = fn(Cpu, &[f32], &mut [u8]) -> Result<(), NotFinite>;

const BOTH: [(Format, Quantize); 2] = [(Format::Q8_0, quantize_q8_0), (Format::Q4_0, quantize_q4_0)];

fn quantize((format, run): (Format, Quantize), cpu: Cpu, x: &[f32]) -> Vec<u8> {
    let mut out = vec![0xcc; format.bytes(x.len())];
    run(cpu, x, &mut out).unwrap();
    out
}

/// `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref`, one block.
fn twin(format: Format, x: &[f32]) -> Vec<u8> {
    let id = |d: f32| if (1.0 / d).is_finite() { 1.0 / d } else { 0.0 };
    if format == Format::Q8_0 {
        let d = x.iter().fold(0.0f32, |a, x| if x.abs() > a { x.abs() } else { a }) / 127.0;
        let q = x.iter().map(|x| (x * id(d)).round() as i8 as u8);
        return f32_to_f16(d).to_le_bytes().into_iter().chain(q).collect();
    }
    let most = x.iter().fold(x[0], |a, &x| if x.abs() > a.abs() { x } else { a });
    let d = most / -8.0;
    let q = |x: f32| (x.mul_add(id(d), 8.5) as u8).min(15);
    let bytes = (0..16).map(|l| q(x[l]) | q(x[l + 16]) << 4);
    f32_to_f16(d).to_le_bytes().into_iter().chain(bytes).collect()
}

#[test]
fn both_are_their_twins() {
    let mut x = Random::new(4).normal(32 * 70);
    for (i, x) in x.chunks_mut(32).enumerate() {
        // From subnormal to large.
        x.iter_mut().for_each(|x| *x *= f32::from_bits(((i as u32 * 3 + 2) % 140) << 23));
    }
    x[320..352].fill(0.0);
    x[352..384].fill(-0.0);
    x[384..400].fill(-3.0);
    for both in BOTH {
        let want: Vec<u8> = x.chunks(32).flat_map(|x| twin(both.0, x)).collect();
        for cpu in cpus() {
            assert_eq!(quantize(both, cpu, &x), want, "{} on {}", both.0, cpu.tier());
        }
    }
}

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ggml").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}

#[test]
fn as_the_python_package_quantises() {
    let x = floats(&file("floats.f32"));
    for both in BOTH {
        let want = file(&format!("{}.quantized", both.0.name().to_lowercase()));
        for cpu in cpus() {
            assert_eq!(quantize(both, cpu, &x), want, "{} on {}", both.0, cpu.tier());
        }
    }
}

#[test]
fn as_ggml_itself_quantises() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    for both in BOTH {
        let name = both.0.name().to_lowercase();
        let read = |part| {
            let name = format!("kernels/ggml-quants/{name}_64_noim_{part}.bin");
            std::fs::read(PathBuf::from(&data).join(name)).unwrap()
        };
        assert_eq!(quantize(both, Cpu::detect(), &floats(&read("input"))), read("expected"), "{name}");
    }
}

/// |x − decoded|: half a step and what rounding d to a half moves it (Q8_0), a step (Q4_0).
#[test]
fn errors_are_bounded() {
    let x = Random::new(11).normal(32 * 200);
    for both in BOTH {
        let mut back = vec![0.0; x.len()];
        dequantize(Cpu::detect(), both.0, &quantize(both, Cpu::detect(), &x), &mut back);
        for (x, back) in x.chunks(32).zip(back.chunks(32)) {
            let most = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            for (x, y) in x.iter().zip(back) {
                let bound = match both.0 {
                    Format::Q8_0 => 0.502 * most / 127.0 + x.abs() / 2048.0,
                    _ => 1.001 * most / 8.0,
                };
                assert!((x - y).abs() <= bound, "{}: {x} became {y}", both.0);
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_named() {
    for at in [0, 15, 16, 31, 32, 69] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 96];
            x[at] = bad;
            for (format, run) in BOTH {
                for cpu in cpus() {
                    let error = run(cpu, &x, &mut vec![0; format.bytes(96)]).unwrap_err();
                    assert_eq!(error.index, at, "{format} on {}", cpu.tier());
                }
            }
        }
    }
}
