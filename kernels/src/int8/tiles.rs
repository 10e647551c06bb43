//! The same products on a matrix unit, sixteen rows and columns at a time.
//!
//! **Law.**   Those of `exact.rs` and `scaled.rs`: what a unit adds is exact; what is scaled is a matter of lanes.
//!
//! ```text
//!   exact    A, 128 × 1024   in stripes of tiles: 16 rows × 64 codes │ the next 64 │ …          128 KB, in L2
//!            B               panels as they were packed, codes + 128: two blocks are 1,024 bytes in a row: a tile
//!            32 × 32 sums    begin with −128 Σ a, all tiles of k are added to them (2 × 2 at once), then they go to C
//!
//!   scaled   A               in stripes of half tiles: 16 rows × 32 codes, a block
//!            W               two panels at a time, decoded to codes with sign: 8 × 64 bytes a block
//!            32 × 32 sums    of each block, 8 blocks together: 32 KB; then the law's chain over them
//!                            with a scale each 16 a block is two half tiles, each 0 where the other's steps are
//! ```
//!
//! **Registers.**  Four tiles of sums, two of A, two of B. The chain: a sum, 8 lines of scales.
//!
//! **Cost.**  2·m·n·k operations. Exact: 32,768 in the 16 cycles of an instruction, 4 KB read for four of those. Scaled:
//! 16,384, and a conversion, a product and an FMA for each 16 sums, 24 cycles on two ports: the chain binds. B is read
//! once for 128 rows.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

#![allow(clippy::needless_range_loop)] // rows, panels and blocks are indices into several arrays at once

use super::codes::{BLOCK, Codes, PackedBlocks, PackedI8, Panel as Coded, Quad, of_block};
use super::exact::{GemmI8, put};
use super::left::{More, codes};
use super::scaled::{CHAIN, GemmQ8, Quantized};
use super::scaling::Scaling;
use crate::gemm::{
    Accumulate,
    epilogue::{Begin, Finish, Panels, Target},
};
use crate::pieces::strips;
use crate::simd::Simd;
use crate::simd::tiles::{CODES, Half, Halves, NOTHING, Panel, Sums, TALL, Tile, Tiles, WIDE, add, two};
use crate::view::{MatMut, MatRef};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// Rows that are prepared at once.
const ROWS: usize = 128;
/// k that is prepared at once, whole blocks of 256.
const DEPTH: usize = 1024;

/// Lines of half a tile.
const HALF: usize = LANES / 2;

/// Fewer rows than these leave most of a tile empty, and the memory of B binds.
pub(super) const LEAST_ROWS: usize = 8;

/// Lines of scratch, for either product: A in tiles with a line of scales a half (and one of sums), a line of starts a
/// stripe; two panels.
pub(super) const fn scratch_len(m: usize, k: usize, more: More) -> usize {
    let (rows, depth) = (if m < ROWS { m } else { ROWS }, if k < DEPTH { k } else { DEPTH });
    let halves = 2 * depth.div_ceil(CODES);
    let (of_a, of_w) = match more {
        More::Nothing => (HALF + 1, HALF),
        More::Sums => (HALF + 2, HALF),
        More::Halves => (HALF + 1, 2 * HALF),
    };
    rows.div_ceil(LANES) * (halves * of_a + 1) + WIDE * halves * of_w
}

