//! `inspect` and `quantize` on small model files made here.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Output;

use common::Random;
use common::program::{Folder, assert_fails, out, program, run};
use samebits::io::bitsandbytes::{Absmax, Nf4};
use samebits::io::json;
use samebits::io::safetensors::{self, Dtype, SafeTensors, TensorView};
use samebits::kernels::{half, nf4};

/// Name, type, shape, values: floats are stored in the type, exactly or rounded.
type Tensor = (&'static str, Dtype, Vec<usize>, Vec<f32>);

fn stored(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let cpu = samebits::Cpu::detect();
    let mut bits = vec![0u16; values.len()];
    match dtype {
        Dtype::F32 => return values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::F16 => half::narrow_f16(cpu, values, &mut bits),
        Dtype::BF16 => half::narrow_bf16(cpu, values, &mut bits),
        Dtype::I64 => return values.iter().flat_map(|&x| (x as i64).to_le_bytes()).collect(),
        other => panic!("{other}"),
    }
    bits.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn write(path: &Path, tensors: &[Tensor]) {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, dtype, _, values)| stored(*dtype, values)).collect();
    let views: Vec<TensorView> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, dtype, shape, _), bytes)| TensorView { name, dtype: *dtype, shape, bytes })
        .collect();
    safetensors::write(path, &views, &[("format", "pt")]).expect("a small file");
}

fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    // Twelve uniform numbers: nearly normal, and the same everywhere.
    let mut next = || (0..12).map(|_| random.below(1 << 20) as f32).sum::<f32>() / (1 << 20) as f32 - 6.0;
    (0..n).map(|_| next()).collect()
}

