//! Files that others made, and files on disk.

use super::check_accepted;
use super::rules::whole;
use samebits::io::bytes::Access;
use samebits::io::gguf::{self, GgmlType, Gguf, ValueType};
use std::path::PathBuf;

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("SAMEBITS_DATA");
    if folder.is_none() {
        eprintln!("skipped: SAMEBITS_DATA is not set");
    }
    folder.map(PathBuf::from)
}

/// Two of the small ones are broken: three tensors at one place, and no data.
fn broken(path: &std::path::Path) -> Option<&'static str> {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("threatflux_test_model.gguf") => Some("the data of tensors"),
        Some("weight-inspect_tiny.gguf") => {
            Some("needs 32768 bytes at offset 0 of the data, the file has 0 left")
        }
        _ => None,
    }
}

#[test]
fn every_real_file_reads() {
    let Some(data) = data() else { return };
    let folders = [
        "models/stories260K",
        "models/tiny-random-llama-gguf",
        "models/gguf-small-fixtures",
        "tokenizers/ggml-vocab",
    ];
    let mut count = 0;
    for folder in folders {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "gguf") {
                continue;
            }
            count += 1;
            let read = match (Gguf::open(&path, Access::Read), broken(&path)) {
                (read, None) => read.unwrap(),
                (read, Some(says)) => {
                    let error = read.err().expect("broken").to_string();
                    assert!(error.contains(says), "{error}");
                    continue;
                }
            };
            check_accepted(&std::fs::read(&path).unwrap(), &read);
            let mapped = Gguf::open(&path, Access::Map);
            if cfg!(all(target_os = "linux", target_pointer_width = "64")) {
                assert!(mapped.unwrap().tensors().eq(read.tensors()), "{path:?}");
            }
        }
    }
    assert_eq!(count, 11, "GGUF files");
}

#[test]
fn stories260k_is_what_it_is() {
    let Some(data) = data() else { return };
    let file = Gguf::open(data.join("models/stories260K/stories260K-f32.gguf"), Access::Read).unwrap();
    assert_eq!(file.entry("general.architecture").unwrap().str().unwrap(), "llama");
    assert_eq!(file.entry("llama.block_count").unwrap().usize().unwrap(), 5);
    assert_eq!(file.entry("llama.attention.head_count_kv").unwrap().usize().unwrap(), 4);
    let tokens = file.entry("tokenizer.ggml.tokens").unwrap().array(ValueType::String).unwrap();
    assert_eq!(tokens.len(), 512);
    let embedding = file.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.kind, embedding.shape), (GgmlType::F32, &[512, 64][..]));
    assert_eq!(file.load("token_embd.weight").unwrap().shape(), [512, 64]);
}

#[test]
fn from_disk_as_from_memory() {
    let folder = std::env::temp_dir().join(format!("samebits-gguf-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("m.gguf");
    let memory = Gguf::from_bytes(&whole()).unwrap();
    let pairs: Vec<_> = memory.metadata().map(|e| (e.key, e.value)).collect();
    gguf::write(&path, &pairs, &memory.tensors().collect::<Vec<_>>()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), whole());
    let disk = Gguf::open(&path, Access::Read).unwrap();
    assert!(disk.tensors().eq(memory.tensors()));
    let error = Gguf::open(folder.join("none.gguf"), Access::Read).err().unwrap().to_string();
    assert!(error.contains("none.gguf: cannot open"), "{error}");
    let error = Gguf::open(&folder, Access::Map).err().unwrap().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// A file that is shortened while it is mapped: zeros, then an error; never a signal.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn a_mapped_file_may_be_shortened() {
    let path = std::env::temp_dir().join(format!("samebits-gguf-short-{}.gguf", std::process::id()));
    let rows = [1.0f32; 64 * 1024].map(f32::to_le_bytes);
    let w =
        gguf::TensorView { name: "w", kind: GgmlType::F32, shape: &[64, 1024], bytes: rows.as_flattened() };
    gguf::write(&path, &[], &[w]).unwrap();
    let file = Gguf::open(&path, Access::Map).unwrap();
    let tensor = file.load("w").unwrap();
    file.data().check().unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
    let sum: f32 = tensor.to_vec::<f32>().iter().sum();
    assert!(sum < 64.0 * 1024.0);
    let error = file.data().check().unwrap_err().to_string();
    assert!(error.contains("it had 262240 bytes when it was mapped and was shortened to 5000"), "{error}");
    std::fs::remove_file(path).unwrap();
}

/// What the Python package wrote reads as it is, and is written again to the byte but for the padding.
#[test]
fn files_of_the_python_package() {
    let theirs: &[u8] = include_bytes!("../data/gguf/package.gguf");
    let file = Gguf::from_bytes(theirs).unwrap();
    check_accepted(theirs, &file);
    let entry = |key| file.entry(key).unwrap();
    assert_eq!(entry("general.architecture").str().unwrap(), "llama");
    assert_eq!(entry("a.u64").value, gguf::Value::U64(1 << 63));
    assert_eq!(entry("a.i16").value, gguf::Value::I16(-30_000));
    assert_eq!(entry("a.string").str().unwrap(), "héllo\n");
    assert_eq!(
        entry("a.strings").array(ValueType::String).unwrap().iter().nth(3).unwrap().as_str(),
        Some("日本")
    );
    assert_eq!(entry("a.bools").array(ValueType::Bool).unwrap().bytes(), [1, 0]);
    assert_eq!(
        (file.tensor("f16").unwrap().kind, file.tensor("f16").unwrap().shape),
        (GgmlType::F16, &[2, 3, 32][..])
    );
    assert_eq!(file.load("i32").unwrap().to_vec::<i32>(), [0, 1, 2, 3, 4]);
    assert_eq!(file.tensor("q8_0").unwrap().shape, [3, 64]);
    let mut decoded = ["f32", "f16", "bf16", "q8_0", "q4_0"].map(|name| {
        let mut out = vec![f32::NAN; 192];
        file.tensor(name).unwrap().decode(samebits::Cpu::detect(), &mut out).unwrap();
        out
    });
    let (exact, others) = decoded.split_first_mut().unwrap();
    for (other, most) in others.iter().zip([0.002, 0.01, 0.02, 0.4]) {
        assert!(exact.iter().zip(other).all(|(x, y)| (x - y).abs() <= most), "{other:?}");
    }
    let refused = file.tensor("i32").unwrap().decode(samebits::Cpu::detect(), &mut [0.0; 5]).unwrap_err();
    assert!(
        refused.to_string().starts_with("\"i32\" has dtype I32, expected F32, F16, BF16, Q4_0"),
        "{refused}"
    );

    let pairs: Vec<_> = file.metadata().map(|e| (e.key, e.value)).collect();
    let ours = gguf::to_bytes(&pairs, &file.tensors().collect::<Vec<_>>()).unwrap();
    assert_eq!(ours, theirs);
    if let Some(folder) = std::env::var_os("SAMEBITS_WRITE") {
        std::fs::write(PathBuf::from(folder).join("package.gguf"), ours).unwrap();
    }
}
