//! Rotary embedding: the same bits as plain loops on every tier, in every layout, in place and apart; the table
//! against `f64`.

mod common;

use common::{Cpu, Random, assert_same, cpus};
use samebits::kernels::rope::{self, Pairing, Rope, Table};
use samebits::kernels::view::{HeadsMut, HeadsRef};

/// Where the elements of (tokens, heads, head_dim) lie.
#[derive(Clone, Copy, Debug)]
struct Layout {
    shape: [usize; 3],
    strides: [usize; 3],
}

impl Layout {
    fn by_token(tokens: usize, heads: usize, head_dim: usize) -> Layout {
        Layout { shape: [tokens, heads, head_dim], strides: [heads * head_dim, head_dim, 1] }
    }

    fn by_head(tokens: usize, heads: usize, head_dim: usize) -> Layout {
        Layout { shape: [tokens, heads, head_dim], strides: [head_dim, tokens * head_dim, 1] }
    }

    fn four(&self, len: usize) -> ([usize; 4], [isize; 4]) {
        let ([tokens, heads, dim], [t, h, d]) = (self.shape, self.strides.map(|s| s as isize));
        ([1, heads, tokens, dim], [len as isize, h, t, d])
    }

    fn view<'a>(&self, x: &'a [f32]) -> HeadsRef<'a> {
        let (shape, strides) = self.four(x.len());
        HeadsRef::strided(x, 0, shape, strides)
    }

    fn view_mut<'a>(&self, x: &'a mut [f32]) -> HeadsMut<'a> {
        let (shape, strides) = self.four(x.len());
        HeadsMut::strided(x, 0, shape, strides)
    }
}

const PAIRINGS: [Pairing; 2] = [Pairing::Half, Pairing::Interleaved];

/// The definition, pair by pair, in plain Rust.
fn reference(rope: &Rope, shape: &Layout, x: &mut [f32]) {
    let Table { cos, sin, pairs } = rope.table;
    for (t, &p) in rope.positions.iter().enumerate() {
        for h in 0..shape.shape[1] {
            for i in 0..pairs {
                let (c, s) = (cos[p as usize * pairs + i], sin[p as usize * pairs + i]);
                let (i, j) = match rope.pairing {
                    Pairing::Half => (i, i + pairs),
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                };
                let at = |d| t * shape.strides[0] + h * shape.strides[1] + d * shape.strides[2];
                let (a, b) = (x[at(i)], x[at(j)]);
                x[at(i)] = (-b).mul_add(s, a * c);
                x[at(j)] = a.mul_add(s, b * c);
            }
        }
    }
}

fn table(rows: usize, pairs: usize) -> (Vec<f32>, Vec<f32>) {
    let mut frequencies = vec![0.0; pairs];
    rope::frequencies(10_000.0, &mut frequencies);
    let (mut cos, mut sin) = (vec![0.0; rows * pairs], vec![0.0; rows * pairs]);
    rope::fill_table(0, &frequencies, 1.0, &mut cos, &mut sin);
    (cos, sin)
}

/// One layout: in place and into another layout, against the definition.
fn check(cpu: Cpu, rope: &Rope, shape: &Layout) {
    let len = shape.strides.iter().zip(shape.shape).map(|(s, n)| s * n).sum();
    let x: Vec<f32> = Random::new(len as u64).vec(len);
    let mut want = x.clone();
    reference(rope, shape, &mut want);
    let mut got = x.clone();
    rope::in_place(cpu, rope, shape.view_mut(&mut got));
    let what = format!("{:?} of {} pairs, {shape:?}, {cpu:?}", rope.pairing, rope.table.pairs);
    assert_same(&got, &want, &what);
    // apart: the gaps of the output stay as they were
    let mut apart = vec![7.0; len];
    rope::apply(cpu, rope, shape.view(&x), shape.view_mut(&mut apart));
    let mut inside = vec![false; len];
    for t in 0..shape.shape[0] {
        for h in 0..shape.shape[1] {
            for d in 0..shape.shape[2] {
                inside[t * shape.strides[0] + h * shape.strides[1] + d * shape.strides[2]] = true;
            }
        }
    }
    let want: Vec<f32> = want.iter().zip(inside).map(|(&w, inside)| if inside { w } else { 7.0 }).collect();
    assert_same(&apart, &want, format!("apart, {what}"));
}

#[test]
fn every_tier_and_layout_gives_the_bits_of_the_definition() {
    let positions = [3, 0, 9, 9, 1];
    let dims: &[usize] =
        if common::slow() { &[2, 33, 64, 67] } else { &[1, 2, 6, 31, 32, 33, 64, 67, 80, 128, 300] };
    for cpu in cpus() {
        for &head_dim in dims {
            for pairs in [head_dim / 2, head_dim / 4, head_dim / 2 - head_dim / 8] {
                let (cos, sin) = table(10, pairs);
                for pairing in PAIRINGS {
                    let table = Table { cos: &cos, sin: &sin, pairs };
                    let rope = Rope { table, pairing, positions: &positions };
                    check(cpu, &rope, &Layout::by_token(5, 3, head_dim));
                    check(cpu, &rope, &Layout::by_head(5, 3, head_dim));
                    let gaps = [3 * (head_dim + 2) + 1, head_dim + 2, 1];
                    check(cpu, &rope, &Layout { strides: gaps, ..Layout::by_token(5, 3, head_dim) });
                    let apart = [1, 5, 15];
                    check(cpu, &rope, &Layout { strides: apart, ..Layout::by_token(5, 3, head_dim) });
                }
            }
        }
    }
}

