//! Keys and values of the tokens that a model has seen.
//!
//! ```text
//!   one layer   K (kv_heads, capacity, head_dim)   V likewise
//!                 ├── start tokens dropped ──┤├─ len kept ─┤├─ room ─┤      only a window drops any
//! ```
//! A head's keys lie one after another, so that a step over all of them reads memory in one run. A window
//! drops whole blocks of 64 tokens: the blocks of clause 8 are counted from the sequence's first token and
//! stay what they were.

use crate::kernels::attention::BLOCK;
use crate::kernels::view::HeadsRef;
use crate::nn::KeyValueStore;
use alloc::vec;
use alloc::vec::Vec;

/// The keys and values of a sequence, layer by layer.
#[derive(Clone, Debug, PartialEq)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    tokens: usize,
}

/// The keys and values of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCache {
    heads: usize,
    head_dim: usize,
    /// The last so many tokens are seen; `None`: all.
    window: Option<usize>,
    k: Vec<f32>,
    v: Vec<f32>,
    capacity: usize,
    start: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache with room for `capacity` tokens; one window a layer.
    pub fn new(heads: usize, head_dim: usize, windows: &[Option<usize>], capacity: usize) -> KvCache {
        let layer = |&window: &Option<usize>| LayerCache::new(heads, head_dim, window, capacity);
        KvCache { layers: windows.iter().map(layer).collect(), tokens: 0 }
    }

    /// Tokens that were added.
    pub const fn len(&self) -> usize {
        self.tokens
    }

    /// Whether none was.
    pub const fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|l| size_of_val(&l.k[..]) + size_of_val(&l.v[..])).sum()
    }

    /// Forgets all but the first `len` tokens. `false`, and nothing is done, where a window has dropped tokens
    /// that these would need again.
    pub fn truncate(&mut self, len: usize) -> bool {
        if len >= self.tokens {
            return true;
        }
        if self.layers.iter().any(|layer| layer.start > layer.droppable(len)) {
            return false;
        }
        self.layers.iter_mut().for_each(|layer| layer.len = len - layer.start);
        self.tokens = len;
        true
    }

    pub(super) fn layer(&mut self, i: usize) -> &mut LayerCache {
        &mut self.layers[i]
    }

    /// After every layer got `tokens` more.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.tokens += tokens;
    }
}

impl LayerCache {
    /// An empty one with room for `capacity` tokens.
    pub fn new(heads: usize, head_dim: usize, window: Option<usize>, capacity: usize) -> LayerCache {
        let capacity = window.map_or(capacity, |w| capacity.min(w.next_multiple_of(BLOCK) + 2 * BLOCK));
        let room = vec![0.0; heads * capacity * head_dim];
        LayerCache { heads, head_dim, window, k: room.clone(), v: room, capacity, start: 0, len: 0 }
    }

    /// Tokens that no token from position `next` on can see: whole blocks.
    fn droppable(&self, next: usize) -> usize {
        self.window.map_or(0, |w| (next + 1).saturating_sub(w) / BLOCK * BLOCK)
    }

    /// Makes room for `more` tokens: drops what is out of every window, then grows.
    fn reserve(&mut self, more: usize) {
        if self.len + more <= self.capacity {
            return;
        }
        let drop = self.droppable(self.start + self.len).saturating_sub(self.start).min(self.len);
        let kept = self.len - drop;
        let capacity = if kept + more <= self.capacity { self.capacity } else { 2 * (kept + more) };
        for x in [&mut self.k, &mut self.v] {
            let d = self.head_dim;
            let from = |head: usize| (head * self.capacity + drop) * d;
            if capacity == self.capacity {
                for head in 0..self.heads {
                    x.copy_within(from(head)..from(head) + kept * d, head * capacity * d);
                }
            } else {
                let mut larger = vec![0.0; self.heads * capacity * d];
                for head in 0..self.heads {
                    larger[head * capacity * d..][..kept * d].copy_from_slice(&x[from(head)..][..kept * d]);
                }
                *x = larger;
            }
        }
        (self.capacity, self.start, self.len) = (capacity, self.start + drop, kept);
    }

    fn view<'a>(&self, x: &'a [f32]) -> HeadsRef<'a> {
        let (d, head) = (self.head_dim as isize, (self.capacity * self.head_dim) as isize);
        let strides = [head * self.heads as isize, head, d, 1];
        HeadsRef::strided(x, 0, [1, self.heads, self.len, self.head_dim], strides)
    }
}

impl KeyValueStore for LayerCache {
    fn push(&mut self, k: &[f32], v: &[f32]) {
        let (heads, d) = (self.heads, self.head_dim);
        let tokens = k.len() / (heads * d).max(1);
        self.reserve(tokens);
        for (to, from) in [(&mut self.k, k), (&mut self.v, v)] {
            for (t, token) in from.chunks_exact((heads * d).max(1)).enumerate() {
                for (head, row) in token.chunks_exact(d).enumerate() {
                    to[(head * self.capacity + self.len + t) * d..][..d].copy_from_slice(row);
                }
            }
        }
        self.len += tokens;
    }

    fn keys(&self) -> HeadsRef<'_> {
        self.view(&self.k)
    }

    fn values(&self) -> HeadsRef<'_> {
        self.view(&self.v)
    }
}
