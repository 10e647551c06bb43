//! Pre-tokenizers: how a text is cut into the words that the model then sees one by one.

use super::aligned::Aligned;
use super::patterns::{GPT2, Pattern};
use super::unicode::{Set, is_punctuation, is_space, is_word};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// One step of cutting.
#[derive(Debug)]
pub(crate) enum PreTokenizer {
    /// Bytes become characters that are visible; by default cut by GPT-2's pattern before.
    ByteLevel {
        /// Each word gets a space in front unless it begins with one.
        prefix_space: bool,
        /// Whether to cut.
        cut: bool,
    },
    /// Spaces become `▁` and words are cut before them.
    Metaspace {
        /// What a space becomes.
        replacement: char,
        /// Where one is put in front.
        prepend: Prepend,
        /// Whether to cut.
        cut: bool,
    },
    /// `\w+|[^\w\s]+`
    Whitespace,
    /// What stands between white space.
    WhitespaceSplit,
    /// What stands between white space, punctuation characters by themselves.
    Bert,
    /// Numbers apart from the rest.
    Digits {
        /// Digit by digit.
        individually: bool,
    },
    /// Punctuation apart from the rest.
    Punctuation(Behavior),
    /// A pattern apart from the rest.
    Split {
        /// The pattern.
        pattern: Pattern,
        /// What becomes of its matches.
        behavior: Behavior,
        /// Whether the matches are what stands between the pattern's.
        invert: bool,
    },
}

/// Where Metaspace puts its `▁` in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepend {
    /// Every word.
    Always,
    /// The word that begins the text.
    First,
    /// None.
    Never,
}

/// What becomes of the matches by which a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// They go.
    Removed,
    /// Each is a word.
    Isolated,
    /// Each joins what is before it.
    MergedWithPrevious,
    /// Each joins what is after it.
    MergedWithNext,
    /// Neighbouring ones are one word.
    Contiguous,
}

/// A text and its words: ranges in ascending order, none empty.
pub(crate) struct Words {
    pub text: Aligned,
    pub words: Vec<Range<usize>>,
}

impl Words {
    /// All of `text` as one word.
    pub fn whole(text: Aligned) -> Words {
        let whole = 0..text.text.len();
        Words { words: if whole.is_empty() { Vec::new() } else { vec![whole] }, text }
    }

