//! How long a text is: what sizes and overlaps count.

use super::place::chars;
use crate::rag::segment;
use crate::{Error, Result};

/// What a size counts.
#[derive(Clone, Copy)]
pub enum Unit<'m> {
    /// Bytes of UTF-8.
    Bytes,
    /// Unicode scalar values.
    Chars,
    /// Runs of characters that are not white space.
    Words,
    /// Whatever a function says, as a model's tokens. It need not be additive, but a part of a text must not be longer
    /// than the text.
    Measured(&'m (dyn Fn(&str) -> usize + Sync)),
}

impl core::fmt::Debug for Unit<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Unit::Bytes => "Bytes",
            Unit::Chars => "Chars",
            Unit::Words => "Words",
            Unit::Measured(_) => "Measured",
        })
    }
}

impl Unit<'_> {
    /// Whether parts of `size` that overlap by `overlap` can be made of every text.
    pub(super) fn check(&self, size: usize, overlap: usize) -> Result<()> {
        let least = if matches!(self, Unit::Bytes) { 4 } else { 1 };
        if size < least {
            return Err(Error::invalid(format!("chunks of {size}: at least {least}")));
        }
        if overlap >= size {
            return Err(Error::invalid(format!(
                "an overlap of {overlap} in chunks of {size}: it must be smaller"
            )));
        }
        Ok(())
    }

    /// The length of `text`.
    pub fn len(&self, text: &str) -> usize {
        match self {
            Unit::Bytes => text.len(),
            Unit::Chars => chars(text),
            Unit::Words => text.split_whitespace().count(),
            Unit::Measured(measure) => measure(text),
        }
    }

    /// The bytes of the longest beginning of `text` that is not longer than `size`: whole characters.
    pub(super) fn front(&self, text: &str, size: usize) -> usize {
        match self {
            Unit::Bytes => segment::char_floor(text, size),
            Unit::Chars => nth_char(text, size),
            Unit::Words => {
                let mut inside = false;
                let mut words = 0;
                text.char_indices()
                    .find(|&(_, c)| {
                        words += usize::from(!inside && !c.is_whitespace());
                        inside = !c.is_whitespace();
                        words > size
                    })
                    .map_or(text.len(), |(at, _)| at)
            }
            Unit::Measured(measure) => {
                longest(text.len(), |n| segment::char_floor(text, n), |n| measure(&text[..n]) <= size)
            }
        }
    }

    /// The byte where the longest end of `text` that is not longer than `size` begins.
    pub(super) fn back(&self, text: &str, size: usize) -> usize {
        match self {
            Unit::Bytes => segment::char_ceil(text, text.len().saturating_sub(size)),
            Unit::Chars if size == 0 => text.len(),
            Unit::Chars => text.char_indices().rev().nth(size - 1).map_or(0, |(at, _)| at),
            Unit::Words => {
                let mut inside = false;
                let mut words = 0;
                let mut start = text.len();
                for (at, c) in text.char_indices().rev() {
                    words += usize::from(!inside && !c.is_whitespace());
                    inside = !c.is_whitespace();
                    if words > size {
                        break;
                    }
                    start = at;
                }
                start
            }
            Unit::Measured(measure) => {
                let n = text.len();
                let kept =
                    longest(n, |k| n - segment::char_ceil(text, n - k), |k| measure(&text[n - k..]) <= size);
                n - kept
            }
        }
    }
}

/// Where character `n` begins, or the end.
fn nth_char(text: &str, n: usize) -> usize {
    // In steps of which the characters can be counted at once.
    const STEP: usize = 128;
    let (mut at, mut left) = (0, n);
    loop {
        let end = segment::char_floor(text, at + STEP);
        let here = chars(&text[at..end]);
        if here > left || end == at {
            break;
        }
        (at, left) = (end, left - here);
    }
    text[at..].char_indices().nth(left).map_or(text.len(), |(more, _)| at + more)
}

/// The largest length up to `n` that fits, of those that `round` rounds down to: first by doubling, then by halving.
fn longest(n: usize, round: impl Fn(usize) -> usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut step) = (0, 64);
    let mut bad = n + 1;
    while good < n {
        let next = round((good + step).min(n));
        if next <= good {
            step *= 2;
        } else if fits(next) {
            (good, step) = (next, step * 2);
        } else {
            bad = next;
            break;
        }
    }
    while good + 1 < bad {
        let next = round(good + (bad - good) / 2);
        if next <= good {
            // No character ends in the lower half.
            let up = (good + 1..bad).map(&round).find(|&up| up > good);
            match up {
                Some(up) if up < bad && fits(up) => good = up,
                _ => break,
            }
        } else if fits(next) {
            good = next;
        } else {
            bad = next;
        }
    }
    good
}
