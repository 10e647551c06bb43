//! `merge`, as its users meet it: what a merged folder computes is what the adapter computed beside the model, and what
//! peft's merge_and_unload computes (`tests/reference/lora_models.py`).

mod common;

use common::assert_same;
use common::program::{Folder, assert_fails, out, run};
use samebits::io::json;
use samebits::io::safetensors::SafeTensors;
use samebits::kernels::Cpu;
use samebits::model::{Decoder, Opening, Sequence, Workspace};
use samebits::peft::{Adapter, activate, attach};
use samebits::run::Run;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn case(name: &str) -> PathBuf {
    data("lora_models").join(name)
}

fn base_of(name: &str) -> PathBuf {
    let record = std::fs::read(case(name).join("losses.json")).unwrap();
    let base = json::parse(&record).unwrap().get("base").unwrap().as_str().unwrap().into_owned();
    data("models").join(base)
}

fn open(folder: &Path) -> Decoder {
    // The length selects LongRoPE's factors.
    let opening = Opening { length: Some(100), ..Opening::default() };
    Decoder::open_with(folder, Cpu::detect(), opening).unwrap()
}

fn logits(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    let mut all = vec![0.0; ids.len() * model.config().vocab];
    let mut cache = model.cache(ids.len());
    let mut batch = [Sequence { tokens: ids, cache: &mut cache }];
    let run = Run::here(Cpu::detect());
    model.forward_all(&run, &mut batch, &mut all, &mut Workspace::new()).unwrap();
    all
}

fn expected(name: &str, what: &str) -> (Vec<u32>, Vec<f32>) {
    let file = SafeTensors::open(case(name).join("expected.safetensors")).unwrap();
    let ids = file.load("ids").unwrap().to_vec::<i32>().into_iter().map(|id| id as u32).collect();
    (ids, file.load(what).unwrap().to_vec::<f32>())
}

