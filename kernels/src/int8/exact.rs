//! # C = A · B of integers
//!
//! **Math.**  c_ij ← c_ij⁰ + Σ_k a_ik · b_kj,  c⁰ = 0 or the prior C; a and b in −128..=127, c an `i32`.
//!
//! **Law.**   Clause 7: exact, so every order is the same. (Past k = 131,071 a sum can leave `i32`: it wraps, everywhere
//! alike.)
//!
//! ```text
//!   96 rows of A, 2,048 of k      once for all columns: words, zeros to the end of a block, −128 Σ a (`left.rs`)
//!     each 2 panels of B          64 KiB, from memory the first time, then from L1 and L2
//!       each 12 rows              12 × 2 sums in registers, 4 steps of k an instruction:
//!
//!              b₀: 4 × 16 codes    b₁                      Σ a·(b + 128) − 128 Σ a  =  Σ a·b
//!       a₀: 4   s₀₀                s₀₁
//!       ⋮       ⋮                  ⋮
//! ```
//!
//! **Registers.**  VNNI 12×2: 24 sums, 2 of B, a quad · AVX-512 without it: 24, 4, a quad, a product · AVX2 4×1: 8 ymm, 4,
//! a quad, products; with AVX-VNNI 8, 2, a quad · NEON 2×1: 16 q, 4, a quad, products; with DotProd 4×1: 16, 4, a quad;
//! with I8MM 4×1: 16, 8, two quads of two rows. Where there is a matrix unit: `int8/tiles.rs`.
//!
//! **Cost.**  2·m·n·k operations, a byte of B a weight. Products bind: `vpdpbusd` does 128 operations a cycle on Zen 4
//! (473 GOP/s at 3.7 GHz; 75–80 % of it are reached), `vpmaddwd` and the addition that follows half as many or less. AMX:
//! 1,550–2,350 GOP/s from 128 rows on, of some 6,000 from registers: A comes from L2, B and C from farther away.
//! With one row B is read from memory, and that binds.
//!
//! **Error.**  None.  **Reference.**  Intel SDM, VPDPBUSD; Arm ARM, SDOT, SMMLA, SMULL, SADALP.  **Next.**  `scaled.rs`

#![allow(clippy::needless_range_loop)] // rows, panels and lanes are indices into several arrays at once

use super::codes::{BLOCK, Block8, Codes, PackedI8, Quad};
use super::forms::Eight;
use super::left::{Left, More, Prepare, ROWS, depth, scratch_len};
use super::{tile, tiles};
use crate::gemm::Accumulate;
use crate::pieces::{self, Cut, Pieces, strips};
use crate::simd::Simd;
use crate::simd::quads::{QuadKernel, Quads};
use crate::simd::tiles::Tiles;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, LANES, Line};

/// C (m, n) from A (m, k) and B (k, n), to be computed whole or in pieces.
///
/// ```
/// use samebits_kernels::int8::{Codes, Eight, GemmI8, PackedI8, blocks_len};
/// use samebits_kernels::{Cpu, Line, gemm::Accumulate, view::{MatMut, MatRef}};
/// let mut blocks = vec![Eight::EMPTY; blocks_len(2, 3)];
/// let b = PackedI8::pack(MatRef::new(&[1i8, 2, 3, 4, 5, 6], 3, 2), &mut blocks);
/// let (a, mut c, mut scratch) = ([1i8, 10, 100], [0; 2], vec![Line::ZERO; GemmI8::scratch_len(1, 3, 2)]);
/// let (a, to) = (MatRef::new(&a, 1, 3), MatMut::new(&mut c, 1, 2));
/// GemmI8 { a, b, c: to, accumulate: Accumulate::Overwrite }.run(Cpu::detect(), &mut scratch);
/// assert_eq!(c, [531, 642]);
/// ```
pub struct GemmI8<'a> {
    /// A, (m, k), any strides.
    pub a: MatRef<'a, i8>,
    /// B, (k, n), packed once.
    pub b: PackedI8<'a>,
    /// C, (m, n), any strides.
    pub c: MatMut<'a, i32>,
    /// Whether C is added to.
    pub accumulate: Accumulate,
}

