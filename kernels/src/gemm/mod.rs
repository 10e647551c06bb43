//! # C = A · B, the product of matrices
//!
//! **Math.**  c_ij ← act(c_ij⁰ + Σ_k a_ik · b_kj + bias_j) + residual_ij (+ a low rank's),  c⁰ = 0 or the prior C.
//! A is (m, k), B is (k, n), C is (m, n); any strides, so a transpose is a swap of strides.
//!
//! **Law.**   Clause 1. k is cut into blocks of 256 from k = 0; a block sum is one FMA chain from +0, k
//! ascending; block sums are added in order to c⁰; then bias, activation, residual, low rank. Nothing else is free
//! to change a bit: the tile's shape, the piece's shape and the packing only decide *where* chains run.
//!
//! ```text
//!            n ─►  panels of 16 columns                    one tile: MR rows × NP panels, all in registers
//!          ┌────┬────┬────┬────┐ k                            b₀ (16 lanes)   b₁     b₂
//!    B     │▒▒▒▒│▒▒▒▒│▒▒▒▒│    │ │  a sliver: NP panels    a₀   acc₀₀         acc₀₁  acc₀₂
//!          └────┴────┴────┴────┘ ▼                         a₁   acc₁₀         acc₁₁  acc₁₂   k steps down the
//!    k ─►                                                  ⋮     ⋮             ⋮      ⋮      sliver, 1 load a panel,
//!   ┌────┐ ┌────┬────┬────┬────┐                          a₇   acc₇₀         acc₇₁  acc₇₂    1 broadcast a row
//! A │░░░░│ │    │ C  │    │    │ m
//!   └────┘ └────┴────┴────┴────┘ ▼                        every 256 steps: acc → sum, acc ← 0
//! ```
//!
//! **Registers.**  avx512 8×3: 24 accumulators, 3 lines of B, A broadcast · avx2 6×1: 12 + 2 + 1
//! of 16 ymm · neon 6×1: 24 + 4 + 2 of 32 q · scalar 2×1.
//!
//! **Cost.**  2·m·n·k operations; the FMA ports bind from about 64³ on. A is read where it lies, B too where that
//! is row by row and few rows of A pass it; what has to be copied costs about half a cycle an element, once, and
//! comes from memory while a tile computes (`ahead.rs`).
//! Of Zen 4's FMA peak of 117 GFLOP/s: 94 % at 512³, 85 % at 1024³, 80 % at 64×4096×64 with a tile of 12×2 (avx512); 92, 85, 72 %
//! (avx2). An Intel core of two units (Xeon with AMX, 190 to 215 GFLOP/s) starts two FMAs a cycle, and what they read binds: 12×2 stood at
//! 58 to 66 % there, 8×3 with four steps a turn makes 79 to 85 % at 512³, 75 to 80 % at 1024×1376×512.
//! With few rows (m ≤ 8) every weight is used m times only: then the memory binds (`few.rs` for packed weights,
//! `rows.rs` for (n, k) and `wide.rs` for (k, n) as they lie).
//!
//! **Error.**  ≤ (min(k, 256) + ⌈k/256⌉ + 2) u Σ|a||b|, in practice ≤ 32 u Σ|a||b| (tests/gemm.rs).
//! **Reference.**  Goto, van de Geijn 2008 (the loops, [doi:10.1145/1356052.1356053](https://doi.org/10.1145/1356052.1356053)); Van Zee, van de Geijn 2015 (BLIS, [doi:10.1145/2764454](https://doi.org/10.1145/2764454)).  **Next.**  `tile.rs`.

mod ahead;
pub(crate) mod epilogue;
mod few;
mod low_rank;
mod many;
mod pack;
mod rows;
mod small;
mod tile;
mod transposed;
pub(crate) mod walk;
mod weights;
mod wide;

pub use epilogue::Epilogue;
pub use low_rank::LowRank;
pub(crate) use pack::row_lines;
pub use pack::{pack, packed_len};
pub(crate) use tile::add_to;
pub use transposed::{Transposed, Turned};
pub use weights::{
    Bf16, Bf16Group, Element, F16, GROUP, HalfGroup, PackedMatrix, Panel, Strided, Weights, multiply,
    room_groups,
};

use crate::pieces::{self, Cut};
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, Line, simd::Simd};
use core::ops::Range;
use epilogue::Target;

