//! The feed-forward network of a transformer block.

use super::linear::{Linear, products};
use super::room::Room;
use crate::kernels::activation::{self, Activation};
use crate::kernels::view::{MatMut, MatRef};
use crate::run::Run;

mod backward;

pub use backward::FeedForwardCache;

/// y = down(act(up(x))), or gated: y = down(act(gate(x)) · up(x)) (Shazeer 2020, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202)).
///
/// With SiLU a gated network is SwiGLU, with GELU GEGLU, with ReLU ReGLU.
///
/// ```
/// use samebits::kernels::{activation::Activation, view::MatRef, Line};
/// use samebits::{Cpu, nn::{FeedForwardNetwork, Linear, Room, Weight}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let linear = |w: &[f32]| Linear::new(Weight::from_f32(run.cpu(), MatRef::new(w, 1, 1)), None);
/// let ffn = FeedForwardNetwork {
///     gate: None,
///     up: linear(&[2.0]),
///     down: linear(&[3.0]),
///     activation: Activation::Relu,
/// };
/// let (mut y, mut room) = ([0.0; 2], vec![Line::ZERO; ffn.room_len(2)]);
/// ffn.forward(&run, &[1.0, -1.0], None, &mut y, Room::new(&mut room));
/// assert_eq!(y, [6.0, 0.0]);
/// ```
#[derive(Clone, Debug)]
pub struct FeedForwardNetwork {
    /// (hidden, in); `None` where the network is not gated.
    pub gate: Option<Linear>,
    /// (hidden, in)
    pub up: Linear,
    /// (out, hidden)
    pub down: Linear,
    /// Of the gate, or of `up` where there is none.
    pub activation: Activation,
}

/// Floats that a piece of the gated product has at least.
const PIECE: usize = 1 << 14;

impl FeedForwardNetwork {
    /// Lines of room for `rows` rows.
    pub fn room_len(&self, rows: usize) -> usize {
        let hidden = Room::len(rows * self.up.out_features());
        if self.gate.is_some() { 2 * hidden } else { hidden }
    }

    /// `out` (rows, out) from `x` (rows, in), plus `residual` (rows, out).
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`FeedForwardNetwork::room_len`].
    pub fn forward(
        &self,
        run: &Run<'_>,
        x: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        mut room: Room<'_>,
    ) {
        let (n, width) = (self.up.in_features(), self.down.out_features());
        let (rows, hidden) = (x.len() / n.max(1), self.up.out_features());
        let x = MatRef::new(x, rows, n);
        let h = room.floats(rows * hidden);
        match &self.gate {
            None => {
                let up = self.up.product(x, MatMut::new(h, rows, hidden)).then(self.activation);
                products(run, [up]);
            }
            Some(gate) => {
                let up = room.floats(rows * hidden);
                let gate = gate.product(x, MatMut::new(h, rows, hidden));
                products(run, [gate, self.up.product(x, MatMut::new(up, rows, hidden))]);
                self.join(run, h, up);
            }
        }
        self.project(run, h, residual, MatMut::new(out, rows, width));
    }

    /// out = down(h) + residual
    fn project(&self, run: &Run<'_>, h: &[f32], residual: Option<&[f32]>, out: MatMut<'_>) {
        let (hidden, width) = (self.down.in_features(), self.down.out_features());
        let rows = h.len() / hidden.max(1);
        let down = self.down.product(MatRef::new(h, rows, hidden), out);
        products(run, [down.plus_any(residual.map(|residual| MatRef::new(residual, rows, width)))]);
    }

    /// gate = act(gate) · up
    fn join(&self, run: &Run<'_>, gate: &mut [f32], up: &[f32]) {
        let (cpu, f) = (run.cpu(), self.activation);
        run.pieces(gate.chunks_mut(PIECE).zip(up.chunks(PIECE)), |(gate, up), _| {
            let n = up.len();
            activation::gated_in_place(cpu, f, MatMut::new(gate, 1, n), MatRef::new(up, 1, n));
        });
    }
}
