//! Files that are often found under the name of a safetensors file and are something else.

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
    (b"GGUF", "a GGUF file", "GGUF files are read by another command"),
    (b"PK\x03\x04", "a zip archive", "PyTorch checkpoints must be converted to safetensors first"),
];

/// The bytes of a file's beginning that [`other_kind`] looks at.
pub(super) const LOOK: usize = 64;

/// An error that names the kind, where `start` is the beginning of another known one.
pub(super) fn other_kind(start: &[u8]) -> Option<Error> {
    let start = start[..start.len().min(LOOK)].trim_ascii_start();
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with));
    let &(_, is, hint) = KINDS.iter().find(|(with, ..)| begins(with))?;
    Some(Error::WrongKind { file: Default::default(), is, expected: "a safetensors file", hint })
}
