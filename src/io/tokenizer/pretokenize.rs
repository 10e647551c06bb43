//! Pre-tokenizers: how a text is cut into the words that the model then sees one by one.

mod steps;

use super::aligned::Aligned;
use super::patterns::Pattern;
use crate::Result;
use crate::io::flat::{Reader, Writer};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// One step of cutting.
pub(crate) trait PreTokenize: Send + Sync {
    /// Applies the step.
    fn apply(&self, words: &mut Words);
    /// Its number in a flat tokenizer.
    fn number(&self) -> usize;
    /// Writes what [`super::flat::Parts`] read behind that number.
    fn write(&self, _: &mut Writer) -> Result<()> {
        Ok(())
    }
}

/// A step.
pub(crate) type PreTokenizer = Box<dyn PreTokenize>;

/// Bytes become characters that are visible; by default cut by GPT-2's pattern before.
pub(crate) struct ByteLevel {
    /// Each word gets a space in front unless it begins with one.
    pub prefix_space: bool,
    /// Whether to cut.
    pub cut: bool,
}

/// Spaces become `▁` and words are cut before them.
pub(crate) struct Metaspace {
    /// What a space becomes.
    pub replacement: char,
    /// Where one is put in front.
    pub prepend: Prepend,
    /// Whether to cut.
    pub cut: bool,
}

/// `\w+|[^\w\s]+`
pub(crate) struct Whitespace;

/// What stands between white space.
pub(crate) struct WhitespaceSplit;

/// What stands between white space, punctuation characters by themselves.
pub(crate) struct Bert;

/// Numbers apart from the rest.
pub(crate) struct Digits {
    /// Digit by digit.
    pub individually: bool,
}

/// Punctuation apart from the rest.
pub(crate) struct Punctuation(pub Behavior);

/// A pattern apart from the rest.
pub(crate) struct Split {
    pub pattern: Pattern,
    /// What becomes of its matches.
    pub behavior: Behavior,
    /// Whether the matches are what stands between the pattern's.
    pub invert: bool,
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

impl Prepend {
    const ALL: [Prepend; 3] = [Prepend::Always, Prepend::First, Prepend::Never];
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

impl Behavior {
    const ALL: [Behavior; 5] = [
        Behavior::Removed,
        Behavior::Isolated,
        Behavior::MergedWithPrevious,
        Behavior::MergedWithNext,
        Behavior::Contiguous,
    ];

    fn read(from: &mut Reader<'_>) -> Result<Behavior> {
        from.one_of("what becomes of matches", &Behavior::ALL)
    }
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
