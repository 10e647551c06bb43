//! Sums, means and extremes over any axes.

use super::copy::Target;
use super::shape::{MAX_RANK, Shape};
use super::walk::Walk;
use super::{Dtype, Tensor};
use crate::Cpu;
use crate::kernels::reduce::{self, Reduction};
use crate::kernels::softmax;
use crate::kernels::view::MatRef;

/// What becomes of an axis that is reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeepDim {
    /// It is gone.
    No,
    /// It stays, with extent 1, so that the result broadcasts against the operand.
    Yes,
}

/// Which axes are reduced.
///
/// ```
/// use samebits::{Cpu, tensor::{Axes, KeepDim, Tensor}};
/// let (cpu, x) = (Cpu::detect(), Tensor::from_f32(&[1.0, 2.0, 3.0, 4.0], &[2, 2]));
/// assert_eq!(x.sum(cpu, Axes::All, KeepDim::No).at(&[]), 10.0);
/// assert_eq!(x.sum(cpu, Axes::These(&[-1]), KeepDim::No).to_vec::<f32>(), [3.0, 7.0]);
/// assert_eq!(x.max(cpu, &[0], KeepDim::Yes).shape(), [1, 2]); // a slice of axes will do
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Axes<'a> {
    /// All of them.
    All,
    /// These; negative ones count from the end.
    These(&'a [isize]),
}

impl<'a, const N: usize> From<&'a [isize; N]> for Axes<'a> {
    fn from(axes: &'a [isize; N]) -> Self {
        Axes::These(axes)
    }
}

impl<'a> From<&'a [isize]> for Axes<'a> {
    fn from(axes: &'a [isize]) -> Self {
        Axes::These(axes)
    }
}

/// A tensor's axes parted: the kept ones in front, the reduced ones behind, each in their order.
struct Parted {
    tensor: Tensor,
    /// How many are kept.
    kept: usize,
    /// The shape of the result.
    shape: Shape,
}

