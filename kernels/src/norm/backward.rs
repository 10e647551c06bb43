//! The gradients of LayerNorm and RMSNorm.
//!
//! **Math.**  With x̂ = (x − μ) r, r = 1 / √(σ² + ε), g = dy · w:
//! LayerNorm  dx = r (g − Σ g / n − x̂ Σ g x̂ / n);   RMSNorm (μ = 0, w may be 1 + w)  dx = r (g − x̂ Σ g x̂ / n);
//! dw_j = Σ_rows dy x̂,  db_j = Σ_rows dy (a [`ColumnSum`](crate::column_sum::ColumnSum)).
//!
//! **Law.**   dx: clause 2, chains in `f64`, all of it in `f64` and rounded once. dw: clause 1 with token rows as k,
//! chains of fma(dy, x̂, ·), x̂ rounded to `f32` as in the forward pass.
//!
//! ```text
//!   by rows      x, dy ──► μ, r ──► Σ g, Σ g x̂ ──► dx         pieces: bands of rows
//!                         └─► Stats, two doubles a row
//!   by columns   x, dy, Stats ──► dw                          pieces: 256 columns, every row
//! ```
//!
//! **Registers.**  f64: two chains, g, x̂, μ, r.   **Cost.**  12 bytes an element; 10 operations in `f64` in two passes
//! over a row in L1, and those of the forward statistics.
//! **Error.**  dx ≤ 2 u |r| (|g| + Σ|g|/n + |x̂| Σ|g x̂|/n); dw as `ColumnSum`, ≤ 33 u Σ|dy x̂|.
//! **Reference.**  Ba, Kiros, Hinton 2016 ([arXiv:1607.06450](https://arxiv.org/abs/1607.06450)), appendix.   **Next.**  `softmax/backward.rs`

use super::{Gain, LayerNorm, Param, RmsNorm, scaled};
use crate::column_sum::{Sums, Terms};
use crate::gemm::Accumulate;
use crate::rows::{check_shape, set_word_at, word_at};
use crate::simd::{Simd, sqrt64};
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// What a row was centred on and scaled by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// μ, or 0.
    pub mean: f64,
    /// 1 / √(… + ε).
    pub scale: f64,
}

/// What the gradient of rows is computed from, and where it goes.
///
/// ```
/// use samebits_kernels::norm::{Gain, NormBackward, NormWeights, RmsNorm, Stats, rms_norm_backward};
/// use samebits_kernels::{Cpu, gemm::Accumulate::Overwrite, view::{MatMut, MatRef}};
/// let (cpu, x, dy, mut dx, mut dw) = (Cpu::detect(), [1.0, 7.0], [1.0, 0.0], [0.0; 2], [0.0; 2]);
/// let (x, dy, mut stats) = (MatRef::new(&x, 1, 2), MatRef::new(&dy, 1, 2), [Stats::default()]);
/// let norm = RmsNorm { gain: Gain::One, eps: 0.0 };
/// let rows = NormBackward { x, dy, dx: MatMut::new(&mut dx, 1, 2), accumulate: Overwrite, stats: &mut stats };
/// rms_norm_backward(cpu, &norm, rows);
/// NormWeights { x, dy, stats: &stats, accumulate: Overwrite, out: &mut dw }.run(cpu);
/// assert_eq!(stats[0].scale, 0.2); // 1 / √((1 + 49) / 2)
/// assert_eq!(dw, [0.2, 0.0]);
/// // y₀ = x₀ · scale: its slopes are scale − x₀² scale³ / 2 and −x₀ x₁ scale³ / 2
/// assert!((dx[0] - 0.196).abs() < 1e-7 && (dx[1] + 0.028).abs() < 1e-7);
/// ```
pub struct NormBackward<'a> {
    /// The input of the forward pass, (rows, n), any strides.
    pub x: MatRef<'a>,
    /// (rows, n), any strides.
    pub dy: MatRef<'a>,
    /// (rows, n), any strides.
    pub dx: MatMut<'a>,
    /// Whether dx is added to: with the gradient that passes a residual connection in it.
    pub accumulate: Accumulate,
    /// (rows): written, for [`NormWeights`].
    pub stats: &'a mut [Stats],
}

