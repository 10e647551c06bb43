//! What may have been meant by a word that does not exist.

/// The candidate with the fewest edits from `word`, if they are few for its length.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let limit = word.len().div_ceil(3);
    let scored = candidates.into_iter().map(|candidate| (edits(&word, candidate), candidate));
    let near = scored.filter(|&(edits, _)| edits <= limit);
    near.min_by_key(|&(edits, _)| edits).map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
fn edits(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let (mut before, mut last) = (vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<usize>>());
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        (before, last) = (last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typing_mistakes_are_recognised() {
        let commands = ["tour", "info", "bench", "inspect", "quantize"];
        let mistakes =
            [("ifno", "info"), ("quantise", "quantize"), ("benhc", "bench"), ("inspct", "inspect")];
        for (typed, meant) in mistakes {
            assert_eq!(nearest(typed, commands), Some(meant), "{typed}");
        }
        assert_eq!(nearest("zzzzzz", commands), None);
        assert_eq!(nearest("", commands), None);
    }
}
