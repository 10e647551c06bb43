//! Attention, alone and as a layer.

use super::linear::{Linear, products};
use super::norm::Norm;
use super::room::Room;
use crate::kernels::Cpu;
use crate::kernels::attention::{
    Align, Attention, Options, Pattern, Products, Sequences, Stored, fast_scratch_len, scratch_len_for,
};
use crate::kernels::rope::{self, Rope};
use crate::kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use crate::run::Run;
use core::ops::Range;

mod backward;
mod kernel;
mod prefix;
mod unfused;

pub use backward::AttentionCache;
pub use kernel::AttentionKernel;
pub use prefix::Prefix;
pub use unfused::attention_with_weights;

/// softmax(scale · q kᵀ + bias) v, fused, on all threads of `run`; shapes and options as [`Attention`] says.
///
/// ```
/// use samebits::kernels::{attention::{Attention, Options}, view::{HeadsMut, HeadsRef}};
/// use samebits::{Cpu, nn::scaled_dot_product_attention, run::Run};
/// let (q, k, v, mut out) = ([0.0; 2], [1.0; 4], [1.0, 3.0], [0.0; 1]);
/// let problem = Attention {
///     q: HeadsRef::new(&q, [1, 1, 1, 2]),
///     k: HeadsRef::new(&k, [1, 1, 2, 2]).into(),
///     v: HeadsRef::new(&v, [1, 1, 2, 1]).into(),
///     out: HeadsMut::new(&mut out, [1, 1, 1, 1]),
///     lse: None,
///     options: Options::for_head_dim(2),
/// };
/// scaled_dot_product_attention(&Run::here(Cpu::detect()), problem);
/// assert_eq!(out, [2.0]);
/// ```
///
/// # Panics
/// As [`Attention::pieces`].
pub fn scaled_dot_product_attention(run: &Run<'_>, problem: Attention<'_>) {
    let (cpu, need) = (run.cpu(), scratch_len(run.cpu(), &problem));
    run.pieces(problem.pieces(), |piece, scratch| piece.run(cpu, scratch.lines(need)));
}

/// The same by the kernel of a layer.
fn attend(run: &Run<'_>, kernel: AttentionKernel, problem: Attention<'_>) {
    let (cpu, need) = (run.cpu(), scratch_len(run.cpu(), &problem));
    run.pieces(problem.pieces(), |piece, scratch| kernel.run(piece, cpu, scratch.lines(need)));
}

/// Lines of scratch for each piece of a problem.
fn scratch_len(cpu: Cpu, problem: &Attention<'_>) -> usize {
    let ([.., keys, qk_dim], v_dim) = (problem.k.shape(), problem.v.shape()[3]);
    scratch_for(cpu, problem.options.products, keys, (qk_dim, v_dim))
}

fn scratch_for(cpu: Cpu, products: Products, keys: usize, (qk_dim, v_dim): (usize, usize)) -> usize {
    match products {
        Products::F32 => scratch_len_for(keys, qk_dim, v_dim),
        Products::Bf16 => fast_scratch_len(cpu, products, qk_dim, v_dim),
    }
}

/// Multi-head attention: self or cross; MHA, GQA or MQA.
///
/// Query head h reads key head h / (heads / kv_heads).
///
/// ```
/// use samebits::kernels::{Line, attention::Pattern, view::MatRef};
/// use samebits::nn::{KeyValues, Linear, Mixing, MultiHeadAttention, Room, Weight};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// let same = || Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&[1.0, 0.0, 0.0, 1.0], 2, 2)), None);
/// let (q, k, v, o) = (same(), same(), same(), same());
/// let mixing = Mixing::new(2, Pattern::Causal);
/// let layer = MultiHeadAttention { q, k, v, o, heads: 1, kv_heads: 1, head_dim: 2, qk_norm: None, mixing, prefix: None };
/// let (x, mut out, mut room) = ([1.0, 0.0, 0.0, 1.0], [0.0; 4], vec![Line::ZERO; layer.room_len(2)]);
/// let mut keys = KeyValues::Here { ends: &[0, 2] }; // one sequence of two tokens
/// layer.forward(&run, &x, None, &mut keys, None, &mut out, Room::new(&mut room));
/// assert_eq!(out[..2], [1.0, 0.0]); // the first token sees itself alone
/// assert!(out[2] < out[3] && (out[2] + out[3] - 1.0).abs() < 1e-6);
/// keys = KeyValues::Here { ends: &[0, 1, 2] }; // two of one
/// layer.forward(&run, &x, None, &mut keys, None, &mut out, Room::new(&mut room));
/// assert_eq!(out, x);
/// ```
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    /// (heads · head_dim, features)
    pub q: Linear,
    /// (kv_heads · head_dim, features)
    pub k: Linear,
    /// (kv_heads · head_dim, features)
    pub v: Linear,
    /// (features, heads · head_dim)
    pub o: Linear,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Norms over the components of each query and key head, before they are rotated (Qwen3).
    pub qk_norm: Option<(Norm, Norm)>,
    /// How scores are made.
    pub mixing: Mixing,
    /// Keys and values before every sequence's own. Caches must begin with them ([`MultiHeadAttention::active_prefix`]).
    pub prefix: Option<Prefix>,
}