impl NormBackward<'_> {
    #[track_caller]
    fn check(&self) {
        check_shape(&self.x, &self.dx.as_ref());
        check_shape(&self.dy, &self.dx.as_ref());
        assert!(self.stats.len() == self.x.rows(), "{} stats for {:?}", self.stats.len(), self.x);
    }
}

/// dx of [`layer_norm`](super::layer_norm).
///
/// ```
/// use samebits_kernels::norm::{LayerNorm, NormBackward, Stats, layer_norm_backward};
/// use samebits_kernels::{Cpu, gemm::Accumulate::Overwrite, view::{MatMut, MatRef}};
/// let (x, dy, mut dx, mut stats) = ([1.0, 2.0, 6.0], [5.0; 3], [9.0; 3], [Stats::default()]);
/// let dx_at = MatMut::new(&mut dx, 1, 3);
/// let (x, dy) = (MatRef::new(&x, 1, 3), MatRef::new(&dy, 1, 3));
/// let rows = NormBackward { x, dy, dx: dx_at, accumulate: Overwrite, stats: &mut stats };
/// layer_norm_backward(Cpu::detect(), &LayerNorm { weight: None, bias: None, eps: 1e-5 }, rows);
/// assert!(dx.iter().all(|d| d.abs() < 1e-6)); // what moves all outputs alike moves nothing
/// assert_eq!(stats[0].mean, 3.0);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn layer_norm_backward(cpu: Cpu, norm: &LayerNorm, rows: NormBackward<'_>) {
    rows.check();
    let weight = Param::new(norm.weight, rows.x.cols(), 1.0);
    cpu.run(Backward { centred: true, rows, weight, base: -0.0, eps: f64::from(norm.eps) });
}

/// dx of [`rms_norm`](super::rms_norm).
///
/// # Panics
/// Where the shapes differ.
pub fn rms_norm_backward(cpu: Cpu, norm: &RmsNorm, rows: NormBackward<'_>) {
    rows.check();
    let (weight, base) = match norm.gain {
        Gain::One => (None, -0.0),
        Gain::Weight(w) => (Some(w), -0.0),
        Gain::OnePlus(w) => (Some(w), 1.0),
    };
    let weight = Param::new(weight, rows.x.cols(), 1.0);
    cpu.run(Backward { centred: false, rows, weight, base, eps: f64::from(norm.eps) });
}

/// Of either norm: one function for both.
struct Backward<'a, 'w> {
    /// Whether the mean is taken away, as LayerNorm does.
    centred: bool,
    rows: NormBackward<'a>,
    weight: Param<'w>,
    /// Added to the weight.
    base: f32,
    eps: f64,
}

impl Kernel for Backward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for r in 0..self.rows.x.rows() {
            let stats = self.stats(s, r);
            self.rows.stats[r] = stats;
            self.row(s, r, stats);
        }
    }
}

impl Backward<'_, '_> {
    /// As the forward pass computes them.
    #[inline(always)]
    fn stats<S: Simd>(&self, s: S, r: usize) -> Stats {
        let (x, cols) = (&self.rows.x, self.rows.x.cols());
        let n = cols as f64;
        let mut mean = 0.0;
        if self.centred {
            let mut sum = s.splat_d(0.0);
            for at in (0..cols).step_by(LANES) {
                sum = s.add_d(sum, s.widen(word_at(s, x, r, at, -0.0)));
            }
            mean = s.sum_d(sum) / n;
        }
        let (center, mut sum) = (s.splat_d(mean), s.splat_d(0.0));
        for at in (0..cols).step_by(LANES) {
            let mut d = s.sub_d(s.widen(word_at(s, x, r, at, 0.0)), center);
            if cols - at < LANES {
                // Lanes past the row count 0 × their distance.
                let live = s.load_tail(&[1.0; LANES][..cols - at], 0.0);
                d = s.mul_d(d, s.widen(live));
            }
            sum = s.add_d(sum, s.mul_d(d, d));
        }
        Stats { mean, scale: 1.0 / sqrt64(s.sum_d(sum) / n + self.eps) }
    }

    /// g and x̂ of sixteen columns; past the row g is +0.
    #[inline(always)]
    fn terms<S: Simd>(&self, s: S, r: usize, at: usize, stats: Stats) -> (S::F64, S::F64) {
        let NormBackward { x, dy, .. } = &self.rows;
        let weight =
            if at + LANES <= x.cols() { self.weight.word(s, at / LANES) } else { self.weight.tail(s) };
        let weight = s.add(s.splat(self.base), weight);
        let g = s.mul_d(s.widen(word_at(s, dy, r, at, 0.0)), s.widen(weight));
        let x = s.sub_d(s.widen(word_at(s, x, r, at, 0.0)), s.splat_d(stats.mean));
        (g, s.mul_d(x, s.splat_d(stats.scale)))
    }

