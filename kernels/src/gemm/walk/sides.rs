//! Where the tiles of A and B lie on their way past a matrix unit.

use super::{Strip, TILE};
use crate::simd::tiles::{BLOCK, Pair, Tile, WIDE};
use crate::{LANES, Line};
use core::ops::Range;

/// The tiles of 32 rows of A, among those that are prepared.
pub(crate) struct Stripe<'f> {
    pub(super) pairs: &'f mut [Pair],
    /// Times 32 rows.
    pub(super) tall: usize,
    /// Of these, this one.
    pub(super) r: usize,
    /// Tiles of k.
    pub(super) ks: Range<usize>,
}

impl Stripe<'_> {
    /// Row `i` of tile `k`.
    #[inline(always)]
    pub(crate) fn line(&mut self, i: usize, k: usize) -> &mut Line {
        let k = k - self.ks.start;
        let first = k - k % BLOCK;
        let pair = first * self.tall + self.r * (self.ks.len() - first).min(BLOCK) + k % BLOCK;
        &mut self.pairs[pair][i / LANES][i % LANES]
    }
}

/// Rows of A as tiles.
#[derive(Clone, Copy)]
pub(super) struct Left<'f> {
    pub(super) pairs: &'f [Pair],
    /// Times 32 rows.
    pub(super) tall: usize,
    /// The first tile of k.
    pub(super) first: usize,
}

impl<'f> Left<'f> {
    /// Tiles `ks`, a block, of the rows from `TALL · r` on.
    pub(super) fn block(&self, ks: &Range<usize>, r: usize) -> &'f [Pair] {
        &self.pairs[(ks.start - self.first) * self.tall + r * ks.len()..][..ks.len()]
    }
}

/// Two panels, and the first of the two that follow.
pub(super) struct Right<'f> {
    whole: [&'f [Tile]; 2],
    /// The last block, copied where its last tile is not whole.
    last: [&'f [Tile]; 2],
    next: &'f [Tile],
}

impl<'f> Right<'f> {
    pub(super) fn new<'a: 'f, T>(
        strip: &impl Strip<'a, T>,
        (p, panels): (usize, usize),
        room: &'f mut [Line],
    ) -> Self {
        // Past the last panel the last again: those sums go nowhere.
        let lines = [p, (p + 1).min(panels - 1)].map(|p| strip.panel(p));
        let whole = lines.map(|lines| lines.as_chunks().0);
        let next = if p + WIDE < panels { strip.panel(p + WIDE).as_chunks().0 } else { &[] };
        let here = lines[0].len() - lines[0].len() % (BLOCK * TILE);
        let mut last = [&[][..]; 2];
        if !lines[0].len().is_multiple_of(TILE) {
            for ((room, lines), last) in room.chunks_exact_mut(BLOCK * TILE).zip(lines).zip(&mut last) {
                let (copy, empty) = room.split_at_mut(lines.len() - here);
                copy.copy_from_slice(&lines[here..]);
                empty.fill(Line::ZERO);
                *last = room.as_chunks().0;
            }
        }
        Right { whole, last, next }
    }

    /// Tiles `ks`, a block.
    pub(super) fn block(&self, ks: &Range<usize>) -> [&'f [Tile]; 2] {
        if ks.end <= self.whole[0].len() {
            self.whole.map(|tiles| &tiles[ks.clone()])
        } else {
            self.last.map(|tiles| &tiles[..ks.len()])
        }
    }

    /// What will be read in their place in the next panels: two lines of each tile for each of `tall` times 32 rows.
    pub(super) fn ahead(&self, ks: &Range<usize>, r: usize, tall: usize) -> (&'f [Tile], usize) {
        (self.next.get(ks.clone()).unwrap_or(&[]), r * TILE / tall % TILE)
    }
}
