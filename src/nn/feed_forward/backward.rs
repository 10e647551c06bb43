//! The feed-forward network's gradients, from what its forward pass kept.

use super::FeedForwardNetwork;
use crate::kernels::activation::{self, GatedInputs};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{LANES, Line};
use crate::nn::adapter::{AdapterCache, Draw};
use crate::nn::linear::products_train;
use crate::nn::trained::{Scope, sized};
use crate::run::Run;
use alloc::vec::Vec;

/// What a network's forward pass keeps for its backward pass; memory is used again.
///
/// ```
/// use samebits::kernels::{activation::Activation, gemm::Accumulate};
/// use samebits::nn::{FeedForwardCache, FeedForwardNetwork, Gradients, Linear, Scope, Weight};
/// use samebits::{Cpu, run::Run};
/// let of = |w: f32| Linear::new(Weight::plain(1, 1, vec![w]), None);
/// let network = FeedForwardNetwork { gate: None, up: of(2.0), down: of(3.0), activation: Activation::Relu };
/// let (run, mut cache, mut gradients) = (Run::here(Cpu::detect()), FeedForwardCache::default(), Gradients::default());
/// gradients.train("up.weight", 1);
/// let (x, mut out, mut dx) = ([5.0], [0.0], [0.0]);
/// network.forward_train((&run, None), &x, None, &mut out, &mut cache);
/// let mut to: Scope = gradients.scope();
/// network.backward((&run, None), (&x, &[1.0]), &cache, (&mut dx, Accumulate::Overwrite), &mut to);
/// assert_eq!((out, dx), ([30.0], [6.0])); // 3 relu(2 x)
/// assert_eq!(gradients.get("up.weight"), Some(&[15.0][..])); // 3 x
/// ```
#[derive(Clone, Debug, Default)]
pub struct FeedForwardCache {
    /// (rows, hidden): what the activation is given.
    before: Vec<f32>,
    /// (rows, hidden): what it is multiplied by, where the network is gated.
    up: Vec<f32>,
    /// (rows, hidden): what `down` is given.
    joined: Vec<f32>,
    /// Of the adapters of gate, up and down.
    adapters: [AdapterCache; 3],
}

/// Floats that a piece of an activation's gradient has at least.
const PIECE: usize = 1 << 14;

impl FeedForwardCache {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let adapters: usize = self.adapters.iter().map(AdapterCache::bytes).sum();
        4 * (self.before.capacity() + self.up.capacity() + self.joined.capacity()) + adapters
    }
}

impl FeedForwardNetwork {
    /// [`FeedForwardNetwork::forward`], the same bits, keeping what the backward pass needs.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_train(
        &self,
        (run, draw): (&Run<'_>, Option<Draw>),
        x: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
        cache: &mut FeedForwardCache,
    ) {
        let (n, width, hidden) = (self.up.in_features(), self.down.out_features(), self.up.out_features());
        let rows = x.len() / n.max(1);
        let (x, len) = (MatRef::new(x, rows, n), rows * hidden);
        let before = sized(&mut cache.before, len);
        let joined = sized(&mut cache.joined, len);
        let [of_gate, of_up, of_down] = &mut cache.adapters;
        match &self.gate {
            None => {
                let up = self.up.product(x, MatMut::new(before, rows, hidden));
                products_train((run, draw), [up], [of_up]);
                let (cpu, f) = (run.cpu(), self.activation);
                run.pieces(before.chunks(PIECE).zip(joined.chunks_mut(PIECE)), |(x, y), _| {
                    activation::apply(cpu, f, MatRef::new(x, 1, x.len()), MatMut::new(y, 1, x.len()));
                });
            }
            Some(gate) => {
                let up = sized(&mut cache.up, len);
                let gate = gate.product(x, MatMut::new(before, rows, hidden));
                let up_product = self.up.product(x, MatMut::new(up, rows, hidden));
                products_train((run, draw), [gate, up_product], [of_gate, of_up]);
                let (cpu, f) = (run.cpu(), self.activation);
                let inputs = before.chunks(PIECE).zip(up.chunks(PIECE));
                run.pieces(inputs.zip(joined.chunks_mut(PIECE)), |((gate, up), y), _| {
                    let one = |x| MatRef::new(x, 1, y.len());
                    let (gate, up) = (one(gate), one(up));
                    let n = y.len();
                    activation::gated(cpu, f, gate, up, MatMut::new(y, 1, n));
                });
            }
        }
        let down = self.down.product(MatRef::new(joined, rows, hidden), MatMut::new(out, rows, width));
        let residual = residual.map(|residual| MatRef::new(residual, rows, width));
        products_train((run, draw), [down.plus_any(residual)], [of_down]);
    }

