//! Writing JSON: the entries in the order in which they are given, the same bytes every time.

use alloc::string::String;
use core::fmt::Write as _;

/// Builds a JSON text.
///
/// ```
/// use samebits::io::json::Writer;
/// let mut w = Writer::compact();
/// w.object(|w| {
///     w.key("shape").array(|w| [2u64, 3].into_iter().for_each(|n| w.number(n)));
///     w.key("seconds").number(0.25);
/// });
/// assert_eq!(w.finish(), r#"{"shape":[2,3],"seconds":0.25}"#);
/// ```
pub struct Writer {
    out: String,
    /// Spaces a level; `None` for everything on one line.
    indent: Option<usize>,
    depth: usize,
    state: State,
}

/// What precedes the next item.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// An opening bracket, or nothing.
    First,
    /// Another item: a comma is due.
    Next,
    /// A key and its colon.
    Keyed,
}

/// A number to write. NaN and infinities, which JSON lacks, become `null`.
///
/// ```
/// use samebits::io::json::{Number, Writer};
/// let mut out = Writer::compact();
/// out.array(|w| {
///     w.number(Number::Single(0.1)); // the shortest digits that give it back
///     w.number(0.1f32 as f64);
///     w.number(f64::NAN);
/// });
/// assert_eq!(out.finish(), "[0.1,0.10000000149011612,null]");
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Not negative.
    Unsigned(u64),
    /// With a sign.
    Signed(i64),
    /// The shortest digits that give the same `f32` back.
    Single(f32),
    /// The shortest digits that give the same `f64` back.
    Double(f64),
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Number::Unsigned(n)
    }
}

impl From<usize> for Number {
    fn from(n: usize) -> Self {
        Number::Unsigned(n as u64)
    }
}

impl From<i64> for Number {
    fn from(n: i64) -> Self {
        Number::Signed(n)
    }
}

impl From<f32> for Number {
    fn from(x: f32) -> Self {
        Number::Single(x)
    }
}

impl From<f64> for Number {
    fn from(x: f64) -> Self {
        Number::Double(x)
    }
}

impl Writer {
    /// Everything on one line, without spaces.
    pub const fn compact() -> Writer {
        Writer { out: String::new(), indent: None, depth: 0, state: State::First }
    }

    /// One item a line, two spaces a level.
    pub const fn indented() -> Writer {
        Writer { out: String::new(), indent: Some(2), depth: 0, state: State::First }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    /// `{…}` with the entries that `fill` writes: each a [`Writer::key`], then a value.
    pub fn object(&mut self, fill: impl FnOnce(&mut Writer)) {
        self.container('{', '}', fill);
    }

    /// `[…]` with the values that `fill` writes.
    pub fn array(&mut self, fill: impl FnOnce(&mut Writer)) {
        self.container('[', ']', fill);
    }

    /// A key; its value follows.
    pub fn key(&mut self, key: &str) -> &mut Writer {
        self.item();
        quote(&mut self.out, key);
        self.out.push_str(if self.indent.is_some() { ": " } else { ":" });
        self.state = State::Keyed;
        self
    }

    /// A string.
    pub fn string(&mut self, s: &str) {
        self.item();
        quote(&mut self.out, s);
    }

    /// A number.
    pub fn number(&mut self, n: impl Into<Number>) {
        self.item();
        // `Debug` of a float turns to exponents where digits would run on; writing to a `String` succeeds.
        let written = match n.into() {
            Number::Unsigned(n) => write!(self.out, "{n}"),
            Number::Signed(n) => write!(self.out, "{n}"),
            Number::Single(x) if x.is_finite() => write!(self.out, "{x:?}"),
            Number::Double(x) if x.is_finite() => write!(self.out, "{x:?}"),
            Number::Single(_) | Number::Double(_) => write!(self.out, "null"),
        };
        debug_assert!(written.is_ok());
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: impl Into<bool>) {
        self.item();
        self.out.push_str(if value.into() { "true" } else { "false" });
    }

    /// `null`.
    pub fn null(&mut self) {
        self.item();
        self.out.push_str("null");
    }

    /// A value that is JSON already, as it stands.
    pub(crate) fn raw(&mut self, json: &str) {
        self.item();
        self.out.push_str(json);
    }

    fn container(&mut self, open: char, close: char, fill: impl FnOnce(&mut Writer)) {
        self.item();
        self.out.push(open);
        (self.depth, self.state) = (self.depth + 1, State::First);
        fill(self);
        self.depth -= 1;
        if self.state == State::Next {
            self.line();
        }
        self.out.push(close);
        self.state = State::Next;
    }

    /// What stands between the last item and this one.
    fn item(&mut self) {
        if self.state == State::Next {
            self.out.push(',');
        }
        if self.state != State::Keyed && self.depth > 0 {
            self.line();
        }
        self.state = State::Next;
    }

    fn line(&mut self) {
        if let Some(spaces) = self.indent {
            self.out.push('\n');
            self.out.extend(core::iter::repeat_n(' ', spaces * self.depth));
        }
    }
}

/// `s` in quotes: short escapes where JSON has them, `\u00xx` for other control characters, all else as is.
fn quote(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                out.push_str("\\u00");
                out.extend([c as u32 >> 4, c as u32 & 15].map(|d| char::from_digit(d, 16).unwrap_or('0')));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
