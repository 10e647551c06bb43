//! Folders of peft.

use super::*;
use common::{assert_same, cpus};
use samebits::io::safetensors::{Dtype, TensorView, to_bytes};
use samebits::nn::Embedding;
use samebits::peft::config::Dora;
use samebits::peft::{Adapter, AdapterConfig, EmbeddingWithLora, Module, Parts, Scaling, StoredLora};
use samebits::peft::{LoraOptions, stream_of};
use samebits::pool::Pool;
use samebits::random::Philox;

const LORA: [&str; 4] = ["lora", "rslora", "dora", "table"];

/// What `module` of the small model gives with an adapter.
fn output(run: &Run<'_>, base: &SafeTensors, module: &str, stored: Option<&StoredLora>) -> Vec<f32> {
    let cpu = run.cpu();
    if module == "model.embed" {
        let table = weight(cpu, base, "base/model.embed.weight");
        let ids: Vec<u32> = base
            .tensor("input/model.embed")
            .unwrap()
            .bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| u32::from_le_bytes(b))
            .collect();
        let mut out = vec![0.0; ids.len() * table.in_features()];
        match stored {
            None => Embedding::new(table).forward(cpu, &ids, &mut out),
            Some(stored) => {
                assert_eq!(stored.module, Module::Table);
                let layer = EmbeddingWithLora { base: Embedding::new(table), adapter: stored.layer.clone() };
                layer.forward(run, &ids, &mut out);
            }
        }
        return out;
    }
    let mut layer = LinearWithLora::new(linear(cpu, base, module));
    if let Some(stored) = stored {
        layer.insert(run, "it", stored.on(run, &layer.base().weight).unwrap()).unwrap();
        layer.activate(&[("it", 1.0)]).unwrap();
    }
    forward(run, &layer, &floats(base, &format!("input/{module}")))
}

/// Every module of the model: without an adapter, and with each folder; the same bits on every tier and thread.
#[test]
fn outputs_of_peft() {
    let base = SafeTensors::open(data("base.safetensors")).unwrap();
    let pool = Pool::new(3);
    let modules: Vec<&str> = base.tensors().filter_map(|t| t.name.strip_prefix("none/")).collect();
    assert_eq!(modules.len(), 7);
    for name in LORA {
        let mut first = None;
        for cpu in cpus() {
            for run in [Run::here(cpu), Run::on(cpu, &pool)] {
                let adapter = Adapter::open(cpu, data(name)).unwrap();
                let Parts::Lora(parts) = &adapter.parts else { panic!("{name}: not LoRA") };
                assert!(adapter.idle().is_empty());
                let mut all = Vec::new();
                for module in &modules {
                    let got = output(&run, &base, module, parts.get(*module));
                    let want = floats(&base, &format!("{name}/{module}"));
                    assert_near(&got, &want, 1e-6, format!("{name} {module} {cpu:?}"));
                    all.extend(got);
                }
                assert_same(&all, first.get_or_insert_with(|| all.clone()), name);
            }
        }
    }
}

#[test]
fn ia3_of_peft() {
    let base = SafeTensors::open(data("base.safetensors")).unwrap();
    for cpu in cpus() {
        let run = Run::here(cpu);
        let adapter = Adapter::open(cpu, data("ia3")).unwrap();
        let Parts::Ia3(parts) = &adapter.parts else { panic!("not IA³") };
        assert_eq!(parts.len(), 4);
        for (module, ia3) in parts {
            let (layer, x) = (linear(cpu, &base, module), floats(&base, &format!("input/{module}")));
            let rows = x.len() / layer.in_features();
            let mut out = vec![0.0; rows * layer.out_features()];
            let mut room = vec![Line::ZERO; ia3.room_len(rows)];
            ia3.forward(&run, &layer, &x, &mut out, Room::new(&mut room));
            assert_near(&out, &floats(&base, &format!("ia3/{module}")), 1e-6, module);
        }
    }
}

#[test]
fn prefix_of_peft() {
    let base = SafeTensors::open(data("base.safetensors")).unwrap();
    let adapter = Adapter::open(Cpu::detect(), data("prefix")).unwrap();
    let Parts::Prefix(prefix) = &adapter.parts else { panic!("not a prefix") };
    for layer in 0..2 {
        for (side, got) in ["k", "v"].iter().zip(prefix.layer(layer)) {
            assert_same(&got, &floats(&base, &format!("prefix/{layer}/{side}")), side);
        }
    }
}

