//! cos and sin of the positions in use: made once a position or once a call, read by every layer.

use super::RotaryEmbedding;
use crate::kernels::rope::{Table, fill_table};
use alloc::vec::Vec;

/// Rows of cos and sin for one [`RotaryEmbedding`], in memory that is kept from call to call.
///
/// Either row p belongs to position p ([`grow`](RotaryTable::grow)): made once, 8 bytes a pair and position. Or
/// row t belongs to token t of this call ([`fill`](RotaryTable::fill)): no more memory than the call has tokens,
/// however far its positions. The bits of a position's row are the same.
#[derive(Clone, Debug, Default)]
pub struct RotaryTable {
    /// (rows, pairs)
    cos: Vec<f32>,
    /// (rows, pairs)
    sin: Vec<f32>,
    pairs: usize,
}

impl RotaryTable {
    /// A table without rows.
    pub const fn new() -> RotaryTable {
        RotaryTable { cos: Vec::new(), sin: Vec::new(), pairs: 0 }
    }

    /// How many rows there are; none where nothing turns.
    pub fn len(&self) -> usize {
        self.cos.len().checked_div(self.pairs).unwrap_or(0)
    }

    /// Bytes of cos and sin, each in whole lines of 64.
    pub fn bytes(&self) -> usize {
        2 * size_of_val(&self.cos[..]).next_multiple_of(64)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.cos.is_empty()
    }

    /// Rows for the positions `0..positions`: those that are missing are added, those that are there stay.
    /// A table is grown for one embedding; for another, [`clear`](RotaryTable::clear) it first.
    ///
    /// # Panics
    /// Where the table has rows of another embedding's width, or the embedding has no exact phase at the last
    /// position ([`RotaryEmbedding::positions`]).
    pub fn grow(&mut self, rotary: &RotaryEmbedding, positions: usize) {
        let pairs = rotary.frequencies.len();
        assert!(self.is_empty() || self.pairs == pairs, "rows of {} pairs, then {pairs}", self.pairs);
        assert!(positions <= rotary.positions(), "{positions} positions of {}", rotary.positions());
        self.pairs = pairs;
        let first = self.len();
        if positions > first {
            self.resize(positions);
            self.write(rotary, first, first);
        }
    }

    /// Row t for `positions[t]`, in place of what was there.
    ///
    /// # Panics
    /// Where the embedding has no exact phase at one of the positions.
    pub fn fill(&mut self, rotary: &RotaryEmbedding, positions: &[u32]) {
        let end = positions.iter().max().map_or(0, |&p| p as usize + 1);
        assert!(end <= rotary.positions(), "position {} of {}", end - 1, rotary.positions());
        self.clear();
        self.pairs = rotary.frequencies.len();
        for (row, &position) in positions.iter().enumerate() {
            self.resize(row + 1);
            self.write(rotary, row, position as usize);
        }
    }

    /// Forgets the rows, keeps their memory.
    pub fn clear(&mut self) {
        self.cos.clear();
        self.sin.clear();
    }

    /// The rows as the kernel reads them.
    pub fn rows(&self) -> Table<'_> {
        Table { cos: &self.cos, sin: &self.sin, pairs: self.pairs }
    }

    fn resize(&mut self, rows: usize) {
        self.cos.resize(rows * self.pairs, 0.0);
        self.sin.resize(rows * self.pairs, 0.0);
    }

    /// Rows from `row` to the end, for `position` and those after it.
    fn write(&mut self, rotary: &RotaryEmbedding, row: usize, position: usize) {
        let at = row * self.pairs;
        let (cos, sin) = (&mut self.cos[at..], &mut self.sin[at..]);
        fill_table(position, &rotary.frequencies, rotary.attention_factor, cos, sin);
    }
}
