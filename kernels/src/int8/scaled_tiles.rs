//! The product with scales on a matrix unit, a block of 32 codes at a time.
//!
//! **Law.**   That of `scaled.rs`: a block's products are exact; what is scaled is a matter of lanes.
//!
//! ```text
//!   A   256 × 1024, in pairs of half tiles, 16 rows × 32 codes, one below the other; 32 rows of a block: 1 KB
//!       a line of scales (and one of scales × sums) for each 16 rows of a block
//!   W   two panels at a time, decoded to codes with sign: 8 × 64 bytes a block; a line of scales (and one of minima) each
//!       with a scale each 16 a block is two half tiles, each 0 where the other's steps are
//!
//!   for each 32 rows, for each block
//!       the unit:     2 × 2 products                              ──► 32 × 32 integers
//!       meanwhile:    those of the block before × scales          ──► + their chains; after eight blocks + the sums
//! ```
//!
//! **Registers.**  Four tiles of sums, two of A, two of B; four lines of scales and minima, one of products, one of scales.
//!
//! **Cost.**  65,536 operations in the 64 cycles of four instructions; meanwhile a conversion, a product and an FMA of 64
//! lines, 96 cycles on two ports: the chains bind. W is decoded and read once for 256 rows.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

#![allow(clippy::needless_range_loop)] // panels and parts are indices into several arrays at once

use super::codes::{BLOCK, Codes, PackedBlocks, Panel as Coded, of_block};
use super::left::{More, codes};
use super::scaled::{CHAIN, GemmQ8, Quantized};
use super::scaling::Scaling;
use crate::gemm::epilogue::{Begin, FinishProducts, Panels, Target};
use crate::pieces::strips;
use crate::simd::Simd;
use crate::simd::tiles::{Half, Halves, Link, NO_PRODUCTS, Products, TALL, WIDE};
use crate::{Kernel, LANES, Line};

/// Rows that are prepared at once.
const ROWS: usize = 256;
/// k that is prepared at once, whole blocks of 256.
const DEPTH: usize = 1024;

/// Lines of half a tile.
const HALF: usize = LANES / 2;
/// Half tiles of 32 rows; their scales.
type Pair = [Half; 2];
type Lines = [Line; 2];

/// Lines of scratch.
pub(super) const fn scratch_len(m: usize, k: usize, more: More) -> usize {
    let (rows, depth) = (if m < ROWS { m } else { ROWS }, if k < DEPTH { k } else { DEPTH });
    let parts = if matches!(more, More::Halves) { 2 } else { 1 };
    let of_a = 2 * (HALF + if matches!(more, More::Sums) { 2 } else { 1 });
    let of_w = WIDE * (parts * (HALF + 1) + 1);
    depth.div_ceil(BLOCK) * (rows.div_ceil(TALL) * of_a + of_w)
}

/// The product.
pub(super) struct Scaled<'a, 's, C: Codes, T> {
    pub job: GemmQ8<'a, C>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

impl<C: Codes, T: Halves> Kernel for Scaled<'_, '_, C, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scaled { job: GemmQ8 { a, w, mut c, accumulate, epilogue }, scratch, mut tiles } = self;
        let (m, k, n) = (c.rows(), a.codes.cols(), c.cols());
        for (rows, ks) in strips((m, ROWS), (k, DEPTH)) {
            let (tall, depth) = (rows.len().div_ceil(TALL), ks.len() / BLOCK);
            let (pairs, rest) = scratch.split_at_mut(tall * depth * 2 * HALF);
            let (scales, rest) = rest.split_at_mut(tall * depth * 2);
            let (sums, room) = rest.split_at_mut(if C::Scales::MINIMA { tall * depth * 2 } else { 0 });
            let (pairs, scales): (&mut [Pair], &mut [Lines]) =
                (pairs.as_chunks_mut().0.as_chunks_mut().0, scales.as_chunks_mut().0);
            let sums: &mut [Lines] = sums.as_chunks_mut().0;
            s.outline(Prepare { a: a.sub(rows.clone(), ks.clone()), depth, pairs, scales, sums });
            let left = Left { pairs, scales, sums, depth };
            let (epilogue, mut part) = (epilogue.sub(rows.clone(), 0..n), c.reborrow().sub(rows, 0..n));
            let last = (ks.end == k).then_some(&epilogue);
            let target = Target { c: &mut part, base: accumulate.after(ks.start), last };
            s.outline(Passes { left, w: &w, first: ks.start / BLOCK, room, target, tiles: &mut tiles });
        }
    }
}

