//! # C = A · B of bfloat16, under the law of matrix units
//!
//! **Math.**  c_ij ← act(c_ij⁰ + Σ_k a_ik · b_kj + bias_j) + residual_ij.  A (m, k) in bfloat16 or in `f32`, rounded to it
//! on its way; B (k, n) in bfloat16, packed once; sums in `f32`, and so is C, or rounded as A is.
//!
//! **Law.**   Clause 10: what the instruction `tdpbf16ps` does to 32 steps, in any arithmetic that has an FMA.
//!
//! ```text
//!   32 steps    even chain   fma(a₃₀, b₃₀, … fma(a₂, b₂, fma(a₀, b₀, +0)) …)
//!               odd chain    fma(a₃₁, b₃₁, … fma(a₃, b₃, fma(a₁, b₁, +0)) …)
//!   256 steps   block = (+0 + (even + odd)₀) + (even + odd)₁ …                eight of them, in order
//!   all         c = … ((c⁰ + block₀) + block₁) …                            then + bias, the activation, + residual
//! ```
//! Steps past k are 0, which changes nothing. What is less than 2⁻⁵⁰ in magnitude becomes 0 before it is multiplied: a
//! product is then 0 or at least 2⁻¹⁰⁰ and a sum a multiple of 2⁻¹¹⁴, so that a unit that flushes subnormals meets none.
//!
//! ```text
//!   a word of B, two steps of a column:   b₁ b₀ ──┬── shift left 16 ──► b₀ as f32 ──► fma(a₀, ·, even)
//!                                                └── mask ───────────► b₁ as f32 ──► fma(a₁, ·, odd)
//! ```
//!
//! **Registers.**  avx512 6×2: 24 chains, 4 of B, A broadcast · avx2 2×1: 8 ymm, 4, 1 · neon 2×1: 16 q, 8, 1 ·
//! scalar 2×1. Sums of blocks wait in L1. Where there is a matrix unit: `gemm/walk.rs`.
//!
//! **Cost.**  2·m·n·k operations at the rate of f32, whose FMA they are, and two additions each 32 steps; half the
//! bytes of B. Of Zen 4's FMA peak of 117 GFLOP/s: 80 % at 512³ (avx512), 67 % (avx2). With one row memory binds.
//! AMX: 920–1,450 GFLOP/s from 512³ to 4096³ where A and C are in bfloat16, 900–1,100 where they are in `f32`, of 2,850 from
//! registers with such operands; what binds is that B comes from the third level and C goes through it, A through L2.
//! (`vdpbf16ps` flushes and rounds in its own way: it does not obey.)
//!
//! **Error.**  ≤ (min(k, 32)/2 + min(⌈k/32⌉, 8) + ⌈k/256⌉ + 2) u Σ|a||b| against the rounded inputs, u = 2⁻²⁴; rounding
//! moves an element of A by 2⁻⁸ of it at most.
//! **Reference.**  Intel SDM, TDPBF16PS.  **Next.**  `gemm/`

#![allow(clippy::needless_range_loop)] // rows and panels are indices into several arrays at once

use crate::gemm::epilogue::{Begin, Finish, Panels, Target, load_at};
use crate::gemm::walk::COLUMNS;
use crate::gemm::{
    Accumulate, Bf16, Bf16Group, Element, Epilogue, GROUP, K_BLOCK, PackedMatrix, Weights, add_to, pack,
    row_lines,
};
use crate::pieces::{Cut, Pieces, strips, tiles};
use crate::simd::Simd;
use crate::simd::tiles::Rounds;
use crate::view::MatRef;
use crate::{Cpu, Kernel, LANES, Line};
use core::ops::Range;

mod pack;
mod sides;
mod tiles;
pub use sides::{Left, Out};
use sides::{Prior, Round, sums_len};

