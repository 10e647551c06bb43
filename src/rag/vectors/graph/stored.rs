//! A graph in the bytes of a file.
//!
//! ```text
//!   0   "sbgraph\0" │ version u32 │ metric u8 │ 0 × 3 │ dim u64 │ nodes u64 │ M u32 │ candidates u32 │ made u64
//!   48  length of all u64 │ FNV-1a of all before u64
//!   64  levels    n u8                                                             each section starts at a multiple of
//!       base      n × (2 M + 1) u32: how many links, then room for them            64 and is padded with 0 to one
//!       parents   n u32, the root's 2³² − 1
//!       upper     (Σ levels) × (M + 1) u32: node by node, level by level from 1 on
//!       scales    n f32;   squares   n f32 under L2 alone;   codes   n × padded dim i8       all of it little-endian
//! ```
//!
//! The walk starts at the first node of the highest level. Every number of a node is checked when the bytes are parsed, so
//! that a walk cannot leave them.

use super::find::{Finder, GraphSearch};
use super::space::{CODE, MAX_NODES, Space};
use super::walk::Links;
use super::{Graph, GraphOptions, MAX_LEVEL, NONE};
use crate::io::checksum::xxh64;
use crate::kernels::line::numbers;
use crate::kernels::search::Codes;
use crate::rag::vectors::form::Metric;
use crate::rag::vectors::stored::{ALIGN, padded};
use crate::rag::vectors::{Form, VectorsRef};
use crate::run::Run;
use crate::{Error, Result};
use std::io::{self, Write};

const MAGIC: &[u8; 8] = b"sbgraph\0";
const VERSION: u32 = 1;

/// A graph over stored vectors, borrowed.
#[derive(Clone, Debug)]
pub struct GraphRef<'a> {
    head: Head,
    entry: u32,
    levels: &'a [u8],
    base: &'a [u32],
    parents: &'a [u32],
    upper: &'a [u32],
    /// Where a node's part of `upper` starts, in lists: of nodes that have one, ascending.
    starts: Vec<(u32, u32)>,
    scales: &'a [f32],
    squares: &'a [f32],
    codes: &'a [u8],
}

/// What the header says.
#[derive(Clone, Copy, Debug)]
struct Head {
    metric: Metric,
    dim: usize,
    nodes: usize,
    options: GraphOptions,
    made: u64,
    /// Lists above the lowest level.
    lists: usize,
}

impl Head {
    /// Bytes of the sections.
    fn sizes(&self) -> [usize; 7] {
        let (n, m) = (self.nodes, self.options.links);
        let squares = if self.metric == Metric::L2 { 4 * n } else { 0 };
        [
            n,
            4 * n * (2 * m + 1),
            4 * n,
            4 * self.lists * (m + 1),
            4 * n,
            squares,
            n * CODE.row_bytes(self.dim),
        ]
    }

    fn written_len(&self) -> usize {
        ALIGN + self.sizes().map(padded).iter().sum::<usize>()
    }

