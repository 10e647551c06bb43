//! Row functions along an axis: softmax and the norms.

use super::copy::Target;
use super::walk::Walk;
use super::{Dtype, Tensor};
use crate::Cpu;
use crate::kernels::norm::{self, LayerNorm, RmsNorm};
use crate::kernels::softmax;
use crate::kernels::view::{MatMut, MatRef};

impl Tensor {
    /// Softmax along an axis.
    ///
    /// # Panics
    /// Where there is no such axis, or the type is not f32.
    #[track_caller]
    pub fn softmax(&self, cpu: Cpu, axis: isize) -> Tensor {
        self.along(axis, |x, out| softmax::softmax(cpu, x, out))
    }

    /// The logarithm of [`Tensor::softmax`], without the loss of taking it afterwards. Panics alike.
    #[track_caller]
    pub fn log_softmax(&self, cpu: Cpu, axis: isize) -> Tensor {
        self.along(axis, |x, out| softmax::log_softmax(cpu, x, out))
    }

    /// Layer normalisation along the last axis.
    ///
    /// # Panics
    /// Where weight or bias are not as long as the last axis, or the type is not f32.
    #[track_caller]
    pub fn layer_norm(&self, cpu: Cpu, norm: &LayerNorm<'_>) -> Tensor {
        self.along(-1, |x, out| norm::layer_norm(cpu, x, norm, out))
    }

    /// Root-mean-square normalisation along the last axis.
    ///
    /// # Panics
    /// Where the weight is not as long as the last axis, or the type is not f32.
    #[track_caller]
    pub fn rms_norm(&self, cpu: Cpu, norm: &RmsNorm<'_>) -> Tensor {
        self.along(-1, |x, out| norm::rms_norm(cpu, x, norm, out))
    }

    /// Calls `f` with the lines along `axis` as the rows of matrices, and where their results go. Lines whose
    /// elements lie apart are brought together first, for a kernel works fastest along memory; the result is
    /// then a view as well, with that axis innermost in memory.
    #[track_caller]
    fn along(&self, axis: isize, mut f: impl FnMut(MatRef<'_>, MatMut<'_>)) -> Tensor {
        let mut x = self.transpose(axis, -1);
        let last = x.rank() - 1;
        if x.strides[last] != 1 {
            x = x.contiguous();
        }
        let mut out = Target::new(Dtype::F32, x.shape);
        let strides = out.strides();
        let walk = Walk::new(&x.shape[..last], [(x.offset, x.strides()), (0, &strides[..])])
            .with_rows(x.shape[last], [x.strides[last], strides[last]]);
        let (from, to) = (x.buffer::<f32>(), out.elements::<f32>());
        walk.for_each(|[at_x, at], [lx, l]| f(MatRef::strided(from, at_x, lx), MatMut::strided(to, at, l)));
        out.finish().transpose(axis, -1)
    }
}
