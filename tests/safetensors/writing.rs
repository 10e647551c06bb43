//! Writing, opening, shards.

use samebits::Error;
use samebits::io::safetensors::{Checkpoint, Dtype, SafeTensors, TensorView, to_bytes, write};
use std::path::{Path, PathBuf};

/// A folder of its own for a test, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("samebits-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let names =
            std::fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const U8: TensorView<'static> = TensorView { name: "w", dtype: Dtype::U8, shape: &[3], bytes: &[1, 2, 3] };

#[test]
fn writing() {
    let folder = Folder::new("writing");
    let path = folder.0.join("m.safetensors");
    write(&path, &[U8], &[("b", "2"), ("a", "1")]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), to_bytes(&[U8], &[("a", "1"), ("b", "2")]).unwrap());
    assert_eq!(folder.names(), ["m.safetensors"]);
    let before = std::fs::read(&path).unwrap();
    let wrong = [
        (vec![U8, U8], vec![], "duplicate name \"w\""),
        (vec![U8], vec![("a", "1"), ("a", "2")], "duplicate name \"a\""),
        (vec![TensorView { name: "__metadata__", ..U8 }], vec![], "cannot be named"),
        (vec![TensorView { shape: &[4], ..U8 }], vec![], "3 bytes do not make U8 of shape (4,)"),
        (vec![TensorView { dtype: Dtype::F4, shape: &[5], ..U8 }], vec![], "do not make F4"),
        (vec![TensorView { shape: &[usize::MAX, 2], ..U8 }], vec![], "larger than the address space"),
    ];
    for (tensors, pairs, want) in wrong {
        let error = write(&path, &tensors, &pairs).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    // A disk that is full after any number of bytes: the old file stays, nothing else is left.
    for room in 0..before.len() {
        let error = samebits::io::atomic::write(&path, |out| {
            out.write_all(&before[..room])?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(error, Err(Error::Io { doing: "write", .. })));
    }
    assert_eq!((std::fs::read(&path).unwrap(), folder.names()), (before, vec!["m.safetensors".to_string()]));
    let error = write(&folder.0.join("no/such/folder.safetensors"), &[U8], &[]).unwrap_err().to_string();
    assert!(error.contains("folder.safetensors: cannot create a file beside it"), "{error}");
    std::fs::create_dir(folder.0.join("taken")).unwrap();
    let error = write(&folder.0.join("taken"), &[U8], &[]).unwrap_err().to_string();
    assert!(error.contains("cannot rename"), "{error}");
    assert_eq!(folder.names(), ["m.safetensors", "taken"]);
}

#[test]
fn opening_what_is_no_file() {
    let folder = Folder::new("opening");
    let error = |name: &str| SafeTensors::open(folder.0.join(name)).err().unwrap().to_string();
    assert!(error("none").contains("none: cannot open: "), "{}", error("none"));
    assert!(error("").contains("not a regular file"));
    #[cfg(target_os = "linux")]
    assert!(SafeTensors::open("/dev/zero").err().unwrap().to_string().contains("not a regular file"));
    let pipe = folder.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|s| s.success());
    assert!(!made || error("pipe").contains("not a regular file"), "a pipe would wait for ever");
}

/// An index and two shards, `a` with tensor x, `b` with y; then `change`; then what opening says.
fn sharded(name: &str, map: &str, change: impl FnOnce(&Path)) -> Result<Vec<String>, String> {
    let folder = Folder::new(name);
    for (shard, tensor) in [("a", "x"), ("b", "y")] {
        write(&folder.0.join(format!("{shard}.safetensors")), &[TensorView { name: tensor, ..U8 }], &[])
            .unwrap();
    }
    std::fs::write(folder.0.join("model.safetensors.index.json"), map).unwrap();
    change(&folder.0);
    let names = |c: Checkpoint| c.tensors().map(|t| t.name.to_string()).collect();
    Checkpoint::open(&folder.0).map(names).map_err(|e| e.to_string())
}

#[test]
fn shards() {
    let map = |m: &str| format!(r#"{{"metadata":{{"total_size":6}},"weight_map":{{{m}}}}}"#);
    let good = map(r#""y":"b.safetensors","x":"a.safetensors""#);
    assert_eq!(sharded("good", &good, |_| ()), Ok(vec!["x".to_string(), "y".to_string()]));
    let refused = |name: &str, index: &str, want: &str| {
        let error = sharded(name, index, |_| ()).unwrap_err();
        assert!(error.contains(want), "{index}: {error}");
    };
    let long = format!("{}.safetensors", "a".repeat(300));
    let names = [
        "../a.safetensors",
        "/etc/a.safetensors",
        "sub/a.safetensors",
        "..\\\\a.safetensors",
        "C:a.safetensors",
        "a.safetensors\\u0000",
        "a.bin",
        "",
        ".",
        "..",
        ".safetensors",
        "con.safetensors",
        "COM1.x.safetensors",
        "nul.safetensors",
        "a\\n.safetensors",
        &long,
    ];
    for name in names {
        refused("names", &map(&format!(r#""x":"{name}""#)), "a shard must be a plain file name");
    }
    refused("absent", &map(r#""x":"a.safetensors","y":"c.safetensors""#), "c.safetensors: cannot open");
    refused(
        "missing",
        &map(r#""x":"a.safetensors","y":"b.safetensors","z":"b.safetensors""#),
        "\"z\" is listed in \"b.safetensors\" but is not there",
    );
    refused(
        "extra",
        &map(r#""x":"a.safetensors","z":"b.safetensors""#),
        "tensor \"y\" of \"b.safetensors\" is not listed",
    );
    refused(
        "swapped",
        &map(r#""x":"b.safetensors","y":"a.safetensors""#),
        "is listed in \"b.safetensors\" but stands in \"a.safetensors\"",
    );
    refused("number", &map(r#""x":1"#), "expected a file name");
    refused("no map", "{}", "no \"weight_map\"");
    refused("not json", "version https://git-lfs.github.com/spec/v1", "this is a git-LFS pointer");
    #[cfg(unix)]
    {
        let pipe = sharded("pipe", &good, |folder| {
            std::fs::remove_file(folder.join("a.safetensors")).unwrap();
            std::process::Command::new("mkfifo").arg(folder.join("a.safetensors")).status().unwrap();
        });
        assert!(
            pipe.unwrap_err().contains("a.safetensors: not a regular file"),
            "a pipe would wait for ever"
        );
    }
    let twice = sharded("twice", &good, |folder| {
        let both = [TensorView { name: "x", ..U8 }, TensorView { name: "y", ..U8 }];
        write(&folder.join("b.safetensors"), &both, &[]).unwrap();
    });
    assert!(
        twice
            .unwrap_err()
            .contains("tensor \"x\" is listed in \"a.safetensors\" but stands in \"b.safetensors\"")
    );
    let single = sharded("single", &good, |folder| {
        std::fs::remove_file(folder.join("model.safetensors.index.json")).unwrap();
        std::fs::remove_file(folder.join("a.safetensors")).unwrap();
    });
    assert_eq!(single, Ok(vec!["y".to_string()]));
}
