//! `finetune`, and `generate` with what it wrote, as their users meet them, on a committed model of 53 tokens.

mod common;

use common::large::write_large;
use common::program::{Folder, assert_fails, out, run};
use samebits::io::json;
use std::path::Path;

fn model(name: &str) -> String {
    format!("{}/tests/data/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Pairs that a model can learn: the answer to a word is the word after next.
fn pairs(folder: &Folder) -> String {
    let line = |i: usize| {
        format!("{{\"prompt\": \"w{} w{}\", \"completion\": \"w{} w{}\"}}\n", i + 3, i + 4, i + 5, i + 3)
    };
    file(folder, "pairs.jsonl", (0..24).map(line).collect::<String>().as_bytes())
}

fn path(folder: &Folder, name: impl AsRef<Path>) -> String {
    folder.path(name).to_str().unwrap().into()
}

fn file(folder: &Folder, name: &str, bytes: &[u8]) -> String {
    std::fs::write(folder.path(name), bytes).unwrap();
    path(folder, name)
}

fn field(line: &str, name: &str) -> f64 {
    json::parse(line.as_bytes()).unwrap().get(name).unwrap().as_f64().unwrap()
}

fn adapter(folder: &str) -> Vec<u8> {
    std::fs::read(Path::new(folder).join("adapter_model.safetensors")).unwrap()
}

/// The base computes in bf16: said in what comes out; no other class, no other weights.
#[test]
fn a_base_in_bf16_learns_too() {
    let folder = Folder::new("finetune_bf16");
    let (llama, data) = (model("llama"), pairs(&folder));
    let ask = |out: &str, more: &[&str]| {
        let mut all = vec!["finetune", "--model", &llama, "--data", &data, "--held-out", &data, "--json"];
        all.extend(["--lr", "0.02", "--epochs", "10", "--batch", "12", "--out", out]);
        all.extend(more);
        run(all)
    };
    let mut after = Vec::new();
    for (name, class) in [("exact", "f32"), ("rounded", "bf16")] {
        let done = ask(&path(&folder, name), &["--compute", class]);
        assert!(done.status.success(), "{done:?}");
        let last = out(&done).lines().last().unwrap();
        assert!(last.contains(&format!("\"compute\":\"{class}\"")), "{last}");
        after.push(field(last, "held_out_after"));
    }
    assert!(after[0] != after[1] && (after[1] / after[0] - 1.0).abs() < 0.01, "{after:?}");
    let none = path(&folder, "none");
    assert_fails(&ask(&none, &["--compute", "int8"]), 2, "products in int8 have no gradients");
    assert_fails(
        &ask(&none, &["--compute", "bf16", "--method", "full"]),
        2,
        "every weight learns in f32 alone",
    );
}

#[test]
fn an_adapter_learns_answers_and_generate_gives_them() {
    let folder = Folder::new("finetune");
    let (llama, data) = (model("llama"), pairs(&folder));
    let ask = |method: &str, out: &str, more: &[&str]| {
        let mut all = vec!["finetune", "--model", &llama, "--data", &data, "--held-out", &data, "--json"];
        all.extend(["--lr", "0.02", "--epochs", "40", "--batch", "12", "--method", method, "--out", out]);
        all.extend(more);
        run(all)
    };
    for method in ["lora", "dora", "qlora"] {
        let to = path(&folder, method);
        let done = ask(method, &to, &[]);
        assert!(done.status.success(), "{done:?}");
        let lines: Vec<&str> = out(&done).lines().collect();
        assert_eq!(lines.len(), 81, "a line for each step, and the last");
        let (before, after) = (field(lines[80], "held_out_before"), field(lines[80], "held_out_after"));
        assert!(after < before / 4.0, "{method}: {before} to {after}");
        assert_eq!(field(lines[79], "step"), 80.0);
    }
    let said = |more: &[&str]| {
        let ask =
            ["generate", "--model", &llama, "--prompt", "w10 w11", "--temperature", "0", "--max-tokens", "2"];
        let said = run(ask.iter().chain(more));
        assert!(said.status.success(), "{said:?}");
        out(&said).to_string()
    };
    let learned = path(&folder, "lora");
    assert_eq!(said(&["--adapter", &learned]).trim(), "w12 w10");
    assert_eq!(said(&["--adapter", &format!("{learned}=0")]), said(&[]), "weight 0 is the base");
    assert_ne!(said(&[]), said(&["--adapter", &learned]));

    // The same seed: the same bits, on any number of threads, with less kept, and after a stop.
    let want = adapter(&learned);
    for (name, more) in [("one", ["--threads", "1"]), ("three", ["--threads", "3"])] {
        assert!(ask("lora", &path(&folder, name), &more).status.success());
        assert_eq!(adapter(&path(&folder, name)), want, "{name} threads");
    }
    assert!(ask("lora", &path(&folder, "less"), &["--recompute"]).status.success());
    assert_eq!(adapter(&path(&folder, "less")), want, "activations computed again");
    assert!(ask("lora", &path(&folder, "seed"), &["--seed", "5"]).status.success());
    assert_ne!(adapter(&path(&folder, "seed")), want, "another seed");
    let (svg, metrics) = (path(&folder, "loss.svg"), path(&folder, "metrics.jsonl"));
    let more = ["--loss-svg", &svg, "--metrics", &metrics, "--exact-match", "--judge-every", "40"];
    let looked = ask("lora", &path(&folder, "looked"), &more);
    let last = out(&looked).lines().last().unwrap();
    assert_eq!(field(last, "held_out_examples"), 24.0);
    assert!(field(last, "exact_before") <= 2.0 && field(last, "exact_after") > 12.0, "{last}");
    assert_eq!(adapter(&path(&folder, "looked")), want, "who looks changes nothing");
    assert_eq!(std::fs::read_to_string(&metrics).unwrap().lines().count(), 80 + 2);
    assert!(std::fs::read_to_string(&svg).unwrap().ends_with("</svg>\n"));
    let checkpoint = path(&folder, "checkpoint.safetensors");
    let parts = ["--checkpoint", &checkpoint, "--every", "30"];
    assert!(ask("lora", &path(&folder, "first"), &parts).status.success());
    assert_eq!(adapter(&path(&folder, "first")), want);
    let resumed = ask("lora", &path(&folder, "second"), &[&parts[..], &["--resume"]].concat());
    assert!(resumed.status.success(), "{resumed:?}");
    assert_eq!(adapter(&path(&folder, "second")), want, "resumed at the end");
}

#[test]
fn every_other_method_learns_too() {
    let folder = Folder::new("finetune-methods");
    let (llama, data) = (model("llama"), pairs(&folder));
    let said = |more: &[&str]| {
        let ask =
            ["generate", "--model", &llama, "--prompt", "w10 w11", "--temperature", "0", "--max-tokens", "8"];
        out(&run([&ask[..], more].concat())).to_string()
    };
    for (name, file, flags) in [
        ("houlsby", "adapter.safetensors", vec!["adapter", "--bottleneck", "houlsby", "--reduction", "2"]),
        ("pfeiffer", "adapter.safetensors", vec!["adapter", "--reduction", "2"]),
        ("parallel", "adapter.safetensors", vec!["adapter", "--bottleneck", "parallel"]),
        ("ia3", "adapter_model.safetensors", vec!["ia3"]),
        ("prefix", "adapter_model.safetensors", vec!["prefix", "--length", "6"]),
    ] {
        let to = path(&folder, name);
        let ask =
            ["finetune", "--model", &llama, "--data", &data, "--held-out", &data, "--json", "--out", &to];
        let more = ["--lr", "0.02", "--epochs", "40", "--batch", "12", "--method"];
        let done = run([&ask[..], &more, &flags].concat());
        assert!(done.status.success(), "{done:?}");
        let last = out(&done).lines().last().unwrap();
        let (before, after) = (field(last, "held_out_before"), field(last, "held_out_after"));
        assert!(after < 0.9 * before, "{name}: {before} to {after}");
        assert!(Path::new(&to).join(file).exists(), "{name}");
        assert_ne!(said(&["--adapter", &to]), said(&[]), "{name}");
        assert_eq!(said(&["--adapter", &format!("{to}=0")]), said(&[]), "{name}: weight 0 is the base");
    }
}

#[test]
fn a_whole_model_learns_and_is_a_model() {
    let folder = Folder::new("finetune-full");
    let (llama, data) = (model("llama"), pairs(&folder));
    let to = path(&folder, "learned");
    let ask = ["finetune", "--model", &llama, "--data", &data, "--held-out", &data, "--method", "full"];
    let more = ["--lr", "0.005", "--epochs", "20", "--batch", "12", "--json", "--out", &to];
    let done = run([&ask[..], &more].concat());
    assert!(done.status.success(), "{done:?}");
    let last = out(&done).lines().last().unwrap();
    let (before, after) = (field(last, "held_out_before"), field(last, "held_out_after"));
    assert!(after < before / 2.0, "{before} to {after}");
    // The folder has these very weights: the loss of the pairs is what it was.
    let again = path(&folder, "again");
    let ask = ["finetune", "--model", &to, "--data", &data, "--held-out", &data, "--method", "full"];
    let done = run([&ask[..], &more[..6], &["--json", "--out", &again]].concat());
    assert!(done.status.success(), "{done:?}");
    assert_eq!(field(out(&done).lines().last().unwrap(), "held_out_before"), after);
    let gpt2 = model("gpt2");
    let ask = ["finetune", "--model", &gpt2, "--data", &data, "--method", "full", "--out", &again];
    assert_fails(&run(ask), 1, "exists already");
    let other = path(&folder, "other");
    let ask = ["finetune", "--model", &gpt2, "--data", &data, "--method", "full", "--out", &other];
    assert!(!run(ask).status.success());
}

#[test]
fn text_and_conversations_are_examples_too() {
    let folder = Folder::new("finetune-data");
    let llama = model("llama");
    let text: String = (0..400).map(|i| format!("w{} ", 3 + i % 7)).collect();
    let text = file(&folder, "text.txt", text.as_bytes());
    let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"w5\"}, {\"role\": \"assistant\", \"content\": \"w6\"}]}\n";
    let chat = file(&folder, "chat.jsonl", chat.as_bytes());
    for (i, (data, more)) in [(&text, vec![]), (&chat, vec!["--chat", "mistral"])].into_iter().enumerate() {
        let to = path(&folder, format!("out{i}"));
        let mut ask = vec!["finetune", "--model", &llama, "--data", data, "--out", &to, "--seq-len", "32"];
        ask.extend(more);
        let done = run(ask);
        assert!(done.status.success(), "{done:?}");
        assert!(out(&done).contains("parameters trained"), "{}", out(&done));
    }
}

#[test]
fn ranks_alphas_rates_and_places_are_the_users() {
    let folder = Folder::new("finetune-places");
    let data = pairs(&folder);
    let ask = |model: &str, out: &str, more: &[&str]| {
        let mut all = vec!["finetune", "--model", model, "--data", &data, "--epochs", "20"];
        all.extend(["--out", out, "--json"]);
        all.extend(more);
        let done = run(all);
        assert!(done.status.success(), "{done:?}");
        let losses: Vec<f64> = out_lines(&done)
            .iter()
            .filter(|line| line.contains("\"step\""))
            .map(|l| field(l, "loss"))
            .collect();
        losses
    };
    let llama = model("llama");
    let to = path(&folder, "patterns");
    let plain = ask(
        &llama,
        &to,
        &[
            "--rank-pattern",
            "q_proj=3",
            "--rank-pattern",
            "1.mlp.up_proj=2",
            "--alpha-pattern",
            "v_proj=4.5",
            "--lr",
            "0.01",
        ],
    );
    let inspected = run(["adapters", "inspect", &to, "--json"]);
    let text = out(&inspected);
    let root = json::parse(text.trim().as_bytes()).unwrap();
    let module = |end: &str| {
        let mut all = root.get("modules").unwrap().elements().unwrap();
        all.find(|m| m.get("module").unwrap().as_str().unwrap().ends_with(end)).unwrap()
    };
    let of = |end: &str, name: &str| module(end).get(name).unwrap().as_f64().unwrap();
    assert_eq!((of("0.self_attn.q_proj", "rank"), of("1.mlp.up_proj", "rank")), (3.0, 2.0));
    assert_eq!((of("0.mlp.up_proj", "rank"), of("0.self_attn.v_proj", "scaling")), (8.0, 4.5 / 8.0));
    // B learns faster: the first loss is the same, later ones are lower.
    let plus = ask(&llama, &path(&folder, "plus"), &["--lr", "0.0005", "--lora-plus", "16"]);
    let slow = ask(&llama, &path(&folder, "slow"), &["--lr", "0.0005"]);
    assert!(plus[0] == slow[0] && plus[20] < slow[20], "{} {}", plus[20], slow[20]);
    assert!(plain[59] < plain[0]);
    // On tables and heads.
    let tables = ask(
        &llama,
        &path(&folder, "tables"),
        &["--targets", "embed_tokens", "--targets", "lm_head", "--lr", "0.02"],
    );
    assert!(tables[59] < 0.7 * tables[0], "{} to {}", tables[0], tables[59]);
    for bad in [["--rank-pattern", "q_proj"], ["--rank-pattern", "q_proj=0"], ["--alpha-pattern", "q_proj=x"]]
    {
        let mut all = vec!["finetune", "--model", &llama, "--data", &data, "--out"];
        let never = path(&folder, "never");
        all.push(&never);
        all.extend(bad);
        assert_fails(&run(all), 2, "is not NAME=X");
    }
}

fn out_lines(output: &std::process::Output) -> Vec<&str> {
    out(output).lines().collect()
}

#[test]
fn what_cannot_be_learned_from_is_one_line() {
    let folder = Folder::new("finetune-errors");
    let (llama, data) = (model("llama"), pairs(&folder));
    let to = path(&folder, "adapter");
    let ask = |model: &str, data: &str, more: &[&str]| {
        let mut all = vec!["finetune", "--model", model, "--data", data, "--out", &to];
        all.extend(more);
        run(all)
    };
    assert_fails(&run(["finetune", "--model", &llama, "--data", &data]), 2, "--out is needed");
    assert_fails(
        &ask(&llama, &data, &["--method", "prompt"]),
        2,
        "lora, dora, qlora, adapter, ia3, prefix or full",
    );
    assert_fails(&ask(&llama, &data, &["--method", "ia3", "--rank", "4"]), 2, "lora, dora, qlora");
    assert_fails(&ask(&llama, &data, &["--length", "4"]), 2, "--method prefix");
    assert_fails(&ask(&llama, &data, &["--method", "adapter", "--bottleneck", "big"]), 2, "pfeiffer");
    assert_fails(&ask(&llama, &data, &["--resume"]), 2, "--checkpoint");
    assert_fails(&ask(&llama, &data, &["--targets", "no_such"]), 1, "name no module");
    assert_fails(&ask(&model("bert"), &data, &[]), 1, "bert");
    let bad = file(&folder, "bad.jsonl", b"{\"text\": \"w5 w6\"}\n{\"prompt\": \"w5\"}\n");
    assert_fails(&ask(&llama, &bad, &[]), 1, "line 2");
    let empty = file(&folder, "empty.jsonl", b"\n");
    assert_fails(&ask(&llama, &empty, &[]), 1, "no examples");
    let chat = file(&folder, "chat.jsonl", b"{\"messages\": []}\n");
    assert_fails(&ask(&llama, &chat, &[]), 1, "--chat TEMPLATE");
    assert!(!Path::new(&to).exists(), "nothing was written");
    let other = file(&folder, "other.safetensors", b"12345678");
    assert_fails(&ask(&llama, &data, &["--resume", "--checkpoint", &other]), 1, "other.safetensors");
    assert_fails(&run(["generate", "--model", &llama, "--adapter", &data]), 1, "pairs.jsonl");
}

/// What is counted is what there is: its sum is the peak of the process but for 32 MiB, which are the program itself, the
/// threads' scratch, and one matrix as floats while it is quantised.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn memory_is_accounted_for() {
    const MIB: f64 = (1 << 20) as f64;
    let folder = Folder::new("finetune-memory");
    write_large(&folder); // 31.5 million numbers
    let text: String = (0..128).map(|i| format!("w{} ", 3 + i % 7)).collect();
    let (text, large) = (file(&folder, "text.txt", text.as_bytes()), path(&folder, ""));
    for (method, weights) in [("lora", 119.0..122.0), ("qlora", 15.0..20.0)] {
        let to = path(&folder, method);
        let ask =
            ["finetune", "--model", &large, "--data", &text, "--out", &to, "--method", method, "--json"];
        let more = ["--seq-len", "64", "--batch", "2", "--threads", "1", "--report-memory"];
        let done = run(ask.iter().chain(&more));
        assert!(done.status.success(), "{done:?}");
        let line = out(&done).lines().find(|line| line.contains("\"memory\"")).expect("a report");
        let report = json::parse(line.as_bytes()).unwrap();
        let parts = report.get("memory").unwrap();
        let part = |name: &str| parts.get(name).unwrap().as_f64().unwrap() / MIB;
        let names = ["weights", "adapters", "gradients", "moments", "activations", "room"];
        let sum: f64 = names.iter().map(|name| part(name)).sum();
        let peak = field(line, "peak") / MIB;
        assert!(sum < peak && peak < sum + 32.0, "{method}: {sum:.1} MiB of {peak:.1}: {line}");
        assert!(weights.contains(&part("weights")), "{method}: {line}");
        assert!(part("adapters") > 0.5 && part("gradients") == part("adapters"), "{method}: {line}");
        assert!(part("moments") == 2.0 * part("gradients") && part("activations") > 5.0, "{method}: {line}");
    }
    let table = run([
        "finetune",
        "--model",
        &model("llama"),
        "--data",
        &text,
        "--report-memory",
        "--out",
        &path(&folder, "t"),
    ]);
    assert!(table.status.success() && out(&table).contains("peak of the process"), "{table:?}");
}
