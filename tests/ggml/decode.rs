//! Decoding: twin, the Python package's decoder, ggml's own bytes.

use super::common::{Cpu, assert_same, cpus};
use super::{blocks, halves, twin};
use samebits::kernels::ggml::{Format, dequantize};
use std::path::{Path, PathBuf};

fn decode(cpu: Cpu, format: Format, blocks: &[u8]) -> Vec<f32> {
    let len = blocks.len() / format.block_bytes() * format.block_len();
    let mut out = vec![f32::NAN; len];
    dequantize(cpu, format, blocks, &mut out);
    out
}

#[test]
fn every_format_is_its_twin() {
    for format in Format::ALL {
        for count in [0, 1, 2, 5] {
            let blocks = blocks(format, count, 3 + count as u64);
            let want = twin::decode(format, &blocks);
            for cpu in cpus() {
                assert_same(
                    &decode(cpu, format, &blocks),
                    &want,
                    format!("{count} {format} on {}", cpu.tier()),
                );
            }
        }
    }
}

#[test]
fn every_half_as_a_scale() {
    for format in Format::ALL {
        let mut block = blocks(format, 1, 9);
        for half in (0..=u16::MAX).step_by(if super::common::slow() { 331 } else { 61 }) {
            for &at in halves(format) {
                block[at..at + 2].copy_from_slice(&half.to_le_bytes());
            }
            let want = twin::decode(format, &block);
            for cpu in cpus() {
                assert_same(
                    &decode(cpu, format, &block),
                    &want,
                    format!("{format}, {half:#06x} on {}", cpu.tier()),
                );
            }
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}

/// `tests/reference/ggml.py` drew the blocks and decoded them with the package `gguf`.
#[test]
fn as_the_python_package_decodes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ggml");
    for format in Format::ALL.into_iter().filter(|&f| f != Format::Q8K) {
        let read = |ending: &str| {
            let path = folder.join(format!("{}.{ending}", format.name().to_lowercase()));
            std::fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"))
        };
        let (blocks, want) = (read("bin"), floats(&read("f32")));
        assert!(want.iter().any(|x| x.is_infinite()) && want.len() >= 1280);
        for cpu in cpus() {
            assert_same(&decode(cpu, format, &blocks), &want, format!("{format} on {}", cpu.tier()));
        }
    }
}

/// What ggml packed, decoded: close to what it was given.
#[test]
fn bytes_of_ggml_are_near_their_inputs() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let folder = PathBuf::from(data).join("kernels/ggml-quants");
    // Deviation of the decoded from the input, as a part of the input's.
    let cases =
        [(Format::Q4_0, "q4_0_64", 0.12), (Format::Q5_1, "q5_1_64", 0.05), (Format::Q8_0, "q8_0_64", 0.01)];
    for (format, name, most) in cases.into_iter().chain([(Format::Q4K, "q4_k_512", 0.1)]) {
        for kind in ["im", "noim"] {
            let read = |part| std::fs::read(folder.join(format!("{name}_{kind}_{part}.bin"))).unwrap();
            let input = floats(&read("input"));
            let got = decode(Cpu::detect(), format, &read("expected"));
            let squares = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
            let error = squares(&mut got.iter().zip(&input).map(|(a, b)| a - b));
            let part = (error / squares(&mut input.iter().copied())).sqrt();
            assert!(got.len() == input.len() && part < most, "{name} {kind}: {part}");
        }
    }
}

#[test]
#[should_panic(expected = "17 bytes of Q4_0 for 32 elements, 18 needed in blocks of 32")]
fn too_few_bytes() {
    dequantize(Cpu::detect(), Format::Q4_0, &[0; 17], &mut [0.0; 32]);
}

#[test]
#[should_panic(expected = "0 bytes of Q6_K for 200 elements")]
fn half_a_block() {
    dequantize(Cpu::detect(), Format::Q6K, &[], &mut [0.0; 200]);
}
