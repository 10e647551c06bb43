//! JSON (RFC 8259), strict and small.
//!
//! [`parse`] checks the whole text once – grammar, depth, numbers, surrogates, duplicate keys – and gives
//! its root [`Value`]. A value is a place in the checked text: nothing is copied and no tree is built, so a
//! document costs no memory beyond its own bytes, and hostile nesting has no tree to overflow a stack with.
//! Walking is in document order: [`Value::entries`] and [`Value::elements`] are one pass; [`Value::get`]
//! scans its object and is meant for small ones.
//!
//! Stricter than RFC 8259 demands: duplicate keys, lone surrogates, numbers past the range of `f64`, a byte
//! order mark and depth above [`MAX_DEPTH`] are errors.
//!
//! ```
//! use samebits::io::json::{self, Writer};
//! let config = json::parse(br#"{"hidden_size": 384, "tags": ["a", "\u00e9"]}"#)?;
//! assert_eq!(config.get("hidden_size").and_then(|v| v.as_u64()), Some(384));
//!
//! let mut out = Writer::compact();
//! out.object(|w| w.key("dtype").string("F32"));
//! assert_eq!(out.finish(), r#"{"dtype":"F32"}"#);
//! # Ok::<(), samebits::Error>(())
//! ```

mod check;
mod text;
mod write;

use crate::{Error, Result};
use alloc::borrow::Cow;

pub(crate) use check::Excerpt;
pub use write::{Number, Writer};

/// Arrays and objects within each other, at most.
pub const MAX_DEPTH: usize = 128;

/// Checks `text` and gives its root value.
///
/// ```
/// use samebits::io::json::{self, Elements, Entries, Kind, MAX_DEPTH, Value};
/// let text: Value = json::parse(br#"{"layers": [1, 2.5], "name": "a\nb"}"#)?;
/// let entries: Entries = text.entries().unwrap();
/// assert_eq!(entries.map(|(key, value)| (key.into_owned(), value.kind())).collect::<Vec<_>>(), [
///     ("layers".to_string(), Kind::Array),
///     ("name".to_string(), Kind::String),
/// ]);
/// let layers: Elements = text.get("layers").and_then(Value::elements).unwrap();
/// assert_eq!(layers.map(Value::as_u64).collect::<Vec<_>>(), [Some(1), None]); // 2.5 is none
/// assert_eq!(text.get("name").and_then(|name| name.as_str()).as_deref(), Some("a\nb"));
/// assert!(json::parse("[".repeat(MAX_DEPTH + 1).as_bytes()).is_err());
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Malformed`] with the offset of the first byte at which `text` is not such JSON.
pub fn parse(text: &[u8]) -> Result<Value<'_>> {
    if text.len() > u32::MAX as usize {
        return Err(Error::invalid("a JSON text of 4 GiB or more"));
    }
    let text = core::str::from_utf8(text)
        .map_err(|e| Error::malformed(e.valid_up_to() as u64, "not valid UTF-8 in JSON"))?;
    check::check(text)?;
    Ok(Value { text, at: text::skip_space(text, 0) })
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// `[…]`.
    Array,
    /// `{…}`.
    Object,
}

impl Kind {
    /// The name that errors use, with its article.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}

/// A value in a checked text.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    text: &'a str,
    /// Where its first byte stands.
    at: usize,
}

impl<'a> Value<'a> {
    /// What it is.
    pub fn kind(self) -> Kind {
        match self.text.as_bytes()[self.at] {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => Kind::Number,
        }
    }

    /// The offset of its first byte in the text.
    pub const fn offset(self) -> usize {
        self.at
    }

    /// The text of the value as it stands in the document.
    pub fn source(self) -> &'a str {
        &self.text[self.at..text::value_end(self.text, self.at)]
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The boolean.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.text.as_bytes()[self.at] == b't')
    }

    /// The string, its escapes resolved; borrowed where it has none.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| text::unescape(text::raw_string(self.text, self.at)))
    }

    /// The integer, where the number is written as one (no sign, fraction or exponent) and fits.
    pub fn as_u64(self) -> Option<u64> {
        self.number()?.parse().ok()
    }

    /// The integer, where the number is written as one (no fraction or exponent) and fits.
    pub fn as_i64(self) -> Option<i64> {
        self.number()?.parse().ok()
    }

    /// [`Value::as_u64`], where it fits a `usize`.
    pub fn as_usize(self) -> Option<usize> {
        self.as_u64()?.try_into().ok()
    }

    /// The number, rounded to the nearest `f64`; finite.
    pub fn as_f64(self) -> Option<f64> {
        self.number()?.parse().ok()
    }

    /// The elements of an array, in order.
    pub fn elements(self) -> Option<Elements<'a>> {
        (self.kind() == Kind::Array).then(|| Elements(Items::new(self)))
    }

    /// The entries of an object, in the order of the document.
    pub fn entries(self) -> Option<Entries<'a>> {
        (self.kind() == Kind::Object).then(|| Entries(Items::new(self)))
    }

    /// The value under `key`, found by a scan of the object.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let mut entries = self.entries()?;
        entries.find(|(k, _)| k == key).map(|(_, v)| v)
    }

    fn number(self) -> Option<&'a str> {
        (self.kind() == Kind::Number).then(|| self.source())
    }

    /// An error at this value: `what` was expected.
    pub fn expected(self, what: &str) -> Error {
        let found = self.kind().name();
        Error::malformed(self.at as u64, alloc::format!("expected {what}, found {found}"))
    }
}

impl core::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.source())
    }
}

/// The elements of an array: see [`Value::elements`].
#[derive(Clone)]
pub struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let at = self.0.next_start()?;
        Some(self.0.value(at))
    }
}

/// The entries of an object: see [`Value::entries`].
#[derive(Clone)]
pub struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Cow<'a, str>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next_start()?;
        let text = self.0.text;
        let colon = text::skip_space(text, text::value_end(text, key));
        let value = self.0.value(text::skip_space(text, colon + 1));
        Some((text::unescape(text::raw_string(text, key)), value))
    }
}

/// A walk over what stands between two brackets of a checked text.
#[derive(Clone)]
struct Items<'a> {
    text: &'a str,
    /// The opening bracket, or the first byte of the value last given out.
    last: usize,
    opening: bool,
}

impl<'a> Items<'a> {
    fn new(container: Value<'a>) -> Self {
        Items { text: container.text, last: container.at, opening: true }
    }

    /// Where the next item starts; `None` before the closing bracket. The value last given out is skipped
    /// only now, so that a walk which descends into it does not read it twice.
    fn next_start(&mut self) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let end = if self.opening { self.last + 1 } else { text::value_end(self.text, self.last) };
        let at = text::skip_space(self.text, end);
        match bytes[at] {
            b']' | b'}' => None,
            b',' => Some(text::skip_space(self.text, at + 1)),
            _ => Some(at),
        }
    }

    fn value(&mut self, at: usize) -> Value<'a> {
        (self.last, self.opening) = (at, false);
        Value { text: self.text, at }
    }
}
