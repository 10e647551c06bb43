//! What a matrix unit does, in plain Rust.

use super::{STEPS, Sums, Tile, Tiles, count};
use crate::half::bf16_to_f32;
use crate::{LANES, Line};

/// The definition: the bits of every unit, slowly.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Tiles for Plain {
    fn add_bf16(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
        for step in 0..count(a, b) {
            for (i, sums) in sums.iter_mut().enumerate() {
                add_tile(&a[i / 2][step], &b[i % 2][step], sums);
            }
        }
    }
}

fn add_tile(a: &Tile, b: &Tile, sums: &mut Tile) {
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
