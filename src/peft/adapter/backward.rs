//! A bottleneck's gradients, from what its forward pass kept.
//!
//! ```text
//!   e = s dy     d up = eᵀ act(down x)     d b_up = Σ e     d_hidden = (e up) ∘ act'(down x)
//!                d down = d_hiddenᵀ x      d b_down = Σ d_hidden      dx = d_hidden down
//! ```
//!
//! **Law.** Clauses 1 and 9.

use super::{AdapterCache, AdapterLayer};
use crate::kernels::activation;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{Compute, Scope, bias_gradient, weight_gradient};
use crate::peft::product;
use crate::run::Run;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Names of the parameters, below the adapter's own.
const DOWN: &str = "down.weight";
const DOWN_BIAS: &str = "down.bias";
const UP: &str = "up.weight";
const UP_BIAS: &str = "up.bias";

impl AdapterLayer {
    /// The gradient of x, (rows, features), through the bottleneck alone, from that of the output; the gradients of
    /// the parameters, as far as they are trained. `x` is what the adapter was given.
    ///
    /// ```
    /// use samebits::nn::Gradients;
    /// use samebits::peft::{AdapterCache, AdapterInit, AdapterLayer, AdapterKind, Bottleneck};
    /// use samebits::{Cpu, random::Philox, run::Run};
    /// let (run, mut cache, mut gradients, mut y) = (Run::here(Cpu::detect()), AdapterCache::default(), Gradients::default(), [0.0]);
    /// let mut layer = AdapterLayer::drawn(1, 1, AdapterInit::Identity, (Philox::new(1), 0));
    /// (layer.down, layer.up) = (vec![2.0], vec![3.0]);
    /// gradients.train("up.weight", 1);
    /// layer.forward_train(&run, &[5.0], &[5.0], &mut y, &mut cache);
    /// let dx = layer.backward(&run, (&[5.0], &[1.0]), &cache, &mut gradients.scope());
    /// assert_eq!((y, dx), ([35.0], vec![6.0])); // x + 3 · 2 x; through the bottleneck alone 3 · 2
    /// assert!(gradients.iter().all(|(_, g)| g == [10.0]));
    /// let one = Bottleneck { kind: AdapterKind::Pfeiffer, layer }; // with what it reads of a block
    /// assert_eq!(one.layer.bottleneck(), 1);
    /// ```
    ///
    /// # Panics
    /// Where the shapes disagree with the forward pass of `cache`.
    pub fn backward(
        &self,
        run: &Run<'_>,
        (x, dy): (&[f32], &[f32]),
        cache: &AdapterCache,
        to: &mut Scope<'_>,
    ) -> Vec<f32> {
        self.backward_from(run, (x, dy), [&cache.before, &cache.after], to)
    }

    /// The same, from what the hidden rows were before and after the activation.
    pub(super) fn backward_from(
        &self,
        run: &Run<'_>,
        (x, dy): (&[f32], &[f32]),
        [before, after]: [&[f32]; 2],
        to: &mut Scope<'_>,
    ) -> Vec<f32> {
        let (n, width, cpu) = (self.features(), self.bottleneck(), run.cpu());
        let rows = x.len() / n.max(1);
        let mut e = dy.to_vec();
        elementwise::scalar_in_place(cpu, Binary::Mul, MatMut::new(&mut e, rows, n), self.scale);
        let (x, e) = (MatRef::new(x, rows, n), MatRef::new(&e, rows, n));
        if let Some(dw) = to.add(UP) {
            let after = MatRef::new(after, rows, width);
            let dw = MatMut::new(dw, n, width);
            weight_gradient(run, Compute::F32, (after, e), Accumulate::Add, dw);
        }
        if let Some(db) = to.add(UP_BIAS) {
            bias_gradient(run, e, Accumulate::Add, db);
        }
        let mut d = vec![0.0; rows * width];
        let (up, down) = (MatRef::new(&self.up, n, width), MatRef::new(&self.down, width, n));
        product(run, e, up, MatMut::new(&mut d, rows, width), Accumulate::Overwrite);
        let before = MatRef::new(before, rows, width);
        activation::backward_in_place(cpu, self.activation, before, MatMut::new(&mut d, rows, width));
        let d = MatRef::new(&d, rows, width);
        if let Some(dw) = to.add(DOWN) {
            let dw = MatMut::new(dw, width, n);
            weight_gradient(run, Compute::F32, (x, d), Accumulate::Add, dw);
        }
        if let Some(db) = to.add(DOWN_BIAS) {
            bias_gradient(run, d, Accumulate::Add, db);
        }
        let mut dx = vec![0.0; rows * n];
        product(run, d, down, MatMut::new(&mut dx, rows, n), Accumulate::Overwrite);
        dx
    }

    /// The parameters: name, shape (rows, features), values.
    pub(super) fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
        let (n, width) = (self.features(), self.bottleneck());
        vec![
            (DOWN.into(), [width, n], &mut self.down[..]),
            (DOWN_BIAS.into(), [1, width], &mut self.down_bias[..]),
            (UP.into(), [n, width], &mut self.up[..]),
            (UP_BIAS.into(), [1, n], &mut self.up_bias[..]),
        ]
    }
}
