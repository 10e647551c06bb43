//! Eigenvalues and eigenvectors of a symmetric matrix in `f64`: Householder's reflections to three diagonals, then QL with
//! implicit shifts (Martin, Reinsch and Wilkinson 1968; Golub and Van Loan 2013, §8.3). Nothing but + − × ÷ √ in a fixed
//! order: the same bits everywhere. Some 3 n³ multiplications in all, where rotations of pairs would take ten times as many.

use crate::kernels::simd::sqrt64;

/// Eigenvalues in descending order, each with its vector of length 1.
pub fn eigen(matrix: &[f64], n: usize) -> Vec<(f64, Vec<f64>)> {
    let mut rows: Vec<Vec<f64>> = matrix.chunks_exact(n).map(<[f64]>::to_vec).collect();
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    let mut basis = tridiagonal(&mut rows, &mut diagonal, &mut beside);
    diagonalise(&mut diagonal, &mut beside, &mut basis);
    let mut all: Vec<(f64, Vec<f64>)> = diagonal.into_iter().zip(basis).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// y += factor x
fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

/// A = Q T Qᵀ: T's diagonal, what stands beside it (`beside[i]` between i − 1 and i), and the rows of Qᵀ.
///
/// From the last row up, each row but its diagonal is turned onto its last component by H = I − 2 v vᵀ, v of length 1.
fn tridiagonal(a: &mut [Vec<f64>], diagonal: &mut [f64], beside: &mut [f64]) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut reflections: Vec<Vec<f64>> = Vec::new();
    for i in (1..n).rev() {
        let mut v = a[i][..i].to_vec();
        let length = sqrt64(dot(&v, &v));
        let end = if v[i - 1] > 0.0 { -length } else { length };
        v[i - 1] -= end;
        let norm = sqrt64(dot(&v, &v));
        if norm > 0.0 {
            v.iter_mut().for_each(|x| *x /= norm);
        }
        // A ← H A H on the rows above: A − v wᵀ − w vᵀ, w = 2 (A v − (vᵀ A v) v).
        let mut w: Vec<f64> = a[..i].iter().map(|row| dot(&row[..i], &v)).collect();
        let inner = dot(&v, &w);
        w.iter_mut().zip(&v).for_each(|(w, v)| *w = 2.0 * (*w - inner * v));
        for (r, row) in a[..i].iter_mut().enumerate() {
            add(&mut row[..i], -v[r], &w);
            add(&mut row[..i], -w[r], &v);
        }
        (diagonal[i], beside[i]) = (a[i][i], end);
        reflections.push(v);
    }
    diagonal[0] = a[0][0];
    // Qᵀ = H₁ H₂ … of the last row: the first that was made is applied first.
    let mut basis: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
    for v in &reflections {
        let mut sums = vec![0.0; n];
        basis.iter().zip(v).for_each(|(row, &v)| add(&mut sums, v, row));
        basis.iter_mut().zip(v).for_each(|(row, &v)| add(row, -2.0 * v, &sums));
    }
    basis
}

/// Turns the three diagonals into one, and `basis` with them.
fn diagonalise(d: &mut [f64], beside: &mut [f64], basis: &mut [Vec<f64>]) {
    /// Steps for one eigenvalue; two or three are usual.
    const MOST: usize = 60;
    let n = d.len();
    // From here on `e[i]` stands between i and i + 1.
    let e = beside;
    e.rotate_left(1);
    e[n - 1] = 0.0;
    for first in 0..n {
        for _ in 0..MOST {
            let small = |i: &usize| e[*i].abs() <= f64::EPSILON * (d[*i].abs() + d[*i + 1].abs());
            let last = (first..n - 1).find(small).unwrap_or(n - 1);
            if last == first {
                break;
            }
            step(d, e, basis, (first, last));
        }
    }
}

/// One implicit step on the block from `first` to `last`, whose parts beside the diagonal are not small.
fn step(d: &mut [f64], e: &mut [f64], basis: &mut [Vec<f64>], (first, last): (usize, usize)) {
    let half = (d[first + 1] - d[first]) / (2.0 * e[first]);
    let root = sqrt64(half * half + 1.0);
    let mut g = d[last] - d[first] + e[first] / (half + if half < 0.0 { -root } else { root });
    let (mut sin, mut cos, mut p) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let (f, b) = (sin * e[i], cos * e[i]);
        let r = sqrt64(f * f + g * g);
        e[i + 1] = r;
        if r == 0.0 {
            // The block falls into two: the next step finds them.
            d[i + 1] -= p;
            e[last] = 0.0;
            return;
        }
        (sin, cos) = (f / r, g / r);
        g = d[i + 1] - p;
        let q = (d[i] - g) * sin + 2.0 * cos * b;
        p = sin * q;
        d[i + 1] = g + p;
        g = cos * q - b;
        let (head, tail) = basis.split_at_mut(i + 1);
        for (x, y) in head[i].iter_mut().zip(&mut tail[0]) {
            (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
        }
    }
    d[first] -= p;
    e[first] = g;
    e[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Random;

    /// A v = λ v, vectors orthonormal, values descending: of matrices full, of low rank, diagonal and zero.
    #[test]
    fn values_and_vectors_are_the_matrix() {
        let mut draw = Random::new(5);
        for (n, rank) in [(1, 1), (2, 2), (3, 1), (17, 17), (40, 7), (64, 64), (5, 0)] {
            let factors: Vec<Vec<f32>> = (0..rank).map(|_| draw.normal(n)).collect();
            let at = |i: usize, j: usize| factors.iter().map(|f| f64::from(f[i]) * f64::from(f[j])).sum();
            let a: Vec<f64> = (0..n * n).map(|k| at(k / n, k % n)).collect();
            let found = eigen(&a, n);
            let scale = found[0].0.max(1.0);
            assert!(found.windows(2).all(|w| w[0].0 >= w[1].0));
            for (i, (value, v)) in found.iter().enumerate() {
                for (row, x) in a.chunks_exact(n).zip(v) {
                    assert!(
                        (dot(row, v) - value * x).abs() < 1e-13 * scale * n as f64,
                        "{n}, {rank}: vector {i}"
                    );
                }
                for (j, (_, w)) in found.iter().enumerate() {
                    let expected = f64::from(u8::from(i == j));
                    assert!((dot(v, w) - expected).abs() < 1e-13 * n as f64, "{n}, {rank}: {i} and {j}");
                }
            }
            assert!(found[rank..].iter().all(|(value, _)| value.abs() < 1e-13 * scale * n as f64));
        }
    }
}
