//! # LayerNorm and RMSNorm of rows, alone or fused with the residual addition
//!
//! **Math.**  LayerNorm: y = (x − μ) / √(σ² + ε) · w + b,  μ = Σ x / n,  σ² = Σ (x − μ)² / n (biased, two passes);
//! RMSNorm: y = x / √(Σ x² / n + ε) · g,  g = 1, w or 1 + w (Gemma).
//!
//! **Law.**   Clause 2, chains in `f64`; quotients and the root in `f64`, one value a row.
//!
//! ```text
//!   row       x0…x15 │ x16…x31 │ … │ tail             f64, sixteen chains
//!   pass 1    Σ x ─────────────────────► μ            (LayerNorm)
//!   pass 2    Σ (x − μ)²  or  Σ x² ────► r = 1 / √(… / n + ε)
//!   pass 3    x̂ = round((x − μ) · r);  y = fma(x̂, w, b)  or  x̂ · g
//! ```
//!
//! x̂ is computed in `f64` and rounded once: rows of 10³⁸ and of 10⁻⁴⁰ (with ε = 0) come out as exact as
//! rows of 1. No bias is a bias of −0, the neutral element of addition; no weight is a weight of 1.
//!
//! **Registers.**  16 f64 chains, x as f64, μ, r: AVX2 14 ymm, AVX-512 7 zmm, NEON 28 q.
//!
//! **Cost.**  8 bytes an element from memory; 3 conversions and 6 operations (RMSNorm), 4 and 9 (LayerNorm).
//!
//! **Error.**  RMSNorm ≤ 2.5 ulp (1 + w is rounded once before); LayerNorm ≤ 3 u · (|w x̂| + |b|); for n ≤ 2²⁴.
//! **Reference.**  Ba, Kiros, Hinton 2016 ([arXiv:1607.06450](https://arxiv.org/abs/1607.06450)); Zhang, Sennrich 2019 ([arXiv:1910.07467](https://arxiv.org/abs/1910.07467)).
//! **Next.**  [`crate::elementwise`].

mod backward;
pub use backward::{NormBackward, NormWeights, Stats, layer_norm_backward, rms_norm_backward};

use crate::LANES;
use crate::cpu::{Cpu, Kernel};
use crate::elementwise::Add;
use crate::map::Zip;
use crate::rows::{Row, RowKernel, Rows, check_shape};
use crate::simd::{Floats, Simd, sqrt64};
use crate::view::{MatMut, MatRef};

/// The parameters of LayerNorm over rows of `n` elements.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// w, (n); `None`: 1.
    pub weight: Option<&'a [f32]>,
    /// b, (n); `None`: nothing is added.
    pub bias: Option<&'a [f32]>,
    /// ε, added to the variance.
    pub eps: f32,
}

/// What RMSNorm multiplies by.
#[derive(Clone, Copy, Debug)]
pub enum Gain<'a> {
    /// Nothing.
    One,
    /// w, (n).
    Weight(&'a [f32]),
    /// 1 + w, (n), as Gemma stores it; the sum is rounded once.
    OnePlus(&'a [f32]),
}

/// The parameters of RMSNorm over rows of `n` elements.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// g.
    pub gain: Gain<'a>,
    /// ε, added to the mean square.
    pub eps: f32,
}

/// LayerNorm of each row of x, (rows, n), any strides. A NaN or an infinity makes the whole row NaN.
///
/// ```
/// use samebits_kernels::norm::{LayerNorm, add_layer_norm, layer_norm, layer_norm_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (cpu, x, mut y) = (Cpu::detect(), [1.0, 3.0], [0.0; 2]);
/// let norm = LayerNorm { weight: Some(&[10.0, 10.0]), bias: Some(&[0.5, 0.5]), eps: 0.0 };
/// layer_norm(cpu, MatRef::new(&x, 1, 2), &norm, MatMut::new(&mut y, 1, 2));
/// assert_eq!(y, [-9.5, 10.5]); // mean 2, deviation 1
/// // After a residual connection, in one pass: x becomes the sum.
/// let (mut sum, mut z) = ([0.5, 1.0], [0.0; 2]);
/// add_layer_norm(cpu, MatMut::new(&mut sum, 1, 2), MatRef::new(&[0.5, 2.0], 1, 2), &norm, MatMut::new(&mut z, 1, 2));
/// assert_eq!((sum, z), (x, y));
/// layer_norm_in_place(cpu, MatMut::new(&mut sum, 1, 2), &norm);
/// assert_eq!(sum, y);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn layer_norm(cpu: Cpu, x: MatRef, norm: &LayerNorm, out: MatMut) {
    check_shape(&x, &out.as_ref());
    cpu.run(Rows { x: Some(x), kernel: Layer::new(norm, out.cols()), out });
}

