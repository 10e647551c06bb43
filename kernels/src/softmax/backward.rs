//! The gradients of softmax and log-softmax of rows.
//!
//! **Math.**  y = softmax x:  dx_i = y_i (dy_i − Σ_j y_j dy_j);   y = log-softmax x:  dx_i = dy_i − exp(y_i) Σ_j dy_j.
//! Both from the saved result alone.
//!
//! **Law.**   Clause 2: Σ y dy is the `dot` of the row in `f32`; Σ dy has chains in `f64` and is rounded once.
//!
//! ```text
//!   y  ├ y0…y15 │ y16…y31 │ … ┐  pass 1: chains ─tree─► d = Σ y dy       (log: Σ dy)
//!   dy ├ …                    ┘  pass 2: dx = y · (dy − d)               (log: fma(−exp y, Σ, dy))
//! ```
//!
//! **Registers.**  y, dy, the chains.   **Cost.**  12 bytes an element from memory, 3 operations (log: 15).
//! **Error.**  softmax ≤ 20 u y (|dy| + Σ y|dy|); log-softmax ≤ 4 u (|dy| + exp(y) Σ |dy|).
//! **Reference.**  Bridle 1990.   **Next.**  `cross_entropy.rs`, which has both ends in one.

use crate::math::exp::exp_nonpositive;
use crate::rows::{check_shape, set_word_at, word_at};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// dx from the result y of [`softmax`](super::softmax) and dy, all (rows, cols), any strides.
///
/// ```
/// use samebits_kernels::softmax::{softmax_backward, softmax_backward_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (cpu, y, mut dy, mut dx) = (Cpu::detect(), [0.25, 0.75], [1.0, 0.0], [0.0; 2]);
/// softmax_backward(cpu, MatRef::new(&y, 1, 2), MatRef::new(&dy, 1, 2), MatMut::new(&mut dx, 1, 2));
/// assert_eq!(dx, [0.1875, -0.1875]); // y₀ (1 − y₀) and −y₀ y₁
/// softmax_backward_in_place(cpu, MatRef::new(&y, 1, 2), MatMut::new(&mut dy, 1, 2));
/// assert_eq!(dy, dx);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn softmax_backward(cpu: Cpu, y: MatRef, dy: MatRef, dx: MatMut) {
    check_shape(&dy, &dx.as_ref());
    check_shape(&y, &dx.as_ref());
    cpu.run(Backward::<false> { y, dy: Some(dy), dx });
}

/// [`softmax_backward`] where dy lies.
///
/// # Panics
/// Where the shapes differ.
pub fn softmax_backward_in_place(cpu: Cpu, y: MatRef, dy: MatMut) {
    check_shape(&y, &dy.as_ref());
    cpu.run(Backward::<false> { y, dy: None, dx: dy });
}

/// dx from the result y of [`log_softmax`](super::log_softmax) and dy, all (rows, cols), any strides.
///
/// ```
/// use samebits_kernels::softmax::{log_softmax_backward, log_softmax_backward_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (cpu, y, mut dy, mut dx) = (Cpu::detect(), [0.5f32.ln(); 2], [1.0, 0.0], [0.0; 2]);
/// log_softmax_backward(cpu, MatRef::new(&y, 1, 2), MatRef::new(&dy, 1, 2), MatMut::new(&mut dx, 1, 2));
/// assert_eq!(dx, [0.5, -0.5]); // dy − p · Σ dy
/// log_softmax_backward_in_place(cpu, MatRef::new(&y, 1, 2), MatMut::new(&mut dy, 1, 2));
/// assert_eq!(dy, dx);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn log_softmax_backward(cpu: Cpu, y: MatRef, dy: MatRef, dx: MatMut) {
    check_shape(&dy, &dx.as_ref());
    check_shape(&y, &dx.as_ref());
    cpu.run(Backward::<true> { y, dy: Some(dy), dx });
}

/// [`log_softmax_backward`] where dy lies.
///
/// # Panics
/// Where the shapes differ.
pub fn log_softmax_backward_in_place(cpu: Cpu, y: MatRef, dy: MatMut) {
    check_shape(&y, &dy.as_ref());
    cpu.run(Backward::<true> { y, dy: None, dx: dy });
}

/// Of softmax, or where `LOG` of its logarithm.
struct Backward<'a, const LOG: bool> {
    y: MatRef<'a>,
    /// `None`: in dx.
    dy: Option<MatRef<'a>>,
    dx: MatMut<'a>,
}

impl<const LOG: bool> Kernel for Backward<'_, LOG> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for r in 0..self.dx.rows() {
            let sum = s.splat(if LOG { self.total(s, r) } else { self.dot(s, r) });
            for at in (0..self.dx.cols()).step_by(LANES) {
                let (y, dy) = (word_at(s, &self.y, r, at, 0.0), self.dy(s, r, at, 0.0));
                let dx = if LOG { s.nfma(exp_nonpositive(s, y), sum, dy) } else { s.mul(y, s.sub(dy, sum)) };
                set_word_at(s, &mut self.dx, r, at, dx);
            }
        }
    }
}

impl<const LOG: bool> Backward<'_, LOG> {
    #[inline(always)]
    fn dy<S: Simd>(&self, s: S, r: usize, at: usize, fill: f32) -> S::F32 {
        match &self.dy {
            Some(dy) => word_at(s, dy, r, at, fill),
            None => word_at(s, &self.dx.as_ref(), r, at, fill),
        }
    }

    /// Σ y dy of row `r`.
    #[inline(always)]
    fn dot<S: Simd>(&self, s: S, r: usize) -> f32 {
        let mut chains = s.splat(0.0);
        for at in (0..self.dx.cols()).step_by(LANES) {
            chains = s.fma(word_at(s, &self.y, r, at, -0.0), self.dy(s, r, at, 0.0), chains);
        }
        s.sum(chains)
    }

    /// Σ dy of row `r`.
    #[inline(always)]
    fn total<S: Simd>(&self, s: S, r: usize) -> f32 {
        let mut chains = s.splat_d(0.0);
        for at in (0..self.dx.cols()).step_by(LANES) {
            chains = s.add_d(chains, s.widen(self.dy(s, r, at, -0.0)));
        }
        s.sum_d(chains) as f32
    }
}
