//! Words, and what stands between them.

use super::{Property, tables};

static CLASSES: Property = Property::new(tables::WORD);

// The numbers of tables.py.
const CR: u8 = 1;
const LF: u8 = 2;
const NEWLINE: u8 = 3;
const EXTEND: u8 = 4;
const ZWJ: u8 = 5;
const FORMAT: u8 = 6;
const KATAKANA: u8 = 7;
const HEBREW: u8 = 8;
const LETTER_PICTURE: u8 = 9;
const LETTER: u8 = 10;
const SINGLE: u8 = 11;
const DOUBLE: u8 = 12;
const MID_NUM_LET: u8 = 13;
const MID_LETTER: u8 = 14;
const MID_NUM: u8 = 15;
const NUMERIC: u8 = 16;
const CONNECTOR: u8 = 17;
const SPACE: u8 = 18;
const FLAG: u8 = 19;
const PICTURE: u8 = 20;

/// The words of a text and what stands between them, which together are the text.
pub const fn words(text: &str) -> Words<'_> {
    Words { rest: text }
}

/// From [`words`].
#[derive(Clone, Debug)]
pub struct Words<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (word, rest) = self.rest.split_at(first(self.rest));
        self.rest = rest;
        Some(word)
    }
}

const fn letter(class: u8) -> bool {
    matches!(class, LETTER | LETTER_PICTURE | HEBREW)
}

const fn ignored(class: u8) -> bool {
    matches!(class, EXTEND | FORMAT | ZWJ)
}

/// Where the first word of `text` ends.
fn first(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, c)) = chars.next() else { return 0 };
    let mut state = State { before: 0, last: CLASSES.class(c), raw: CLASSES.class(c), half_flag: true };
    for (at, c) in chars {
        let next = CLASSES.class(c);
        if state.breaks(next, &text[at + c.len_utf8()..]) {
            return at;
        }
        state.take(next);
    }
    text.len()
}

/// What has been read of a word, as far as it matters.
struct State {
    /// The classes of the last two characters, marks and formats left out.
    before: u8,
    last: u8,
    /// The class of the last character.
    raw: u8,
    /// An odd number of regional indicators, up to the last character.
    half_flag: bool,
}

impl State {
    fn take(&mut self, next: u8) {
        self.raw = next;
        // Marks and formats are as if they were not there, but after a line's end, where nothing is before them.
        if !ignored(next) {
            self.half_flag = next != FLAG || self.last != FLAG || !self.half_flag;
            (self.before, self.last) = (self.last, next);
        }
    }

    /// The rules WB3 to WB999, in their order; `rest` is the text after the next character.
    fn breaks(&self, next: u8, rest: &str) -> bool {
        match (self.raw, next) {
            (CR, LF) | (ZWJ, PICTURE | LETTER_PICTURE) | (SPACE, SPACE) => return false,
            (CR | LF | NEWLINE, _) | (_, CR | LF | NEWLINE) => return true,
            (_, EXTEND | FORMAT | ZWJ) => return false,
            _ => {}
        }
        let follows = |wanted: fn(u8) -> bool| {
            let mut classes = rest.chars().map(|c| CLASSES.class(c));
            classes.find(|&class| !ignored(class)).is_some_and(wanted)
        };
        match (self.last, next) {
            (a, b) if letter(a) && letter(b) => false,
            (a, MID_LETTER | MID_NUM_LET | SINGLE) if letter(a) && follows(letter) => false,
            (MID_LETTER | MID_NUM_LET | SINGLE, b) if letter(self.before) && letter(b) => false,
            (HEBREW, SINGLE) => false,
            (HEBREW, DOUBLE) if follows(|class| class == HEBREW) => false,
            (DOUBLE, HEBREW) if self.before == HEBREW => false,
            (NUMERIC, NUMERIC) => false,
            (a, NUMERIC) if letter(a) => false,
            (NUMERIC, b) if letter(b) => false,
            (MID_NUM | MID_NUM_LET | SINGLE, NUMERIC) if self.before == NUMERIC => false,
            (NUMERIC, MID_NUM | MID_NUM_LET | SINGLE) if follows(|class| class == NUMERIC) => false,
            (KATAKANA, KATAKANA) => false,
            (NUMERIC | KATAKANA | CONNECTOR, CONNECTOR) | (CONNECTOR, NUMERIC | KATAKANA) => false,
            (a, CONNECTOR) if letter(a) => false,
            (CONNECTOR, b) if letter(b) => false,
            (FLAG, FLAG) => !self.half_flag,
            _ => true,
        }
    }
}
