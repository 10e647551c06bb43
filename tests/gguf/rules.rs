//! Every rule of the format, with a file that breaks it.

use super::memory::peak;
use super::{Raw, check_accepted, slow};
use samebits::io::gguf::{ArrayBuf, GgmlType, Gguf, TensorView, Value, to_bytes};

const F32: u32 = 0;

/// One tensor and so many bytes of data.
fn one(ne: &[u64], kind: u32, offset: u64, data: usize) -> Vec<u8> {
    Raw::new(1, 0).tensor("t", ne, kind, offset).data(32, data).0
}

/// Two tensors of four floats at these offsets.
fn two(a: u64, b: u64, data: usize) -> Vec<u8> {
    Raw::new(2, 0).tensor("a", &[4], F32, a).tensor("b", &[4], F32, b).data(32, data).0
}

/// One pair with this type number and value.
fn pair(kind: u32, value: &[u8]) -> Vec<u8> {
    Raw::new(0, 1).key("k", kind).bytes(value).0
}

fn array(kind: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    pair(9, &[&kind.to_le_bytes(), &len.to_le_bytes()[..], elements].concat())
}

fn aligned(kind: u32, value: &[u8]) -> Vec<u8> {
    Raw::new(1, 1).key("general.alignment", kind).bytes(value).tensor("t", &[4], F32, 0).data(64, 64).0
}

/// A file with every type of value and tensors of several types and ranks.
pub fn whole() -> Vec<u8> {
    let texts = ArrayBuf::strings(["", "a", "é", "▁the"]);
    let (floats, ids) = (ArrayBuf::f32s(&[0.5, f32::NAN]), ArrayBuf::i32s(&[1, -1, 6]));
    let metadata = [
        ("general.architecture", Value::String("llama")),
        ("u8", Value::U8(255)),
        ("i8", Value::I8(-1)),
        ("u16", Value::U16(1)),
        ("i16", Value::I16(-2)),
        ("u32", Value::U32(3)),
        ("i32", Value::I32(-4)),
        ("f32", Value::F32(1e-5)),
        ("bool", Value::Bool(true)),
        ("u64", Value::U64(1 << 40)),
        ("i64", Value::I64(-5)),
        ("f64", Value::F64(0.1)),
        ("texts", texts.value()),
        ("floats", floats.value()),
        ("ids", ids.value()),
    ];
    let tensor = |name, kind, shape, bytes| TensorView { name, kind, shape, bytes };
    let data = [7; 512];
    let tensors = [
        tensor("scalar", GgmlType::F32, &[], &data[..4]),
        tensor("row", GgmlType::F16, &[3], &data[..6]),
        tensor("w", GgmlType::Q8_0, &[2, 64], &data[..136]),
        tensor("none", GgmlType::F32, &[0, 5], &[]),
        tensor("k", GgmlType::Q6_K, &[1, 2, 1, 256], &data[..420]),
    ];
    to_bytes(&metadata, &tensors).unwrap()
}

/// Version 1, where lengths have four bytes: a string, an array of strings, a tensor.
fn version_1() -> Vec<u8> {
    let text = |raw: Raw, text: &str| raw.u32(text.len() as u32).bytes(text.as_bytes());
    let raw = Raw(b"GGUF".to_vec()).u32(1).u32(1).u32(2);
    let raw = text(text(raw, "name").u32(8), "value");
    let raw = text(text(text(raw, "list").u32(9).u32(8).u32(2), "a"), "");
    text(raw, "w").u32(2).u32(3).u32(2).u32(F32).u64(0).data(32, 24).0
}

