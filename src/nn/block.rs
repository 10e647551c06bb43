//! One block of a transformer: attention and a feed-forward network, each with a norm and a residual.
//!
//! ```text
//!   Pre       x += attn(norm₁(x));        x += ffn(norm₂(x))          GPT-2, Llama
//!   Post      x = norm₁(x + attn(x));     x = norm₂(x + ffn(x))       BERT
//!   Parallel  x += attn(norm₁(x)) + ffn(norm₂(x))                     GPT-J, GPT-NeoX, Phi
//! ```
//! With `after` norms a branch's result is normed before it is added (Gemma 2: before and after). Where it is added an
//! adapter may add to it ([`BranchAdapter`]).

use super::adapter::{BranchAdapter, BranchAdapters};
use super::add::add;
use super::attention::{AttentionKernel, KeyValues, MultiHeadAttention, Prefix};
use super::feed_forward::FeedForwardNetwork;
use super::linear::Linear;
use super::norm::Norm;
use super::room::Room;
use crate::kernels::attention::Products;
use crate::kernels::rope::Rope;
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

mod backward;

pub use backward::{BlockCache, Pass};

/// Where the norms stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Before attention and network; the residual stream itself is never normed (Xiong et al. 2020,
    /// [arXiv:2002.04745](https://arxiv.org/abs/2002.04745)).
    #[default]
    Pre,
    /// After each residual addition (Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762)).
    Post,
    /// Before, and both branches from the same input.
    Parallel,
}

/// Attention to another sequence, between self-attention and network: a decoder of an encoder-decoder.
#[derive(Clone, Debug)]
pub struct CrossAttention {
    /// Its norm, placed as the block's others are.
    pub norm: Norm,
    /// Queries from this sequence, keys and values from the other.
    pub attention: MultiHeadAttention,
}

