//! The gradients of activations and of the gated forms, from the saved inputs.
//!
//! **Math.**  y = f(x):  dx = dy · f'(x);   y = f(gate) · up:  dgate = (dy · up) · f'(gate),  dup = dy · f(gate).
//! relu' = [x > 0];  f = x · σ(t(x)):  f' = σ + x · (σ (1 − σ)) · t',  with t = x (silu), 1.702 x (gelu_quick),
//! 2√(2/π) (x + 0.044715 x³) (gelu_tanh);  gelu_erf' = Φ(x) + x φ(x),  φ(x) = e^(−x²/2) / √(2π).
//!
//! **Law.**   Clause 3; elementwise. f(gate) has the bits of the forward pass.
//!
//! ```text
//!   x  ─► σ = 1 / (1 + e^−t) ─┬─► 1 − σ ─ · σ · t' ─► fma(x, ·, σ) ─ · dy ─► dx
//!         clamp ──────────────┘   so that ∞ · 0 does not arise
//! ```
//!
//! **Registers.**  Those of the activation, and three lines.   **Cost.**  12 bytes an element (gated 20); 20 to 40
//! operations a line, one a division.
//! **Error.**  |dx − dy f'(x)| ≤ 64 u |dy| (|σ| + |x σ (1 − σ) t'|) + 2⁻¹¹⁸ |dy| (Φ and x φ for gelu_erf), Σ|terms|, up
//! to |t| = 8; beyond, |t|/8 times that: where e^t is tiny, a rounding of t shows.
//! relu'(0) = 0 as in PyTorch; a NaN input gives NaN, for relu dy.
//! **Reference.**  Hendrycks, Gimpel 2016, [arXiv:1606.08415](https://arxiv.org/abs/1606.08415); Shazeer 2020, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202).   **Next.**  `norm/backward.rs`

use super::Activation;
use crate::Cpu;
use crate::map::{self, Lanes, Pairwise};
use crate::math::exp::{exp, exp_nonpositive};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};

impl Activation {
    /// f' of every lane.
    #[inline(always)]
    pub fn slope<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        match self {
            Activation::Identity => s.splat(1.0),
            Activation::Relu => s.select(s.ge(s.splat(0.0), x), s.splat(0.0), s.splat(1.0)),
            Activation::GeluErf => gelu_erf_slope(s, x),
            Activation::GeluTanh => {
                // From 12 on σ is 0 or 1.
                let near = clamp(s, x, 12.0);
                let t = s.fma(s.mul(x, x), s.splat(-0.071_354_814), s.splat(-1.595_769_2));
                let slope = s.fma(s.mul(near, near), s.splat(0.214_064_44), s.splat(1.595_769_2));
                times_sigma_slope(s, near, s.mul(x, t), slope)
            }
            Activation::GeluQuick => {
                let near = clamp(s, x, 104.0);
                times_sigma_slope(s, near, s.mul(x, s.splat(-1.702)), s.splat(1.702))
            }
            Activation::Silu => times_sigma_slope(s, clamp(s, x, 104.0), s.neg(x), s.splat(1.0)),
        }
    }
}

/// x, not past ± `end`; a NaN stays one.
#[inline(always)]
fn clamp<S: Simd>(s: S, x: S::F32, end: f32) -> S::F32 {
    s.max(s.splat(-end), s.min(s.splat(end), x))
}

/// σ + x · (σ (1 − σ)) · t', σ = 1 / (1 + e^minus_t).
#[inline(always)]
fn times_sigma_slope<S: Simd>(s: S, x: S::F32, minus_t: S::F32, slope: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let sigma = s.div(one, s.add(one, exp(s, minus_t)));
    let bell = s.mul(sigma, s.sub(one, sigma));
    s.fma(s.mul(x, slope), bell, sigma)
}

/// Φ(x) + x φ(x), Φ(−a) = φ(a) · M(a) with Mills' ratio M: so Φ is as exact as φ where both are tiny, which the 2^G of
/// the forward pass is not.
#[inline(always)]
fn gelu_erf_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // M = P / Q within 6 u on 0 ≤ a ≤ 13.25; all terms are positive.
    const P: [f32; 4] = [4.223_678_3e-2, 0.297_527_67, 0.903_675_73, 1.253_313_7];
    const Q: [f32; 5] = [4.224_226e-2, 0.297_311_87, 0.949_435_95, 1.518_896, 1.0];
    let a = s.min(s.splat(13.25), s.abs(x));
    let (mut p, mut q) = (s.splat(P[0]), s.fma(s.splat(Q[0]), a, s.splat(Q[1])));
    for i in 1..4 {
        p = s.fma(p, a, s.splat(P[i]));
        q = s.fma(q, a, s.splat(Q[i + 1]));
    }
    // a² in two parts, for its error would be multiplied by e^: e^−(h + l)/2 = e^(−h/2) · (1 − l/2).
    let high = s.mul(a, a);
    let low = s.fma(a, a, s.neg(high));
    let half = s.splat(-0.5);
    let bell = exp_nonpositive(s, s.mul(high, half));
    let bell = s.mul(s.fma(bell, s.mul(low, half), bell), s.splat(0.398_942_3));
    let tail = s.mul(bell, s.div(p, q));
    let below = s.select(s.gt(x, s.splat(0.0)), s.sub(s.splat(1.0), tail), tail);
    s.fma(s.copysign(a, x), bell, below)
}

