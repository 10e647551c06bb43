//! The register tile: MR rows by NP panels of 16 columns, one chain each over a block of k.
//!
//! A step of k loads NP lines of B, broadcasts MR elements of A (each from its own row, where it lies) and does
//! MR × NP fused multiply-adds; on AVX-512 8 × 3 = 24 of them against 11 loads. Chains are independent, so
//! latency hides behind the others; there is no dependence but each chain's own, which is the law's.

#![allow(clippy::needless_range_loop)] // loops of a length that the compiler sees keep sums in registers

use super::ahead::Ahead;
use super::weights::{GROUP, Panel};
use crate::Line;
use crate::simd::{Floats, Simd};
use crate::view::Down;

/// Sums of one block: `a` are MR rows of at most 256 steps of k; `b[p]` starts at group `g` of its panel.
#[inline(always)]
pub(super) fn chain<S: Simd, P: Panel, const MR: usize, const NP: usize>(
    s: S,
    a: [&[f32]; MR],
    b: [P; NP],
    g: usize,
) -> [[S::F32; NP]; MR] {
    let mut acc = [[s.splat(0.0); NP]; MR];
    let k = a[0].len();
    let mut rows = a;
    for row in &mut rows {
        *row = &row[..k]; // one bound for all
    }
    for i in 0..k / GROUP {
        let mut b = groups_at(s, &b, g + i);
        let mut eight = [&[0.0; GROUP]; MR];
        for (eight, row) in eight.iter_mut().zip(&rows) {
            *eight = row[i * GROUP..].first_chunk().expect("eight steps");
        }
        // Indices, not iterators: a loop whose length the compiler does not see keeps `acc` in memory.
        for k in 0..GROUP {
            let line = lines::<S, P, NP>(s, &mut b, k);
            for r in 0..MR {
                step(s, eight[r][k], &line, &mut acc[r]);
            }
        }
    }
    if !k.is_multiple_of(GROUP) {
        let mut b = groups_at(s, &b, g + k / GROUP);
        for k in k / GROUP * GROUP..k {
            let line = lines::<S, P, NP>(s, &mut b, k % GROUP);
            for r in 0..MR {
                step(s, rows[r][k], &line, &mut acc[r]);
            }
        }
    }
    acc
}

/// Steps of k that a turn of the loop does.
const STEPS: usize = 4;

/// The same over floats, as far as `b` goes down: `PACKED` where its rows lie one after the other. Every eight steps something
/// of `ahead` is asked for.
#[inline(always)]
pub(super) fn descend<S: Simd, const MR: usize, const NP: usize, const PACKED: bool>(
    s: S,
    a: [&[f32]; MR],
    down: &mut Down<'_, NP>,
    ahead: &mut Ahead,
) -> [[S::F32; NP]; MR] {
    let mut acc = [[s.splat(0.0); NP]; MR];
    let mut b = if PACKED { down.packed() } else { *down };
    let k = a[0].len();
    let (mut whole, mut rest) = ([&[][..]; MR], [&[][..]; MR]);
    for r in 0..MR {
        (whole[r], rest[r]) = a[r][..k].as_chunks::<STEPS>(); // one bound for all
    }
    for i in 0..k / STEPS {
        if i.is_multiple_of(GROUP / STEPS) {
            ahead.step(s);
        }
        let b = b.take::<STEPS>();
        for k in 0..STEPS {
            let mut line = [s.splat(0.0); NP];
            for p in 0..NP {
                line[p] = s.load(b.line(k, p));
            }
            for r in 0..MR {
                step(s, whole[r][i][k], &line, &mut acc[r]);
                for p in 0..NP {
                    acc[r][p] = s.pin(acc[r][p]);
                }
            }
        }
    }
    for i in 0..k % STEPS {
        let b = b.take::<1>();
        let mut line = [s.splat(0.0); NP];
        for p in 0..NP {
            line[p] = s.load(b.line(0, p));
        }
        for r in 0..MR {
            step(s, rest[r][i], &line, &mut acc[r]);
        }
    }
    *down = b;
    acc
}

/// Group `g` of each panel.
#[inline(always)]
fn groups_at<S: Simd, P: Panel, const NP: usize>(s: S, b: &[P; NP], g: usize) -> [P::Group<S>; NP] {
    let mut groups = [b[0].group(s, g); NP];
    for p in 1..NP {
        groups[p] = b[p].group(s, g);
    }
    groups
}

/// Row k of each panel's group.
#[inline(always)]
fn lines<S: Simd, P: Panel, const NP: usize>(s: S, b: &mut [P::Group<S>; NP], k: usize) -> [S::F32; NP] {
    let mut line = [s.splat(0.0); NP];
    for p in 0..NP {
        line[p] = P::line(s, &mut b[p], k);
    }
    line
}

/// One row's step of k.
#[inline(always)]
fn step<S: Simd, const NP: usize>(s: S, a: f32, line: &[S::F32; NP], acc: &mut [S::F32; NP]) {
    let a = s.splat(a);
    for p in 0..NP {
        acc[p] = s.fma(a, line[p], acc[p]);
    }
}

/// A block's sums, added to what was before them.
#[inline(always)]
pub(crate) fn add_to<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    sums: &mut [[Line; NP]; MR],
    acc: &[[S::F32; NP]; MR],
) {
    for r in 0..MR {
        for p in 0..NP {
            let sum = s.add(s.load(&sums[r][p]), acc[r][p]);
            s.store(&mut sums[r][p], sum);
        }
    }
}

/// The first block's sums, added to +0.
#[inline(always)]
pub(super) fn begin<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    sums: &mut [[Line; NP]; MR],
    acc: &[[S::F32; NP]; MR],
) {
    for r in 0..MR {
        for p in 0..NP {
            s.store(&mut sums[r][p], s.add(s.splat(0.0), acc[r][p]));
        }
    }
}

/// The last block's sums, added to those before, on the way to C.
#[inline(always)]
pub(super) fn store<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    places: &mut [&mut [Floats; NP]; MR],
    before: &[[Line; NP]; MR],
    acc: &[[S::F32; NP]; MR],
) {
    for r in 0..MR {
        for p in 0..NP {
            s.store(&mut places[r][p], s.add(s.load(&before[r][p]), acc[r][p]));
        }
    }
}
