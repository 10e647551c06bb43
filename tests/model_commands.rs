//! `generate`, `embed` and `perplexity` as their users meet them, on committed models of 53 tokens; with
//! `SAMEBITS_DATA` also on stories260K.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use common::large::write_large;
use common::program::{Folder, assert_fails, out, program, run};
use samebits::io::json;
use samebits::io::safetensors::SafeTensors;

fn model(name: &str) -> String {
    format!("{}/tests/data/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The program with something on standard input.
fn piped(args: &[&str], input: &[u8]) -> Output {
    let mut child = program();
    child.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the program starts");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn number(output: &Output, key: &str) -> f64 {
    json::parse(out(output).trim().as_bytes()).expect("one object").get(key).unwrap().as_f64().unwrap()
}

/// The object of `generate --json` without the time, which is another each time.
fn said(output: &Output) -> String {
    assert!(number(output, "load_seconds") > 0.0);
    out(output).split(",\"load_seconds\"").next().unwrap().into()
}

#[test]
fn generate_says_what_it_drew_and_why_it_ended() {
    let llama = model("llama");
    let ask = ["generate", "--model", &llama, "--prompt", "w1 w2 w3", "--max-tokens", "9", "--json"];
    let greedy = run(ask.iter().chain(&["--temperature", "0"]));
    assert!(greedy.status.success(), "{greedy:?}");
    let object = json::parse(out(&greedy).trim().as_bytes()).unwrap();
    assert_eq!(object.get("tokens").unwrap().elements().unwrap().count(), 9);
    assert_eq!(object.get("finish").unwrap().as_str().unwrap(), "length");
    assert_eq!(number(&greedy, "prompt_tokens"), 4.0, "w1 w2 w3 and the template's <s>");

    // The same seed, another number of threads, another instruction set: the same text.
    let drawn = |more: &[&str]| said(&run(ask.iter().chain(&["--seed", "7"]).chain(more)));
    assert_eq!(drawn(&["--threads", "3"]), drawn(&["--threads", "1"]));
    let scalar = program().args(ask).args(["--seed", "7"]).env("SAMEBITS_TIER", "scalar").output().unwrap();
    assert_eq!(drawn(&[]), said(&scalar));
    assert_ne!(drawn(&["--temperature", "5", "--top-k", "0"]), drawn(&[]));

    // A stop string ends the text and is no part of it.
    let text = object.get("text").unwrap().as_str().unwrap().into_owned();
    let stop = text.split_whitespace().nth(2).unwrap();
    let stopped = run(ask.iter().chain(&["--temperature", "0", "--stop", stop]));
    let object = json::parse(out(&stopped).trim().as_bytes()).unwrap();
    assert_eq!(object.get("finish").unwrap().as_str().unwrap(), "stop");
    assert_eq!(object.get("text").unwrap().as_str().unwrap(), text.split(stop).next().unwrap());

    // From standard input, and as a plain stream.
    let plain = piped(
        &["generate", "--model", &llama, "--prompt", "-", "--max-tokens", "9", "--temperature", "0"],
        b"w1 w2 w3",
    );
    assert_eq!(out(&plain), format!("{text}\n"));
}

#[test]
fn mapped_files_give_the_same_text() {
    let llama = model("llama");
    let ask = ["generate", "--model", &llama, "--prompt", "w1 w2 w3", "--max-tokens", "9", "--json"];
    let text = said(&run(ask));
    for how in ["--mmap", "--no-mmap"] {
        assert_eq!(said(&run(ask.iter().chain(&[how]))), text, "{how}");
    }
    assert_fails(&run(ask.iter().chain(&["--mmap", "--no-mmap"])), 2, "exclude each other");
}

/// A file that is shortened while the program has it mapped: one line and exit code 1, no signal.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn a_file_shortened_while_it_is_mapped_is_an_error() {
    let folder = Folder::new("shortened");
    // The program may be done with the file before it is shortened: then once more.
    let shortened = (0..20).map(|_| {
        let weights = write_large(&folder);
        let mut child = program();
        child.args(["generate", "--prompt", "w1", "--max-tokens", "1", "--mmap", "--model"]).arg(&folder.0);
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let maps = || std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap_or_default();
        while Some(maps()).is_some_and(|maps| !maps.is_empty() && !maps.contains("model.safetensors")) {}
        std::fs::File::options().write(true).open(&weights).unwrap().set_len(5000).unwrap();
        child.wait_with_output().unwrap()
    });
    let failed = shortened.into_iter().find(|output| !output.status.success()).expect("one was in time");
    assert_fails(&failed, 1, "when it was mapped and was shortened to 5000");
}

/// The most memory that the program ever had: its weights, its cache and at most 32 MiB.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn weights_lie_in_memory_once() {
    use std::io::{BufRead, BufReader};
    let folder = Folder::new("memory");
    let weights = write_large(&folder).metadata().unwrap().len() >> 10;
    let cache = 2 * 2 * (512 * 256 * 4) >> 10;
    let mut child = program();
    child.args(["generate", "--chat", "chatml", "--max-tokens", "3", "--temperature", "0", "--model"]);
    child.arg(&folder.0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().expect("the program starts");
    // After an answer it waits for the next question.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"w1 w2 w3\n").unwrap();
    let mut answer = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut answer).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(peak > weights, "{peak} KiB for weights of {weights}");
    assert!(
        peak < weights + cache + (32 << 10),
        "{peak} KiB for weights of {weights} and a cache of {cache}"
    );
}