    #[inline(always)]
    fn row<S: Simd>(&mut self, s: S, r: usize, stats: Stats) {
        let cols = self.rows.x.cols();
        let (mut plain, mut with_x) = (s.splat_d(0.0), s.splat_d(0.0));
        for at in (0..cols).step_by(LANES) {
            let (g, x) = self.terms(s, r, at, stats);
            if self.centred {
                plain = s.add_d(plain, g);
            }
            with_x = s.add_d(with_x, s.mul_d(g, x));
        }
        let n = cols as f64;
        let mean = s.splat_d(if self.centred { s.sum_d(plain) / n } else { 0.0 });
        let (slope, scale) = (s.splat_d(s.sum_d(with_x) / n), s.splat_d(stats.scale));
        for at in (0..cols).step_by(LANES) {
            let (g, x) = self.terms(s, r, at, stats);
            let centred = if self.centred { s.sub_d(g, mean) } else { g };
            let mut dx = s.narrow(s.mul_d(s.sub_d(centred, s.mul_d(x, slope)), scale));
            if self.rows.accumulate == Accumulate::Add {
                dx = s.add(word_at(s, &self.rows.dx.as_ref(), r, at, 0.0), dx);
            }
            set_word_at(s, &mut self.rows.dx, r, at, dx);
        }
    }
}

/// dw of either norm, whole or in pieces.
pub struct NormWeights<'a> {
    /// The input of the forward pass, (rows, n), any strides.
    pub x: MatRef<'a>,
    /// (rows, n), any strides.
    pub dy: MatRef<'a>,
    /// (rows), from [`layer_norm_backward`] or [`rms_norm_backward`].
    pub stats: &'a [Stats],
    /// Whether dw is added to.
    pub accumulate: Accumulate,
    /// dw, (n).
    pub out: &'a mut [f32],
}

/// Columns of a piece.
const PIECE: usize = 256;

impl<'a> NormWeights<'a> {
    #[track_caller]
    fn check(&self) {
        check_shape(&self.x, &self.dy);
        let given = (self.stats.len(), self.out.len());
        assert!(given == (self.x.rows(), self.x.cols()), "{given:?} stats and outputs for {:?}", self.x);
    }

    /// Computes dw on this thread.
    ///
    /// # Panics
    /// Where the shapes differ.
    pub fn run(self, cpu: Cpu) {
        self.check();
        let NormWeights { x, dy, stats, accumulate, out } = self;
        cpu.run(Sums { terms: Products { x, dy, stats }, rows: x.rows(), accumulate, out });
    }

    /// The same as pieces, 256 columns each; they may run in any order, on any threads.
    ///
    /// # Panics
    /// Where the shapes differ.
    pub fn pieces(self) -> impl ExactSizeIterator<Item = NormWeights<'a>> {
        self.check();
        let NormWeights { x, dy, stats, accumulate, out } = self;
        out.chunks_mut(PIECE).enumerate().map(move |(i, out)| {
            let cols = i * PIECE..i * PIECE + out.len();
            let part = |m: MatRef<'a>| m.sub(0..x.rows(), cols.clone());
            NormWeights { x: part(x), dy: part(dy), stats, accumulate, out }
        })
    }
}

/// dy · x̂
#[derive(Clone, Copy)]
struct Products<'a> {
    x: MatRef<'a>,
    dy: MatRef<'a>,
    stats: &'a [Stats],
}

impl Terms for Products<'_> {
    #[inline(always)]
    fn add<S: Simd, const N: usize>(&self, s: S, r: usize, at: usize, chains: &mut [S::F32; N]) {
        let (mean, scale) = (s.splat_d(self.stats[r].mean), s.splat_d(self.stats[r].scale));
        for (i, chain) in chains.iter_mut().enumerate() {
            let at = at + i * LANES;
            let unit = scaled(s, word_at(s, &self.x, r, at, 0.0), mean, scale);
            *chain = s.fma(word_at(s, &self.dy, r, at, 0.0), unit, *chain);
        }
    }
}
