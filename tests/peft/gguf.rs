//! LoRA in GGUF: the file that llama.cpp's converter makes, both ways.

use super::*;
use common::assert_same;
use samebits::io::gguf::{GgmlType, Gguf, TensorView, Value, to_bytes};
use samebits::model::DecoderConfig;
use samebits::peft::{Adapter, Module, Parts, StoredLora};
use std::collections::BTreeMap;

fn base() -> DecoderConfig {
    DecoderConfig::from_hf(&std::fs::read(data("llama/config.json")).unwrap()).unwrap()
}

fn modules(adapter: &Adapter) -> &BTreeMap<String, StoredLora> {
    match &adapter.parts {
        Parts::Lora(modules) => modules,
        other => panic!("{other:?}"),
    }
}

fn file() -> Gguf {
    Gguf::from_bytes(&std::fs::read(data("llama/adapter.gguf")).unwrap()).unwrap()
}

/// Written: every tensor and key of the reference, q and k with their rows moved, α · √r.
#[test]
fn written_as_llama_cpp_converts() {
    let adapter = Adapter::open(Cpu::detect(), data("llama")).unwrap();
    let ours = Gguf::from_bytes(&adapter.to_gguf(&base()).unwrap()).unwrap();
    let want = file();
    assert_eq!(ours.tensors().len(), 12);
    for tensor in want.tensors() {
        let got = ours.tensor(tensor.name).unwrap();
        assert_eq!((got.shape, got.kind), (tensor.shape, tensor.kind), "{}", tensor.name);
        assert!(got.bytes == tensor.bytes, "{} differs", tensor.name);
    }
    for key in ["general.type", "general.architecture", "adapter.type"] {
        assert_eq!(ours.entry(key).unwrap().str().unwrap(), want.entry(key).unwrap().str().unwrap());
    }
    for file in [&ours, &want] {
        assert_eq!(file.entry("adapter.lora.alpha").unwrap().f32().unwrap(), 12.0);
    }
}

/// Read: the matrices and s of the folder, and a configuration with which it can be saved as a folder.
#[test]
fn read_from_llama_cpp() {
    let cpu = Cpu::detect();
    let folder = Adapter::open(cpu, data("llama")).unwrap();
    let read = Adapter::from_gguf(cpu, &file(), &base()).unwrap();
    assert_eq!(modules(&read).len(), 6);
    for (name, want) in modules(&folder) {
        let got = &modules(&read)[name];
        assert_same(&got.layer.a, &want.layer.a, name);
        assert_same(&got.layer.b, &want.layer.b, name);
        assert_eq!((got.layer.scale, got.layer.shape()), (want.layer.scale, want.layer.shape()));
    }
    let tensors = SafeTensors::from_bytes(&read.tensors().unwrap()).unwrap();
    let again = Adapter::from_parts(cpu, read.config.clone(), &tensors).unwrap();
    assert!(again == read);
}

/// Other ranks and other α survive the way there and back.
#[test]
fn patterns_survive() {
    let cpu = Cpu::detect();
    let mut adapter = Adapter::open(cpu, data("llama")).unwrap();
    let Parts::Lora(all) = &mut adapter.parts else { panic!("not LoRA") };
    let names: Vec<String> = all.keys().cloned().collect();
    let LoraShape { in_features: k, out_features: n, .. } = all[&names[0]].layer.shape();
    all.get_mut(&names[0]).unwrap().layer = drawn_lora(1, [n, k, 2]);
    all.get_mut(&names[1]).unwrap().layer.scale = 0.75;
    let file = Gguf::from_bytes(&adapter.to_gguf(&base()).unwrap()).unwrap();
    let read = Adapter::from_gguf(cpu, &file, &base()).unwrap();
    let product = |layer: &LoraLayer| -> Vec<f32> {
        let rank = layer.shape().rank;
        let k = layer.shape().in_features;
        let element = |o: usize, i: usize| -> f32 {
            (0..rank).map(|r| layer.b[o * rank + r] * layer.scale * layer.a[r * k + i]).sum()
        };
        (0..layer.shape().out_features)
            .flat_map(|o| (0..k).map(move |i| (o, i)))
            .map(|(o, i)| element(o, i))
            .collect()
    };
    for (name, want) in modules(&adapter) {
        assert_near(&product(&modules(&read)[name].layer), &product(&want.layer), 1e-6, name);
    }
    let tensors = SafeTensors::from_bytes(&read.tensors().unwrap()).unwrap();
    assert!(Adapter::from_parts(cpu, read.config.clone(), &tensors).unwrap() == read);
}

