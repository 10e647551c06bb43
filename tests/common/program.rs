//! Running the built program, in a folder of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program, ready to be given arguments. Nothing of this process's `SAMEBITS_…` reaches it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samebits"));
    command.env_remove("SAMEBITS_TIER").env_remove("SAMEBITS_THREADS");
    command
}

/// Runs the program to its end.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    program().args(args).output().expect("the program starts")
}

/// Standard output as text.
pub fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("standard output is text")
}

/// Fails unless the run ended with `code`, its complaint is one line and at most one hint, names no source
/// file, and standard output is empty.
#[track_caller]
pub fn assert_fails(output: &Output, code: i32, message: &str) {
    let err = std::str::from_utf8(&output.stderr).expect("standard error is text");
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(output.stdout.is_empty(), "standard output of a failure: {}", out(output));
    assert_complaint(err);
    assert!(err.contains(message), "{err:?} does not say {message:?}");
}

/// Fails unless `err` is one line `samebits: …` and at most one `hint: …`.
#[track_caller]
pub fn assert_complaint(err: &str) {
    let lines: Vec<&str> = err.lines().collect();
    let hint = lines.len() == 2 && lines[1].starts_with("hint: ");
    assert!(lines.len() == 1 || hint, "{} lines: {err}", lines.len());
    assert!(lines[0].starts_with("samebits: "), "{err}");
    for word in ["panicked", "RUST_BACKTRACE", "unwrap", ".rs:"] {
        assert!(!err.contains(word), "{word} in {err}");
    }
}

/// An empty folder, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    /// For the test of that name.
    pub fn new(test: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the test's folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
