//! Principal components in `f64`.
//!
//! ```text
//!   x (rows, features) ─ − mean ─► c;  cᵀ c / (rows − 1) ─ eigen ─► v, the directions of the greatest variance first
//!   scores = c v, each direction turned so that its largest score is positive
//! ```

use super::eigen::eigen;
use crate::run::Run;

/// What [`components`] gives.
pub struct Components {
    /// (features): where the scores are 0.
    pub mean: Vec<f64>,
    /// By component, its direction.
    pub directions: Vec<Vec<f64>>,
    /// The share of the variance that the directions have.
    pub explained: f64,
}

/// Rows of the covariance that a piece computes: they stay in the second cache.
const TILE: usize = 32;
/// Rows of `x` that a piece turns.
const ROWS: usize = 256;

/// The `dim` first principal components of `x` (rows, features).
pub fn components(run: &Run<'_>, x: &[f32], features: usize, dim: usize) -> Components {
    let rows = x.len() / features;
    let mut mean = vec![0.0; features];
    for row in x.chunks_exact(features) {
        mean.iter_mut().zip(row).for_each(|(mean, &x)| *mean += f64::from(x));
    }
    mean.iter_mut().for_each(|mean| *mean /= rows as f64);
    let covariance = covariance(run, x, &mean);
    let whole: f64 = (0..features).map(|i| covariance[i * features + i]).sum();
    let found = eigen(&covariance, features);
    let explained = found[..dim].iter().map(|(value, _)| value).sum::<f64>();
    let explained = if whole > 0.0 { explained / whole } else { 1.0 };
    let directions = found.into_iter().take(dim).map(|(_, direction)| direction).collect();
    let mut components = Components { mean, directions, explained };
    let scores = components.scores(run, x);
    components.turn(&scores);
    components
}

impl Components {
    /// The scores of `x` (rows, features): (rows, dim).
    pub fn scores(&self, run: &Run<'_>, x: &[f32]) -> Vec<f64> {
        let (features, dim) = (self.mean.len(), self.directions.len());
        let mut scores = vec![0.0; x.len() / features * dim];
        let pieces = x.chunks(ROWS * features).zip(scores.chunks_mut(ROWS * dim));
        run.pieces(pieces, |(x, scores), _| {
            for (row, scores) in x.chunks_exact(features).zip(scores.chunks_exact_mut(dim)) {
                let centred: Vec<f64> =
                    row.iter().zip(&self.mean).map(|(&x, mean)| f64::from(x) - mean).collect();
                for (score, direction) in scores.iter_mut().zip(&self.directions) {
                    *score = centred.iter().zip(direction).map(|(x, v)| x * v).sum();
                }
            }
        });
        scores
    }

    /// A direction is as good as its opposite: the score that is largest without its sign, the first of equals, is made
    /// positive.
    fn turn(&mut self, scores: &[f64]) {
        let dim = self.directions.len();
        let mut largest = vec![0.0f64; dim];
        for row in scores.chunks_exact(dim) {
            for (largest, &score) in largest.iter_mut().zip(row) {
                if score.abs() > largest.abs() {
                    *largest = score;
                }
            }
        }
        for (direction, largest) in self.directions.iter_mut().zip(largest) {
            if largest < 0.0 {
                direction.iter_mut().for_each(|x| *x = -*x);
            }
        }
    }
}

/// (features, features), the sums over rows in their order.
fn covariance(run: &Run<'_>, x: &[f32], mean: &[f64]) -> Vec<f64> {
    let features = mean.len();
    let degrees = (x.len() / features).max(2) - 1;
    let mut all = vec![0.0; features * features];
    run.pieces(all.chunks_mut(TILE * features).enumerate(), |(tile, out), _| {
        let mut centred = vec![0.0; features];
        for row in x.chunks_exact(features) {
            let differences = row.iter().zip(mean).map(|(&x, mean)| f64::from(x) - mean);
            centred.iter_mut().zip(differences).for_each(|(to, x)| *to = x);
            for (line, &factor) in out.chunks_exact_mut(features).zip(&centred[tile * TILE..]) {
                line.iter_mut().zip(&centred).for_each(|(sum, x)| *sum += factor * x);
            }
        }
        out.iter_mut().for_each(|sum| *sum /= degrees as f64);
    });
    all
}
