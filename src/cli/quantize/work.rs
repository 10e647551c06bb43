//! Quantising one tensor and measuring what it lost, piece by piece on the pool.

use std::time::{Duration, Instant};

use crate::cli::values::decode;
use crate::golden::Hash;
use crate::io::bitsandbytes::{Absmax, Nf4};
use crate::io::safetensors::TensorView;
use crate::kernels::nf4::{self, NotFinite};
use crate::kernels::{LANES, Line};
use crate::pool::{Pool, Scratch};
use crate::{Cpu, Error};

/// Elements of a piece, at least: 128 KiB of `f32`, which stay in a second-level cache.
const PIECE: usize = 32 * 1024;

/// Who computes.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    pub cpu: Cpu,
    pub pool: &'a Pool,
}

/// How statistics are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    Plain,
    Nested,
}

/// What a tensor lost, and the decoded bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Σ |x − y|, x before and y after.
    pub sum: f64,
    /// max |x − y|.
    pub max: f64,
    /// Σ |x|.
    pub magnitude: f64,
    /// A hash of the bits of y.
    pub hash: Hash,
}

impl Engine<'_> {
    /// Quantises a tensor of floats; also how long it took.
    ///
    /// # Errors
    /// [`Error::Value`] at the first element that is NaN or infinite, or an absmax too large to be nested.
    pub fn quantize(
        self,
        tensor: TensorView,
        blocksize: usize,
        statistics: Statistics,
    ) -> Result<(Nf4, Duration), Error> {
        let n = tensor.shape.iter().product();
        let mut codes = vec![0; nf4::code_bytes(n)];
        let mut absmax = vec![0.0; nf4::block_count(n, blocksize)];
        let start = Instant::now();
        self.quantize_rows(tensor, blocksize, &mut codes, &mut absmax)
            .map_err(|bad| self.not_finite(tensor, bad.index))?;
        let absmax = match statistics {
            Statistics::Plain => Absmax::Plain(absmax),
            Statistics::Nested => {
                let mut nested = vec![0; absmax.len()];
                let mut absmax2 = vec![0.0; nf4::block_count(absmax.len(), nf4::NESTED_BLOCKSIZE)];
                let offset = nf4::quantize_absmax(self.cpu, &absmax, &mut nested, &mut absmax2)
                    .map_err(|bad| self.not_finite(tensor, bad.index * blocksize))?;
                Absmax::Nested { codes: nested, absmax2, offset }
            }
        };
        let weight = Nf4 { shape: tensor.shape.to_vec(), dtype: tensor.dtype, blocksize, codes, absmax };
        Ok((weight, start.elapsed()))
    }

    fn quantize_rows(
        self,
        tensor: TensorView,
        blocksize: usize,
        codes: &mut [u8],
        absmax: &mut [f32],
    ) -> Result<(), NotFinite> {
        let span = span(blocksize);
        let mut results = vec![Ok(()); codes.len().div_ceil(span / 2)];
        let inputs = tensor.bytes.chunks(span * tensor.dtype.bits() / 8);
        let outputs = codes.chunks_mut(span / 2).zip(absmax.chunks_mut(span / blocksize)).zip(&mut results);
        self.pool.run(inputs.zip(outputs), |(bytes, ((codes, absmax), result)), scratch| {
            let n = bytes.len() * 8 / tensor.dtype.bits();
            let [x] = floats(scratch, n);
            decode(self.cpu, tensor.dtype, bytes, x);
            *result = nf4::quantize(self.cpu, x, blocksize, codes, absmax);
        });
        let mut results = results.into_iter().enumerate();
        results.try_for_each(|(i, result)| result.map_err(|bad| NotFinite { index: i * span + bad.index }))
    }

    /// Decodes `weight` and compares it with the tensor that it was made of.
    pub fn measure(self, tensor: TensorView, weight: &Nf4) -> Loss {
        let absmax = weight.absmax.decode(self.cpu);
        let span = span(weight.blocksize);
        let mut parts = vec![Loss::default(); weight.codes.len().div_ceil(span / 2)];
        let inputs = tensor.bytes.chunks(span * tensor.dtype.bits() / 8);
        let stored = weight.codes.chunks(span / 2).zip(absmax.chunks(span / weight.blocksize));
        self.pool.run(inputs.zip(stored).zip(&mut parts), |((bytes, (codes, absmax)), part), scratch| {
            let n = bytes.len() * 8 / tensor.dtype.bits();
            let [x, y] = floats(scratch, n);
            decode(self.cpu, tensor.dtype, bytes, x);
            nf4::dequantize(self.cpu, codes, absmax, weight.blocksize, y);
            *part = Loss::between(x, y);
        });
        parts.into_iter().fold(Loss::default(), Loss::join)
    }

    fn not_finite(self, tensor: TensorView, index: usize) -> Error {
        let size = tensor.dtype.bits() / 8;
        let mut value = [0.0];
        decode(self.cpu, tensor.dtype, &tensor.bytes[index * size..][..size], &mut value);
        Error::Value {
            name: format!("tensor {:?}", tensor.name),
            index,
            value: f64::from(value[0]),
            expected: "a finite number",
        }
    }
}

/// Elements of a piece: whole blocks, an even number of elements.
fn span(blocksize: usize) -> usize {
    2 * blocksize * PIECE.div_ceil(2 * blocksize)
}

/// `N` arrays of `n` floats.
fn floats<const N: usize>(scratch: &mut Scratch, n: usize) -> [&mut [f32]; N] {
    let lines = n.div_ceil(LANES).max(1);
    let mut arrays = scratch.lines(N * lines).chunks_mut(lines);
    std::array::from_fn(|_| &mut Line::floats_mut(arrays.next().expect("N arrays"))[..n])
}

impl Loss {
    fn between(x: &[f32], y: &[f32]) -> Loss {
        let start = Loss { hash: Hash::default().floats(y), ..Loss::default() };
        x.iter().zip(y).fold(start, |loss, (&x, &y)| {
            let error = (f64::from(x) - f64::from(y)).abs();
            Loss {
                sum: loss.sum + error,
                max: if error > loss.max { error } else { loss.max },
                magnitude: loss.magnitude + f64::from(x).abs(),
                hash: loss.hash,
            }
        })
    }

    /// Of both parts, in this order.
    pub fn join(self, other: Loss) -> Loss {
        Loss {
            sum: self.sum + other.sum,
            max: if other.max > self.max { other.max } else { self.max },
            magnitude: self.magnitude + other.magnitude,
            hash: self.hash.bytes(&other.hash.0.to_le_bytes()),
        }
    }

    /// Σ |x − y| / Σ |x|.
    pub fn relative(&self) -> f64 {
        if self.magnitude > 0.0 { self.sum / self.magnitude } else { 0.0 }
    }
}