/// Less than this in magnitude is 0: 2⁻⁵⁰.
pub(crate) const LEAST: f32 = f32::from_bits((127 - 50) << 23);
/// Rows that are prepared at once: what stays in L2, a multiple of every tile.
const ROWS: usize = 48;
/// k that is prepared at once.
const DEPTH: usize = 1024;
/// Groups of eight steps in one of 32.
const CHAIN: usize = 4;

/// B (k, n) in bfloat16, packed once: `⌈n/16⌉ × ⌈k/8⌉` groups in which nothing but 0 is less than 2⁻⁵⁰.
#[derive(Clone, Copy)]
pub struct PackedBf16<'a>(PackedMatrix<'a, Bf16>);

impl<'a> PackedBf16<'a> {
    /// Packs B (k, n), any strides; what is less than 2⁻⁵⁰ becomes 0.
    ///
    /// # Panics
    /// Where there are not [`packed_len`](crate::gemm::packed_len)`(k, n)` groups.
    pub fn pack(cpu: Cpu, b: MatRef<'_, Bf16>, groups: &'a mut [Bf16Group]) -> Self {
        pack::<Bf16>(cpu, b, groups);
        for group in groups.iter_mut() {
            for i in 0..GROUP {
                for lane in 0..LANES {
                    let x = f32::from_bits(u32::from(group.get(i, lane).0) << 16);
                    if x.abs() < LEAST {
                        Bf16::put(group, i, lane, Bf16(0));
                    }
                }
            }
        }
        PackedBf16::new(groups, b.rows(), b.cols())
    }

    /// Borrows what was packed earlier from B (k, n).
    ///
    /// # Panics
    /// Where there are not [`packed_len`](crate::gemm::packed_len)`(k, n)` groups.
    pub fn new(groups: &'a [Bf16Group], k: usize, n: usize) -> Self {
        PackedBf16(PackedMatrix::new(groups, k, n))
    }

    /// (k, n)
    pub fn shape(&self) -> (usize, usize) {
        self.0.shape()
    }

    /// Columns `cols`; its start is a multiple of 16.
    #[must_use]
    pub fn columns(self, cols: Range<usize>) -> Self {
        PackedBf16(self.0.columns(cols))
    }

    /// Rows `ks` (the start is a multiple of 8) of panel `p`.
    #[inline(always)]
    fn panel(&self, p: usize, ks: &Range<usize>) -> &'a [Bf16Group] {
        &self.0.panel_groups(p)[ks.start / GROUP..ks.end.div_ceil(GROUP)]
    }
}

/// C (m, n) from A (m, k) and B (k, n), to be computed whole or in pieces.
///
/// ```
/// use samebits_kernels::bf16::{GemmBf16, PackedBf16};
/// use samebits_kernels::gemm::{Bf16, Element, packed_len};
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// let (cpu, mut groups) = (Cpu::detect(), vec![Bf16::ZERO; packed_len(2, 1)]);
/// let b = PackedBf16::pack(cpu, MatRef::new(&[Bf16(0x3f80), Bf16(0x4000)], 2, 1), &mut groups); // 1 and 2
/// let (a, mut c, mut scratch) = ([1.001, 3.0], [0.0], vec![Line::ZERO; GemmBf16::scratch_len(1, 2, 1)]);
/// GemmBf16::new(MatRef::new(&a, 1, 2), b, MatMut::new(&mut c, 1, 1)).run(cpu, &mut scratch);
/// assert_eq!(c, [7.0]); // 1.001 is 1 in eight bits
///
/// use samebits_kernels::bf16::{Left, Out}; // what `new` makes of either kind
/// let (halves, mut half) = ([Bf16(0x3f80), Bf16(0x4040)], [Bf16(0)]); // 1 and 3
/// let (left, out) = (Left::Bf16(MatRef::new(&halves, 1, 2)), Out::Bf16(MatMut::new(&mut half, 1, 1)));
/// GemmBf16::new(left, b, out).run(cpu, &mut scratch);
/// assert_eq!(half, [Bf16(0x40e0)]); // 7
/// ```
pub struct GemmBf16<'a> {
    /// A, (m, k), any strides.
    pub a: Left<'a>,
    /// B, (k, n), packed once.
    pub b: PackedBf16<'a>,
    /// C, (m, n), any strides.
    pub c: Out<'a>,
    /// Whether C is added to.
    pub accumulate: Accumulate,
    /// What follows the sum.
    pub epilogue: Epilogue<'a>,
}

