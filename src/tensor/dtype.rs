//! The element types of tensors.

use crate::kernels::Plain;

/// What a tensor's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single: what arithmetic is done in.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned byte.
    U8,
}

impl Dtype {
    /// Bytes an element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// The name that errors use.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
            Dtype::I32 => "i32",
            Dtype::U8 => "u8",
        }
    }
}

impl core::fmt::Display for Dtype {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// A number as it lies in a tensor's memory. Halves of both kinds are their bits, `u16`.
///
/// ```
/// use samebits::tensor::{Dtype, Element, Tensor};
/// use samebits::{Cpu, kernels::half::f32_to_f16};
/// let halves = Tensor::new(Dtype::F16, &[1.0, 2.5].map(f32_to_f16), &[2]);
/// assert_eq!(halves.to_f32_vec(Cpu::detect()), [1.0, 2.5]);
/// assert!(u16::is(Dtype::BF16) && !u16::is(Dtype::I32)); // halves of both kinds are their bits
/// ```
pub trait Element: Plain {
    /// Whether tensors of `dtype` hold such numbers.
    fn is(dtype: Dtype) -> bool;
}

impl Element for f32 {
    fn is(dtype: Dtype) -> bool {
        dtype == Dtype::F32
    }
}

impl Element for u16 {
    fn is(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::F16 | Dtype::BF16)
    }
}

impl Element for i32 {
    fn is(dtype: Dtype) -> bool {
        dtype == Dtype::I32
    }
}

impl Element for u8 {
    fn is(dtype: Dtype) -> bool {
        dtype == Dtype::U8
    }
}
