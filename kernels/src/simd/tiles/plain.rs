//! What a matrix unit does, in plain Rust.

use super::{CODES, Half, Halves, NOTHING, STEPS, Sums, Tile, Tiles, count};
use crate::gemm::Bf16;
use crate::half::bf16_to_f32;
use crate::int8::{BLOCK, Quad};
use crate::{LANES, Line};

/// The definition: the bits of every unit, slowly.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Tiles<Bf16> for Plain {
    fn add(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
        for step in 0..count(a, b) {
            for (i, sums) in sums.iter_mut().enumerate() {
                add_halves(&a[i / 2][step], &b[i % 2][step], sums);
            }
        }
    }
}

fn add_halves(a: &Tile, b: &Tile, sums: &mut Tile) {
    for (a, sums) in a.iter().zip(sums) {
        for (column, sum) in sums.0.iter_mut().enumerate() {
            let mut chains = [0.0f32; 2];
            for step in 0..STEPS {
                let b = half(&b[step / 2], 2 * column + step % 2);
                // The product of two bfloat16 is exact, so that one rounding is all there is: a fused one.
                chains[step % 2] += half(a, step) * b;
            }
            *sum += chains[0] + chains[1];
        }
    }
}

/// Bfloat16 number `i` of a row.
fn half(row: &Line, i: usize) -> f32 {
    debug_assert!(i < 2 * LANES);
    let word = row.0[i / 2].to_bits();
    bf16_to_f32((word >> (16 * (i % 2))) as u16)
}

impl Tiles<Quad> for Plain {
    fn add(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
        for step in 0..count(a, b) {
            for (i, sums) in sums.iter_mut().enumerate() {
                let b: &[u8] = Line::elements(&b[i % 2][step]);
                add_codes::<CODES>(&a[i / 2][step], |at| i32::from(b[at]), sums);
            }
        }
    }
}

impl Halves for Plain {
    fn multiply(&mut self, a: [&[Half]; 2], b: [&[Half]; 2], sums: &mut [Sums]) {
        assert!(count(a, b) == sums.len(), "sums of each half tile");
        for (step, sums) in sums.iter_mut().enumerate() {
            *sums = [NOTHING; 4];
            for (i, sums) in sums.iter_mut().enumerate() {
                let b: &[i8] = Line::elements(&b[i % 2][step]);
                add_codes::<BLOCK>(&a[i / 2][step], |at| i32::from(b[at]), sums);
            }
        }
    }
}

/// Adds the products of sixteen rows of `DEPTH` codes with sixteen columns, whose code at a place `b` knows.
fn add_codes<const DEPTH: usize>(a: &[Line], b: impl Fn(usize) -> i32, sums: &mut Tile) {
    let rows = Line::elements::<i8>(a).as_chunks::<DEPTH>().0;
    for (a, sums) in rows.iter().zip(Line::elements_mut::<i32>(sums).as_chunks_mut::<LANES>().0) {
        for (column, sum) in sums.iter_mut().enumerate() {
            for (step, &a) in a.iter().enumerate() {
                let b = b(step / 4 * CODES + 4 * column + step % 4);
                *sum = sum.wrapping_add(i32::from(a) * b);
            }
        }
    }
}