/// The exact product.
pub(super) struct Exact<'a, 's, T> {
    pub job: GemmI8<'a>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

impl<T: Tiles<Quad>> Kernel for Exact<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Exact { job: GemmI8 { a, b, mut c, accumulate }, scratch, mut tiles } = self;
        let (m, k, n) = (a.rows(), a.cols(), c.cols());
        for (rows, ks) in strips((m, ROWS), (k, DEPTH)) {
            let (stripes, depth) = (rows.len().div_ceil(LANES), ks.len().div_ceil(CODES));
            let (room, rest) = scratch.split_at_mut(stripes * depth * LANES);
            let a = a.sub(rows.clone(), ks.clone());
            s.outline(Prepare::<CODES> { a, room: Line::elements_mut(room) });
            let starts = &mut Line::elements_mut(rest)[..rows.len()];
            s.outline(Starts { a, room: starts });
            let (first, stripes) = (ks.start / BLOCK, room.as_chunks().0);
            let (c, base) = (c.reborrow().sub(rows, 0..n), accumulate.after(ks.start));
            let left = Stripes { stripes, depth, of_rows: &*starts };
            s.outline(ExactPasses {
                left,
                b: &b,
                blocks: first..first + ks.len().div_ceil(BLOCK),
                c,
                base,
                tiles: &mut tiles,
            });
        }
    }
}

/// Rows of A as stripes of tiles of sixteen rows of `DEPTH` codes; 0 past the last row and the last step.
struct Prepare<'a, 'o, const DEPTH: usize> {
    a: MatRef<'a, i8>,
    room: &'o mut [u8],
}

impl<const DEPTH: usize> Kernel for Prepare<'_, '_, DEPTH> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Prepare { a, room } = self;
        let depth = a.cols().div_ceil(DEPTH);
        let tiles = room.as_chunks_mut::<DEPTH>().0.chunks_exact_mut(LANES);
        for (at, tile) in tiles.enumerate() {
            let (r, k) = (at / depth * LANES, at % depth * DEPTH);
            for (row, r) in tile.iter_mut().zip(r..) {
                *row = if r < a.rows() { codes(a, r, k) } else { [0; DEPTH] };
            }
        }
    }
}

/// What the sums of each row begin with: codes of B are 128 too many.
struct Starts<'a, 'o> {
    a: MatRef<'a, i8>,
    room: &'o mut [i32],
}

impl Kernel for Starts<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Starts { a, room } = self;
        for (r, start) in room.iter_mut().enumerate() {
            let mut sum = 0;
            for k in (0..a.cols()).step_by(CODES) {
                sum += codes::<CODES>(a, r, k).iter().map(|&x| i32::from(x as i8)).sum::<i32>();
            }
            *start = -128 * sum;
        }
    }
}

/// Prepared rows.
#[derive(Clone, Copy)]
struct Stripes<'f, T, R> {
    stripes: &'f [T],
    /// Of each stripe.
    depth: usize,
    /// What rows have besides.
    of_rows: &'f [R],
}

/// All panels past the prepared rows.
struct ExactPasses<'f, 'a, T> {
    left: Stripes<'f, Tile, i32>,
    b: &'f PackedI8<'a>,
    blocks: Range<usize>,
    c: MatMut<'f, i32>,
    base: Accumulate,
    tiles: &'f mut T,
}

impl<T: Tiles<Quad>> Kernel for ExactPasses<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ExactPasses { left: Stripes { stripes, depth, of_rows }, b, blocks, mut c, base, tiles } = self;
        let (rows, cols) = (c.rows(), c.cols());
        let panels = cols.div_ceil(LANES);
        for p in (0..panels).step_by(WIDE) {
            // Past the last panel and the last stripe the last again: those sums go nowhere.
            let of_b = [p, (p + 1).min(panels - 1)]
                .map(|p| Panel::new(Line::of_quads(b.panel(p, &blocks).as_flattened())));
            for r in (0..rows).step_by(TALL) {
                let mut sums = [NOTHING; 4];
                for (i, &start) in of_rows[r..].iter().take(TALL).enumerate() {
                    for p in 0..WIDE {
                        s.store(&mut sums[i / LANES * WIDE + p][i % LANES], s.of_bits(s.splat_i(start)));
                    }
                }
                add(tiles, (two(stripes, depth, (r, rows)), &of_b), 0..depth, &mut sums);
                for i in 0..TALL.min(rows - r) {
                    for q in 0..WIDE.min(panels - p) {
                        let from = (p + q) * LANES;
                        let c = c.reborrow().sub(r + i..r + i + 1, from..(from + LANES).min(cols));
                        put(s, c, s.bits(s.load(&sums[i / LANES * WIDE + q][i % LANES])), base);
                    }
                }
            }
        }
    }
}

