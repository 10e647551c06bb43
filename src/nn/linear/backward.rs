//! The gradients of y = x Wᵀ + b:  dx = dy W,  dW = dyᵀ x,  db = Σ dy.
//!
//! **Law.** Clause 1, in bf16 clause 10: dx with the outputs as k, dW and db with the rows as k, so that batches of a multiple of 256
//! rows, accumulated, have the bits of one.

use super::{Linear, Product};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::adapter::{AdapterCache, Draw, Training};
use crate::nn::gradients::{bias_gradient, input_gradient, weight_gradient};
use crate::nn::product::run_jobs;
use crate::nn::trained::Scope;
use crate::run::Run;

/// [`products`] in training: what adapters keep goes to `caches`.
///
/// # Panics
/// As [`products`].
pub(crate) fn products_train<'a, const N: usize>(
    (run, draw): (&Run<'_>, Option<Draw>),
    all: [Product<'a>; N],
    caches: [&mut AdapterCache; N],
) {
    let mut all = all.map(Some);
    for (product, cache) in all.iter_mut().zip(caches) {
        if let Some(adapted) = product.take_if(|p| p.layer.adapter.is_some()) {
            adapted.run_adapted(run, |layer, adapter, x, out| {
                adapter.forward_train(Training { run, base: layer, draw }, x, out, cache);
            });
        }
    }
    run_jobs(run, all.map(|product| product.map(Product::job)));
}

impl Linear {
    /// `dx` (rows, in) from `dy` (rows, out), or added to what it holds, and the gradients of `weight` (out, in) and
    /// `bias` (out), or of the adapter, as far as they are trained. `x` (rows, in) is what the layer was given.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn backward(
        &self,
        (run, draw): (&Run<'_>, Option<Draw>),
        (x, dy): (MatRef<'_>, MatRef<'_>),
        cache: &AdapterCache,
        (dx, accumulate): (MatMut<'_>, Accumulate),
        to: &mut Scope<'_>,
    ) {
        let (out, inputs) = (self.out_features(), self.in_features());
        assert!((x.rows(), x.cols()) == (dy.rows(), inputs) && dy.cols() == out, "{self:?}: {x:?}, {dy:?}");
        if let Some(adapter) = &self.adapter {
            let lie = "rows that lie side by side";
            let given = (x.contiguous().expect(lie), dy.contiguous().expect(lie));
            let dx = dx.into_contiguous().unwrap_or_else(|dx| panic!("rows apart: {:?}", dx.as_ref()));
            return adapter.backward(Training { run, base: self, draw }, given, cache, (dx, accumulate), to);
        }
        input_gradient(run, &self.weight, dy, accumulate, dx);
        if let Some(dw) = to.add("weight") {
            let dw = MatMut::new(dw, out, inputs);
            weight_gradient(run, self.weight.compute(), (x, dy), Accumulate::Add, dw);
        }
        if let Some(db) = to.add("bias") {
            bias_gradient(run, dy, Accumulate::Add, db);
        }
    }
}
