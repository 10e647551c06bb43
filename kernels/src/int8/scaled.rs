//! # C = A · Wᵀ of codes in blocks with scales
//!
//! **Math.**  c_ij ← act(c_ij⁰ + Σ_k a_ik · w_jk + bias_j) + residual_ij.  A has codes and a scale each 32 of a row
//! ([`quantize_blocks`](super::quantize_blocks)), W (n, k) a scale each 32 or 16 of a column, and perhaps a minimum that
//! is added to each of 32: the formats of ggml from four bits on as files hold them, and whatever else [`Codes`] says.
//!
//! **Law.**   Clause 10. k in blocks of 32, and eight of those together as in clause 1:
//!
//! ```text
//!   p_t   = Σ a·w over block t of 32                 integers: exact, and exact as f32 (at most 2¹⁹)
//!   s_t   = round(d_a,t × d_w,t)                     one f32 product of the two scales
//!   block = fma(p_7, s_7, … fma(p_0, s_0, +0) …)     a chain over eight blocks, t ascending
//!   c     = … ((c⁰ + block₀) + block₁) …             block sums in order, to +0 or the prior C;
//!                                                    then + bias, the activation, + residual
//!
//!   scales each 16:  fma(p_t″, s_t″, fma(p_t′, s_t′, …))        two links a block
//!   minima m_t:      fma(g_t, m_t, fma(p_t, s_t, …))           g_t = round(d_a,t × Σa over block t), a matter of the row
//! ```
//! d_w and m_t of the K formats are a half × a whole number, exact. Nothing else rounds, and no shape, tile or thread
//! changes what is added to what: gemv = gemm.
//!
//! ```text
//!   a tile of 6 × 2:   8 × 4 steps: sums, i32    ──►    acc ← fma(sums as f32, d_a × d_w, acc)
//!                      12 words                         12 words; each 256 steps: sum ← sum + acc, acc ← 0
//! ```
//!
//! **Registers.**  VNNI 6×2: 12 sums, 12 acc, 2 of B, 2 of scales, a quad · AVX-512 without it 6×2, AVX2 4×1, NEON 2×1,
//! with DotProd or I8MM 4×1: acc in part from L1. Where there is a matrix unit: `int8/scaled_tiles.rs`.
//!
//! **Cost.**  2·m·n·k operations. 32 steps of 16 columns are 8 products of VNNI, a conversion, a product, an FMA: the two
//! ports that multiply allow 80 % of the rate of `exact.rs`; on AMX they bind: 400 GOP/s. A minimum is an FMA more, a scale each 16 all three of them.
//! With one row 1.06 bytes a weight are read (Q6_K 0.82, Q4_K 0.58, Q4_0 0.56): memory.
//!
//! **Error.**  ≤ (L·min(k, 256)/32 + ⌈k/256⌉ + 2) u Σ|a·w| against the codes' own values, u = 2⁻²⁴, L links a block: 1, or 2
//! with minima (|w| is then |q·d| + |m|) or a scale each 16. Against the floats that were quantised, each a is off by
//! (1/2 + 2⁻¹⁵) d_a at most.
//!
//! **Reference.**  ggml's `vec_dot_q8_0_q8_0` and `vec_dot_q4_0_q8_0`: the same p and s, but d_a rounded to a half and each
//! product rounded before it is added; the K formats there have one d_a for 256.  **Next.**  `codes.rs`, `forms.rs`

#![allow(clippy::needless_range_loop)] // rows and panels are indices into several arrays at once

use super::codes::{BLOCK, Codes, PackedBlocks, Panel, of_block};
use super::left::{Left, More, Prepare, ROWS, Row, depth, scratch_len};
use super::scaling::Scaling;
use super::{scaled_tiles, tile, tiles};
use crate::gemm::{
    Accumulate, Epilogue, K_BLOCK, add_to,
    epilogue::{Begin, Finish, Panels, Target},
};
use crate::pieces::{self, Cut, Pieces, strips};
use crate::simd::Simd;
use crate::simd::quads::{QuadKernel, Quads};
use crate::simd::tiles::Halves;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, LANES, Line};
use core::ops::Range;

/// Rows of codes with a scale each 32.
#[derive(Clone, Copy)]
pub struct Quantized<'a> {
    /// (m, k), k whole blocks of 32.
    pub codes: MatRef<'a, i8>,
    /// (m, k / 32)
    pub scales: MatRef<'a>,
}

