//! The way of a product past a matrix unit: sixteen rows and columns a tile, two by two.
//!
//! **Law.**   That of the product: a block of eight tiles of k is summed by the unit, from 0; blocks are added in order.
//!
//! ```text
//!   A, 256 × 2048    in pairs of tiles, in the order in which they are read:      1 MB of bfloat16, in L2
//!                    block 0 of k: rows 0–31: tile of rows 0–15, of 16–31, 8 times │ rows 32–63: … │ block 1: …
//!   B                panels as they were packed: 16 columns, a block of k is eight tiles in a row
//!
//!   two panels:   for each block of k, for each 32 rows
//!                     the unit:     8 × (2 × 2 products)                 ──► a block's 32 × 32 products
//!                     meanwhile:    products of the block before         ──► + its sums, in L1; or C, if it was the last
//!                                   lines of the next two panels         ──► L2
//! ```
//!
//! **Registers.**  Four tiles of sums, two of A, two of B.
//!
//! **Cost.**  Four products take 64 cycles and read 4 KB, half of it (B) from L1. What a unit does in eight steps takes
//! 512 cycles; the additions between, 64 lines, run beside it only where they are written between its instructions: 512
//! entries of a reorder buffer are full before. Pairs in the order of the walk are one stream.

use crate::simd::Simd;
use crate::simd::tiles::{
    BLOCK, Goal, Meanwhile, NO_PRODUCTS, Pair, Products, Rows, TALL, Tile, Tiles, WIDE,
};
use crate::view::MatMut;
use crate::{Kernel, LANES, Line, line};
use core::marker::PhantomData;
use core::ops::Range;

/// Rows that are prepared at once.
pub(crate) const ROWS: usize = 256;

/// Lines of a tile.
const TILE: usize = LANES;
/// Lines of products of two by two.
const PRODUCTS: usize = TALL * WIDE;

/// Some rows and steps of a product, as a unit `T` takes them.
pub(crate) trait Strip<'a, T> {
    /// Rows of A and C, tiles of k, panels of B.
    fn shape(&self) -> (usize, usize, usize);
    /// Writes the tile of A at row `r` (which may lie past the last one) and tile `k` of k.
    fn fill<S: Simd>(&self, unit: (S, &T), tile: &mut Tile, r: usize, k: usize);
    /// Panel `p` of B; the last tile may be there in part.
    fn panel(&self, p: usize) -> &'a [Line];
    /// What the blocks of `TALL` rows from `r` on and two panels from `p` on are added to; where it is nothing, `false`.
    fn begin<S: Simd>(&self, s: S, at: (usize, usize), sums: &mut Products) -> bool;
    /// Where nothing but a line a panel is added to the sums: these lines, from panel `p` on.
    fn bias(&self, p: usize) -> Option<[Line; WIDE]>;
    /// The rows from `r` on of C in two panels from `p` on, if all are there, side by side.
    fn rows(&mut self, r: usize, p: usize) -> Option<Rows<'_>>;
    /// What becomes of sums where one of these two is not.
    fn finish<S: Simd>(&mut self, s: S, at: (usize, usize), sums: &Products);
}

/// [`Strip::rows`] of a matrix.
#[inline(always)]
pub(crate) fn rows<T: line::Plain>(c: MatMut<'_, T>, r: usize, p: usize) -> Option<Rows<'_>> {
    let (rows, cols) = (r..r + TALL, p * LANES..(p + WIDE) * LANES);
    let there = rows.end <= c.rows() && cols.end <= c.cols() && c.col_stride() == 1;
    there.then(|| Rows::new(c.sub(rows, cols)))
}

/// Lines of scratch for a strip of `rows` (at most [`ROWS`]) and `depth` tiles of k.
pub(crate) const fn scratch_len(rows: usize, depth: usize) -> usize {
    let tall = rows.div_ceil(TALL);
    tall * (2 * depth * TILE + PRODUCTS) + 2 * PRODUCTS + WIDE * BLOCK * TILE
}

/// All of a strip.
pub(crate) struct Walk<'f, J, T> {
    pub strip: J,
    /// Of [`scratch_len`].
    pub scratch: &'f mut [Line],
    pub tiles: &'f mut T,
}

