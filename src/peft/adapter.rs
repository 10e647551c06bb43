//! Bottleneck adapters: small networks between the layers of a frozen one.
//!
//! ```text
//!   x ─► down (bottleneck, features) ─► act ─► · s ─► up (features, bottleneck) ─► + ─► y
//!   residual (x itself, or what runs beside it) ───────────────────────────────────┘
//! ```
//!
//! | kind | where | x in a block, y = stream + branch + A(x) | act | features / bottleneck | s |
//! |---|---|---|---|---|---|
//! | Houlsby et al. 2019 | after attention and the feed-forward network | branch | swish | 16 | 1 |
//! | Pfeiffer et al. 2020 | after the feed-forward network | stream + branch | ReLU | 16 | 1 |
//! | parallel (He et al. 2021) | beside the feed-forward network | stream | ReLU | 2 | 4 |
//!
//! The stream is what the branch is added to, before the branch's own norm: so has it the `adapters` package in models
//! that norm first, as Llama and GPT-2 do. With `up` zero, as it begins by default, the output is the residual (−0
//! becomes +0).

mod backward;
mod branch;

pub use branch::{Bottleneck, Bottlenecks};

use super::init::normal;
use crate::kernels::activation::{self, Activation};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::{Accumulate, Epilogue, Gemm, Strided};
use crate::kernels::simd::sqrt64;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::Room;
use crate::random::Philox;
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// The published kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// Two in a block, swish, a sixteenth of the features.
    Houlsby,
    /// One in a block, ReLU, a sixteenth.
    Pfeiffer,
    /// Beside the feed-forward network, ReLU, half, scaled by 4.
    Parallel,
}

impl AdapterKind {
    /// Activation, features / bottleneck, and s.
    pub const fn usual(self) -> (Activation, usize, f32) {
        match self {
            AdapterKind::Houlsby => (Activation::Silu, 16, 1.0),
            AdapterKind::Pfeiffer => (Activation::Relu, 16, 1.0),
            AdapterKind::Parallel => (Activation::Relu, 2, 4.0),
        }
    }
}

/// How the matrices begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterInit {
    /// `down` uniform in ±1/√features, `up` zero: the identity (`mam_adapter` of the `adapters` package).
    Identity,
    /// All weights normal with deviation 0.02, biases zero.
    Bert,
    /// All weights normal with deviation 0.01, drawn again beyond two deviations, biases zero.
    Houlsby,
}

/// A bottleneck.
///
/// ```
/// use samebits::kernels::Line;
/// use samebits::peft::{AdapterInit, AdapterKind, AdapterLayer};
/// use samebits::{Cpu, nn::Room, random::Philox, run::Run};
/// let run = Run::here(Cpu::detect());
/// let adapter = AdapterLayer::new(AdapterKind::Pfeiffer, 32, AdapterInit::Identity, (Philox::new(1), 0));
/// let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
/// let (mut y, mut room) = (vec![0.0; 64], vec![Line::ZERO; adapter.room_len(2)]);
/// adapter.forward(&run, &x, &x, &mut y, Room::new(&mut room));
/// assert_eq!(y, x);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterLayer {
    /// (bottleneck, features)
    pub down: Vec<f32>,
    /// (bottleneck)
    pub down_bias: Vec<f32>,
    /// (features, bottleneck)
    pub up: Vec<f32>,
    /// (features)
    pub up_bias: Vec<f32>,
    /// Between the two.
    pub activation: Activation,
    /// s
    pub scale: f32,
}

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct AdapterCache {
    /// Before the activation, (rows, bottleneck).
    pub before: Vec<f32>,
    /// After it, (rows, bottleneck), not yet scaled.
    pub after: Vec<f32>,
}

impl AdapterLayer {
    /// A new adapter for rows of `features` numbers, its own drawn from `random` and a stream.
    pub fn new(kind: AdapterKind, features: usize, init: AdapterInit, from: (Philox, u64)) -> AdapterLayer {
        let (activation, reduction, scale) = kind.usual();
        AdapterLayer { activation, scale, ..AdapterLayer::drawn(features, features / reduction, init, from) }
    }

    /// A new adapter of a bottleneck of that width, one at least, without activation, s = 1.
    pub fn drawn(
        features: usize,
        bottleneck: usize,
        init: AdapterInit,
        (random, stream): (Philox, u64),
    ) -> AdapterLayer {
        let bottleneck = bottleneck.max(1);
        let weights = features * bottleneck;
        let bound = 1.0 / sqrt64(features as f64);
        let draw = |place: usize| match init {
            AdapterInit::Identity => (2.0 * random.uniform(place as u64, stream) - 1.0) * bound,
            AdapterInit::Bert => 0.02 * normal(random, place as u64, stream),
            AdapterInit::Houlsby => 0.01 * within_two(random, place as u64, stream),
        };
        let down = (0..weights).map(|i| draw(i) as f32).collect();
        let up = match init {
            AdapterInit::Identity => vec![0.0; weights],
            AdapterInit::Bert | AdapterInit::Houlsby => {
                (weights..2 * weights).map(|i| draw(i) as f32).collect()
            }
        };
        let (down_bias, up_bias) = (vec![0.0; bottleneck], vec![0.0; features]);
        AdapterLayer { down, down_bias, up, up_bias, activation: Activation::Identity, scale: 1.0 }
    }

