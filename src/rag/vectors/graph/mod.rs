//! A graph of near neighbours on several levels: close vectors are found by looking at a few hundred, not at all.
//!
//! ```text
//!   level 2        o ─────────────── o                 a node of each level is one of the level below too;
//!   level 1        o ──── o ──────── o ──── o          each level has 1/M of the nodes of the one below
//!   level 0     o──o──o───o──o──o─o──o──o───o──o──o    at most 2 M links a node here, M above
//! ```
//!
//! Malkov and Yashunin 2016, *Efficient and robust approximate nearest neighbor search using hierarchical navigable small
//! world graphs*, with these differences:
//!
//! * **Walks compare codes, scores are dots.** Nodes are kept as int8 besides; a walk goes by their exact integer
//!   products, a quarter of the memory traffic. What it finds is given the score of the law's clause 2, as everywhere.
//! * **The same graph for any number of threads.** Nodes are added in batches, whose size is a matter of how many there
//!   are already: all of a batch search the graph as it was before, at once, then links are made in their order. A node's
//!   level comes from its number alone.
//! * **Every node can be reached.** Each is linked with a parent, both ways, and such links are never given up: a tree
//!   within the graph.
//! * **What is removed is gone.** Who was linked to it chooses anew among its neighbours' neighbours. After many
//!   removals the graph is built again.

mod build;
mod find;
mod index;
mod remove;
mod space;
mod stored;
mod walk;

pub use find::GraphSearch;
pub use index::GraphIndex;
pub use stored::GraphRef;

use super::memory::Bytes;
use super::stored::VectorsRef;
use crate::Cpu;
use crate::kernels::int8;
use crate::kernels::search::Codes;
use crate::random::Philox;
use space::{CODE, Space};
use walk::Links;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphOptions {
    /// M: links that a node chooses; on the lowest level it may have twice as many. 2 to 64.
    pub links: usize,
    /// Of how many close nodes it chooses them.
    pub candidates: usize,
}

impl Default for GraphOptions {
    /// 16 of 200.
    fn default() -> Self {
        GraphOptions { links: 16, candidates: 200 }
    }
}

/// No node.
const NONE: u32 = u32::MAX;

/// A graph over the rows of some vectors: node r is row r.
#[derive(Clone, Debug)]
pub struct Graph {
    options: GraphOptions,
    dim: usize,
    metric: super::Metric,
    levels: Vec<u8>,
    /// Of each node so many links, then room for 2 M.
    base: Vec<u32>,
    /// Of each node and each of its levels above 0 so many links, then room for M.
    upper: Vec<Vec<u32>>,
    /// The tree: a node's parent, or [`NONE`] of the root; and how many children it has.
    parents: Vec<u32>,
    children: Vec<u8>,
    entry: u32,
    codes: Bytes,
    scales: Vec<f32>,
    /// Under L2.
    squares: Vec<f32>,
    /// Nodes ever made: the number of the next.
    made: u64,
    /// Nodes removed since the graph was last built as a whole.
    removed: usize,
}

impl Graph {
    /// A graph without nodes, for vectors as `vectors` has them.
    fn empty(vectors: &VectorsRef<'_>, options: GraphOptions) -> Graph {
        let links = options.links.clamp(2, 64);
        Graph {
            options: GraphOptions { links, candidates: options.candidates.max(links) },
            dim: vectors.form.dim,
            metric: vectors.form.metric,
            levels: Vec::new(),
            base: Vec::new(),
            upper: Vec::new(),
            parents: Vec::new(),
            children: Vec::new(),
            entry: NONE,
            codes: Bytes::default(),
            scales: Vec::new(),
            squares: Vec::new(),
            made: 0,
            removed: 0,
        }
    }

    /// Nodes.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Nodes to which links lead from where walks begin, step by step, on the lowest level: all of them.
    pub fn reached(&self) -> usize {
        let (mut seen, mut open) = (vec![false; self.len()], Vec::new());
        if self.entry != NONE {
            seen[self.entry as usize] = true;
            open.push(self.entry);
        }
        let mut count = open.len();
        while let Some(node) = open.pop() {
            for &link in self.links(node, 0) {
                if !std::mem::replace(&mut seen[link as usize], true) {
                    open.push(link);
                    count += 1;
                }
            }
        }
        count
    }

    fn space(&self, cpu: Cpu) -> Space<'_> {
        let codes = Codes { code: CODE, k: self.dim, rows: self.codes.as_slice(), scales: &self.scales };
        Space { codes, squares: &self.squares, metric: self.metric, cpu }
    }

    /// Links that a node may have on a level.
    fn room(&self, level: usize) -> usize {
        if level == 0 { 2 * self.options.links } else { self.options.links }
    }

    /// A node's links on a level, as they are stored: their number first.
    fn slot(&mut self, node: u32, level: usize) -> &mut [u32] {
        let width = self.room(level) + 1;
        match level {
            0 => &mut self.base[node as usize * width..][..width],
            _ => &mut self.upper[node as usize][(level - 1) * width..][..width],
        }
    }

    fn set_links(&mut self, node: u32, level: usize, links: &[u32]) {
        let slot = self.slot(node, level);
        slot[0] = links.len() as u32;
        slot[1..=links.len()].copy_from_slice(links);
    }

    /// Makes a node without links of row `r` of `vectors`, the next one.
    fn make(&mut self, cpu: Cpu, vectors: &VectorsRef<'_>, r: u32) {
        let (x, mut codes) = (vectors.row(cpu, r), vec![0; self.dim]);
        let scale = int8::quantize(cpu, &x, &mut codes);
        let mut bytes = vec![0; CODE.row_bytes(self.dim)];
        bytes.iter_mut().zip(&codes).for_each(|(byte, code)| *byte = code.to_ne_bytes()[0]);
        self.codes.extend(&bytes);
        self.scales.push(scale);
        self.squares.extend(vectors.form.has_squares().then(|| vectors.square(r)));
        let level = level(self.made, self.options.links);
        self.made += 1;
        self.levels.push(level);
        self.base.resize(self.base.len() + self.room(0) + 1, 0);
        self.upper.push(vec![0; usize::from(level) * (self.room(1) + 1)]);
        self.parents.push(NONE);
        self.children.push(0);
    }
}

/// Level l or more for one of M^l numbers.
fn level(number: u64, links: usize) -> u8 {
    let [a, b, ..] = Philox::new(LEVELS).block([number as u32, (number >> 32) as u32, 0, 0]);
    let (mut draw, mut level) = (u64::from(b) << 32 | u64::from(a), 0);
    while level < MAX_LEVEL && draw.is_multiple_of(links as u64) {
        draw /= links as u64;
        level += 1;
    }
    level
}

/// The seed of levels.
const LEVELS: u64 = 0x6c65_7665_6c73;
/// The highest level.
const MAX_LEVEL: u8 = 15;

impl Links for Graph {
    fn links(&self, node: u32, level: usize) -> &[u32] {
        let (node, width) = (node as usize, self.room(level) + 1);
        let slot = match level {
            0 => &self.base[node * width..][..width],
            _ => &self.upper[node][(level - 1) * width..][..width],
        };
        &slot[1..=slot[0] as usize]
    }

    fn entry(&self) -> Option<(u32, usize)> {
        (self.entry != NONE).then(|| (self.entry, usize::from(self.levels[self.entry as usize])))
    }
}
