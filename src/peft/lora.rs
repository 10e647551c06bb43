//! One low-rank adapter: LoRA, rsLoRA, DoRA.
//!
//! y += s · B A dropout(x), with s = α / r or α / √r. DoRA (Liu et al. 2024) learns the length of each row besides:
//! V = W + s B A, y = m / |V| · (V x), where |V| are the norms of its rows. V is never formed:
//!
//! ```text
//!   |V_i|² = |W_i|² + 2 s B_i · (A W_iᵀ) + s² B_i (A Aᵀ) B_iᵀ        (rank, out) and (rank, rank) numbers
//! ```

mod dora;

use super::{Packed, product};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{Linear, Room};
use crate::random::Philox;
use crate::run::Run;
use alloc::vec::Vec;

pub use dora::Magnitude;

/// The extents of a [`LoraLayer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoraShape {
    /// Features of the input; entries of a table.
    pub in_features: usize,
    /// Features of the output.
    pub out_features: usize,
    /// r
    pub rank: usize,
}

/// The matrices that an adapter adds to one layer.
///
/// ```
/// use samebits::peft::{LoraLayer, LoraShape};
/// use samebits::{Cpu, kernels::Line, nn::Room, run::Run};
/// let run = Run::here(Cpu::detect());
/// let shape = LoraShape { in_features: 2, out_features: 2, rank: 1 };
/// let lora = LoraLayer::from_parts(shape, vec![1.0, 1.0], vec![1.0, 2.0], 0.5);
/// let (mut y, mut room) = ([10.0, 10.0], vec![Line::ZERO; lora.room_len(1)]);
/// lora.add(&run, &[3.0, 1.0], &mut y, Room::new(&mut room)); // what the base gave is in y already
/// assert_eq!(y, [12.0, 14.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LoraLayer {
    /// A, (rank, in).
    pub a: Vec<f32>,
    /// B, (out, rank).
    pub b: Vec<f32>,
    /// s
    pub scale: f32,
    /// The part of the inputs that training drops.
    pub dropout: f32,
    /// DoRA's lengths of rows.
    pub magnitude: Option<Magnitude>,
    shape: LoraShape,
}

/// Where the random numbers of a forward pass in training come from: the same for any threads and any split of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The generator.
    pub random: Philox,
    /// One for every layer and step.
    pub stream: u64,
    /// The number of the first row in the whole batch.
    pub first_row: u64,
}

impl Draw {
    /// x with a part `p` of its elements 0 and the others divided by 1 − p: (rows, n) from (rows, n).
    pub fn dropout(&self, p: f32, n: usize, x: &[f32], out: &mut [f32]) {
        let keep = 1.0 / (1.0 - p);
        let limit = (f64::from(p) * 4_294_967_296.0) as u64;
        let stream = [self.stream as u32, (self.stream >> 32) as u32];
        for (r, (x, out)) in x.chunks_exact(n.max(1)).zip(out.chunks_exact_mut(n.max(1))).enumerate() {
            let row = (self.first_row + r as u64) * n.div_ceil(4) as u64;
            for (c, (x, out)) in x.chunks(4).zip(out.chunks_mut(4)).enumerate() {
                let place = row + c as u64;
                let block = self.random.block([place as u32, (place >> 32) as u32, stream[0], stream[1]]);
                for ((x, out), bits) in x.iter().zip(out).zip(block) {
                    *out = if u64::from(bits) < limit { 0.0 } else { x * keep };
                }
            }
        }
    }
}

/// What a forward pass leaves for the backward pass.
///
/// ```
/// use samebits::nn::{Linear, Weight};
/// use samebits::peft::lora::{Draw, LoraCache, Magnitude};
/// use samebits::peft::{LinearWithLora, LoraLayer, LoraShape};
/// use samebits::{Cpu, random::Philox, run::Run};
/// let run = Run::here(Cpu::detect());
/// let mut layer = LinearWithLora::new(Linear::new(Weight::plain(1, 2, vec![1.0, 1.0]), None));
/// let shape = LoraShape { in_features: 2, out_features: 1, rank: 1 };
/// let mut adapter = LoraLayer::from_parts(shape, vec![1.0, 0.0], vec![10.0], 1.0);
/// let dora: Option<Magnitude> = adapter.magnitude.clone(); // lengths of rows, of DoRA alone
/// assert!(dora.is_none());
/// adapter.dropout = 0.5;
/// layer.insert(&run, "one", adapter)?;
/// let draw = Draw { random: Philox::new(3), stream: 0, first_row: 0 };
/// let (x, mut y, mut cache) = ([1.0, 1.0], [0.0], LoraCache::default());
/// layer.forward_train(&run, ("one", draw), &x, &mut y, &mut cache)?;
/// // What is dropped is dropped before A, and what is left is twice as large.
/// assert_eq!((cache.hidden[0], y[0]), (cache.dropped[0], 2.0 + 10.0 * cache.dropped[0]));
/// assert!([0.0, 2.0].contains(&cache.dropped[0]));
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoraCache {
    /// The input after dropout, (rows, in); empty where nothing is dropped: it is the input then.
    pub dropped: Vec<f32>,
    /// A x, (rows, rank), not yet scaled.
    pub hidden: Vec<f32>,
    /// DoRA: W x without bias, (rows, out), of the input after dropout.
    pub base: Vec<f32>,
    /// DoRA: |V|, (out).
    pub norms: Vec<f32>,
}

