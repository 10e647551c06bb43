//! Arithmetic element by element, with NumPy's broadcasting.

use super::copy::Target;
use super::shape::{MAX_RANK, Shape};
use super::walk::Walk;
use super::{Dtype, Tensor};
use crate::Cpu;
use crate::kernels::elementwise::{self, Binary, Unary};
use crate::kernels::view::{MatMut, MatRef};

impl Tensor {
    /// a ∘ b at every place of the shape that both broadcast to.
    ///
    /// # Panics
    /// Where the shapes do not broadcast to one, or a type is not f32.
    #[track_caller]
    pub fn binary(&self, cpu: Cpu, op: Binary, other: &Tensor) -> Tensor {
        let shape = broadcast(&self.shape, &other.shape);
        let (a, b) = (self.broadcast_to(&shape), other.broadcast_to(&shape));
        let mut out = Target::new(Dtype::F32, shape);
        let strides = out.strides();
        let walk = Walk::new(&shape, [(a.offset, a.strides()), (b.offset, b.strides()), (0, &strides[..])]);
        let (from_a, from_b, to) = (a.buffer::<f32>(), b.buffer::<f32>(), out.elements::<f32>());
        walk.for_each(|[at_a, at_b, at], [la, lb, l]| {
            let (a, b) = (MatRef::strided(from_a, at_a, la), MatRef::strided(from_b, at_b, lb));
            elementwise::binary(cpu, op, a, b, MatMut::strided(to, at, l));
        });
        out.finish()
    }

    /// self = self ∘ other, in place; `other` broadcasts to this shape.
    ///
    /// # Panics
    /// Where `other` does not broadcast to this shape, or a type is not f32.
    #[track_caller]
    pub fn binary_assign(&mut self, cpu: Cpu, op: Binary, other: &Tensor) {
        let (shape, b) = (self.shape, other.broadcast_to(&self.shape));
        let strides = super::row_major(&shape);
        let from = b.buffer::<f32>();
        let to = self.make_mut::<f32>();
        let walk = Walk::new(&shape, [(b.offset, b.strides()), (0, &strides[..])]);
        walk.for_each(|[at_b, at], [lb, l]| {
            elementwise::binary_in_place(
                cpu,
                op,
                MatMut::strided(to, at, l),
                MatRef::strided(from, at_b, lb),
            );
        });
    }

    /// f(x) for every element.
    ///
    /// # Panics
    /// Where the type is not f32.
    #[track_caller]
    pub fn unary(&self, cpu: Cpu, f: Unary) -> Tensor {
        let mut out = Target::new(Dtype::F32, self.shape);
        let strides = out.strides();
        let walk = Walk::new(&self.shape, [(self.offset, self.strides()), (0, &strides[..])]);
        let (from, to) = (self.buffer::<f32>(), out.elements::<f32>());
        walk.for_each(|[at_x, at], [lx, l]| {
            elementwise::unary(cpu, f, MatRef::strided(from, at_x, lx), MatMut::strided(to, at, l));
        });
        out.finish()
    }

    /// a + b. See [`Tensor::binary`].
    #[track_caller]
    pub fn add(&self, cpu: Cpu, other: &Tensor) -> Tensor {
        self.binary(cpu, Binary::Add, other)
    }

    /// a − b. See [`Tensor::binary`].
    #[track_caller]
    pub fn sub(&self, cpu: Cpu, other: &Tensor) -> Tensor {
        self.binary(cpu, Binary::Sub, other)
    }

    /// a × b. See [`Tensor::binary`].
    #[track_caller]
    pub fn mul(&self, cpu: Cpu, other: &Tensor) -> Tensor {
        self.binary(cpu, Binary::Mul, other)
    }

    /// a ÷ b. See [`Tensor::binary`].
    #[track_caller]
    pub fn div(&self, cpu: Cpu, other: &Tensor) -> Tensor {
        self.binary(cpu, Binary::Div, other)
    }

    /// a to the power of b. See [`Tensor::binary`].
    #[track_caller]
    pub fn pow(&self, cpu: Cpu, other: &Tensor) -> Tensor {
        self.binary(cpu, Binary::Pow, other)
    }

    /// Every element brought between `min` and `max`: min(max(x, min), max). NaN stays NaN; where `min` is above
    /// `max`, everything becomes `max`.
    ///
    /// # Panics
    /// Where the type is not f32.
    #[track_caller]
    pub fn clamp(&self, cpu: Cpu, min: f32, max: f32) -> Tensor {
        let mut out = self.binary(cpu, Binary::Max, &Tensor::scalar(min));
        out.binary_assign(cpu, Binary::Min, &Tensor::scalar(max));
        out
    }
}

/// The shape that both broadcast to.
///
/// # Panics
/// Where there is none.
#[track_caller]
pub(super) fn broadcast(a: &Shape, b: &Shape) -> Shape {
    let rank = a.rank().max(b.rank());
    let extent = |s: &Shape, axis: usize| (axis + s.rank()).checked_sub(rank).map_or(1, |i| s[i]);
    let mut dims = [0; MAX_RANK];
    for (axis, n) in dims[..rank].iter_mut().enumerate() {
        *n = match (extent(a, axis), extent(b, axis)) {
            (m, n) if m == n || n == 1 => m,
            (1, n) => n,
            _ => panic!("shapes {a} and {b} do not broadcast to one"),
        };
    }
    Shape::of(&dims[..rank])
}