/// [`layer_norm`] where the rows lie.
///
/// # Panics
/// Where a parameter is not (n).
pub fn layer_norm_in_place(cpu: Cpu, x: MatMut, norm: &LayerNorm) {
    cpu.run(Rows { x: None, kernel: Layer::new(norm, x.cols()), out: x });
}

/// RMSNorm of each row of x, (rows, n), any strides. A NaN makes the whole row NaN; beside an infinity finite
/// elements become 0.
///
/// ```
/// use samebits_kernels::norm::{Gain, RmsNorm, add_rms_norm, rms_norm, rms_norm_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (cpu, x, mut y) = (Cpu::detect(), [1.0, 7.0], [0.0; 2]);
/// let norm = RmsNorm { gain: Gain::Weight(&[10.0, 10.0]), eps: 0.0 };
/// rms_norm(cpu, MatRef::new(&x, 1, 2), &norm, MatMut::new(&mut y, 1, 2));
/// assert_eq!(y, [2.0, 14.0]); // √((1 + 49) / 2) = 5
/// let (mut sum, mut z) = ([0.0, 3.0], [0.0; 2]);
/// add_rms_norm(cpu, MatMut::new(&mut sum, 1, 2), MatRef::new(&[1.0, 4.0], 1, 2), &norm, MatMut::new(&mut z, 1, 2));
/// assert_eq!((sum, z), (x, y));
/// let gemma = RmsNorm { gain: Gain::OnePlus(&[9.0, 9.0]), eps: 0.0 };
/// rms_norm_in_place(cpu, MatMut::new(&mut sum, 1, 2), &gemma);
/// assert_eq!(sum, y);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn rms_norm(cpu: Cpu, x: MatRef, norm: &RmsNorm, out: MatMut) {
    check_shape(&x, &out.as_ref());
    cpu.run(Rows { x: Some(x), kernel: Rms::new(norm, out.cols()), out });
}

/// [`rms_norm`] where the rows lie.
///
/// # Panics
/// Where the gain is not (n).
pub fn rms_norm_in_place(cpu: Cpu, x: MatMut, norm: &RmsNorm) {
    cpu.run(Rows { x: None, kernel: Rms::new(norm, x.cols()), out: x });
}

/// x = x + residual, out = LayerNorm(x), row by row while the row is in the cache; all (rows, n).
///
/// # Panics
/// Where the shapes differ.
pub fn add_layer_norm(cpu: Cpu, x: MatMut, residual: MatRef, norm: &LayerNorm, out: MatMut) {
    check_shape(&x.as_ref(), &out.as_ref());
    check_shape(&residual, &out.as_ref());
    cpu.run(AddThen { x, residual, kernel: Layer::new(norm, out.cols()), out });
}

/// x = x + residual, out = RMSNorm(x), row by row while the row is in the cache; all (rows, n).
///
/// # Panics
/// Where the shapes differ.
pub fn add_rms_norm(cpu: Cpu, x: MatMut, residual: MatRef, norm: &RmsNorm, out: MatMut) {
    check_shape(&x.as_ref(), &out.as_ref());
    check_shape(&residual, &out.as_ref());
    cpu.run(AddThen { x, residual, kernel: Rms::new(norm, out.cols()), out });
}

/// The residual addition, then a row kernel, one row at a time.
struct AddThen<'a, K> {
    x: MatMut<'a>,
    residual: MatRef<'a>,
    out: MatMut<'a>,
    kernel: K,
}

impl<K: RowKernel + Copy> Kernel for AddThen<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let cols = 0..self.out.cols();
        for r in 0..self.out.rows() {
            let mut x = self.x.reborrow().sub(r..r + 1, cols.clone());
            let residual = self.residual.sub(r..r + 1, cols.clone());
            Zip { f: Add, a: None, b: residual, y: x.reborrow() }.run(s);
            let out = self.out.reborrow().sub(r..r + 1, cols.clone());
            Rows { x: Some(x.as_ref()), out, kernel: self.kernel }.run(s);
        }
    }
}

/// A parameter vector as words; where there is none, `default` in every lane.
#[derive(Clone, Copy)]
struct Param<'a> {
    words: &'a [Floats],
    tail: &'a [f32],
    default: f32,
}

impl<'a> Param<'a> {
    #[track_caller]
    fn new(x: Option<&'a [f32]>, n: usize, default: f32) -> Self {
        let (words, tail) = x.unwrap_or_default().as_chunks();
        if let Some(x) = x {
            assert!(x.len() == n, "parameter of {} elements, rows of {n}", x.len());
        }
        Param { words, tail, default }
    }
    #[inline(always)]
    fn word<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        match self.words.get(i) {
            Some(w) => s.load(w),
            None => s.splat(self.default),
        }
    }
    #[inline(always)]
    fn tail<S: Simd>(&self, s: S) -> S::F32 {
        s.load_tail(self.tail, self.default)
    }
}

