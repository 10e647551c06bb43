//! # Running sums of rows
//!
//! **Math.**  y_i = Σ_{j ≤ i} x_j
//!
//! **Law.**   Each prefix is the value of one `f64` chain from +0, j ascending, rounded once. (Clause 2's sixteen
//! chains would give every prefix a tree of its own.)
//!
//! ```text
//!   x0  x1  x2 …      f64:  0 ─+─► y0 ─+─► y1 ─+─► y2 …      each rounded to f32 as it passes
//! ```
//!
//! **Registers.**  One.  **Cost.**  One dependent addition an element, about four cycles: it is for vocabularies,
//! masks and lengths, not for activations. It needs no tier.
//!
//! **Error.**  u · |y_i| + i · 2⁻⁵³ · Σ|x|.  **Reference.**  Higham 2002, §4.2, [doi:10.1137/1.9780898718027](https://doi.org/10.1137/1.9780898718027).  **Next.**  [`crate::reduce`].

use crate::rows::check_shape;
use crate::view::{MatMut, MatRef};

/// The running sums of each row of x, (rows, cols), any strides.
///
/// ```
/// use samebits_kernels::{cumsum::cumsum, view::{MatMut, MatRef}};
/// let (x, mut out) = ([1.0, 2.0, 3.0, 0.5, 0.25, 0.25], [0.0; 6]);
/// cumsum(MatRef::new(&x, 2, 3), MatMut::new(&mut out, 2, 3));
/// assert_eq!(out, [1.0, 3.0, 6.0, 0.5, 0.75, 1.0]);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn cumsum(x: MatRef, mut out: MatMut) {
    check_shape(&x, &out.as_ref());
    for r in 0..x.rows() {
        let mut sum = 0.0f64;
        for c in 0..x.cols() {
            sum += f64::from(x.get(r, c));
            *out.at(r, c) = sum as f32;
        }
    }
}
