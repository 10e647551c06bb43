//! Elements of any type as floats.

use super::{GgmlType, TensorView};
use crate::kernels::{ggml, half};
use crate::{Cpu, Error, Result};
use alloc::borrow::Cow;

/// What [`TensorView::decode`] knows, for errors.
const KNOWN: &str =
    "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K or Q8_K";

impl TensorView<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// All elements as `f32`, row by row: exact for floats, as ggml's scalar loops decode for blocks.
    ///
    /// # Errors
    /// [`Error::Dtype`] for another type.
    ///
    /// # Panics
    /// Where `out` does not have [`TensorView::elements`] elements.
    pub fn decode(&self, cpu: Cpu, out: &mut [f32]) -> Result<()> {
        assert!(out.len() == self.elements(), "{} elements into {}", self.elements(), out.len());
        if self.kind.format().is_none()
            && !matches!(self.kind, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
        {
            let (name, dtype) = (self.name.into(), self.kind.name().into());
            return Err(Error::Dtype {
                file: Default::default(),
                name,
                dtype,
                expected: Cow::Borrowed(KNOWN),
            });
        }
        decode(cpu, self.kind, self.bytes, out);
        Ok(())
    }
}

/// Whole blocks of a type that is known.
pub(crate) fn decode(cpu: Cpu, kind: GgmlType, bytes: &[u8], out: &mut [f32]) {
    let widen = match (kind, kind.format()) {
        (_, Some(format)) => return ggml::dequantize(cpu, format, bytes, out),
        (GgmlType::F16, _) => half::widen_f16,
        (GgmlType::BF16, _) => half::widen_bf16,
        _ => {
            let words = bytes.as_chunks().0;
            return out.iter_mut().zip(words).for_each(|(x, &word)| *x = f32::from_le_bytes(word));
        }
    };
    let mut bits = [0u16; 256]; // the file's bytes may stand at an odd address
    for (words, out) in bytes.as_chunks().0.chunks(bits.len()).zip(out.chunks_mut(bits.len())) {
        bits.iter_mut().zip(words).for_each(|(x, &word)| *x = u16::from_le_bytes(word));
        widen(cpu, &bits[..words.len()], out);
    }
}