#[derive(Clone, Copy)]
struct Layer<'a> {
    weight: Param<'a>,
    bias: Param<'a>,
    eps: f64,
}

impl<'a> Layer<'a> {
    #[track_caller]
    fn new(norm: &LayerNorm<'a>, n: usize) -> Self {
        Layer {
            weight: Param::new(norm.weight, n, 1.0),
            bias: Param::new(norm.bias, n, -0.0),
            eps: f64::from(norm.eps),
        }
    }
}

impl RowKernel for Layer<'_> {
    #[inline(always)]
    fn row<S: Simd, R: Row>(&self, s: S, row: &mut R) {
        let n = row.len() as f64;
        let mean = s.splat_d(total(s, row) / n);
        let variance = squares(s, row, mean) / n;
        let scale = s.splat_d(1.0 / sqrt64(variance + self.eps));
        for i in 0..row.words() {
            let unit = scaled(s, row.read(s, i), mean, scale);
            let y = s.fma(unit, self.weight.word(s, i), self.bias.word(s, i));
            row.write(s, i, y);
        }
        if row.has_tail() {
            let unit = scaled(s, row.read_tail(s, 0.0), mean, scale);
            let y = s.fma(unit, self.weight.tail(s), self.bias.tail(s));
            row.write_tail(s, y);
        }
    }
}

/// (x − center) · scale in `f64`, rounded once.
#[inline(always)]
fn scaled<S: Simd>(s: S, x: S::F32, center: S::F64, scale: S::F64) -> S::F32 {
    s.narrow(s.mul_d(s.sub_d(s.widen(x), center), scale))
}

#[derive(Clone, Copy)]
struct Rms<'a> {
    weight: Param<'a>,
    /// Added to the weight: 1 for Gemma, else −0, which changes nothing.
    base: f32,
    eps: f64,
}

impl<'a> Rms<'a> {
    #[track_caller]
    fn new(norm: &RmsNorm<'a>, n: usize) -> Self {
        let (weight, base) = match norm.gain {
            Gain::One => (None, -0.0),
            Gain::Weight(w) => (Some(w), -0.0),
            Gain::OnePlus(w) => (Some(w), 1.0),
        };
        Rms { weight: Param::new(weight, n, 1.0), base, eps: f64::from(norm.eps) }
    }
}

impl RowKernel for Rms<'_> {
    #[inline(always)]
    fn row<S: Simd, R: Row>(&self, s: S, row: &mut R) {
        let mean_square = squares(s, row, s.splat_d(0.0)) / row.len() as f64;
        let scale = s.splat_d(1.0 / sqrt64(mean_square + self.eps));
        let (zero, base) = (s.splat_d(0.0), s.splat(self.base));
        for i in 0..row.words() {
            let unit = scaled(s, row.read(s, i), zero, scale);
            let y = s.mul(unit, s.add(base, self.weight.word(s, i)));
            row.write(s, i, y);
        }
        if row.has_tail() {
            let unit = scaled(s, row.read_tail(s, 0.0), zero, scale);
            let y = s.mul(unit, s.add(base, self.weight.tail(s)));
            row.write_tail(s, y);
        }
    }
}

/// Σ x, chains in `f64`.
#[inline(always)]
fn total<S: Simd, R: Row>(s: S, row: &R) -> f64 {
    let mut sum = s.splat_d(0.0);
    for i in 0..row.words() {
        sum = s.add_d(sum, s.widen(row.read(s, i)));
    }
    if row.has_tail() {
        sum = s.add_d(sum, s.widen(row.read_tail(s, -0.0)));
    }
    s.sum_d(sum)
}

/// Σ (x − center)², chains in `f64`.
#[inline(always)]
fn squares<S: Simd, R: Row>(s: S, row: &R, center: S::F64) -> f64 {
    let mut sum = s.splat_d(0.0);
    for i in 0..row.words() {
        let d = s.sub_d(s.widen(row.read(s, i)), center);
        sum = s.add_d(sum, s.mul_d(d, d));
    }
    if row.has_tail() {
        // Lanes past the row count 0 × their distance.
        let live = s.load_tail(&[1.0; LANES][..row.len() % LANES], 0.0);
        let d = s.mul_d(s.sub_d(s.widen(row.read_tail(s, 0.0)), center), s.widen(live));
        sum = s.add_d(sum, s.mul_d(d, d));
    }
    s.sum_d(sum)
}
