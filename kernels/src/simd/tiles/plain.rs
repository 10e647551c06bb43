//! What a matrix unit does, in plain Rust.

#![allow(clippy::needless_range_loop)] // rows, panels and lanes are indices into several arrays at once

use super::{
    CODES, Chain, End, Goal, Half, Halves, Link, Meanwhile, NO_PRODUCTS, NOTHING, Pair, Products, Rounds,
    Rows, STEPS, TALL, Tile, Tiles, WIDE,
};
use crate::bf16::LEAST;
use crate::gemm::Bf16;
use crate::half::{bf16_to_f32, f32_to_bf16};
use crate::int8::{BLOCK, Quad};
use crate::simd::{Floats, fma};
use crate::{LANES, Line};

/// The definition: the bits of every unit, slowly.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Tiles<Bf16> for Plain {
    fn multiply(&mut self, a: &[Pair], b: [&[Tile]; 2], chain: Chain<'_>, meanwhile: Meanwhile<'_>) {
        steps(a, b, chain, add_halves);
        if let Some((before, goal)) = meanwhile.settle {
            Tiles::<Bf16>::settle(self, before, goal);
        }
    }

    fn settle(&mut self, block: &Products, goal: Goal<'_>) {
        if let Goal::Halves(End { from, bias, .. }, mut to) = goal {
            let mut sums = NO_PRODUCTS;
            let end = End { from, bias, past: false };
            settle(block, Goal::Rows(end, Rows::of(&mut sums)), |a, b| a + b);
            for (i, sums) in sums.iter().enumerate() {
                for (c, &sum) in to.row(i).iter_mut().zip(Line::floats(sums)) {
                    *c = Bf16(rounded(sum));
                }
            }
            return;
        }
        settle(block, goal, |a, b| a + b);
    }
}

/// Brings products to their goal by an addition.
fn settle(block: &Products, goal: Goal<'_>, add: impl Fn(f32, f32) -> f32) {
    match goal {
        Goal::Sums(sums) => {
            let sums = Line::floats_mut(sums.as_flattened_mut());
            for (sum, &more) in sums.iter_mut().zip(Line::floats(block.as_flattened())) {
                *sum = add(*sum, more);
            }
        }
        Goal::Halves(..) => panic!("integers are not rounded"),
        Goal::Rows(End { from, bias, .. }, mut to) => {
            for (i, (from, more)) in from.iter().zip(block).enumerate() {
                let terms = Line::floats(from).iter().zip(Line::floats(more)).zip(Line::floats(bias));
                for (c, ((&from, &more), &bias)) in to.row(i).iter_mut().zip(terms) {
                    *c = add(add(from, more), bias);
                }
            }
        }
    }
}

/// The products of each step of two stripes with two panels, added to what the chain begins with.
fn steps(a: &[Pair], b: [&[Tile]; 2], chain: Chain<'_>, add: impl Fn(&Tile, &Tile, &mut Tile)) {
    assert!(b[0].len() == a.len() && b[1].len() == a.len(), "stripes of as many tiles");
    let (from, mut to) = match chain {
        Chain::New(to) => (NO_PRODUCTS, to),
        Chain::On(sums) => (*sums, Rows::of(sums)),
        Chain::End(from, to) => (*from, to),
    };
    for i in 0..2 {
        for j in 0..WIDE {
            let mut sums: Tile = core::array::from_fn(|row| from[i * LANES + row][j]);
            for (a, b) in a.iter().zip(b[j]) {
                add(&a[i], b, &mut sums);
            }
            for (row, sums) in sums.iter().enumerate() {
                to.row(i * LANES + row)[j * LANES..][..LANES].copy_from_slice(&sums.0);
            }
        }
    }
}

impl Rounds for Plain {
    fn round(&self, x: &[f32; STEPS], line: &mut Line) {
        for (half, &x) in Line::elements_mut(core::slice::from_mut(line)).iter_mut().zip(x) {
            *half = rounded(x);
        }
    }

    fn clear(&self, x: &[Bf16; STEPS], line: &mut Line) {
        for (half, &x) in Line::elements_mut(core::slice::from_mut(line)).iter_mut().zip(x) {
            *half = rounded(bf16_to_f32(x.0));
        }
    }

    fn pair(&self, even: &Floats, odd: &Floats, line: &mut Line) {
        for (word, (&even, &odd)) in line.0.iter_mut().zip(even.iter().zip(odd)) {
            *word = f32::from_bits(u32::from(rounded(even)) | u32::from(rounded(odd)) << 16);
        }
    }

    fn panel(&mut self, a: [&[Tile]; 2], b: &[Tile], products: &mut [Tile; 2]) {
        for (a, sums) in a.into_iter().zip(products) {
            assert!(a.len() == b.len(), "stripes and a panel of as many tiles");
            *sums = NOTHING;
            for (a, b) in a.iter().zip(b) {
                add_halves(a, b, sums);
            }
        }
    }
}

fn rounded(x: f32) -> u16 {
    let bits = f32_to_bf16(x);
    if bf16_to_f32(bits).abs() < LEAST { 0 } else { bits }
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
    fn multiply(&mut self, a: &[Pair], b: [&[Tile]; 2], chain: Chain<'_>, meanwhile: Meanwhile<'_>) {
        steps(a, b, chain, |a, b, sums| {
            let b: &[u8] = Line::elements(b);
            add_codes::<CODES>(a, |at| i32::from(b[at]), sums);
        });
        if let Some((before, goal)) = meanwhile.settle {
            Tiles::<Quad>::settle(self, before, goal);
        }
    }

    fn settle(&mut self, block: &Products, goal: Goal<'_>) {
        settle(block, goal, |a, b| f32::from_bits(a.to_bits().wrapping_add(b.to_bits())));
    }
}

impl Halves for Plain {
    fn multiply(&mut self, a: &[Half; 2], b: [&Half; 2], block: &mut Products, meanwhile: Option<Link<'_>>) {
        for i in 0..2 {
            for j in 0..WIDE {
                let b: &[i8] = Line::elements(b[j]);
                let mut sums = NOTHING;
                add_codes::<BLOCK>(&a[i], |at| i32::from(b[at]), &mut sums);
                for (row, sums) in block[i * LANES..].iter_mut().zip(sums) {
                    row[j] = sums;
                }
            }
        }
        if let Some(link) = meanwhile {
            self.link(link);
        }
    }

    fn link(&mut self, link: Link<'_>) {
        let Link { done, rows, columns, minima, chains, mut sums } = link;
        for i in 0..TALL {
            let of_row = |lines: &[Line]| Line::floats(lines)[i];
            for j in 0..WIDE {
                for lane in 0..LANES {
                    let product = done[i][j].0[lane].to_bits() as i32 as f32;
                    let mut chain = fma(product, of_row(rows) * columns[j].0[lane], chains[i][j].0[lane]);
                    if let Some((rows, columns)) = minima {
                        chain = fma(of_row(rows), columns[j].0[lane], chain);
                    }
                    if let Some(sums) = &mut sums {
                        sums[i][j].0[lane] += chain;
                        chain = 0.0;
                    }
                    chains[i][j].0[lane] = chain;
                }
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