    /// Cuts every word by the matches that `find` gives from a place in it on.
    fn cut(&mut self, behavior: Behavior, invert: bool, find: impl Fn(&str, usize) -> Option<Range<usize>>) {
        let mut cut = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let text = &self.text.text[word.clone()];
            let from = cut.len();
            let mut joiner = Joiner { behavior, words: &mut cut, from, after: None };
            let mut at = 0;
            while let Some(found) = find(text, at) {
                joiner.put(at..found.start, invert);
                at = found.end;
                joiner.put(found, !invert);
            }
            joiner.put(at..text.len(), invert);
            cut[from..].iter_mut().for_each(|r| *r = word.start + r.start..word.start + r.end);
        }
        self.words = cut;
    }

    /// Cuts by single characters of a kind.
    fn cut_by(&mut self, behavior: Behavior, kind: impl Fn(char) -> bool) {
        self.cut(behavior, false, |text, at| {
            let start = at + text[at..].find(&kind)?;
            let c = text[start..].chars().next()?;
            Some(start..start + c.len_utf8())
        });
    }

    /// Applies a step.
    pub fn apply(&mut self, step: &PreTokenizer) {
        match step {
            PreTokenizer::ByteLevel { prefix_space, cut } => self.byte_level(*prefix_space, *cut),
            PreTokenizer::Metaspace { replacement, prepend, cut } => {
                self.metaspace(*replacement, *prepend, *cut);
            }
            PreTokenizer::Whitespace => self.cut(Behavior::Removed, true, |text, at| {
                let start = at + text[at..].find(|c| !is_space(c))?;
                let word = text[start..].starts_with(is_word);
                let len = text[start..].find(|c| is_space(c) || is_word(c) != word);
                Some(start..len.map_or(text.len(), |len| start + len))
            }),
            PreTokenizer::WhitespaceSplit => self.cut_by(Behavior::Removed, is_space),
            PreTokenizer::Bert => {
                self.cut_by(Behavior::Removed, is_space);
                self.cut_by(Behavior::Isolated, is_punctuation);
            }
            PreTokenizer::Digits { individually } => {
                let behavior = if *individually { Behavior::Isolated } else { Behavior::Contiguous };
                self.cut_by(behavior, |c| Set::NUMBER.has(c));
            }
            PreTokenizer::Punctuation(behavior) => self.cut_by(*behavior, is_punctuation),
            PreTokenizer::Split { pattern, behavior, invert } => {
                self.cut(*behavior, *invert, |text, at| pattern.find(text, at));
            }
        }
    }

    fn byte_level(&mut self, prefix_space: bool, cut: bool) {
        if prefix_space {
            self.prepend(' ', |text, _| !text.starts_with(' '));
        }
        if cut {
            self.cut(Behavior::Isolated, false, |text, at| GPT2.find(text, at));
        }
        self.rewrite(|c, put| {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| put(byte_char(b)));
        });
    }

    fn metaspace(&mut self, replacement: char, prepend: Prepend, cut: bool) {
        self.rewrite(|c, put| put(if c == ' ' { replacement } else { c }));
        if prepend != Prepend::Never {
            self.prepend(replacement, |text, first| {
                !text.starts_with(replacement) && (first || prepend == Prepend::Always)
            });
        }
        if cut {
            self.cut_by(Behavior::MergedWithNext, |c| c == replacement);
        }
    }

    /// Puts `c` in front of the words that `wanted` says, given their text and whether the original begins
    /// with them.
    fn prepend(&mut self, c: char, wanted: impl Fn(&str, bool) -> bool) {
        let first = |word: &Range<usize>| self.text.starts_original(word.start);
        let wants = |word: &Range<usize>| wanted(&self.text.text[word.clone()], first(word));
        if !self.words.iter().any(wants) {
            return;
        }
        let mut change = self.text.change();
        let mut words = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let start = change.len();
            if wants(word) {
                change.insert(c.encode_utf8(&mut [0; 4]), word.start);
            }
            change.keep(word.clone());
            words.push(start..change.len());
        }
        let done = change.done();
        self.text.set(done);
        self.words = words;
    }

    /// Replaces each character of the words; what stands between words goes.
    fn rewrite(&mut self, with: impl Fn(char, &mut dyn FnMut(char))) {
        let mut change = self.text.change();
        for word in &mut self.words {
            let start = change.len();
            change.rewrite(word.clone(), &with);
            *word = start..change.len();
        }
        let done = change.done();
        self.text.set(done);
    }
}

/// Collects the parts of one word.
struct Joiner<'a> {
    behavior: Behavior,
    words: &'a mut Vec<Range<usize>>,
    /// Where the parts of this word begin.
    from: usize,
    /// Whether the part before was a match; `None` at the beginning.
    after: Option<bool>,
}

impl Joiner<'_> {
    fn put(&mut self, part: Range<usize>, is_match: bool) {
        if part.is_empty() {
            return;
        }
        let after = self.after.replace(is_match);
        let joins = match self.behavior {
            Behavior::Removed if is_match => return,
            Behavior::Removed | Behavior::Isolated => false,
            Behavior::MergedWithPrevious => is_match && after == Some(false),
            Behavior::MergedWithNext => !is_match && after == Some(true),
            Behavior::Contiguous => after == Some(is_match),
        };
        match self.words[self.from..].last_mut().filter(|_| joins) {
            Some(last) => last.end = part.end,
            None => self.words.push(part),
        }
    }
}

/// The character that stands for a byte: itself where it is visible Latin-1, else one from U+0100 on.
pub(crate) const fn byte_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => byte as char,
        0..=0x20 => as_char(0x100 + byte as u32),
        0x7f..=0xa0 => as_char(0x121 + byte as u32 - 0x7f),
        0xad => '\u{143}',
    }
}

const fn as_char(code: u32) -> char {
    match char::from_u32(code) {
        Some(c) => c,
        None => unreachable!(),
    }
}

/// The byte that a character stands for.
pub(crate) const fn char_byte(c: char) -> Option<u8> {
    match c as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}
