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
///
/// One that adds a learned vector where its branch joins the stream:
/// ```
/// use samebits::nn::adapter::{AdapterCache, Branch, BranchAdapter, BranchAdapters, Read};
/// use samebits::{Cpu, nn::{Gradients, Scope}, run::Run};
/// #[derive(Clone, Debug)]
/// struct Bias(Vec<f32>);
/// impl BranchAdapter for Bias {
///     fn boxed(&self) -> Box<dyn BranchAdapter> {
///         Box::new(self.clone())
///     }
///     fn as_any(&mut self) -> &mut dyn core::any::Any {
///         self
///     }
///     fn join(&self, _: &Run<'_>, stream: &[f32], rows: &mut [f32]) {
///         for ((row, stream), bias) in rows.iter_mut().zip(stream).zip(self.0.iter().cycle()) {
///             *row += stream + bias;
///         }
///     }
///     fn join_train(&self, run: &Run<'_>, stream: &[f32], rows: &mut [f32], _: &mut AdapterCache) {
///         self.join(run, stream, rows);
///     }
///     fn backward(&self, _: &Run<'_>, d: &[f32], _: &AdapterCache, to: &mut Scope<'_>) -> Read {
///         if let Some(sum) = to.add("bias") {
///             d.chunks(sum.len()).for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, d)| *sum += d));
///         }
///         Read::Nothing // nothing that it read has a gradient by it
///     }
///     fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
///         vec![("bias".into(), [1, self.0.len()], &mut self.0)]
///     }
/// }
/// let mut adapters = BranchAdapters::default();
/// *adapters.of_mut(Branch::Network) = Some(Box::new(Bias(vec![0.5, 0.25])));
/// let (run, adapter, mut rows) = (Run::here(Cpu::detect()), adapters.network.unwrap(), [1.0, 1.0]);
/// adapter.join(&run, &[10.0, 20.0], &mut rows);
/// assert_eq!(rows, [11.5, 21.25]);
/// let mut gradients = Gradients::default();
/// gradients.train("bias", 2);
/// adapter.backward(&run, &[1.0, 2.0, 3.0, 4.0], &AdapterCache::default(), &mut gradients.scope());
/// assert_eq!(gradients.get("bias"), Some(&[4.0, 6.0][..]));
/// ```
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
///
/// An adapter of a layer in training, by its trait:
/// ```
/// use samebits::kernels::gemm::Accumulate;
/// use samebits::nn::adapter::{Adapter, AdapterCache, Draw, Training};
/// use samebits::nn::{Gradients, Linear, Weight};
/// use samebits::peft::{LoraAdapters, LoraLayer, LoraShape};
/// use samebits::{Cpu, random::Philox, run::Run};
/// let run = Run::here(Cpu::detect());
/// let base = Linear::new(Weight::plain(1, 1, vec![10.0]), None);
/// let shape = LoraShape { in_features: 1, out_features: 1, rank: 1 };
/// let mut lora = LoraAdapters::new(0);
/// lora.insert(&run, &base, "a", LoraLayer::from_parts(shape, vec![2.0], vec![3.0], 0.5)).unwrap();
/// lora.activate(&[("a", 1.0)]).unwrap();
/// let mut adapter: Box<dyn Adapter> = Box::new(lora);
/// let draw = Some(Draw { random: Philox::new(1), step: 0, first_row: 0 }); // of dropout, of which there is none
/// let pass = Training { run: &run, base: &base, draw };
/// let (x, dy, mut y, mut dx, mut cache) = ([7.0], [1.0], [0.0], [0.0], AdapterCache::default());
/// adapter.forward_train(pass, &x, &mut y, &mut cache);
/// assert_eq!(y, [91.0]); // (10 + ½ · 3 · 2) · 7
/// let mut gradients = Gradients::default();
/// adapter.parameters_mut().iter().for_each(|(name, _, values)| gradients.train(name, values.len()));
/// adapter.backward(pass, (&x, &dy), &cache, (&mut dx, Accumulate::Overwrite), &mut gradients.scope());
/// assert_eq!(dx, [13.0]);
/// let [of_a, of_b] = ["lora_A", "lora_B"].map(|part| gradients.iter().find(|g| g.0.contains(part)).unwrap().1[0]);
/// assert_eq!((of_a, of_b), (10.5, 7.0)); // ½ · 3 · 7 and ½ · 2 · 7
/// ```
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
