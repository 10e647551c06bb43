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
use crate::{Error, Result};
use alloc::format;
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

    /// The cache as bytes, for [`KvCache::restore`]: what was added, not the room for more.
    ///
    /// ```text
    ///   "sbkv" version u32 │ layers, tokens u64 │ per layer: heads, head_dim, window (0: none), start, len u64,
    ///   K then V, (heads, len, head_dim) f32 │ checksum u64 of all before        everything little-endian
    /// ```
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::from(*MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let number = |n: usize, bytes: &mut Vec<u8>| bytes.extend((n as u64).to_le_bytes());
        number(self.layers.len(), &mut bytes);
        number(self.tokens, &mut bytes);
        for layer in &self.layers {
            let window = layer.window.unwrap_or(0);
            for n in [layer.heads, layer.head_dim, window, layer.start, layer.len] {
                number(n, &mut bytes);
            }
            for x in [&layer.k, &layer.v] {
                let heads = x.chunks_exact((layer.capacity * layer.head_dim).max(1)).take(layer.heads);
                let kept = heads.flat_map(|head| &head[..layer.len * layer.head_dim]);
                bytes.extend(kept.flat_map(|x| x.to_le_bytes()));
            }
        }
        bytes.extend(hash(&bytes).to_le_bytes());
        bytes
    }

    /// What [`KvCache::save`] wrote, bit for bit.
    ///
    /// # Errors
    /// Where the bytes were not written by it, or changed since.
    pub fn restore(bytes: &[u8]) -> Result<KvCache> {
        let (rest, sum) = bytes.split_last_chunk().ok_or_else(|| Error::invalid("too short for a cache"))?;
        if !rest.starts_with(MAGIC) {
            return Err(Error::malformed(0, "no saved cache begins so"));
        }
        if hash(rest) != u64::from_le_bytes(*sum) {
            return Err(Error::invalid("the checksum is another: the cache was changed or cut off"));
        }
        let mut from = Reader { left: &rest[MAGIC.len()..] };
        let version = u32::from_le_bytes(*from.take()?);
        if version != VERSION {
            return Err(Error::invalid(format!("a cache of version {version}, {VERSION} is known")));
        }
        let (count, tokens) = (from.number()?, from.number()?);
        let mut layers = Vec::new();
        for _ in 0..count {
            layers.push(from.layer(tokens)?);
        }
        match from.left {
            [] => Ok(KvCache { layers, tokens }),
            more => Err(Error::invalid(format!("{} bytes after the last layer", more.len()))),
        }
    }

    /// Whether it is a cache of a model with so many heads of so many components and such windows.
    pub(super) fn fits(&self, heads: usize, head_dim: usize, windows: &[Option<usize>]) -> bool {
        let same = |(layer, window): (&LayerCache, &Option<usize>)| {
            (layer.heads, layer.head_dim, &layer.window) == (heads, head_dim, window)
        };
        self.layers.len() == windows.len() && self.layers.iter().zip(windows).all(same)
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

const MAGIC: &[u8; 4] = b"sbkv";
const VERSION: u32 = 1;

/// FNV-1a over words of eight bytes, the last one filled with zeros: it tells accidents, not attacks.
fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let mut eight = [0; 8];
        eight[..word.len()].copy_from_slice(word);
        (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The rest of a saved cache.
struct Reader<'a> {
    left: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<&[u8; N]> {
        let (first, left) = self.left.split_first_chunk().ok_or_else(short)?;
        self.left = left;
        Ok(first)
    }

    fn number(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(*self.take()?)).map_err(|_| short())
    }

    fn layer(&mut self, tokens: usize) -> Result<LayerCache> {
        let [mut heads, mut head_dim, mut window, mut start, mut len] = [0; 5];
        for n in [&mut heads, &mut head_dim, &mut window, &mut start, &mut len] {
            *n = self.number()?;
        }
        let floats = heads.checked_mul(head_dim).and_then(|n| n.checked_mul(len)).ok_or_else(short)?;
        let fits = start.checked_add(len) == Some(tokens) && start.is_multiple_of(BLOCK);
        if !fits || (window == 0 && start > 0) {
            return Err(Error::invalid(format!("a layer of tokens {start} to {start} + {len} of {tokens}")));
        }
        let mut half = || -> Result<Vec<f32>> {
            let bytes =
                floats.checked_mul(4).and_then(|n| self.left.split_at_checked(n)).ok_or_else(short)?;
            self.left = bytes.1;
            Ok(bytes.0.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect())
        };
        let (k, v) = (half()?, half()?);
        let window = (window > 0).then_some(window);
        Ok(LayerCache { heads, head_dim, window, k, v, capacity: len, start, len })
    }
}

fn short() -> Error {
    Error::invalid("the cache ends in the middle of a layer")
}