impl<'a> Quantized<'a> {
    /// Some of the rows.
    ///
    /// # Panics
    /// Where there are not so many.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        self.sub(rows, 0..self.codes.cols())
    }

    /// Some rows, and some steps of them in whole blocks.
    pub(super) fn sub(&self, rows: Range<usize>, ks: Range<usize>) -> Self {
        let blocks = ks.start / BLOCK..ks.end / BLOCK;
        Quantized { codes: self.codes.sub(rows.clone(), ks), scales: self.scales.sub(rows, blocks) }
    }
}

/// C (m, n) from quantised rows (m, k) and a weight (n, k), to be computed whole or in pieces.
pub struct GemmQ8<'a, C: Codes> {
    /// (m, k)
    pub a: Quantized<'a>,
    /// (n, k), packed once.
    pub w: PackedBlocks<'a, C>,
    /// C, (m, n), any strides.
    pub c: MatMut<'a>,
    /// Whether C is added to.
    pub accumulate: Accumulate,
    /// What follows the sum.
    pub epilogue: Epilogue<'a>,
}

impl<'a, C: Codes> GemmQ8<'a, C> {
    /// `C = A · Wᵀ`, nothing else.
    pub fn new(a: Quantized<'a>, w: PackedBlocks<'a, C>, c: MatMut<'a>) -> Self {
        GemmQ8 { a, w, c, accumulate: Accumulate::Overwrite, epilogue: Epilogue::NONE }
    }

    /// Lines of scratch that [`GemmQ8::run`] needs, for the whole or for any piece of it.
    pub const fn scratch_len(m: usize, k: usize) -> usize {
        let more = More::of::<C>();
        scratch_len(m, k, more, scaled_tiles::scratch_len(m, k, more))
    }

    /// Computes the product on this thread.
    ///
    /// # Panics
    /// Where the shapes do not belong together, or `scratch` is shorter than [`GemmQ8::scratch_len`].
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        self.check_with(scratch, self.a.codes.rows());
        C::multiply(self, cpu, scratch);
    }

    /// Computes the product on this thread with a matrix unit, as [`GemmQ8::run`] does where the processor has one and
    /// there are eight rows; with [`Plain`](crate::simd::tiles::Plain) what the unit would do.
    ///
    /// # Panics
    /// As [`GemmQ8::run`], with the scratch of at least eight rows.
    pub fn run_on_tiles<T: Halves>(self, cpu: Cpu, tiles: T, scratch: &mut [Line]) {
        self.check_with(scratch, self.a.codes.rows().max(tiles::LEAST_ROWS));
        cpu.run(scaled_tiles::Scaled { job: self, scratch, tiles });
    }

    /// The same product as pieces, each with its own part of C.
    ///
    /// # Panics
    /// Where the shapes do not belong together.
    pub fn pieces(self) -> Pieces<Self> {
        self.check();
        Pieces::for_units(self)
    }

    /// The product as the one piece that it is.
    ///
    /// # Panics
    /// Where the shapes do not belong together.
    pub fn whole(self) -> Pieces<Self> {
        self.check();
        Pieces::of(self, (usize::MAX, usize::MAX))
    }

    fn check_with(&self, scratch: &[Line], rows: usize) {
        self.check();
        let need = GemmQ8::<C>::scratch_len(rows, self.a.codes.cols());
        assert!(scratch.len() >= need, "gemm_q8: {} lines of scratch, {need} needed", scratch.len());
    }

    fn check(&self) {
        let (m, k) = (self.a.codes.rows(), self.a.codes.cols());
        let (wk, n) = self.w.shape();
        let (cm, cn) = (self.c.rows(), self.c.cols());
        assert!(k == wk && m == cm && n == cn, "gemm_q8: A ({m}, {k}) · W ({n}, {wk}) → C ({cm}, {cn})");
        let scales = (self.a.scales.rows(), self.a.scales.cols());
        assert!(scales == (m, k / BLOCK), "gemm_q8: scales {scales:?} of A ({m}, {k})");
        self.epilogue.check(m, n);
    }
}