    fn bytes(&self) -> [u8; ALIGN] {
        let mut bytes = [0; ALIGN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12] = Metric::ALL.iter().position(|m| *m == self.metric).unwrap_or(0) as u8;
        let links = (self.options.candidates as u64) << 32 | self.options.links as u64;
        let numbers = [self.dim as u64, self.nodes as u64, links, self.made, self.written_len() as u64];
        for (at, number) in (16..).step_by(8).zip(numbers) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh64(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The header of `bytes`, but for the number of lists; and the length that it states.
    fn parse(bytes: &[u8]) -> Result<(Head, usize)> {
        let short = || Error::malformed(0, format!("{} bytes, a graph begins with {ALIGN}", bytes.len()));
        let head: &[u8; ALIGN] = bytes.first_chunk().ok_or_else(short)?;
        if head[..8] != MAGIC[..] {
            return Err(Error::malformed(0, "expected \"sbgraph\""));
        }
        let number =
            |at: usize| head[at..at + 8].iter().rev().fold(0u64, |x, &byte| x << 8 | u64::from(byte));
        if number(8) as u32 != VERSION {
            let what = format!("a graph of version {}, {VERSION} is known", number(8) as u32);
            return Err(Error::malformed(8, what));
        }
        if number(56) != xxh64(&head[..56]) {
            return Err(Error::malformed(56, "the checksum of the header is another: it was changed"));
        }
        let metric = Metric::ALL.get(usize::from(head[12]));
        let metric =
            *metric.ok_or_else(|| Error::malformed(12, format!("metric {} is not known", head[12])))?;
        let size = |at: usize| usize::try_from(number(at)).unwrap_or(usize::MAX);
        let form = Form::new(size(16), metric)?;
        let options =
            GraphOptions { links: number(32) as u32 as usize, candidates: (number(32) >> 32) as usize };
        if !(2..=64).contains(&options.links) || size(24) >= MAX_NODES.min(bytes.len()) {
            let what = format!("{} nodes of {} links in {} bytes", size(24), options.links, bytes.len());
            return Err(Error::malformed(24, what));
        }
        let (dim, nodes, made) = (form.dim(), size(24), number(40));
        Ok((Head { metric, dim, nodes, options, made, lists: 0 }, size(48)))
    }
}

impl<'a> GraphRef<'a> {
    /// The graph in `bytes`, which must start at a multiple of 64.
    ///
    /// # Errors
    /// Where it is none, of a version that is not known, not as long as it says, or a link leads nowhere.
    pub fn parse(bytes: &'a [u8]) -> Result<GraphRef<'a>> {
        let graph = GraphRef::parse_again(bytes)?;
        graph.check()?;
        Ok(graph)
    }

    /// [`GraphRef::parse`] of bytes that were parsed before: links are not looked at again.
    pub(in crate::rag) fn parse_again(bytes: &'a [u8]) -> Result<GraphRef<'a>> {
        let (mut head, stated) = Head::parse(bytes)?;
        let levels = bytes.get(ALIGN..ALIGN + head.nodes);
        let levels =
            levels.ok_or_else(|| Error::malformed(24, format!("{} nodes are cut off", head.nodes)))?;
        head.lists = levels.iter().map(|&level| usize::from(level)).sum();
        if stated != bytes.len() || head.written_len() != bytes.len() {
            let what =
                format!("{} bytes of a graph, {stated} stated, {} taken", bytes.len(), head.written_len());
            return Err(Error::malformed(48, what));
        }
        let mut at = ALIGN;
        let [levels, base, parents, upper, scales, squares, codes] = head.sizes().map(|len| {
            let start = at;
            at += padded(len);
            &bytes[start..start + len]
        });
        let unaligned = || Error::invalid("a graph that does not start at a multiple of 64 bytes");
        let whole = |bytes| numbers::<u32>(bytes).ok_or_else(unaligned);
        let float = |bytes| numbers::<f32>(bytes).ok_or_else(unaligned);
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(unaligned());
        }
        let tall = (0..).zip(levels).filter(|(_, level)| **level > 0);
        let starts = tall.scan(0, |next, (node, &level)| {
            let start = *next;
            *next += u32::from(level);
            Some((node, start))
        });
        let highest = (0..head.nodes).max_by_key(|&node| (levels[node], std::cmp::Reverse(node)));
        Ok(GraphRef {
            head,
            entry: highest.map_or(NONE, |node| node as u32),
            levels,
            base: whole(base)?,
            parents: whole(parents)?,
            upper: whole(upper)?,
            starts: starts.collect(),
            scales: float(scales)?,
            squares: float(squares)?,
            codes,
        })
    }

    /// Whether every link leads to a node that has its level, and every parent is one.
    fn check(&self) -> Result<()> {
        let (n, m) = (self.head.nodes as u32, self.head.options.links);
        let wrong = |what: String| Err(Error::invalid(what));
        if let Some(level) = self.levels.iter().find(|&&level| level > MAX_LEVEL) {
            return wrong(format!("a node of level {level}, the highest is {MAX_LEVEL}"));
        }
        for (node, list) in (0..n).zip(self.base.chunks_exact(2 * m + 1)) {
            if list[0] as usize > 2 * m || list[1..=list[0] as usize].iter().any(|&to| to >= n) {
                return wrong(format!("the links of node {node} lead out of the graph"));
            }
            let parent = self.parents[node as usize];
            if parent != NONE && (parent >= n || parent == node) {
                return wrong(format!("the parent of node {node} is no other node"));
            }
        }
        for &(node, start) in &self.starts {
            for level in 1..=self.levels[node as usize] {
                let list = &self.upper[(start as usize + usize::from(level) - 1) * (m + 1)..][..m + 1];
                let leads = |&to: &u32| to < n && self.levels[to as usize] >= level;
                if list[0] as usize > m || !list[1..=list[0] as usize].iter().all(leads) {
                    return wrong(format!("the links of node {node} on level {level} lead out of it"));
                }
            }
        }
        Ok(())
    }

    /// Nodes.
    pub fn len(&self) -> usize {
        self.head.nodes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.head.nodes == 0
    }

    /// The `k` closest rows of `vectors`, which the graph was built over, and their scores, of each of `queries`, (n, dim):
    /// the closest first, of equals the lower row.
    ///
    /// # Errors
    /// Where the vectors are others in number or form, or the queries not (n, dim) or not finite.
    pub fn search(
        &self,
        run: &Run<'_>,
        vectors: &VectorsRef<'_>,
        queries: &[f32],
        search: &GraphSearch<'_>,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        self.check_vectors(vectors)?;
        let codes = Codes { code: CODE, k: self.head.dim, rows: self.codes, scales: self.scales };
        let space = Space { codes, squares: self.squares, metric: self.head.metric, cpu: run.cpu() };
        Finder { graph: self, space, vectors: *vectors, rank: None }.find(run, queries, search)
    }

    fn check_vectors(&self, vectors: &VectorsRef<'_>) -> Result<()> {
        let (ours, theirs) = ((self.len(), self.head.dim), (vectors.len(), vectors.form.dim));
        if ours != theirs || self.head.metric != vectors.form.metric {
            let (n, dim) = ours;
            let what = format!(
                "a graph of {n} vectors of {dim} elements is not one of {theirs:?}, or of their metric"
            );
            return Err(Error::invalid(what));
        }
        Ok(())
    }

    /// A copy that can be changed.
    ///
    /// # Errors
    /// As [`GraphRef::search`], and where parents make no tree.
    pub(super) fn to_graph(&self, vectors: &VectorsRef<'_>) -> Result<Graph> {
        self.check_vectors(vectors)?;
        let mut graph = Graph::empty(vectors, self.head.options);
        let (n, width) = (self.len(), self.head.options.links + 1);
        graph.levels = self.levels.to_vec();
        graph.base = self.base.to_vec();
        graph.upper = vec![Vec::new(); n];
        for &(node, start) in &self.starts {
            let lists = usize::from(self.levels[node as usize]);
            graph.upper[node as usize] = self.upper[start as usize * width..][..lists * width].to_vec();
        }
        graph.parents = self.parents.to_vec();
        graph.children = count_children(self.parents)?;
        graph.entry = self.entry;
        graph.codes.extend(self.codes);
        graph.scales = self.scales.to_vec();
        graph.squares = self.squares.to_vec();
        graph.made = self.head.made;
        Ok(graph)
    }
}

/// How many children each node has, where parents make one tree.
fn count_children(parents: &[u32]) -> Result<Vec<u8>> {
    let no_tree = || Error::invalid("the parents of the nodes make no tree");
    let mut children = vec![0u8; parents.len()];
    for &parent in parents.iter().filter(|&&parent| parent != NONE) {
        let count = &mut children[parent as usize];
        *count = count.checked_add(1).ok_or_else(no_tree)?;
    }
    // Leaves first: what is left over goes round in a circle.
    let mut left: Vec<u8> = children.clone();
    let mut leaves: Vec<usize> = (0..parents.len()).filter(|&node| left[node] == 0).collect();
    let (mut taken, mut roots) = (0, 0);
    while let Some(leaf) = leaves.pop() {
        taken += 1;
        match parents[leaf] {
            NONE => roots += 1,
            parent => {
                left[parent as usize] -= 1;
                leaves.extend((left[parent as usize] == 0).then_some(parent as usize));
            }
        }
    }
    if taken != parents.len() || roots != parents.len().min(1) { Err(no_tree()) } else { Ok(children) }
}

impl Links for GraphRef<'_> {
    fn links(&self, node: u32, level: usize) -> &[u32] {
        let m = self.head.options.links;
        let list = match level {
            0 => &self.base[node as usize * (2 * m + 1)..][..2 * m + 1],
            _ => {
                let at = self.starts.partition_point(|start| start.0 < node);
                &self.upper[(self.starts[at].1 as usize + level - 1) * (m + 1)..][..m + 1]
            }
        };
        &list[1..=list[0] as usize]
    }

    fn entry(&self) -> Option<(u32, usize)> {
        (self.entry != NONE).then(|| (self.entry, usize::from(self.levels[self.entry as usize])))
    }
}

impl Graph {
    /// The graph as [`GraphRef::parse`] reads it, over vectors in the order of their rows.
    pub fn to_bytes(&self) -> Vec<u8> {
        let order: Vec<u32> = (0..self.len() as u32).collect();
        let mut bytes = Vec::new();
        self.write(&order, &mut bytes).expect("memory takes what is written to it");
        bytes
    }

    /// Writes the graph as [`GraphRef::parse`] reads it, its nodes in the order of `order`, which has each once.
    ///
    /// # Errors
    /// What `to` says.
    pub(super) fn write(&self, order: &[u32], to: &mut impl Write) -> io::Result<()> {
        let lists = self.levels.iter().map(|&level| usize::from(level)).sum();
        let (metric, dim, nodes, options) = (self.metric, self.dim, self.len(), self.options);
        let head = Head { metric, dim, nodes, options, made: self.made, lists };
        let mut place = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(&node, at)| place[node as usize] = at);
        let number = |&node: &u32| if node == NONE { NONE } else { place[node as usize] };
        let list = |bytes: &mut Vec<u8>, node: u32, level: usize| {
            let links = self.links(node, level);
            bytes.extend((links.len() as u32).to_le_bytes());
            links.iter().for_each(|link| bytes.extend(number(link).to_le_bytes()));
            bytes.resize(bytes.len() + 4 * (self.room(level) - links.len()), 0);
        };
        let mut sections: [Vec<u8>; 7] = Default::default();
        let row = CODE.row_bytes(self.dim);
        for &node in order {
            let at = node as usize;
            sections[0].push(self.levels[at]);
            list(&mut sections[1], node, 0);
            sections[2].extend(number(&self.parents[at]).to_le_bytes());
            (1..=usize::from(self.levels[at])).for_each(|level| list(&mut sections[3], node, level));
            sections[4].extend(self.scales[at].to_le_bytes());
            sections[5].extend(self.squares.get(at).into_iter().flat_map(|square| square.to_le_bytes()));
            sections[6].extend(&self.codes.as_slice()[at * row..][..row]);
        }
        to.write_all(&head.bytes())?;
        for section in sections {
            to.write_all(&section)?;
            to.write_all(&[0; ALIGN][..padded(section.len()) - section.len()])?;
        }
        Ok(())
    }
}
