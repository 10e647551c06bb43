//! # Cross-entropy of logits, and its gradient, in place
//!
//! **Math.**  Row by row, with target t, smoothing ε, V logits:  p = softmax x,  q = (1 − ε) [j = t] + ε / V;
//! loss = −Σ_j q_j log p_j = L − (1 − ε) x_t − ε / V · Σ_j x_j,  L = log Σ_j exp x_j;
//! dx_j = scale · (p_j − q_j). A row whose target is to be ignored has loss 0 and dx +0, whatever its logits.
//!
//! **Law.**   Clause 2 with chains in `f64`: e = exp(x − m) in `f32`, Σ e and Σ x in `f64`, L = m + ln Σ e in `f64`.
//! dx_j = fma(e_j, round(scale / Σ e), −round(scale ε / V)); that of the target in `f64`, rounded once.
//!
//! ```text
//!   hidden (rows, d) ─ gemm ─► logits (rows, V)   a chunk of rows, as many as fit a few MiB
//!                                  │ m, then e and Σ e (Σ x), then dx: three passes over a row, in L2
//!                                  ▼
//!                  losses (rows) ◄─┴─► dlogits (rows, V), where the logits lay ─ gemm ─► dhidden, dW
//! ```
//!
//! So the logits of a whole batch are never in memory: a caller takes chunk after chunk, with one `scale` for all:
//! 1 for the sum, 1 / (targets that count) for the mean ([`CrossEntropy::mean_scale`]).
//!
//! **Registers.**  exp's, 16 chains in `f64`.   **Cost.**  8 bytes an element where a row fits L2; exp binds.
//! **Error.**  loss ≤ 4 u (1 + |L − m|) + 2⁻⁵⁰ Σ|terms|; dx ≤ 8 u scale (p + q) where |x − m| is small, p's error is
//! that of exp: 2 u (1 + |x − m|) else.
//! **Reference.**  Szegedy et al. 2016 ([arXiv:1512.00567](https://arxiv.org/abs/1512.00567), smoothing); llm.c (`fused_classifier`).
//! **Next.**  `scatter.rs`

use crate::math::exp::exp_nonpositive;
use crate::math::ln64;
use crate::rows::{set_word_at, word_at};
use crate::simd::Simd;
use crate::view::MatMut;
use crate::{Cpu, Kernel, LANES};

/// How the loss is defined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// A target that takes no part; −100 in PyTorch.
    pub ignore_index: i32,
    /// ε: this much of the target is spread over all logits.
    pub label_smoothing: f32,
    /// What the gradient is multiplied by.
    pub scale: f64,
}

impl Default for CrossEntropy {
    /// PyTorch's: −100 is ignored, nothing is smoothed; the gradient of the sum.
    fn default() -> Self {
        CrossEntropy { ignore_index: -100, label_smoothing: 0.0, scale: 1.0 }
    }
}

impl CrossEntropy {
    /// The scale of the mean over all targets that count: 1 / their number, or 0 where there is none (so that loss and
    /// gradients are 0, not NaN).
    pub fn mean_scale(&self, targets: &[i32]) -> f64 {
        let n = targets.iter().filter(|&&t| t != self.ignore_index).count();
        if n == 0 { 0.0 } else { 1.0 / n as f64 }
    }

    /// Whether every target of a vocabulary of `n` can be: in 0..n or ignored; else the first that cannot.
    ///
    /// # Errors
    /// Its place.
    pub fn check_targets(&self, targets: &[i32], n: usize) -> Result<(), usize> {
        let good = |&t: &i32| t == self.ignore_index || usize::try_from(t).is_ok_and(|t| t < n);
        targets.iter().position(|t| !good(t)).map_or(Ok(()), Err)
    }
}

