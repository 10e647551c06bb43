//! One vector to its row and back.

use super::form::{Form, Full, VectorType};
use crate::Cpu;
use crate::kernels::dot::dot;
use crate::kernels::half::{narrow_f16, widen_f16};
use crate::kernels::search::{mean_magnitude, pack_bits};
use crate::kernels::{int8, nf4};

/// A vector as it is stored.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Floats or codes.
    pub bytes: Vec<u8>,
    /// What is kept beside codes.
    pub full: Vec<u8>,
    pub scale: f32,
    /// The product of the vector that gives scores with itself; 0 where it is not needed.
    pub square: f32,
}

impl Form {
    /// The row of a prepared vector.
    pub(super) fn encode(&self, cpu: Cpu, x: &[f32]) -> Row {
        let mut row = Row { bytes: vec![0; self.row_bytes()], ..Row::default() };
        match self.kind {
            VectorType::F32 => row.bytes = floats(x),
            VectorType::F16 => row.bytes = halves(cpu, x),
            VectorType::Int8 => {
                let mut codes = vec![0; x.len()];
                row.scale = int8::quantize(cpu, x, &mut codes);
                row.bytes.iter_mut().zip(&codes).for_each(|(byte, code)| *byte = code.to_ne_bytes()[0]);
            }
            VectorType::Nf4 => {
                let (codes, scale) = (&mut row.bytes[..nf4::code_bytes(x.len())], &mut [0.0]);
                nf4::quantize(cpu, x, x.len(), codes, scale).expect("a prepared vector is finite");
                row.scale = scale[0];
            }
            VectorType::Binary => {
                pack_bits(x, &mut row.bytes);
                row.scale = mean_magnitude(x);
            }
        }
        match self.full {
            Full::Dropped => {}
            Full::F32 => row.full = floats(x),
            Full::F16 => row.full = halves(cpu, x),
        }
        if self.has_squares() {
            let mut y = vec![0.0; x.len()];
            self.decode(cpu, &row, &mut y);
            row.square = dot(cpu, &y, &y);
        }
        row
    }

    /// The vector that gives scores: what is kept, else what the codes stand for, each product rounded once.
    fn decode(&self, cpu: Cpu, row: &Row, out: &mut [f32]) {
        let stored = Stored { bytes: &row.bytes, full: &row.full, scale: row.scale };
        stored.decode(self, cpu, out);
    }
}

/// A row where it lies.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub bytes: &'a [u8],
    pub full: &'a [u8],
    pub scale: f32,
}

impl Stored<'_> {
    /// As [`Form::decode`].
    pub fn decode(&self, form: &Form, cpu: Cpu, out: &mut [f32]) {
        match (form.kind, form.full) {
            (VectorType::F32, _) => read_floats(self.bytes, out),
            (VectorType::F16, _) => read_halves(cpu, self.bytes, out),
            (_, Full::F32) => read_floats(self.full, out),
            (_, Full::F16) => read_halves(cpu, self.full, out),
            (VectorType::Int8, _) => {
                let pairs = out.iter_mut().zip(self.bytes);
                pairs.for_each(|(x, &code)| *x = f32::from(i8::from_ne_bytes([code])) * self.scale);
            }
            (VectorType::Nf4, _) => {
                let codes = &self.bytes[..nf4::code_bytes(out.len())];
                nf4::dequantize(cpu, codes, &[self.scale], form.dim, out);
            }
            (VectorType::Binary, _) => {
                let bit = |i: usize| self.bytes[i / 8] >> (7 - i % 8) & 1 == 1;
                let signs = out.iter_mut().enumerate();
                signs.for_each(|(i, x)| *x = if bit(i) { self.scale } else { -self.scale });
            }
        }
    }
}

fn floats(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn halves(cpu: Cpu, x: &[f32]) -> Vec<u8> {
    let mut out = vec![0; x.len()];
    narrow_f16(cpu, x, &mut out);
    out.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn read_floats(bytes: &[u8], out: &mut [f32]) {
    for (x, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f32::from_le_bytes(*bytes);
    }
}

fn read_halves(cpu: Cpu, bytes: &[u8], out: &mut [f32]) {
    let half: Vec<u16> = bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
    widen_f16(cpu, &half, out);
}
