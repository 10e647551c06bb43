//! `adapters inspect`, as its users meet it.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::io::json;
use std::path::PathBuf;

fn data(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).to_str().unwrap().into()
}

fn inspect(path: &str) -> String {
    let done = run(["adapters", "inspect", path, "--json"]);
    assert!(done.status.success(), "{path}: {done:?}");
    out(&done).trim().into()
}

fn number(text: &str, name: &str) -> f64 {
    json::parse(text.as_bytes()).unwrap().get(name).unwrap().as_f64().unwrap()
}

fn string(text: &str, name: &str) -> String {
    json::parse(text.as_bytes()).unwrap().get(name).unwrap().as_str().unwrap().into_owned()
}

#[test]
fn every_kind_says_what_it_is() {
    let kinds = [
        ("lora_models/table", "LoRA", 6),
        ("lora_models/phi3_dora", "DoRA", 8),
        ("lora_models/gpt2", "LoRA", 9),
        ("lora_training/rslora", "rsLoRA", 14),
        ("peft/ia3", "IA3", 4),
        ("peft/prefix", "prefix", 1),
    ];
    for (path, kind, modules) in kinds {
        let text = inspect(&data(path));
        assert_eq!(string(&text, "type"), kind, "{path}");
        let root = json::parse(text.as_bytes()).unwrap();
        let all: Vec<_> = root.get("modules").unwrap().elements().unwrap().collect();
        assert_eq!(all.len(), modules, "{path}");
        let of_modules: f64 = all.iter().map(|m| m.get("parameters").unwrap().as_f64().unwrap()).sum();
        assert_eq!(of_modules, number(&text, "parameters"), "{path}");
        let size = std::fs::metadata(format!("{}/adapter_model.safetensors", data(path))).unwrap().len();
        assert_eq!(number(&text, "bytes"), size as f64);
        // The table for people names every module.
        let done = run(["adapters", "inspect", &data(path)]);
        for module in &all {
            let name = module.get("module").unwrap().as_str().unwrap().into_owned();
            assert!(out(&done).contains(&name), "{path}: {name}");
        }
        assert!(out(&done).contains(&format!("{kind} on {modules} modules")), "{}", out(&done));
    }
}

#[test]
fn ranks_scales_shapes_and_what_is_kept() {
    let text = inspect(&data("lora_models/patterns"));
    let root = json::parse(text.as_bytes()).unwrap();
    let module = |end: &str| {
        let mut all = root.get("modules").unwrap().elements().unwrap();
        all.find(|m| m.get("module").unwrap().as_str().unwrap().ends_with(end)).unwrap()
    };
    let of = |end: &str, name: &str| module(end).get(name).unwrap().as_f64().unwrap();
    assert_eq!((of("0.self_attn.q_proj", "rank"), of("0.self_attn.q_proj", "scaling")), (5.0, 1.0));
    assert_eq!((of("0.self_attn.k_proj", "rank"), of("0.self_attn.k_proj", "scaling")), (3.0, 3.0));
    assert_eq!(of("layers.1.mlp.up_proj", "rank"), 2.0);
    let shape = module("layers.1.mlp.up_proj").get("tensors").unwrap().get("B").unwrap().source().to_string();
    assert_eq!(shape, "[28,2]");
    // peft's fields that change nothing are there, with their values.
    assert_eq!(root.get("kept").unwrap().get("task_type").unwrap().as_str().unwrap(), "CAUSAL_LM");
    assert!(root.get("kept").unwrap().get("r").is_none());
    assert_eq!(number(&text, "r"), 3.0);
    assert_eq!(string(&text, "base_model_name_or_path"), "llama");
    // One that peft begins with adds nothing, and that is said.
    assert_eq!(root.get("idle").unwrap().elements().unwrap().count(), 0);
    let fresh = inspect(&data("lora_training/lora"));
    let idle = json::parse(fresh.as_bytes()).unwrap().get("idle").unwrap().elements().unwrap().count();
    assert_eq!(idle, 14);
}

#[test]
fn gguf_too() {
    let text = inspect(&data("peft/llama/adapter.gguf"));
    assert_eq!(string(&text, "type"), "LoRA");
    assert_eq!(string(&text, "general.architecture"), "llama");
    let root = json::parse(text.as_bytes()).unwrap();
    let first = root.get("modules").unwrap().elements().unwrap().next().unwrap();
    let (rank, s) = (first.get("rank").unwrap(), first.get("scaling").unwrap());
    let alpha = number(&text, "lora_alpha");
    assert!((s.as_f64().unwrap() - alpha / rank.as_f64().unwrap()).abs() < 1e-6);
    let folder = Folder::new("adapters-gguf");
    let mut bytes = std::fs::read(data("peft/llama/adapter.gguf")).unwrap();
    bytes.truncate(bytes.len() / 2);
    let cut = folder.path("cut.gguf");
    std::fs::write(&cut, &bytes).unwrap();
    assert_fails(&run(["adapters", "inspect", cut.to_str().unwrap()]), 1, "cut.gguf");
    // A model is no adapter.
    assert_fails(&run(["adapters", "inspect", &data("tokenizers")]), 1, "adapter_config.json");
}

#[test]
fn what_is_broken_is_named() {
    let folder = Folder::new("adapters-broken");
    let source = PathBuf::from(data("lora_models/plus"));
    let read = |name: &str| std::fs::read(source.join(name)).unwrap();
    let put = |name: &str, config: &[u8], weights: &[u8]| {
        let to = folder.path(name);
        std::fs::create_dir(&to).unwrap();
        std::fs::write(to.join("adapter_config.json"), config).unwrap();
        std::fs::write(to.join("adapter_model.safetensors"), weights).unwrap();
        to.to_str().unwrap().to_string()
    };
    let (config, weights) = (read("adapter_config.json"), read("adapter_model.safetensors"));
    let text = String::from_utf8(config.clone()).unwrap();
    let fails = |path: &str, message: &str| assert_fails(&run(["adapters", "inspect", path]), 1, message);
    fails(&put("short", &config, &weights[..weights.len() - 8]), "adapter_model.safetensors");
    fails(
        &put("rank", text.replace("\"r\": 3", "\"r\": 4").as_bytes(), &weights),
        "rank of the configuration",
    );
    fails(&put("bias", text.replace("\"bias\": \"none\"", "\"bias\": \"all\"").as_bytes(), &weights), "bias");
    fails(&put("json", &config[..config.len() - 3], &weights), "adapter_config.json");
    fails(&put("targets", text.replace("q_proj", "r_proj").as_bytes(), &weights), "belong to no module");
    let unknown = text.replace("\"r\": 3", "\"r\": 3, \"what_is_this\": [1, 2]");
    let shown = inspect(&put("unknown", unknown.as_bytes(), &weights));
    assert!(shown.contains("\"what_is_this\":[1, 2]"), "{shown}");
    fails(folder.path("nowhere").to_str().unwrap(), "nowhere");
    assert_fails(&run(["adapters", "inspect"]), 2, "inspect DIR");
    assert_fails(&run(["adapters", "list", &data("lora_models/plus")]), 2, "list");
}
