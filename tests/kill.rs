//! `finetune` killed again and again at no chosen moment: the last checkpoint always opens, and what comes out in the end
//! has the bits of a run that nobody stopped.

mod common;

use common::program::{Folder, program, run};
use samebits::io::safetensors::SafeTensors;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const STEPS: u64 = 60;

fn ask(folder: &Folder, out: &str, more: &[&str]) -> Command {
    let model = format!("{}/tests/data/models/llama", env!("CARGO_MANIFEST_DIR"));
    let data = folder.path("pairs.jsonl");
    let mut command = program();
    command.args([
        "finetune",
        "--model",
        &model,
        "--lr",
        "0.02",
        "--batch",
        "12",
        "--dropout",
        "0.1",
        "--json",
    ]);
    command
        .args(["--epochs", "30", "--threads", "1"])
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(folder.path(out));
    command.args(more);
    command
}

fn adapter(folder: &Folder, out: &str) -> Vec<u8> {
    std::fs::read(folder.path(out).join("adapter_model.safetensors")).unwrap()
}

/// The count of steps of a checkpoint, which must be whole.
fn steps(checkpoint: &Path) -> u64 {
    let file = SafeTensors::open(checkpoint).expect("a whole checkpoint");
    let steps = file.metadata().find(|(key, _)| key == "steps").expect("a count of steps").1.into_owned();
    steps.parse().unwrap()
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let folder = Folder::new("kill");
    let line = |i: usize| {
        format!("{{\"prompt\": \"w{} w{}\", \"completion\": \"w{} w{}\"}}\n", i + 3, i + 4, i + 5, i + 3)
    };
    std::fs::write(folder.path("pairs.jsonl"), (0..24).map(line).collect::<String>()).unwrap();
    assert!(ask(&folder, "through", &[]).output().unwrap().status.success());
    let want = adapter(&folder, "through");

    let path = folder.path("checkpoint.safetensors");
    let checkpoint = path.to_str().unwrap();
    let (mut seen, mut kills) = (0, 0);
    // Steps to wait for and microseconds more: before the first checkpoint, in the middle of writing one, at once.
    for (more_steps, more) in
        [(0, 3_000), (1, 0), (3, 700), (2, 1_900), (5, 50), (1, 3_300), (7, 400), (4, 1_100)]
    {
        let mut flags = vec!["--checkpoint", checkpoint, "--every", "1"];
        if path.exists() {
            flags.push("--resume");
        }
        let mut child =
            ask(&folder, "stopped", &flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Whoever reads it while it is written anew finds a whole one, too.
        let far = |seen: u64| path.exists() && steps(&path) >= seen + more_steps;
        while more_steps > 0 && !far(seen) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(more));
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        if path.exists() {
            let now = steps(&path);
            assert!(now >= seen && now <= STEPS, "{now} steps after {seen}");
            seen = now;
        }
        assert!(!folder.path("stopped").exists() || seen == STEPS, "no adapter before the end");
    }
    assert!(kills >= 6 && seen > 0, "{kills} kills, {seen} steps");
    if !folder.path("stopped").exists() {
        let flags = ["--checkpoint", checkpoint, "--every", "1", "--resume"];
        let done = ask(&folder, "stopped", &flags).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    assert_eq!(steps(&path), STEPS);
    assert_eq!(adapter(&folder, "stopped"), want);
    // What the kills left behind are temporary files, which have no name that anything reads.
    let left = folder.names();
    let known = ["checkpoint.safetensors", "pairs.jsonl", "stopped", "through"];
    assert!(left.iter().all(|name| known.contains(&&**name) || name.starts_with(".samebits-")), "{left:?}");
    assert!(run(["adapters", "inspect", folder.path("stopped").to_str().unwrap()]).status.success());
}