#[test]
fn a_context_ends_a_text_and_refuses_a_longer_prompt() {
    let llama = model("llama");
    let ask = |context: &str| {
        run([
            "generate",
            "--model",
            &llama,
            "--prompt",
            "w1 w2 w3 w4",
            "--context",
            context,
            "--json",
            "--temperature",
            "0",
        ])
    };
    let object = ask("8");
    let object = json::parse(out(&object).trim().as_bytes()).unwrap();
    assert_eq!(object.get("tokens").unwrap().elements().unwrap().count(), 3);
    assert_fails(&ask("4"), 1, "5 tokens, the context has room for 4");
}

#[test]
fn embed_keeps_order_and_bits_for_any_batch_and_format() {
    let folder = Folder::new("embed");
    let bert = model("bert");
    let lines = "abc def\n\nhello world\nx\nabc def\n";
    let file = folder.path("texts.txt");
    std::fs::write(&file, lines).unwrap();
    let f32s = |batch: &str| {
        run(["embed", "--model", &bert, "--format", "f32", "--batch", batch, file.to_str().unwrap()]).stdout
    };
    let want = f32s("1");
    assert_eq!(want.len(), 5 * 20 * 4);
    assert_eq!(want[..80], want[4 * 80..], "the same text, the same vector");
    for batch in ["2", "3", "32"] {
        assert_eq!(f32s(batch), want, "batch of {batch}");
    }
    // jsonl from standard input: what is printed reads back to the same bits.
    let jsonl = piped(&["embed", "--model", &bert], lines.as_bytes());
    for (i, line) in out(&jsonl).lines().enumerate() {
        let object = json::parse(line.as_bytes()).unwrap();
        assert_eq!(object.get("id").unwrap().as_u64(), Some(i as u64));
        let floats = object.get("embedding").unwrap().elements().unwrap();
        let bytes: Vec<u8> = floats.flat_map(|x| (x.as_f64().unwrap() as f32).to_le_bytes()).collect();
        assert_eq!(bytes, want[i * 80..][..80], "line {i}");
    }
    // npy: a head that NumPy reads, then the floats.
    let npy = folder.path("vectors.npy");
    let made = run([
        "embed",
        "--model",
        &bert,
        "--format",
        "npy",
        "--output",
        npy.to_str().unwrap(),
        file.to_str().unwrap(),
    ]);
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    let bytes = std::fs::read(&npy).unwrap();
    let head = "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 20), }";
    assert!(bytes[10..128].starts_with(head.as_bytes()) && bytes[128..] == want[..], "{:?}", &bytes[..128]);
    // Objects bring their own ids.
    let objects = b"{\"id\": \"a\", \"text\": \"abc def\"}\n{\"text\": \"x\"}\n";
    let jsonl = piped(&["embed", "--model", &bert, "--jsonl", "-"], objects);
    let ids: Vec<_> = out(&jsonl).lines().map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(ids, ["{\"id\":\"a\"", "{\"id\":1"]);
    // Vectors of length 1, if asked for.
    let inside =
        piped(&["embed", "--format", "f32", "--dim", "7"], b"by the table inside\nby it too\n").stdout;
    assert_eq!(inside.len(), 2 * 7 * 4);
    let one = piped(&["embed", "--model", &bert, "--format", "f32", "--normalize"], b"abc\n").stdout;
    let sum: f32 = one.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x).powi(2)).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn perplexity_is_the_exponential_of_the_mean_loss() {
    let folder = Folder::new("perplexity");
    let (llama, text) = (model("llama"), folder.path("text.txt"));
    let file = SafeTensors::open(PathBuf::from(&llama).join("expected.safetensors")).unwrap();
    let words: Vec<String> =
        file.load("ids").unwrap().to_vec::<i32>().iter().map(|id| format!("w{}", id % 50)).collect();
    std::fs::write(&text, words.join(" ")).unwrap();
    let ask = |context: &str| {
        run([
            "perplexity",
            "--model",
            &llama,
            "--text",
            text.to_str().unwrap(),
            "--context",
            context,
            "--json",
        ])
    };
    let (whole, cut) = (ask("64"), ask("11"));
    assert_eq!((number(&whole, "tokens"), number(&whole, "windows")), (37.0, 1.0));
    assert_eq!((number(&cut, "tokens"), number(&cut, "windows")), (37.0, 4.0));
    let near = (number(&whole, "loss").exp() / number(&whole, "perplexity") - 1.0).abs();
    assert!(near < 1e-12, "{near}");
    assert!(number(&whole, "perplexity") > 1.0);
}