impl<'a> GemmBf16<'a> {
    /// `C = A · B`, nothing else.
    pub fn new(a: impl Into<Left<'a>>, b: PackedBf16<'a>, c: impl Into<Out<'a>>) -> Self {
        let (a, c) = (a.into(), c.into());
        GemmBf16 { a, b, c, accumulate: Accumulate::Overwrite, epilogue: Epilogue::NONE }
    }

    /// Lines of scratch that [`GemmBf16::run`] needs, for the whole or for any piece of it.
    pub const fn scratch_len(m: usize, k: usize, n: usize) -> usize {
        let (rows, depth) = (if m < ROWS { m } else { ROWS }, if k < DEPTH { k } else { DEPTH });
        let prepared = rows * row_lines(depth) + sums_len(rows, if n < COLUMNS { n } else { COLUMNS });
        let tiles = tiles::scratch_len(m, k, n);
        if prepared > tiles { prepared } else { tiles }
    }

    /// Computes the product on this thread.
    ///
    /// # Panics
    /// Where the shapes do not belong together, or `scratch` is shorter than [`GemmBf16::scratch_len`].
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        self.check_with(scratch);
        match cpu.tiles_bf16() {
            Some(unit) if self.c.rows() >= tiles::LEAST_ROWS => {
                cpu.run(tiles::OnTiles { job: self, scratch, tiles: unit });
            }
            _ => cpu.run(Whole { job: self, scratch }),
        }
    }

    /// Computes the product on this thread with a matrix unit, as [`GemmBf16::run`] does where the processor has one;
    /// with [`Plain`](crate::simd::tiles::Plain) what the unit would do.
    ///
    /// # Panics
    /// As [`GemmBf16::run`].
    pub fn run_on_tiles<T: Rounds>(self, cpu: Cpu, tiles: T, scratch: &mut [Line]) {
        self.check_with(scratch);
        cpu.run(tiles::OnTiles { job: self, scratch, tiles });
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

    fn check_with(&self, scratch: &[Line]) {
        self.check();
        let (m, n, k) = self.shape();
        let need = GemmBf16::scratch_len(m, k, n);
        assert!(scratch.len() >= need, "gemm_bf16: {} lines of scratch, {need} needed", scratch.len());
    }

    fn check(&self) {
        let (m, k) = (self.a.rows(), self.a.cols());
        let (bk, n) = self.b.shape();
        let (cm, cn) = (self.c.rows(), self.c.cols());
        assert!(k == bk && m == cm && n == cn, "gemm_bf16: A ({m}, {k}) · B ({bk}, {n}) → C ({cm}, {cn})");
        self.epilogue.check(m, n);
    }
}

impl Cut for GemmBf16<'_> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.c.rows(), self.c.cols(), self.a.cols())
    }
    fn split_rows(self, at: usize) -> (Self, Self) {
        let (m, k, n) = (self.a.rows(), self.a.cols(), self.c.cols());
        let (upper, lower) = self.c.split_rows(at);
        let part = |rows: Range<usize>, c| GemmBf16 {
            a: self.a.sub(rows.clone(), 0..k),
            b: self.b,
            c,
            accumulate: self.accumulate,
            epilogue: self.epilogue.sub(rows, 0..n),
        };
        (part(0..at, upper), part(at..m, lower))
    }
    fn split_cols(self, at: usize) -> (Self, Self) {
        let (m, n) = (self.c.rows(), self.c.cols());
        let (left, right) = self.c.split_cols(at);
        let part = |cols: Range<usize>, c| GemmBf16 {
            a: self.a,
            b: self.b.columns(cols.clone()),
            c,
            accumulate: self.accumulate,
            epilogue: self.epilogue.sub(0..m, cols),
        };
        (part(0..at, left), part(at..n, right))
    }
}

