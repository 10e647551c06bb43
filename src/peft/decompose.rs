//! Singular values and orthogonal bases of small matrices, in `f64`, the same bits everywhere.
//!
//! One-sided Jacobi (Hestenes 1958): columns are rotated in pairs until all are orthogonal; their lengths are then
//! the singular values. Exact to the last bits also for the small values, and nothing but + − × ÷ √. For large
//! matrices, of which only the leading part is wanted, a subspace is iterated first (Halko, Martinsson, Tropp 2011).

use crate::kernels::simd::sqrt64;
use crate::random::Philox;
use alloc::vec;
use alloc::vec::Vec;

/// U S Vᵀ with `rank` terms, the largest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// (rank, rows): each left vector in a row.
    pub u: Vec<Vec<f64>>,
    /// (rank), descending.
    pub s: Vec<f64>,
    /// (rank, cols): each right vector in a row.
    pub v: Vec<Vec<f64>>,
}

/// Up to this many rows or columns all singular values are computed.
const DIRECT: usize = 384;
/// Vectors of a subspace beyond those that are wanted.
const OVERSAMPLE: usize = 16;
/// Times that a subspace is multiplied by W Wᵀ.
const ITERATIONS: usize = 12;

/// The `rank` leading terms of `w` (rows, cols); fewer where the matrix has fewer.
///
/// ```
/// use samebits::peft::decompose::{Svd, orthonormalise, svd};
/// let Svd { u, s, v } = svd(&[3.0, 0.0, 0.0, -2.0], 2, 2, 1);
/// assert!((s[0] - 3.0).abs() < 1e-12); // the largest alone was asked for
/// assert!((u[0][0] * v[0][0] - 1.0).abs() < 1e-12);
/// let mut vectors = [vec![3.0, 4.0], vec![1.0, 0.0]];
/// orthonormalise(&mut vectors);
/// assert!((vectors[0][0] - 0.6).abs() < 1e-15);
/// assert!((vectors[0][0] * vectors[1][0] + vectors[0][1] * vectors[1][1]).abs() < 1e-15);
/// ```
///
/// # Panics
/// Where `w` is not (rows, cols).
pub fn svd(w: &[f64], rows: usize, cols: usize, rank: usize) -> Svd {
    assert!(w.len() == rows * cols, "{} elements for ({rows}, {cols})", w.len());
    let rank = rank.min(rows).min(cols);
    let at = |r: usize, c: usize| w[r * cols + c];
    if cols > rows {
        let t: Vec<f64> =
            (0..cols).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| at(r, c)).collect();
        let Svd { u, s, v } = svd(&t, cols, rows, rank);
        return Svd { u: v, s, v: u };
    }
    if cols <= DIRECT || rank + OVERSAMPLE >= cols {
        let columns = (0..cols).map(|c| (0..rows).map(|r| at(r, c)).collect()).collect();
        return jacobi(columns, rank);
    }
    // An orthonormal basis Q (k, cols) of the leading right vectors; then the small matrix W Qᵀ.
    let random = Philox::new(0);
    let mut q: Vec<Vec<f64>> = (0..rank + OVERSAMPLE)
        .map(|k| (0..cols).map(|c| random.uniform(c as u64, k as u64) - 0.5).collect())
        .collect();
    for _ in 0..ITERATIONS {
        orthonormalise(&mut q);
        q = q.iter().map(|q| times_transposed(w, cols, &times(w, cols, q))).collect();
    }
    orthonormalise(&mut q);
    let small = jacobi(q.iter().map(|q| times(w, cols, q)).collect(), rank);
    let back = |v: &Vec<f64>| {
        let mut out = vec![0.0; cols];
        for (factor, q) in v.iter().zip(&q) {
            out.iter_mut().zip(q).for_each(|(out, q)| *out += factor * q);
        }
        out
    };
    Svd { v: small.v.iter().map(back).collect(), ..small }
}

/// W x
fn times(w: &[f64], cols: usize, x: &[f64]) -> Vec<f64> {
    w.chunks_exact(cols).map(|row| dot(row, x)).collect()
}

/// Wᵀ x
fn times_transposed(w: &[f64], cols: usize, x: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; cols];
    for (row, x) in w.chunks_exact(cols).zip(x) {
        out.iter_mut().zip(row).for_each(|(out, w)| *out += w * x);
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram and Schmidt, twice, which is enough; a vector that depends on those before becomes 0.
pub fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for i in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(i);
        let vector = &mut rest[0];
        let whole = sqrt64(dot(vector, vector));
        for _ in 0..2 {
            for other in before.iter() {
                let part = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(x, y)| *x -= part * y);
            }
        }
        let left = sqrt64(dot(vector, vector));
        let scale = if left > whole * 1e-14 { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}

/// The leading terms of a matrix given by its columns, each of one length.
fn jacobi(mut columns: Vec<Vec<f64>>, rank: usize) -> Svd {
    const SWEEPS: usize = 60;
    let n = columns.len();
    let mut v: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for i in 0..n {
            for j in i + 1..n {
                rotated |= rotate(&mut columns, &mut v, i, j);
            }
        }
        if !rotated {
            break;
        }
    }
    let mut order: Vec<(f64, usize)> =
        columns.iter().enumerate().map(|(i, c)| (sqrt64(dot(c, c)), i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    order.truncate(rank);
    let unit = |&(s, i): &(f64, usize)| -> Vec<f64> {
        columns[i].iter().map(|x| if s > 0.0 { x / s } else { 0.0 }).collect()
    };
    Svd {
        u: order.iter().map(unit).collect(),
        s: order.iter().map(|o| o.0).collect(),
        v: order.iter().map(|&(_, i)| v[i].clone()).collect(),
    }
}

/// Makes columns i and j orthogonal; whether they were not.
fn rotate(columns: &mut [Vec<f64>], v: &mut [Vec<f64>], i: usize, j: usize) -> bool {
    let (a, b, c) = {
        let (x, y) = (&columns[i], &columns[j]);
        (dot(x, x), dot(y, y), dot(x, y))
    };
    if c.abs() <= 1e-15 * sqrt64(a * b) || c == 0.0 {
        return false;
    }
    let zeta = (b - a) / (2.0 * c);
    let t = zeta.signum() / (zeta.abs() + sqrt64(1.0 + zeta * zeta));
    let cos = 1.0 / sqrt64(1.0 + t * t);
    for all in [columns, v] {
        let (head, tail) = all.split_at_mut(j);
        for (x, y) in head[i].iter_mut().zip(&mut tail[0]) {
            (*x, *y) = (cos * (*x - t * *y), cos * (*y + t * *x));
        }
    }
    true
}
