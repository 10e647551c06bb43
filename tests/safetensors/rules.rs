//! Every rule of the format, with a file that breaks it.

use super::memory::peak;
use super::{file, slow};
use samebits::io::safetensors::SafeTensors;

/// A file with one tensor `t` of these three values, as they stand in the header.
fn one(dtype: &str, shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(&format!(r#"{{"t":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}"#), data)
}

/// A file of tensors of bytes at these offsets.
fn at(offsets: &[[usize; 2]], data: usize) -> Vec<u8> {
    let entry = |(i, [a, b]): (usize, &[usize; 2])| {
        format!(r#""t{i}":{{"dtype":"U8","shape":[{}],"data_offsets":[{a},{b}]}}"#, b - a)
    };
    file(&format!("{{{}}}", offsets.iter().enumerate().map(entry).collect::<Vec<_>>().join(",")), data)
}

fn raw(len: u64, rest: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes(), rest].concat()
}

/// Every rule of the format: a file and what the error must say (`None`: the file is good).
pub fn rules() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let meta = |m: &str| file(&format!(r#"{{"__metadata__":{m}}}"#), 0);
    let html = b"\n<!DOCTYPE html><html><body>404</body></html>".to_vec();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n".to_vec();
    let deep = |n: usize| meta(&("[".repeat(n) + &"]".repeat(n)));
    let axes = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    let f4 = |shape, end| one("\"F4\"", shape, &format!("[0,{end}]"), end);
    vec![
        // P1: the length of the header
        ("empty file", vec![], Some("a file of 0 bytes, shorter than the 8 of a header length")),
        ("seven bytes", vec![0; 7], Some("a file of 7 bytes")),
        ("length only", raw(0, b""), Some("byte 8: the header must begin with '{'")),
        ("length past the end", raw(3, b"{}"), Some("byte 0: the header has 3 bytes, but only 2 follow")),
        ("length past the limit", raw(100_000_001, b"{}"), Some("at most 100000000 are allowed")),
        ("length 2^40", raw(1 << 40, b"{}"), Some("byte 0: the header has 1099511627776 bytes")),
        ("length 2^64 - 1", raw(u64::MAX, b"{}"), Some("byte 0: the header has 18446744073709551615 bytes")),
        (
            "length 2^64 - 8",
            raw(u64::MAX - 7, b"{}"),
            Some("byte 0: the header has 18446744073709551608 bytes"),
        ),
        ("no tensors", file("{}", 0), None),
        ("padded", file("{}      ", 0), None),
        // P3: polyglots
        ("space first", file(" {}", 0), Some("byte 8: the header must begin with '{'")),
        ("array", file("[]", 0), Some("must begin with '{'")),
        ("byte order mark", file("\u{feff}{}", 0), Some("must begin with '{'")),
        ("padded with newline", file("{} \n", 0), Some("byte 11: the header may be padded with spaces only")),
        ("padded with NUL", file("{}\0", 0), Some("byte 10: expected the end")),
        ("two objects", file("{}{}", 0), Some("byte 10: expected the end")),
        ("data of no tensor", file("{}", 1), Some("1 bytes of data belong to no tensor")),
        ("not UTF-8", raw(4, b"{\"\xff\""), Some("byte 10: not valid UTF-8")),
        // P2: contiguous, whole
        ("one tensor", at(&[[0, 4]], 4), None),
        ("any order", at(&[[4, 6], [0, 4]], 6), None),
        ("empty ones between", at(&[[0, 0], [0, 4], [4, 4], [4, 6], [6, 6]], 6), None),
        ("a hole first", at(&[[1, 4]], 4), Some("a hole of 1 bytes before tensor \"t0\"")),
        ("a hole between", at(&[[0, 4], [6, 8]], 8), Some("a hole of 2 bytes before tensor \"t1\"")),
        ("a byte over", at(&[[0, 4]], 5), Some("1 bytes of data belong to no tensor")),
        (
            "a byte short",
            at(&[[0, 4]], 3),
            Some("tensor \"t0\": data_offsets 0..4 leave the 3 bytes of data"),
        ),
        ("overlap", at(&[[0, 4], [3, 7]], 7), Some("tensor \"t1\" overlaps the one before it by 1 bytes")),
        ("the same place", at(&[[0, 4], [0, 4]], 4), Some("overlaps the one before it by 4 bytes")),
        ("empty inside another", at(&[[0, 4], [2, 2]], 4), Some("overlaps the one before it by 2 bytes")),
        ("reversed offsets", one("\"U8\"", "[0]", "[4,0]", 4), Some("data_offsets 4..0 leave")),
        ("offsets too short", one("\"U8\"", "[4]", "[4]", 4), Some("data_offsets must be two numbers")),
        ("offsets too long", one("\"U8\"", "[4]", "[0,4,4]", 4), Some("data_offsets must be two numbers")),
        (
            "offsets no array",
            one("\"U8\"", "[4]", "4", 4),
            Some("expected an array for data_offsets, found a number"),
        ),
        // P4, P5: products and sums
        (
            "size mismatch",
            one("\"F32\"", "[2,3]", "[0,23]", 23),
            Some("takes 24 bytes, data_offsets give 23"),
        ),
        (
            "product wraps to 0",
            one("\"U8\"", "[4294967296,4294967296]", "[0,0]", 0),
            Some("larger than the address space"),
        ),
        (
            "product wraps to 4",
            one("\"F32\"", "[4611686018427387905]", "[0,4]", 4),
            Some("larger than the address space"),
        ),
        (
            "bytes wrap",
            one("\"F64\"", "[2305843009213693952]", "[0,0]", 0),
            Some("larger than the address space"),
        ),
        (
            "2^59 doubles",
            one("\"F64\"", "[576460752303423488]", "[0,0]", 0),
            Some("takes 4611686018427387904 bytes"),
        ),
        (
            "zero hides a wrap",
            one("\"U8\"", "[0,4294967296,4294967296]", "[0,0]", 0),
            Some("larger than the address space"),
        ),
        ("zero extent", one("\"F32\"", "[0,5]", "[0,0]", 0), None),
        ("end 2^64 - 1", one("\"U8\"", "[1]", "[0,18446744073709551615]", 1), Some("leave the 1 bytes")),
        (
            "both ends wrap",
            one("\"U8\"", "[1]", "[18446744073709551615,18446744073709551615]", 1),
            Some("leave the 1 bytes"),
        ),
        ("extent 2^64", one("\"U8\"", "[18446744073709551616]", "[0,1]", 1), Some("expected a whole number")),
        // P6: duplicates
        (
            "duplicate tensor",
            file(
                r#"{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
                0,
            ),
            Some("byte 61: duplicate key \"t\""),
        ),
        ("duplicate by escape", file(r#"{"t":{},"\u0074":{}}"#, 0), Some("duplicate key \"t\"")),
        (
            "duplicate dtype",
            file(r#"{"t":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}"#, 0),
            Some("duplicate key \"dtype\""),
        ),
        ("duplicate metadata", meta(r#"{"a":"1","a":"2"}"#), Some("duplicate key \"a\"")),
        (
            "metadata twice",
            file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
            Some("duplicate key \"__metadata__\""),
        ),
        // P8: depth
        ("depth 128", deep(127), Some("expected an object of strings for __metadata__")),
        ("depth 129", deep(128), Some("nested deeper than 128")),
        ("depth 100,000", deep(100_000), Some("nested deeper than 128")),
        // P10, P11: numbers and strings
        ("negative extent", one("\"U8\"", "[-1]", "[0,1]", 1), Some("expected a whole number from 0 to")),
        ("minus zero", one("\"U8\"", "[-0]", "[0,0]", 0), Some("found \"-0\"")),
        ("fraction", one("\"U8\"", "[1.0]", "[0,1]", 1), Some("found \"1.0\"")),
        ("exponent", one("\"U8\"", "[1e0]", "[0,1]", 1), Some("found \"1e0\"")),
        ("extent in quotes", one("\"U8\"", "[\"1\"]", "[0,1]", 1), Some("found \"\\\"1\\\"\"")),
        ("leading zero", one("\"U8\"", "[01]", "[0,1]", 1), Some("leading zero")),
        ("1e999", one("\"U8\"", "[1e999]", "[0,1]", 1), Some("range of f64")),
        ("NaN", one("\"U8\"", "[NaN]", "[0,1]", 1), Some("expected a value")),
        ("trailing comma", one("\"U8\"", "[1,]", "[0,1]", 1), Some("expected a value")),
        (
            "lone surrogate",
            file(r#"{"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0),
            Some("byte 10: a lone surrogate"),
        ),
        (
            "NUL unescaped",
            file("{\"a\0\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0),
            Some("control character"),
        ),
        ("NUL escaped", file(r#"{"a\u0000b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0), None),
        ("empty name", file(r#"{"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0), None),
        // P12: dtypes
        ("unknown dtype", one("\"F128\"", "[1]", "[0,16]", 16), Some("unknown dtype \"F128\"")),
        ("dtype in lower case", one("\"f32\"", "[1]", "[0,4]", 4), Some("unknown dtype \"f32\"")),
        ("dtype no string", one("7", "[1]", "[0,4]", 4), Some("expected a string for dtype, found a number")),
        ("two nibbles", f4("[2,1]", 1), None),
        ("half a byte", f4("[3]", 1), Some("F4 of shape (3,) does not fill whole bytes")),
        ("four of six bits", one("\"F6_E2M3\"", "[4]", "[0,3]", 3), None),
        ("two of six bits", one("\"F6_E3M2\"", "[2]", "[0,2]", 2), Some("does not fill whole bytes")),
        ("any byte is a BOOL", one("\"BOOL\"", "[4]", "[0,4]", 4), None),
        // P15 and the entry's form
        ("eight axes", one("\"U8\"", &axes(8), "[0,1]", 1), None),
        ("nine axes", one("\"U8\"", &axes(9), "[0,1]", 1), Some("a shape of more than 8 axes")),
        (
            "shape no array",
            one("\"U8\"", "1", "[0,1]", 1),
            Some("expected an array for shape, found a number"),
        ),
        ("no axes", one("\"U8\"", "[]", "[0,1]", 1), None),
        (
            "no dtype",
            file(r#"{"t":{"shape":[0],"data_offsets":[0,0]}}"#, 0),
            Some("byte 13: tensor \"t\": no dtype"),
        ),
        ("no shape", file(r#"{"t":{"dtype":"U8","data_offsets":[0,0]}}"#, 0), Some("tensor \"t\": no shape")),
        ("no offsets", file(r#"{"t":{"dtype":"U8","shape":[0]}}"#, 0), Some("tensor \"t\": no data_offsets")),
        (
            "unknown key",
            file(r#"{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"zip":1}}"#, 0),
            Some("unknown key \"zip\""),
        ),
        (
            "tensor no object",
            file(r#"{"t":[]}"#, 0),
            Some("expected an object for tensor \"t\", found an array"),
        ),
        ("metadata", meta(r#"{"format":"pt","\n":"\u00e9"}"#), None),
        ("metadata null", meta("null"), Some("expected an object of strings for __metadata__, found null")),
        ("metadata number", meta(r#"{"a":1}"#), Some("expected a string in __metadata__, found a number")),
        // P29: other kinds of files
        ("git-LFS pointer", lfs, Some("this is a git-LFS pointer, expected a safetensors file")),
        ("HTML page", html, Some("this is an HTML page")),
        ("GGUF", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec(), Some("this is a GGUF file")),
        ("zip", b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0".to_vec(), Some("this is a zip archive")),
    ]
}

#[test]
fn one_file_a_rule() {
    for (name, bytes, want) in rules() {
        let (read, held) = peak(|| SafeTensors::from_bytes(&bytes));
        assert!(held <= 3 * bytes.len() + (1 << 16), "{name}: {held} bytes for a file of {}", bytes.len());
        match (read, want) {
            (Ok(_), None) => {}
            (Err(e), Some(want)) => assert!(e.to_string().contains(want), "{name}: {e}, want {want:?}"),
            (Ok(_), Some(_)) => panic!("{name}: accepted"),
            (Err(e), None) => panic!("{name}: {e}"),
        }
    }
}

#[test]
fn small_stack() {
    let all = || rules().iter().for_each(|(_, bytes, _)| drop(SafeTensors::from_bytes(bytes)));
    std::thread::Builder::new().stack_size(128 << 10).spawn(all).unwrap().join().unwrap();
}

#[test]
fn a_header_of_nothing_else_stays_in_proportion() {
    let n = if slow() { 20_000 } else { 200_000 };
    let tensor = |i| format!(r#""{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{}]}}"#, i + 1);
    let tensors = file(&format!("{{{}}}", (0..n).map(tensor).collect::<Vec<_>>().join(",")), n);
    let pair = |i| format!(r#""{i:x}":"""#);
    let pairs = (0..n).map(pair).collect::<Vec<_>>().join(",");
    let metadata = file(&format!(r#"{{"__metadata__":{{{pairs}}}}}"#), 0);
    let zeros = vec!["0"; n].join(",");
    let shape = one("\"U8\"", &format!("[{zeros}]"), "[0,0]", 0);
    for bytes in [tensors, metadata, shape] {
        let ((), held) = peak(|| drop(SafeTensors::from_bytes(&bytes)));
        // The file itself, which the caller holds here, is one of the four.
        assert!(held <= 3 * bytes.len() + (1 << 20), "{held} bytes for a file of {}", bytes.len());
    }
}
