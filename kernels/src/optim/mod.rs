//! # Optimizers: one pass over a tensor's weights, gradients and moments
//!
//! **Math.**  g ← κ g first, κ the factor of clipping (1 where nothing is clipped). Then
//! - SGD    g += λ p;  m = μ m + (1 − δ) g;  p −= η (m, or g + μ m after Nesterov)
//! - AdamW  p *= 1 − η λ;  m += (1 − β₁)(g − m);  v = β₂ v + (1 − β₂) g²;
//!   p −= η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! - Lion   p *= 1 − η λ;  p −= η sign(β₁ m + (1 − β₁) g);  m = β₂ m + (1 − β₂) g
//!
//! **Law.**   Clause 3: each element for itself, one `fma` where a product meets a sum. What is the same for every
//! element (1 − η λ, the corrections of bias) is computed in `f64` and rounded once: [`crate::math`] has the powers.
//! Σ g² follows clause 2 with chains in `f64`.
//!
//! ```text
//!   p, m, v (n) ──┐ 16 at a time
//!   g       (n) ──┴─► step ─► p, m, v      nothing is read twice, nothing is kept
//! ```
//!
//! **Registers.**  2 to 4 words of state, 4 to 7 constants.   **Cost.**  AdamW: 16 bytes read and 12 written an
//! element, one √ and one ÷: memory binds.
//!
//! **Error.**  An update within 4 u of itself, a weight rounded once more: u |p| a step (tests/optim.rs).
//! **Reference.**  Loshchilov, Hutter 2019 (AdamW, [arXiv:1711.05101](https://arxiv.org/abs/1711.05101)); Chen et al. 2023 (Lion, [arXiv:2302.06675](https://arxiv.org/abs/2302.06675)); `torch.optim` 2.15.
//! **Next.**  [`eight`]: the same with moments of eight bits.

pub mod eight;

use crate::math::{exp64, ln64};
use crate::simd::{Simd, sqrt64};
use crate::{Cpu, Kernel, LANES};

/// What happens to one element and its `N` moments, lane by lane.
trait Step<const N: usize>: Copy {
    /// The new weight and moments. Must be `#[inline(always)]`.
    fn of<S: Simd>(&self, s: S, p: S::F32, g: S::F32, state: [S::F32; N]) -> (S::F32, [S::F32; N]);
}

/// A step over whole slices of one length.
struct Update<'a, F, const N: usize> {
    step: F,
    p: &'a mut [f32],
    g: &'a [f32],
    state: [&'a mut [f32]; N],
}

impl<F: Step<N>, const N: usize> Update<'_, F, N> {
    #[track_caller]
    fn run_on(self, cpu: Cpu) {
        let n = self.p.len();
        assert!(self.g.len() == n, "{n} weights, {} gradients", self.g.len());
        for state in &self.state {
            assert!(state.len() == n, "{n} weights, {} moments", state.len());
        }
        cpu.run(self);
    }
}

impl<F: Step<N>, const N: usize> Kernel for Update<'_, F, N> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Update { step, p, g, state } = self;
        let ((p, p_tail), (g, g_tail)) = (p.as_chunks_mut::<LANES>(), g.as_chunks::<LANES>());
        let mut state = state.map(<[f32]>::as_chunks_mut::<LANES>);
        let mut words = [s.splat(0.0); N];
        for (i, (p, g)) in p.iter_mut().zip(g).enumerate() {
            for (word, state) in words.iter_mut().zip(&state) {
                *word = s.load(&state.0[i]);
            }
            let (new, moments) = step.of(s, s.load(p), s.load(g), words);
            s.store(p, new);
            for (word, state) in moments.into_iter().zip(&mut state) {
                s.store(&mut state.0[i], word);
            }
        }
        if !p_tail.is_empty() {
            for (word, state) in words.iter_mut().zip(&state) {
                *word = s.load_tail(state.1, 0.0);
            }
            let (new, moments) = step.of(s, s.load_tail(p_tail, 0.0), s.load_tail(g_tail, 0.0), words);
            s.store_tail(p_tail, new);
            for (word, state) in moments.into_iter().zip(&mut state) {
                s.store_tail(state.1, word);
            }
        }
    }
}

