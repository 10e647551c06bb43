//! The command line as its users meet it: exit codes, messages, odd arguments, closed pipes, full disks.

mod common;

use std::ffi::OsString;
use std::fs::File;
use std::process::Stdio;

use common::Random;
use common::program::{Folder, assert_complaint, assert_fails, out, program, run};
use samebits::cli;
use samebits::io::json;

#[test]
fn every_command_explains_itself_with_an_example() {
    let list = run(["--help"]);
    for command in cli::COMMANDS {
        assert!(out(&list).contains(&format!("\n  {} ", command.name)), "{} is not listed", command.name);
        let help = run([command.name, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        for word in ["Usage: samebits ", "Flags:", "Example", "\n  "] {
            assert!(out(&help).contains(word), "{} --help without {word:?}", command.name);
        }
        for flag in command.flags {
            assert!(out(&help).contains(&format!("--{} ", flag.name)), "{} --{}", command.name, flag.name);
        }
        assert_eq!(out(&help), out(&run(["help", command.name])), "help {}", command.name);
        assert!(
            out(&help).lines().all(|line| line.chars().count() <= 110),
            "{} --help is wide",
            command.name
        );
    }
}

#[test]
fn version_names_the_compiler() {
    let version = run(["--version"]);
    let first = format!("samebits {}", env!("CARGO_PKG_VERSION"));
    assert!(out(&version).starts_with(&first) && out(&version).contains("rustc "), "{}", out(&version));
}

#[test]
fn calls_that_are_wrong_are_usage_errors() {
    let cases: &[(&[&str], &str)] = &[
        (&["infoo"], "did you mean `samebits info`?"),
        (&["quantise"], "did you mean `samebits quantize`?"),
        (&["xyzzy"], "`samebits help` lists the commands"),
        (&[""], "there is no command"),
        (&["help", "inspct"], "did you mean `samebits inspect`?"),
        (&["info", "--jsno"], "did you mean --json?"),
        (&["info", "-x"], "there is no flag \"-x\""),
        (&["info", "--json=1"], "--json takes no value"),
        (&["info", "--json", "--json"], "--json is given twice"),
        (&["info", "--tier"], "--tier needs a value: T"),
        (&["info", "--tier", "avx9"], "this machine runs "),
        (&["info", "--tier=scalar,-sse9"], "a tier may be followed by -vnni"),
        (&["info", "extra"], "unexpected argument \"extra\""),
        (&["inspect"], "inspect: expected FILE|DIR"),
        (&["inspect", "--", "--help", "b"], "unexpected argument \"b\""),
        (&["quantize", "a", "b"], "add --nf4"),
        (&["quantize", "a", "--nf4"], "expected IN OUT"),
    ];
    for (args, message) in cases {
        assert_fails(&run(*args), 2, message);
    }
}

#[test]
fn absurd_numbers_are_refused() {
    let absurd =
        ["-1", "0", "2147483648", "18446744073709551616", "nan", "inf", "1e309", "", "6 4", "0x40", "48"];
    for number in absurd {
        for args in [vec!["--blocksize", number], vec!["--nf4", "--blocksize", number]] {
            let output = run([&["quantize", "a", "b"], &args[..]].concat());
            assert_eq!(output.status.code(), Some(2), "--blocksize {number}");
        }
    }
    for threads in ["0", "-1", "1025", "two", ""] {
        let output = program().arg("info").env("SAMEBITS_THREADS", threads).output().unwrap();
        assert_fails(&output, 2, "SAMEBITS_THREADS");
    }
}

#[test]
fn info_says_who_chose_the_tier() {
    let info = program().args(["info", "--json"]).env("SAMEBITS_TIER", "scalar").output().unwrap();
    let value = json::parse(&info.stdout).expect("JSON");
    let text = |key: &str| value.get(key).and_then(|v| v.as_str()).expect("text").into_owned();
    assert_eq!((text("tier").as_str(), text("chosen_by").as_str()), ("scalar", "SAMEBITS_TIER"));
    assert!(text("rustc").starts_with("rustc "));
    assert_eq!(value.get("extras").and_then(|v| v.elements()).expect("an array").count(), 0);

    let flag = program().args(["info", "--tier", "scalar"]).env("SAMEBITS_TIER", "avx9").output().unwrap();
    assert!(out(&flag).contains("scalar (chosen by --tier)"), "{}", out(&flag));
    let bad = program().arg("info").env("SAMEBITS_TIER", "avx9").output().unwrap();
    assert_fails(&bad, 2, "tier \"avx9\" does not run here");
    let three = program().args(["info", "--json"]).env("SAMEBITS_THREADS", "3").output().unwrap();
    let value = json::parse(&three.stdout).expect("JSON");
    assert_eq!(value.get("threads").and_then(|v| v.as_u64()), Some(3));
}

#[test]
fn a_file_that_is_wrong_is_named_with_its_fault() {
    let folder = Folder::new("wrong-files");
    std::fs::write(folder.path("empty.safetensors"), "").unwrap();
    std::fs::write(folder.path("two\nlines"), "not a model").unwrap();
    std::fs::create_dir(folder.path("nothing")).unwrap();
    for (name, message) in [
        ("empty.safetensors", "empty.safetensors: "),
        ("missing.safetensors", "cannot open"),
        ("two\nlines", "two\\nlines: "),
        ("nothing", "no safetensors file in this folder"),
    ] {
        assert_fails(&run([std::ffi::OsStr::new("inspect"), folder.path(name).as_os_str()]), 1, message);
    }
    if cfg!(unix) {
        assert_fails(&run(["inspect", "/dev/zero"]), 1, "/dev/zero: ");
    }
}

#[test]
fn inspect_reads_gguf() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/gguf/package.gguf");
    let table = run(["inspect", file]);
    let text = out(&table);
    for part in
        ["f16     F16", "(2, 3, 32)", "metadata  a.strings = [4 string]", "metadata  a.string = héllo\\n"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let json = run(["inspect", "--json", file]);
    let value = json::parse(&json.stdout).expect("JSON");
    let tensors = value.get("tensors").and_then(|v| v.elements()).expect("tensors");
    assert_eq!(tensors.count(), 6);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure_and_a_closed_pipe_is_not() {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
    for args in [&["info"][..], &["help"], &["info", "--help"], &["--version"], &["info", "--json"]] {
        let output = program().args(args).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        assert_fails(&output, 1, "No space left on device");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program().args(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && err.is_empty(), "{args:?} into a closed pipe: {err}");
    }
}

#[cfg(unix)]
#[test]
fn closed_streams_and_an_empty_environment_are_survived() {
    for script in ["exec \"$0\" info <&- >&- 2>&-", "exec \"$0\" nonsense 2>&-", "cd /; exec \"$0\" info"] {
        let mut shell = std::process::Command::new("/bin/sh");
        let output = shell.args(["-c", script, env!("CARGO_BIN_EXE_samebits")]).env_clear().output().unwrap();
        assert!(matches!(output.status.code(), Some(0..=2)), "{script}: {:?}", output.status);
    }
}

/// Words that arguments are made of. `bench` and the tour take their time and are called wrongly on purpose.
const WORDS: &[&str] = &[
    "info",
    "inspect",
    "quantize",
    "help",
    "--help",
    "-h",
    "--",
    "-",
    "--json",
    "--tier",
    "--tier=avx2",
    "scalar",
    "avx512,-vnni",
    ",",
    "--nf4",
    "--blocksize",
    "--blocksize=64",
    "64",
    "-1",
    "0",
    "1e309",
    "nan",
    "--verify",
    "--double-quant",
    "--include",
    "--exclude",
    "embed",
    "",
    "\n",
    "💥",
    "a.safetensors",
    "/",
    "/dev/null",
    "--=",
    "=",
    "-x",
    "--version",
    "-V",
    "--blocksize=-1",
    "--json=",
    "18446744073709551616",
];

fn random_arguments(random: &mut Random) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![];
    let first = random.below(8);
    if first < 6 {
        args.push(["info", "inspect", "quantize", "help", "bench", "tour"][first].into());
    }
    if !(0..4).contains(&first) {
        args.push("--no-such-flag".into());
    }
    for _ in 0..random.below(6) {
        args.push(match random.below(12) {
            0 => odd_word(random),
            _ => WORDS[random.below(WORDS.len())].into(),
        });
    }
    args
}

/// Bytes that are no text, where the system has such names.
fn odd_word(random: &mut Random) -> OsString {
    let bytes: Vec<u8> = (0..random.below(6)).map(|_| (random.bits() >> 56) as u8 | 1).collect();
    #[cfg(unix)]
    return std::os::unix::ffi::OsStringExt::from_vec(bytes);
    #[cfg(not(unix))]
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[test]
fn any_arguments_end_with_an_exit_code_and_a_message() {
    let mut random = Random::new(8);
    for _ in 0..if common::slow() { 300 } else { 10_000 } {
        let args = random_arguments(&mut random);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = cli::run(args.clone(), &mut out, &mut err);
        let err = String::from_utf8(err).expect("messages are text");
        match code {
            0 => assert!(err.is_empty(), "{args:?}: {err}"),
            1 | 2 => {
                assert!(out.is_empty(), "{args:?}: output of a failure");
                assert_complaint(&err);
            }
            other => panic!("{args:?}: exit code {other}"),
        }
    }
}