/// Rows of k in a block sum: the law's constant.
///
/// Clause 1, of two vectors, in plain Rust:
/// ```
/// use samebits_kernels::gemm::{Gemm, K_BLOCK, Strided, scratch_len};
/// use samebits_kernels::{Cpu, Line, simd::fma, view::{MatMut, MatRef}};
/// let (a, b): (Vec<f32>, Vec<f32>) = (1..=300).map(|i| (i as f32 / 7.0, 1.0 / i as f32)).unzip();
/// let mut c = [0.0];
/// let (to, mut scratch) = (MatMut::new(&mut c, 1, 1), vec![Line::ZERO; scratch_len::<Strided>(1, 300)]);
/// Gemm::new(MatRef::new(&a, 1, 300), Strided(MatRef::new(&b, 300, 1)), to).run(Cpu::detect(), &mut scratch);
/// let chain = |k: core::ops::Range<usize>| k.fold(0.0, |sum, i| fma(a[i], b[i], sum));
/// assert_eq!(c[0], chain(0..K_BLOCK) + chain(K_BLOCK..300));
/// ```
pub const K_BLOCK: usize = 256;
/// Rows of A that are packed at once: a multiple of every tier's tile, and not less than a batch of 1,024 tokens.
const M_PIECE: usize = 1032;
/// Rows and columns of a piece at least: each piece packs its part of A and B anew.
const MIN_PIECE: usize = 192;
/// k of a packed block of A: a multiple of [`K_BLOCK`], so that the running sums leave the tile rarely.
const K_PACK: usize = 768;
/// Up to so many rows the weights are read straight from where they lie, decoded in registers.
const FEW: usize = 8;

/// What the sums are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// To +0: C is never read.
    Overwrite,
    /// To what C holds.
    Add,
}

impl Accumulate {
    /// What the sums of the steps after `k0` others are added to: to those, where there are any.
    pub(crate) const fn after(self, k0: usize) -> Accumulate {
        if k0 == 0 { self } else { Accumulate::Add }
    }
}

/// C (m, n) from A (m, k) and B (k, n): a product to be computed, whole or in pieces.
///
/// ```
/// use samebits_kernels::gemm::{Accumulate, Epilogue, Gemm, Strided};
/// use samebits_kernels::{Cpu, Line, activation::Activation, view::{MatMut, MatRef}};
/// let (x, w, mut c) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [-100.0, 0.0, 0.0, 0.0]);
/// let epilogue = Epilogue { bias: Some(&[0.5, 0.25]), activation: Activation::Relu, ..Epilogue::NONE };
/// let job = Gemm::new(MatRef::new(&x, 2, 2), Strided(MatRef::new(&w, 2, 2).t()), MatMut::new(&mut c, 2, 2));
/// let mut scratch = vec![Line::ZERO; job.scratch_len()];
/// Gemm { accumulate: Accumulate::Add, epilogue, ..job }.run(Cpu::detect(), &mut scratch);
/// // relu(C + X · Wᵀ + bias), a linear layer with its weight (out, in): the transpose is a swap of strides.
/// assert_eq!(c, [0.0, 23.25, 39.5, 53.25]);
/// ```
///
/// Weights of a format of your own say how their panels are decoded; here a matrix of one number, stored nowhere:
///
/// ```
/// use samebits_kernels::gemm::{GROUP, Gemm, Panel, Weights, multiply, room_groups};
/// use samebits_kernels::{Cpu, Line, simd::Simd, view::{MatMut, MatRef}};
/// use std::ops::Range;
/// #[derive(Clone, Copy)]
/// struct Same { x: f32, k: usize, n: usize }
/// impl Panel for Same {
///     type Group<S: Simd> = S::F32;
///     #[inline(always)]
///     fn group<S: Simd>(self, s: S, _: usize) -> S::F32 {
///         s.splat(self.x)
///     }
///     #[inline(always)]
///     fn line<S: Simd>(_: S, group: &mut S::F32, _: usize) -> S::F32 {
///         *group
///     }
/// }
/// impl Weights for Same {
///     type Panel = Same;
///     const PANELS: bool = true; // few rows are multiplied by panels decoded in registers …
///     fn shape(&self) -> (usize, usize) {
///         (self.k, self.n)
///     }
///     fn columns(self, cols: Range<usize>) -> Same {
///         Same { n: cols.len(), ..self }
///     }
///     fn panel(&self, _: usize) -> Same {
///         *self
///     }
///     fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
///         None
///     }
///     #[inline(always)] // … many by panels decoded to memory, once
///     fn fill<S: Simd>(&self, _: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
///         for panel in room.chunks_mut(room_groups(k.len())).take(panels.len()) {
///             panel.fill([Line([self.x; 16]); GROUP]);
///         }
///     }
///     fn multiply(job: Gemm<'_, Same>, cpu: Cpu, scratch: &mut [Line]) {
///         multiply(job, cpu, scratch)
///     }
/// }
/// for m in [1, 40] {
///     let (a, mut c) = (vec![2.0; m * 8], vec![0.0; m * 20]);
///     let job = Gemm::new(MatRef::new(&a, m, 8), Same { x: 3.0, k: 8, n: 20 }, MatMut::new(&mut c, m, 20));
///     let mut scratch = vec![Line::ZERO; job.scratch_len()];
///     job.run(Cpu::detect(), &mut scratch);
///     assert!(c.iter().all(|&c| c == 48.0));
/// }
/// ```
pub struct Gemm<'a, W = Strided<'a>> {
    /// A, (m, k), any strides.
    pub a: MatRef<'a>,
    /// B, (k, n): a strided matrix, or weights packed once.
    pub b: W,
    /// C, (m, n), any strides.
    pub c: MatMut<'a>,
    /// Whether C is added to.
    pub accumulate: Accumulate,
    /// What follows the sum.
    pub epilogue: Epilogue<'a>,
}

