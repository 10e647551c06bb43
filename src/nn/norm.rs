//! Normalisation of rows.

use crate::kernels::norm::{self as kernel, Gain};
use crate::kernels::view::{MatMut, MatRef};
use crate::run::Run;
use alloc::borrow::Cow;

mod backward;

/// A few numbers that a layer has: its own, or where a flat model holds them. `vec![…].into()` makes one.
///
/// ```
/// use samebits::nn::Vector;
/// static HELD: [f32; 2] = [1.0, 2.0]; // as in a flat model that lies in the program
/// let (own, held): (Vector, Vector) = (vec![1.0, 2.0].into(), (&HELD[..]).into());
/// assert_eq!(own, held);
/// ```
pub type Vector = Cow<'static, [f32]>;

/// LayerNorm: y = (x − μ) / √(σ² + ε) · w + b over each row (Ba, Kiros, Hinton 2016, [arXiv:1607.06450](https://arxiv.org/abs/1607.06450)).
///
/// ```
/// use samebits::{Cpu, nn::LayerNorm, run::Run};
/// let norm = LayerNorm { weight: vec![1.0; 2].into(), bias: Some(vec![0.0; 2].into()), eps: 0.0 };
/// let mut y = [0.0; 2];
/// norm.forward(&Run::here(Cpu::detect()), &[1.0, 3.0], &mut y);
/// assert_eq!(y, [-1.0, 1.0]);
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// w, (features).
    pub weight: Vector,
    /// b, (features); `None`: nothing is added.
    pub bias: Option<Vector>,
    /// ε.
    pub eps: f32,
}

/// RMSNorm: y = x / √(Σ x² / n + ε) · g over each row (Zhang, Sennrich 2019, [arXiv:1910.07467](https://arxiv.org/abs/1910.07467)).
///
/// ```
/// use samebits::{Cpu, nn::RmsNorm, run::Run};
/// let norm = RmsNorm { weight: vec![2.0; 2].into(), one_plus: false, eps: 0.0 };
/// let mut y = [0.0; 2];
/// norm.forward(&Run::here(Cpu::detect()), &[3.0, -3.0], &mut y);
/// assert_eq!(y, [2.0, -2.0]);
/// ```
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// w, (features).
    pub weight: Vector,
    /// Whether g is 1 + w, as Gemma stores it, and not w.
    pub one_plus: bool,
    /// ε.
    pub eps: f32,
}

/// Either of them.
///
/// ```
/// use samebits::{Cpu, nn::{LayerNorm, Norm, RmsNorm}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let layer = Norm::Layer(LayerNorm { weight: vec![1.0; 2].into(), bias: None, eps: 0.0 });
/// let rms = Norm::Rms(RmsNorm { weight: vec![1.0; 2].into(), one_plus: false, eps: 0.0 });
/// let (mut x, mut y) = ([1.0, 7.0], [1.0, 7.0]);
/// layer.forward_in_place(&run, &mut x);
/// rms.forward_in_place(&run, &mut y);
/// assert_eq!((x, y), ([-1.0, 1.0], [0.2, 1.4])); // from the mean 4; from 0
/// ```
#[derive(Clone, Debug)]
pub enum Norm {
    /// With mean and variance.
    Layer(LayerNorm),
    /// With the mean square.
    Rms(RmsNorm),
}

/// Floats that a piece has at least: below that, waking a thread costs more than it saves.
const PIECE: usize = 1 << 15;

impl LayerNorm {
    fn kernel(&self) -> kernel::LayerNorm<'_> {
        kernel::LayerNorm { weight: Some(&self.weight), bias: self.bias.as_deref(), eps: self.eps }
    }

    /// Rows of `x` to rows of `out`, both (rows, features).
    ///
    /// # Panics
    /// Where these are not whole rows of one number.
    pub fn forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32]) {
        let (n, cpu, norm) = (self.weight.len(), run.cpu(), self.kernel());
        bands(run, n, x, out, |x, out| kernel::layer_norm(cpu, x, &norm, out));
    }

    /// [`LayerNorm::forward`] where the rows lie.
    ///
    /// # Panics
    /// Where `x` is not whole rows.
    pub fn forward_in_place(&self, run: &Run<'_>, x: &mut [f32]) {
        let (n, cpu, norm) = (self.weight.len(), run.cpu(), self.kernel());
        bands_in_place(run, n, x, |x| kernel::layer_norm_in_place(cpu, x, &norm));
    }
}

impl RmsNorm {
    fn kernel(&self) -> kernel::RmsNorm<'_> {
        let gain = if self.one_plus { Gain::OnePlus(&self.weight) } else { Gain::Weight(&self.weight) };
        kernel::RmsNorm { gain, eps: self.eps }
    }

    /// Rows of `x` to rows of `out`, both (rows, features).
    ///
    /// # Panics
    /// Where these are not whole rows of one number.
    pub fn forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32]) {
        let (n, cpu, norm) = (self.weight.len(), run.cpu(), self.kernel());
        bands(run, n, x, out, |x, out| kernel::rms_norm(cpu, x, &norm, out));
    }

    /// [`RmsNorm::forward`] where the rows lie.
    ///
    /// # Panics
    /// Where `x` is not whole rows.
    pub fn forward_in_place(&self, run: &Run<'_>, x: &mut [f32]) {
        let (n, cpu, norm) = (self.weight.len(), run.cpu(), self.kernel());
        bands_in_place(run, n, x, |x| kernel::rms_norm_in_place(cpu, x, &norm));
    }
}

impl Norm {
    /// Features of a row.
    pub fn features(&self) -> usize {
        match self {
            Norm::Layer(norm) => norm.weight.len(),
            Norm::Rms(norm) => norm.weight.len(),
        }
    }

    /// Rows of `x` to rows of `out`, both (rows, features).
    ///
    /// # Panics
    /// Where these are not whole rows of one number.
    pub fn forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32]) {
        match self {
            Norm::Layer(norm) => norm.forward(run, x, out),
            Norm::Rms(norm) => norm.forward(run, x, out),
        }
    }

    /// [`Norm::forward`] where the rows lie.
    ///
    /// # Panics
    /// Where `x` is not whole rows.
    pub fn forward_in_place(&self, run: &Run<'_>, x: &mut [f32]) {
        match self {
            Norm::Layer(norm) => norm.forward_in_place(run, x),
            Norm::Rms(norm) => norm.forward_in_place(run, x),
        }
    }
}

/// Floats of a piece of rows of `n`.
fn piece(n: usize) -> usize {
    PIECE.div_ceil(n.max(1)) * n.max(1)
}

fn bands(run: &Run<'_>, n: usize, x: &[f32], out: &mut [f32], f: impl Fn(MatRef<'_>, MatMut<'_>) + Sync) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(n.max(1)), "norm of {n}: {} floats", x.len());
    run.pieces(x.chunks(piece(n)).zip(out.chunks_mut(piece(n))), |(x, out), _| {
        let rows = x.len() / n;
        f(MatRef::new(x, rows, n), MatMut::new(out, rows, n));
    });
}

fn bands_in_place(run: &Run<'_>, n: usize, x: &mut [f32], f: impl Fn(MatMut<'_>) + Sync) {
    assert!(x.len().is_multiple_of(n.max(1)), "norm of {n}: {} floats", x.len());
    run.pieces(x.chunks_mut(piece(n)), |x, _| {
        let rows = x.len() / n;
        f(MatMut::new(x, rows, n));
    });
}