impl<J, T> Walk<'_, J, T> {
    /// The same, where elements are known.
    #[inline(always)]
    pub(crate) fn run<'a, E, S: Simd>(self, s: S)
    where
        J: Strip<'a, T>,
        T: Tiles<E>,
    {
        let Walk { mut strip, scratch, tiles } = self;
        let (rows, depth, panels) = strip.shape();
        let tall = rows.div_ceil(TALL);
        let (pairs, rest) = scratch.split_at_mut(tall * 2 * depth * TILE);
        let (sums, rest) = rest.split_at_mut(tall * PRODUCTS);
        let (two, tails) = rest.split_at_mut(2 * PRODUCTS);
        s.outline(Prepare {
            strip: &strip,
            tiles: &*tiles,
            room: pairs.as_chunks_mut().0,
            life: PhantomData,
        });
        let left = Left { pairs: pairs.as_chunks().0.as_chunks().0, tall };
        let sums: &mut [Products] = sums.as_chunks_mut().0.as_chunks_mut().0;
        for p in (0..panels).step_by(WIDE) {
            let mut fresh = s.outline(Before { strip: &strip, p, sums: &mut *sums, life: PhantomData });
            if fresh && depth == 0 {
                sums.fill(NO_PRODUCTS);
                fresh = false;
            }
            let right = Right::new(&strip, (p, panels), tails);
            let way = Way { left, right, depth, fresh, p, bias: strip.bias(p) };
            way.pass::<E, T>(tiles, &mut strip, (sums, two));
            let all = way.bias.is_none() || depth == 0;
            s.outline(After { strip: &mut strip, p, sums: &*sums, all, life: PhantomData });
        }
    }
}

/// The blocks of `depth` tiles.
fn blocks(depth: usize) -> impl Iterator<Item = Range<usize>> {
    (0..depth).step_by(BLOCK).map(move |first| first..(first + BLOCK).min(depth))
}

/// Writes all tiles of A in the order of the walk.
struct Prepare<'f, 'a, J, T> {
    strip: &'f J,
    tiles: &'f T,
    room: &'f mut [Tile],
    life: PhantomData<&'a ()>,
}

impl<'a, J: Strip<'a, T>, T> Kernel for Prepare<'_, 'a, J, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, depth, _) = self.strip.shape();
        let mut pairs = self.room.as_chunks_mut().0.iter_mut();
        for ks in blocks(depth) {
            for r in (0..rows).step_by(TALL) {
                for (k, [upper, lower]) in ks.clone().zip(&mut pairs) {
                    self.strip.fill((s, self.tiles), upper, r, k);
                    self.strip.fill((s, self.tiles), lower, r + LANES, k);
                }
            }
        }
    }
}

/// Rows of A as tiles.
#[derive(Clone, Copy)]
struct Left<'f> {
    pairs: &'f [Pair],
    /// Times 32 rows.
    tall: usize,
}

impl<'f> Left<'f> {
    /// Tiles `ks`, a block, of the rows from `TALL · r` on.
    fn block(&self, ks: &Range<usize>, r: usize) -> &'f [Pair] {
        &self.pairs[ks.start * self.tall + r * ks.len()..][..ks.len()]
    }
}

