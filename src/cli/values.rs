//! The numbers behind a tensor's bytes.

use crate::Cpu;
use crate::io::json::Writer;
use crate::io::safetensors::Dtype;
use crate::kernels::{LANES, Line, half, reduce};
use crate::pool::Scratch;

/// Elements that are decoded at a time: 32 KiB of `f32`, half a first-level cache or less.
const CHUNK: usize = 8192;

/// Whether [`decode`] knows the type: the floats that weights are stored in.
pub fn is_weight(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Decodes the bytes of `F32`, `F16` or `BF16` elements, exactly.
///
/// # Panics
/// Where it is another type, or the lengths differ.
pub fn decode(cpu: Cpu, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * dtype.bits() / 8, "bytes of {} {dtype}", out.len());
    let widen = match dtype {
        Dtype::F32 => {
            let words = bytes.as_chunks().0;
            return out.iter_mut().zip(words).for_each(|(x, &word)| *x = f32::from_le_bytes(word));
        }
        Dtype::F16 => half::widen_f16,
        Dtype::BF16 => half::widen_bf16,
        other => panic!("{other} is no float that weights are stored in"),
    };
    let mut bits = [0u16; 16 * LANES]; // the file's bytes may stand at an odd address
    for (words, out) in bytes.as_chunks().0.chunks(bits.len()).zip(out.chunks_mut(16 * LANES)) {
        bits.iter_mut().zip(words).for_each(|(x, &word)| *x = u16::from_le_bytes(word));
        widen(cpu, &bits[..words.len()], out);
    }
}

/// The smallest and largest number of a tensor, or of a part of one. NaNs are counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extremes {
    /// Smallest and largest; `None` where there are no numbers.
    pub range: Option<(Number, Number)>,
    /// How many NaNs.
    pub nans: usize,
}

/// A number of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A float; `f32` and narrower ones widened.
    Float(f64),
    /// An integer.
    Integer(i128),
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(b),
            (Number::Integer(a), Number::Integer(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

impl Extremes {
    /// Of both parts.
    pub fn join(self, other: Extremes) -> Extremes {
        let range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((if c < a { c } else { a }, if d > b { d } else { b })),
            (a, b) => a.or(b),
        };
        Extremes { range, nans: self.nans + other.nans }
    }
}

/// Bytes of a piece of work for [`extremes`]: a multiple of every element's size.
pub const PIECE: usize = 1 << 20;

/// The extremes of `bytes`, elements of `dtype`; `None` for types without numbers of their own (packed,
/// complex, eight-bit floats).
pub fn extremes(cpu: Cpu, dtype: Dtype, bytes: &[u8], scratch: &mut Scratch) -> Option<Extremes> {
    let integer = |n: i128| Number::Integer(n);
    let range = match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => return Some(of_weights(cpu, dtype, bytes, scratch)),
        Dtype::F64 => return Some(of_doubles(bytes)),
        Dtype::BOOL | Dtype::U8 => range(bytes, |b| integer(u8::from_le_bytes(b).into())),
        Dtype::I8 => range(bytes, |b| integer(i8::from_le_bytes(b).into())),
        Dtype::U16 => range(bytes, |b| integer(u16::from_le_bytes(b).into())),
        Dtype::I16 => range(bytes, |b| integer(i16::from_le_bytes(b).into())),
        Dtype::U32 => range(bytes, |b| integer(u32::from_le_bytes(b).into())),
        Dtype::I32 => range(bytes, |b| integer(i32::from_le_bytes(b).into())),
        Dtype::U64 => range(bytes, |b| integer(u64::from_le_bytes(b).into())),
        Dtype::I64 => range(bytes, |b| integer(i64::from_le_bytes(b).into())),
        _ => return None,
    };
    Some(Extremes { range, nans: 0 })
}

fn range<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Number) -> Option<(Number, Number)> {
    let numbers = bytes.as_chunks::<N>().0.iter().map(|&word| read(word));
    numbers.fold(None, |range, n| match range {
        None => Some((n, n)),
        Some((low, high)) => Some((if n < low { n } else { low }, if n > high { n } else { high })),
    })
}