    /// `dx` (rows, in) from `dy` (rows, out), or added to what it holds, and the gradients of the parameters, as far
    /// as they are trained; `x` (rows, in) is what the network was given.
    ///
    /// # Panics
    /// Where the shapes disagree with the forward pass of `cache`.
    pub fn backward(
        &self,
        (run, draw): (&Run<'_>, Option<Draw>),
        (x, dy): (&[f32], &[f32]),
        cache: &FeedForwardCache,
        (dx, accumulate): (&mut [f32], Accumulate),
        to: &mut Scope<'_>,
    ) {
        let (n, width, hidden) = (self.up.in_features(), self.down.out_features(), self.up.out_features());
        let rows = x.len() / n.max(1);
        let (x, dy) = (MatRef::new(x, rows, n), MatRef::new(dy, rows, width));
        let mut d = run.floats(rows * hidden);
        let (who, [of_gate, of_up, of_down]) = ((run, draw), &cache.adapters);
        let joined = MatRef::new(&cache.joined, rows, hidden);
        let to_d = (MatMut::new(&mut d, rows, hidden), Accumulate::Overwrite);
        self.down.backward(who, (joined, dy), of_down, to_d, &mut to.inner("down"));
        let mut dup = run.floats(if self.gate.is_some() { rows * hidden } else { 0 });
        let dx = MatMut::new(dx, rows, n);
        match &self.gate {
            None => {
                self.slope(run, &cache.before, &mut d);
                let d = MatRef::new(&d, rows, hidden);
                self.up.backward(who, (x, d), of_up, (dx, accumulate), &mut to.inner("up"));
            }
            Some(gate) => {
                self.slopes(run, cache, &mut d, &mut dup);
                let (dgate, dup) = (MatRef::new(&d, rows, hidden), MatRef::new(&dup, rows, hidden));
                let mut dx = dx;
                let first = (dx.reborrow(), accumulate);
                gate.backward(who, (x, dgate), of_gate, first, &mut to.inner("gate"));
                self.up.backward(who, (x, dup), of_up, (dx, Accumulate::Add), &mut to.inner("up"));
            }
        }
    }

    /// d · f'(before), where d lies.
    fn slope(&self, run: &Run<'_>, before: &[f32], d: &mut [f32]) {
        let (cpu, f) = (run.cpu(), self.activation);
        run.pieces(before.chunks(PIECE).zip(d.chunks_mut(PIECE)), |(x, d), _| {
            let n = x.len();
            activation::backward_in_place(cpu, f, MatRef::new(x, 1, n), MatMut::new(d, 1, n));
        });
    }

    /// The gradients of both factors; that of the gate takes the place of d.
    fn slopes(&self, run: &Run<'_>, cache: &FeedForwardCache, d: &mut [f32], dup: &mut [f32]) {
        let (cpu, f) = (run.cpu(), self.activation);
        let given = cache.before.chunks(PIECE).zip(cache.up.chunks(PIECE));
        run.pieces(
            given.zip(d.chunks_mut(PIECE)).zip(dup.chunks_mut(PIECE)),
            |(((gate, up), d), dup), scratch| {
                let n = gate.len();
                let dy = &mut Line::floats_mut(scratch.lines(PIECE / LANES))[..n];
                dy.copy_from_slice(d);
                let one = |x| MatRef::new(x, 1, n);
                let inputs = GatedInputs { gate: one(gate), up: one(up), dy: one(dy) };
                activation::gated_backward(cpu, f, inputs, MatMut::new(d, 1, n), MatMut::new(dup, 1, n));
            },
        );
    }
}