/// How a layer's scores are made, and which keys count.
#[derive(Clone, Debug)]
pub struct Mixing {
    /// What q · k is multiplied by.
    pub scale: f32,
    /// Keys that a token sees by position.
    pub pattern: Pattern,
    /// c: a score s becomes c · tanh(s / c).
    pub softcap: Option<f32>,
    /// (heads): ALiBi's slopes.
    pub alibi: Option<alloc::vec::Vec<f32>>,
    /// (heads): an extra score in the denominator.
    pub sinks: Option<alloc::vec::Vec<f32>>,
    /// What q · k and p · v are made of.
    pub kernel: AttentionKernel,
}

impl Mixing {
    /// With the usual scale, 1 / √head_dim, and products of floats.
    pub fn new(head_dim: usize, pattern: Pattern) -> Mixing {
        let scale = Options::for_head_dim(head_dim).scale;
        Mixing { scale, pattern, softcap: None, alibi: None, sinks: None, kernel: AttentionKernel::F32 }
    }

    fn options<'a>(&'a self, sequences: Sequences<'a>) -> Options<'a> {
        Options {
            products: self.kernel.products(),
            pattern: self.pattern,
            align: Align::BottomRight,
            sequences,
            softcap: self.softcap,
            alibi: self.alibi.as_deref(),
            sinks: self.sinks.as_deref(),
            ..Options::new(self.scale)
        }
    }
}

/// Where the rows of a forward pass find their keys and values.
pub enum KeyValues<'a, 'c> {
    /// In the rows themselves: sequences end to end, from row `ends[s]` to `ends[s + 1]`.
    Here {
        /// (sequences + 1), from 0 to the number of rows.
        ends: &'a [usize],
    },
    /// In memory that keeps them from call to call: one cache a sequence, to which the rows are added.
    Cached {
        /// (sequences + 1), from 0 to the number of rows.
        ends: &'a [usize],
        /// (sequences), all of one shape.
        caches: &'a mut [&'c mut dyn KeyValueStore],
    },
}

/// The keys and values of one layer and one sequence.
///
/// ```
/// use samebits::kernels::attention::Stored;
/// use samebits::model::{CacheType, LayerCache};
/// use samebits::{Cpu, nn::KeyValueStore};
/// // One head of two components, stored as bfloat16.
/// let mut store: Box<dyn KeyValueStore> = Box::new(LayerCache::new(CacheType::Bf16, 1, 2, None, 8));
/// store.push(Cpu::detect(), &[1.0, 2.0], &[3.0, 4.001]);
/// assert!(matches!(store.keys(), Stored::Bf16(_)));
/// assert_eq!((store.values().shape(), store.values().get([0, 0, 0, 1])), ([1, 1, 1, 2], 4.0));
/// ```
pub trait KeyValueStore: Send + Sync {
    /// Adds tokens: `k` and `v` are (tokens, kv_heads · head_dim).
    fn push(&mut self, cpu: Cpu, k: &[f32], v: &[f32]);
    /// The keys that are kept, (1, kv_heads, tokens, head_dim). What was dropped in front is a multiple of 64
    /// tokens, so that the blocks of clause 8 stay what they are.
    fn keys(&self) -> Stored<'_>;
    /// The values, likewise.
    fn values(&self) -> Stored<'_>;
}

/// Floats that a piece of a rotation has at least.
const PIECE: usize = 1 << 15;

impl MultiHeadAttention {
    /// Its linear layers: q, k, v, o.
    pub const fn linears(&self) -> [&Linear; 4] {
        [&self.q, &self.k, &self.v, &self.o]
    }

    /// The prefix, where one counts.
    pub fn active_prefix(&self) -> Option<&Prefix> {
        self.prefix.as_ref().filter(|prefix| prefix.active)
    }

    /// Lines of room for `rows` rows.
    pub fn room_len(&self, rows: usize) -> usize {
        let floats = |heads: usize| Room::len(rows * heads * self.head_dim);
        2 * floats(self.heads) + 2 * floats(self.kv_heads)
    }

