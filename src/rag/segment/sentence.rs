//! Sentences.

use super::{Property, tables};

static CLASSES: Property = Property::new(tables::SENTENCE);

// The numbers of tables.py.
const CR: u8 = 1;
const LF: u8 = 2;
const SEPARATOR: u8 = 3;
const EXTEND: u8 = 4;
const FORMAT: u8 = 5;
const SPACE: u8 = 6;
const LOWER: u8 = 7;
const UPPER: u8 = 8;
const LETTER: u8 = 9;
const NUMERIC: u8 = 10;
const STOP: u8 = 11;
const CONTINUE: u8 = 12;
const TERMINAL: u8 = 13;
const CLOSE: u8 = 14;

/// The sentences of a text, which together are the text, by the rules of Unicode alone: `Mr. ` is one.
pub const fn sentences(text: &str) -> Sentences<'_> {
    Sentences { rest: text, abbreviations: &[] }
}

/// The same, but no sentence ends behind an English abbreviation or a name's initial.
pub const fn prose(text: &str) -> Sentences<'_> {
    Sentences { rest: text, abbreviations: ABBREVIATIONS }
}

/// Words with a stop that do not end a sentence, in lower case. Those that often do (`etc.`, `Inc.`, `p.m.`) are not
/// among them: a sentence too short does less harm than one without an end.
const ABBREVIATIONS: &[&str] = &[
    "adm", "capt", "cf", "cmdr", "col", "dr", "e.g", "eq", "esp", "eqs", "fig", "figs", "gen", "gov", "hon",
    "i.e", "lt", "maj", "messrs", "mlle", "mme", "mr", "mrs", "ms", "mt", "no", "nos", "op", "pp", "prof",
    "pvt", "rep", "rev", "sen", "sgt", "st", "vol", "vols", "vs", "viz",
];

/// From [`sentences`] and [`prose`].
#[derive(Clone, Debug)]
pub struct Sentences<'t> {
    rest: &'t str,
    abbreviations: &'static [&'static str],
}

impl<'t> Iterator for Sentences<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (sentence, rest) = self.rest.split_at(self.first());
        self.rest = rest;
        Some(sentence)
    }
}

impl Sentences<'_> {
    /// Where the first sentence ends.
    fn first(&self) -> usize {
        let text = self.rest;
        let mut state = State::default();
        // Where the first terminator of the last run stands.
        let (mut stop, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            let class = CLASSES.class(c);
            if at > 0 && state.breaks(class, &text[at..]) {
                let by_line = matches!(state.raw, CR | LF | SEPARATOR);
                if by_line || !self.goes_on(&text[..stop], &text[stop..]) {
                    return at;
                }
            }
            if matches!(class, STOP | TERMINAL) && state.end == End::No {
                stop = at;
            }
            state.take(class);
            at += c.len_utf8();
            if state.end == End::No && !matches!(state.raw, CR | LF | SEPARATOR) {
                at = state.pass(text, at);
            }
        }
        text.len()
    }

    /// Whether a stop between these is that of an abbreviation or an initial.
    fn goes_on(&self, before: &str, stop: &str) -> bool {
        if self.abbreviations.is_empty() || !stop.starts_with('.') {
            return false;
        }
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '.')
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let word = &before[start..];
        // The pronoun often ends a sentence.
        let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
        initial || self.abbreviations.iter().any(|short| short.eq_ignore_ascii_case(word))
    }
}

/// How far the end of a sentence has come.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    No,
    /// A terminator, and what closes with it.
    Closing,
    /// Spaces after it.
    Spaces,
}

/// What has been read of a sentence, as far as it matters.
#[derive(Clone, Copy, Default)]
struct State {
    /// The class of the last character.
    raw: u8,
    /// The classes of the last two characters, marks and formats left out.
    before: u8,
    last: u8,
    end: End,
    /// The terminator is a stop, which does not always end a sentence.
    stop: bool,
}

impl State {
    fn take(&mut self, next: u8) {
        self.raw = next;
        if matches!(next, EXTEND | FORMAT) {
            return;
        }
        self.end = match (self.end, next) {
            (_, STOP | TERMINAL) | (End::Closing, CLOSE) => End::Closing,
            (End::Closing | End::Spaces, SPACE) => End::Spaces,
            _ => End::No,
        };
        if matches!(next, STOP | TERMINAL) {
            self.stop = next == STOP;
        }
        (self.before, self.last) = (self.last, next);
    }

    /// Goes from `at`, inside a sentence, past what can neither end one nor matters for how one ends.
    fn pass(&mut self, text: &str, at: usize) -> usize {
        let plain = text.as_bytes()[at..].iter().take_while(|&&byte| PLAIN[usize::from(byte)]).count();
        let end = at + plain;
        if plain >= 2 {
            let class = |at: usize| CLASSES.ascii(text.as_bytes()[at]);
            (self.before, self.last, self.raw) = (class(end - 2), class(end - 1), class(end - 1));
            return end;
        }
        at
    }

    /// The rules SB3 to SB998, in their order; `rest` begins with the next character.
    fn breaks(&self, next: u8, rest: &str) -> bool {
        match (self.raw, next) {
            (CR, LF) => return false,
            (CR | LF | SEPARATOR, _) => return true,
            (_, EXTEND | FORMAT) => return false,
            _ => {}
        }
        match (self.end, next) {
            (End::No, _) => false,
            _ if self.last == STOP && next == NUMERIC => false,
            _ if self.last == STOP && matches!(self.before, UPPER | LOWER) && next == UPPER => false,
            (_, CONTINUE | STOP | TERMINAL | SPACE | CR | LF | SEPARATOR) | (End::Closing, CLOSE) => false,
            _ => !(self.stop && lower_follows(rest)),
        }
    }
}

/// Bytes that are characters and nothing but letters, digits, spaces, or marks inside a sentence.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] =
            !matches!(CLASSES.ascii(byte as u8), CR | LF | SEPARATOR | EXTEND | FORMAT | STOP | TERMINAL);
        byte += 1;
    }
    plain
};

/// Whether the next letter is a small one, and no sentence could have ended before it.
fn lower_follows(rest: &str) -> bool {
    let mut classes = rest.chars().map(|c| CLASSES.class(c));
    let ends = |class| matches!(class, LETTER | UPPER | LOWER | CR | LF | SEPARATOR | STOP | TERMINAL);
    classes.find(|&class| ends(class)) == Some(LOWER)
}