impl LoraLayer {
    /// Of A (rank, in), B (out, rank) and the factor s; no dropout, no magnitude.
    ///
    /// # Panics
    /// Where a matrix does not have the shape, or the rank is 0.
    pub fn from_parts(shape: LoraShape, a: Vec<f32>, b: Vec<f32>, scale: f32) -> LoraLayer {
        let LoraShape { in_features, out_features, rank } = shape;
        assert!(
            rank > 0 && a.len() == rank * in_features && b.len() == out_features * rank,
            "A of {} and B of {} elements for {shape:?}",
            a.len(),
            b.len()
        );
        LoraLayer { a, b, scale, dropout: 0.0, magnitude: None, shape }
    }

    /// Its extents.
    pub const fn shape(&self) -> LoraShape {
        self.shape
    }

    /// Numbers that are trained.
    pub fn parameters(&self) -> usize {
        self.a.len() + self.b.len() + self.magnitude.as_ref().map_or(0, |m| m.lengths.len())
    }

    /// A, (rank, in).
    pub fn a(&self) -> MatRef<'_> {
        MatRef::new(&self.a, self.shape.rank, self.shape.in_features)
    }

    /// B, (out, rank).
    pub fn b(&self) -> MatRef<'_> {
        MatRef::new(&self.b, self.shape.out_features, self.shape.rank)
    }

    /// Lines of room that [`LoraLayer::add`] needs for `rows` rows.
    pub const fn room_len(&self, rows: usize) -> usize {
        Room::len(rows * self.shape.rank)
    }

    /// `out` (rows, out) += s · B A x, x (rows, in), without dropout; a magnitude is not looked at.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`LoraLayer::room_len`].
    pub fn add(&self, run: &Run<'_>, x: &[f32], out: &mut [f32], mut room: Room<'_>) {
        let rows = self.rows(x, out);
        let hidden = room.floats(rows * self.shape.rank);
        self.down(run, x, hidden);
        self.up(run, hidden, self.scale, out);
    }

    /// The number of rows of `x` and `out`.
    pub(super) fn rows(&self, x: &[f32], out: &[f32]) -> usize {
        let LoraShape { in_features, out_features, .. } = self.shape;
        let rows = x.len() / in_features.max(1);
        assert!(
            x.len() == rows * in_features && out.len() == rows * out_features,
            "{} inputs and {} outputs for {:?}",
            x.len(),
            out.len(),
            self.shape
        );
        rows
    }

    /// `hidden` (rows, rank) = A x.
    pub(super) fn down(&self, run: &Run<'_>, x: &[f32], hidden: &mut [f32]) {
        let LoraShape { in_features, rank, .. } = self.shape;
        let rows = hidden.len() / rank;
        let to = MatMut::new(hidden, rows, rank);
        product(run, MatRef::new(x, rows, in_features), self.a().t(), to, Accumulate::Overwrite);
    }

    /// `out` (rows, out) += B (scale · hidden); `hidden` is scaled in its place.
    pub(super) fn up(&self, run: &Run<'_>, hidden: &mut [f32], scale: f32, out: &mut [f32]) {
        let LoraShape { out_features, rank, .. } = self.shape;
        let rows = hidden.len() / rank;
        elementwise::scalar_in_place(run.cpu(), Binary::Mul, MatMut::new(hidden, rows, rank), scale);
        let hidden = MatRef::new(hidden, rows, rank);
        product(run, hidden, self.b().t(), MatMut::new(out, rows, out_features), Accumulate::Add);
    }

    /// `out` (rows, out) = what `base` gives of `x` (rows, in), + B (scale · hidden), in one pass; `hidden` is scaled in
    /// its place.
    pub(super) fn up_with(
        &self,
        (run, base): (&Run<'_>, &Linear),
        hidden: &mut [f32],
        scale: f32,
        (x, out): (MatRef<'_>, MatMut<'_>),
    ) {
        let (rows, rank) = (x.rows(), self.shape.rank);
        elementwise::scalar_in_place(run.cpu(), Binary::Mul, MatMut::new(hidden, rows, rank), scale);
        base.forward_low_rank(run, x, Packed::of(run, self.b().t()).times(hidden), out);
    }

    /// s B A, (out, in), added to `w` with every row multiplied by `factors` where there are some.
    pub(super) fn add_delta(&self, run: &Run<'_>, weight: f32, factors: Option<&[f32]>, w: &mut [f32]) {
        let LoraShape { in_features, out_features, rank } = self.shape;
        let mut b = self.b.clone();
        for (o, row) in b.chunks_exact_mut(rank).enumerate() {
            let scale = self.scale * weight * factors.map_or(1.0, |f| f[o]);
            row.iter_mut().for_each(|x| *x *= scale);
        }
        let b = MatRef::new(&b, out_features, rank);
        product(run, b, self.a(), MatMut::new(w, out_features, in_features), Accumulate::Add);
    }
}