/// The largest distance, relative to the largest number.
fn off(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    got.iter().zip(want).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

fn merge(model: &Path, adapter: &str, to: &Path, more: &[&str]) -> std::process::Output {
    run(["merge", "--model", text(model), "--adapter", adapter, "--out", text(to)].iter().chain(more))
}

fn field(output: &std::process::Output, name: &str) -> f64 {
    json::parse(out(output).trim().as_bytes()).unwrap().get(name).unwrap().as_f64().unwrap()
}

#[test]
fn a_merged_folder_computes_what_the_adapter_did() {
    let folder = Folder::new("merge");
    // Under peft a table that is the head too takes the adapter to both: its merged model is another than before.
    let tied = ["tied_table", "tied_head", "gpt2"];
    for name in ["table", "phi3", "phi3_dora", "gpt2_dora", "patterns", "plus_dora"].iter().chain(&tied) {
        let to = folder.path(name);
        let done = merge(&base_of(name), text(&case(name)), &to, &["--json"]);
        assert!(done.status.success(), "{name}: {done:?}");
        assert_eq!(field(&done, "error"), 0.0, "{name}: f32 holds the sum");
        assert!(field(&done, "memory") > 0.0 && field(&done, "bytes") > 0.0);
        let untied = json::parse(out(&done).trim().as_bytes()).unwrap().get("untied").unwrap().as_bool();
        assert_eq!(untied, Some(tied.contains(name)), "{name}");
        let (ids, want) = expected(name, "logits");
        let merged = open(&to);
        assert_eq!(merged.config().tied, open(&base_of(name)).config().tied && !tied.contains(name));
        let got = logits(&merged, &ids);
        assert!(off(&got, &want) <= 1e-5, "{name}: {} off the adapter's", off(&got, &want));
        if !tied.contains(name) {
            let (_, want) = expected(name, "merged");
            assert!(off(&got, &want) <= 1e-5, "{name}: {} off peft's", off(&got, &want));
        }
        // All that no adapter names is there as it was.
        let [before, after] =
            [base_of(name), to].map(|folder| SafeTensors::open(folder.join("model.safetensors")).unwrap());
        let same = before.tensors().filter(|t| after.tensor(t.name).unwrap() == *t).count();
        assert_eq!(after.len(), before.len() + usize::from(tied.contains(name)), "{name}");
        let merged = field(&done, "merged") as usize - usize::from(*name == "tied_head");
        assert_eq!(before.len() - same, merged, "{name}: changed tensors");
    }
}

#[test]
fn adapters_are_added_with_their_weights() {
    let folder = Folder::new("merge-weights");
    let (llama, a, b) = (data("models/llama"), case("plus"), case("patterns"));
    let none = folder.path("none");
    assert!(merge(&llama, &format!("{}=0", text(&a)), &none, &[]).status.success());
    let (ids, _) = expected("plus", "logits");
    assert_same(&logits(&open(&none), &ids), &logits(&open(&llama), &ids), "weight 0 is the base");
    assert!(none.join("tokenizer.json").is_file());
    let both = folder.path("both");
    let done = merge(&llama, text(&a), &both, &["--adapter", &format!("{}=-0.5", text(&b))]);
    assert!(done.status.success(), "{done:?}");
    let run = Run::here(Cpu::detect());
    let mut model = open(&llama);
    for (name, path) in [("a", &a), ("b", &b)] {
        attach(&run, &mut model, name, &Adapter::open(run.cpu(), path).unwrap()).unwrap();
    }
    activate(&mut model, &[("a", 1.0), ("b", -0.5)]).unwrap();
    let far = off(&logits(&open(&both), &ids), &logits(&model, &ids));
    assert!(far <= 1e-5, "{far}");
}

#[test]
fn what_is_rounded_is_said() {
    let folder = Folder::new("merge-rounded");
    let llama = data("models/llama");
    let (adapter, half) = (case("plus"), folder.path("half"));
    assert!(run(["convert", text(&llama), text(&half), "--type", "bf16"]).status.success());
    let done = merge(&half, text(&adapter), &folder.path("merged-half"), &["--json"]);
    assert!(done.status.success(), "{done:?}");
    let (error, of_change) = (field(&done, "error"), field(&done, "error_of_change"));
    assert!(error > 1e-4 && error < 4e-3 && of_change > error && of_change < 1.0, "{error} {of_change}");

    let coded = folder.path("coded");
    let quantize = ["quantize", text(&llama), text(&coded), "--nf4", "--double-quant"];
    assert!(run(quantize).status.success());
    let to = folder.path("refused");
    let refused = merge(&coded, text(&adapter), &to, &[]);
    assert_fails(&refused, 1, "--into-nf4");
    assert!(!to.exists());

    // Decoded, the sum is that of the adapter beside the model in NF4.
    let floats = folder.path("floats");
    let done = merge(&coded, text(&adapter), &floats, &["--into-floats", "--json"]);
    assert!(done.status.success() && field(&done, "error") == 0.0, "{done:?}");
    let run = Run::here(Cpu::detect());
    let mut model = open(&coded);
    attach(&run, &mut model, "it", &Adapter::open(run.cpu(), &adapter).unwrap()).unwrap();
    activate(&mut model, &[("it", 1.0)]).unwrap();
    let (ids, _) = expected("plus", "logits");
    let want = logits(&model, &ids);
    let far = off(&logits(&open(&floats), &ids), &want);
    assert!(far <= 1e-5, "{far}");
    let config = std::fs::read_to_string(floats.join("config.json")).unwrap();
    assert!(!config.contains("quantization_config"));

    // Rounded again, it is something else, and how much is said.
    let again = folder.path("again");
    let done = merge(&coded, text(&adapter), &again, &["--into-nf4", "--json"]);
    assert!(done.status.success(), "{done:?}");
    let (error, of_change) = (field(&done, "error"), field(&done, "error_of_change"));
    assert!(error > 0.02 && error < 0.2 && of_change > error, "{error} {of_change}");
    let file = SafeTensors::open(again.join("model.safetensors")).unwrap();
    assert!(file.tensors().any(|t| t.name.ends_with("nested_absmax")), "statistics as they were");
    assert!(off(&logits(&open(&again), &ids), &want) > 1e-3);
}

#[test]
fn what_cannot_be_merged_is_one_line() {
    let folder = Folder::new("merge-errors");
    let (llama, adapter, to) = (data("models/llama"), case("plus"), folder.path("out"));
    assert_fails(&run(["merge", "--model", text(&llama), "--out", text(&to)]), 2, "--adapter is needed");
    assert_fails(&run(["merge", "--adapter", text(&adapter), "--out", text(&to)]), 2, "--model is needed");
    let exclude = ["--into-nf4", "--into-floats"];
    assert_fails(&merge(&llama, text(&adapter), &to, &exclude), 2, "exclude");
    assert_fails(&merge(&llama, text(&adapter), &to, &["--into-nf4"]), 1, "NF4");
    assert_fails(&merge(&llama, text(&adapter), &llama, &[]), 1, "exists");
    assert_fails(&merge(&data("models/bert"), text(&adapter), &to, &[]), 1, "models/bert");
    assert_fails(&merge(&llama, text(&case("phi3")), &to, &[]), 1, "gate_up_proj");
    assert_fails(&merge(&data("models/llama_yarn"), text(&case("table")), &to, &[]), 1, "another model");
    assert_fails(&merge(&data("models/qwen2"), text(&adapter), &to, &[]), 1, "(24, 28) of the base");
    let huge = format!("{}=3e38", text(&adapter));
    assert_fails(&merge(&llama, &huge, &to, &["--adapter", &huge]), 1, "finite");
    assert_fails(&merge(&llama, text(&data("models")), &to, &[]), 1, "adapter_config.json");
    assert!(!to.exists(), "nothing was written");
    assert_eq!(folder.names(), Vec::<String>::new(), "and nothing is left behind");
}