#[test]
fn the_type_of_the_cache_is_recorded_and_rounds_what_it_holds() {
    let (llama, folder) = (model("llama"), Folder::new("cache_types"));
    let text = folder.path("text.txt");
    std::fs::write(&text, "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12").unwrap();
    let mut losses = Vec::new();
    for kind in ["f32", "bf16", "int8"] {
        let says = |output: &Output| {
            let object = json::parse(out(output).trim().as_bytes()).expect("one object");
            assert_eq!(object.get("cache").unwrap().as_str().unwrap(), kind);
        };
        let story = ["generate", "--model", &llama, "--prompt", "w1 w2", "--json", "--cache", kind];
        let write = |more: &[&str]| {
            let output = run(story.iter().chain(&["--max-tokens", "20", "--seed", "3"]).chain(more));
            says(&output);
            said(&output)
        };
        assert_eq!(write(&["--threads", "3"]), write(&["--threads", "1"]), "{kind}");
        assert_eq!(write(&["--temperature", "0", "--lookup", "4"]), write(&["--temperature", "0"]), "{kind}");
        let ask = ["perplexity", "--model", &llama, "--text", text.to_str().unwrap(), "--json"];
        let output = run(ask.iter().chain(&["--cache", kind]));
        says(&output);
        losses.push(number(&output, "loss"));
        if kind == "f32" {
            assert_eq!(number(&run(ask), "loss"), losses[0], "f32 unless given");
        }
    }
    let [f32, bf16, int8] = losses[..] else { panic!("three of them") };
    assert!(f32 != bf16 && bf16 != int8 && f32 != int8);
    assert!((f32 - bf16).abs() < 0.01 && (f32 - int8).abs() < 0.02, "{f32} {bf16} {int8}");
}