#[test]
fn refused() {
    let cpu = Cpu::detect();
    let mut adapter = Adapter::open(cpu, data("llama")).unwrap();
    let error = |adapter: &Adapter| adapter.to_gguf(&base()).unwrap_err().to_string();
    let Parts::Lora(all) = &mut adapter.parts else { panic!("not LoRA") };
    let (name, mut stored) = all.pop_first().unwrap();
    let plain = stored.clone();
    stored.lengths = Some(vec![1.0; stored.layer.shape().out_features]);
    all.insert(name.clone(), stored);
    assert!(error(&adapter).contains("GGUF has no place for a magnitude (DoRA)"));
    let Parts::Lora(all) = &mut adapter.parts else { panic!("not LoRA") };
    all.insert(name.clone(), StoredLora { module: Module::Table, ..plain.clone() });
    assert!(error(&adapter).contains("an adapter of a table"));
    let Parts::Lora(all) = &mut adapter.parts else { panic!("not LoRA") };
    all.remove(&name);
    all.insert("model.other".into(), plain);
    assert!(error(&adapter).contains("no name for the module \"model.other\""));

    let bytes = [0u8; 64];
    let t = |name, shape: &'static [usize]| TensorView {
        name,
        kind: GgmlType::F32,
        shape,
        bytes: &bytes[..4 * shape.iter().product::<usize>()],
    };
    let good = [
        ("general.architecture", Value::String("llama")),
        ("general.type", Value::String("adapter")),
        ("adapter.type", Value::String("lora")),
        ("adapter.lora.alpha", Value::F32(0.0)),
    ];
    const A: &str = "blk.0.ffn_down.weight.lora_a";
    const B: &str = "blk.0.ffn_down.weight.lora_b";
    let read = |metadata: &[(&str, Value<'_>)], tensors: &[TensorView<'_>]| {
        Adapter::from_gguf(cpu, &Gguf::from_bytes(&to_bytes(metadata, tensors).unwrap()).unwrap(), &base())
    };
    // No α: s = 1.
    let adapter = read(&good, &[t(A, &[2, 4]), t(B, &[3, 2])]).unwrap();
    assert_eq!(modules(&adapter)["model.layers.0.mlp.down_proj"].layer.scale, 1.0);
    let with = |at: usize, value| {
        let mut metadata = good;
        metadata[at].1 = value;
        metadata
    };
    for (metadata, tensors, want) in [
        (with(0, Value::String("gpt2")), vec![t(A, &[2, 4])], "an adapter for \"gpt2\", the base is Llama"),
        (
            with(1, Value::String("model")),
            vec![t(A, &[2, 4])],
            "general.type is \"model\", expected \"adapter\"",
        ),
        (with(2, Value::String("x")), vec![t(A, &[2, 4])], "adapter.type is \"x\""),
        (good, vec![t(A, &[2, 4])], "no tensor \"blk.0.ffn_down.weight.lora_b\""),
        (good, vec![t(A, &[2, 4]), t(B, &[2, 3])], "A has rank 2, B 3"),
        (good, vec![t("blk.0.ffn_down.weight", &[2, 4])], "is no part of a LoRA"),
        (good, vec![t("blk.0.new.weight.lora_a", &[2, 4])], "is no module of the base"),
        (
            good,
            vec![t("blk.0.attn_q.weight.lora_a", &[2, 4]), t("blk.0.attn_q.weight.lora_b", &[3, 2])],
            "rows that are not 4 heads of 4",
        ),
        (good, vec![], "an adapter of nothing"),
    ] {
        let error = read(&metadata, &tensors).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?}, want {want:?}");
    }
}
