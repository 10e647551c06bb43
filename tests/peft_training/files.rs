//! Adapters in folders, and what is refused.

use super::*;

/// New adapters with drawn numbers, saved for `tests/reference/check_adapted.py` with the logits that they give here; read
/// again they give the same.
#[test]
fn written_for_others() {
    let run = Run::here(Cpu::detect());
    let kept = std::env::var_os("SAMEBITS_ADAPTED_OUT").map(PathBuf::from);
    let temporary = std::env::temp_dir().join(format!("samebits-adapted-{}", std::process::id()));
    let out = kept.clone().unwrap_or(temporary);
    let options = LoraOptions { rank: 3, alpha: 5.0, ..LoraOptions::default() };
    let root = LoraOptions { scaling: Scaling::ByRoot, ..options };
    let llama = AdaptedModel { class: "LlamaForCausalLM", kind: "llama", name: "llama" };
    let gpt2 = AdaptedModel { class: "GPT2LMHeadModel", kind: "gpt2", name: "gpt2" };
    let bottleneck = |kind, model| AdapterConfig::bottleneck(&BottleneckConfig::new(kind, 20), model);
    let prefix = PrefixConfig { tokens: 4, layers: 2, dim: 12 };
    let all = [
        ("llama-lora", AdapterConfig::lora(&options, Dora::Off, &["q_proj", "down_proj"], "llama")),
        ("llama-rslora", AdapterConfig::lora(&root, Dora::Off, &["k_proj", "up_proj"], "llama")),
        ("llama-dora", AdapterConfig::lora(&options, Dora::On, &["v_proj", "gate_proj"], "llama")),
        ("llama-ia3", AdapterConfig::ia3(&["k_proj", "v_proj", "down_proj"], &["down_proj"], "llama")),
        ("llama-prefix", AdapterConfig::prefix(prefix, 2, "llama")),
        ("llama-houlsby", bottleneck(AdapterKind::Houlsby, llama)),
        ("llama-pfeiffer", bottleneck(AdapterKind::Pfeiffer, llama)),
        ("llama-parallel", bottleneck(AdapterKind::Parallel, llama)),
        ("gpt2-houlsby", bottleneck(AdapterKind::Houlsby, gpt2)),
        ("gpt2-parallel", bottleneck(AdapterKind::Parallel, gpt2)),
    ];
    let batch = Batch::drawn(11);
    for (name, config) in all {
        let (config, base) = (config.unwrap(), name.split_once('-').unwrap().0);
        let mut model = decoder(base, &run);
        adapt(&run, &mut model, ("default", &config), Philox::new(8)).unwrap();
        model.with_parameters(|mut all| {
            for p in all.iter_mut().filter(|p| is_adapter(&p.name)) {
                let drawn = |i: usize| ((i * 37 % 19) as f32 - 9.0) / 60.0;
                p.values.iter_mut().enumerate().for_each(|(i, x)| *x += drawn(i));
            }
        });
        model.refresh_adapters(&run);
        let (folder, want) = (out.join(name), logits(&model, &run, &batch, 64));
        stored(&mut model, "default", &config).unwrap().save(&folder).unwrap();
        assert_same(&logits(&adapted(&run, base, &folder), &run, &batch, 64), &want, name);
        let bytes: Vec<u8> = want[..ENDS[1] * 53].iter().flat_map(|x| x.to_le_bytes()).collect();
        let ids: Vec<u8> = batch.tokens[..ENDS[1]].iter().flat_map(|id| id.to_le_bytes()).collect();
        let views = [
            TensorView { name: "ids", dtype: Dtype::I32, shape: &[ENDS[1]], bytes: &ids },
            TensorView { name: "logits", dtype: Dtype::F32, shape: &[ENDS[1], 53], bytes: &bytes },
        ];
        std::fs::write(folder.join("logits.safetensors"), to_bytes(&views, &[]).unwrap()).unwrap();
    }
    if kept.is_none() {
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn what_has_no_place_or_no_support_is_an_error() {
    let run = Run::here(Cpu::detect());
    let open = |folder: &str| Adapter::open(run.cpu(), data(folder)).unwrap();
    let refused = |model: &str, adapter: &Adapter| {
        attach(&run, &mut decoder(model, &run), "one", adapter).unwrap_err().to_string()
    };
    let mut short = open("lora_training/ia3");
    let Parts::Ia3(modules) = &mut short.parts else { panic!("{short:?}") };
    modules.values_mut().for_each(|ia3| _ = ia3.scales.pop());
    assert!(refused("llama", &short).contains("11 scales for 12 features"));
    assert!(refused("gpt2", &open("lora_training/prefix")).contains("a prefix for 2 layers of 12"));
    assert!(refused("gpt2", &open("bottleneck_training/houlsby")).contains("attention_adapters: no adapter"));
    // One prefix at a time, and wholly.
    let (mut model, prefix) = (decoder("llama", &run), open("lora_training/prefix"));
    attach(&run, &mut model, "one", &prefix).unwrap();
    assert!(attach(&run, &mut model, "two", &prefix).unwrap_err().to_string().contains("one at a time"));
    assert!(activate(&mut model, &[("one", 0.5)]).unwrap_err().to_string().contains("wholly"));
    // LoRA where there is IA³.
    let lora = open("lora_training/lora");
    attach(&run, &mut model, "three", &open("lora_training/ia3")).unwrap();
    assert!(attach(&run, &mut model, "four", &lora).unwrap_err().to_string().contains("another kind"));
}

/// What the `adapters` package has and is not here.
#[test]
fn options_of_other_bottlenecks_are_refused_by_name() {
    let run = Run::here(Cpu::detect());
    let houlsby = Adapter::open(run.cpu(), data("bottleneck_training/houlsby")).unwrap().config;
    let options = houlsby.field("config").unwrap();
    for (was, is, name) in [
        ("\"use_gating\": false", "\"use_gating\": true", "use_gating"),
        ("\"inv_adapter\": null", "\"inv_adapter\": \"nice\"", "inv_adapter"),
        ("\"phm_layer\": false", "\"phm_layer\": true", "phm_layer"),
        ("\"ln_after\": false", "\"ln_after\": true", "ln_after"),
        ("\"original_ln_after\": true", "\"original_ln_after\": false", "original_ln_after"),
        ("\"scaling\": 1.0", "\"scaling\": \"learned\"", "scaling"),
        ("\"swish\"", "\"leakyrelu\"", "leakyrelu"),
        ("\"dropout\": 0.0", "\"dropout\": 0.0, \"novelty\": 1", "novelty"),
        ("\"reduction_factor\": 4", "\"reduction_factor\": 0", "reduction_factor"),
    ] {
        let error = houlsby.with_field("config", &options.replace(was, is)).unwrap_err().to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    // A file of another width, a tensor too many, and one of pickle.
    let folder = std::env::temp_dir().join(format!("samebits-bottleneck-{}", std::process::id()));
    let write = |config: &str, weights: Option<&str>| {
        _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("adapter_config.json"), config).unwrap();
        match weights {
            Some(from) => {
                _ = std::fs::copy(data(from).join("adapter.safetensors"), folder.join("adapter.safetensors"))
                    .unwrap()
            }
            None => std::fs::write(folder.join("pytorch_adapter.bin"), "x").unwrap(),
        }
        Adapter::open(run.cpu(), &folder).unwrap_err().to_string()
    };
    let text = houlsby.to_json();
    let error = write(
        &text.replace("\"reduction_factor\": 4", "\"reduction_factor\": 5"),
        Some("bottleneck_training/houlsby"),
    );
    assert!(error.contains("adapter_down.0.weight"), "{error}");
    let error = write(
        &text.replace("\"mh_adapter\": true", "\"mh_adapter\": false"),
        Some("bottleneck_training/houlsby"),
    );
    assert!(error.contains("attention_adapters") && error.contains("no module"), "{error}");
    assert!(write(&text, None).contains("use_safetensors"));
    std::fs::remove_dir_all(&folder).unwrap();
}
