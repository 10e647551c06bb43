//! The register tile: MR rows by NP panels of 16 columns, one chain each over a block of k.
//!
//! A step of k loads NP lines of B, broadcasts MR elements of A and does MR × NP fused multiply-adds; on
//! AVX-512 12 × 2 = 24 of them against 14 loads. Chains are independent, so latency hides behind the
//! others; there is no dependence but each chain's own, which is the law's.

use super::weights::{GROUP, Panel};
use crate::simd::Simd;

/// Sums of one block: `a` is at most 256 steps of k, MR rows each; `b[p]` starts at group `g` of its panel.
/// Two lines' worth of `ahead` are asked for in every eight steps: what comes from far arrives while this runs.
#[inline(always)]
pub(super) fn chain<S: Simd, P: Panel, const MR: usize, const NP: usize>(
    s: S,
    a: &[[f32; MR]],
    b: [P; NP],
    g: usize,
    ahead: &[f32],
) -> [[S::F32; NP]; MR] {
    let mut acc = [[s.splat(0.0); NP]; MR];
    let (groups, rest) = a.as_chunks::<GROUP>();
    for (i, a) in groups.iter().enumerate() {
        let mut b = groups_at(s, &b, g + i);
        if let Some(ahead) = ahead.get(32 * i..32 * i + 32) {
            s.prefetch(&ahead[0]);
            s.prefetch(&ahead[16]);
        }
        for (k, a) in a.iter().enumerate() {
            step::<S, P, MR, NP>(s, a, &mut b, k, &mut acc);
        }
    }
    if !rest.is_empty() {
        let mut b = groups_at(s, &b, g + groups.len());
        for (k, a) in rest.iter().enumerate() {
            step::<S, P, MR, NP>(s, a, &mut b, k, &mut acc);
        }
    }
    acc
}

/// Group `g` of each panel.
#[inline(always)]
fn groups_at<S: Simd, P: Panel, const NP: usize>(s: S, b: &[P; NP], g: usize) -> [P::Group<S>; NP] {
    let mut groups = [b[0].group(s, g); NP];
    for (group, b) in groups.iter_mut().zip(b).skip(1) {
        *group = b.group(s, g);
    }
    groups
}

/// One step of k.
#[inline(always)]
fn step<S: Simd, P: Panel, const MR: usize, const NP: usize>(
    s: S,
    a: &[f32; MR],
    b: &mut [P::Group<S>; NP],
    k: usize,
    acc: &mut [[S::F32; NP]; MR],
) {
    let mut line = [s.splat(0.0); NP];
    for (line, b) in line.iter_mut().zip(b) {
        *line = P::line(s, b, k);
    }
    for (acc, &a) in acc.iter_mut().zip(a) {
        let a = s.splat(a);
        for (acc, &line) in acc.iter_mut().zip(&line) {
            *acc = s.fma(a, line, *acc);
        }
    }
}