/// Loaded and saved, both files are peft's, byte for byte.
#[test]
fn saved_as_peft_saved_it() {
    let out = std::env::temp_dir().join(format!("samebits-peft-{}", std::process::id()));
    for name in LORA.into_iter().chain(["ia3", "prefix"]) {
        let adapter = Adapter::open(Cpu::detect(), data(name)).unwrap();
        adapter.save(&out).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            let (ours, theirs) = (std::fs::read(out.join(file)), std::fs::read(data(name).join(file)));
            assert!(ours.unwrap() == theirs.unwrap(), "{name}/{file} differs");
        }
    }
    std::fs::remove_dir_all(out).unwrap();
}

/// A folder of our own making; with `SAMEBITS_PEFT_OUT` it is left there, with inputs and outputs, for
/// tests/reference/check_peft.py to load it in peft.
#[test]
fn written_for_peft() {
    let base = SafeTensors::open(data("base.safetensors")).unwrap();
    let run = Run::here(Cpu::detect());
    let own = std::env::temp_dir().join(format!("samebits-peft-out-{}", std::process::id()));
    let out = std::env::var_os("SAMEBITS_PEFT_OUT").map_or(own.clone(), PathBuf::from);
    for (name, dora, scaling) in [
        ("plain", Dora::Off, Scaling::ByRank),
        ("root", Dora::Off, Scaling::ByRoot),
        ("lengths", Dora::On, Scaling::ByRank),
    ] {
        let options = LoraOptions { rank: 3, alpha: 7.0, scaling, dropout: 0.25, ..LoraOptions::default() };
        let config = AdapterConfig::lora(&options, dora, &["q_proj", "down"], "small").unwrap();
        let config = config.with_field("task_type", "null").unwrap(); // the small model generates nothing
        let mut parts = std::collections::BTreeMap::new();
        let mut results = Vec::new();
        for module in
            ["model.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.0.down", "model.layers.1.down"]
        {
            let layer = linear(run.cpu(), &base, module);
            let place = (Philox::new(5), stream_of(module));
            let (mut lora, same) = LoraLayer::new(&run, &layer.weight, &options, place).unwrap();
            assert_same(&same.to_rows(run.cpu()), &layer.weight.to_rows(run.cpu()), "the base is as it was");
            lora.b = Random::new(stream_of(module)).normal(lora.b.len());
            let lengths = (dora == Dora::On).then(|| {
                let lengths = lora.clone().with_magnitude(&run, &layer.weight).magnitude.unwrap().lengths;
                lengths.iter().map(|m| m * 1.25).collect()
            });
            let stored = StoredLora { layer: lora, lengths, module: Module::Linear };
            results.push((format!("output/{module}"), output(&run, &base, module, Some(&stored))));
            parts.insert(module.to_string(), stored);
        }
        let adapter = Adapter { config, parts: Parts::Lora(parts), copies: Default::default() };
        let folder = out.join(name);
        adapter.save(&folder).unwrap();
        assert!(Adapter::open(run.cpu(), &folder).unwrap() == adapter, "{name}: read back");
        let bytes: Vec<Vec<u8>> =
            results.iter().map(|(_, x)| x.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let shapes: Vec<[usize; 1]> = results.iter().map(|(_, x)| [x.len()]).collect();
        let views: Vec<TensorView<'_>> = (0..results.len())
            .map(|i| TensorView {
                name: &results[i].0,
                dtype: Dtype::F32,
                shape: &shapes[i],
                bytes: &bytes[i],
            })
            .collect();
        std::fs::write(folder.join("outputs.safetensors"), to_bytes(&views, &[]).unwrap()).unwrap();
    }
    if out == own {
        std::fs::remove_dir_all(own).unwrap();
    }
}

/// bf16 and f16 are read by the type of each tensor.
#[test]
fn types_of_tensors() {
    let config = br#"{"peft_type": "LORA", "target_modules": ["q"], "r": 1}"#;
    let config = AdapterConfig::parse(config).unwrap();
    let (one_bf16, half_f16) = ([0x80, 0x3f, 0x00, 0xc0], [0x00, 0x38]);
    let a = TensorView {
        name: "base_model.model.q.lora_A.weight",
        dtype: Dtype::BF16,
        shape: &[1, 2],
        bytes: &one_bf16,
    };
    let b = TensorView {
        name: "base_model.model.q.lora_B.weight",
        dtype: Dtype::F16,
        shape: &[1, 1],
        bytes: &half_f16,
    };
    let file = SafeTensors::from_bytes(&to_bytes(&[a, b], &[]).unwrap()).unwrap();
    let adapter = Adapter::from_parts(Cpu::detect(), config.clone(), &file).unwrap();
    let Parts::Lora(parts) = &adapter.parts else { panic!("not LoRA") };
    let StoredLora { layer, .. } = &parts["q"];
    assert_eq!((&*layer.a, &*layer.b, layer.scale), (&[1.0, -2.0][..], &[0.5][..], 8.0));
    let zero = TensorView { bytes: &[0, 0], ..b };
    let file = SafeTensors::from_bytes(&to_bytes(&[a, zero], &[]).unwrap()).unwrap();
    assert_eq!(Adapter::from_parts(Cpu::detect(), config, &file).unwrap().idle(), ["q"]);
}

/// Every key has a place, every place its keys, of the right shape.
#[test]
fn keys_that_do_not_fit() {
    let numbers = [0u8; 64];
    let t = |name, shape: &'static [usize]| {
        let bytes = &numbers[..4 * shape.iter().product::<usize>()];
        TensorView { name, dtype: Dtype::F32, shape, bytes }
    };
    const A: &str = "base_model.model.q.lora_A.weight";
    const B: &str = "base_model.model.q.lora_B.weight";
    let cases: [(&str, Vec<TensorView<'_>>, &str); 8] = [
        (r#""r": 2"#, vec![t(A, &[2, 3])], "no tensor \"base_model.model.q.lora_B.weight\""),
        (r#""r": 2"#, vec![t(B, &[3, 2])], "no tensor \"base_model.model.q.lora_A.weight\""),
        (r#""r": 3"#, vec![t(A, &[2, 3]), t(B, &[3, 2])], "has shape (2, 3), expected (3, in), the rank"),
        (r#""r": 2"#, vec![t(A, &[2, 3]), t(B, &[2, 3])], "has shape (2, 3), expected (out, 2)"),
        (r#""r": 2"#, vec![t(A, &[6]), t(B, &[3, 2])], "has shape (6,), expected (2, in)"),
        (
            r#""r": 2"#,
            vec![t("q.lora_A.weight", &[2, 3])],
            "belong to no module of the configuration: [\"q.lora_A",
        ),
        (
            r#""r": 2"#,
            vec![t(A, &[2, 3]), t(B, &[3, 2]), t("base_model.model.k.lora_A.weight", &[2, 3])],
            "belong to no module of the configuration: [\"base_model.model.k.lora_A.weight\"]",
        ),
        (r#""r": 2, "use_dora": true"#, vec![t(A, &[2, 3]), t(B, &[3, 2])], "use_dora, but no"),
    ];
    for (fields, tensors, want) in cases {
        let text = format!(r#"{{"peft_type": "LORA", "target_modules": ["q"], {fields}}}"#);
        let config = AdapterConfig::parse(text.as_bytes()).unwrap();
        let file = SafeTensors::from_bytes(&to_bytes(&tensors, &[]).unwrap()).unwrap();
        let error = Adapter::from_parts(Cpu::detect(), config, &file).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?}, want {want:?}");
    }
    let error = Adapter::open(Cpu::detect(), data("none")).unwrap_err().to_string();
    assert!(error.contains("adapter_config.json: cannot open"), "{error}");
}

/// A real folder, where there is one.
#[test]
fn a_published_folder() {
    let Some(folder) = std::env::var_os("SAMEBITS_DATA") else {
        println!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let folder = PathBuf::from(folder).join("lora/synthetic-tiny");
    let adapter = Adapter::open(Cpu::detect(), &folder).unwrap();
    let Parts::Lora(parts) = &adapter.parts else { panic!("not LoRA") };
    let parameters: usize = parts.values().map(|p| p.layer.parameters()).sum();
    println!("{} modules, {parameters} parameters", parts.len());
    assert!(parts.len() >= 12 && parts.values().all(|p| p.layer.shape().rank == 8 && p.layer.scale == 2.0));
    assert_eq!(adapter.config.field("alpha"), Some("16")); // not a field of peft's: kept
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    assert_eq!(adapter.config.to_json(), text.trim_end());
}
