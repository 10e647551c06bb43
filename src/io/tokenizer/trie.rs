//! A trie over bytes: which of many texts begin here?

use super::vocab::Table;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Texts with a number each. Edges lie in one table, keyed by node and byte.
pub(crate) struct Trie {
    edges: Table<u32>,
    /// By node: the number of the text that ends there, plus one; 0 for none.
    ends: Vec<u32>,
    /// By byte: the node after it, from the root; 0 for none.
    first: Box<[u32; 256]>,
}

/// A node; the root is [`Trie::ROOT`].
pub(crate) type Node = u32;

impl Trie {
    /// Where every text begins.
    pub const ROOT: Node = 0;

    /// An empty trie with room for `bytes` of text.
    pub fn with_capacity(bytes: usize) -> Trie {
        Trie { edges: Table::with_capacity(bytes), ends: vec![0], first: Box::new([0; 256]) }
    }

    /// Adds a text, or changes its number. `number` is below `u32::MAX`.
    pub fn insert(&mut self, text: &[u8], number: u32) {
        let mut node = Trie::ROOT;
        for &byte in text {
            node = self.step(node, byte).unwrap_or_else(|| {
                let new = self.ends.len() as u32;
                self.ends.push(0);
                if node == Trie::ROOT {
                    self.first[usize::from(byte)] = new;
                } else {
                    self.edges.insert(u64::from(node) << 8 | u64::from(byte), new);
                }
                new
            });
        }
        self.ends[node as usize] = number + 1;
    }

    /// The node after `byte`.
    #[inline]
    pub fn step(&self, node: Node, byte: u8) -> Option<Node> {
        if node == Trie::ROOT {
            return Some(self.first[usize::from(byte)]).filter(|&n| n != 0);
        }
        self.edges.get(u64::from(node) << 8 | u64::from(byte))
    }

    /// The number of the text that ends at `node`.
    #[inline]
    pub fn number(&self, node: Node) -> Option<u32> {
        self.ends[node as usize].checked_sub(1)
    }

    /// The longest text that `bytes` begins with: its length and number.
    pub fn longest(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let (mut node, mut found) = (Trie::ROOT, None);
        for (i, &byte) in bytes.iter().enumerate() {
            let Some(next) = self.step(node, byte) else { break };
            node = next;
            if let Some(number) = self.number(node) {
                found = Some((i + 1, number));
            }
        }
        found
    }
}
