//! A sum of rows, on all threads.

use crate::kernels::elementwise::{self, Binary};
use crate::kernels::view::{MatMut, MatRef};
use crate::run::Run;

/// Floats that a piece has at least.
const PIECE: usize = 1 << 15;

/// x += y
///
/// # Panics
/// Where they have different lengths.
pub(crate) fn add(run: &Run<'_>, x: &mut [f32], y: &[f32]) {
    assert!(x.len() == y.len(), "{} floats, {} to be added", x.len(), y.len());
    let cpu = run.cpu();
    run.pieces(x.chunks_mut(PIECE).zip(y.chunks(PIECE)), |(x, y), _| {
        let n = x.len();
        elementwise::binary_in_place(cpu, Binary::Add, MatMut::new(x, 1, n), MatRef::new(y, 1, n));
    });
}