#[test]
fn mistakes_are_named() {
    let (llama, bert, folder) = (model("llama"), model("bert"), Folder::new("model_mistakes"));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["embed", "--dim", "129", "/dev/null"], 1, "129 components of a model that has 128"),
        (&["generate", "--model", &bert], 1, "this model embeds texts, it does not continue them"),
        (&["embed", "--model", &llama, "/dev/null"], 1, "this model continues texts"),
        (&["embed", "--model", &bert, "--format", "npy", "-"], 2, "needs --output FILE"),
        (&["embed", "--model", &bert, "--format", "csv", "-"], 2, "none of jsonl, f32, npy"),
        (&["embed", "--model", &bert, "/nowhere/texts"], 1, "/nowhere/texts"),
        (&["generate", "--model", "/nowhere/model"], 1, "/nowhere/model"),
        (&["generate", "--model", &llama, "--chat", "vicuna"], 2, "none of chatml, llama2"),
        (&["generate", "--model", &llama, "--temperature", "-1"], 2, "--temperature"),
        (&["generate", "--model", &llama, "--top-p", "2"], 2, "top-p"),
        (&["generate", "--model", &llama, "--logit-bias", "3:1"], 2, "is not ID=X"),
        (&["generate", "--model", &llama, "--seed", "x"], 2, "--seed"),
        (&["perplexity", "--model", &llama, "--text", "/dev/null"], 1, "fewer than two tokens"),
        (&["perplexity", "--model", &llama], 2, "--text is needed"),
        (&["perplexity", "--model", &bert, "--text", "/dev/null"], 1, "does not continue them"),
        (&["generate", "--model", &llama, "--cache", "q8_0"], 2, "\"q8_0\" is none of f32, bf16, int8"),
        (
            &["perplexity", "--model", &llama, "--text", "x", "--cache", "F32"],
            2,
            "is none of f32, bf16, int8",
        ),
        (&["bench", "--model", &llama, "--cache", ""], 2, "is none of f32, bf16, int8"),
        (&["bench", "dot", "--cache", "int8"], 2, "--cache goes with --model"),
    ];
    for (args, code, message) in cases {
        assert_fails(&run(*args), *code, message);
    }
    assert_fails(&piped(&["embed", "--model", &bert, "--format", "f32"], b"\xff\n"), 1, "line 1: no UTF-8");
    assert_fails(&piped(&["embed", "--model", &bert, "--jsonl"], b"{}\n"), 1, "line 1: no string \"text\"");
    // What fails half-way leaves no file.
    let npy = folder.path("vectors.npy");
    let half = piped(
        &["embed", "--model", &bert, "--format", "npy", "--batch", "1", "--output", npy.to_str().unwrap()],
        b"abc\n\xff\n",
    );
    assert_fails(&half, 1, "line 2");
    assert!(std::fs::read_dir(&folder.0).unwrap().next().is_none(), "an empty folder");
}

#[test]
fn the_story_of_stories260k_streams_byte_for_byte() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA").map(PathBuf::from) else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let folder = data.join("models/stories260K");
    let want = std::fs::read_to_string(folder.join("expected_greedy_200steps.txt")).unwrap();
    let gguf = folder.join("stories260K-f32.gguf");
    let story =
        run(["generate", "--model", gguf.to_str().unwrap(), "--temperature", "0", "--max-tokens", "200"]);
    assert_eq!(out(&story), format!("{want}\n"));
    let rest = run([
        "generate",
        "--model",
        gguf.to_str().unwrap(),
        "--prompt",
        "Once upon a time",
        "--temperature",
        "0",
        "--max-tokens",
        "20",
    ]);
    assert!(want.contains(out(&rest).trim_end()), "{}", out(&rest));
    assert!(out(&rest).starts_with(','), "what follows the prompt begins with no invented space");
}

/// 32 MiB of texts through two pipes: what is resident does not grow. `tests/reference/check_stream.py` does the same
/// with a gigabyte.
#[test]
#[cfg(target_os = "linux")]
fn a_stream_of_texts_takes_no_memory() {
    use std::io::Read;
    let mut child = program();
    child.args(["embed", "--model", &model("bert"), "--format", "f32", "-"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let vectors = std::thread::spawn(move || {
        let mut all = Vec::new();
        output.read_to_end(&mut all).map(|_| all.len())
    });
    let line = "the same bits on every machine ".repeat(2000) + "\n";
    let lines = (32 << 20) / line.len();
    let mut resident = Vec::new();
    for _ in 0..lines {
        input.write_all(line.as_bytes()).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let now = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        resident.push(now.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(vectors.join().unwrap().unwrap(), lines * 20 * 4);
    let (first, second) = resident.split_at(lines / 2);
    let (first, second) = (first.iter().max().unwrap(), second.iter().max().unwrap());
    assert!(second < &(first + (4 << 10)), "{first} KiB in the first half, {second} in the second");
}
