//! The loop of every chunker that cuts by levels: from each start as far as fits, back to the best place, and on.

use super::levels::Level;
use super::measure::Unit;
use crate::rag::segment;
use core::ops::Range;

/// How a text is cut.
#[derive(Clone, Debug)]
pub(super) struct Plan<'m> {
    pub(super) unit: Unit<'m>,
    /// Units of a chunk at most.
    pub(super) size: usize,
    /// Units at most that a chunk has in common with the one before.
    pub(super) overlap: usize,
    /// Where it is best cut, the best first; none: where the size says.
    pub(super) levels: Vec<Level>,
}

/// The chunks of one text, from front to back: starts grow, and ends.
pub(super) struct Packing<'p, 't> {
    plan: &'p Plan<'p>,
    text: &'t str,
    start: usize,
    /// Where the chunk before ended.
    done: usize,
}

impl<'p, 't> Packing<'p, 't> {
    pub(super) const fn new(plan: &'p Plan<'p>, text: &'t str) -> Self {
        Packing { plan, text, start: 0, done: 0 }
    }

    /// The furthest end of a chunk: behind a whole grapheme where one fits, else behind a whole character.
    fn furthest(&self) -> usize {
        let rest = &self.text[self.start..];
        let fits = self.start + self.plan.unit.front(rest, self.plan.size);
        match segment::floor(self.text, self.start, fits) {
            end if end > self.start => end,
            _ if fits > self.start => fits,
            _ => self.start + rest.chars().next().map_or(0, char::len_utf8),
        }
    }

    /// The best end in `least..=most`: of the highest level that leaves the chunk at least half full, or else of the
    /// highest at all.
    fn cut(&self, least: usize, most: usize) -> usize {
        let half = least.max(self.start + (most - self.start) / 2);
        let best = |cuts: Range<usize>| {
            let found = self.plan.levels.iter().filter_map(|level| level.last(self.text, self.start, &cuts));
            let whole = found.map(|at| segment::floor(self.text, self.start, at));
            whole.into_iter().find(|&at| at >= least)
        };
        best(half..most + 1).or_else(|| best(least..half)).unwrap_or(most)
    }

    /// Where the chunk behind `start..end` begins.
    fn next_start(&self, end: usize) -> usize {
        let (start, plan) = (self.start, self.plan);
        if plan.overlap == 0 {
            return end;
        }
        let least = start + plan.unit.back(&self.text[start..end], plan.overlap);
        let least = segment::char_ceil(self.text, least.max(start + 1));
        let found = plan.levels.iter().find_map(|level| level.first(self.text, start, &(least..end)));
        segment::ceil(self.text, start, found.unwrap_or(least)).min(end)
    }
}

impl Iterator for Packing<'_, '_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.done == self.text.len() {
            return None;
        }
        let mut most = self.furthest();
        if most <= self.done {
            // Nothing more fits behind the overlap.
            self.start = self.done;
            most = self.furthest();
        }
        let end = if most == self.text.len() { most } else { self.cut(self.done + 1, most) };
        let chunk = self.start..end;
        (self.start, self.done) = (self.next_start(end), end);
        Some(chunk)
    }
}