/// Stochastic gradient descent, in the order of `torch.optim.SGD`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// η
    pub lr: f32,
    /// λ: part of the gradient (L2), not decoupled.
    pub weight_decay: f32,
    /// κ: what a gradient is multiplied by before all else.
    pub scale: f32,
}

/// [`Sgd`] with a moving sum of gradients. With moments of 0 at the start and no dampening, the first step is torch's.
///
/// ```
/// use samebits_kernels::{Cpu, optim::{Direction, Momentum, Sgd}};
/// let (cpu, sgd, g) = (Cpu::detect(), Sgd { lr: 0.5, weight_decay: 0.0, scale: 1.0 }, [2.0]);
/// let (mut p, mut q, mut m) = ([1.0], [1.0], [0.0]);
/// sgd.run(cpu, &mut p, &g);
/// assert_eq!(p, [0.0]); // 1 − ½ · 2
/// let momentum = Momentum { sgd, momentum: 0.5, direction: Direction::Moment };
/// momentum.run(cpu, &mut q, &g, &mut m);
/// momentum.run(cpu, &mut q, &g, &mut m);
/// assert_eq!((q, m), ([-1.5], [3.0])); // 0 − ½ (½ · 2 + 2)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// What it does without a moment.
    pub sgd: Sgd,
    /// μ
    pub momentum: f32,
    /// Which direction is gone.
    pub direction: Direction,
}

/// Where [`Momentum`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Along the moment.
    Moment,
    /// Along the gradient plus μ times the moment (Nesterov).
    Nesterov,
}

impl Sgd {
    /// λ p + κ g.
    #[inline(always)]
    fn gradient<S: Simd>(&self, s: S, p: S::F32, g: S::F32) -> S::F32 {
        s.fma(s.splat(self.weight_decay), p, s.mul(g, s.splat(self.scale)))
    }

    /// One step of all weights.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn run(self, cpu: Cpu, p: &mut [f32], g: &[f32]) {
        Update { step: self, p, g, state: [] }.run_on(cpu);
    }
}

impl Step<0> for Sgd {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, p: S::F32, g: S::F32, _: [S::F32; 0]) -> (S::F32, [S::F32; 0]) {
        (s.nfma(s.splat(self.lr), self.gradient(s, p, g), p), [])
    }
}

impl Momentum {
    /// One step of all weights and moments.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn run(self, cpu: Cpu, p: &mut [f32], g: &[f32], m: &mut [f32]) {
        Update { step: self, p, g, state: [m] }.run_on(cpu);
    }
}

impl Step<1> for Momentum {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, p: S::F32, g: S::F32, [m]: [S::F32; 1]) -> (S::F32, [S::F32; 1]) {
        let g = self.sgd.gradient(s, p, g);
        let m = s.fma(s.splat(self.momentum), m, g);
        let way = match self.direction {
            Direction::Moment => m,
            Direction::Nesterov => s.fma(s.splat(self.momentum), m, g),
        };
        (s.nfma(s.splat(self.sgd.lr), way, p), [m])
    }
}

/// Adam with decoupled weight decay, of one step: see [`AdamW::at`].
///
/// ```
/// use samebits_kernels::{Cpu, optim::{AdamW, AdamWOptions, Lion, sum_of_squares}};
/// let (cpu, g) = (Cpu::detect(), [3.0, -4.0]);
/// let scale = 1.0 / sum_of_squares(cpu, &g).sqrt() as f32; // gradients clipped to the norm 1
/// let (mut p, mut m, mut v) = ([1.0; 2], [0.0; 2], [0.0; 2]);
/// let options = AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 };
/// AdamW::at(1, 0.5, &options, scale).run(cpu, &mut p, &g, &mut m, &mut v);
/// assert!((p[0] - 0.5).abs() < 1e-6 && (p[1] - 1.5).abs() < 1e-6); // the first step goes by the rate
/// let mut m = [0.0; 2];
/// Lion::new(0.5, [0.9, 0.99], 0.0, scale).run(cpu, &mut p, &g, &mut m);
/// assert!(p[0].abs() < 1e-6 && (p[1] - 2.0).abs() < 1e-6); // so goes every step of Lion
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    /// η / (1 − β₁ᵗ)
    step_size: f32,
    /// 1 / √(1 − β₂ᵗ)
    correction: f32,
    eps: f32,
    scale: f32,
}

