//! Adding nodes.
//!
//! ```text
//!   batch    all search the graph as it is, side by side:  close nodes of every level ─► the links that each chooses
//!   then     in their order: a parent in the tree, their own links
//!   then     who was chosen is linked back; where links are too many, side by side: the best are chosen again
//! ```

use super::space::{MAX_NODES, Near, Probe, Space};
use super::walk::{Links, Walk};
use super::{Graph, GraphOptions, NONE};
use crate::rag::vectors::VectorsRef;
use crate::run::Run;
use crate::{Error, Result};

/// A batch is at most so small a part of the nodes that are there, and no more than so many.
const PART: usize = 32;
const BATCH: usize = 2048;
/// Nodes that search with the same memory.
const TOGETHER: usize = 16;

/// What a new node found on a level: the closest first.
type Found = Vec<Near>;

impl Graph {
    /// A graph over all rows of `vectors`.
    ///
    /// # Errors
    /// Where there are 2³¹ rows or more.
    pub fn build(run: &Run<'_>, vectors: &VectorsRef<'_>, options: GraphOptions) -> Result<Graph> {
        let mut graph = Graph::empty(vectors, options);
        graph.extend(run, vectors)?;
        Ok(graph)
    }

    /// Adds nodes for the rows of `vectors` behind those that have one.
    ///
    /// # Errors
    /// As [`Graph::build`].
    pub(super) fn extend(&mut self, run: &Run<'_>, vectors: &VectorsRef<'_>) -> Result<()> {
        if vectors.len() >= MAX_NODES {
            return Err(Error::TooLarge { shape: vec![vectors.len(), self.dim] });
        }
        while self.len() < vectors.len() {
            let (from, most) = (self.len(), (self.len() / PART).clamp(1, BATCH));
            let to = vectors.len().min(from + most);
            (from..to).for_each(|r| self.make(run.cpu(), vectors, r as u32));
            self.connect(run, from as u32..to as u32);
        }
        Ok(())
    }

    /// Links nodes that have no links with those before them.
    fn connect(&mut self, run: &Run<'_>, new: std::ops::Range<u32>) {
        if self.entry == NONE {
            // The first node is the root and has nobody to be linked with.
            self.entry = new.start;
            return;
        }
        let nodes: Vec<u32> = new.collect();
        let found = self.search_all(run, &nodes);
        // On each level, who was chosen and by whom.
        let mut back: Vec<(usize, u32, u32)> = Vec::new();
        for (&node, levels) in nodes.iter().zip(&found) {
            for (level, (near, chosen)) in levels.iter().enumerate() {
                let mut chosen = chosen.clone();
                if level == 0 {
                    let parent = self.adopt(node, near.iter().map(|near| near.node()));
                    if !chosen.contains(&parent) {
                        chosen.push(parent);
                    }
                }
                self.set_links(node, level, &chosen);
                back.extend(chosen.into_iter().map(|to| (level, to, node)));
            }
        }
        back.sort_unstable();
        self.link_back(run, &back);
        for node in nodes {
            if self.levels[node as usize] > self.levels[self.entry as usize] {
                self.entry = node;
            }
        }
    }

    /// What each of `nodes` finds on each of its levels, lowest first, and chooses.
    fn search_all(&self, run: &Run<'_>, nodes: &[u32]) -> Vec<Vec<(Found, Vec<u32>)>> {
        let mut found = vec![Vec::new(); nodes.len()];
        let cpu = run.cpu();
        run.pieces(nodes.chunks(TOGETHER).zip(found.chunks_mut(TOGETHER)), |(nodes, found), _| {
            let space = self.space(cpu);
            let (mut walk, mut choice) = (Walk::new(self.len()), Choice::new(&space));
            for (&node, found) in nodes.iter().zip(found) {
                *found = self.search_levels(&space, node, &mut walk, &mut choice);
            }
        });
        found
    }

    fn search_levels(
        &self,
        space: &Space<'_>,
        node: u32,
        walk: &mut Walk,
        choice: &mut Choice,
    ) -> Vec<(Found, Vec<u32>)> {
        let level = usize::from(self.levels[node as usize]);
        let mut found = vec![(Vec::new(), Vec::new()); level + 1];
        let top = usize::from(self.levels[self.entry as usize]);
        let mut probe = space.probe();
        space.of_node(node, &mut probe);
        let highest = level.min(top);
        walk.run(space, self, &probe, (highest, self.options.candidates));
        for level in (0..=highest).rev() {
            if level < highest {
                walk.widen(space, self, &probe, (level, self.options.candidates));
            }
            let chosen = choice.of(space, &walk.pool, &[], self.options.links);
            found[level] = (walk.pool.clone(), chosen);
        }
        found
    }

