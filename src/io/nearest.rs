//! A tensor that is not there, and the one that may have been meant.

use crate::Error;
use alloc::boxed::Box;

/// The error for `name`, with the most similar of `names`.
pub(crate) fn no_tensor<'a>(file: &str, name: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let nearest = names.map(|n| (distance(name, n), n)).min().filter(|&(d, _)| d <= 2 + name.len() / 4);
    Error::NoTensor { file: file.into(), name: name.into(), nearest: nearest.map(|(_, n)| n.into()) }
}

/// Levenshtein's distance in bytes, for hints; long names count as far apart.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 256;
    if a.len().max(b.len()) > LONGEST {
        return usize::MAX;
    }
    let mut row: Box<[usize]> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