/// What AdamW is told; β₁, β₂, ε, λ as in the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// β₁, β₂
    pub betas: [f64; 2],
    /// ε, added to the corrected root.
    pub eps: f64,
    /// λ
    pub weight_decay: f64,
}

impl AdamW {
    /// Step t = 1, 2, … with rate η; gradients are multiplied by `scale` first.
    pub fn at(t: u64, lr: f64, options: &AdamWOptions, scale: f32) -> AdamW {
        let [beta1, beta2] = options.betas;
        let correction = |beta: f64| 1.0 - power(beta, t);
        AdamW {
            decay: (1.0 - lr * options.weight_decay) as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            step_size: (lr / correction(beta1)) as f32,
            correction: (1.0 / sqrt64(correction(beta2))) as f32,
            eps: options.eps as f32,
            scale,
        }
    }

    /// One step of all weights and moments.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn run(self, cpu: Cpu, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        Update { step: self, p, g, state: [m, v] }.run_on(cpu);
    }
}

/// β^t; 0 for β = 0, and t = 0 is not asked for.
fn power(beta: f64, t: u64) -> f64 {
    if beta == 0.0 { 0.0 } else { exp64(t as f64 * ln64(beta)) }
}

impl Step<2> for AdamW {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, p: S::F32, g: S::F32, [m, v]: [S::F32; 2]) -> (S::F32, [S::F32; 2]) {
        let g = s.mul(g, s.splat(self.scale));
        let m = s.fma(s.splat(self.one_minus_beta1), s.sub(g, m), m);
        let square = s.mul(s.mul(s.splat(self.one_minus_beta2), g), g);
        let v = s.fma(s.splat(self.beta2), v, square);
        let root = s.fma(s.sqrt(v), s.splat(self.correction), s.splat(self.eps));
        let p = s.mul(p, s.splat(self.decay));
        (s.nfma(s.splat(self.step_size), s.div(m, root), p), [m, v])
    }
}

/// Lion: the sign of an interpolation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// η
    pub lr: f32,
    /// 1 − η λ
    pub decay: f32,
    /// β₁, β₂ and what each lacks to 1.
    pub betas: [[f32; 2]; 2],
    /// κ
    pub scale: f32,
}

impl Lion {
    /// With rate η, β₁ and β₂, and λ; gradients are multiplied by `scale` first.
    pub fn new(lr: f64, betas: [f64; 2], weight_decay: f64, scale: f32) -> Lion {
        let betas = betas.map(|beta| [beta as f32, (1.0 - beta) as f32]);
        Lion { lr: lr as f32, decay: (1.0 - lr * weight_decay) as f32, betas, scale }
    }

    /// One step of all weights and moments.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn run(self, cpu: Cpu, p: &mut [f32], g: &[f32], m: &mut [f32]) {
        Update { step: self, p, g, state: [m] }.run_on(cpu);
    }
}

impl Step<1> for Lion {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, p: S::F32, g: S::F32, [m]: [S::F32; 1]) -> (S::F32, [S::F32; 1]) {
        let g = s.mul(g, s.splat(self.scale));
        let [[keep, add], [keep_next, add_next]] = self.betas;
        let way = s.fma(s.splat(keep), m, s.mul(s.splat(add), g));
        let p = s.mul(p, s.splat(self.decay));
        let (lr, zero) = (s.splat(self.lr), s.splat(0.0));
        let down = s.select(s.gt(way, zero), s.sub(p, lr), p);
        let p = s.select(s.gt(zero, way), s.add(p, lr), down);
        (p, [s.fma(s.splat(keep_next), m, s.mul(s.splat(add_next), g))])
    }
}

/// Σ x² in `f64`: sixteen chains, then the tree. It is finite exactly where every element is: the square of an `f32`
/// cannot overflow an `f64`, nor can a sum of fewer than 2⁶⁰⁰ of them.
pub fn sum_of_squares(cpu: Cpu, x: &[f32]) -> f64 {
    cpu.run(Squares(x))
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let (lines, rest) = self.0.as_chunks::<LANES>();
        let mut sum = s.splat_d(0.0);
        for line in lines {
            let x = s.widen(s.load(line));
            sum = s.add_d(sum, s.mul_d(x, x));
        }
        let x = s.widen(s.load_tail(rest, 0.0));
        s.sum_d(s.add_d(sum, s.mul_d(x, x)))
    }
}