impl GemmI8<'_> {
    /// Lines of scratch that [`GemmI8::run`] needs, for the whole or for any piece of it.
    pub const fn scratch_len(m: usize, k: usize, n: usize) -> usize {
        scratch_len(m, k, More::Nothing, tiles::scratch_len(m, k, n))
    }

    /// Computes the product on this thread.
    ///
    /// # Panics
    /// Where the shapes do not belong together, or `scratch` is shorter than [`GemmI8::scratch_len`].
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        self.check_with(scratch, self.a.rows());
        let unit = if self.a.rows() < tiles::LEAST_ROWS { None } else { cpu.tiles_codes() };
        match unit {
            Some(tiles) => cpu.run(tiles::Exact { job: self, scratch, tiles }),
            None => cpu.run_quads(Whole { job: self, scratch }),
        }
    }

    /// Computes the product on this thread with a matrix unit, as [`GemmI8::run`] does where the processor has one and
    /// there are eight rows; with [`Plain`](crate::simd::tiles::Plain) what the unit would do.
    ///
    /// # Panics
    /// As [`GemmI8::run`], with the scratch of at least eight rows.
    pub fn run_on_tiles<T: Tiles<Quad>>(self, cpu: Cpu, tiles: T, scratch: &mut [Line]) {
        self.check_with(scratch, self.a.rows().max(tiles::LEAST_ROWS));
        cpu.run(tiles::Exact { job: self, scratch, tiles });
    }

    /// The same product as pieces, each with its own part of C.
    ///
    /// # Panics
    /// Where the shapes do not belong together.
    pub fn pieces(self) -> Pieces<Self> {
        self.check();
        Pieces::for_units(self)
    }

    fn check_with(&self, scratch: &[Line], rows: usize) {
        self.check();
        let need = GemmI8::scratch_len(rows, self.a.cols(), self.c.cols());
        assert!(scratch.len() >= need, "gemm_i8: {} lines of scratch, {need} needed", scratch.len());
    }

    fn check(&self) {
        let (m, k) = (self.a.rows(), self.a.cols());
        let (bk, n) = self.b.shape();
        let (cm, cn) = (self.c.rows(), self.c.cols());
        assert!(k == bk && m == cm && n == cn, "gemm_i8: A ({m}, {k}) · B ({bk}, {n}) → C ({cm}, {cn})");
    }
}

impl Cut for GemmI8<'_> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.c.rows(), self.c.cols(), self.a.cols())
    }
    fn split_rows(self, at: usize) -> (Self, Self) {
        let (m, k) = (self.a.rows(), self.a.cols());
        let (upper, lower) = self.c.split_rows(at);
        let part = |rows, c| GemmI8 { a: self.a.sub(rows, 0..k), b: self.b, c, accumulate: self.accumulate };
        (part(0..at, upper), part(at..m, lower))
    }
    fn split_cols(self, at: usize) -> (Self, Self) {
        let n = self.c.cols();
        let (left, right) = self.c.split_cols(at);
        let part = |cols, c| GemmI8 { a: self.a, b: self.b.columns(cols), c, accumulate: self.accumulate };
        (part(0..at, left), part(at..n, right))
    }
}

struct Whole<'a, 's> {
    job: GemmI8<'a>,
    scratch: &'s mut [Line],
}

impl QuadKernel for Whole<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) {
        let Whole { job: GemmI8 { a, b, mut c, accumulate }, scratch } = self;
        let (m, k, n) = (a.rows(), a.cols(), c.cols());
        for (rows, ks) in strips((m, ROWS), (k, depth(m))) {
            let a = a.sub(rows.clone(), ks.clone());
            let more = More::Nothing;
            q.outline(s, Prepare { a, scales: None, zero: Eight::ZERO, more, room: scratch });
            let left = Left::new(scratch, rows.len(), ks.len());
            let (c, base) = (c.reborrow().sub(rows, 0..n), accumulate.after(ks.start));
            q.outline(s, Passes { left, b: &b, first: ks.start / BLOCK, c, base });
        }
    }
}

/// All panels past the prepared rows.
struct Passes<'f, 'a> {
    left: Left<'f>,
    b: &'f PackedI8<'a>,
    /// The first block of k.
    first: usize,
    c: MatMut<'f, i32>,
    base: Accumulate,
}

