//! Graphemes: what a reader takes for one character.

use super::{Property, char_floor, tables};

static CLASSES: Property = Property::new(tables::GRAPHEME);

// The numbers of tables.py; 17 is added here.
const CR: u8 = 1;
const LF: u8 = 2;
const CONTROL: u8 = 3;
const ZWJ: u8 = 4;
const LINKER: u8 = 5;
const JOINER: u8 = 6;
const EXTEND: u8 = 7;
const FLAG: u8 = 8;
const PREPEND: u8 = 9;
const SPACING: u8 = 10;
const L: u8 = 11;
const V: u8 = 12;
const T: u8 = 13;
const LV: u8 = 14;
const PICTURE: u8 = 15;
const CONSONANT: u8 = 16;
const LVT: u8 = 17;

fn class(c: char) -> u8 {
    match CLASSES.class(c) {
        // Every 28th Hangul syllable has no final consonant.
        LV if !(c as u32 - 0xac00).is_multiple_of(28) => LVT,
        class => class,
    }
}

/// The graphemes of a text, which together are the text.
pub const fn graphemes(text: &str) -> Graphemes<'_> {
    Graphemes { rest: text }
}

/// From [`graphemes`].
#[derive(Clone, Debug)]
pub struct Graphemes<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Graphemes<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (grapheme, rest) = self.rest.split_at(first(self.rest));
        self.rest = rest;
        Some(grapheme)
    }
}

/// Where the first grapheme of `text` ends.
fn first(text: &str) -> usize {
    if let [a, b, ..] = text.as_bytes()
        && a.is_ascii()
        && b.is_ascii()
        && *a != b'\r'
    {
        return 1;
    }
    let mut state = State::default();
    text.char_indices()
        .find(|&(at, c)| state.breaks_before(class(c)) && at > 0)
        .map_or(text.len(), |(at, _)| at)
}

/// The last place at or before `at` where a grapheme ends; `from` is such a place, or the start of the text.
///
/// The time is that of the characters in between that could belong together: none, in most scripts.
///
/// # Panics
/// Where `from` is past `at`, or inside a character.
pub fn floor(text: &str, from: usize, at: usize) -> usize {
    assert!(from <= at && text.is_char_boundary(from), "from {from} to {at}");
    let at = char_floor(text, at);
    let mut safe = at;
    while safe > from && !surely(text, safe) {
        safe = char_floor(text, safe - 1);
    }
    let mut end = safe;
    for grapheme in graphemes(&text[safe..]) {
        if end + grapheme.len() > at {
            break;
        }
        end += grapheme.len();
    }
    end
}

/// The first place at or behind `at` where a grapheme ends, likewise.
///
/// # Panics
/// As [`floor`].
pub fn ceil(text: &str, from: usize, at: usize) -> usize {
    let whole = floor(text, from, at);
    whole + if whole == at { 0 } else { first(&text[whole..]) }
}

/// Whether a grapheme ends at `at`, whatever stands before the two characters there.
fn surely(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    let (Some(a), Some(b)) = (before.chars().next_back(), after.chars().next()) else { return true };
    if a.is_ascii() && b.is_ascii() {
        return (a, b) != ('\r', '\n');
    }
    let alone = |c| matches!(class(c), 0 | CR | LF | CONTROL);
    alone(a) && alone(b)
}

/// What has been read of a grapheme, as far as it matters.
#[derive(Clone, Copy, Default)]
struct State {
    /// The class of the last character.
    last: u8,
    /// An odd number of regional indicators, up to the last character.
    half_flag: bool,
    /// A pictograph and marks, up to the last character, or before it where that is a joiner.
    picture: bool,
    /// A consonant of a conjunct (1), with a linker (2).
    conjunct: u8,
}

impl State {
    /// Takes the next character in; whether a grapheme ends before it.
    fn breaks_before(&mut self, next: u8) -> bool {
        let breaks = self.rule(next);
        *self = State {
            last: next,
            half_flag: next == FLAG && (breaks || !self.half_flag),
            picture: next == PICTURE
                || self.picture && matches!(next, EXTEND | JOINER | LINKER | ZWJ) && self.last != ZWJ,
            conjunct: match next {
                CONSONANT => 1,
                LINKER if self.conjunct > 0 => 2,
                JOINER | ZWJ => self.conjunct,
                _ => 0,
            },
        };
        breaks
    }

    /// The rules GB3 to GB999, in their order.
    fn rule(&self, next: u8) -> bool {
        match (self.last, next) {
            (CR, LF) => false,
            (CR | LF | CONTROL, _) | (_, CR | LF | CONTROL) => true,
            (L, L | V | LV | LVT) | (LV | V, V | T) | (LVT | T, T) => false,
            (_, EXTEND | JOINER | LINKER | ZWJ | SPACING) | (PREPEND, _) => false,
            (_, CONSONANT) if self.conjunct == 2 => false,
            (ZWJ, PICTURE) => !self.picture,
            (FLAG, FLAG) => !self.half_flag,
            _ => true,
        }
    }
}
