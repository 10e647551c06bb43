//! Gradients in `f64` by differences: what the backward kernels are judged by.

/// ∂ loss / ∂ x at `x`, by the five-point formula: error h⁴ for values and slopes of about one.
pub fn gradient(x: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const H: f64 = 1e-3;
    let mut at: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    (0..x.len())
        .map(|i| {
            let here = at[i];
            let [a, b, c, d] = [-2.0, -1.0, 1.0, 2.0].map(|steps| {
                at[i] = here + steps * H;
                loss(&at)
            });
            at[i] = here;
            (a - 8.0 * b + 8.0 * c - d) / (12.0 * H)
        })
        .collect()
}

/// Σ dy · y
pub fn weighted(dy: &[f32], y: impl IntoIterator<Item = f64>) -> f64 {
    dy.iter().zip(y).map(|(&dy, y)| f64::from(dy) * y).sum()
}

/// Every element within 64 u of its gauge, the sum of the absolute terms that it is made of, or 2⁻¹¹⁸, below which some
/// of them underflow.
#[track_caller]
pub fn assert_near(got: &[f32], want: &[f64], gauge: &[f64], what: impl std::fmt::Display) {
    assert_eq!((got.len(), got.len()), (want.len(), gauge.len()), "{what}: lengths");
    for (i, ((&got, want), gauge)) in got.iter().zip(want).zip(gauge).enumerate() {
        let (error, bound) = ((f64::from(got) - want).abs(), 64.0 * super::U * gauge + 3e-36);
        assert!(error <= bound, "{what}: element {i} is {got:e}, {want:e} ± {bound:e}");
    }
}
