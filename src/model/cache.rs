//! Keys and values of the tokens that a model has seen.
//!
//! ```text
//!   one layer   K (kv_heads, capacity, head_dim)   V likewise
//!                 ├── start tokens dropped ──┤├─ len kept ─┤├─ room ─┤      only a window drops any
//! ```
//! A head's keys lie one after another, so that a step over all of them reads memory in one run. A window
//! drops whole blocks of 64 tokens: the blocks of clause 8 are counted from the sequence's first token and
//! stay what they were. What a component is stored as is chosen when the cache is made ([`CacheType`]).

use crate::kernels::Cpu;
use crate::kernels::attention::{BLOCK, Stored};
use crate::nn::KeyValueStore;
use alloc::vec::Vec;
use memory::{Memory, Move, Shape};

mod file;
mod memory;

pub use memory::CacheType;

/// The keys and values of a sequence, layer by layer.
///
/// ```
/// use samebits::model::{CacheType, Decoder, KvCache, Sequence, Workspace};
/// use samebits::{Cpu, assets, run::Run};
/// let run = Run::here(Cpu::detect());
/// let model = assets::model(run.cpu())?;
/// let logits = |cache: &mut KvCache, tokens: &[u32]| {
///     let mut logits = vec![0.0; model.config().vocab];
///     model.forward(&run, &mut [Sequence { tokens, cache }], &mut logits, &mut Workspace::new()).map(|_| logits)
/// };
/// let mut cache = model.cache_of(CacheType::Int8, 8);
/// let whole = logits(&mut cache, &[5, 6, 7])?;
/// assert!(cache.truncate(1)); // forgets 6 and 7
/// let mut restored = KvCache::restore(&cache.save())?;
/// logits(&mut restored, &[6])?;
/// assert_eq!(logits(&mut restored, &[7])?, whole); // the same bits
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct KvCache {
    kind: CacheType,
    layers: Vec<LayerCache>,
    /// Tokens of a learned prefix, which stand before the others and never go.
    prefix: usize,
    tokens: usize,
}

/// The keys and values of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCache {
    shape: Shape,
    /// The last so many tokens are seen; `None`: all.
    window: Option<usize>,
    k: Memory,
    v: Memory,
    start: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache with room for `capacity` tokens, stored as `kind`; one window a layer.
    pub fn new(
        kind: CacheType,
        heads: usize,
        head_dim: usize,
        windows: &[Option<usize>],
        capacity: usize,
    ) -> KvCache {
        let layer = |&window: &Option<usize>| LayerCache::new(kind, heads, head_dim, window, capacity);
        KvCache { kind, layers: windows.iter().map(layer).collect(), prefix: 0, tokens: 0 }
    }

    /// What keys and values are stored as.
    pub const fn kind(&self) -> CacheType {
        self.kind
    }

    /// Tokens of a learned prefix before those that were added: positions begin after them.
    pub const fn prefix(&self) -> usize {
        self.prefix
    }

    /// Tokens that were added.
    pub const fn len(&self) -> usize {
        self.tokens
    }

    /// Whether none was.
    pub const fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Whether there is no prefix either.
    pub(super) const fn is_blank(&self) -> bool {
        self.prefix == 0 && self.tokens == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|l| l.k.bytes() + l.v.bytes()).sum()
    }

    /// Forgets all but the first `len` tokens. `false`, and nothing is done, where a window has dropped tokens
    /// that these would need again.
    pub fn truncate(&mut self, len: usize) -> bool {
        if len >= self.tokens {
            return true;
        }
        let all = self.prefix + len;
        if self.layers.iter().any(|layer| layer.start > layer.droppable(all)) {
            return false;
        }
        self.layers.iter_mut().for_each(|layer| layer.len = all - layer.start);
        self.tokens = len;
        true
    }

    /// Whether it is a cache of a model with so many heads of so many components and such windows.
    pub(super) fn fits(&self, heads: usize, head_dim: usize, windows: &[Option<usize>]) -> bool {
        let same = |(layer, window): (&LayerCache, &Option<usize>)| {
            (layer.shape.heads, layer.shape.head_dim, &layer.window) == (heads, head_dim, window)
        };
        self.layers.len() == windows.len() && self.layers.iter().zip(windows).all(same)
    }

    pub(super) fn layer(&mut self, i: usize) -> &mut LayerCache {
        &mut self.layers[i]
    }

    /// After every layer of an empty cache got a prefix of so many tokens.
    pub(super) fn begin(&mut self, prefix: usize) {
        self.prefix = prefix;
    }

    /// After every layer got `tokens` more.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.tokens += tokens;
    }
}

impl LayerCache {
    /// An empty one with room for `capacity` tokens, stored as `kind`.
    pub fn new(
        kind: CacheType,
        heads: usize,
        head_dim: usize,
        window: Option<usize>,
        capacity: usize,
    ) -> LayerCache {
        let capacity = window.map_or(capacity, |w| capacity.min(w.next_multiple_of(BLOCK) + 2 * BLOCK));
        let shape = Shape { heads, capacity, head_dim };
        let (k, v) = (Memory::new(kind, shape), Memory::new(kind, shape));
        LayerCache { shape, window, k, v, start: 0, len: 0 }
    }

    /// Tokens that no token from position `next` on can see: whole blocks.
    fn droppable(&self, next: usize) -> usize {
        self.window.map_or(0, |w| (next + 1).saturating_sub(w) / BLOCK * BLOCK)
    }

    /// Makes room for `more` tokens: drops what is out of every window, then grows.
    fn reserve(&mut self, more: usize) {
        let capacity = self.shape.capacity;
        if self.len + more <= capacity {
            return;
        }
        let drop = self.droppable(self.start + self.len).saturating_sub(self.start).min(self.len);
        let kept = self.len - drop;
        let capacity = if kept + more <= capacity { capacity } else { 2 * (kept + more) };
        let to = Move { drop, kept, capacity };
        self.k.shift(self.shape, to);
        self.v.shift(self.shape, to);
        (self.shape.capacity, self.start, self.len) = (capacity, self.start + drop, kept);
    }
}

impl KeyValueStore for LayerCache {
    fn push(&mut self, cpu: Cpu, k: &[f32], v: &[f32]) {
        let Shape { heads, head_dim, .. } = self.shape;
        let wide = (heads * head_dim).max(1);
        let tokens = k.len() / wide;
        self.reserve(tokens);
        for (to, from) in [(&mut self.k, k), (&mut self.v, v)] {
            for (t, token) in from.chunks_exact(wide).enumerate() {
                for (head, row) in token.chunks_exact(head_dim).enumerate() {
                    to.set(cpu, head * self.shape.capacity + self.len + t, row);
                }
            }
        }
        self.len += tokens;
    }

    fn keys(&self) -> Stored<'_> {
        self.k.view(self.shape, self.len)
    }

    fn values(&self) -> Stored<'_> {
        self.v.view(self.shape, self.len)
    }
}