/// Every rule of the format: a file and what the error must say (`None`: the file is good).
pub fn rules() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let head = |version: u32| Raw(b"GGUF".to_vec()).u32(version).u64(0).u64(0).0;
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n".to_vec();
    let html = b"<!DOCTYPE html><html>404</html>".to_vec();
    let cut = |n: usize| whole()[..n].to_vec();
    let long = "x".repeat(65_536);
    let f32s = |n: usize| Raw::new(1, 0).tensor("t", &[1; 4][..n], F32, 0).data(32, 4).0;
    vec![
        // what it is
        ("empty file", vec![], Some("byte 0: the file begins with []")),
        ("two bytes", b"GG".to_vec(), Some("byte 0: the file begins with [47, 47]")),
        ("another magic", b"GGML\0\0\0\0".to_vec(), Some("not with \"GGUF\"")),
        ("git-LFS pointer", lfs, Some("this is a git-LFS pointer, expected a GGUF file")),
        ("HTML page", html, Some("this is an HTML page")),
        ("safetensors", [&8u64.to_le_bytes(), &b"{}      "[..]].concat(), Some("this is a safetensors file")),
        ("magic alone", b"GGUF".to_vec(), Some("byte 4: the version needs 4 bytes, the file has 0 left")),
        ("version 0", head(0), Some("byte 4: GGUF version 0")),
        ("version 1", version_1(), None),
        ("version 2", head(2), None),
        ("version 3, nothing in it", head(3), None),
        ("version 4", head(4), Some("GGUF version 4; versions 1 to 3 are read")),
        (
            "version 1 cut",
            version_1()[..40].to_vec(),
            Some("a metadata key needs 4 bytes, the file has 3 left"),
        ),
        ("big-endian", head(3u32.swap_bytes()), Some("a big-endian GGUF file")),
        ("cut in the counts", head(3)[..20].to_vec(), Some("the number of metadata pairs needs 8 bytes")),
        // counts
        (
            "2^63 pairs",
            Raw::new(0, 1 << 63).0,
            Some("9223372036854775808 metadata pairs do not fit the 0 bytes"),
        ),
        ("2^64 - 1 tensors", Raw::new(u64::MAX, 0).0, Some("18446744073709551615 tensors do not fit")),
        ("a pair too many", Raw::new(0, 2).key("k", 0).bytes(&[1]).0, Some("2 metadata pairs do not fit")),
        ("a tensor too many", Raw::new(1, 0).0, Some("1 tensors do not fit the 0 bytes")),
        // keys
        ("empty key", Raw::new(0, 1).key("", 0).bytes(&[1; 9]).0, Some("a metadata key of 0 bytes")),
        ("long key", Raw::new(0, 1).key(&long, 0).bytes(&[1]).0, Some("a metadata key of 65536 bytes")),
        ("key past the end", Raw::new(0, 1).u64(100).bytes(b"abcdefg").0, Some("needs 100 bytes")),
        ("key of 2^64 - 1", Raw::new(0, 1).u64(u64::MAX).bytes(b"abcdefg").0, Some("the file has 7 left")),
        (
            "key not UTF-8",
            Raw::new(0, 1).u64(1).bytes(b"\xff\0\0\0\0\0").0,
            Some("byte 32: a metadata key is not UTF-8"),
        ),
        (
            "duplicate key",
            Raw::new(0, 2).key("k", 0).bytes(&[1]).key("k", 0).bytes(&[2]).0,
            Some("duplicate metadata key \"k\""),
        ),
        // values
        ("type 13", pair(13, &[0; 8]), Some("byte 33: the value of \"k\" has the unknown type 13")),
        ("type 2^32 - 1", pair(u32::MAX, &[0; 8]), Some("the unknown type 4294967295")),
        (
            "a number cut",
            pair(4, &[0; 3]),
            Some("byte 37: the value of \"k\" needs 4 bytes, the file has 3 left"),
        ),
        ("bool 2", pair(7, &[2]), Some("a bool is 0 or 1, found 2")),
        ("bools", array(7, 3, &[0, 1, 1]), None),
        (
            "a bool of 255 in an array",
            array(7, 3, &[0, 1, 255]),
            Some("byte 51: the value of \"k\": a bool is"),
        ),
        ("string past the end", pair(8, &9u64.to_le_bytes()), Some("needs 9 bytes, the file has 0 left")),
        (
            "string not UTF-8",
            pair(8, b"\x02\0\0\0\0\0\0\0a\xff"),
            Some("byte 46: the value of \"k\" is not UTF-8"),
        ),
        ("empty array", array(4, 0, &[]), None),
        ("array of an unknown type", array(13, 0, &[]), Some("the unknown type 13")),
        ("array of arrays", array(9, 1, &[0; 20]), Some("the value of \"k\" is an array of arrays")),
        ("array past the end", array(4, 3, &[0; 11]), Some("has 3 elements of u32, 11 bytes follow")),
        ("array of 2^61 u64", array(10, 1 << 61, &[0; 8]), Some("2305843009213693952 elements")),
        ("array of 2^62 u32", array(4, 1 << 62, &[0; 8]), Some("4611686018427387904 elements")),
        ("array of 2^64 - 1 bytes", array(0, u64::MAX, &[0; 8]), Some("18446744073709551615 elements")),
        ("strings cut", array(8, 2, &[[0; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat()), Some("needs 1 bytes")),
        ("more strings than fit", array(8, 3, &[0; 16]), Some("has 3 elements of string, 16 bytes follow")),
        // alignment
        ("aligned to 64", aligned(4, &64u32.to_le_bytes()), None),
        ("aligned to 1", aligned(4, &1u32.to_le_bytes()), None),
        (
            "aligned to 0",
            aligned(4, &0u32.to_le_bytes()),
            Some("general.alignment must be a u32, a power of two"),
        ),
        ("aligned to 24", aligned(4, &24u32.to_le_bytes()), Some("found u32 24")),
        ("aligned to 2^31", aligned(4, &(1u32 << 31).to_le_bytes()), Some("found u32 2147483648")),
        ("alignment as u64", aligned(10, &32u64.to_le_bytes()), Some("found u64 32")),
        ("alignment as text", aligned(8, b"\x02\0\0\0\0\0\0\x0032"), Some("found string")),
        // shapes
        ("no axes", f32s(0), None),
        ("four axes", f32s(4), None),
        ("five axes", one(&[1; 5], F32, 0, 4), Some("tensor \"t\" has 5 axes, at most 4 are allowed")),
        ("2^31 axes", Raw::new(1, 0).text("t").u32(1 << 31).bytes(&[0; 40]).0, Some("has 2147483648 axes")),
        ("an extent of 0", one(&[0, 4], F32, 0, 0), None),
        ("extent 2^63", one(&[1 << 63], F32, 0, 64), Some("larger than the address space")),
        ("extent 2^62", one(&[1 << 62], F32, 0, 64), Some("larger than the address space")),
        (
            "product wraps to 0",
            one(&[1 << 32, 1 << 32], F32, 0, 64),
            Some("shape (4294967296, 4294967296) is"),
        ),
        ("zero hides a wrap", one(&[1 << 32, 1 << 32, 0], F32, 0, 64), Some("larger than the address space")),
        ("bytes wrap to 0", one(&[1 << 61], 28, 0, 64), Some("larger than the address space")),
        (
            "half a block",
            one(&[16, 2], 8, 0, 64),
            Some("rows of 16 elements are not whole blocks of 32 Q8_0"),
        ),
        ("a row of 255 in Q4_K", one(&[255], 12, 0, 256), Some("not whole blocks of 256 Q4_K")),
        ("a scalar of Q8_0", one(&[], 8, 0, 64), Some("rows of 1 elements are not whole blocks")),
        // types
        ("type 4", one(&[32], 4, 0, 64), Some("has type Q4_2, which ggml no longer has")),
        ("type 33", one(&[32], 33, 0, 64), Some("has type Q4_0_8_8, which ggml no longer has")),
        ("type 99", one(&[32], 99, 0, 64), Some("tensor \"t\" has the unknown type 99")),
        ("type -1", one(&[32], u32::MAX, 0, 64), Some("the unknown type 4294967295")),
        ("MXFP4", one(&[32], 39, 0, 17), None),
        // names
        (
            "duplicate tensor",
            Raw::new(2, 0).tensor("t", &[1], F32, 0).tensor("t", &[1], F32, 32).data(32, 64).0,
            Some("duplicate tensor \"t\""),
        ),
        ("name not UTF-8", Raw::new(1, 0).u64(1).bytes(&[0xc3; 30]).0, Some("a tensor's name is not UTF-8")),
        // places
        ("two tensors", two(0, 32, 64), None),
        ("any order", two(32, 0, 64), None),
        ("the last not padded", two(0, 32, 48), None),
        ("unaligned", two(0, 16, 64), Some("tensor \"b\": offset 16 is no multiple of 32")),
        ("the same place", two(0, 0, 64), Some("the data of tensors \"a\" and \"b\" overlap")),
        (
            "overlap",
            Raw::new(2, 0).tensor("a", &[16], F32, 0).tensor("b", &[4], F32, 32).data(32, 64).0,
            Some("overlap"),
        ),
        (
            "a byte short",
            one(&[4], F32, 0, 15),
            Some("tensor \"t\" needs 16 bytes at offset 0 of the data, the file has 15 left"),
        ),
        (
            "data missing",
            one(&[4], F32, 64, 64),
            Some("needs 16 bytes at offset 64 of the data, the file has 0 left"),
        ),
        ("offset 2^64 - 32", one(&[4], F32, u64::MAX - 31, 64), Some("the file has 0 left")),
        ("an empty tensor behind the end", one(&[0], F32, 96, 0), None),
        // all of it
        ("every type", whole(), None),
        ("cut in the data", cut(whole().len() - 33), Some("the file has")),
        ("cut in the table", cut(900), Some("the file has")),
        ("cut in the vocabulary", cut(400), Some("bytes")),
    ]
}

#[test]
fn every_rule() {
    for (what, file, error) in rules() {
        let (read, held) = peak(|| Gguf::from_bytes(&file));
        assert!(held <= 5 * file.len() + (1 << 16), "{what}: {held} bytes for {}", file.len());
        match (read, error) {
            (Ok(read), None) => check_accepted(&file, &read),
            (Err(e), Some(says)) => {
                let text = e.in_file("m.gguf").to_string();
                assert!(text.contains(says) && text.starts_with("m.gguf: "), "{what}: {text}");
                assert_eq!(text.lines().count(), 1, "{what}: {text}");
            }
            (Ok(_), Some(says)) => panic!("{what}: accepted, expected {says:?}"),
            (Err(e), None) => panic!("{what}: {e}"),
        }
    }
}

#[test]
fn cut_anywhere_it_is_an_error() {
    let file = whole();
    let end = file.len() - 28; // what pads the last tensor may be missing
    for len in 0..end {
        assert!(Gguf::from_bytes(&file[..len]).is_err(), "{len} of {} bytes", file.len());
    }
    Gguf::from_bytes(&file[..end]).unwrap();
}

#[test]
fn many_names_take_no_longer_than_their_bytes() {
    let count = if slow() { 10_000 } else { 100_000 };
    let mut raw = Raw::new(count, count);
    for i in 0..count {
        raw = raw.key(&format!("key.{i}"), 0).bytes(&[1]);
    }
    for i in 0..count {
        raw = raw.tensor(&format!("blk.{i}"), &[1], F32, 32 * i);
    }
    let file = raw.data(32, 32 * count as usize).0;
    let (read, held) = peak(|| Gguf::from_bytes(&file).unwrap());
    assert!(held <= 5 * file.len() + (1 << 16), "{held} bytes for {}", file.len());
    assert_eq!(read.tensor("blk.77").unwrap().shape, [1]);
    assert_eq!(read.entry("key.9999").unwrap().usize().unwrap(), 1);
}

#[test]
fn version_1_reads() {
    let file = Gguf::from_bytes(&version_1()).unwrap();
    assert_eq!((file.version(), file.get("name")), (1, Some(Value::String("value"))));
    let list = file.get("list").and_then(Value::as_array).unwrap();
    assert_eq!(list.iter().map(|t| t.as_str().unwrap()).collect::<Vec<_>>(), ["a", ""]);
    assert_eq!(file.tensor("w").unwrap().shape, [2, 3]);
}

#[test]
fn values_say_what_they_are_not() {
    let file = Gguf::from_bytes(&whole()).unwrap();
    let says = |e: samebits::Error| e.to_string();
    assert_eq!(
        says(file.entry("i8").unwrap().usize().unwrap_err()),
        "metadata \"i8\": expected a whole number from 0 on, found -1"
    );
    assert_eq!(
        says(file.entry("texts").unwrap().str().unwrap_err()),
        "metadata \"texts\": expected a string, found an array of string"
    );
    assert_eq!(
        says(file.entry("u64").unwrap().u32().unwrap_err()),
        "metadata \"u64\": expected a whole number from 0 to 4294967295, found 1099511627776"
    );
    assert_eq!(says(file.entry("no.such").err().unwrap()), "no metadata \"no.such\"");
    assert_eq!(file.entry("f64").unwrap().f32().unwrap(), 0.1);
    assert_eq!(file.entry("u8").unwrap().usize().unwrap(), 255);
    assert!(file.entry("bool").unwrap().bool().unwrap());
    let texts = file.entry("texts").unwrap().array(samebits::io::gguf::ValueType::String).unwrap();
    let texts: Vec<&str> = texts.iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(texts, ["", "a", "é", "▁the"]);
    let missing = file.tensor("rov").unwrap_err();
    assert_eq!(missing.hint().unwrap(), "did you mean \"row\"?");
    let refused = file.load("w").unwrap_err().to_string();
    assert_eq!(refused, "\"w\" has dtype Q8_0, expected F32, F16, BF16 or I32");
}

#[test]
fn the_writer_refuses_what_a_reader_would() {
    let w = TensorView { name: "w", kind: GgmlType::F32, shape: &[4], bytes: &[0; 16] };
    let long = "n".repeat(64);
    let cases = [
        (to_bytes(&[], &[w, w]), "duplicate tensor \"w\""),
        (to_bytes(&[("a", Value::U8(1)), ("a", Value::U8(1))], &[]), "duplicate metadata key \"a\""),
        (to_bytes(&[("", Value::U8(1))], &[]), "a metadata key of 0 bytes"),
        (to_bytes(&[("general.alignment", Value::U32(3))], &[]), "a power of two"),
        (to_bytes(&[], &[TensorView { bytes: &[0; 15], ..w }]), "15 bytes do not make F32 of shape (4,)"),
        (to_bytes(&[], &[TensorView { name: &long, ..w }]), "a name of 64 bytes, at most 63"),
        (to_bytes(&[], &[TensorView { shape: &[1, 1, 1, 1, 4], ..w }]), "has 5 axes"),
        (to_bytes(&[], &[TensorView { kind: GgmlType::Q4_0, ..w }]), "not whole blocks of 32 Q4_0"),
    ];
    for (result, says) in cases {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
}
