//! What a new adapter begins with.
//!
//! ```text
//!   Kaiming   A uniform in ±1/√in, B = 0          the model is unchanged, bit for bit
//!   Gaussian  A normal with deviation 1/r, B = 0
//!   PiSSA     B A = the r leading terms of W's singular value decomposition, W −= s B A
//!   OLoRA     B = Q, A = R of W's QR decomposition, W −= s B A
//!   LoftQ     W ≈ NF4 + s B A, by turns
//! ```
//!
//! All numbers are drawn by counter: a seed and the name of the layer decide them, on every machine alike.

use super::decompose::{Svd, orthonormalise, svd};
use super::{LoraLayer, LoraShape};
use crate::kernels::simd::sqrt64;
use crate::kernels::view::MatRef;
use crate::nn::Weight;
use crate::random::Philox;
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

pub use crate::random::normal;

/// How A and B begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// A uniform in ±1/√in, B zero: the default of peft.
    Kaiming,
    /// A normal with deviation 1/rank, B zero.
    Gaussian,
    /// The principal singular vectors of the base (Meng et al. 2024).
    Pissa,
    /// An orthonormal basis of the base (Büyükakyüz 2024).
    Olora,
    /// What NF4 loses of the base (Li et al. 2023): the base becomes NF4.
    Loftq {
        /// Elements that share a scale.
        blocksize: usize,
        /// Turns of quantising and decomposing.
        iterations: usize,
    },
}

/// What s is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// α / r
    ByRank,
    /// α / √r: rsLoRA (Kalajdzievski 2023).
    ByRoot,
}

impl Scaling {
    /// s for α and r.
    pub fn factor(self, alpha: f64, rank: usize) -> f32 {
        let rank = rank as f64;
        (alpha / if self == Scaling::ByRank { rank } else { sqrt64(rank) }) as f32
    }
}

/// What a new adapter is like; the defaults are those of peft.
///
/// ```
/// use samebits::kernels::view::MatRef;
/// use samebits::peft::{Init, LoraLayer, LoraOptions, Scaling};
/// use samebits::{Cpu, nn::Weight, random::Philox, run::Run};
/// assert_eq!((Scaling::ByRank.factor(16.0, 4), Scaling::ByRoot.factor(16.0, 4)), (4.0, 8.0));
/// let run = Run::here(Cpu::detect());
/// let base = Weight::from_f32(run.cpu(), MatRef::new(&[3.0, 0.0, 0.0, 1.0], 2, 2));
/// let options = LoraOptions { rank: 1, alpha: 1.0, init: Init::Pissa, ..LoraOptions::default() };
/// let (layer, rest) = LoraLayer::new(&run, &base, &options, (Philox::new(1), 0))?;
/// // The adapter begins as the principal part of the base, of which the rest is left.
/// assert!((layer.scale * layer.a[0] * layer.b[0] - 3.0).abs() < 1e-5);
/// assert!((rest.to_rows(run.cpu())[0]).abs() < 1e-5);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraOptions {
    /// r
    pub rank: usize,
    /// α
    pub alpha: f64,
    /// What s is.
    pub scaling: Scaling,
    /// The part of the inputs that training drops.
    pub dropout: f32,
    /// How A and B begin.
    pub init: Init,
}

impl Default for LoraOptions {
    fn default() -> LoraOptions {
        LoraOptions { rank: 8, alpha: 8.0, scaling: Scaling::ByRank, dropout: 0.0, init: Init::Kaiming }
    }
}

impl LoraOptions {
    /// # Errors
    /// Where the rank is 0, or the dropout is not in [0, 1).
    fn check(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::invalid("a LoRA of rank 0"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::invalid(format!("a dropout of {}, expected 0 up to below 1", self.dropout)));
        }
        Ok(())
    }
}

impl LoraLayer {
    /// A new adapter for `base` (out, in), and the base that belongs to it: another than before where the
    /// initialisation says so. `random` and `stream` decide the numbers; see [`super::stream_of`].
    ///
    /// # Errors
    /// Where the options make no sense, or LoftQ meets a base that is not finite.
    pub fn new(
        run: &Run<'_>,
        base: &Weight,
        options: &LoraOptions,
        (random, stream): (Philox, u64),
    ) -> Result<(LoraLayer, Weight)> {
        options.check()?;
        let (in_features, out_features) = (base.in_features(), base.out_features());
        let shape = LoraShape { in_features, out_features, rank: options.rank };
        let scale = options.scaling.factor(options.alpha, options.rank);
        let (mut layer, base) = match options.init {
            Init::Kaiming | Init::Gaussian => {
                let a = drawn(options, shape, random, stream);
                let b = vec![0.0; out_features * options.rank];
                (LoraLayer::from_parts(shape, a, b, scale), base.clone())
            }
            Init::Pissa => {
                let parts = svd(&wide(run, base), out_features, in_features, options.rank);
                subtracted(run, base, from_svd(shape, &parts, scale))
            }
            Init::Olora => subtracted(run, base, qr(&wide(run, base), shape, scale)),
            Init::Loftq { blocksize, iterations } => loftq(run, base, (blocksize, iterations), shape, scale)?,
        };
        layer.dropout = options.dropout;
        Ok((layer, base))
    }

