//! What a set of vectors is, and how a vector is made fit for it.

use crate::kernels::dot::dot;
use crate::kernels::optim::sum_of_squares;
use crate::kernels::simd::sqrt64;
use crate::{Cpu, Error, Result};

/// How likeness is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The cosine of the angle.
    Cosine,
    /// The product.
    Dot,
    /// The Euclidean distance.
    L2,
}

impl Metric {
    pub(super) const ALL: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

    /// What `score` is as a distance, less being better: cosine 1 − score in 0..=2, dot −score, L2 the squared distance.
    pub fn distance(self, score: f32) -> f32 {
        match self {
            Metric::Cosine => (1.0 - score).clamp(0.0, 2.0),
            Metric::Dot | Metric::L2 => 0.0 - score,
        }
    }

    /// The score of a query and a row, from their product and their squares.
    pub(super) fn score(self, product: f32, query_square: f32, square: f32) -> f32 {
        match self {
            Metric::Cosine | Metric::Dot => product,
            Metric::L2 => {
                let sum = f64::from(query_square) + f64::from(square);
                let distance = sum - 2.0 * f64::from(product);
                if distance > 0.0 { -distance as f32 } else { 0.0 }
            }
        }
    }
}

/// How a vector is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorType {
    /// As it is.
    F32,
}

impl VectorType {
    pub(super) const ALL: [VectorType; 1] = [VectorType::F32];
}

/// What a set of vectors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Elements of a vector, 1 to 2¹⁶.
    pub dim: usize,
    /// How likeness is measured.
    pub metric: Metric,
    /// How vectors are stored.
    pub kind: VectorType,
}

/// Elements of a vector, at most: integer products of so many codes do not overflow.
pub(super) const MAX_DIM: usize = 1 << 16;
/// The largest square of a norm under dot and L2: (2⁶²)². Then no product overflows, nor does a squared distance.
const MAX_SQUARE: f64 = (1u128 << 124) as f64;

impl Form {
    /// Vectors of `dim` floats as they are.
    ///
    /// # Errors
    /// Where `dim` is not 1 to 2¹⁶.
    pub fn new(dim: usize, metric: Metric) -> Result<Form> {
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::invalid(format!("vectors of {dim} elements, expected 1 to {MAX_DIM}")));
        }
        Ok(Form { dim, metric, kind: VectorType::F32 })
    }

    /// Bytes of a row of codes.
    pub(super) fn row_bytes(&self) -> usize {
        match self.kind {
            VectorType::F32 => 4 * self.dim,
        }
    }

    /// Whether the squares of rows are stored.
    pub(super) fn has_squares(&self) -> bool {
        self.metric == Metric::L2
    }

    /// `rows` rows as they are compared; their number and every element are checked.
    pub(super) fn prepare(&self, cpu: Cpu, x: &[f32], rows: usize, role: Role) -> Result<Vec<f32>> {
        let (dim, name) = (self.dim, role.name());
        if rows.checked_mul(dim) != Some(x.len()) {
            let expected = format!("({rows}, {dim})");
            return Err(Error::Shape {
                file: String::new(),
                name: name.into(),
                shape: vec![x.len()],
                expected,
            });
        }
        let mut out = x.to_vec();
        for (r, row) in out.chunks_exact_mut(dim).enumerate() {
            let square = sum_of_squares(cpu, row);
            let wrong = |i: usize, expected| {
                Err(Error::Value {
                    name: name.into(),
                    index: r * dim + i,
                    value: x[r * dim + i].into(),
                    expected,
                })
            };
            if !square.is_finite() {
                return wrong(row.iter().position(|x| !x.is_finite()).unwrap_or(0), "a finite number");
            }
            match self.metric {
                Metric::Cosine if square > 0.0 => {
                    let norm = sqrt64(square);
                    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
                }
                Metric::Cosine if role == Role::Stored => {
                    return wrong(0, "a vector that is not all zeros: it has no cosine");
                }
                Metric::Dot | Metric::L2 if square > MAX_SQUARE => {
                    return wrong(largest(row), "a vector of norm 2^62 at most: products would overflow");
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// The square of a prepared row, where it is needed.
    pub(super) fn square(&self, cpu: Cpu, row: &[f32]) -> f32 {
        if self.has_squares() { dot(cpu, row, row) } else { 0.0 }
    }
}

/// What a vector is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Stored,
    Query,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Stored => "vectors",
            Role::Query => "queries",
        }
    }
}

fn largest(row: &[f32]) -> usize {
    let of = |&i: &usize, &j: &usize| row[i].abs().total_cmp(&row[j].abs());
    (0..row.len()).max_by(of).unwrap_or(0)
}