struct Whole<'a, 's> {
    job: GemmBf16<'a>,
    scratch: &'s mut [Line],
}

impl Kernel for Whole<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Whole { job, scratch } = self;
        let cols = if matches!(job.c, Out::F32(_)) { usize::MAX } else { COLUMNS };
        for GemmBf16 { a, b, mut c, accumulate, epilogue } in Pieces::of(job, (usize::MAX, cols)) {
            let (m, k, n) = (c.rows(), a.cols(), c.cols());
            for (rows, ks) in strips((m, ROWS), (k, DEPTH)) {
                let epilogue = epilogue.sub(rows.clone(), 0..n);
                let begins = (ks.start == 0).then_some(accumulate);
                let (mut part, out, scratch) = c.sums(s, rows.clone(), begins, &mut *scratch);
                s.outline(Prepare { a: a.sub(rows, ks.clone()), room: &mut *scratch });
                let last = (ks.end == k).then_some(&epilogue);
                let target = Target { c: &mut part, base: accumulate.after(ks.start), last };
                s.outline(Passes { rows: scratch, b: &b, ks, target });
                if let (Some(to), Some(_)) = (out, last) {
                    s.outline(Round { from: part.as_ref(), to });
                }
            }
        }
    }
}

/// Rows of A (at most [`ROWS`], at most [`DEPTH`]) as tiles read them: rounded, +0 past the last step.
struct Prepare<'a, 'o> {
    a: Left<'a>,
    room: &'o mut [Line],
}

impl Kernel for Prepare<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Prepare { a, room } = self;
        let (m, k, lines) = (a.rows(), a.cols(), row_lines(a.cols()));
        if let Left::F32(a) = a
            && a.row_stride() == 1
            && m > 1
        {
            return prepare_columns(s, a, room);
        }
        for (r, row) in room.chunks_exact_mut(lines).take(m).enumerate() {
            for (line, at) in row.iter_mut().zip((0..k).step_by(LANES)) {
                s.store(line, a.load(s, r, at..(at + LANES).min(k)));
            }
        }
    }
}

/// The same of a transposed matrix, whose columns lie in memory: sixteen by sixteen, transposed in registers.
#[inline(always)]
fn prepare_columns<S: Simd>(s: S, a: MatRef<'_>, room: &mut [Line]) {
    let (m, k, lines, columns) = (a.rows(), a.cols(), row_lines(a.cols()), a.t());
    for at in (0..k).step_by(LANES) {
        for r in (0..m).step_by(LANES) {
            let mut steps = [s.splat(0.0); LANES];
            for (step, c) in steps.iter_mut().zip(at..k) {
                *step = rounded(s, load_at(s, columns, c, r..(r + LANES).min(m)));
            }
            let rows = s.transpose(steps);
            for (row, &x) in room[r * lines..].chunks_mut(lines).zip(&rows).take(m - r) {
                s.store(&mut row[at / LANES], x);
            }
        }
    }
}

/// To bfloat16, nearest even, and back; less than 2⁻⁵⁰ to +0.
#[inline(always)]
pub(crate) fn rounded<S: Simd>(s: S, x: S::F32) -> S::F32 {
    settled(s, s.of_bits(s.and_i(s.bf16_bits(x), s.splat_i(-0x1_0000))))
}

/// What is less than 2⁻⁵⁰ to +0.
#[inline(always)]
pub(crate) fn settled<S: Simd>(s: S, x: S::F32) -> S::F32 {
    s.select(s.gt(s.splat(LEAST), s.abs(x)), s.splat(0.0), x)
}

/// All panels past the prepared rows.
struct Passes<'f, 't, 'a> {
    rows: &'f [Line],
    b: &'f PackedBf16<'a>,
    ks: Range<usize>,
    target: Target<'t, 'a>,
}