    /// Gives a node the first of `near` for a parent that has room for a child; returns it.
    pub(super) fn adopt(&mut self, node: u32, near: impl Iterator<Item = u32>) -> u32 {
        let most = (self.options.links / 2) as u8;
        let anyone = 0..self.len() as u32;
        // A tree of n nodes has n − 1 children in all: somebody has room.
        let has_room = |&other: &u32| {
            other != node && self.children[other as usize] < most && !self.is_below(other, node)
        };
        let parent = near.chain(anyone).find(has_room).unwrap_or(self.entry);
        self.parents[node as usize] = parent;
        self.children[parent as usize] += 1;
        parent
    }

    /// Whether `node` is `above` or has it among its ancestors.
    fn is_below(&self, node: u32, above: u32) -> bool {
        let mut at = node;
        while at != above {
            if self.parents[at as usize] == NONE {
                return false;
            }
            at = self.parents[at as usize];
        }
        true
    }

    /// Whether a link is one of the tree.
    pub(super) fn is_kept(&self, from: u32, to: u32) -> bool {
        self.parents[from as usize] == to || self.parents[to as usize] == from
    }

    /// Adds links (level, from, to), sorted.
    fn link_back(&mut self, run: &Run<'_>, back: &[(usize, u32, u32)]) {
        let mut crowded: Vec<(u32, usize, Vec<u32>)> = Vec::new();
        for of_one in back.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (level, from, _) = of_one[0];
            let mut links = self.links(from, level).to_vec();
            links.extend(of_one.iter().map(|link| link.2));
            if links.len() <= self.room(level) {
                self.set_links(from, level, &links);
            } else {
                crowded.push((from, level, links));
            }
        }
        self.choose_all(run, &mut crowded);
        for (node, level, links) in crowded {
            self.set_links(node, level, &links);
        }
    }

    /// For each (node, level, candidates): the best of the candidates in their place.
    pub(super) fn choose_all(&self, run: &Run<'_>, all: &mut [(u32, usize, Vec<u32>)]) {
        let cpu = run.cpu();
        run.pieces(all.chunks_mut(TOGETHER), |all, _| {
            let space = self.space(cpu);
            let mut choice = Choice::new(&space);
            for (node, level, candidates) in all {
                let kept = |to: &&u32| *level == 0 && self.is_kept(*node, **to);
                let kept: Vec<u32> = candidates.iter().filter(kept).copied().collect();
                let near = choice.sorted(&space, *node, candidates);
                *candidates = choice.of(&space, &near, &kept, self.room(*level));
            }
        });
    }
}

/// Choosing links: close ones, but none that is closer to one that was chosen before, for that leads there too.
pub(super) struct Choice {
    probe: Probe,
    alike: Vec<f32>,
}

impl Choice {
    fn new(space: &Space<'_>) -> Choice {
        Choice { probe: space.probe(), alike: Vec::new() }
    }

    /// Some nodes, the closest to `node` first.
    fn sorted(&mut self, space: &Space<'_>, node: u32, nodes: &[u32]) -> Vec<Near> {
        space.of_node(node, &mut self.probe);
        space.alike(&self.probe, nodes, &mut self.alike);
        let pairs = nodes.iter().zip(&self.alike);
        let mut near: Vec<Near> = pairs.map(|(&node, &alike)| Near::new(node, alike)).collect();
        near.sort_unstable_by(|a, b| b.cmp(a));
        near
    }

    /// At most `most` of `near`, the closest first there; `kept` in any case.
    fn of(&mut self, space: &Space<'_>, near: &[Near], kept: &[u32], most: usize) -> Vec<u32> {
        let mut chosen = kept.to_vec();
        for near in near {
            if chosen.len() >= most {
                break;
            }
            if chosen.contains(&near.node()) {
                continue;
            }
            space.of_node(near.node(), &mut self.probe);
            space.alike(&self.probe, &chosen, &mut self.alike);
            let pairs = self.alike.iter().zip(&chosen);
            let closer = |(&alike, &other): (&f32, &u32)| Near::new(other, alike).alike() >= near.alike();
            if !pairs.into_iter().any(closer) {
                chosen.push(near.node());
            }
        }
        chosen
    }
}
