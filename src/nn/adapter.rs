//! What changes a frozen model from beside it: the places where LoRA and its kin ([`crate::peft`]) plug in.
//!
//! ```text
//!   x ─► Linear { weight, bias, adapter } ─► y        without an adapter  y = x Wᵀ + b
//!                                 │                   with one            y = adapter.forward(base, x)
//!                                 └─ knows the base when it is called, owns only what is its own
//!
//!   stream ─┬─► norm ─► attention or network ─► branch ─► + ─► + ─► stream        [`BranchAdapter`]
//!           └──────────────────────────────────────────────┘    └─ A(branch), A(stream + branch) or A(stream)
//! ```
//!
//! Where a file has one matrix for several layers (Phi-3's `qkv_proj`, GPT-2's `c_attn`), its adapter has parameters that
//! all of them use: the first layer owns them, the others [follow](Adapter::follow).

use super::linear::Linear;
use super::trained::Scope;
use crate::kernels::gemm::Accumulate;
use crate::random::Philox;
use crate::run::Run;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;

/// An adapter of one linear layer. Rows lie side by side.
pub trait Adapter: core::fmt::Debug + Send + Sync {
    /// A copy.
    fn boxed(&self) -> Box<dyn Adapter>;

    /// The adapter as what it is.
    fn as_any(&mut self) -> &mut dyn Any;

    /// `out` (rows, out) from `x` (rows, in): what the layer gives now.
    fn forward(&self, run: &Run<'_>, base: &Linear, x: &[f32], out: &mut [f32]);

    /// The same in training, with dropout where the adapter has some; keeps what the backward pass needs.
    fn forward_train(&self, pass: Training<'_, '_>, x: &[f32], out: &mut [f32], cache: &mut AdapterCache);

    /// `dx` (rows, in) from `dy` (rows, out), or added to what it holds, and the gradients of the adapter's own
    /// parameters, under the names of [`Adapter::parameters_mut`], as far as they are trained. `given` is (x, dy), x
    /// what the layer was given. The base is frozen.
    fn backward(
        &self,
        pass: Training<'_, '_>,
        given: (&[f32], &[f32]),
        cache: &AdapterCache,
        dx: (&mut [f32], Accumulate),
        to: &mut Scope<'_>,
    );

    /// Its parameters: name, shape (rows, features), values.
    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])>;

    /// What has to be computed anew after `parameters_mut` changed something.
    fn refresh(&mut self, run: &Run<'_>, base: &Linear);

    /// The names of the parameters that are those of the adapter that it follows: [`Adapter::parameters_mut`] leaves
    /// them out, [`Adapter::backward`] gives their gradients where they are asked for.
    fn shared(&self) -> &'static [&'static str] {
        &[]
    }

    /// Takes over what `first` has for all layers of a module.
    fn follow(&mut self, _first: &mut dyn Adapter) {}
}

/// An adapter of a table.
pub trait TableAdapter: core::fmt::Debug + Send + Sync {
    /// A copy.
    fn boxed(&self) -> Box<dyn TableAdapter>;

    /// The adapter as what it is.
    fn as_any(&mut self) -> &mut dyn Any;

    /// Adds what is its own to `out` (ids, features), the rows `ids` of the table.
    fn add(&self, run: &Run<'_>, ids: &[u32], out: &mut [f32]);

    /// Adds to the gradients of its parameters, as far as they are trained; `dy` (ids, features) is that of the rows.
    fn backward(&self, run: &Run<'_>, ids: &[u32], dy: &[f32], to: &mut Scope<'_>);

    /// Its parameters: name, shape (rows, features), values.
    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])>;
}

impl Clone for Box<dyn TableAdapter> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

impl Clone for Box<dyn Adapter> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// An adapter of one branch of a block, its attention or its network: what it adds where the branch joins the stream.
/// Rows lie side by side.
pub trait BranchAdapter: core::fmt::Debug + Send + Sync {
    /// A copy.
    fn boxed(&self) -> Box<dyn BranchAdapter>;

    /// The adapter as what it is.
    fn as_any(&mut self) -> &mut dyn Any;

    /// `rows` (rows, features) are what the branch gave and become stream + branch + what the adapter adds.
    fn join(&self, run: &Run<'_>, stream: &[f32], rows: &mut [f32]);

    /// The same in training; keeps what the backward pass needs.
    fn join_train(&self, run: &Run<'_>, stream: &[f32], rows: &mut [f32], cache: &mut AdapterCache);

    /// From the gradient `d` of the sum, (rows, features), to that of what the adapter read, and the gradients of its
    /// own parameters, under the names of [`BranchAdapter::parameters_mut`], as far as they are trained.
    fn backward(&self, run: &Run<'_>, d: &[f32], cache: &AdapterCache, to: &mut Scope<'_>) -> Read;

    /// Its parameters: name, shape (rows, features), values.
    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])>;
}

impl Clone for Box<dyn BranchAdapter> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// A gradient of what a branch's adapter read, (rows, features), to be added to what comes through the sum.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// Nothing was read.
    Nothing,
    /// What attention or the network gave.
    Branch(Vec<f32>),
    /// What they were added to.
    Stream(Vec<f32>),
    /// The sum of both.
    Sum(Vec<f32>),
}

/// A branch of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Self-attention.
    Attention,
    /// The feed-forward network.
    Network,
}

/// The adapters of a block's branches.
#[derive(Clone, Debug, Default)]
pub struct BranchAdapters {
    /// Where attention joins the stream.
    pub attention: Option<Box<dyn BranchAdapter>>,
    /// Where the network joins it.
    pub network: Option<Box<dyn BranchAdapter>>,
}

impl BranchAdapters {
    /// The place of a branch.
    pub const fn of_mut(&mut self, branch: Branch) -> &mut Option<Box<dyn BranchAdapter>> {
        match branch {
            Branch::Attention => &mut self.attention,
            Branch::Network => &mut self.network,
        }
    }
}

/// What an adapter is told in a pass of training.
#[derive(Clone, Copy)]
pub struct Training<'p, 'r> {
    /// Who computes.
    pub run: &'p Run<'r>,
    /// The layer that is adapted.
    pub base: &'p Linear,
    /// Where random numbers come from; `None`: nothing is dropped.
    pub draw: Option<Draw>,
}

/// Where a step's random numbers come from: the same for any threads and any cut of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The generator.
    pub random: Philox,
    /// One for every step.
    pub step: u64,
    /// The number of the pass's first row in the whole batch.
    pub first_row: u64,
}

/// What an adapter keeps between the passes: it knows which is which. Memory is used again.
#[derive(Clone, Debug, Default)]
pub struct AdapterCache {
    /// Rows of floats, or what else it wants.
    pub floats: [Vec<f32>; 4],
}

impl AdapterCache {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        4 * self.floats.iter().map(Vec::capacity).sum::<usize>()
    }
}
