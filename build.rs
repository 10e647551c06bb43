//! What `samebits info` and `--version` say about the build: the commit, the compiler, the target.
//! Nothing about the processor that builds: the one that runs is asked when it runs.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rustc = output(Command::new(compiler).arg("--version")).unwrap_or_else(|| "rustc (unknown)".into());
    println!("cargo:rustc-env=SAMEBITS_RUSTC={rustc}");
    println!("cargo:rustc-env=SAMEBITS_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    if let Some(hash) = commit() {
        println!("cargo:rustc-env=SAMEBITS_GIT={hash}");
    }
}

/// The commit of this very checkout: none in a packaged build, not even inside another repository.
fn commit() -> Option<String> {
    let root = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if !Path::new(&root).join(".git").exists() {
        return None;
    }
    let git = |args: &[&str]| output(Command::new("git").arg("-C").arg(&root).args(args));
    // A commit on the same branch changes the log of HEAD, not HEAD itself.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            let path = Path::new(&root).join(path);
            if path.exists() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The first line that a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
}