fn of_weights(cpu: Cpu, dtype: Dtype, bytes: &[u8], scratch: &mut Scratch) -> Extremes {
    let mut all = Extremes::default();
    for bytes in bytes.chunks(CHUNK * dtype.bits() / 8) {
        let n = bytes.len() * 8 / dtype.bits();
        let floats = &mut Line::floats_mut(scratch.lines(n.div_ceil(LANES)))[..n];
        decode(cpu, dtype, bytes, floats);
        all = all.join(of_singles(cpu, floats));
    }
    all
}

/// The extremes of floats, at least one.
pub fn of_singles(cpu: Cpu, floats: &[f32]) -> Extremes {
    let (low, high) = (reduce::min(cpu, floats), reduce::max(cpu, floats));
    // A NaN anywhere makes both NaN; then one looks closer.
    if high.is_nan() {
        return of_floats(floats.iter().map(|&x| f64::from(x)));
    }
    let number = |x: f32| Number::Float(f64::from(x));
    Extremes { range: Some((number(low), number(high))), nans: 0 }
}

fn of_doubles(bytes: &[u8]) -> Extremes {
    of_floats(bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)))
}

fn of_floats(floats: impl Iterator<Item = f64>) -> Extremes {
    floats.fold(Extremes::default(), |all, x| {
        all.join(if x.is_nan() {
            Extremes { range: None, nans: 1 }
        } else {
            Extremes { range: Some((Number::Float(x), Number::Float(x))), nans: 0 }
        })
    })
}

/// What every command's JSON says of a tensor first.
pub fn tensor_head(w: &mut Writer, (name, dtype): (&str, &str), shape: &[usize], bytes: usize) {
    w.key("name").string(name);
    w.key("dtype").string(dtype);
    w.key("shape").array(|w| shape.iter().for_each(|&n| w.number(n)));
    w.key("bytes").number(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu;

    fn of(dtype: Dtype, bytes: &[u8]) -> Option<Extremes> {
        cpu::all().map(|cpu| extremes(cpu, dtype, bytes, &mut Scratch::default())).reduce(|a, b| {
            assert_eq!(a, b, "{dtype}");
            a
        })?
    }

    #[test]
    fn nans_are_counted_wherever_they_stand() {
        for n in [1usize, 15, 16, 17, 70, CHUNK + 3] {
            for nan in [0, n / 2, n - 1] {
                let mut x: Vec<f32> = (0..n).map(|i| i as f32 - 5.0).collect();
                x[nan] = f32::NAN;
                let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
                let numbers = || x.iter().filter(|x| !x.is_nan()).map(|&x| f64::from(x));
                let range = numbers().reduce(f64::min).zip(numbers().reduce(f64::max));
                let range = range.map(|(a, b)| (Number::Float(a), Number::Float(b)));
                assert_eq!(of(Dtype::F32, &bytes), Some(Extremes { range, nans: 1 }), "{n}, NaN at {nan}");
            }
        }
    }

    #[test]
    fn every_type_has_its_numbers() {
        let floats = |a: f64, b: f64| Some((Number::Float(a), Number::Float(b)));
        let integers = |a: i128, b: i128| Some((Number::Integer(a), Number::Integer(b)));
        let two = |a: &[u8], b: &[u8]| [a, b].concat();
        let cases = [
            (Dtype::F16, two(&0x3c00u16.to_le_bytes(), &0xfbffu16.to_le_bytes()), floats(-65504.0, 1.0)),
            (Dtype::BF16, two(&0x3f80u16.to_le_bytes(), &0xc000u16.to_le_bytes()), floats(-2.0, 1.0)),
            (
                Dtype::F64,
                two(&1e300f64.to_le_bytes(), &f64::NEG_INFINITY.to_le_bytes()),
                floats(f64::NEG_INFINITY, 1e300),
            ),
            (Dtype::I64, two(&i64::MIN.to_le_bytes(), &7i64.to_le_bytes()), integers(i64::MIN.into(), 7)),
            (Dtype::U64, two(&u64::MAX.to_le_bytes(), &7u64.to_le_bytes()), integers(7, u64::MAX.into())),
            (Dtype::I8, vec![0x80, 0x7f], integers(-128, 127)),
            (Dtype::BOOL, vec![1, 0], integers(0, 1)),
        ];
        for (dtype, bytes, range) in cases {
            assert_eq!(of(dtype, &bytes), Some(Extremes { range, nans: 0 }), "{dtype}");
        }
        assert_eq!(of(Dtype::F8_E4M3, &[0]), None);
        assert_eq!(of(Dtype::F32, &[]), Some(Extremes::default()));
    }
}
