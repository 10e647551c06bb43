//! The one pass that decides whether a text is JSON.
//!
//! A loop, not a recursion: what is open is a stack of at most [`MAX_DEPTH`] places. The keys of open
//! objects lie on one stack of offsets, four bytes a key; when an object closes, its keys are sorted and
//! neighbours compared, so that duplicates cost n log n whatever the keys are (a hash table could be flooded).

use super::text::{compare_keys, raw_string, skip_space};
use super::{Kind, MAX_DEPTH};
use crate::{Error, Result};
use alloc::format;
use alloc::vec::Vec;

pub(super) fn check(text: &str) -> Result<()> {
    if text.starts_with('\u{feff}') {
        return Err(Error::malformed(0, "a byte order mark before JSON"));
    }
    Checker { text, at: 0, open: Vec::with_capacity(MAX_DEPTH), keys: Vec::new() }.document()
}

struct Checker<'a> {
    text: &'a str,
    at: usize,
    /// What is open, and for objects where their keys begin in `keys`.
    open: Vec<(Kind, usize)>,
    /// The offsets of the keys of all open objects.
    keys: Vec<u32>,
}

impl Checker<'_> {
    /// A value, then whatever closes or continues, until nothing is open.
    fn document(&mut self) -> Result<()> {
        loop {
            let complete = self.value_start()?;
            if complete && self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Reads a scalar or an empty container whole (`true`), or opens a container up to its first value.
    fn value_start(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b'{') => self.open(Kind::Object),
            Some(b'[') => self.open(Kind::Array),
            Some(b'"') => self.string().map(|()| true),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| true),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.expected("a value")),
        }
    }

    fn open(&mut self, kind: Kind) -> Result<bool> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.error(format!("JSON nested deeper than {MAX_DEPTH}")));
        }
        self.at += 1;
        self.open.push((kind, self.keys.len()));
        match (kind, self.peek()) {
            (Kind::Object, Some(b'}')) | (Kind::Array, Some(b']')) => self.close().map(|()| true),
            (Kind::Object, _) => self.key().map(|()| false),
            _ => Ok(false),
        }
    }

    /// After a value: closes what closes; `true` at the end of the text, `false` where a value must follow.
    fn after_value(&mut self) -> Result<bool> {
        loop {
            let next = self.peek();
            match (self.open.last().map(|o| o.0), next) {
                (None, None) => return Ok(true),
                (None, Some(_)) => return Err(self.expected("the end of the JSON text")),
                (Some(Kind::Object), Some(b'}')) | (Some(Kind::Array), Some(b']')) => self.close()?,
                (Some(Kind::Object), Some(b',')) => {
                    self.at += 1;
                    self.peek();
                    self.key()?;
                    return Ok(false);
                }
                (Some(_), Some(b',')) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(Kind::Object), _) => return Err(self.expected("',' or '}'")),
                _ => return Err(self.expected("',' or ']'")),
            }
        }
    }

    /// Closes the innermost container; an object must not have had the same key twice.
    fn close(&mut self) -> Result<()> {
        self.at += 1;
        let start = self.open.pop().map_or(0, |o| o.1);
        let raw = |at: u32| raw_string(self.text, at as usize);
        let keys = &mut self.keys[start..];
        keys.sort_unstable_by(|&a, &b| compare_keys(raw(a), raw(b)).then(a.cmp(&b)));
        let twice = keys.windows(2).find(|w| compare_keys(raw(w[0]), raw(w[1])).is_eq());
        if let Some(&[_, second]) = twice {
            let key = super::text::unescape(raw(second));
            return Err(Error::malformed(u64::from(second), format!("duplicate key {}", Excerpt(&key))));
        }
        self.keys.truncate(start);
        Ok(())
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in quotes"));
        }
        self.keys.push(self.at as u32); // the text is shorter than 4 GiB
        self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.expected("':' after a key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            let plain =
                bytes[self.at..].iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
            self.at += plain;
            match bytes.get(self.at) {
                Some(b'"') => break self.at += 1,
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.error("a control character in a JSON string must be escaped")),
                None => return Err(self.error("a JSON string without its closing quote")),
            }
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<()> {
        match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.hex4(self.at)? {
                0xd800..=0xdbff => match self.hex4(self.at + 6) {
                    Ok(0xdc00..=0xdfff) => self.at += 12,
                    _ => return Err(self.error("a lone surrogate in a JSON string")),
                },
                0xdc00..=0xdfff => return Err(self.error("a lone surrogate in a JSON string")),
                _ => self.at += 6,
            },
            _ => return Err(self.error("an unknown escape in a JSON string")),
        }
        Ok(())
    }

    /// The code unit of the `\uXXXX` at `at`.
    fn hex4(&self, at: usize) -> Result<u32> {
        let escape = self.text.as_bytes().get(at..at + 6).and_then(|e| e.strip_prefix(b"\\u"));
        let digits = escape.filter(|e| e.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| self.error("\\u needs four hexadecimal digits"))?;
        Ok(digits.iter().fold(0, |n, &d| n << 4 | (d as char).to_digit(16).unwrap_or(0)))
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, within the range of `f64`.
    fn number(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at += usize::from(bytes[self.at] == b'-');
        let leading_zero = bytes.get(self.at) == Some(&b'0');
        let digits = self.digits()?;
        if leading_zero && digits > 1 {
            return Err(Error::malformed(start as u64, "a JSON number with a leading zero"));
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        match self.text[start..self.at].parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(()),
            _ => Err(Error::malformed(start as u64, "a JSON number past the range of f64")),
        }
    }

    /// One digit or more; how many.
    fn digits(&mut self) -> Result<usize> {
        let n = self.text.as_bytes()[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if n == 0 {
            return Err(self.expected("a digit"));
        }
        self.at += n;
        Ok(n)
    }

    fn literal(&mut self, word: &str) -> Result<bool> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(true)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.at = skip_space(self.text, self.at);
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, what: impl Into<alloc::string::String>) -> Error {
        Error::malformed(self.at as u64, what)
    }

    fn expected(&self, what: &str) -> Error {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => self.error(format!("expected {what}, found {c:?}")),
            None => self.error(format!("expected {what}, found the end of the JSON text")),
        }
    }
}

/// A string in quotes, cut to what fits a line: names in a hostile file can be megabytes long.
pub(crate) struct Excerpt<'a>(pub &'a str);

impl core::fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const LONGEST: usize = 80;
        match self.0.char_indices().nth(LONGEST) {
            Some((cut, _)) => write!(f, "{:?}…", &self.0[..cut]),
            None => write!(f, "{:?}", self.0),
        }
    }
}