/// Rows of A as half tiles, block after block of 32 rows, then of the next; 0 past the last row. Of each block the scales of
/// its rows; where there is room scale × Σ of its codes.
struct Prepare<'a, 'o> {
    a: Quantized<'a>,
    depth: usize,
    pairs: &'o mut [Pair],
    scales: &'o mut [Lines],
    sums: &'o mut [Lines],
}

impl Kernel for Prepare<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Prepare { a: Quantized { codes: of_a, scales: of_rows }, depth, pairs, scales, sums } = self;
        let mut sums = sums.iter_mut();
        for (at, (pair, scales)) in pairs.iter_mut().zip(scales).enumerate() {
            let (r, b) = (at / depth * TALL, at % depth);
            let rows = Line::elements_mut(pair.as_flattened_mut()).as_chunks_mut::<BLOCK>().0;
            let scales = Line::floats_mut(scales);
            let mut of_sums = sums.next().map(|lines| Line::floats_mut(lines));
            for (i, (row, scale)) in rows.iter_mut().zip(scales).enumerate() {
                let there = r + i < of_a.rows();
                *row = if there { codes(of_a, r + i, b * BLOCK) } else { [0; BLOCK] };
                *scale = if there { of_rows.get(r + i, b) } else { 0.0 };
                if let Some(sums) = &mut of_sums {
                    let whole: i32 = row.iter().map(|&x| i32::from(x as i8)).sum();
                    sums[i] = *scale * whole as f32;
                }
            }
        }
    }
}

/// Prepared rows.
#[derive(Clone, Copy)]
struct Left<'f> {
    pairs: &'f [Pair],
    scales: &'f [Lines],
    /// Scales × sums, where the weight has minima.
    sums: &'f [Lines],
    /// Blocks.
    depth: usize,
}

/// All panels past the prepared rows.
struct Passes<'f, 't, 'a, C: Codes, T> {
    left: Left<'f>,
    w: &'f PackedBlocks<'a, C>,
    /// The first block of k.
    first: usize,
    /// For two panels, decoded.
    room: &'f mut [Line],
    target: Target<'t, 'a>,
    tiles: &'f mut T,
}

impl<C: Codes, T: Halves> Kernel for Passes<'_, '_, '_, C, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Passes { left, w, first, room, mut target, tiles } = self;
        let (depth, parts) = (left.depth, C::Scales::PARTS);
        let (rows, panels) = (target.c.rows(), target.c.cols().div_ceil(LANES));
        let (halves, rest) = room.split_at_mut(WIDE * parts * depth * HALF);
        let (columns, minima) = rest.split_at_mut(WIDE * parts * depth);
        let (columns, minima): (&mut [Lines], &mut [Lines]) =
            (columns.as_chunks_mut().0, minima[..WIDE * depth].as_chunks_mut().0);
        let mut open = NO_PRODUCTS;
        for p in (0..panels).step_by(WIDE) {
            // Past the last panel the last again: those sums go nowhere.
            let beside = [p, (p + 1).min(panels - 1)].map(|p| w.panel(p, &(first..first + depth)));
            for (panel, room) in
                beside.into_iter().zip(halves.chunks_exact_mut((parts * depth * HALF).max(1)))
            {
                s.outline(Decode::<C> { blocks: panel.0, room });
            }
            s.outline(Columns::<C> { beside, columns: &mut *columns, minima: &mut *minima });
            let (one, two) = halves.split_at(parts * depth * HALF);
            let right = Right {
                halves: [one.as_chunks().0, two.as_chunks().0],
                columns: &*columns,
                minima: &*minima,
            };
            for r in (0..rows).step_by(TALL) {
                let (at, panels, mut sums) = ((r, p * LANES), Panels::beside(WIDE), NO_PRODUCTS);
                s.outline(Begin { target: &target, at, panels, sums: sums.as_flattened_mut() });
                chains::<C>(tiles, (left.of_rows(r), &right), &mut open, &mut sums);
                s.outline(FinishProducts { target: &mut target, at, sums: &sums });
            }
        }
    }
}

impl<'f> Left<'f> {
    /// Those of `TALL` rows from `r` on.
    fn of_rows(&self, r: usize) -> Left<'f> {
        let here = r / TALL * self.depth..(r / TALL + 1) * self.depth;
        let sums = if self.sums.is_empty() { self.sums } else { &self.sums[here.clone()] };
        Left { pairs: &self.pairs[here.clone()], scales: &self.scales[here], sums, depth: self.depth }
    }
}