/// Two panels, and the two that follow.
struct Right<'f> {
    whole: [&'f [Tile]; 2],
    /// The last block, copied where its last tile is not whole.
    last: [&'f [Tile]; 2],
    next: [&'f [Tile]; 2],
}

impl<'f> Right<'f> {
    fn new<'a: 'f, T>(strip: &impl Strip<'a, T>, (p, panels): (usize, usize), room: &'f mut [Line]) -> Self {
        // Past the last panel the last again: those sums go nowhere.
        let lines = [p, (p + 1).min(panels - 1)].map(|p| strip.panel(p));
        let whole = lines.map(|lines| lines.as_chunks().0);
        let next = [p + 2, p + 3].map(|p| if p < panels { strip.panel(p).as_chunks().0 } else { &[][..] });
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
    fn block(&self, ks: &Range<usize>) -> [&'f [Tile]; 2] {
        if ks.end <= self.whole[0].len() {
            self.whole.map(|tiles| &tiles[ks.clone()])
        } else {
            self.last.map(|tiles| &tiles[..ks.len()])
        }
    }

    /// What comes after them in the next panels: a half of one for each of four times 32 rows.
    fn ahead(&self, ks: &Range<usize>, r: usize) -> &'f [Tile] {
        self.next[r % 2].get(ks.start + BLOCK / 2 * (r / 2 % 2)..).unwrap_or(&[])
    }
}

/// Products that wait for the unit to be busy again.
#[derive(Clone, Copy)]
struct Waiting {
    /// Of which rows, times `TALL`.
    r: usize,
    /// Whether there are no sums before.
    first: bool,
    /// Whether their sum is C.
    last: bool,
}

/// All rows past two panels.
struct Way<'f> {
    left: Left<'f>,
    right: Right<'f>,
    depth: usize,
    /// Whether there are no sums before.
    fresh: bool,
    /// The first panel.
    p: usize,
    /// Of the two panels, where nothing else follows.
    bias: Option<[Line; WIDE]>,
}

impl Way<'_> {
    #[inline(always)]
    fn pass<'a, E, T: Tiles<E>>(
        &self,
        tiles: &mut T,
        strip: &mut impl Strip<'a, T>,
        (sums, two): (&mut [Products], &mut [Line]),
    ) {
        let Way { left, right, depth, .. } = self;
        let [now, before, ..] = two.as_chunks_mut().0.as_chunks_mut().0 else { return };
        let (mut now, mut before) = (now, before);
        let mut waiting: Option<Waiting> = None;
        for ks in blocks(*depth) {
            let b = right.block(&ks);
            for r in 0..left.tall {
                let settle = waiting.map(|waits| (&*before, self.goal(waits, strip, sums)));
                let meanwhile = Meanwhile { settle, ahead: right.ahead(&ks, r) };
                tiles.multiply(left.block(&ks, r), b, now, meanwhile);
                waiting = Some(Waiting { r, first: self.fresh && ks.start == 0, last: ks.end == *depth });
                core::mem::swap(&mut now, &mut before);
            }
        }
        if let Some(waits) = waiting {
            tiles.settle(before, self.goal(waits, strip, sums));
        }
    }

    #[inline(always)]
    fn goal<'g, 'a, T>(
        &'g self,
        Waiting { r, first, last }: Waiting,
        strip: &'g mut impl Strip<'a, T>,
        sums: &'g mut [Products],
    ) -> Goal<'g> {
        let sums = &mut sums[r];
        if last
            && let Some(bias) = &self.bias
            && let Some(to) = strip.rows(r * TALL, self.p)
        {
            return Goal::Rows { from: if first { &NO_PRODUCTS } else { sums }, bias, to };
        }
        if first {
            let to = MatMut::new(Line::floats_mut(sums.as_flattened_mut()), TALL, WIDE * LANES);
            return Goal::Rows { from: &NO_PRODUCTS, bias: &[Line::ZERO; WIDE], to: Rows::new(to) };
        }
        Goal::Sums(sums)
    }
}

/// The sums of all rows and two panels, before.
struct Before<'f, 'a, J, T> {
    strip: &'f J,
    p: usize,
    sums: &'f mut [Products],
    life: PhantomData<(&'a (), T)>,
}

impl<'a, J: Strip<'a, T>, T> Kernel for Before<'_, 'a, J, T> {
    type Output = bool;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let mut fresh = true;
        for (r, sums) in self.sums.iter_mut().enumerate() {
            fresh = !self.strip.begin(s, (r * TALL, self.p), sums);
        }
        fresh
    }
}

/// And after, those that are not yet C.
struct After<'f, 'a, J, T> {
    strip: &'f mut J,
    p: usize,
    sums: &'f [Products],
    /// Whether none is.
    all: bool,
    life: PhantomData<(&'a (), T)>,
}

impl<'a, J: Strip<'a, T>, T> Kernel for After<'_, 'a, J, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (r, sums) in self.sums.iter().enumerate() {
            let at = (r * TALL, self.p);
            if self.all || self.strip.rows(at.0, at.1).is_none() {
                self.strip.finish(s, at, sums);
            }
        }
    }
}