/// Weights of every type, odd sizes, and what must be left.
fn model() -> Vec<Tensor> {
    vec![
        ("a.weight", Dtype::F32, vec![300, 301], normal(1, 300 * 301)),
        ("b.weight", Dtype::F16, vec![7, 11], normal(2, 77)),
        ("c.weight", Dtype::BF16, vec![64, 96], normal(3, 64 * 96)),
        ("one.weight", Dtype::F32, vec![1, 1], vec![-3.0]),
        ("zeros.weight", Dtype::F32, vec![9, 15], vec![0.0; 135]),
        ("embed.weight", Dtype::F32, vec![10, 16], normal(4, 160)),
        ("lm_head.weight", Dtype::F32, vec![3, 16], normal(5, 48)),
        ("none.weight", Dtype::F32, vec![0, 5], vec![]),
        ("bias", Dtype::F32, vec![300], normal(6, 300)),
        ("positions", Dtype::I64, vec![2, 3], vec![-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    ]
}

fn quantize(input: &Path, output: &Path, flags: &[&str]) -> Output {
    let mut args = vec![OsStr::new("quantize"), input.as_os_str(), output.as_os_str(), OsStr::new("--nf4")];
    args.extend(flags.iter().map(OsStr::new));
    run(args)
}

#[test]
fn inspect_shows_ranges_and_nans() {
    let folder = Folder::new("inspect");
    let mut x = normal(7, 1000);
    (x[17], x[999], x[3], x[500]) = (f32::NAN, f32::NAN, -25.0, 31.5);
    write(
        &folder.path("m.safetensors"),
        &[("x", Dtype::F32, vec![10, 100], x), ("n", Dtype::I64, vec![3], vec![-7.0, 1.0, 2.0])],
    );
    let text = run([OsStr::new("inspect"), folder.0.as_os_str()]);
    assert_eq!(text.status.code(), Some(0));
    let last = out(&text).lines().last().expect("a line");
    assert_eq!(last, "2 tensors (1 F32, 1 I64), 1003 elements, 3.9 KiB, 2 NaN");
    assert!(out(&text).contains("metadata  format = pt"), "{}", out(&text));

    let output = run([OsStr::new("inspect"), folder.path("m.safetensors").as_os_str(), OsStr::new("--json")]);
    let value = json::parse(&output.stdout).expect("JSON");
    let rows: Vec<String> = value
        .get("tensors")
        .and_then(|v| v.elements())
        .expect("an array")
        .map(|row| {
            ["name", "dtype", "min", "max", "nan"].map(|k| row.get(k).expect("a field").source()).join(" ")
        })
        .collect();
    assert_eq!(rows, [r#""n" "I64" -7 2 0"#, r#""x" "F32" -25.0 31.5 2"#]);
}

#[test]
fn inspect_reads_a_folder_of_shards() {
    let folder = Folder::new("shards");
    write(&folder.path("m-1.safetensors"), &[("a", Dtype::F32, vec![2], vec![1.0, 2.0])]);
    write(&folder.path("m-2.safetensors"), &[("b", Dtype::F16, vec![2], vec![3.0, 4.0])]);
    let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    fs::write(folder.path("model.safetensors.index.json"), index).unwrap();
    let output = run([OsStr::new("inspect"), folder.0.as_os_str()]);
    let lines: Vec<&str> = out(&output).lines().collect();
    assert!(lines[1].ends_with("m-1.safetensors") && lines[2].ends_with("m-2.safetensors"), "{lines:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_or_look_like_flags_are_files() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new("names");
    for name in [OsStr::from_bytes(b"\xff\xfe.safetensors"), OsStr::new("--json"), OsStr::new("a\nb")] {
        write(&folder.path(name), &[("a", Dtype::F32, vec![1], vec![1.0])]);
        let output =
            program().current_dir(&folder.0).args([OsStr::new("inspect"), OsStr::new("--"), name]).output();
        let output = output.unwrap();
        assert!(out(&output).contains("1 tensor (1 F32)"), "{name:?}: {output:?}");
    }
}

#[test]
fn what_is_quantised_decodes_and_the_rest_is_copied() {
    let folder = Folder::new("quantize");
    let (input, output) = (folder.path("in.safetensors"), folder.path("out.safetensors"));
    write(&input, &model());
    for flags in [&["--verify"][..], &["--verify", "--double-quant"], &["--verify", "--blocksize", "4096"]] {
        let report = quantize(&input, &output, flags);
        assert_eq!(report.status.code(), Some(0), "{}", String::from_utf8_lossy(&report.stderr));
        assert!(out(&report).contains("\n5 of 10 tensors in NF4"), "{}", out(&report));
        assert!(out(&report).contains("verified"), "{}", out(&report));

        let file = SafeTensors::open(&output).expect("the output");
        for (name, dtype, shape, values) in model() {
            let weight = Nf4::read(&file, name).expect("a sound weight");
            let quantised =
                ["a.weight", "b.weight", "c.weight", "one.weight", "zeros.weight"].contains(&name);
            assert_eq!(weight.is_some(), quantised, "{name}");
            match weight {
                Some(weight) => {
                    assert_eq!((&weight.shape, weight.dtype), (&shape, dtype), "{name}");
                    check_weight(&weight, &values, name);
                }
                None => assert_eq!(file.tensor(name).unwrap().bytes, stored(dtype, &values), "{name}"),
            }
        }
        assert_eq!(folder.names(), ["in.safetensors", "out.safetensors"], "nothing half-written is left");
    }
}

/// Decodes by the definition, without the engine, and asks for the nearest level.
fn check_weight(weight: &Nf4, values: &[f32], name: &str) {
    let absmax: Vec<f32> = match &weight.absmax {
        Absmax::Plain(absmax) => absmax.clone(),
        Absmax::Nested { codes, absmax2, offset } => codes
            .iter()
            .enumerate()
            .map(|(b, &c)| nf4::DYNAMIC_MAP[c as usize] * absmax2[b / 256] + offset)
            .collect(),
    };
    let exact = matches!(weight.absmax, Absmax::Plain(_));
    for (i, &x) in values.iter().enumerate() {
        let code = weight.codes[i / 2] >> (4 * (1 - i % 2)) & 15;
        let a = absmax[i / weight.blocksize];
        let error = (x - nf4::LEVELS.0[code as usize] * a).abs();
        // Half of the widest gap; a rounded a shifts the outer levels by up to 1 % of it, and the input was
        // rounded to 8 bits at worst.
        let bound = a * if exact { 0.1520 + 0.004 } else { 0.17 };
        assert!(error <= bound, "{name}[{i}]: {x} became {} off", error);
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = Folder::new("same-bytes");
    let input = folder.path("in.safetensors");
    write(&input, &model());
    let mut outputs = Vec::new();
    let tiers = common::cpus().into_iter().map(|cpu| cpu.tier().name());
    for (tier, threads) in tiers.flat_map(|tier| ["1", "2", "7"].map(|threads| (tier, threads))) {
        let output = folder.path(format!("{tier}-{threads}"));
        let mut command = program();
        command.env("SAMEBITS_TIER", tier).env("SAMEBITS_THREADS", threads);
        let flags = ["--nf4", "--double-quant", "--include", "embed"].map(OsStr::new);
        let files = [OsStr::new("quantize"), input.as_os_str(), output.as_os_str()];
        assert!(command.args(files).args(flags).output().unwrap().status.success());
        outputs.push(fs::read(output).unwrap());
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{} runs differ", outputs.len());
}

#[test]
fn include_and_exclude_name_tensors() {
    let folder = Folder::new("include");
    let (input, output) = (folder.path("in.safetensors"), folder.path("out.safetensors"));
    write(&input, &model());
    for (flags, count) in [
        (&["--include", "embed"][..], 6),
        (&["--include=embed", "--include=lm_head"], 7),
        (&["--exclude", "weight"], 0),
        (&["--exclude", "a.w", "--include", "a.w"], 4),
    ] {
        let report = quantize(&input, &output, flags);
        assert!(
            out(&report).contains(&format!("{count} of 10 tensors in NF4")),
            "{flags:?}: {}",
            out(&report)
        );
    }
}

#[test]
fn what_cannot_be_quantised_is_named_and_nothing_is_written() {
    let folder = Folder::new("refused");
    let (input, output) = (folder.path("in.safetensors"), folder.path("out.safetensors"));
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        for at in [0, 40_000, 89_999] {
            let mut x = vec![1.0; 90_000];
            (x[at], x[89_999]) = (bad, bad);
            write(&input, &[("layer.weight", Dtype::F32, vec![300, 300], x)]);
            let message =
                format!("tensor \"layer.weight\": element {at} is {shown}, expected a finite number");
            assert_fails(&quantize(&input, &output, &[]), 1, &message);
            assert_eq!(folder.names(), ["in.safetensors"]);
        }
    }
    write(&input, &model());
    assert_fails(&quantize(&input, &input, &[]), 2, "the output would replace the input");
    assert_fails(&quantize(&input, &folder.path("no/such/folder"), &[]), 1, "no/such/folder: cannot");
    #[cfg(unix)]
    {
        fs::hard_link(&input, folder.path("link.safetensors")).unwrap();
        let message = "the output would replace the input";
        assert_fails(&quantize(&input, &folder.path("link.safetensors"), &[]), 2, message);
        // A file is renamed to its name at the end: that must not replace a device.
        assert_fails(&quantize(&input, Path::new("/dev/null"), &[]), 1, "/dev/null: not a regular file");
        assert_fails(&quantize(&input, &folder.0, &[]), 1, ": not a regular file");
    }
}

/// Threads that the system refuses are done without.
#[cfg(target_os = "linux")]
#[test]
fn refused_threads_are_done_without() {
    let folder = Folder::new("threads");
    let (input, output) = (folder.path("in.safetensors"), folder.path("out.safetensors"));
    write(&input, &model());
    assert!(quantize(&input, &output, &[]).status.success());
    let want = fs::read(&output).unwrap();
    // With stacks of 1 GiB in 4 GiB of address space some of the twelve are refused.
    let script = "ulimit -v 4194304 && SAMEBITS_THREADS=12 RUST_MIN_STACK=1073741824 exec \"$0\" quantize \"$1\" \"$2\" --nf4";
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_samebits")]).args([&input, &output]);
    let result = shell.output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    assert_eq!(fs::read(&output).unwrap(), want);
}

/// A file of zeros, large enough that Ctrl-C comes in the middle, but of no size on disk.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_soon_and_leaves_nothing() {
    use std::os::unix::fs::FileExt;
    let folder = Folder::new("interrupt");
    let (input, output) = (folder.path("in.safetensors"), folder.path("out.safetensors"));
    let elements = 64 << 20;
    let header = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{},1024],"data_offsets":[0,{}]}}}}"#,
        elements / 1024,
        elements * 4
    );
    let header = format!("{header:<128}");
    let file = fs::File::create(&input).unwrap();
    file.write_all_at(&128u64.to_le_bytes(), 0).unwrap();
    file.write_all_at(header.as_bytes(), 8).unwrap();
    file.set_len(8 + 128 + 4 * elements).unwrap();

    for wait in [120, 240] {
        // A shell's background jobs are born deaf to Ctrl-C, and the program respects that.
        let mut command = std::process::Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_samebits")]);
        command.env_remove("SAMEBITS_THREADS").env("SAMEBITS_TIER", "scalar");
        command.args(["quantize", "--nf4"]).args([&input, &output]);
        let mut child = command.spawn().expect("the program starts");
        std::thread::sleep(std::time::Duration::from_millis(wait));
        let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(interrupt.unwrap().success());
        let sent = std::time::Instant::now();
        let status = child.wait().unwrap();
        let took = sent.elapsed();
        assert_eq!(status.code(), Some(130), "after {wait} ms");
        // 150 ms on a quiet machine; the exit code tells that the work was not just done.
        assert!(took.as_secs() < 10, "it took {took:?}");
        assert_eq!(folder.names(), ["in.safetensors"], "after {wait} ms");
    }
}
