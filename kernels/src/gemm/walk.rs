//! The way of a product past a matrix unit: sixteen rows and columns a tile, two by two.
//!
//! **Law.**   That of the product: a block of eight tiles of k is summed by the unit, from 0; blocks are added in order.
//! Of integers every order gives the same: their sums stay in the unit from block to block.
//!
//! ```text
//!   A, 320 × 1024    in pairs of tiles, in the order in which they are read:      640 KB of bfloat16, in L2
//!                    block 0 of k: rows 0–31: tile of rows 0–15, of 16–31, 8 times │ rows 32–63: … │ block 1: …
//!   B                panels as they were packed: 16 columns, a block of k is eight tiles in a row
//!
//!   two panels:   for each block of these k, for each 32 rows
//!                     the unit:     8 × (2 × 2 products)          ──► a block's 32 × 32 products; the first are the sums
//!                     meanwhile:    products of the block before  ──► + the sums of their rows; or C, if they were the last
//!                                   lines of the next two panels  ──► L2
//! ```
//!
//! **Registers.**  Four tiles of sums, two of A, two of B.
//!
//! **Cost.**  Four products take 64 cycles and read 4 KB, half of it (B) from L1. Eight steps take 512 cycles, and 620 with
//! other numbers than 0, for which the processor slows down; four tiles of sums are stored in 80. The additions between,
//! 64 lines, cost nothing where they are written between the instructions that multiply: 512 entries of a reorder buffer
//! are full before. A strip of A that is more than a third of L2 is read from farther away.

use crate::gemm::Bf16;
use crate::simd::Simd;
use crate::simd::tiles::{
    BLOCK, Chain, End, Goal, Meanwhile, NO_PRODUCTS, Pair, Products, Rows, TALL, Tiles, WIDE,
};
use crate::view::MatMut;
use crate::{Kernel, LANES, Line, line::Plain};
use core::marker::PhantomData;
use core::ops::Range;

mod sides;
pub(crate) use sides::Stripe;
use sides::{Left, Right};

/// Rows that are prepared at once, at most.
const ROWS: usize = 320;
/// Tiles of k of one pass where there are more than can be had at once, and so many.
const DEPTH: usize = 32;
const DEEP: usize = 48;
/// Rows × tiles of k of a strip at most: 768 KB.
const STRIP: usize = 384 * DEPTH;
/// Columns of a product of more tiles of k whose sums are kept until the last.
pub(crate) const COLUMNS: usize = 4096;

/// C of so many bytes is read by nobody before it has left the caches: it goes past them.
pub(crate) const PAST: usize = 2 << 20;

/// Lines of a tile.
const TILE: usize = LANES;
/// Lines of products of two by two.
const PRODUCTS: usize = TALL * WIDE;

/// Some rows and steps of a product, as a unit `T` takes them.
pub(crate) trait Strip<'a, T> {
    /// Whether sums may stay in the unit from block to block: integers.
    const EXACT: bool;
    /// Rows of A and C, tiles of k, panels of B.
    fn shape(&self) -> (usize, usize, usize);
    /// Writes the lines of 32 rows of A from row `r` on, of which some may lie past the last one, in tiles `ks`.
    fn fill<S: Simd>(&self, unit: (S, &T), at: (usize, Range<usize>), stripe: &mut Stripe<'_>);
    /// Panel `p` of B; the last tile may be there in part.
    fn panel(&self, p: usize) -> &'a [Line];
    /// What the blocks of `TALL` rows from `r` on and two panels from `p` on are added to; where it is nothing, `false`.
    fn begin<S: Simd>(&self, s: S, at: (usize, usize), sums: &mut Products) -> bool;
    /// Where nothing but a line a panel is added to the sums: these lines, from panel `p` on.
    fn bias(&self, p: usize) -> Option<[Line; WIDE]>;
    /// The rows from `r` on of C in two panels from `p` on, if all are there, side by side.
    fn place(&mut self, at: (usize, usize)) -> Option<Place<'_>>;
    /// Whether they go past the caches.
    fn goes_past(&self) -> bool;
    /// What becomes of sums where one of these two is not.
    fn finish<S: Simd>(&mut self, s: S, at: (usize, usize), sums: &Products);
}

