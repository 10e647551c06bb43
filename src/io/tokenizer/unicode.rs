//! What tokenizers ask of Unicode: categories, lower case, normal forms. Version 16.0.0 of the character
//! database, whatever the compiler's library carries, because ids depend on it.
//!
//! The tables and the script that wrote them stand in `unicode/`.

mod form;
mod property;
mod tables;

use tables::{CATEGORY, LOWER_CODES, LOWER_ENDS, LOWER_TEXT};

pub(crate) use form::{Form, needs_nothing};
pub(crate) use property::Property;

/// A set of general categories, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set(u32);

#[allow(missing_docs)]
impl Set {
    pub const LU: Set = Set(1);
    pub const LL: Set = Set(1 << 1);
    pub const LT: Set = Set(1 << 2);
    pub const LM: Set = Set(1 << 3);
    pub const LO: Set = Set(1 << 4);
    pub const MN: Set = Set(1 << 5);
    pub const ND: Set = Set(1 << 8);
    pub const NL: Set = Set(1 << 9);
    pub const PC: Set = Set(1 << 11);
    pub const LETTER: Set = Set(0x1f);
    pub const MARK: Set = Set(0x7 << 5);
    pub const NUMBER: Set = Set(0x7 << 8);
    pub const PUNCTUATION: Set = Set(0x7f << 11);
    pub const SYMBOL: Set = Set(0xf << 18);
    /// Control, format and private use: not the unassigned.
    pub const OTHER: Set = Set(1 << 25 | 1 << 26 | 1 << 28);

    /// Both.
    pub const fn or(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// Whether the category of `c` is one of these.
    pub fn has(self, c: char) -> bool {
        self.0 >> category(c) & 1 == 1
    }
}

static CATEGORIES: Property = Property::new(CATEGORY);

/// The general category, as its place in `Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc … Cn`.
#[inline]
fn category(c: char) -> u32 {
    u32::from(CATEGORIES.class(c))
}

/// The property `White_Space`.
#[inline]
pub(crate) fn is_space(c: char) -> bool {
    match c as u32 {
        0x20 | 0x09..=0x0d => true,
        ..0x80 => false,
        0x85 | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000 => true,
        _ => false,
    }
}

/// What `\w` matches: alphabetic, mark, decimal digit, connector, join control.
pub(crate) fn is_word(c: char) -> bool {
    const WORD: Set = Set::LETTER.or(Set::MARK).or(Set::ND).or(Set::NL).or(Set::PC);
    let circled = [0x24b6..=0x24e9, 0x1f130..=0x1f149, 0x1f150..=0x1f169, 0x1f170..=0x1f189];
    WORD.has(c) || matches!(c, '\u{200c}' | '\u{200d}') || circled.iter().any(|r| r.contains(&(c as u32)))
}

/// Punctuation by category, and every printable ASCII character that is neither letter nor digit.
#[inline]
pub(crate) fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { Set::PUNCTUATION.has(c) }
}

/// Calls `put` with the lower case of `c`, by itself and without regard to language.
#[inline]
pub(crate) fn lower(c: char, mut put: impl FnMut(char)) {
    if c.is_ascii() {
        return put(c.to_ascii_lowercase());
    }
    match find(LOWER_CODES, LOWER_ENDS, LOWER_TEXT, c) {
        Some(text) => text.chars().for_each(put),
        None => put(c),
    }
}

/// The text that a table of [`tables`] has for `c`.
fn find(codes: &[u32], ends: &[u16], text: &'static str, c: char) -> Option<&'static str> {
    let at = codes.binary_search(&(c as u32)).ok()?;
    let start = if at == 0 { 0 } else { usize::from(ends[at - 1]) };
    Some(&text[start..usize::from(ends[at])])
}

/// The length of the user-perceived character that `text` begins with: a character and the marks, joiners
/// and modifiers after it; CR LF.
///
/// What clusters beyond that (Hangul syllables, flags, joined emoji) is cut into its characters: the one
/// reader of this, SentencePiece's table of replacements, looks at clusters below six bytes alone.
pub(crate) fn cluster_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    if first == '\r' && text[1..].starts_with('\n') {
        return 2;
    }
    let prepended = matches!(first as u32, 0x600..=0x605 | 0x6dd | 0x70f);
    if Set::OTHER.has(first) && !prepended || matches!(first, '\u{2028}' | '\u{2029}') {
        return first.len_utf8();
    }
    let mut joins = prepended;
    for (at, c) in chars {
        let mark =
            Set::MARK.has(c) || matches!(c as u32, 0x200c | 0x200d | 0xe33 | 0xeb3 | 0x1f3fb..=0x1f3ff);
        let plain = joins && !Set::OTHER.has(c);
        if !mark && !plain {
            return at;
        }
        joins = false;
    }
    text.len()
}