/// Losses of rows of logits (rows, n), any strides, not scaled; the logits become their gradients. Rows do not see
/// each other: chunks and bands of rows give the bits of the whole.
///
/// ```
/// use samebits_kernels::cross_entropy::{CrossEntropy, cross_entropy};
/// use samebits_kernels::{Cpu, view::MatMut};
/// let (mut x, targets, mut losses) = ([0.0; 8], [2, -100], [0.0; 2]);
/// let mut how = CrossEntropy::default();
/// how.scale = how.mean_scale(&targets); // one of the two counts
/// cross_entropy(Cpu::detect(), &how, MatMut::new(&mut x, 2, 4), &targets, &mut losses);
/// assert!((losses[0] - 4f64.ln()).abs() < 1e-6); // four logits alike: ln 4
/// assert_eq!(x, [0.25, 0.25, -0.75, 0.25, 0.0, 0.0, 0.0, 0.0]); // p − q
/// ```
///
/// # Panics
/// Where `targets` or `losses` is not (rows), or a target is neither below n nor to be ignored.
pub fn cross_entropy(cpu: Cpu, how: &CrossEntropy, logits: MatMut, targets: &[i32], losses: &mut [f64]) {
    let (rows, n) = (logits.rows(), logits.cols());
    let given = (targets.len(), losses.len());
    assert!(given == (rows, rows), "logits ({rows}, {n}) with {given:?} targets and losses");
    if let Err(at) = how.check_targets(targets, n) {
        panic!("target {} of row {at} among {n} logits", targets[at]);
    }
    cpu.run(Rows { how, logits, targets, losses });
}

struct Rows<'a> {
    how: &'a CrossEntropy,
    logits: MatMut<'a>,
    targets: &'a [i32],
    losses: &'a mut [f64],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for r in 0..self.targets.len() {
            self.losses[r] = if self.targets[r] == self.how.ignore_index {
                for at in (0..self.logits.cols()).step_by(LANES) {
                    set_word_at(s, &mut self.logits, r, at, s.splat(0.0));
                }
                0.0
            } else {
                self.row(s, r, self.targets[r] as usize)
            };
        }
    }
}

impl Rows<'_> {
    /// The loss of row `r`, which becomes its gradient.
    #[inline(always)]
    fn row<S: Simd>(&mut self, s: S, r: usize, target: usize) -> f64 {
        let (n, scale) = (self.logits.cols(), self.how.scale);
        let smoothing = f64::from(self.how.label_smoothing);
        let all = if smoothing == 0.0 { 0.0 } else { self.total(s, r) };
        let m = self.max(s, r);
        let of_target = f64::from(self.logits.as_ref().get(r, target));
        let sum = self.exponentials(s, r, m);
        let of_all = smoothing / n as f64; // q of any other
        let loss = f64::from(m) + ln64(sum) - (1.0 - smoothing) * of_target - of_all * all;
        let hit = f64::from(self.logits.as_ref().get(r, target)) / sum - (1.0 - smoothing) - of_all;
        let (factor, less) = (s.splat((scale / sum) as f32), s.splat(-((scale * of_all) as f32)));
        for at in (0..n).step_by(LANES) {
            let e = word_at(s, &self.logits.as_ref(), r, at, 0.0);
            set_word_at(s, &mut self.logits, r, at, s.fma(e, factor, less));
        }
        *self.logits.at(r, target) = (hit * scale) as f32;
        loss
    }

    /// Σ x
    #[inline(always)]
    fn total<S: Simd>(&self, s: S, r: usize) -> f64 {
        let mut sum = s.splat_d(0.0);
        for at in (0..self.logits.cols()).step_by(LANES) {
            sum = s.add_d(sum, s.widen(word_at(s, &self.logits.as_ref(), r, at, -0.0)));
        }
        s.sum_d(sum)
    }

    /// max x without its NaNs: they reach the row through exp and the sum.
    #[inline(always)]
    fn max<S: Simd>(&self, s: S, r: usize) -> f32 {
        let mut m = s.splat(f32::NEG_INFINITY);
        for at in (0..self.logits.cols()).step_by(LANES) {
            m = s.max(word_at(s, &self.logits.as_ref(), r, at, f32::NEG_INFINITY), m);
        }
        s.max_lane(m)
    }

    /// x becomes e = exp(x − m); Σ e.
    #[inline(always)]
    fn exponentials<S: Simd>(&mut self, s: S, r: usize, m: f32) -> f64 {
        let mut sum = s.splat_d(0.0);
        for at in (0..self.logits.cols()).step_by(LANES) {
            let x = word_at(s, &self.logits.as_ref(), r, at, f32::NEG_INFINITY);
            let e = exp_nonpositive(s, s.sub(x, s.splat(m)));
            set_word_at(s, &mut self.logits, r, at, e);
            sum = s.add_d(sum, s.widen(e));
        }
        s.sum_d(sum)
    }
}