impl Tensor {
    /// The sum over `axes`: Σ of clause 2, over the elements of those axes row by row; +0 for nothing.
    ///
    /// # Panics
    /// Where an axis does not exist or is named twice, or the type is not f32.
    #[track_caller]
    pub fn sum<'a>(&self, cpu: Cpu, axes: impl Into<Axes<'a>>, keep: KeepDim) -> Tensor {
        self.reduce(cpu, Reduction::Sum, axes.into(), keep)
    }

    /// The mean over `axes`; NaN for nothing. Panics as [`Tensor::sum`].
    #[track_caller]
    pub fn mean<'a>(&self, cpu: Cpu, axes: impl Into<Axes<'a>>, keep: KeepDim) -> Tensor {
        self.reduce(cpu, Reduction::Mean, axes.into(), keep)
    }

    /// The largest over `axes`; NaN where any is NaN. Panics as [`Tensor::sum`], and for no elements.
    #[track_caller]
    pub fn max<'a>(&self, cpu: Cpu, axes: impl Into<Axes<'a>>, keep: KeepDim) -> Tensor {
        self.reduce(cpu, Reduction::Max, axes.into(), keep)
    }

    /// The smallest over `axes`; NaN where any is NaN. Panics as [`Tensor::sum`], and for no elements.
    #[track_caller]
    pub fn min<'a>(&self, cpu: Cpu, axes: impl Into<Axes<'a>>, keep: KeepDim) -> Tensor {
        self.reduce(cpu, Reduction::Min, axes.into(), keep)
    }

    /// The place of the largest along an axis, as i32: of the first NaN, else of the first of equals.
    ///
    /// # Panics
    /// Where the axis does not exist or has no element, or the type is not f32.
    #[track_caller]
    pub fn argmax(&self, cpu: Cpu, axis: isize, keep: KeepDim) -> Tensor {
        self.find(axis, keep, |row| reduce::argmax(cpu, row))
    }

    /// The place of the smallest along an axis, as [`Tensor::argmax`].
    #[track_caller]
    pub fn argmin(&self, cpu: Cpu, axis: isize, keep: KeepDim) -> Tensor {
        self.find(axis, keep, |row| reduce::argmin(cpu, row))
    }

    /// Any [`Reduction`] over any axes. Reduced axes that strides cannot join (such as the first and last of
    /// three) are copied together first.
    #[track_caller]
    pub fn reduce(&self, cpu: Cpu, reduction: Reduction, axes: Axes<'_>, keep: KeepDim) -> Tensor {
        let parted = self.part(axes, keep);
        let extreme = matches!(reduction, Reduction::Max | Reduction::Min);
        let some = parted.reduced() > 0 || parted.shape.elements() == 0;
        assert!(some || !extreme, "{reduction:?} of no elements, shape {}", self.shape);
        parted.rows(|x, out| reduce::reduce_rows(cpu, reduction, x, out))
    }

    /// ln Σ e^x over `axes`, without overflow on the way; −∞ for nothing. Panics as [`Tensor::sum`].
    #[track_caller]
    pub fn log_sum_exp<'a>(&self, cpu: Cpu, axes: impl Into<Axes<'a>>, keep: KeepDim) -> Tensor {
        self.part(axes.into(), keep).rows(|x, out| softmax::log_sum_exp(cpu, x, out))
    }

    #[track_caller]
    fn find(&self, axis: isize, keep: KeepDim, place: impl Fn(&[f32]) -> Option<usize>) -> Tensor {
        let Parted { tensor, kept, shape } = self.part(Axes::These(&[axis]), keep);
        let n = tensor.shape()[kept];
        assert!(
            n > 0 || shape.elements() == 0,
            "the place of an extreme of no elements, shape {}",
            self.shape
        );
        assert!(i32::try_from(n).is_ok(), "places along axis {axis} of shape {} do not fit i32", self.shape);
        let rows = tensor.contiguous();
        let rows = rows.as_slice::<f32>().expect("contiguous").chunks_exact(n.max(1));
        let mut out = Target::new(Dtype::I32, shape);
        for (to, row) in out.elements::<i32>().iter_mut().zip(rows) {
            *to = place(row).expect("a row is not empty") as i32;
        }
        out.finish()
    }

    /// Parts the axes in kept and reduced ones.
    #[track_caller]
    fn part(&self, axes: Axes<'_>, keep: KeepDim) -> Parted {
        let mut reduced = [matches!(axes, Axes::All); MAX_RANK];
        if let Axes::These(axes) = axes {
            for &axis in axes {
                let a = self.axis(axis);
                assert!(!reduced[a], "axis {axis} of shape {} is named twice", self.shape);
                reduced[a] = true;
            }
        }
        let (mut order, mut kept) = ([0; MAX_RANK], 0);
        for wanted in [false, true] {
            for a in (0..self.rank()).filter(|&a| reduced[a] == wanted) {
                order[kept] = a;
                kept += 1;
            }
        }
        let kept = reduced[..self.rank()].iter().filter(|&&r| !r).count();
        let tensor = self.permute(&order[..self.rank()]);
        let shape = match keep {
            KeepDim::No => Shape::of(&tensor.shape()[..kept]),
            KeepDim::Yes => {
                let mut dims = *self.shape.padded();
                dims.iter_mut().zip(reduced).filter(|(_, r)| *r).for_each(|(n, _)| *n = 1);
                Shape::of(&dims[..self.rank()])
            }
        };
        Parted { tensor, kept, shape }
    }
}

impl Parted {
    /// How many elements go into each result.
    fn reduced(&self) -> usize {
        self.tensor.shape()[self.kept..].iter().product()
    }

    /// Calls `f` with the elements of each result as a row, and the place of the results.
    #[track_caller]
    fn rows(self, mut f: impl FnMut(MatRef<'_>, &mut [f32])) -> Tensor {
        let n = self.reduced();
        let Parted { mut tensor, kept, shape } = self;
        let mut out = Target::new(Dtype::F32, shape);
        if n == 0 {
            let mut nothing = [0.0];
            f(MatRef::new(&[], 1, 0), &mut nothing);
            out.elements::<f32>().fill(nothing[0]);
            return out.finish();
        }
        let mut step = joined(&tensor, kept);
        if step.is_none() {
            tensor = tensor.copied();
            step = Some(1);
        }
        let kept_shape = Shape::of(&tensor.shape()[..kept]);
        let outputs = super::row_major(&kept_shape);
        let walk = Walk::new(&kept_shape, [(tensor.offset, &tensor.strides()[..kept]), (0, &outputs[..])])
            .with_rows(n, [step.expect("just set"), 0]);
        let (from, to) = (tensor.buffer::<f32>(), out.elements::<f32>());
        walk.for_each(|[at_x, at], [layout, _]| {
            f(MatRef::strided(from, at_x, layout), &mut to[at..at + layout.rows]);
        });
        out.finish()
    }
}

/// The stride of the axes from `kept` on, if they are one axis.
fn joined(tensor: &Tensor, kept: usize) -> Option<isize> {
    let walk = Walk::new(&tensor.shape()[kept..], [(0, &tensor.strides()[kept..])]);
    match walk.dims().len() {
        0 => Some(1),
        1 => Some(walk.stride(0)),
        _ => None,
    }
}
