//! Files that are often found under the name of a model's file and are something else.

use crate::Error;

/// How such a file begins, what it is, and what to do.
const KINDS: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs.github.com/spec",
        "a git-LFS pointer",
        "the real file was not fetched: run `git lfs pull` in its repository, or download it",
    ),
    (
        b"<!doctype html",
        "an HTML page",
        "a web page was saved in its place: use the download link of the file",
    ),
    (b"<html", "an HTML page", "a web page was saved in its place: use the download link of the file"),
    (b"GGUF", "a GGUF file", "give the GGUF file itself where a model is asked for"),
    (b"PK\x03\x04", "a zip archive", "PyTorch checkpoints must be converted to safetensors first"),
];

const SAFETENSORS: (&str, &str) =
    ("a safetensors file", "give the safetensors file itself, or its folder, where a model is asked for");

/// The bytes of a file's beginning that [`other_kind`] looks at.
pub(crate) const LOOK: usize = 64;

/// An error that names the kind, where `start` is the beginning of another known one than what is `expected`:
/// `a GGUF file`.
pub(crate) fn other_kind(start: &[u8], expected: &'static str) -> Option<Error> {
    let whole = &start[..start.len().min(LOOK)];
    let start = whole.trim_ascii_start();
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with));
    let found = KINDS.iter().find(|(with, ..)| begins(with)).map(|&(_, is, hint)| (is, hint));
    // A safetensors file begins with the length of its header, which begins with a brace.
    let safetensors = || whole.get(3..9).is_some_and(|w| w == b"\0\0\0\0\0{").then_some(SAFETENSORS);
    let (is, hint) = found.or_else(safetensors).filter(|(is, _)| *is != expected)?;
    Some(Error::WrongKind { file: Default::default(), is, expected, hint })
}