impl<C: Codes> Cut for GemmQ8<'_, C> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.c.rows(), self.c.cols(), self.a.codes.cols())
    }
    fn split_rows(self, at: usize) -> (Self, Self) {
        let (m, n) = (self.c.rows(), self.c.cols());
        let (upper, lower) = self.c.split_rows(at);
        let part = |rows: Range<usize>, c| GemmQ8 {
            a: self.a.rows(rows.clone()),
            w: self.w,
            c,
            accumulate: self.accumulate,
            epilogue: self.epilogue.sub(rows, 0..n),
        };
        (part(0..at, upper), part(at..m, lower))
    }
    fn split_cols(self, at: usize) -> (Self, Self) {
        let (m, n) = (self.c.rows(), self.c.cols());
        let (left, right) = self.c.split_cols(at);
        let part = |cols: Range<usize>, c| GemmQ8 {
            a: self.a,
            w: self.w.columns(cols.clone()),
            c,
            accumulate: self.accumulate,
            epilogue: self.epilogue.sub(0..m, cols),
        };
        (part(0..at, left), part(at..n, right))
    }
}

/// The body of [`Codes::multiply`].
#[inline]
pub(super) fn multiply<C: Codes>(job: GemmQ8<'_, C>, cpu: Cpu, scratch: &mut [Line]) {
    let unit = if job.c.rows() < tiles::LEAST_ROWS { None } else { cpu.half_tiles() };
    match unit {
        Some(tiles) => cpu.run(scaled_tiles::Scaled { job, scratch, tiles }),
        None => cpu.run_quads(Whole { job, scratch }),
    }
}

struct Whole<'a, 's, C: Codes> {
    job: GemmQ8<'a, C>,
    scratch: &'s mut [Line],
}

impl<C: Codes> QuadKernel for Whole<'_, '_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) {
        let Whole { job: GemmQ8 { a, w, mut c, accumulate, epilogue }, scratch } = self;
        let (m, k, n) = (c.rows(), a.codes.cols(), c.cols());
        for (rows, ks) in strips((m, ROWS), (k, depth(m))) {
            let Quantized { codes, scales } = a.sub(rows.clone(), ks.clone());
            let more = More::of::<C>();
            q.outline(s, Prepare { a: codes, scales: Some(scales), zero: C::ZERO, more, room: scratch });
            let left = Left::new(scratch, rows.len(), ks.len());
            let (epilogue, mut part) = (epilogue.sub(rows.clone(), 0..n), c.reborrow().sub(rows, 0..n));
            let last = (ks.end == k).then_some(&epilogue);
            let target = Target { c: &mut part, base: accumulate.after(ks.start), last };
            q.outline(s, Passes { left, w: &w, first: ks.start / BLOCK, target });
        }
    }
}

/// All panels past the prepared rows.
struct Passes<'f, 't, 'a, C: Codes> {
    left: Left<'f>,
    w: &'f PackedBlocks<'a, C>,
    /// The first block of k.
    first: usize,
    target: Target<'t, 'a>,
}