impl<'a, W: Weights> Gemm<'a, W> {
    /// `C = A · B`, nothing else.
    pub fn new(a: MatRef<'a>, b: W, c: MatMut<'a>) -> Self {
        Gemm { a, b, c, accumulate: Accumulate::Overwrite, epilogue: Epilogue::NONE }
    }

    /// Lines of scratch that [`Gemm::run`] needs, for the whole or for any piece of it.
    pub fn scratch_len(&self) -> usize {
        scratch_for::<W>(self.b.panels(), self.a.rows(), self.a.cols())
    }

    /// Computes the product on this thread.
    ///
    /// # Panics
    /// Where the shapes of A, B, C, bias and residual do not belong together, or `scratch` is shorter than
    /// [`Gemm::scratch_len`].
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        self.check();
        let need = self.scratch_len();
        assert!(scratch.len() >= need, "gemm: {} lines of scratch, {need} needed", scratch.len());
        W::multiply(self, cpu, scratch);
    }

    /// The same product as pieces, each with its own part of C; how many is a matter of the shape alone.
    /// They may run in any order, on any threads.
    ///
    /// # Panics
    /// Where the shapes do not belong together.
    pub fn pieces(self) -> Pieces<'a, W> {
        self.check();
        let shape = piece_shape(&self.b, self.a.rows());
        Pieces::of(self, shape)
    }

    /// The product as the one piece that it is.
    ///
    /// # Panics
    /// Where the shapes do not belong together.
    pub fn whole(self) -> Pieces<'a, W> {
        self.check();
        Pieces::of(self, (usize::MAX, usize::MAX))
    }

    fn check(&self) {
        let (m, k) = (self.a.rows(), self.a.cols());
        let (bk, n) = self.b.shape();
        let (cm, cn) = (self.c.rows(), self.c.cols());
        assert!(k == bk && m == cm && n == cn, "gemm: A ({m}, {k}) · B ({bk}, {n}) → C ({cm}, {cn})");
        self.epilogue.check(m, n);
    }
}

impl<W: Weights> Cut for Gemm<'_, W> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.c.rows(), self.c.cols(), self.a.cols())
    }
    fn split_rows(self, at: usize) -> (Self, Self) {
        let (m, k, n) = (self.a.rows(), self.a.cols(), self.c.cols());
        let (upper, lower) = self.c.split_rows(at);
        let part = |rows: Range<usize>, c| Gemm {
            a: self.a.sub(rows.clone(), 0..k),
            b: self.b,
            c,
            accumulate: self.accumulate,
            epilogue: self.epilogue.sub(rows, 0..n),
        };
        (part(0..at, upper), part(at..m, lower))
    }

    fn split_cols(self, at: usize) -> (Self, Self) {
        let (m, n) = (self.a.rows(), self.c.cols());
        let (left, right) = self.c.split_cols(at);
        let part = |cols: Range<usize>, c| Gemm {
            a: self.a,
            b: self.b.columns(cols.clone()),
            c,
            accumulate: self.accumulate,
            epilogue: self.epilogue.sub(0..m, cols),
        };
        (part(0..at, left), part(at..n, right))
    }
}

