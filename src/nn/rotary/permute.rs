//! From one pairing to the other by moving rows of the projections.
//!
//! ```text
//!   rows of a head    interleaved  a₀ b₀ a₁ b₁ a₂ b₂ │ rest       q and k are turned alike, so their product
//!                     half         a₀ a₁ a₂ b₀ b₁ b₂ │ rest       does not see the order of dimensions
//! ```
//!
//! Meta's and GGUF's Llama have interleaved rows, Hugging Face's are moved to halves ("permute" in its conversion
//! script). What has a row for each output of the q or k projection moves with it: the weights, the bias, B of a
//! LoRA pair, the scale of a QK-norm (as one head). Rows that hold quantised blocks move as bytes.

use alloc::vec;

/// Moves rows for [`Pairing::Interleaved`](crate::kernels::rope::Pairing) to where
/// [`Pairing::Half`](crate::kernels::rope::Pairing) wants them, in each of `heads` heads; the rows past `rotary_dim`
/// of a head stay. `rows` is (heads × head_dim, k) for any k, of any element.
///
/// # Panics
/// Where `rows` is not whole rows of whole heads, `rotary_dim` is odd or more than a head has.
///
/// ```
/// use samebits::nn::rotary::{half_to_interleaved, interleaved_to_half};
/// let mut bias = ["a0", "b0", "a1", "b1", "a2", "b2", "rest"]; // one head of 7, k = 1
/// interleaved_to_half(&mut bias, 1, 7, 6);
/// assert_eq!(bias, ["a0", "a1", "a2", "b0", "b1", "b2", "rest"]);
/// half_to_interleaved(&mut bias, 1, 7, 6);
/// assert_eq!(bias, ["a0", "b0", "a1", "b1", "a2", "b2", "rest"]);
/// ```
pub fn interleaved_to_half<T>(rows: &mut [T], heads: usize, head_dim: usize, rotary_dim: usize) {
    let pairs = rotary_dim / 2;
    move_rows(
        rows,
        [heads, head_dim, rotary_dim],
        |to| if to < pairs { 2 * to } else { 2 * (to - pairs) + 1 },
    );
}

/// The way back: what [`interleaved_to_half`] did is undone.
///
/// # Panics
/// As [`interleaved_to_half`].
pub fn half_to_interleaved<T>(rows: &mut [T], heads: usize, head_dim: usize, rotary_dim: usize) {
    let pairs = rotary_dim / 2;
    move_rows(rows, [heads, head_dim, rotary_dim], |to| to / 2 + to % 2 * pairs);
}

/// Row `to` of each head becomes what row `from(to)` was, cycle by cycle.
fn move_rows<T>(rows: &mut [T], shape: [usize; 3], from: impl Fn(usize) -> usize) {
    let ([heads, head_dim, rotary_dim], n) = (shape, rows.len());
    assert!(
        rotary_dim.is_multiple_of(2) && rotary_dim <= head_dim,
        "{rotary_dim} of {head_dim} dimensions turn"
    );
    if n == 0 {
        return;
    }
    let all = heads.checked_mul(head_dim).unwrap_or(0);
    assert!(all > 0 && n.is_multiple_of(all), "{n} elements in {heads} heads of {head_dim} rows");
    let k = n / all;
    let mut moved = vec![false; rotary_dim];
    for head in rows.chunks_exact_mut(head_dim * k) {
        moved.fill(false);
        for start in 0..rotary_dim {
            let mut to = start;
            while !moved[to] {
                moved[to] = true;
                let source = from(to);
                // The end of the cycle: its row came along with the swaps.
                if source != start {
                    swap_rows(head, k, to, source);
                }
                to = source;
            }
        }
    }
}

fn swap_rows<T>(rows: &mut [T], k: usize, a: usize, b: usize) {
    let (low, high) = (a.min(b), a.max(b));
    let (head, tail) = rows.split_at_mut(high * k);
    head[low * k..(low + 1) * k].swap_with_slice(&mut tail[..k]);
}
