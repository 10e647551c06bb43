//! Room for what a layer computes in between.

use crate::kernels::{LANES, Line};

/// Memory of the caller's, from which layers take parts from the front. Copies of the borrow nest: what a layer
/// took is free again when it returns.
#[derive(Debug)]
pub struct Room<'a>(&'a mut [Line]);

impl<'a> Room<'a> {
    /// All of `lines`; what they hold does not matter.
    pub fn new(lines: &'a mut [Line]) -> Room<'a> {
        Room(lines)
    }

    /// Lines that [`Room::floats`] takes for `n` floats.
    pub const fn len(n: usize) -> usize {
        n.div_ceil(LANES)
    }

    /// `n` floats, aligned to a line. What they hold is unspecified.
    ///
    /// # Panics
    /// Where fewer are left: the layer's `room_len` says how many lines it needs.
    pub fn floats(&mut self, n: usize) -> &'a mut [f32] {
        let (need, left) = (Room::len(n), self.0.len());
        let lines = self.0.split_off_mut(..need);
        let lines = lines.unwrap_or_else(|| panic!("room for {need} lines more, {left} are left"));
        &mut Line::floats_mut(lines)[..n]
    }

    /// The rest, for a while.
    pub fn rest(&mut self) -> Room<'_> {
        Room(self.0)
    }
}