impl QuadKernel for Passes<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(mut self, s: S, q: Q) {
        let (m, panels) = (self.c.rows(), self.c.cols().div_ceil(LANES));
        let np = if m == 1 { Q::TILE.2 } else { Q::TILE.1 };
        for (r, p, tile) in pieces::tiles((m, |left| tile::rows(Q::TILE.0, left)), (panels, np)) {
            match tile {
                (12, 2) => q.outline(s, self.tile::<12, 2>(r, p)),
                (12, _) => q.outline(s, self.tile::<12, 1>(r, p)),
                (4, 2) => q.outline(s, self.tile::<4, 2>(r, p)),
                (4, _) => q.outline(s, self.tile::<4, 1>(r, p)),
                (2, _) => q.outline(s, self.tile::<2, 1>(r, p)),
                (_, 4) => q.outline(s, self.tile::<1, 4>(r, p)),
                (_, 2) => q.outline(s, self.tile::<1, 2>(r, p)),
                _ => q.outline(s, self.tile::<1, 1>(r, p)),
            }
        }
    }
}

impl Passes<'_, '_> {
    /// The tile at row `r` and panel `p`.
    #[inline(always)]
    fn tile<const MR: usize, const NP: usize>(&mut self, r: usize, p: usize) -> Tile<'_, MR, NP> {
        let blocks = self.first..self.first + self.left.blocks();
        let mut panels = [self.b.panel(p, &blocks); NP];
        for i in 1..NP {
            panels[i] = self.b.panel(p + i, &blocks);
        }
        Tile { left: self.left, panels, c: self.c.reborrow(), at: (r, p * LANES), base: self.base }
    }
}

/// MR rows and NP panels, in registers over all blocks of k.
struct Tile<'f, const MR: usize, const NP: usize> {
    left: Left<'f>,
    panels: [&'f [Block8]; NP],
    c: MatMut<'f, i32>,
    at: (usize, usize),
    base: Accumulate,
}

impl<const MR: usize, const NP: usize> QuadKernel for Tile<'_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) {
        let Tile { left, panels, mut c, at: (row, col), base } = self;
        let rows = tile::rows_of::<MR>(&left, row, More::Nothing);
        let mut sums = [[q.start(s, 0); NP]; MR];
        for r in 0..MR {
            sums[r] = [q.start(s, rows[r].starts.iter().fold(0, |sum: i32, &x| sum.wrapping_add(x))); NP];
        }
        if const { tile::by_pairs::<S, Q, MR>() } {
            sums = tile::paired::<S, Q, MR, NP>((s, q), sums);
        }
        // Its place in C comes while it computes.
        for r in 0..MR.min(c.rows() - row) {
            if let Some(place) = c.row(row + r).and_then(|row| row.get(col..)) {
                for p in 0..NP {
                    s.prefetch_far(place.as_ptr().wrapping_add(p * LANES));
                }
            }
        }
        // The lengths are known to the compiler: no check inside.
        let panels = panels.map(|panel| &panel[..left.blocks()]);
        for b in 0..left.blocks() {
            let mut blocks = [&panels[0][b]; NP];
            for p in 1..NP {
                blocks[p] = &panels[p][b];
            }
            sums = tile::part::<S, Q, Eight, MR, NP, 0>((s, q), (&rows, b), blocks, sums);
        }
        if const { tile::by_pairs::<S, Q, MR>() } {
            sums = tile::unpaired::<S, Q, MR, NP>((s, q), sums);
        }
        for r in 0..MR.min(c.rows() - row) {
            for p in 0..NP {
                let from = col + p * LANES;
                let cols = from..(from + LANES).min(c.cols());
                let c = c.reborrow().sub(row + r..row + r + 1, cols);
                put(s, c, q.total(s, sums[r][p]), base);
            }
        }
    }
}

/// Sums to their place in C (1, at most 16).
#[inline(always)]
pub(super) fn put<S: Simd>(s: S, mut c: MatMut<'_, i32>, mut sums: S::I32, base: Accumulate) {
    if let Some(place) = c.row(0).and_then(|row| row.first_chunk_mut::<LANES>()) {
        if base == Accumulate::Add {
            sums = s.add_i(s.load_i(place), sums);
        }
        return s.store_i(place, sums);
    }
    let mut line = [0; LANES];
    s.store_i(&mut line, sums);
    for i in 0..c.cols() {
        let place = c.at(0, i);
        let before = if base == Accumulate::Add { *place } else { 0 };
        *place = before.wrapping_add(line[i]);
    }
}