    /// Features of a row.
    pub const fn features(&self) -> usize {
        self.up_bias.len()
    }

    /// Numbers between the two matrices.
    pub const fn bottleneck(&self) -> usize {
        self.down_bias.len()
    }

    /// Numbers that are trained.
    pub const fn parameters(&self) -> usize {
        self.down.len() + self.down_bias.len() + self.up.len() + self.up_bias.len()
    }

    /// Lines of room for `rows` rows.
    pub const fn room_len(&self, rows: usize) -> usize {
        Room::len(rows * self.bottleneck()) + Room::len(self.features())
    }

    /// `out` = residual + s · up(act(down(x))), all (rows, features). Houlsby's and Pfeiffer's take x for the residual,
    /// a parallel one what the feed-forward network beside it gave.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`AdapterLayer::room_len`].
    pub fn forward(&self, run: &Run<'_>, x: &[f32], residual: &[f32], out: &mut [f32], mut room: Room<'_>) {
        let rows = x.len() / self.features().max(1);
        let hidden = room.floats(rows * self.bottleneck());
        self.narrow(run, x, self.activation, hidden);
        self.widen(run, (hidden, self.scale), residual, out, room);
    }

    /// [`AdapterLayer::forward`] with s times `weight`.
    fn forward_weighted(&self, run: &Run<'_>, weight: f32, x: &[f32], residual: &[f32], out: &mut [f32]) {
        let rows = x.len() / self.features().max(1);
        let mut lines = vec![crate::kernels::Line::ZERO; self.room_len(rows)];
        let mut room = Room::new(&mut lines);
        let hidden = room.floats(rows * self.bottleneck());
        self.narrow(run, x, self.activation, hidden);
        self.widen(run, (hidden, self.scale * weight), residual, out, room);
    }

    /// The same, leaving in `cache` what the way back needs.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_train(
        &self,
        run: &Run<'_>,
        x: &[f32],
        residual: &[f32],
        out: &mut [f32],
        cache: &mut AdapterCache,
    ) {
        let (rows, width) = (x.len() / self.features().max(1), self.bottleneck());
        cache.before.resize(rows * width, 0.0);
        cache.after.resize(rows * width, 0.0);
        self.narrow(run, x, Activation::Identity, &mut cache.before);
        let (from, to) =
            (MatRef::new(&cache.before, rows, width), MatMut::new(&mut cache.after, rows, width));
        activation::apply(run.cpu(), self.activation, from, to);
        let mut hidden = cache.after.clone();
        let mut lines = vec![crate::kernels::Line::ZERO; Room::len(self.features())];
        self.widen(run, (&mut hidden, self.scale), residual, out, Room::new(&mut lines));
    }

    /// `hidden` (rows, bottleneck) = f(down x + b)
    fn narrow(&self, run: &Run<'_>, x: &[f32], f: Activation, hidden: &mut [f32]) {
        let (n, width) = (self.features(), self.bottleneck());
        let rows = x.len() / n.max(1);
        let epilogue = Epilogue { bias: Some(&self.down_bias), activation: f, ..Epilogue::NONE };
        let down = MatRef::new(&self.down, width, n).t();
        multiply(run, MatRef::new(x, rows, n), down, MatMut::new(hidden, rows, width), epilogue);
    }

    /// `out` = residual + s (up hidden + b); `hidden` is scaled in its place.
    fn widen(
        &self,
        run: &Run<'_>,
        (hidden, scale): (&mut [f32], f32),
        residual: &[f32],
        out: &mut [f32],
        mut room: Room<'_>,
    ) {
        let (n, width, cpu) = (self.features(), self.bottleneck(), run.cpu());
        let rows = hidden.len() / width;
        let bias = room.floats(n);
        bias.copy_from_slice(&self.up_bias);
        for (x, len) in [(&mut *hidden, rows * width), (&mut *bias, n)] {
            elementwise::scalar_in_place(cpu, Binary::Mul, MatMut::new(x, 1, len), scale);
        }
        let residual = Some(MatRef::new(residual, rows, n));
        let epilogue = Epilogue { bias: Some(bias), residual, ..Epilogue::NONE };
        let up = MatRef::new(&self.up, n, width).t();
        multiply(run, MatRef::new(hidden, rows, width), up, MatMut::new(out, rows, n), epilogue);
    }
}

fn multiply(run: &Run<'_>, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>, epilogue: Epilogue<'_>) {
    let gemm = Gemm { a, b: Strided(b), c, accumulate: Accumulate::Overwrite, epilogue };
    let cpu = run.cpu();
    run.pieces(gemm.pieces(), |piece, scratch| {
        let need = piece.scratch_len();
        piece.run(cpu, scratch.lines(need));
    });
}

/// A standard normal number within two deviations: the first of those drawn for a place.
fn within_two(random: Philox, place: u64, stream: u64) -> f64 {
    (0..).map(|turn: u64| normal(random, place | turn << 40, stream)).find(|x| x.abs() <= 2.0).unwrap_or(0.0)
}
