//! A set of rows: which ones a search may find.

use std::ops::Range;

/// Some of `len` rows.
#[derive(Clone, Debug)]
pub struct RowSet {
    words: Vec<u64>,
    len: usize,
}

impl RowSet {
    /// Those of `len` rows of which `wanted` says so.
    pub fn new(len: usize, mut wanted: impl FnMut(u32) -> bool) -> RowSet {
        let mut words = vec![0; len.div_ceil(64)];
        for row in (0..len).filter(|&row| wanted(row as u32)) {
            words[row / 64] |= 1 << (row % 64);
        }
        RowSet { words, len }
    }

    /// Of how many rows these are some.
    pub fn of(&self) -> usize {
        self.len
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether `row` is one.
    pub fn has(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Those among `rows`, ascending.
    pub(super) fn among(&self, rows: Range<usize>) -> impl Iterator<Item = u32> + '_ {
        (rows.start as u32..rows.end as u32).filter(|&row| self.has(row))
    }
}
