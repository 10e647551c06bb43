//! Walking a graph: from node to node, always from the closest that was not left yet.

use super::space::{Near, Probe, Space};

/// Who is linked to whom.
pub(super) trait Links {
    /// The neighbours of a node on a level that it has.
    fn links(&self, node: u32, level: usize) -> &[u32];
    /// Where a walk begins: a node of the highest level, and that level.
    fn entry(&self) -> Option<(u32, usize)>;
}

/// Memory of a walk, for as many as come.
pub(super) struct Walk {
    seen: Vec<u64>,
    /// The closest so far, the closest first.
    pub pool: Vec<Near>,
    next: Vec<u32>,
    alike: Vec<f32>,
}

impl Walk {
    /// For graphs of `n` nodes.
    pub fn new(n: usize) -> Walk {
        Walk { seen: vec![0; n.div_ceil(64)], pool: Vec::new(), next: Vec::new(), alike: Vec::new() }
    }

    fn see(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.seen[node as usize / 64], 1 << (node % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    /// From the entry down to `level`, on each level above it to the closest node that greed finds; there the closest
    /// `ef` are left in the pool. Nothing where the graph is empty.
    pub fn run(&mut self, space: &Space<'_>, graph: &impl Links, probe: &Probe, (level, ef): (usize, usize)) {
        self.pool.clear();
        let Some((entry, top)) = graph.entry() else { return };
        space.alike(probe, &[entry], &mut self.alike);
        self.pool.push(Near::new(entry, self.alike[0]));
        for above in (level + 1..=top).rev() {
            self.widen(space, graph, probe, (above, 1));
        }
        self.widen(space, graph, probe, (level, ef));
    }

    /// The closest `ef` of `level` that are found from those in the pool on.
    pub fn widen(
        &mut self,
        space: &Space<'_>,
        graph: &impl Links,
        probe: &Probe,
        (level, ef): (usize, usize),
    ) {
        self.seen.fill(0);
        for i in 0..self.pool.len() {
            let node = self.pool[i].node();
            self.see(node);
            self.pool[i] = self.pool[i].opened();
        }
        let mut at = 0;
        while at < self.pool.len() {
            if !self.pool[at].is_open() {
                at += 1;
                continue;
            }
            self.pool[at].close();
            let node = self.pool[at].node();
            let mut next = std::mem::take(&mut self.next);
            next.clear();
            next.extend(graph.links(node, level).iter().filter(|&&link| self.see(link)));
            space.alike(probe, &next, &mut self.alike);
            let mut lowest = at + 1;
            for (&link, &alike) in next.iter().zip(&self.alike) {
                lowest = lowest.min(insert(&mut self.pool, Near::new(link, alike), ef));
            }
            self.next = next;
            at = lowest;
        }
    }
}

/// Puts `new` in its place among the best `ef`; returns the place, or the end where there is none.
fn insert(pool: &mut Vec<Near>, new: Near, ef: usize) -> usize {
    if pool.len() >= ef {
        if pool.last().is_some_and(|last| *last >= new) {
            return usize::MAX;
        }
        pool.pop();
    }
    let at = pool.partition_point(|near| *near > new);
    pool.insert(at, new);
    at
}
