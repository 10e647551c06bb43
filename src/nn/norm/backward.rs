//! The gradients of LayerNorm and RMSNorm.

use super::Norm;
use crate::kernels::gemm::Accumulate;
use crate::kernels::norm::{NormBackward, Stats};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::gradients::{NormKind, bias_gradient, norm_gradient, norm_weight_gradient};
use crate::nn::trained::Scope;
use crate::run::Run;
use alloc::vec;

impl Norm {
    /// `dx` from `dy`, or added to what it holds, and the gradients of the parameters, as far as they are trained.
    /// `x` is what the layer was given; all are (rows, features).
    ///
    /// # Panics
    /// Where these are not whole rows of one number.
    pub fn backward(
        &self,
        run: &Run<'_>,
        (x, dy): (&[f32], &[f32]),
        dx: &mut [f32],
        accumulate: Accumulate,
        to: &mut Scope<'_>,
    ) {
        let n = self.features();
        let rows = x.len() / n.max(1);
        let (x, dy) = (MatRef::new(x, rows, n), MatRef::new(dy, rows, n));
        let mut stats = vec![Stats::default(); rows];
        let kind = match self {
            Norm::Layer(norm) => NormKind::Layer(norm.kernel()),
            Norm::Rms(norm) => NormKind::Rms(norm.kernel()),
        };
        let dx = MatMut::new(dx, rows, n);
        norm_gradient(run, &kind, NormBackward { x, dy, dx, accumulate, stats: &mut stats });
        if let Some(dw) = to.add("weight") {
            norm_weight_gradient(run, (x, dy), &stats, Accumulate::Add, dw);
        }
        if let Some(db) = to.add("bias") {
            bias_gradient(run, dy, Accumulate::Add, db);
        }
    }
}
