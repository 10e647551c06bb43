//! The fields of a JSON object, read once.

use crate::io::json::{Kind, Value};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

/// An object of a file, and what it is called in errors.
pub(super) struct Fields<'a> {
    entries: Vec<(Cow<'a, str>, Value<'a>)>,
    place: Value<'a>,
}

/// Objects with more fields than this are none that the format knows.
const MOST: usize = 64;

impl<'a> Fields<'a> {
    /// The fields of `value`, which should be `what`.
    pub fn of(value: Value<'a>, what: &str) -> Result<Fields<'a>> {
        let entries = value.entries().ok_or_else(|| value.expected(what))?;
        Ok(Fields { entries: entries.take(MOST).collect(), place: value })
    }

    /// The field, unless it is missing or `null`.
    pub fn optional(&self, name: &str) -> Option<Value<'a>> {
        self.entries.iter().find(|(key, value)| key == name && !value.is_null()).map(|&(_, value)| value)
    }

    /// The field.
    pub fn required(&self, name: &str) -> Result<Value<'a>> {
        self.optional(name).ok_or_else(|| self.error(format!("the field {name:?} is missing")))
    }

    /// An error at this object.
    pub fn error(&self, what: impl Into<alloc::string::String>) -> Error {
        Error::malformed(self.place.offset() as u64, what)
    }

    /// An error: `found` is no `what` that is known.
    pub fn unknown(&self, what: &str, found: &str) -> Error {
        self.error(format!("the {what} {found:?} is not known"))
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Cow<'a, str>> {
        let value = self.required(name)?;
        value.as_str().ok_or_else(|| value.expected(&format!("a string for {name:?}")))
    }

    /// A text, or `default` where it is missing.
    pub fn text_or(&self, name: &str, default: &'static str) -> Result<Cow<'a, str>> {
        if self.optional(name).is_some() { self.text(name) } else { Ok(Cow::Borrowed(default)) }
    }

    /// A text of one character.
    pub fn character(&self, name: &str) -> Result<char> {
        let text = self.text(name)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(self.error(format!("{name:?} should be one character, not {text:?}"))),
        }
    }

    /// `true` or `false`, or `default` where it is missing.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| value.expected(&format!("true or false for {name:?}")))
    }

    /// A whole number that is not negative.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.required(name)?;
        value.as_u64().ok_or_else(|| {
            let found = if value.kind() == Kind::Number { value.source() } else { value.kind().name() };
            let what = format!("expected a whole number for {name:?}, found {found}");
            Error::malformed(value.offset() as u64, what)
        })
    }

    /// A length.
    pub fn size(&self, name: &str) -> Result<usize> {
        let number = self.number(name)?;
        number.try_into().map_err(|_| self.error(format!("{name:?} is {number}")))
    }

    /// An id.
    pub fn id(&self, name: &str) -> Result<u32> {
        let number = self.number(name)?;
        number.try_into().map_err(|_| self.error(format!("{name:?} is {number}, not an id of 32 bits")))
    }

    /// The elements of an array; none where it is missing.
    pub fn list(&self, name: &str) -> Result<Vec<Value<'a>>> {
        let Some(value) = self.optional(name) else { return Ok(Vec::new()) };
        let elements = value.elements().ok_or_else(|| value.expected(&format!("an array for {name:?}")))?;
        Ok(elements.collect())
    }
}