/// The product with scales.
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
            let (stripes, depth) = (rows.len().div_ceil(LANES), ks.len() / BLOCK);
            let (halves, rest) = scratch.split_at_mut(stripes * depth * HALF);
            let (of_rows, rest) = rest.split_at_mut(stripes * depth);
            let with_sums = if C::Scales::MINIMA { stripes * depth } else { 0 };
            let (sums, room) = rest.split_at_mut(with_sums);
            let a = a.sub(rows.clone(), ks.clone());
            s.outline(Prepare::<BLOCK> { a: a.codes, room: Line::elements_mut(halves) });
            s.outline(Scales { a, room: of_rows, sums });
            let left = Stripes { stripes: halves.as_chunks().0, depth, of_rows: &*of_rows };
            let left = (left, &*sums);
            let (epilogue, mut part) = (epilogue.sub(rows.clone(), 0..n), c.reborrow().sub(rows, 0..n));
            let last = (ks.end == k).then_some(&epilogue);
            let target = Target { c: &mut part, base: accumulate.after(ks.start), last };
            s.outline(ScaledPasses { left, w: &w, first: ks.start / BLOCK, room, target, tiles: &mut tiles });
        }
    }
}

/// The scales of a block's sixteen rows side by side; 0 past the last row. The same of scale × Σ of its codes, where there
/// is room.
struct Scales<'a, 'o> {
    a: Quantized<'a>,
    room: &'o mut [Line],
    sums: &'o mut [Line],
}

impl Kernel for Scales<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Scales { a: Quantized { codes: of_a, scales }, room, sums } = self;
        for (at, line) in room.iter_mut().enumerate() {
            let (r, b) = (at / scales.cols() * LANES, at % scales.cols());
            for (scale, r) in line.iter_mut().zip(r..) {
                *scale = if r < scales.rows() { scales.get(r, b) } else { 0.0 };
            }
        }
        for (at, line) in sums.iter_mut().enumerate() {
            let (r, b) = (at / scales.cols() * LANES, at % scales.cols());
            *line = Line::ZERO;
            for (sum, r) in line.iter_mut().zip(r..scales.rows()) {
                let block = codes::<BLOCK>(of_a, r, b * BLOCK);
                let whole: i32 = block.iter().map(|&x| i32::from(x as i8)).sum();
                *sum = scales.get(r, b) * whole as f32;
            }
        }
    }
}

/// All panels past the prepared rows.
struct ScaledPasses<'f, 't, 'a, C: Codes, T> {
    /// Codes and scales; scales × sums, where the weight has minima.
    left: (Stripes<'f, Half, Line>, &'f [Line]),
    w: &'f PackedBlocks<'a, C>,
    /// The first block of k.
    first: usize,
    /// For two panels, decoded.
    room: &'f mut [Line],
    target: Target<'t, 'a>,
    tiles: &'f mut T,
}