/// A layer of a block, to be changed.
#[derive(Debug)]
pub enum Part<'a> {
    /// A linear layer.
    Linear(&'a mut Linear),
    /// A norm.
    Norm(&'a mut Norm),
    /// An adapter of a branch.
    Branch(&'a mut dyn BranchAdapter),
    /// Learned keys and values that count.
    Prefix(&'a mut Prefix),
}

/// A transformer block.
///
/// A block whose branches give nothing passes its rows on; each part has the name of its field:
/// ```
/// use samebits::kernels::{Line, activation::Activation, attention::Pattern};
/// use samebits::nn::adapter::BranchAdapters;
/// use samebits::nn::{FeedForwardNetwork, KeyValues, Linear, Memory, Mixing, MultiHeadAttention, Norm};
/// use samebits::nn::{CrossAttention, Part, Placement, RmsNorm, Room, TransformerBlock, Weight};
/// use samebits::{Cpu, run::Run};
/// let zeros = |out, inputs| Linear::new(Weight::plain(out, inputs, vec![0.0; out * inputs]), None);
/// let norm = || Norm::Rms(RmsNorm { weight: vec![1.0; 2].into(), one_plus: false, eps: 1e-6 });
/// let attention = || {
///     let (q, k, v, o) = (zeros(2, 2), zeros(2, 2), zeros(2, 2), zeros(2, 2));
///     let mixing = Mixing::new(2, Pattern::Causal);
///     MultiHeadAttention { q, k, v, o, heads: 1, kv_heads: 1, head_dim: 2, qk_norm: None, mixing, prefix: None }
/// };
/// let mut block = TransformerBlock {
///     placement: Placement::Pre,
///     attention_norm: norm(),
///     attention: attention(),
///     attention_after: None,
///     cross: Some(CrossAttention { norm: norm(), attention: attention() }),
///     network_norm: Some(norm()),
///     network: FeedForwardNetwork { gate: None, up: zeros(8, 2), down: zeros(2, 8), activation: Activation::Silu },
///     network_after: None,
///     adapters: BranchAdapters::default(),
/// };
/// let (mut x, mut room) = ([1.0, 2.0, 3.0, 4.0], vec![Line::ZERO; block.room_len(2)]);
/// let encoded: Memory = (&[0.5, 0.5], &[7.0, 7.0]); // keys and values of one token of an encoder
/// let mut keys = KeyValues::Here { ends: &[0, 2] };
/// block.forward(&Run::here(Cpu::detect()), &mut x, None, &mut keys, Some(encoded), Room::new(&mut room));
/// assert_eq!(x, [1.0, 2.0, 3.0, 4.0]);
/// let norms = block.parts_mut().into_iter().filter(|(_, part)| matches!(part, Part::Norm(_)));
/// assert!(norms.map(|(name, _)| name).any(|name| name == "attention_norm"));
/// ```
#[derive(Clone, Debug)]
pub struct TransformerBlock {
    /// Where the norms stand.
    pub placement: Placement,
    /// Of the attention.
    pub attention_norm: Norm,
    /// Self-attention.
    pub attention: MultiHeadAttention,
    /// A norm of the attention's result, before it is added.
    pub attention_after: Option<Norm>,
    /// Attention to an encoder's output.
    pub cross: Option<CrossAttention>,
    /// Of the network. In a parallel block `None`: the attention's serves both.
    pub network_norm: Option<Norm>,
    /// The feed-forward network.
    pub network: FeedForwardNetwork,
    /// A norm of the network's result, before it is added.
    pub network_after: Option<Norm>,
    /// What adds to both results.
    pub adapters: BranchAdapters,
}

/// Keys and values of an encoder's output for one block's cross-attention, each (tokens, kv_heads · head_dim).
pub type Memory<'a> = (&'a [f32], &'a [f32]);

impl TransformerBlock {
    /// Features of a row.
    pub const fn features(&self) -> usize {
        self.attention.q.in_features()
    }

    /// Every linear layer, cross-attention's among them.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let network = &self.network;
        let attention = self.attention.linears().into_iter();
        let cross = self.cross.as_ref().map(|c| c.attention.linears()).into_iter().flatten();
        attention.chain(cross).chain(&network.gate).chain([&network.up, &network.down])
    }

    /// Says what attention's q · k and p · v are made of, cross-attention's too.
    pub fn set_attention(&mut self, products: Products) {
        let cross = self.cross.as_mut().map(|cross| &mut cross.attention);
        for layer in [&mut self.attention].into_iter().chain(cross) {
            layer.mixing.kernel = AttentionKernel::of(products);
        }
    }

    /// Every layer with parameters under the name of its field, and what is beside them.
    pub fn parts_mut(&mut self) -> Vec<(&'static str, Part<'_>)> {
        let MultiHeadAttention { q, k, v, o, qk_norm, prefix, .. } = &mut self.attention;
        let FeedForwardNetwork { gate, up, down, .. } = &mut self.network;
        let mut linears =
            vec![("attention.q", q), ("attention.k", k), ("attention.v", v), ("attention.o", o)];
        linears.extend(gate.as_mut().map(|gate| ("network.gate", gate)));
        linears.extend([("network.up", up), ("network.down", down)]);
        let mut norms = vec![("attention_norm", &mut self.attention_norm)];
        norms.extend(self.attention_after.as_mut().map(|norm| ("attention_after", norm)));
        norms.extend(self.network_norm.as_mut().map(|norm| ("network_norm", norm)));
        norms.extend(self.network_after.as_mut().map(|norm| ("network_after", norm)));
        if let Some((q, k)) = qk_norm {
            norms.extend([("attention.q_norm", q), ("attention.k_norm", k)]);
        }
        if let Some(CrossAttention { norm, attention }) = &mut self.cross {
            let MultiHeadAttention { q, k, v, o, .. } = attention;
            linears.extend([("cross.q", q), ("cross.k", k), ("cross.v", v), ("cross.o", o)]);
            norms.push(("cross.norm", norm));
        }
        let linears = linears.into_iter().map(|(name, layer)| (name, Part::Linear(layer)));
        let mut all: Vec<_> =
            linears.chain(norms.into_iter().map(|(name, norm)| (name, Part::Norm(norm)))).collect();
        let BranchAdapters { attention, network } = &mut self.adapters;
        let branches = [("attention_adapter", attention), ("network_adapter", network)];
        let branches = branches.into_iter().filter_map(|(name, of)| Some((name, of.as_deref_mut()?)));
        all.extend(branches.map(|(name, adapter)| (name, Part::Branch(adapter))));
        let prefix = prefix.iter_mut().filter(|prefix| prefix.active);
        all.extend(prefix.map(|prefix| ("attention.prefix", Part::Prefix(prefix))));
        all
    }

    /// Weights of all linear layers.
    pub fn weights(&self) -> usize {
        self.linears().map(|l| l.in_features() * l.out_features()).sum()
    }

    /// Lines of room for `rows` rows.
    pub fn room_len(&self, rows: usize) -> usize {
        let one = Room::len(rows * self.features());
        let cross = self.cross.as_ref().map_or(0, |c| c.attention.room_len(rows));
        let inner = self.attention.room_len(rows).max(self.network.room_len(rows)).max(cross);
        2 * one + inner
    }

    /// Rewrites the rows `x` (rows, features).
    ///
    /// # Panics
    /// Where the shapes disagree, the block has cross-attention and there is no `memory` or the other way
    /// round, or the room is shorter than [`TransformerBlock::room_len`].
    pub fn forward(
        &self,
        run: &Run<'_>,
        x: &mut [f32],
        rope: Option<&Rope<'_>>,
        keys: &mut KeyValues<'_, '_>,
        memory: Option<Memory<'_>>,
        mut room: Room<'_>,
    ) {
        assert!(self.cross.is_some() == memory.is_some(), "cross-attention and a memory go together");
        let (h, y) = (room.floats(x.len()), room.floats(x.len()));
        let mut pass = Forward { block: self, run, rope, room };
        match self.placement {
            Placement::Pre => pass.pre(x, h, y, keys, memory),
            Placement::Post => pass.post(x, y, keys, memory),
            Placement::Parallel => pass.parallel(x, h, y, keys),
        }
    }
}

/// What all branches of a block share.
struct Forward<'b, 'r, 'm> {
    block: &'b TransformerBlock,
    run: &'b Run<'r>,
    rope: Option<&'b Rope<'b>>,
    room: Room<'m>,
}

impl Forward<'_, '_, '_> {
    /// out = attention(h) + x, the attention's result normed first, and its adapter's added, where the block has them.
    fn attend(&mut self, h: &[f32], x: &[f32], keys: &mut KeyValues<'_, '_>, out: &mut [f32]) {
        let (block, room) = (self.block, self.room.rest());
        let join = Join::of(&block.attention_after, &block.adapters.attention);
        block.attention.forward(self.run, h, self.rope, keys, join.is_sum().then_some(x), out, room);
        join.run(self.run, x, out);
    }

    /// out = network(h) + x, likewise.
    fn feed(&mut self, h: &[f32], x: &[f32], out: &mut [f32]) {
        let (block, room) = (self.block, self.room.rest());
        let join = Join::of(&block.network_after, &block.adapters.network);
        block.network.forward(self.run, h, join.is_sum().then_some(x), out, room);
        join.run(self.run, x, out);
    }

    fn pre(
        &mut self,
        x: &mut [f32],
        h: &mut [f32],
        y: &mut [f32],
        keys: &mut KeyValues<'_, '_>,
        memory: Option<Memory<'_>>,
    ) {
        let run = self.run;
        self.block.attention_norm.forward(run, x, h);
        self.attend(h, x, keys, y);
        if let (Some(cross), Some(memory)) = (&self.block.cross, memory) {
            cross.norm.forward(run, y, h);
            cross.attention.forward_cross(run, h, memory, Some(y), x, self.room.rest());
            y.copy_from_slice(x);
        }
        self.network_norm().forward(run, y, h);
        self.feed(h, y, x);
    }

    fn post(
        &mut self,
        x: &mut [f32],
        y: &mut [f32],
        keys: &mut KeyValues<'_, '_>,
        memory: Option<Memory<'_>>,
    ) {
        let run = self.run;
        self.attend(x, x, keys, y);
        self.block.attention_norm.forward_in_place(run, y);
        if let (Some(cross), Some(memory)) = (&self.block.cross, memory) {
            cross.attention.forward_cross(run, y, memory, Some(y), x, self.room.rest());
            cross.norm.forward_in_place(run, x);
            y.copy_from_slice(x);
        }
        self.feed(y, y, x);
        self.network_norm().forward_in_place(run, x);
    }

    fn parallel(&mut self, x: &mut [f32], h: &mut [f32], y: &mut [f32], keys: &mut KeyValues<'_, '_>) {
        let run = self.run;
        self.block.attention_norm.forward(run, x, h);
        self.attend(h, x, keys, y);
        if let Some(norm) = &self.block.network_norm {
            norm.forward(run, x, h);
        }
        self.feed(h, y, x);
    }

    fn network_norm(&self) -> &Norm {
        self.block.network_norm.as_ref().unwrap_or(&self.block.attention_norm)
    }
}

/// How a branch joins the stream.
#[derive(Clone, Copy)]
struct Join<'b> {
    norm: Option<&'b Norm>,
    adapter: Option<&'b dyn BranchAdapter>,
}

impl<'b> Join<'b> {
    fn of(norm: &'b Option<Norm>, adapter: &'b Option<alloc::boxed::Box<dyn BranchAdapter>>) -> Join<'b> {
        Join { norm: norm.as_ref(), adapter: adapter.as_deref() }
    }

    /// Whether it is but added: then the branch's last product adds it.
    const fn is_sum(self) -> bool {
        self.norm.is_none() && self.adapter.is_none()
    }

    /// From what the branch gave, in `rows`, to the stream after it, unless that is done.
    fn run(self, run: &Run<'_>, stream: &[f32], rows: &mut [f32]) {
        if let Some(norm) = self.norm {
            norm.forward_in_place(run, rows);
        }
        match self.adapter {
            Some(adapter) => adapter.join(run, stream, rows),
            None if self.norm.is_some() => add(run, rows, stream),
            None => {}
        }
    }
}