impl<C: Codes> QuadKernel for Passes<'_, '_, '_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(mut self, s: S, q: Q) {
        let (m, panels) = (self.target.c.rows(), self.target.c.cols().div_ceil(LANES));
        let np = if m == 1 { Q::SCALED.2 } else { Q::SCALED.1 };
        for (r, p, tile) in pieces::tiles((m, |left| tile::rows(Q::SCALED.0, left)), (panels, np)) {
            match tile {
                (6, 2) => q.outline(s, self.tile::<6, 2>(r, p)),
                (6, _) => q.outline(s, self.tile::<6, 1>(r, p)),
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

impl<'a, C: Codes> Passes<'_, '_, 'a, C> {
    /// The tile at row `r` and panel `p`.
    #[inline(always)]
    fn tile<const MR: usize, const NP: usize>(&mut self, r: usize, p: usize) -> Tile<'_, 'a, C, MR, NP> {
        let blocks = self.first..self.first + self.left.blocks();
        let mut panels = [self.w.panel(p, &blocks); NP];
        for i in 1..NP {
            panels[i] = self.w.panel(p + i, &blocks);
        }
        let Target { c, base, last } = &mut self.target;
        let target = Target { c, base: *base, last: *last };
        Tile { left: self.left, panels, target, at: (r, p * LANES) }
    }
}

/// MR rows and NP panels over all prepared blocks.
struct Tile<'f, 'a, C: Codes, const MR: usize, const NP: usize> {
    left: Left<'f>,
    panels: [Panel<'f, C>; NP],
    target: Target<'f, 'a>,
    at: (usize, usize),
}

/// Asks for the same block of the panels that come next, `n` blocks each: with one row memory binds, and panels side by
/// side are runs too short for prefetchers.
#[inline(always)]
fn ask_ahead<S: Simd, C: Codes, const NP: usize>(s: S, (panels, b): ([Panel<'_, C>; NP], usize), n: usize) {
    for (blocks, scales) in panels {
        let block = core::ptr::from_ref(&blocks[b]).wrapping_add(NP * n).cast::<u8>();
        for line in (0..size_of::<C::Block>()).step_by(64) {
            s.prefetch_far(block.wrapping_add(line));
        }
        // Of scales that eight blocks share a line each time.
        let (scales, at) = of_block(scales, b);
        let scales = core::ptr::from_ref(scales).wrapping_add(NP * n / C::Scales::BLOCKS).cast::<u8>();
        s.prefetch_far(scales.wrapping_add(64 * (at / C::Scales::PARTS)));
    }
}

/// Blocks of 32 in one of 256.
pub(super) const CHAIN: usize = K_BLOCK / BLOCK;

impl<C: Codes, const MR: usize, const NP: usize> QuadKernel for Tile<'_, '_, C, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd, Q: Quads<S>>(self, s: S, q: Q) {
        let Tile { left, panels, mut target, at } = self;
        let (rows, n) = (tile::rows_of::<MR>(&left, at.0, More::of::<C>()), left.blocks());
        // The lengths are known to the compiler: no check, and so no way out, inside the block.
        let panels = panels.map(|(blocks, scales)| (&blocks[..n], &scales[..n / C::Scales::BLOCKS]));
        let mut sums = [[Line::ZERO; NP]; MR];
        s.outline(Begin { target: &target, at, panels: Panels::beside(NP), sums: sums.as_flattened_mut() });
        for b0 in (0..n).step_by(CHAIN) {
            let mut acc = [[s.splat(0.0); NP]; MR];
            let mut shared = [of_block(panels[0].1, b0).0.shared(s); NP];
            for p in 1..NP {
                shared[p] = of_block(panels[p].1, b0).0.shared(s);
            }
            for b in b0..(b0 + CHAIN).min(n) {
                if MR == 1 {
                    ask_ahead::<S, C, NP>(s, (panels, b), n);
                }
                acc = link::<S, Q, C, MR, NP, 0>((s, q), (&rows, b), (panels, shared), acc);
                if const { C::Scales::PARTS == 2 } {
                    acc = link::<S, Q, C, MR, NP, 1>((s, q), (&rows, b), (panels, shared), acc);
                }
            }
            add_to(s, &mut sums, &acc);
        }
        s.outline(Finish { target: &mut target, at, panels: Panels::beside(NP), sums: sums.as_flattened() });
    }
}

/// What the parts of a panel share.
type Shared<C, S> = <<C as Codes>::Scales as Scaling>::Shared<S>;

/// A link of the chain: `acc` and part PART of block `b`.
#[inline(always)]
fn link<S: Simd, Q: Quads<S>, C: Codes, const MR: usize, const NP: usize, const PART: usize>(
    (s, q): (S, Q),
    (rows, b): (&[Row<'_>; MR], usize),
    (panels, shared): ([Panel<'_, C>; NP], [Shared<C, S>; NP]),
    mut acc: [[S::F32; NP]; MR],
) -> [[S::F32; NP]; MR] {
    let (mut whole, mut blocks) = ([[q.start(s, 0); NP]; MR], [&panels[0].0[b]; NP]);
    for p in 1..NP {
        blocks[p] = &panels[p].0[b];
    }
    for r in 0..MR {
        let start = if PART == 0 { rows[r].starts[b] } else { rows[r].halves[b] };
        whole[r] = [q.start(s, start); NP];
    }
    if const { tile::by_pairs::<S, Q, MR>() } {
        whole = tile::paired::<S, Q, MR, NP>((s, q), whole);
    }
    let mut whole = tile::part::<S, Q, C, MR, NP, PART>((s, q), (rows, b), blocks, whole);
    if const { tile::by_pairs::<S, Q, MR>() } {
        whole = tile::unpaired::<S, Q, MR, NP>((s, q), whole);
    }
    for p in 0..NP {
        let (scales, at) = of_block(panels[p].1, b);
        let of_w = scales.scales(s, shared[p], at + PART);
        for r in 0..MR {
            let of_a = s.splat(rows[r].scales[b]);
            acc[r][p] = s.fma(s.of_i(q.total(s, whole[r][p])), s.mul(of_a, of_w), acc[r][p]);
        }
        if const { C::Scales::MINIMA } {
            let minima = scales.minima(s, shared[p], at + PART);
            for r in 0..MR {
                acc[r][p] = s.fma(s.splat(rows[r].sums[b]), minima, acc[r][p]);
            }
        }
    }
    acc
}
