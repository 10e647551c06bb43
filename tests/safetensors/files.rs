//! Whole files: the reference implementation's, real ones, and tensors out of them.

use super::memory::peak;
use super::{check_accepted, file};
use samebits::Error;
use samebits::io::bytes::Access;
use samebits::io::safetensors::{Checkpoint, Dtype, SafeTensors, TensorView, to_bytes, write};
use std::path::{Path, PathBuf};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/safetensors");
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    assert_eq!(all.len(), 4);
    all
}

/// The reference implementation's own files, read and written back: the same bytes.
#[test]
fn the_bytes_of_the_reference_implementation() {
    for path in fixtures() {
        let bytes = std::fs::read(&path).unwrap();
        let read = SafeTensors::open(&path).unwrap();
        check_accepted(&bytes, &read);
        let mut tensors: Vec<TensorView<'_>> = read.tensors().collect();
        tensors.reverse();
        let pairs: Vec<(String, String)> = read.metadata().map(|(k, v)| (k.into(), v.into())).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let written = to_bytes(&tensors, &pairs).unwrap();
        assert!(written == bytes, "{}: {}", path.display(), String::from_utf8_lossy(&written));
        if let Some(folder) = std::env::var_os("SAMEBITS_WRITE") {
            write(&Path::new(&folder).join(path.file_name().unwrap()), &tensors, &pairs).unwrap();
        }
    }
}

#[test]
fn what_the_fixtures_hold() {
    let open = |i: usize| SafeTensors::open(&fixtures()[i]).unwrap();
    let every = open(0);
    let dtypes: Vec<Dtype> = every.tensors().map(|t| t.dtype).collect();
    assert_eq!(dtypes.len(), 19);
    for t in every.tensors() {
        let want: Vec<u8> = (0..4 * t.dtype.bits() / 8)
            .map(|i| i as u8 % if t.dtype == Dtype::BOOL { 2 } else { 255 })
            .collect();
        assert_eq!((t.shape, t.bytes), (&[2, 2][..], &*want), "{}", t.name);
    }
    let names = open(1);
    let nul = names.tensor("quote\" back\\slash é漢😀 tab\t nul\0").unwrap();
    assert_eq!((nul.dtype, nul.bytes), (Dtype::U8, &[0, 1, 2][..]));
    assert_eq!(names.tensor("scalar").unwrap().bytes, 7f32.to_le_bytes());
    assert_eq!(names.tensor("eight axes").unwrap().shape, [1, 2, 1, 2, 1, 2, 1, 2]);
    assert_eq!(names.metadata().collect::<Vec<_>>(), [("format".into(), "np".into())]);
    let Err(e) = names.tensor("plaid") else { panic!("found") };
    assert!(e.to_string().ends_with("names.safetensors: no tensor \"plaid\""), "{e}");
    assert_eq!(e.hint().unwrap(), "did you mean \"plain\"?");
    assert!(open(2).is_empty());
    assert_eq!(open(3).tensor("f4").unwrap().shape, [2, 4]);
}

/// Tensors are windows into the file's memory; where a writer did not care for alignment, copies.
#[test]
fn tensors_to_compute_with() {
    let values: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let entry = |name: &str, at: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":[{at},{}]}}"#, at + 8)
    };
    let odd = r#""odd":{"dtype":"U8","shape":[1],"data_offsets":[8,9]},"long":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}"#;
    let mut bytes = file(&format!("{{{},{odd},{}}}", entry("even", 0), entry("apart", 9)), 0);
    bytes.extend([&values[..], &[7], &values].concat());
    let read = SafeTensors::from_bytes(&bytes).unwrap();
    let load = |name: &str| read.load(name).unwrap();
    let (even, odd, apart) = (load("even"), load("odd"), load("apart"));
    assert!(even.shares_memory(&odd) && !even.shares_memory(&apart));
    assert_eq!((even.to_vec::<f32>(), apart.to_vec::<f32>()), (vec![1.5, -2.0], vec![1.5, -2.0]));
    assert_eq!(odd.to_vec::<u8>(), [7]);
    let error = read.load("long").unwrap_err().to_string();
    assert_eq!(error, "\"long\" has dtype I64, expected F32, F16, BF16, I32 or U8");
    assert!(matches!(read.load("none"), Err(Error::NoTensor { .. })));
    let mut changed = even.clone();
    changed.make_mut::<f32>()[0] = 9.0;
    assert_eq!(load("even").to_vec::<f32>(), [1.5, -2.0], "the file's memory is shared, not written");
}

/// Real files, if they are there: read, checked, written back and read again.
#[test]
fn real_files() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let (mut folders, mut count) = (vec![PathBuf::from(data).join("models")], 0);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "safetensors") {
                let (read, held) = peak(|| SafeTensors::open(&path));
                if path.ends_with("weight-inspect_tiny.safetensors") {
                    // Not whole: the reference implementation refuses it too.
                    assert!(read.err().unwrap().to_string().ends_with("5 bytes of data belong to no tensor"));
                    continue;
                }
                let read = read.unwrap();
                let bytes = std::fs::read(&path).unwrap();
                assert!(held <= 4 * bytes.len() + (1 << 20), "{held} bytes for {}", path.display());
                check_accepted(&bytes, &read);
                count += 1;
            }
        }
    }
    assert!(count >= 20, "only {count} files");
}

/// Mapped, a file has the same tensors; shortened meanwhile, zeros and an error, never a signal.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn a_mapped_file_may_be_shortened() {
    for path in fixtures() {
        let mapped = SafeTensors::open_with(&path, Access::Map).unwrap();
        assert!(mapped.tensors().eq(SafeTensors::open(&path).unwrap().tensors()), "{}", path.display());
        mapped.data().check().unwrap();
    }
    let path = std::env::temp_dir().join(format!("samebits-short-{}.safetensors", std::process::id()));
    let ones = [1.0f32; 32 * 1024].map(f32::to_le_bytes);
    let w = TensorView { name: "w", dtype: Dtype::F32, shape: &[32 * 1024], bytes: ones.as_flattened() };
    write(&path, &[w], &[]).unwrap();
    let file = Checkpoint::open_with(&path, Access::Map).unwrap();
    let tensor = file.load("w").unwrap();
    file.check().unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert_eq!(tensor.to_vec::<f32>()[32 * 1024 - 1], 0.0);
    let error = file.check().unwrap_err().to_string();
    assert!(error.contains(".safetensors: cannot go on using it: it had 131"), "{error}");
    assert!(error.ends_with("and was shortened to 4096"), "{error}");
    std::fs::remove_file(path).unwrap();
}