/// Where C lies.
pub(crate) enum Place<'a> {
    /// In what a unit sums.
    Sums(Rows<'a>),
    /// In bfloat16.
    Halves(Rows<'a, Bf16>),
}

/// Rows of a matrix in two panels, where all are there, side by side.
#[inline(always)]
pub(crate) fn rows<T: Plain, E: Plain>(c: MatMut<'_, E>, (r, p): (usize, usize)) -> Option<Rows<'_, T>> {
    let (rows, cols) = (r..r + TALL, p * LANES..(p + WIDE) * LANES);
    let there = rows.end <= c.rows() && cols.end <= c.cols() && c.col_stride() == 1;
    there.then(|| Rows::new(c.sub(rows, cols)))
}

/// How many of `depth` tiles of k are prepared at once: a second pass over few of them costs more, for the sums that come
/// and go, than a strip of fewer rows.
const fn deep(depth: usize) -> usize {
    if depth > DEEP { DEPTH } else { depth }
}

/// Rows of a strip of `depth` tiles of k at most.
const fn most_rows(depth: usize) -> usize {
    let deep = deep(depth);
    if ROWS * deep > STRIP { STRIP / deep / TALL * TALL } else { ROWS }
}

/// How many of `m` rows are prepared at once where k is `depth` tiles: as many each time.
pub(crate) const fn rows_at_once(m: usize, depth: usize) -> usize {
    let most = most_rows(depth);
    let strips = if m > most { m.div_ceil(most) } else { 1 };
    m.div_ceil(strips).next_multiple_of(TALL)
}

/// Times 32 rows that `m` rows or fewer are at most.
pub(crate) const fn most_tall(m: usize) -> usize {
    if m < ROWS { m.div_ceil(TALL) } else { ROWS / TALL }
}

/// Lines of scratch for the strips of `m` rows or fewer, `depth` tiles of k and `n` columns or fewer.
pub(crate) const fn scratch_len(m: usize, depth: usize, n: usize) -> usize {
    let (tall, most) = (most_tall(m), most_rows(depth) / TALL);
    let tall = if tall < most { tall } else { most };
    let wide = if depth > deep(depth) { columns(n).div_ceil(WIDE * LANES) } else { 1 };
    tall * (2 * deep(depth) * TILE + wide * PRODUCTS) + 2 * PRODUCTS + WIDE * BLOCK * TILE
}

/// How many of `n` columns are multiplied at once where sums are kept.
const fn columns(n: usize) -> usize {
    if n < COLUMNS { n } else { COLUMNS }
}

/// Columns of a part of a product of `depth` tiles of k.
pub(crate) const fn columns_at_once(depth: usize) -> usize {
    if depth > deep(depth) { COLUMNS } else { usize::MAX }
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
        let deep = deep(depth);
        let wide = if depth > deep { panels.div_ceil(WIDE) } else { 1 };
        let (pairs, rest) = scratch.split_at_mut(tall * 2 * deep * TILE);
        let (sums, rest) = rest.split_at_mut(wide * tall * PRODUCTS);
        let (two, tails) = rest.split_at_mut(2 * PRODUCTS);
        let sums: &mut [Products] = sums.as_chunks_mut().0.as_chunks_mut().0;
        for first in (0..depth.max(1)).step_by(deep.max(1)) {
            let ks = first..(first + deep).min(depth);
            let room = pairs.as_chunks_mut().0.as_chunks_mut().0;
            s.outline(Prepare {
                strip: &strip,
                tiles: &*tiles,
                ks: ks.clone(),
                pairs: room,
                life: PhantomData,
            });
            let left = Left { pairs: pairs.as_chunks().0.as_chunks().0, tall, first };
            for (i, p) in (0..panels).step_by(WIDE).enumerate() {
                let sums = &mut sums[i % wide * tall..][..tall];
                let mut fresh = first == 0;
                if fresh {
                    fresh = s.outline(Before { strip: &strip, p, sums: &mut *sums, life: PhantomData });
                }
                if fresh && depth == 0 {
                    sums.fill(NO_PRODUCTS);
                    fresh = false;
                }
                let right = Right::new(&strip, (p, panels), tails);
                let bias = strip.bias(p);
                let alone = bias.is_some_and(|bias| Line::floats(&bias).iter().all(|&x| x == 0.0));
                let way = Way { left, right, depth, fresh, p, bias, alone };
                way.pass::<E, T, J>(ks.clone(), tiles, &mut strip, (sums, two));
                if ks.end == depth {
                    let all = bias.is_none() || depth == 0;
                    s.outline(After { strip: &mut strip, p, sums: &*sums, all, life: PhantomData });
                }
            }
        }
    }
}

/// Writes tiles of A in the order of the walk.
struct Prepare<'f, 'a, J, T> {
    strip: &'f J,
    tiles: &'f T,
    /// Which, of k.
    ks: Range<usize>,
    pairs: &'f mut [Pair],
    life: PhantomData<&'a ()>,
}

impl<'a, J: Strip<'a, T>, T> Kernel for Prepare<'_, 'a, J, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Prepare { strip, tiles, ks, pairs, .. } = self;
        let tall = strip.shape().0.div_ceil(TALL);
        let mut stripe = Stripe { pairs, tall, r: 0, ks: ks.clone() };
        for r in 0..tall {
            stripe.r = r;
            strip.fill((s, tiles), (r * TALL, ks.clone()), &mut stripe);
        }
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

/// Where the products of a block go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// They are the sums, or these go on in the unit.
    Sums,
    /// They, or what they bring the sums to, are C.
    C,
    /// They wait.
    Waiting,
}

