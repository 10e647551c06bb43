//! From one element type to another.

use super::copy::Target;
use super::{Dtype, Element, Tensor};
use crate::Cpu;
use crate::kernels::half;
use alloc::vec::Vec;

impl Tensor {
    /// The elements as another type: itself where it is the same, else a copy, row by row.
    ///
    /// Widening is exact. Narrowing to a half rounds to nearest even; to an integer drops the fraction, with
    /// what is out of range brought to the nearest end and NaN to 0. Between
    /// two other types the way leads through f32.
    pub fn to(&self, cpu: Cpu, dtype: Dtype) -> Tensor {
        if dtype == self.dtype {
            return self.clone();
        }
        if self.dtype != Dtype::F32 && dtype != Dtype::F32 {
            return self.to(cpu, Dtype::F32).to(cpu, dtype);
        }
        let rows = self.contiguous();
        let mut out = Target::new(dtype, self.shape);
        match (self.dtype, dtype) {
            (Dtype::F16, _) => half::widen_f16(cpu, rows.elements(), out.elements()),
            (Dtype::BF16, _) => half::widen_bf16(cpu, rows.elements(), out.elements()),
            (_, Dtype::F16) => half::narrow_f16(cpu, rows.elements(), out.elements()),
            (_, Dtype::BF16) => half::narrow_bf16(cpu, rows.elements(), out.elements()),
            (Dtype::I32, _) => each(rows.elements(), out.elements(), |x: i32| x as f32),
            (Dtype::U8, _) => each(rows.elements(), out.elements(), |x: u8| f32::from(x)),
            (Dtype::F32, Dtype::U8) => each(rows.elements(), out.elements(), |x: f32| x as u8),
            (Dtype::F32, _) => each(rows.elements(), out.elements(), |x: f32| x as i32),
        }
        out.finish()
    }

    /// The elements of a contiguous tensor.
    fn elements<T: Element>(&self) -> &[T] {
        self.as_slice().expect("contiguous")
    }

    /// The element at a place of the buffer, as f32.
    pub(super) fn value(&self, at: usize) -> f32 {
        match self.dtype {
            Dtype::F32 => self.data.elements::<f32>()[at],
            Dtype::F16 => half::f16_to_f32(self.data.elements()[at]),
            Dtype::BF16 => half::bf16_to_f32(self.data.elements()[at]),
            Dtype::I32 => self.data.elements::<i32>()[at] as f32,
            Dtype::U8 => f32::from(self.data.elements::<u8>()[at]),
        }
    }

    /// The elements as f32, row by row, whatever their type.
    pub fn to_f32_vec(&self, cpu: Cpu) -> Vec<f32> {
        self.to(cpu, Dtype::F32).to_vec()
    }
}

fn each<T: Copy, U>(from: &[T], to: &mut [U], f: impl Fn(T) -> U) {
    from.iter().zip(to).for_each(|(&x, y)| *y = f(x));
}