#[test]
fn the_table_is_right_at_every_position() {
    let mut frequencies = [0.0; 64];
    rope::frequencies(500_000.0, &mut frequencies);
    for (i, &f) in frequencies.iter().enumerate() {
        let want = 500_000f64.powf(-(i as f64) / 64.0);
        assert!((f / want - 1.0).abs() < 1e-15, "frequency {i} is {f:e}, want {want:e}");
    }
    for first in [0usize, 1, 4_095, 131_071, 1_048_575, (1 << 24) - 4] {
        let (mut cos, mut sin) = ([0.0; 4 * 64], [0.0; 4 * 64]);
        rope::fill_table(first, &frequencies, 1.0, &mut cos, &mut sin);
        for (i, (&c, &s)) in cos.iter().zip(&sin).enumerate() {
            let angle = (first + i / 64) as f64 * frequencies[i % 64];
            let error = (f64::from(c) - angle.cos()).abs().max((f64::from(s) - angle.sin()).abs());
            assert!(error <= 2f64.powi(-25) + 1e-15, "position {}: off by {error:e}", first + i / 64);
        }
    }
}

#[test]
fn rotation_keeps_length_and_depends_on_distance_alone() {
    let (cos, sin) = table(40, 32);
    let mut random = Random::new(5);
    let (q, k) = (random.vec(64), random.vec(64));
    for pairing in PAIRINGS {
        let score = |m: u32, n: u32| -> f64 {
            let turned = |x: &[f32], p: u32| {
                let rope =
                    Rope { table: Table { cos: &cos, sin: &sin, pairs: 32 }, pairing, positions: &[p] };
                let mut x = x.to_vec();
                rope::in_place(Cpu::detect(), &rope, HeadsMut::by_token(&mut x, 1, 1, 64));
                x
            };
            let dot = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
            turned(&q, m).iter().zip(&turned(&k, n)).map(dot).sum()
        };
        assert!((score(3, 1) - score(33, 31)).abs() < 1e-5, "{pairing:?}");
        assert!((score(3, 1) - score(33, 1)).abs() > 1e-3, "{pairing:?}");
    }
}

#[test]
fn nothing_to_turn_is_no_work() {
    for cpu in cpus() {
        for pairing in PAIRINGS {
            let (cos, sin) = table(2, 2);
            let table = Table { cos: &cos, sin: &sin, pairs: 2 };
            let none = Rope { table, pairing, positions: &[] };
            rope::in_place(cpu, &none, HeadsMut::by_token(&mut [], 0, 3, 8));
            let rope = Rope { table, pairing, positions: &[1, 1] };
            rope::in_place(cpu, &rope, HeadsMut::by_token(&mut [], 2, 0, 8));
        }
    }
}

#[test]
#[should_panic(expected = "position 10 in a table of 10")]
fn a_position_past_the_table_is_refused() {
    let (cos, sin) = table(10, 2);
    let table = Table { cos: &cos, sin: &sin, pairs: 2 };
    let rope = Rope { table, pairing: Pairing::Half, positions: &[10] };
    rope::in_place(Cpu::detect(), &rope, HeadsMut::by_token(&mut [0.0; 4], 1, 1, 4));
}

#[test]
#[should_panic(expected = "2 positions for 1 tokens")]
fn a_position_for_each_token_and_no_more() {
    let (cos, sin) = table(10, 2);
    let table = Table { cos: &cos, sin: &sin, pairs: 2 };
    let rope = Rope { table, pairing: Pairing::Half, positions: &[0, 1] };
    rope::in_place(Cpu::detect(), &rope, HeadsMut::by_token(&mut [0.0; 4], 1, 1, 4));
}

/// The gradient turns back: the forward rotation by a table whose sin is negated, bit for bit.
#[test]
fn backward_turns_by_the_negative_angle() {
    let (tokens, heads) = (5, 3);
    let positions = [3, 0, 7, 7, 2];
    let mut random = Random::new(77);
    for (dim, pairs) in [(8, 4), (33, 12), (64, 32), (70, 35)] {
        let (cos, sin) = (random.vec(8 * pairs), random.vec(8 * pairs));
        let minus: Vec<f32> = sin.iter().map(|x| -x).collect();
        let x = random.normal(tokens * heads * dim);
        for pairing in PAIRINGS {
            let rope = Rope { table: Table { cos: &cos, sin: &sin, pairs }, pairing, positions: &positions };
            let back = Rope { table: Table { cos: &cos, sin: &minus, pairs }, ..rope };
            let by_component = Layout { shape: [tokens, heads, dim], strides: [heads, 1, tokens * heads] };
            for layout in
                [Layout::by_token(tokens, heads, dim), Layout::by_head(tokens, heads, dim), by_component]
            {
                let mut want = x.clone();
                reference(&back, &layout, &mut want);
                for cpu in cpus() {
                    let mut dy = x.clone();
                    rope::backward_in_place(cpu, &rope, layout.view_mut(&mut dy));
                    assert_same(&dy, &want, format!("{pairing:?} {layout:?} {pairs} pairs on {cpu:?}"));
                }
            }
        }
    }
}
