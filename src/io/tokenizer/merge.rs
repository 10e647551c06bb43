//! Joining neighbours: the loop that byte-pair encodings have in common.
//!
//! Of all neighbouring symbols that may be joined, the pair of the lowest rank is, and of several the
//! leftmost; until none is left. A word of a few dozen symbols is scanned again and again, without memory of
//! its own. A longer one (SentencePiece joins whole texts, and anybody may send ten million letters
//! without a space) keeps the places to look at in one list a rank: a list is filled in ascending order
//! but for a few stragglers, which wait in a heap, so that a run of one letter costs no logarithm.
//!
//! **Cost**: n log n steps at most, n in the cases that occur.

use super::vocab::{NONE, Table, few_slots, mix};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use alloc::borrow::Cow;
use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A token, and the bytes of the word that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub id: u32,
    pub start: u32,
    pub end: u32,
}

/// Which neighbours may be joined.
pub(crate) trait Joins {
    /// The rank of a pair, the lower the sooner, and the id of the result.
    fn joined(&self, left: Symbol, right: Symbol) -> Option<(u32, u32)>;
}

/// Pairs of ids that may be joined.
pub(crate) struct Merges {
    /// Open addressing: left, right, rank and result; left is [`NONE`] where a slot is free.
    slots: Cow<'static, [[u32; 4]]>,
}

/// A slot that is free.
const FREE: [u32; 4] = [NONE; 4];

/// The slot of a pair, or the free one where it belongs.
#[inline]
fn slot(slots: &[[u32; 4]], left: u32, right: u32) -> usize {
    let mask = slots.len() - 1;
    let key = u64::from(left) << 32 | u64::from(right);
    let mut at = mix(key ^ 0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f) as usize & mask;
    while slots[at][..2] != [left, right] && slots[at][0] != NONE {
        at = (at + 1) & mask;
    }
    at
}

impl Merges {
    /// No pair yet, room for `count`.
    pub fn with_capacity(count: usize) -> Merges {
        Merges { slots: vec![FREE; (2 * count).next_power_of_two().max(4)].into() }
    }

    /// Lets `left` and `right` be joined to `id`.
    pub fn insert(&mut self, left: u32, right: u32, rank: u32, id: u32) {
        let slots = self.slots.to_mut();
        let slot = slot(slots, left, right);
        slots[slot] = [left, right, rank, id];
    }

    /// Writes the table as it is read in place, with fewer free slots; filled by rank, so that it is the same table
    /// whatever the one before looked like.
    pub fn write(&self, to: &mut Writer) -> Result<()> {
        let taken = (0..).zip(self.slots.iter()).filter(|(_, slot)| slot[0] != NONE);
        let mut by_rank: Vec<u64> = taken.map(|(i, slot)| u64::from(slot[2]) << 32 | i).collect();
        by_rank.sort_unstable();
        let mut few = Merges { slots: vec![FREE; few_slots(by_rank.len())].into() };
        for place in by_rank {
            let [left, right, rank, id] = self.slots[(place & 0xffff_ffff) as usize];
            few.insert(left, right, rank, id);
        }
        to.table(&few.slots)
    }

    /// What [`Merges::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Merges> {
        let slots = from.table([0; 4])?;
        if !slots.len().is_power_of_two() || !slots.iter().any(|slot| slot[0] == NONE) {
            return Err(from.error("a table of merges that cannot be searched"));
        }
        Ok(Merges { slots })
    }
}

impl Joins for Merges {
    #[inline]
    fn joined(&self, left: Symbol, right: Symbol) -> Option<(u32, u32)> {
        let [found, _, rank, id] = self.slots[slot(&self.slots, left.id, right.id)];
        (found != NONE).then_some((rank, id))
    }
}

/// Words of up to so many symbols are scanned.
const SHORT: usize = 48;

/// Joins what can be joined in `word`.
pub(crate) fn join_all(joins: &impl Joins, word: &mut Vec<Symbol>) {
    if word.len() <= SHORT { scan(joins, word) } else { Long::new(joins, core::mem::take(word)).run(word) }
}

fn scan(joins: &impl Joins, word: &mut Vec<Symbol>) {
    let mut pairs = [(NONE, NONE); SHORT]; // rank and result of each symbol with the next
    for i in 1..word.len() {
        pairs[i - 1] = joins.joined(word[i - 1], word[i]).unwrap_or((NONE, NONE));
    }
    while word.len() > 1 {
        let mut best = 0;
        for i in 1..word.len() - 1 {
            if pairs[i].0 < pairs[best].0 {
                best = i;
            }
        }
        let (rank, id) = pairs[best];
        if rank == NONE {
            return;
        }
        word[best] = Symbol { id, start: word[best].start, end: word[best + 1].end };
        word.remove(best + 1);
        pairs.copy_within(best + 1.., best);
        let found = |i: usize| joins.joined(word[i], word[i + 1]).unwrap_or((NONE, NONE));
        if best + 1 < word.len() {
            pairs[best] = found(best);
        }
        if best > 0 {
            pairs[best - 1] = found(best - 1);
        }
    }
}