impl<C: Codes, T: Halves> Kernel for ScaledPasses<'_, '_, '_, C, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ScaledPasses { left: (left, sums_of_a), w, first, room, mut target, tiles } = self;
        let Stripes { stripes, depth, of_rows } = left;
        let (rows, panels) = (target.c.rows(), target.c.cols().div_ceil(LANES));
        let mut products = [[NOTHING; 4]; 2 * CHAIN];
        for p in (0..panels).step_by(WIDE) {
            // Past the last panel and the last stripe the last again: those sums go nowhere.
            let beside = [p, (p + 1).min(panels - 1)].map(|p| w.panel(p, &(first..first + depth)));
            let parts = C::Scales::PARTS;
            let (one, two_) = room.split_at_mut(parts * depth * HALF);
            for (panel, room) in beside.into_iter().zip([&mut *one, &mut two_[..parts * depth * HALF]]) {
                s.outline(Decode::<C> { blocks: panel.0, room });
            }
            let right: [&[Half]; 2] = [one.as_chunks().0, two_.as_chunks().0];
            for r in (0..rows).step_by(TALL) {
                let (of_a, at) = (two(stripes, depth, (r, rows)), (r, p * LANES));
                let scales = two(of_rows, depth, (r, rows));
                let left = if C::Scales::MINIMA { two(sums_of_a, depth, (r, rows)) } else { [&[][..]; 2] };
                let mut sums = [[Line::ZERO; WIDE]; TALL];
                let panels = Panels::beside(WIDE);
                s.outline(Begin { target: &target, at, panels, sums: sums.as_flattened_mut() });
                for b in (0..depth).step_by(CHAIN) {
                    let blocks = b..(b + CHAIN).min(depth);
                    let products = &mut products[..parts * blocks.len()];
                    for (part, products) in products.chunks_mut(blocks.len()).enumerate() {
                        let of_w = right.map(|w| &w[part * depth..][blocks.clone()]);
                        tiles.multiply(of_a.map(|a| &a[blocks.clone()]), of_w, products);
                    }
                    s.outline(Chain::<C> {
                        products,
                        blocks,
                        left: (scales, left),
                        panels: beside,
                        sums: &mut sums,
                    });
                }
                s.outline(Finish { target: &mut target, at, panels, sums: sums.as_flattened() });
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

/// The law's chain over at most eight blocks, then to what was before it.
struct Chain<'f, C: Codes> {
    /// Of every block the first part, then of every block the second.
    products: &'f [Sums],
    /// Those of the stripes and panels.
    blocks: Range<usize>,
    /// Lines of both stripes, one a block: scales, and scales × sums.
    left: ([&'f [Line]; 2], [&'f [Line]; 2]),
    panels: [Coded<'f, C>; 2],
    sums: &'f mut [[Line; WIDE]; TALL],
}

impl<'f, C: Codes> Kernel for Chain<'f, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Chain { products, blocks, left: (scales, sums_of_a), panels, sums } = self;
        let (n, parts) = (blocks.len().min(CHAIN), C::Scales::PARTS);
        // As many of each, so that nothing is checked below.
        let products = [&products[..n], &products[(parts - 1) * n..][..n]];
        let of_rows = |lines: &'f [Line]| &lines[blocks.start..][..n];
        let scales = scales.map(of_rows);
        let sums_of_a = if C::Scales::MINIMA { sums_of_a.map(of_rows) } else { scales };
        for p in 0..WIDE {
            let (mut right, mut minima) = ([s.splat(0.0); 2 * CHAIN], [s.splat(0.0); CHAIN]);
            for t in 0..n {
                let (of_w, at) = of_block(panels[p].1, blocks.start + t);
                let shared = of_w.shared(s);
                for part in 0..parts {
                    right[t * parts + part] = of_w.scales(s, shared, at + part);
                }
                minima[t] = of_w.minima(s, shared, at);
            }
            for i in 0..TALL {
                let (stripe, row) = (i / LANES, i % LANES);
                let mut acc = s.splat(0.0);
                for t in 0..n {
                    let of_a = s.splat(scales[stripe][t][row]);
                    for part in 0..parts {
                        let product = &products[part][t][stripe * WIDE + p][row];
                        let product = s.of_i(s.bits(s.load(product)));
                        acc = s.fma(product, s.mul(of_a, right[t * parts + part]), acc);
                    }
                    if C::Scales::MINIMA {
                        let of_a = s.splat(sums_of_a[stripe][t][row]);
                        acc = s.fma(of_a, minima[t], acc);
                    }
                }
                let sum = s.add(s.load(&sums[i][p]), acc);
                s.store(&mut sums[i][p], sum);
            }
        }
    }
}
