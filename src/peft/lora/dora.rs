//! DoRA: the length of each row of W + s B A as a parameter of its own.

use super::{LoraLayer, LoraShape};
use crate::kernels::simd::sqrt64;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::Weight;
use crate::peft::product;
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// DoRA's parameters, and what it has to know of the base.
#[derive(Clone, Debug, PartialEq)]
pub struct Magnitude {
    /// m, (out): the lengths that rows are brought to.
    pub lengths: Vec<f32>,
    /// |W_i|², (out); of the base as it is.
    squares: Vec<f64>,
}

impl Magnitude {
    /// With lengths that a file gives, over `base` (out, in).
    ///
    /// # Panics
    /// Where there are not (out) of them.
    pub fn new(run: &Run<'_>, base: &Weight, lengths: Vec<f32>) -> Magnitude {
        let n = base.out_features();
        assert!(lengths.len() == n, "{} lengths for {n} rows", lengths.len());
        Magnitude { lengths, squares: squares(run, base) }
    }
}

/// Σ w² of every row, in `f64`, a row decoded at a time.
fn squares(run: &Run<'_>, base: &Weight) -> Vec<f64> {
    let (mut row, cpu) = (vec![0.0; base.in_features()], run.cpu());
    let each = |r| {
        base.row(cpu, r, &mut row);
        crate::kernels::optim::sum_of_squares(cpu, &row)
    };
    (0..base.out_features()).map(each).collect()
}

impl LoraLayer {
    /// Makes a LoRA a DoRA whose lengths are those of the rows of W + s B A: so that it changes nothing yet.
    ///
    /// # Panics
    /// Where `base` has another shape.
    pub fn with_magnitude(mut self, run: &Run<'_>, base: &Weight) -> LoraLayer {
        self.magnitude = Some(Magnitude { lengths: Vec::new(), squares: squares(run, base) });
        let lengths = self.norms(run, base);
        if let Some(magnitude) = &mut self.magnitude {
            magnitude.lengths = lengths;
        }
        self
    }

    /// |W_i + s B_i A| for every row, (out).
    ///
    /// # Panics
    /// Where there is no magnitude, or `base` has another shape.
    pub fn norms(&self, run: &Run<'_>, base: &Weight) -> Vec<f32> {
        let magnitude = self.magnitude.as_ref().expect("a layer with a magnitude");
        let LoraShape { in_features, out_features, rank } = self.shape;
        let (mut cross, mut gram) = (vec![0.0; rank * out_features], vec![0.0; rank * rank]);
        base.multiply(run, self.a(), MatMut::new(&mut cross, rank, out_features));
        let to = MatMut::new(&mut gram, rank, rank);
        product(run, self.a(), self.a().t(), to, crate::kernels::gemm::Accumulate::Overwrite);
        let (cross, gram) = (MatRef::new(&cross, rank, out_features), MatRef::new(&gram, rank, rank));
        let s = f64::from(self.scale);
        debug_assert!(base.in_features() == in_features);
        let norm = |o: usize| {
            let b = &self.b[o * rank..][..rank];
            let with = |i: usize| -> f64 {
                let row = b.iter().enumerate().map(|(j, &x)| f64::from(gram.get(i, j)) * f64::from(x));
                2.0 * f64::from(cross.get(i, o)) + s * row.sum::<f64>()
            };
            let change: f64 = b.iter().enumerate().map(|(i, &x)| s * f64::from(x) * with(i)).sum();
            let square = magnitude.squares[o] + change;
            // What rounding left below 0 is the length of a row that vanished.
            sqrt64(if square > 0.0 { square } else { 0.0 }) as f32
        };
        (0..out_features).map(norm).collect()
    }

    /// m / |V|, (out); none without a magnitude.
    ///
    /// # Panics
    /// Where `base` has another shape.
    pub fn factors(&self, run: &Run<'_>, base: &Weight) -> Option<Vec<f32>> {
        let magnitude = self.magnitude.as_ref()?;
        let norms = self.norms(run, base);
        Some(magnitude.lengths.iter().zip(norms).map(|(m, norm)| m / norm).collect())
    }
}