    /// Self-attention: `out` (rows, features) from `x` (rows, features), plus `residual`, likewise.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`MultiHeadAttention::room_len`].
    #[allow(clippy::too_many_arguments)] // the pass, the layer's input and output, and where keys are
    pub fn forward(
        &self,
        run: &Run<'_>,
        x: &[f32],
        rope: Option<&Rope<'_>>,
        keys: &mut KeyValues<'_, '_>,
        residual: Option<&[f32]>,
        out: &mut [f32],
        mut room: Room<'_>,
    ) {
        let n = self.q.in_features();
        let rows = x.len() / n.max(1);
        let (wide, narrow) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (q, mixed) = (room.floats(rows * wide), room.floats(rows * wide));
        let (k, v) = (room.floats(rows * narrow), room.floats(rows * narrow));
        let x = MatRef::new(x, rows, n);
        products(
            run,
            [
                self.q.product(x, MatMut::new(q, rows, wide)),
                self.k.product(x, MatMut::new(k, rows, narrow)),
                self.v.product(x, MatMut::new(v, rows, narrow)),
            ],
        );
        if let Some((of_q, of_k)) = &self.qk_norm {
            of_q.forward_in_place(run, q);
            of_k.forward_in_place(run, k);
        }
        if let Some(rope) = rope {
            rotate(run, rope, self.head_dim, q);
            rotate(run, rope, self.head_dim, k);
        }
        match keys {
            KeyValues::Here { ends } => self.mix_here(run, [q, k, v], ends, mixed),
            KeyValues::Cached { ends, caches } => self.mix_cached(run, [q, k, v], ends, caches, mixed),
        }
        self.project(run, mixed, residual, out);
    }

    /// Cross-attention: queries from `x` (rows, features) see all of `memory`'s keys and values, each
    /// (tokens, kv_heads · head_dim), which [`MultiHeadAttention::memory`] made once.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`MultiHeadAttention::room_len`].
    pub fn forward_cross(
        &self,
        run: &Run<'_>,
        x: &[f32],
        memory: (&[f32], &[f32]),
        residual: Option<&[f32]>,
        out: &mut [f32],
        mut room: Room<'_>,
    ) {
        let n = self.q.in_features();
        let (rows, wide) = (x.len() / n.max(1), self.heads * self.head_dim);
        let (q, mixed) = (room.floats(rows * wide), room.floats(rows * wide));
        self.q.forward(run, MatRef::new(x, rows, n), MatMut::new(q, rows, wide));
        if let Some((of_q, _)) = &self.qk_norm {
            of_q.forward_in_place(run, q);
        }
        let tokens = memory.0.len() / (self.kv_heads * self.head_dim).max(1);
        let problem = Attention {
            q: self.by_token(q, self.heads, 0..rows),
            k: self.by_token(memory.0, self.kv_heads, 0..tokens).into(),
            v: self.by_token(memory.1, self.kv_heads, 0..tokens).into(),
            out: self.by_token_mut(mixed, self.heads, rows),
            lse: None,
            options: self.mixing.options(Sequences::Whole),
        };
        attend(run, self.mixing.kernel, problem);
        self.project(run, mixed, residual, out);
    }

    /// The keys and values of what cross-attention looks at: `k` and `v` (tokens, kv_heads · head_dim) from
    /// `memory` (tokens, features).
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn memory(&self, run: &Run<'_>, memory: &[f32], k: &mut [f32], v: &mut [f32]) {
        let (n, narrow) = (self.k.in_features(), self.kv_heads * self.head_dim);
        let rows = memory.len() / n.max(1);
        let memory = MatRef::new(memory, rows, n);
        products(
            run,
            [
                self.k.product(memory, MatMut::new(k, rows, narrow)),
                self.v.product(memory, MatMut::new(v, rows, narrow)),
            ],
        );
        if let Some((_, of_k)) = &self.qk_norm {
            of_k.forward_in_place(run, k);
        }
    }

    /// out = mixed · Wₒᵀ + bₒ + residual
    fn project(&self, run: &Run<'_>, mixed: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let (wide, width) = (self.o.in_features(), self.o.out_features());
        let rows = mixed.len() / wide.max(1);
        let product = self.o.product(MatRef::new(mixed, rows, wide), MatMut::new(out, rows, width));
        products(run, [product.plus_any(residual.map(|residual| MatRef::new(residual, rows, width)))]);
    }

