//! A cache as bytes.
//!
//! ```text
//!   "sbkv" version u32 │ type: 0 f32, 1 bf16, 2 int8 u64 │ layers, prefix, tokens u64 │ per layer: heads, head_dim, window
//!   (0: none), start, len u64, K then V │ checksum u64 of all before                  everything little-endian
//!   K, V   (heads, len, head_dim) of the type; int8: the codes, then (heads, len) scales f32
//! ```

use super::memory::{CacheType, Memory, Shape};
use super::{KvCache, LayerCache};
use crate::kernels::attention::BLOCK;
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;

const MAGIC: &[u8; 4] = b"sbkv";
const VERSION: u32 = 3;

impl KvCache {
    /// The cache as bytes, for [`KvCache::restore`]: what was added, not the room for more.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::from(*MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let number = |n: usize, bytes: &mut Vec<u8>| bytes.extend((n as u64).to_le_bytes());
        number(self.kind as usize, &mut bytes);
        number(self.layers.len(), &mut bytes);
        number(self.prefix, &mut bytes);
        number(self.tokens, &mut bytes);
        for layer in &self.layers {
            let Shape { heads, head_dim, .. } = layer.shape;
            for n in [heads, head_dim, layer.window.unwrap_or(0), layer.start, layer.len] {
                number(n, &mut bytes);
            }
            layer.k.save(layer.shape, layer.len, &mut bytes);
            layer.v.save(layer.shape, layer.len, &mut bytes);
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
        let kind = from.number()?;
        let known =
            || Error::invalid(format!("a cache of type {kind}; f32 (0), bf16 (1), int8 (2) are known"));
        let kind = *CacheType::ALL.get(kind).ok_or_else(known)?;
        let (count, prefix, tokens) = (from.number()?, from.number()?, from.number()?);
        let all = prefix.checked_add(tokens).ok_or_else(short)?;
        let mut layers = Vec::new();
        for _ in 0..count {
            layers.push(from.layer(kind, all)?);
        }
        match from.left {
            [] => Ok(KvCache { kind, layers, prefix, tokens }),
            more => Err(Error::invalid(format!("{} bytes after the last layer", more.len()))),
        }
    }
}

/// FNV-1a over words of eight bytes, the last one filled with zeros: it tells accidents, not attacks.
fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let mut eight = [0; 8];
        eight[..word.len()].copy_from_slice(word);
        (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The rest of a saved cache.
pub(super) struct Reader<'a> {
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

    /// `n` elements of `N` bytes; nothing is reserved before they are known to be there.
    pub fn elements<T, const N: usize>(&mut self, n: usize, of: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let parts = n.checked_mul(N).and_then(|n| self.left.split_at_checked(n)).ok_or_else(short)?;
        self.left = parts.1;
        Ok(parts.0.as_chunks().0.iter().map(|&x| of(x)).collect())
    }

    fn layer(&mut self, kind: CacheType, tokens: usize) -> Result<LayerCache> {
        let [mut heads, mut head_dim, mut window, mut start, mut len] = [0; 5];
        for n in [&mut heads, &mut head_dim, &mut window, &mut start, &mut len] {
            *n = self.number()?;
        }
        let fits = start.checked_add(len) == Some(tokens) && start.is_multiple_of(BLOCK);
        if !fits || (window == 0 && start > 0) {
            return Err(Error::invalid(format!("a layer of tokens {start} to {start} + {len} of {tokens}")));
        }
        let shape = Shape { heads, capacity: len, head_dim };
        let (k, v) = (Memory::restore(kind, shape, self)?, Memory::restore(kind, shape, self)?);
        Ok(LayerCache { shape, window: (window > 0).then_some(window), k, v, start, len })
    }
}

pub(super) fn short() -> Error {
    Error::invalid("the cache ends in the middle of a layer")
}