/// All rows past two panels.
struct Way<'f> {
    left: Left<'f>,
    right: Right<'f>,
    /// Tiles of k, in all.
    depth: usize,
    /// Whether there are no sums before.
    fresh: bool,
    /// The first panel.
    p: usize,
    /// Of the two panels, where nothing else follows.
    bias: Option<[Line; WIDE]>,
    /// Whether not even that.
    alone: bool,
}

impl Way<'_> {
    #[inline(always)]
    fn pass<'a, E, T: Tiles<E>, J: Strip<'a, T>>(
        &self,
        ks: Range<usize>,
        tiles: &mut T,
        strip: &mut J,
        (sums, two): (&mut [Products], &mut [Line]),
    ) {
        let Way { left, right, depth, .. } = self;
        let [now, before, ..] = two.as_chunks_mut().0.as_chunks_mut().0 else { return };
        let (mut now, mut before) = (now, before);
        let mut waiting: Option<Waiting> = None;
        let blocks = ks.clone().step_by(BLOCK).map(|first| first..(first + BLOCK).min(ks.end));
        for ks in blocks {
            let b = right.block(&ks);
            for r in 0..left.tall {
                let (a, ahead) = (left.block(&ks, r), right.ahead(&ks, r, left.tall));
                let (first, last) = (self.fresh && ks.start == 0, ks.end == *depth);
                let sink = self.sink(strip, r, (first, last));
                if sink == Sink::Waiting {
                    let settle = waiting.map(|waits| (&*before, self.goal(waits, strip, sums)));
                    tiles.multiply(a, b, Chain::New(Rows::of(now)), Meanwhile { settle, ahead });
                    waiting = Some(Waiting { r, first, last });
                    core::mem::swap(&mut now, &mut before);
                    continue;
                }
                if let Some(waits) = waiting.take() {
                    tiles.settle(before, self.goal(waits, strip, sums));
                }
                let c = if sink == Sink::C { strip.place((r * TALL, self.p)) } else { None };
                let chain = match (c, first) {
                    (Some(Place::Sums(c)), true) => Chain::New(c),
                    (Some(Place::Sums(c)), false) => Chain::End(&sums[r], c),
                    (_, true) => Chain::New(Rows::of(&mut sums[r])),
                    (_, false) => Chain::On(&mut sums[r]),
                };
                tiles.multiply(a, b, chain, Meanwhile { settle: None, ahead });
            }
        }
        if let Some(waits) = waiting {
            tiles.settle(before, self.goal(waits, strip, sums));
        }
    }

    /// Where the products of a block of the rows from `TALL · r` on go.
    #[inline(always)]
    fn sink<'a, T, J: Strip<'a, T>>(&self, strip: &mut J, r: usize, (first, last): (bool, bool)) -> Sink {
        if !last {
            // Products are never −0: 0 + them is what they are.
            return if first || J::EXACT { Sink::Sums } else { Sink::Waiting };
        }
        let past = strip.goes_past();
        let place = if self.alone { strip.place((r * TALL, self.p)) } else { None };
        match place {
            Some(Place::Sums(_)) if (first || J::EXACT) && !past => Sink::C,
            None if J::EXACT => Sink::Sums,
            _ => Sink::Waiting,
        }
    }

    #[inline(always)]
    fn goal<'g, 'a, T>(
        &'g self,
        Waiting { r, first, last }: Waiting,
        strip: &'g mut impl Strip<'a, T>,
        sums: &'g mut [Products],
    ) -> Goal<'g> {
        let (sums, past) = (&mut sums[r], strip.goes_past());
        if last
            && let Some(bias) = &self.bias
            && let Some(place) = strip.place((r * TALL, self.p))
        {
            let end = End { from: if first { &NO_PRODUCTS } else { sums }, bias, past };
            return match place {
                Place::Sums(rows) => Goal::Rows(end, rows),
                Place::Halves(rows) => Goal::Halves(end, rows),
            };
        }
        if first {
            let end = End { from: &NO_PRODUCTS, bias: &[Line::ZERO; WIDE], past: false };
            return Goal::Rows(end, Rows::of(sums));
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
            if self.all || self.strip.place(at).is_none() {
                self.strip.finish(s, at, sums);
            }
        }
    }
}