    /// A new adapter for a table (entries, features): A zero, B normal, as peft begins.
    ///
    /// # Errors
    /// Where the options make no sense.
    pub fn for_table(
        (entries, features): (usize, usize),
        options: &LoraOptions,
        (random, stream): (Philox, u64),
    ) -> Result<LoraLayer> {
        options.check()?;
        let shape = LoraShape { in_features: entries, out_features: features, rank: options.rank };
        let b = (0..features * options.rank).map(|i| normal(random, i as u64, stream) as f32).collect();
        let scale = options.scaling.factor(options.alpha, options.rank);
        Ok(LoraLayer::from_parts(shape, vec![0.0; options.rank * entries], b, scale))
    }
}

/// A (rank, in), drawn element by element.
fn drawn(options: &LoraOptions, shape: LoraShape, random: Philox, stream: u64) -> Vec<f32> {
    let bound = 1.0 / sqrt64(shape.in_features as f64);
    let each = |i: usize| match options.init {
        Init::Gaussian => normal(random, i as u64, stream) / shape.rank as f64,
        _ => (2.0 * random.uniform(i as u64, stream) - 1.0) * bound,
    };
    (0..shape.rank * shape.in_features).map(|i| each(i) as f32).collect()
}

/// The base in `f64`, (out, in).
fn wide(run: &Run<'_>, base: &Weight) -> Vec<f64> {
    base.to_rows(run.cpu()).into_iter().map(f64::from).collect()
}

/// The layer and W − s B A.
fn subtracted(run: &Run<'_>, base: &Weight, layer: LoraLayer) -> (LoraLayer, Weight) {
    let mut w = base.to_rows(run.cpu());
    layer.add_delta(run, -1.0, None, &mut w);
    let w = MatRef::new(&w, base.out_features(), base.in_features());
    (layer, Weight::from_f32(run.cpu(), w))
}

/// A = √(S/s) Vᵀ, B = U √(S/s); ranks that the matrix does not have are zero.
fn from_svd(shape: LoraShape, parts: &Svd, scale: f32) -> LoraLayer {
    let LoraShape { in_features, out_features, rank } = shape;
    let (mut a, mut b) = (vec![0.0; rank * in_features], vec![0.0; out_features * rank]);
    for (r, ((u, v), s)) in parts.u.iter().zip(&parts.v).zip(&parts.s).enumerate() {
        let root = sqrt64(s / f64::from(scale.abs()));
        // A negative s changes the sign of one side.
        let sign = if scale < 0.0 { -root } else { root };
        a[r * in_features..][..in_features].iter_mut().zip(v).for_each(|(a, v)| *a = (root * v) as f32);
        b.iter_mut().skip(r).step_by(rank).zip(u).for_each(|(b, u)| *b = (sign * u) as f32);
    }
    LoraLayer::from_parts(shape, a, b, scale)
}

/// B = the first columns of Q, A = the first rows of R.
fn qr(w: &[f64], shape: LoraShape, scale: f32) -> LoraLayer {
    let LoraShape { in_features, out_features, rank } = shape;
    let columns = rank.min(in_features);
    let mut q: Vec<Vec<f64>> =
        (0..columns).map(|c| (0..out_features).map(|r| w[r * in_features + c]).collect()).collect();
    orthonormalise(&mut q);
    let (mut a, mut b) = (vec![0.0; rank * in_features], vec![0.0; out_features * rank]);
    for (r, q) in q.iter().enumerate() {
        let mut row = vec![0.0; in_features];
        for (w, q) in w.chunks_exact(in_features).zip(q) {
            row.iter_mut().zip(w).for_each(|(x, w)| *x += q * w);
        }
        a[r * in_features..][..in_features].iter_mut().zip(&row).for_each(|(a, x)| *a = *x as f32);
        b.iter_mut().skip(r).step_by(rank).zip(q).for_each(|(b, q)| *b = *q as f32);
    }
    LoraLayer::from_parts(shape, a, b, scale)
}

/// Quantises what the adapter leaves, decomposes what quantising leaves, by turns.
fn loftq(
    run: &Run<'_>,
    base: &Weight,
    (blocksize, iterations): (usize, usize),
    shape: LoraShape,
    scale: f32,
) -> Result<(LoraLayer, Weight)> {
    let w = base.to_rows(run.cpu());
    let zero = Svd { u: Vec::new(), s: Vec::new(), v: Vec::new() };
    let mut layer = from_svd(shape, &zero, scale);
    let mut coded = base.clone();
    for _ in 0..iterations.max(1) {
        let mut rest = w.clone();
        layer.add_delta(run, -1.0, None, &mut rest);
        let rest = MatRef::new(&rest, shape.out_features, shape.in_features);
        coded = Weight::from_f32(run.cpu(), rest)
            .to_nf4(run.cpu(), blocksize)
            .map_err(|e| Error::invalid(format!("LoftQ: {e}")))?;
        let lost: Vec<f64> =
            w.iter().zip(coded.to_rows(run.cpu())).map(|(w, c)| f64::from(*w) - f64::from(c)).collect();
        let parts = svd(&lost, shape.out_features, shape.in_features, shape.rank);
        layer = from_svd(shape, &parts, scale);
    }
    Ok((layer, coded))
}
