//! Row functions along an axis: softmax and the norms.

use super::copy::Target;
use super::shape::Shape;
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

    /// Calls `f` with the lines along `axis` as the rows of matrices, and where their results go.
    #[track_caller]
    fn along(&self, axis: isize, mut f: impl FnMut(MatRef<'_>, MatMut<'_>)) -> Tensor {
        let a = self.axis(axis);
        let mut out = Target::new(Dtype::F32, self.shape);
        let strides = out.strides();
        // The other axes, and the strides of both tensors along them.
        let (mut dims, mut from, mut to) = (*self.shape.padded(), self.strides, strides);
        dims[a..].rotate_left(1);
        from[a..].rotate_left(1);
        to[a..].rotate_left(1);
        let others = Shape::of(&dims[..self.rank() - 1]);
        let walk = Walk::new(&others, [(self.offset, &from[..]), (0, &to[..])])
            .with_rows(self.shape[a], [self.strides[a], strides[a]]);
        let (x, y) = (self.buffer::<f32>(), out.elements::<f32>());
        walk.for_each(|[at_x, at], [lx, l]| f(MatRef::strided(x, at_x, lx), MatMut::strided(y, at, l)));
        out.finish()
    }
}
