//! Tables by text and by number: open addressing on slices, for builds without a hash map.

use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// No id.
pub(crate) const NONE: u32 = u32::MAX;

/// Mixes two words: the halves of their product, folded.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A hash of `bytes`, the same on every machine.
fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word), 0xa076_1d64_78bd_642f);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db)
}

/// The tokens of a model: text by id, id by text.
pub(crate) struct Vocab {
    /// All texts, one after the other.
    texts: Cow<'static, str>,
    /// By id: where its text stands in `texts`; `[NONE, 0]` where no token has the id.
    spans: Cow<'static, [[u32; 2]]>,
    /// Open addressing: an id, or [`NONE`].
    slots: Cow<'static, [u32]>,
    count: usize,
}

impl Vocab {
    /// Room for `count` tokens.
    pub fn with_capacity(count: usize) -> Vocab {
        let slots = vec![NONE; (2 * count).next_power_of_two().max(4)].into();
        Vocab { texts: Cow::default(), spans: Vec::with_capacity(count).into(), slots, count: 0 }
    }

    /// Tokens with the ids 0, 1, 2, ….
    pub fn from_texts<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> Result<Vocab> {
        let mut vocab = Vocab::with_capacity(texts.len());
        for (id, text) in texts.enumerate() {
            vocab.insert(text, id as u64)?;
        }
        Ok(vocab)
    }

    /// Adds a token. Neither text nor id may be there already, and ids must not leave wide gaps.
    pub fn insert(&mut self, text: &str, id: u64) -> Result<()> {
        let capacity = self.slots.len();
        if id > 2 * capacity as u64 + 65_536 {
            return Err(Error::invalid(format!(
                "token {text:?} has id {id}, far beyond the number of tokens"
            )));
        }
        if self.texts.len() + text.len() > u32::MAX as usize || self.count * 2 > capacity {
            return Err(Error::invalid("a vocabulary of more tokens or bytes than expected"));
        }
        let slot = self.slot(text);
        if self.slots[slot] != NONE {
            return Err(Error::invalid(format!("token {text:?} is both {} and {id}", self.slots[slot])));
        }
        let index = id as usize;
        if index >= self.spans.len() {
            self.spans.to_mut().resize(index + 1, [NONE, 0]);
        }
        if let Some(other) = self.text(id as u32) {
            return Err(Error::invalid(format!("tokens {other:?} and {text:?} share the id {id}")));
        }
        let start = self.texts.len() as u32;
        self.texts.to_mut().push_str(text);
        self.spans.to_mut()[index] = [start, self.texts.len() as u32];
        self.slots.to_mut()[slot] = id as u32;
        self.count += 1;
        Ok(())
    }

    /// The slot of `text`, or the free one where it belongs.
    fn slot(&self, text: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash(text.as_bytes()) as usize & mask;
        loop {
            match self.slots[at] {
                NONE => return at,
                id if self.text(id) == Some(text) => return at,
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// The id of a token.
    pub fn id(&self, text: &str) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        Some(self.slots[self.slot(text)]).filter(|&id| id != NONE)
    }

    /// The text of a token.
    pub fn text(&self, id: u32) -> Option<&str> {
        let &[start, end] = self.spans.get(id as usize)?;
        (start != NONE).then(|| &self.texts[start as usize..end as usize])
    }

    /// One past the largest id.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// How many tokens there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Writes its tables as they are read in place, with fewer free slots.
    pub fn write(&self, to: &mut Writer) -> Result<()> {
        to.text(&self.texts)?;
        to.table(&self.spans)?;
        let slots = vec![NONE; few_slots(self.count)].into();
        let mut few = Vocab { texts: self.texts.clone(), spans: self.spans.clone(), slots, count: 0 };
        for (id, text) in self.iter() {
            let slot = few.slot(text);
            few.slots.to_mut()[slot] = id;
        }
        to.table(&few.slots)
    }

    /// What [`Vocab::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Vocab> {
        let (texts, spans, slots) = (from.kept_text()?, from.table([0; 2])?, from.table(0)?);
        let (mut count, mut bytes, edge) = (0, 0, |at: u32| texts.is_char_boundary(at as usize));
        for &[start, end] in spans.iter().filter(|span| span[0] != NONE) {
            let inside = start <= end && edge(start) && edge(end);
            bytes += if inside { (end - start) as usize } else { 0 };
            // Nor do tokens share their bytes: what is made of them takes memory in proportion to the file.
            if !inside || bytes > texts.len() {
                return Err(from.error("a token outside of the texts"));
            }
            count += 1;
        }
        let known = |&id: &u32| id == NONE || (id as usize) < spans.len();
        if !slots.len().is_power_of_two() || !slots.contains(&NONE) || !slots.iter().all(known) {
            return Err(from.error("a table of tokens that cannot be searched"));
        }
        Ok(Vocab { texts, spans, slots, count })
    }

    /// All tokens by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.len() as u32).filter_map(|id| Some((id, self.text(id)?)))
    }
}

/// Slots of a table of `count` that is not going to grow, in memory that is scarce: a power of two, a fifth of it free.
pub(crate) fn few_slots(count: usize) -> usize {
    (count + count / 4 + 1).next_power_of_two()
}

/// A table from 64-bit keys to values; no key is `u64::MAX`.
#[derive(Debug)]
pub(crate) struct Table<V> {
    slots: Vec<(u64, V)>,
    count: usize,
}

impl<V: Copy + Default> Table<V> {
    const FREE: u64 = u64::MAX;

    /// Room for `count` keys; it grows beyond.
    pub fn with_capacity(count: usize) -> Table<V> {
        Table { slots: vec![(Self::FREE, V::default()); (2 * count).next_power_of_two().max(4)], count: 0 }
    }

    #[inline]
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = mix(key ^ 0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f) as usize & mask;
        while self.slots[at].0 != key && self.slots[at].0 != Self::FREE {
            at = (at + 1) & mask;
        }
        at
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: u64, value: V) {
        if self.count * 2 >= self.slots.len() {
            let mut larger = Table::with_capacity(self.slots.len());
            for &(key, value) in self.slots.iter().filter(|s| s.0 != Self::FREE) {
                larger.insert(key, value);
            }
            *self = larger;
        }
        let slot = self.slot(key);
        self.count += usize::from(self.slots[slot].0 == Self::FREE);
        self.slots[slot] = (key, value);
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: u64) -> Option<V> {
        let (found, value) = self.slots[self.slot(key)];
        (found == key).then_some(value)
    }
}
