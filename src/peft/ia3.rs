//! IA³: learned scales of what layers put out, or take in (Liu et al. 2022).

mod adapters;

pub use adapters::Ia3Adapters;

use crate::kernels::elementwise::{self, Binary};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{Linear, Room};
use crate::peft::repeated;
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// Where the scales are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// y = W (l ∘ x) + b: in feed-forward networks.
    Input,
    /// y = l ∘ (W x + b): keys and values.
    Output,
}

/// The scales of one layer.
///
/// ```
/// use samebits::kernels::{Line, view::MatRef};
/// use samebits::peft::{Ia3, Side};
/// use samebits::{Cpu, nn::{Linear, Room, Weight}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let base = Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&[1.0, 2.0], 1, 2)), None);
/// let ia3 = Ia3 { scales: vec![3.0], side: Side::Output };
/// let (mut y, mut room) = ([0.0], vec![Line::ZERO; ia3.room_len(1)]);
/// ia3.forward(&run, &base, &[1.0, 1.0], &mut y, Room::new(&mut room));
/// assert_eq!(y, [9.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ia3 {
    /// l, (out) or (in).
    pub scales: Vec<f32>,
    /// Where they are applied.
    pub side: Side,
}

impl Ia3 {
    /// Of ones: nothing changes.
    pub fn ones(base: &Linear, side: Side) -> Ia3 {
        let n = if side == Side::Input { base.in_features() } else { base.out_features() };
        Ia3 { scales: vec![1.0; n], side }
    }

    /// Lines of room for `rows` rows.
    pub fn room_len(&self, rows: usize) -> usize {
        if self.side == Side::Input { Room::len(rows * self.scales.len()) } else { 0 }
    }

    /// `out` (rows, out) from `x` (rows, in) through `base`, as if that had no adapter.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`Ia3::room_len`].
    pub fn forward(&self, run: &Run<'_>, base: &Linear, x: &[f32], out: &mut [f32], mut room: Room<'_>) {
        let (n, k) = (base.out_features(), base.in_features());
        let rows = x.len() / k.max(1);
        let cpu = run.cpu();
        match self.side {
            Side::Input => {
                let scaled = room.floats(x.len());
                let to = MatMut::new(scaled, rows, k);
                let scales = repeated(&self.scales, rows);
                elementwise::binary(cpu, Binary::Mul, MatRef::new(x, rows, k), scales, to);
                base.forward_base(run, MatRef::new(scaled, rows, k), MatMut::new(out, rows, n));
            }
            Side::Output => {
                base.forward_base(run, MatRef::new(x, rows, k), MatMut::new(out, rows, n));
                let scales = repeated(&self.scales, rows);
                elementwise::binary_in_place(cpu, Binary::Mul, MatMut::new(out, rows, n), scales);
            }
        }
    }
}
