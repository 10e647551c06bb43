//! Files that bitsandbytes itself wrote (tests/reference/bitsandbytes_fixture.py): read, decoded to its bits,
//! written again to its bytes; and files that are almost such.

mod common;

use std::path::PathBuf;

use samebits::io::bitsandbytes::{Absmax, Nf4, Owned};
use samebits::io::safetensors::{Dtype, SafeTensors, TensorView, to_bytes};
use samebits::kernels::nf4;

const FILES: [&str; 3] = ["f32", "f16_nested", "bf16_nested"];

fn fixture(name: &str) -> SafeTensors {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    SafeTensors::open(folder.join(format!("bitsandbytes_{name}.safetensors"))).expect("a committed file")
}

#[test]
fn what_bitsandbytes_wrote_decodes_to_its_bits() {
    for name in FILES {
        let file = fixture(name);
        let weight = Nf4::read(&file, "layer.weight").expect("sound").expect("in NF4");
        let want = file.tensor("decoded").unwrap();
        assert_eq!((weight.shape.as_slice(), weight.dtype), (want.shape, want.dtype), "{name}");
        assert_eq!(matches!(weight.absmax, Absmax::Nested { .. }), name.ends_with("nested"));
        for cpu in common::cpus() {
            let (absmax, n) = (weight.absmax.decode(cpu), weight.elements());
            let (mut floats, mut bits) = (vec![0.0f32; n], vec![0u16; n]);
            let Nf4 { codes, blocksize, .. } = &weight;
            let got: Vec<u8> = match weight.dtype {
                Dtype::F32 => {
                    nf4::dequantize(cpu, codes, &absmax, *blocksize, &mut floats);
                    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
                }
                Dtype::F16 => {
                    nf4::dequantize_f16(cpu, codes, &absmax, *blocksize, &mut bits);
                    bits.iter().flat_map(|x| x.to_le_bytes()).collect()
                }
                _ => {
                    nf4::dequantize_bf16(cpu, codes, &absmax, *blocksize, &mut bits);
                    bits.iter().flat_map(|x| x.to_le_bytes()).collect()
                }
            };
            assert_eq!(got, want.bytes, "{name} on {cpu:?}");
        }
    }
}

#[test]
fn writing_gives_the_bytes_of_bitsandbytes() {
    for name in FILES {
        let file = fixture(name);
        let weight = Nf4::read(&file, "layer.weight").unwrap().unwrap();
        let tensors = weight.tensors("layer.weight");
        for tensor in tensors.iter().map(Owned::view) {
            assert_eq!(tensor, file.tensor(tensor.name).unwrap(), "{name}");
        }
        assert_eq!(tensors.len() + 1, file.len(), "{name}: with `decoded`, all there is");
    }
}

/// The nested fixture with one tensor changed, or left out where the bytes are `None`.
fn changed(name: &str, shape: &[usize], bytes: Option<&[u8]>) -> SafeTensors {
    let file = fixture("f16_nested");
    let mut tensors: Vec<TensorView> = file.tensors().filter(|tensor| tensor.name != name).collect();
    assert_eq!(tensors.len() + 1, file.len(), "no tensor {name}");
    let dtype = file.tensor(name).unwrap().dtype;
    tensors.extend(bytes.map(|bytes| TensorView { name, dtype, shape, bytes }));
    SafeTensors::from_bytes(&to_bytes(&tensors, &[]).unwrap()).unwrap()
}

#[test]
fn parts_that_are_missing_or_do_not_fit_are_named() {
    for part in [".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"] {
        let name = format!("layer.weight{part}");
        let missing = Nf4::read(&changed(&name, &[], None), "layer.weight").expect_err(part);
        assert!(missing.to_string().contains(&name), "{missing}");
        let two: &[u8] = if part == ".absmax" { &[0; 2] } else { &[0; 8] };
        let other = changed(&name, &[2], Some(two));
        let error = Nf4::read(&other, "layer.weight").expect_err(part).to_string();
        assert!(error.contains("layer.weight"), "{error}");
    }
    let short = changed("layer.weight", &[1, 1], Some(&[0]));
    let error = Nf4::read(&short, "layer.weight").expect_err("one byte of codes").to_string();
    assert!(error.contains("do not fit its shape"), "{error}");
    assert_eq!(Nf4::read(&fixture("f32"), "decoded").unwrap(), None, "a plain tensor");
}

#[test]
fn descriptions_that_make_no_sense_are_refused() {
    let good = r#"{"quant_type": "nf4", "blocksize": 32, "dtype": "float16", "shape": [40, 32],
        "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 2.0}"#;
    let read = |text: &str| {
        let name = "layer.weight.quant_state.bitsandbytes__nf4";
        Nf4::read(&changed(name, &[text.len()], Some(text.as_bytes())), "layer.weight")
    };
    assert!(read(good).is_ok());
    for (from, to) in [
        (r#""blocksize": 32"#, r#""blocksize": 0"#),
        (r#""blocksize": 32"#, r#""blocksize": 18446744073709551615"#),
        (r#""blocksize": 32"#, r#""blocksize": -32"#),
        (r#""blocksize": 32,"#, ""),
        ("float16", "float8"),
        (r#""dtype": "float16""#, r#""dtype": 16"#),
        ("[40, 32]", "[40, 33]"),
        ("[40, 32]", "[4294967296, 4294967296]"),
        ("[40, 32]", "null"),
        ("[40, 32]", "[40, 32.5]"),
        (r#""nested_blocksize": 256"#, r#""nested_blocksize": 128"#),
        ("2.0", r#""2.0""#),
        ("2.0}", "2.0"),
        ("nf4", "fp4"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = read(&good.replacen(from, to, 1)).expect_err(to).to_string();
        assert!(error.contains("layer.weight"), "{error}");
    }
}
