//! Steps through a text that is known to be valid JSON.

use alloc::borrow::Cow;
use alloc::string::String;
use core::cmp::Ordering;

/// The first byte from `at` on that is not white space.
pub(super) fn skip_space(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    at + rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// One past the closing quote of the string whose opening quote stands at `at`.
fn string_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut i = at + 1;
    while bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// What stands between the quotes, escapes unresolved.
pub(super) fn raw_string(text: &str, at: usize) -> &str {
    &text[at + 1..string_end(text, at) - 1]
}

/// One past the last byte of the value that starts at `at`. No recursion: brackets are counted.
pub(super) fn value_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let (mut i, mut depth) = (at, 0usize);
    loop {
        match bytes[i] {
            b'"' => i = string_end(text, i),
            b'{' | b'[' => (i, depth) = (i + 1, depth + 1),
            b'}' | b']' => (i, depth) = (i + 1, depth - 1),
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => i += 1,
            _ => {
                i += bytes[i..].iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count()
            }
        }
        if depth == 0 {
            return i;
        }
    }
}

/// The string that `raw` stands for.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    // An escape is never shorter than what it stands for: one allocation suffices.
    let mut out = String::with_capacity(raw.len());
    out.extend(Unescape(raw.chars()));
    Cow::Owned(out)
}

/// Orders two keys by the strings that they stand for, without building those.
pub(super) fn compare_keys(a: &str, b: &str) -> Ordering {
    if a.contains('\\') || b.contains('\\') {
        return Unescape(a.chars()).cmp(Unescape(b.chars()));
    }
    a.cmp(b) // the order of UTF-8 bytes is the order of the characters
}

/// The characters that a checked raw string stands for.
struct Unescape<'a>(core::str::Chars<'a>);

impl Unescape<'_> {
    fn hex4(&mut self) -> u32 {
        self.0.by_ref().take(4).fold(0, |n, c| n << 4 | c.to_digit(16).unwrap_or(0))
    }
}

impl Iterator for Unescape<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let c = self.0.next()?;
        if c != '\\' {
            return Some(c);
        }
        Some(match self.0.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.hex4();
                let code = if (0xd800..0xdc00).contains(&unit) {
                    self.0.by_ref().take(2).for_each(drop); // the `\u` of the low surrogate
                    0x10000 + ((unit - 0xd800) << 10) + (self.hex4() - 0xdc00)
                } else {
                    unit
                };
                char::from_u32(code).expect("checked: surrogates come in pairs")
            }
            itself => itself,
        })
    }
}
