//! Sinusoidal positions (Vaswani et al. 2017, *Attention is all you need*, §3.5).
//!
//! ```text
//!   row of position p    sin p·f₀  cos p·f₀  sin p·f₁  cos p·f₁ …      f_i = 10000^(−2i/dim)
//! ```
//!
//! An odd `dim` is defined: the last pair loses its cosine. The phase p · f_i is one product in `f64`, its sine
//! and cosine are the law's, each rounded once to `f32`: within 2⁻²⁵ + 2⁻²⁸ of the formula at every position
//! up to 2²⁴, where a phase in `f32` would have lost all its digits.

use crate::kernels::math::{pow64, sin_cos64};
use alloc::vec;
use alloc::vec::Vec;

/// The base of the geometric progression of wavelengths, 2π … 10000 · 2π.
const BASE: f64 = 10_000.0;

/// The largest position with an exact phase, 2²⁴.
pub const MAX_POSITION: u32 = 1 << 24;

/// The encodings of `positions`, a row each: (positions, dim), row by row.
///
/// # Panics
/// Where a position lies past [`MAX_POSITION`].
///
/// ```
/// use samebits::nn::sinusoidal_positional_encoding;
/// let pe = sinusoidal_positional_encoding(&[0, 1], 4);
/// assert_eq!(pe[..4], [0.0, 1.0, 0.0, 1.0]);
/// assert_eq!(pe[4..], [0.841_470_96, 0.540_302_3, 0.009_999_833, 0.999_95]);
/// // Of an odd width the last sine is kept, its cosine is not.
/// assert_eq!(sinusoidal_positional_encoding(&[1], 3).len(), 3);
/// ```
pub fn sinusoidal_positional_encoding(positions: &[u32], dim: usize) -> Vec<f32> {
    let mut out = vec![0.0; positions.len() * dim];
    sinusoidal_positional_encoding_into(positions, dim, &mut out);
    out
}

/// [`sinusoidal_positional_encoding`] into a buffer of the caller, (positions, dim).
///
/// ```
/// use samebits::nn::position::{MAX_POSITION, sinusoidal_positional_encoding, sinusoidal_positional_encoding_into};
/// let mut rows = [0.0; 8];
/// sinusoidal_positional_encoding_into(&[5, MAX_POSITION], 4, &mut rows);
/// assert_eq!(rows[..4], sinusoidal_positional_encoding(&[5], 4));
/// ```
///
/// # Panics
/// Where `out` has another length, or a position lies past [`MAX_POSITION`].
pub fn sinusoidal_positional_encoding_into(positions: &[u32], dim: usize, out: &mut [f32]) {
    let n = positions.len();
    assert!(Some(out.len()) == n.checked_mul(dim), "({n}, {dim}) rows into {} elements", out.len());
    if dim == 0 {
        return;
    }
    let frequency = |pair: usize| pow64(BASE, -((2 * pair) as f64) / dim as f64);
    let frequencies: Vec<f64> = (0..dim.div_ceil(2)).map(frequency).collect();
    for (&p, row) in positions.iter().zip(out.chunks_exact_mut(dim)) {
        assert!(p <= MAX_POSITION, "position {p} is past {MAX_POSITION}");
        for (f, pair) in frequencies.iter().zip(row.chunks_mut(2)) {
            let (sin, cos) = sin_cos64(f64::from(p) * f);
            pair[0] = sin as f32;
            if let Some(last) = pair.get_mut(1) {
                *last = cos as f32;
            }
        }
    }
}
