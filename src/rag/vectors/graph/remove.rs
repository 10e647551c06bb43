//! Removing nodes: as if they had never been linked.

use super::walk::Links;
use super::{Graph, NONE};
use crate::Result;
use crate::rag::vectors::VectorsRef;
use crate::run::Run;

impl Graph {
    /// Removes nodes. `moved[old]` is the number that a node has afterwards, none higher than before, or [`NONE`] of one
    /// that goes; `vectors` are those that are left, in their new order.
    ///
    /// # Errors
    /// As [`Graph::build`].
    pub(super) fn remove(&mut self, run: &Run<'_>, moved: &[u32], vectors: &VectorsRef<'_>) -> Result<()> {
        let gone = moved.iter().filter(|&&to| to == NONE).count();
        self.removed += gone;
        // Once more are gone than are left, the graph is not what it would have been.
        if self.removed > vectors.len() {
            *self = Graph::build(run, vectors, self.options)?;
            return Ok(());
        }
        let root = self.parents.iter().position(|&parent| parent == NONE);
        let mut orphans = self.orphans(moved);
        if root.is_some_and(|root| moved[root] == NONE) && !orphans.is_empty() {
            orphans.remove(0); // it has no parent because it is the root now
        }
        let mut torn = self.torn(moved);
        self.renumber(moved);
        for (node, _, candidates) in &mut torn {
            *node = moved[*node as usize];
            candidates.iter_mut().for_each(|to| *to = moved[*to as usize]);
        }
        self.choose_all(run, &mut torn);
        for (node, level, links) in torn {
            self.set_links(node, level, &links);
        }
        for orphan in orphans {
            self.foster(run, moved[orphan as usize]);
        }
        Ok(())
    }

    /// Nodes that stay and whose parent goes, by their old numbers; they have none now.
    fn orphans(&mut self, moved: &[u32]) -> Vec<u32> {
        let mut orphans = Vec::new();
        for node in 0..self.len() as u32 {
            let parent = self.parents[node as usize];
            if parent == NONE {
                continue;
            }
            let (stays, parent_stays) = (moved[node as usize] != NONE, moved[parent as usize] != NONE);
            if !stays && parent_stays {
                self.children[parent as usize] -= 1;
            }
            if stays && !parent_stays {
                self.parents[node as usize] = NONE;
                orphans.push(node);
            }
        }
        orphans
    }

    /// (node, level, candidates) for each list that loses a link: what is left of it and what those that go were linked
    /// with, all by their old numbers.
    fn torn(&self, moved: &[u32]) -> Vec<(u32, usize, Vec<u32>)> {
        let mut torn = Vec::new();
        let stays = |node: &u32| moved[*node as usize] != NONE;
        for node in (0..self.len() as u32).filter(stays) {
            for level in 0..=usize::from(self.levels[node as usize]) {
                let links = self.links(node, level);
                if links.iter().all(stays) {
                    continue;
                }
                let lost = links.iter().filter(|&link| !stays(link));
                let theirs = lost.flat_map(|&link| self.links(link, level)).filter(|&&other| other != node);
                let mut candidates: Vec<u32> = links.iter().chain(theirs).copied().filter(stays).collect();
                candidates.sort_unstable();
                candidates.dedup();
                torn.push((node, level, candidates));
            }
        }
        torn
    }

    /// Every node to its new place, every link to its new number; those of nodes that go are left out.
    fn renumber(&mut self, moved: &[u32]) {
        let (width, row) = (self.room(0) + 1, super::CODE.row_bytes(self.dim));
        let stay = moved.iter().enumerate().filter(|(_, to)| **to != NONE);
        let mut new_and_old: Vec<(usize, usize)> = stay.map(|(old, &new)| (new as usize, old)).collect();
        // Ascending: a place is written when what was there has gone or has been moved further down.
        new_and_old.sort_unstable();
        for &(new, old) in new_and_old.iter().filter(|(new, old)| new != old) {
            self.levels[new] = self.levels[old];
            self.scales[new] = self.scales[old];
            self.children[new] = self.children[old];
            self.parents[new] = self.parents[old];
            self.upper[new] = std::mem::take(&mut self.upper[old]);
            self.base.copy_within(old * width..(old + 1) * width, new * width);
            self.codes.copy_row(old, new, row);
            if !self.squares.is_empty() {
                self.squares[new] = self.squares[old];
            }
        }
        let n = new_and_old.len();
        self.levels.truncate(n);
        self.scales.truncate(n);
        self.children.truncate(n);
        self.parents.truncate(n);
        self.upper.truncate(n);
        self.squares.truncate(n);
        self.base.truncate(n * width);
        self.codes.resize(n * row);
        for node in 0..n as u32 {
            let parent = &mut self.parents[node as usize];
            if *parent != NONE {
                *parent = moved[*parent as usize];
            }
            for level in 0..=usize::from(self.levels[node as usize]) {
                let slot = self.slot(node, level);
                let mut kept = 0;
                for i in 1..=slot[0] as usize {
                    let to = moved[slot[i] as usize];
                    if to != NONE {
                        kept += 1;
                        slot[kept] = to;
                    }
                }
                slot[0] = kept as u32;
            }
        }
        let highest = (0..n).max_by_key(|&node| (self.levels[node], std::cmp::Reverse(node)));
        self.entry = highest.map_or(NONE, |node| node as u32);
    }

    /// Gives a node without a parent one, and links them both ways.
    fn foster(&mut self, run: &Run<'_>, node: u32) {
        let near = self.links(node, 0).to_vec();
        let parent = self.adopt(node, near.into_iter());
        for (from, to) in [(node, parent), (parent, node)] {
            let mut links = self.links(from, 0).to_vec();
            if links.contains(&to) {
                continue;
            }
            links.push(to);
            if links.len() > self.room(0) {
                let mut crowded = [(from, 0, links)];
                self.choose_all(run, &mut crowded);
                let [(_, _, chosen)] = crowded;
                links = chosen;
            }
            self.set_links(from, 0, &links);
        }
    }
}
