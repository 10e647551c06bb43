//! Normalisers: what happens to a text before it is cut into words.

use super::aligned::Aligned;
use super::charsmap::Charsmap;
use super::patterns::Pattern;
use super::sentencepiece::SpmNormalizer;
use super::unicode::{self, Form, Set};
use alloc::string::String;

/// One step of normalisation.
#[derive(Debug)]
pub(crate) enum Normalizer {
    /// BERT's.
    Bert(Bert),
    /// A Unicode normal form.
    Form(Form),
    /// Lower case, character by character.
    Lowercase,
    /// Without marks.
    StripAccents,
    /// Without white space at the ends.
    Strip {
        /// At the beginning.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// Every match replaced.
    Replace(Pattern, String),
    /// A text put in front of every text that is not empty.
    Prepend(String),
    /// SentencePiece's table of replacements, as `tokenizers` applies it.
    Precompiled(Charsmap),
    /// SentencePiece's own.
    SentencePiece(SpmNormalizer),
}

/// What BERT's normaliser does, in this order.
#[derive(Debug)]
pub(crate) struct Bert {
    /// Control characters go, white space becomes a space.
    pub clean_text: bool,
    /// Ideographs are set between spaces.
    pub chinese_chars: bool,
    /// Decomposes, then removes nonspacing marks.
    pub strip_accents: bool,
    /// Lower case.
    pub lowercase: bool,
}

impl Normalizer {
    /// Applies the step.
    pub fn apply(&self, text: &mut Aligned) {
        match self {
            Normalizer::Bert(bert) => bert.apply(text),
            Normalizer::Form(form) => text.normalize(*form),
            Normalizer::Lowercase => text.map(|c, put| unicode::lower(c, put)),
            Normalizer::StripAccents => keep(text, |c| !Set::MARK.has(c)),
            Normalizer::Strip { left, right } => strip(text, *left, *right),
            Normalizer::Replace(pattern, with) => replace(text, pattern, with),
            Normalizer::Prepend(front) => prepend(text, front),
            Normalizer::Precompiled(map) => map.apply(text),
            Normalizer::SentencePiece(spm) => spm.apply(text),
        }
    }
}

fn keep(text: &mut Aligned, wanted: impl Fn(char) -> bool) {
    text.map(|c, put| {
        if wanted(c) {
            put(c);
        }
    });
}

fn prepend(text: &mut Aligned, front: &str) {
    if text.text.is_empty() || front.is_empty() {
        return;
    }
    let mut change = text.change();
    change.insert(front, 0);
    change.keep(0..text.text.len());
    let done = change.done();
    text.set(done);
}

fn strip(text: &mut Aligned, left: bool, right: bool) {
    let whole = &text.text;
    let rest = if left { whole.trim_start_matches(unicode::is_space) } else { whole };
    let start = whole.len() - rest.len();
    let end = start + if right { rest.trim_end_matches(unicode::is_space).len() } else { rest.len() };
    if (start, end) != (0, whole.len()) {
        let mut change = text.change();
        change.keep(start..end);
        let done = change.done();
        text.set(done);
    }
}

/// Replaces every match; what is put in shares the place of the last character of the match.
pub(crate) fn replace(text: &mut Aligned, pattern: &Pattern, with: &str) {
    let mut change = text.change();
    let mut at = 0;
    while let Some(found) = pattern.find(&text.text, at) {
        change.keep(at..found.start);
        change.insert(with, found.end - 1);
        at = found.end;
    }
    if at > 0 {
        change.keep(at..text.text.len());
        let done = change.done();
        text.set(done);
    }
}

/// The blocks of ideographs, as BERT lists them. (The fifth begins at 2B920, as `tokenizers` has it; BERT's
/// own list says 2B820.)
fn is_chinese(c: char) -> bool {
    matches!(c as u32,
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f
        | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

impl Bert {
    fn apply(&self, text: &mut Aligned) {
        if self.clean_text || self.chinese_chars {
            text.map(|c, put| self.clean(c, put));
        }
        if self.strip_accents && !text.text.is_ascii() {
            text.normalize(Form::Nfd);
            keep(text, |c| !Set::MN.has(c));
        }
        if self.lowercase {
            text.map(|c, put| unicode::lower(c, put));
        }
    }

    /// Cleans one character and sets it apart where it is an ideograph.
    fn clean(&self, c: char, put: &mut dyn FnMut(char)) {
        if (' '..='~').contains(&c) {
            return put(c);
        }
        if self.clean_text {
            if unicode::is_space(c) && !matches!(c, '\u{b}' | '\u{c}' | '\u{85}') {
                return put(' ');
            }
            if c == '\0' || c == '\u{fffd}' || Set::OTHER.has(c) {
                return;
            }
        }
        if self.chinese_chars && is_chinese(c) {
            [' ', c, ' '].into_iter().for_each(put);
        } else {
            put(c);
        }
    }
}