/// Two panels.
struct Right<'f> {
    /// Of all blocks the first part, then of all the second.
    halves: [&'f [Half]; WIDE],
    /// Of each block its parts.
    columns: &'f [Lines],
    minima: &'f [Lines],
}

/// The chains of `TALL` rows and two panels, each of eight blocks, to their sums. `chains` begin and end with +0.
fn chains<C: Codes>(
    tiles: &mut impl Halves,
    (left, right): (Left<'_>, &Right<'_>),
    chains: &mut Products,
    sums: &mut Products,
) {
    let parts = C::Scales::PARTS;
    let [mut one, mut two] = [NO_PRODUCTS; 2];
    let (mut now, mut before) = (&mut one, &mut two);
    let steps = left.depth * parts;
    for step in 0..steps {
        let (b, part) = (step / parts, step % parts);
        let halves = right.halves.map(|halves| &halves[part * left.depth + b]);
        let link = step.checked_sub(1).map(|step| link::<C>((&left, right), step, before, (chains, sums)));
        tiles.multiply(&left.pairs[b], halves, now, link);
        core::mem::swap(&mut now, &mut before);
    }
    if let Some(last) = steps.checked_sub(1) {
        tiles.link(link::<C>((&left, right), last, before, (chains, sums)));
    }
}

/// What becomes of the products of `step`, a part of a block.
fn link<'g, C: Codes>(
    (left, right): (&'g Left<'_>, &'g Right<'_>),
    step: usize,
    done: &'g Products,
    (chains, sums): (&'g mut Products, &'g mut Products),
) -> Link<'g> {
    let (b, parts) = (step / C::Scales::PARTS, C::Scales::PARTS);
    let last = step % parts == parts - 1 && ((b + 1).is_multiple_of(CHAIN) || b + 1 == left.depth);
    Link {
        done,
        rows: &left.scales[b],
        columns: &right.columns[step],
        minima: C::Scales::MINIMA.then(|| (&left.sums[b], &right.minima[b])),
        chains,
        sums: last.then_some(sums),
    }
}

/// Scales of the columns of two panels, and what minima stand for, side by side.
struct Columns<'f, C: Codes> {
    beside: [Coded<'f, C>; WIDE],
    columns: &'f mut [Lines],
    minima: &'f mut [Lines],
}

impl<C: Codes> Kernel for Columns<'_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Columns { beside, columns, minima } = self;
        let parts = C::Scales::PARTS;
        for (b, columns) in columns.chunks_exact_mut(parts).enumerate() {
            for p in 0..WIDE {
                let (of_w, at) = of_block(beside[p].1, b);
                let shared = of_w.shared(s);
                for part in 0..parts {
                    s.store(&mut columns[part][p], of_w.scales(s, shared, at + part));
                }
                if C::Scales::MINIMA {
                    s.store(&mut minima[b][p], of_w.minima(s, shared, at));
                }
            }
        }
    }
}

/// A byte in each of a lane's four.
const fn of_each(byte: i32) -> i32 {
    u32::from_ne_bytes([byte as u8; 4]) as i32
}

/// Blocks of a panel as codes with sign; where blocks have parts, all of the first and then all of the second, each with 0
/// for the other.
struct Decode<'f, C: Codes> {
    blocks: &'f [C::Block],
    room: &'f mut [Line],
}

impl<C: Codes> Kernel for Decode<'_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Decode { blocks, room } = self;
        // A byte x − ZERO is x + (128 − ZERO) with its highest bit turned: what is added carries into no other byte.
        let (more, sign) = (s.splat_i(of_each(128 - C::ZERO)), s.splat_i(of_each(128)));
        for (part, room) in room.chunks_mut(HALF * blocks.len().max(1)).enumerate() {
            for (block, quads) in blocks.iter().zip(room.as_chunks_mut::<HALF>().0) {
                let pairs = [
                    C::pair::<S, 0>(s, block),
                    C::pair::<S, 1>(s, block),
                    C::pair::<S, 2>(s, block),
                    C::pair::<S, 3>(s, block),
                ];
                for j in 0..4 {
                    for i in 0..2 {
                        let codes = s.xor_i(s.add_i(pairs[j][i], more), sign);
                        let here = j * C::Scales::PARTS / 4 == part;
                        let codes = if here { codes } else { s.splat_i(0) };
                        s.store(&mut quads[2 * j + i], s.of_bits(codes));
                    }
                }
            }
        }
    }
}