/// dy · f'(x). Which f is asked word by word: one loop for all of them, and memory binds.
#[derive(Clone, Copy)]
struct Slope(Activation);

impl Pairwise for Slope {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, dy: S::F32, x: S::F32) -> S::F32 {
        match self.0 {
            Activation::Identity => dy,
            Activation::Relu => s.select(s.ge(s.splat(0.0), x), s.splat(0.0), dy),
            f => s.mul(dy, f.slope(s, x)),
        }
    }
}

/// dgate and dup from gate, up, dy.
#[derive(Clone, Copy)]
struct GatedSlope(Activation);

impl Lanes<3, 2> for GatedSlope {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, [gate, up, dy]: [S::F32; 3]) -> [S::F32; 2] {
        let value = self.0.apply(s, gate);
        [Slope(self.0).of(s, s.mul(dy, up), gate), s.mul(dy, value)]
    }
}

/// dx = dy · f'(x), all (rows, cols), any strides; x is what the activation was given.
///
/// ```
/// use samebits_kernels::activation::{Activation, backward, backward_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (x, mut dy, mut dx) = ([0.5f32, -0.5], [1.0, 2.0], [0.0; 2]);
/// let (cpu, f) = (Cpu::detect(), Activation::Silu);
/// backward(cpu, f, MatRef::new(&x, 1, 2), MatRef::new(&dy, 1, 2), MatMut::new(&mut dx, 1, 2));
/// let silu = |x: f32| x / (1.0 + (-x).exp());
/// let slope = (silu(0.51) - silu(0.49)) / 0.02;
/// assert!((dx[0] - slope).abs() < 1e-4); // the difference quotient
/// backward_in_place(cpu, f, MatRef::new(&x, 1, 2), MatMut::new(&mut dy, 1, 2));
/// assert_eq!(dy, dx);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn backward(cpu: Cpu, f: Activation, x: MatRef, dy: MatRef, dx: MatMut) {
    map::zip(cpu, Slope(f), dy, x, dx);
}

/// [`backward`] where dy lies.
///
/// # Panics
/// Where the shapes differ.
pub fn backward_in_place(cpu: Cpu, f: Activation, x: MatRef, dy: MatMut) {
    map::zip_in_place(cpu, Slope(f), dy, x);
}

/// What a gated form was given, and the gradient of what it gave, all (rows, cols), any strides.
#[derive(Clone, Copy)]
pub struct GatedInputs<'a> {
    /// What goes through the activation.
    pub gate: MatRef<'a>,
    /// What it is multiplied by.
    pub up: MatRef<'a>,
    /// The gradient of f(gate) · up.
    pub dy: MatRef<'a>,
}

/// dgate and dup of [`gated`](super::gated), (rows, cols), any strides.
///
/// ```
/// use samebits_kernels::activation::{Activation, GatedInputs, gated_backward};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let [gate, up, dy] = [[3.0], [7.0], [0.5]];
/// let (mut dgate, mut dup) = ([0.0], [0.0]);
/// let one = |x| MatRef::new(x, 1, 1);
/// let inputs = GatedInputs { gate: one(&gate), up: one(&up), dy: one(&dy) };
/// let (to_gate, to_up) = (MatMut::new(&mut dgate, 1, 1), MatMut::new(&mut dup, 1, 1));
/// gated_backward(Cpu::detect(), Activation::Relu, inputs, to_gate, to_up);
/// assert_eq!((dgate, dup), ([3.5], [1.5])); // dy · up and dy · gate, for relu' is 1 here
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn gated_backward(cpu: Cpu, f: Activation, inputs: GatedInputs<'_>, dgate: MatMut, dup: MatMut) {
    let GatedInputs { gate, up, dy } = inputs;
    map::lanes(cpu, GatedSlope(f), [gate, up, dy], [dgate, dup]);
}