    /// Attention of rows among themselves.
    fn mix_here(&self, run: &Run<'_>, [q, k, v]: [&[f32]; 3], ends: &[usize], out: &mut [f32]) {
        let behind = self.active_prefix().map(|prefix| (prefix.before([k, v], ends), prefix.ends(ends)));
        let ([k, v], keys) =
            behind.as_ref().map_or(([k, v], ends), |([k, v], keys)| ([k.as_slice(), v.as_slice()], keys));
        let rows = [ends, keys].map(|ends| ends.last().copied().unwrap_or(0));
        let problem = Attention {
            q: self.by_token(q, self.heads, 0..rows[0]),
            k: self.by_token(k, self.kv_heads, 0..rows[1]).into(),
            v: self.by_token(v, self.kv_heads, 0..rows[1]).into(),
            out: self.by_token_mut(out, self.heads, rows[0]),
            lse: None,
            options: self.mixing.options(Sequences::Packed { queries: ends, keys }),
        };
        attend(run, self.mixing.kernel, problem);
    }

    /// Attention of each sequence's rows with what its cache holds, these rows among it.
    fn mix_cached(
        &self,
        run: &Run<'_>,
        [q, k, v]: [&[f32]; 3],
        ends: &[usize],
        caches: &mut [&mut dyn KeyValueStore],
        out: &mut [f32],
    ) {
        assert!(ends.len() == caches.len() + 1, "{} caches for sequences that end at {ends:?}", caches.len());
        let narrow = self.kv_heads * self.head_dim;
        for (cache, w) in caches.iter_mut().zip(ends.windows(2)) {
            cache.push(run.cpu(), &k[w[0] * narrow..w[1] * narrow], &v[w[0] * narrow..w[1] * narrow]);
        }
        let (cpu, kernel) = (run.cpu(), self.mixing.kernel);
        let most = caches.iter().map(|cache| cache.keys().shape()[2]).max().unwrap_or(0);
        let need = scratch_for(cpu, kernel.products(), most, (self.head_dim, self.head_dim));
        let rows = q.len() / (self.heads * self.head_dim).max(1);
        let mut out = self.by_token_mut(out, self.heads, rows);
        let options = self.mixing.options(Sequences::Whole);
        let problems = caches.iter().zip(ends.windows(2)).map(|(cache, w)| Attention {
            q: self.by_token(q, self.heads, w[0]..w[1]),
            k: cache.keys(),
            v: cache.values(),
            out: out.take_front(crate::kernels::view::TOKENS, w[1] - w[0]),
            lse: None,
            options,
        });
        run.pieces(problems.flat_map(Attention::pieces), |piece, scratch| {
            kernel.run(piece, cpu, scratch.lines(need));
        });
    }

    /// Rows `tokens` of (tokens, heads · head_dim) as (1, heads, tokens, head_dim).
    fn by_token<'a>(&self, x: &'a [f32], heads: usize, tokens: Range<usize>) -> HeadsRef<'a> {
        let (d, wide) = (self.head_dim, heads * self.head_dim);
        let strides = [x.len() as isize, d as isize, wide as isize, 1];
        HeadsRef::strided(x, tokens.start * wide, [1, heads, tokens.len(), d], strides)
    }

    /// The output's rows likewise.
    fn by_token_mut<'a>(&self, x: &'a mut [f32], heads: usize, tokens: usize) -> HeadsMut<'a> {
        let (d, wide) = (self.head_dim, heads * self.head_dim);
        let strides = [x.len() as isize, d as isize, wide as isize, 1];
        HeadsMut::strided(x, 0, [1, heads, tokens, d], strides)
    }
}

/// Rotates every head of every row where it lies.
fn rotate(run: &Run<'_>, rope: &Rope<'_>, head_dim: usize, x: &mut [f32]) {
    each_band(run, rope, head_dim, x, rope::in_place);
}

/// The gradient of [`rotate`], where it lies.
fn rotate_back(run: &Run<'_>, rope: &Rope<'_>, head_dim: usize, dy: &mut [f32]) {
    each_band(run, rope, head_dim, dy, rope::backward_in_place);
}

fn each_band(
    run: &Run<'_>,
    rope: &Rope<'_>,
    head_dim: usize,
    x: &mut [f32],
    f: fn(Cpu, &Rope, HeadsMut<'_>),
) {
    let tokens = rope.positions.len();
    let (width, cpu) = (x.len() / tokens.max(1), run.cpu());
    let band = PIECE.div_ceil(width.max(1));
    let pieces = x.chunks_mut((band * width).max(1)).zip(rope.positions.chunks(band));
    run.pieces(pieces, |(x, positions), _| {
        let x = HeadsMut::by_token(x, positions.len(), width / head_dim, head_dim);
        f(cpu, &Rope { positions, ..*rope }, x);
    });
}
