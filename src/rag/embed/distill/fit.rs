//! A table fitted to whole texts: their means should point where the encoder's vectors of them do.
//!
//! ```text
//!   x_s = mean of the rows of text s / its length as it was        y_s = the encoder's vector, among the components, length 1
//!   Δ least in   Σ |x_s + change by Δ − y_s|²  +  λ Σ |Δ|²         tokens that seldom come are hardly moved
//!   (XᵀX + λ) Δ = Xᵀ (Y − X T):  conjugate gradients, each component by itself
//! ```
//!
//! Alone a token has one meaning, in texts it has mostly another: some ten thousand sentences tell. Everything is `f64`, sums
//! are in the order of tokens and of texts: the same bits for any number of threads. Reference: Hestenes and Stiefel 1952.

use crate::kernels::simd::sqrt64;
use crate::run::Run;

/// What a table is fitted to.
pub struct Examples<'a> {
    /// Of each text, the places of its tokens, at least one.
    pub texts: &'a [Vec<u32>],
    /// (texts, dim), of length 1.
    pub targets: Vec<f64>,
}

/// Steps: the tables that 15 and 25 give are not told apart.
const STEPS: usize = 25;
/// Rows of a piece.
const ROWS: usize = 128;

/// Fits `table` (tokens, dim) to `examples`; `lambda` holds it where it was.
pub fn fit(run: &Run<'_>, table: &mut [f64], dim: usize, examples: &Examples<'_>, lambda: f64) {
    let (texts, tokens) = (examples.texts, table.len() / dim);
    let mut with: Vec<Vec<u32>> = vec![Vec::new(); tokens];
    for (s, text) in texts.iter().enumerate() {
        text.iter().for_each(|&token| with[token as usize].push(s as u32));
    }
    let sums = gather(run, texts, table, dim);
    let scale: Vec<f64> = sums.chunks_exact(dim).map(|sum| 1.0 / length(sum).max(1e-12)).collect();
    let scaled = |rows: &mut Vec<f64>| {
        for (row, scale) in rows.chunks_exact_mut(dim).zip(&scale) {
            row.iter_mut().for_each(|x| *x *= scale);
        }
    };
    let mut left = sums;
    scaled(&mut left);
    left.iter_mut().zip(&examples.targets).for_each(|(x, y)| *x = y - *x);
    scaled(&mut left);
    let mut residual = gather(run, &with, &left, dim);
    let (mut direction, mut size) = (residual.clone(), inner(&residual, &residual, dim));
    for _ in 0..STEPS {
        let mut turned = gather(run, texts, &direction, dim);
        // X has the scale once and Xᵀ once.
        scaled(&mut turned);
        scaled(&mut turned);
        let mut turned = gather(run, &with, &turned, dim);
        turned.iter_mut().zip(&direction).for_each(|(x, d)| *x += lambda * d);
        let along = inner(&direction, &turned, dim);
        let step: Vec<f64> = size.iter().zip(&along).map(|(size, along)| ratio(*size, *along)).collect();
        add(table, &step, &direction);
        let back: Vec<f64> = step.iter().map(|step| -step).collect();
        add(&mut residual, &back, &turned);
        let next = inner(&residual, &residual, dim);
        let keep: Vec<f64> = next.iter().zip(&size).map(|(next, size)| ratio(*next, *size)).collect();
        for (row, rest) in direction.chunks_exact_mut(dim).zip(residual.chunks_exact(dim)) {
            row.iter_mut().zip(rest).zip(&keep).for_each(|((d, r), keep)| *d = r + keep * *d);
        }
        size = next;
    }
}

/// Vectors scaled to length 1, row by row; a zero one stays.
pub fn normalise(rows: &mut [f64], dim: usize) {
    for row in rows.chunks_exact_mut(dim) {
        let scale = 1.0 / length(row).max(1e-12);
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

pub(super) fn length(row: &[f64]) -> f64 {
    sqrt64(row.iter().map(|x| x * x).sum())
}

/// a / b; 0 where there is nothing left to divide.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 1e-30 { a / b } else { 0.0 }
}

/// Of each list the sum of the rows of `x` that it names, in its order: (lists, dim).
fn gather(run: &Run<'_>, lists: &[Vec<u32>], x: &[f64], dim: usize) -> Vec<f64> {
    let mut out = vec![0.0; lists.len() * dim];
    run.pieces(lists.chunks(ROWS).zip(out.chunks_mut(ROWS * dim)), |(lists, out), _| {
        for (list, out) in lists.iter().zip(out.chunks_exact_mut(dim)) {
            for &place in list {
                out.iter_mut().zip(&x[place as usize * dim..]).for_each(|(sum, x)| *sum += x);
            }
        }
    });
    out
}

/// Σ a b of each column.
fn inner(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    let mut sums = vec![0.0; dim];
    for (a, b) in a.chunks_exact(dim).zip(b.chunks_exact(dim)) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums
}

/// y += x, each column times its factor.
fn add(y: &mut [f64], factors: &[f64], x: &[f64]) {
    let dim = factors.len();
    for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
        y.iter_mut().zip(x).zip(factors).for_each(|((y, x), factor)| *y += factor * x);
    }
}