impl Kernel for Passes<'_, '_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (m, panels) = (self.target.c.rows(), self.target.c.cols().div_ceil(LANES));
        let wide = S::TILE.1 == 3;
        let np = match (wide, m) {
            (true, 1) => 4,
            (true, _) => 2,
            _ => 1,
        };
        let rows = |left| match left {
            1 => 1,
            3.. if wide => 6, // of which some may be empty: memory binds there
            _ => 2,
        };
        for (r, p, tile) in tiles((m, rows), (panels, np)) {
            match tile {
                (6, 2) => s.outline(self.tile::<6, 2>(r, p)),
                (6, _) => s.outline(self.tile::<6, 1>(r, p)),
                (2, 2) => s.outline(self.tile::<2, 2>(r, p)),
                (2, _) => s.outline(self.tile::<2, 1>(r, p)),
                (_, 4) => s.outline(self.tile::<1, 4>(r, p)),
                (_, 2) => s.outline(self.tile::<1, 2>(r, p)),
                _ => s.outline(self.tile::<1, 1>(r, p)),
            }
        }
    }
}

impl<'a> Passes<'_, '_, 'a> {
    /// The tile at row `r` and panel `p`.
    #[inline(always)]
    fn tile<const MR: usize, const NP: usize>(&mut self, r: usize, p: usize) -> Tile<'_, 'a, MR, NP> {
        let (lines, last) = (row_lines(self.ks.len()), self.target.c.rows() - 1);
        let row = |r: usize| Line::floats(&self.rows[r.min(last) * lines..][..lines]);
        let mut rows = [row(r); MR];
        for i in 1..MR {
            rows[i] = row(r + i);
        }
        let mut panels = [self.b.panel(p, &self.ks); NP];
        for i in 1..NP {
            panels[i] = self.b.panel(p + i, &self.ks);
        }
        let Target { c, base, last } = &mut self.target;
        Tile { rows, panels, target: Target { c, base: *base, last: *last }, at: (r, p * LANES) }
    }
}

/// MR rows and NP panels over all prepared steps.
struct Tile<'f, 'a, const MR: usize, const NP: usize> {
    rows: [&'f [f32]; MR],
    panels: [&'f [Bf16Group]; NP],
    target: Target<'f, 'a>,
    at: (usize, usize),
}

impl<const MR: usize, const NP: usize> Kernel for Tile<'_, '_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { rows, panels, mut target, at } = self;
        let mut sums = [[Line::ZERO; NP]; MR];
        s.outline(Begin { target: &target, at, panels: Panels::beside(NP), sums: sums.as_flattened_mut() });
        let groups = panels[0].len();
        // The lengths are known to the compiler: no check inside.
        let panels = panels.map(|panel| &panel[..groups]);
        let rows = rows.map(|row| &row.as_chunks::<GROUP>().0[..groups]);
        for block in (0..groups).step_by(K_BLOCK / GROUP) {
            let end = (block + K_BLOCK / GROUP).min(groups);
            let mut acc = [[s.splat(0.0); NP]; MR];
            for g in (block..end).step_by(CHAIN) {
                let (mut even, mut odd) = ([[s.splat(0.0); NP]; MR], [[s.splat(0.0); NP]; MR]);
                for g in g..(g + CHAIN).min(end) {
                    for i in (0..GROUP).step_by(2) {
                        for (chain, i) in [(&mut even, i), (&mut odd, i + 1)] {
                            for p in 0..NP {
                                let b = Bf16::load(s, &panels[p][g], i);
                                for r in 0..MR {
                                    chain[r][p] = s.fma(s.splat(rows[r][g][i]), b, chain[r][p]);
                                }
                            }
                        }
                    }
                }
                for r in 0..MR {
                    for p in 0..NP {
                        acc[r][p] = s.add(acc[r][p], s.add(even[r][p], odd[r][p]));
                    }
                }
            }
            add_to(s, &mut sums, &acc);
        }
        s.outline(Finish { target: &mut target, at, panels: Panels::beside(NP), sums: sums.as_flattened() });
    }
}
