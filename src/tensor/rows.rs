//! Row functions along an axis: softmax, the norms, running sums, the k largest.

use super::copy::Target;
use super::shape::Shape;
use super::walk::Walk;
use super::{Dtype, Tensor};
use crate::Cpu;
use crate::kernels::elementwise::Unary;
use crate::kernels::norm::{self, LayerNorm, RmsNorm};
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{cumsum, softmax, topk};

/// Which of an axis' elements [`Tensor::topk`] takes.
///
/// ```
/// use samebits::{Cpu, tensor::{Tensor, Which}};
/// let x = Tensor::from_f32(&[0.1, 0.9, 0.5], &[3]);
/// let (values, places) = x.topk(Cpu::detect(), 2, 0, Which::Largest);
/// assert_eq!((values.to_vec::<f32>(), places.to_vec::<i32>()), (vec![0.9, 0.5], vec![1, 2]));
/// assert_eq!(x.topk(Cpu::detect(), 1, 0, Which::Smallest).1.to_vec::<i32>(), [0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The largest first.
    Largest,
    /// The smallest first.
    Smallest,
}

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

    /// Running sums along an axis, each rounded once from `f64`.
    ///
    /// # Panics
    /// Where there is no such axis, or the type is not f32.
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Tensor {
        self.along(axis, cumsum::cumsum)
    }

    /// The `k` largest or smallest along an axis, best first, and their places as i32. Equals come by place; a
    /// NaN comes first either way, as it wins [`Tensor::max`] and [`Tensor::min`].
    ///
    /// # Panics
    /// Where there is no such axis, it has fewer than `k` elements, or the type is not f32.
    #[track_caller]
    pub fn topk(&self, cpu: Cpu, k: usize, axis: isize, which: Which) -> (Tensor, Tensor) {
        let x = self.transpose(axis, -1);
        let (last, n) = (x.rank() - 1, x.shape[x.rank() - 1]);
        assert!(k <= n, "{k} of the {n} elements of axis {axis} of shape {}", self.shape);
        assert!(i32::try_from(n).is_ok(), "places along axis {axis} of shape {} do not fit i32", self.shape);
        // The smallest are the largest of what is negated.
        let sign = |x: Tensor| if which == Which::Smallest { x.unary(cpu, Unary::Neg) } else { x };
        let x = sign(x).contiguous();
        let mut dims = *x.shape.padded();
        dims[last] = k;
        let shape = Shape::of(&dims[..=last]);
        let (mut values, mut places) = (Target::new(Dtype::F32, shape), Target::new(Dtype::I32, shape));
        let rows = x.as_slice::<f32>().expect("contiguous").chunks_exact(n.max(1));
        let results =
            values.elements().chunks_exact_mut(k.max(1)).zip(places.elements().chunks_exact_mut(k.max(1)));
        for (row, (values, places)) in rows.zip(results) {
            topk::topk(cpu, row, values, places);
        }
        (sign(values.finish()).transpose(axis, -1), places.finish().transpose(axis, -1))
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