/// The ways that a product can go, all to the same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A and B fit the first caches, and nothing but the sums is asked for.
    Small,
    /// Few rows times weights (n, k) that lie row by row, as floats.
    Rows,
    /// One row times such weights in blocks.
    Blocks,
    /// Few rows times a large B that lies row by row.
    Wide,
    /// Few rows: panels are read where they lie.
    Few,
    /// Tiles of many rows pass slivers of B.
    Many,
}

impl Way {
    /// The first that takes the product, on the tier of `S`.
    #[inline(always)]
    fn of<S: Simd, W: Weights>(job: &Gemm<'_, W>) -> Way {
        if S::SMALL {
            Way::of_panels::<W>(job.b.panels(), job.a.rows(), false)
        } else if small::takes::<S, W>(job) {
            Way::Small
        } else if rows::takes(job) {
            Way::Rows
        } else if wide::columns(job) > 0 {
            Way::Wide
        } else if few::takes_blocks(job) {
            Way::Blocks
        } else {
            Way::of_panels::<W>(job.b.panels(), job.a.rows(), S::TILE.1 == 3)
        }
    }

    /// Of `m` rows and weights that are panels or not, on a tier with the wide tile or the narrow one.
    const fn of_panels<W: Weights>(panels: bool, m: usize, wide: bool) -> Way {
        let few = if wide { W::FEW[0] } else { W::FEW[1] };
        if panels && m <= few { Way::Few } else { Way::Many }
    }

    /// Lines of scratch for `m` rows and depth `k`, weights that are panels or not, the wide tile or the narrow one.
    const fn scratch_len(self, (panels, wide): (bool, bool), m: usize, k: usize) -> usize {
        match self {
            Way::Small => 0,
            Way::Blocks | Way::Few => few::scratch_len(m, k),
            Way::Rows => FEW,
            Way::Wide => wide::SCRATCH,
            Way::Many => many::scratch_len((panels, wide), m, k),
        }
    }
}

/// Lines of scratch for any product of `m` rows and depth `k`, whatever its n, with weights whose
/// [`Weights::panels`] is what their type says.
pub const fn scratch_len<W: Weights>(m: usize, k: usize) -> usize {
    scratch_for::<W>(W::PANELS, m, k)
}

/// What every tier can do with, whatever n is. ([`Way::Blocks`] and [`Way::Rows`] have few rows, for which
/// [`Way::Many`] asks for more.)
const fn scratch_for<W: Weights>(panels: bool, m: usize, k: usize) -> usize {
    let wide = Way::of_panels::<W>(panels, m, true).scratch_len((panels, true), m, k);
    let narrow = Way::of_panels::<W>(panels, m, false).scratch_len((panels, false), m, k);
    let more = if wide > narrow { wide } else { narrow };
    if !panels && m <= FEW && more < wide::SCRATCH { wide::SCRATCH } else { more }
}

/// Rows and columns of a piece of a product of `m` rows with `b`: about as many pieces as give a handful of threads
/// even shares, each large enough that packing its part of A and B is paid back.
///
/// ```
/// use samebits_kernels::{gemm::{Strided, piece_shape}, view::MatRef};
/// let b = vec![0.0; 512 * 512];
/// let (rows, cols) = piece_shape(&Strided(MatRef::new(&b, 512, 512)), 1000);
/// assert!(rows < 1000 && rows.is_multiple_of(24) && cols.is_multiple_of(32)); // whole tiles, for several threads
/// ```
pub fn piece_shape<W: Weights>(b: &W, m: usize) -> (usize, usize) {
    let (k, n) = b.shape();
    if b.panels() && m <= FEW || W::BY_ROWS && m == 1 {
        // One pass over the weights: cut them into parts of about half a MiB of f32.
        let cols = (1 << 17) / k.max(1);
        return (m.max(1), cols.clamp(64, 1 << 12).next_multiple_of(64));
    }
    // Halve the longer side until there are pieces for a handful of threads, or they would grow too small to
    // pay back their packing. Below a million multiplications a second thread's wake-up is not worth it.
    let (mut rows, mut cols, mut pieces) = (m.max(1), n.max(1), 1);
    while pieces < 8 && rows * cols * k > 1 << 21 && rows.max(cols) >= 2 * MIN_PIECE {
        if rows >= cols {
            rows = rows.div_ceil(2)
        } else {
            cols = cols.div_ceil(2)
        }
        pieces *= 2;
    }
    (rows.next_multiple_of(24).min(M_PIECE), cols.next_multiple_of(32))
}