/// The places at which pairs of one rank may stand.
#[derive(Default)]
struct Bucket {
    /// Those known when the bucket was opened, ascending; read up to `cursor`.
    places: Vec<u32>,
    cursor: usize,
    /// Those that came later.
    late: BinaryHeap<Reverse<u32>>,
    open: bool,
    /// Whether its rank is among [`Long::ranks`].
    queued: bool,
}

impl Bucket {
    fn push(&mut self, place: u32) {
        if self.open { self.late.push(Reverse(place)) } else { self.places.push(place) }
    }

    /// The leftmost place.
    fn pop(&mut self) -> Option<u32> {
        if !self.open {
            self.places.sort_unstable();
            self.open = true;
        }
        let (next, late) = (self.places.get(self.cursor).copied(), self.late.peek().map(|r| r.0));
        match (next, late) {
            (None, None) => None,
            (Some(place), late) if late.is_none_or(|l| place <= l) => {
                self.cursor += 1;
                Some(place)
            }
            _ => self.late.pop().map(|r| r.0),
        }
    }

    fn close(&mut self) {
        self.places.clear();
        (self.cursor, self.open, self.queued) = (0, false, false);
    }
}

/// A long word: a linked list of symbols, and the places to look at by rank.
struct Long<'a, J> {
    joins: &'a J,
    /// Those joined to their left neighbour have the id [`NONE`].
    symbols: Vec<Symbol>,
    previous: Vec<u32>,
    next: Vec<u32>,
    buckets: Vec<Bucket>,
    /// The bucket of a rank.
    of_rank: Table<u32>,
    /// The ranks that have something to look at.
    ranks: BinaryHeap<Reverse<u32>>,
}

impl<'a, J: Joins> Long<'a, J> {
    fn new(joins: &'a J, symbols: Vec<Symbol>) -> Self {
        let n = symbols.len() as u32;
        let mut long = Long {
            joins,
            symbols,
            previous: (0..n).map(|i| i.wrapping_sub(1)).collect(),
            next: (1..n).chain([NONE]).collect(),
            buckets: Vec::new(),
            of_rank: Table::with_capacity(64),
            ranks: BinaryHeap::new(),
        };
        (0..n).for_each(|i| long.look(i));
        long
    }

    /// Notes that the symbol at `left` and the next one may be joined.
    fn look(&mut self, left: u32) {
        if left == NONE || self.next[left as usize] == NONE {
            return;
        }
        let right = self.next[left as usize];
        let found = self.joins.joined(self.symbols[left as usize], self.symbols[right as usize]);
        let Some((rank, _)) = found else { return };
        let index = self.of_rank.get(rank.into()).unwrap_or_else(|| {
            self.of_rank.insert(rank.into(), self.buckets.len() as u32);
            self.buckets.push(Bucket::default());
            self.buckets.len() as u32 - 1
        });
        let bucket = &mut self.buckets[index as usize];
        bucket.push(left);
        if !bucket.queued {
            bucket.queued = true;
            self.ranks.push(Reverse(rank));
        }
    }

    fn run(mut self, word: &mut Vec<Symbol>) {
        while let Some(&Reverse(rank)) = self.ranks.peek() {
            let index = self.of_rank.get(rank.into()).expect("a queued rank has a bucket") as usize;
            match self.buckets[index].pop() {
                Some(place) => self.join(place, rank),
                None => {
                    self.buckets[index].close();
                    self.ranks.pop();
                }
            }
        }
        *word = self.symbols;
        word.retain(|s| s.id != NONE);
    }

    /// Joins the symbol at `left` and the next, if they still are a pair of that rank.
    fn join(&mut self, left: u32, rank: u32) {
        let (i, right) = (left as usize, self.next[left as usize]);
        if self.symbols[i].id == NONE || right == NONE {
            return;
        }
        let j = right as usize;
        let Some((now, id)) = self.joins.joined(self.symbols[i], self.symbols[j]) else { return };
        if now != rank {
            return;
        }
        self.symbols[i] = Symbol { id, start: self.symbols[i].start, end: self.symbols[j].end };
        self.symbols[j].id = NONE;
        self.next[i] = self.next[j];
        if self.next[i] != NONE {
            self.previous[self.next[i] as usize] = left;
        }
        self.look(self.previous[i]);
        self.look(left);
    }
}

/// The ids of the 256 tokens `<0x00>` … `<0xFF>`, which stand for bytes; [`NONE`] for those missing.
pub(crate) fn byte_tokens(id: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    let mut ids = vec![NONE; 256];
    for (byte, slot) in ids.iter_mut().enumerate() {
        *slot = id(&alloc::format!("<0x{byte:02X}>")).unwrap_or(NONE);
    }
    ids
}
