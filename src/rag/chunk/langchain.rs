//! `RecursiveCharacterTextSplitter` of LangChain (langchain-text-splitters 1.x), to the letter, for who moves from it:
//! sizes in Unicode scalar values, separators kept in front, white space stripped, and a chunk longer than its size
//! where no separator helps.

use super::place::chars;
use core::ops::Range;

/// Its options.
#[derive(Clone, Debug)]
pub(super) struct Recursive {
    pub(super) separators: Vec<String>,
    pub(super) size: usize,
    pub(super) overlap: usize,
}

impl Recursive {
    /// The chunks of `text`.
    pub(super) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        // Ranges still to be split, with the separators that are left for them; the next one last.
        let mut todo = vec![Work::Split(0..text.len(), 0)];
        while let Some(work) = todo.pop() {
            match work {
                Work::Merge(pieces) => self.merge(text, &pieces, &mut chunks),
                Work::Keep(piece) => chunks.extend(Some(piece).filter(|p| !p.is_empty())),
                Work::Split(range, from) => {
                    let mut steps = self.steps(text, range, from);
                    steps.reverse();
                    todo.append(&mut steps);
                }
            }
        }
        chunks
    }

    /// What has to be done with a range, in order.
    fn steps(&self, text: &str, range: Range<usize>, from: usize) -> Vec<Work> {
        let part = &text[range.clone()];
        let left = &self.separators[from..];
        let found = left.iter().position(|s| part.contains(&**s)).unwrap_or(left.len().saturating_sub(1));
        let separator = left.get(found).map_or("", |s| &**s);
        // Behind the empty separator no other is tried, and the last one is not tried twice.
        let rest = from + found + 1;
        let last = separator.is_empty() || rest >= self.separators.len();
        let (mut steps, mut good) = (Vec::new(), Vec::new());
        for piece in pieces(part, separator) {
            let piece = range.start + piece.start..range.start + piece.end;
            if chars(&text[piece.clone()]) < self.size {
                good.push(piece);
                continue;
            }
            if !good.is_empty() {
                steps.push(Work::Merge(core::mem::take(&mut good)));
            }
            steps.push(if last { Work::Keep(piece) } else { Work::Split(piece, rest) });
        }
        if !good.is_empty() {
            steps.push(Work::Merge(good));
        }
        steps
    }

    /// Joins neighbours as long as they fit; of a full chunk's end, what the overlap allows begins the next.
    fn merge(&self, text: &str, pieces: &[Range<usize>], chunks: &mut Vec<Range<usize>>) {
        let len = |i: usize| chars(&text[pieces[i].clone()]);
        let mut emit = |first: usize, end: usize| {
            if first < end {
                chunks.extend(
                    Some(strip(text, pieces[first].start..pieces[end - 1].end)).filter(|c| !c.is_empty()),
                );
            }
        };
        let (mut first, mut total) = (0, 0);
        for next in 0..pieces.len() {
            let more = len(next);
            if total + more > self.size {
                emit(first, next);
                while first < next && (total > self.overlap || total + more > self.size && total > 0) {
                    total -= len(first);
                    first += 1;
                }
            }
            total += more;
        }
        emit(first, pieces.len());
    }
}

enum Work {
    Split(Range<usize>, usize),
    Merge(Vec<Range<usize>>),
    Keep(Range<usize>),
}

/// `text` cut in front of every separator; into characters where that is empty.
fn pieces(text: &str, separator: &str) -> Vec<Range<usize>> {
    let cuts: Vec<usize> = match separator {
        "" => text.char_indices().map(|(at, _)| at).collect(),
        separator => text.match_indices(separator).map(|(at, _)| at).collect(),
    };
    let starts = core::iter::once(0).chain(cuts.iter().copied().filter(|&at| at > 0));
    let ends = cuts.iter().copied().filter(|&at| at > 0).chain([text.len()]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|piece| !piece.is_empty()).collect()
}

/// Without white space at its ends, as Python's `str.strip` sees it.
fn strip(text: &str, range: Range<usize>) -> Range<usize> {
    let space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    let part = &text[range.clone()];
    let front = part.len() - part.trim_start_matches(space).len();
    let inner = part.trim_matches(space).len();
    range.start + front..range.start + front + inner
}