/// Numbered pieces of a product, from [`Gemm::pieces`].
///
/// ```
/// use samebits_kernels::gemm::{Gemm, PackedMatrix, Pieces, gemm_each, pack, packed_len, scratch_len};
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// let (cpu, b, a, mut c) = (Cpu::detect(), [1.0, 2.0, 3.0], [10.0, 20.0], [0.0; 6]);
/// let mut groups = vec![Default::default(); packed_len(1, 3)];
/// pack(cpu, MatRef::new(&b, 1, 3), &mut groups);
/// let b = PackedMatrix::new(&groups, 1, 3);
/// let mut scratch = vec![Line::ZERO; scratch_len::<PackedMatrix>(2, 1)];
/// let pieces: Pieces<PackedMatrix> = Gemm::new(MatRef::new(&a, 2, 1), b, MatMut::new(&mut c, 2, 3)).pieces();
/// pieces.for_each(|piece| piece.run(cpu, &mut scratch));
/// let mut d = [0.0; 6]; // row by row: a batch of small products
/// let rows = a.chunks(1).zip(d.chunks_mut(3)).map(|(a, d)| Gemm::new(MatRef::new(a, 1, 1), b, MatMut::new(d, 1, 3)));
/// gemm_each(cpu, rows, &mut scratch);
/// assert_eq!((c, d), ([10.0, 20.0, 30.0, 20.0, 40.0, 60.0], c));
/// ```
pub type Pieces<'a, W> = pieces::Pieces<Gemm<'a, W>>;

/// The body of [`Weights::multiply`]: which of the four ways this product goes.
pub(crate) struct Whole<'a, 's, W> {
    pub job: Gemm<'a, W>,
    pub scratch: &'s mut [Line],
}

impl<W: Weights> Kernel for Whole<'_, '_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Whole { job, scratch } = self;
        match Way::of::<S, W>(&job) {
            Way::Small => {
                let b = job.b.as_rows().expect("asked by `small::takes`");
                small::run(s, job.a, b, job.c);
            }
            Way::Rows => rows::run(s, job, scratch),
            Way::Wide => run_wide(s, job, scratch),
            Way::Blocks => few::run_blocks(s, job, scratch),
            Way::Few => few::run(s, job, scratch),
            Way::Many => run_many(s, job, scratch),
        }
    }
}

/// As many columns as go that way, then the others.
#[inline(always)]
fn run_wide<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, scratch: &mut [Line]) {
    let at = wide::columns(&job);
    let (mut left, right) = job.split_cols(at);
    if let Some(b) = left.b.as_rows() {
        let target = Target { c: &mut left.c, base: left.accumulate, last: Some(&left.epilogue) };
        wide::run(s, left.a, b, target, scratch);
    }
    if right.c.cols() > 0 {
        many::run(s, right, scratch);
    }
}

/// Cuts a large product as [`Gemm::pieces`] does, so that each part of A fits its scratch.
#[inline(always)]
fn run_many<S: Simd, W: Weights>(s: S, job: Gemm<'_, W>, scratch: &mut [Line]) {
    let mut below = job;
    while below.a.rows() > M_PIECE {
        let (band, rest) = below.split_rows(M_PIECE);
        many::run(s, band, scratch);
        below = rest;
    }
    many::run(s, below, scratch);
}

/// Small products one after the other on this thread: what a batch of them costs least.
///
/// # Panics
/// As [`Gemm::run`], for each.
pub fn gemm_each<'a, W: Weights>(cpu: Cpu, jobs: impl Iterator<Item = Gemm<'a, W>>, scratch: &mut [Line]) {
    for job in jobs {
        job.run(cpu, scratch);
    }
}
