//! The values of metadata: windows into the checked header.

use crate::io::json::Excerpt;
use crate::{Error, Result};
use alloc::format;

/// How lengths and counts are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// In four bytes: version 1.
    Short,
    /// In eight bytes: from version 2 on.
    Long,
}

impl Length {
    pub const fn bytes(self) -> usize {
        match self {
            Length::Short => 4,
            Length::Long => 8,
        }
    }

    /// The length at the beginning of `bytes`, and what follows it. One that does not fit is larger than any
    /// file, and found so when it is used.
    pub fn split(self, bytes: &[u8]) -> Option<(usize, &[u8])> {
        let (len, rest) = bytes.split_at_checked(self.bytes())?;
        let len = len.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        Some((usize::try_from(len).unwrap_or(usize::MAX), rest))
    }
}

/// What a value is. The numbers are those of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // the names say it
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Every type, in order of its number.
    pub const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    /// The type of that number.
    pub fn from_number(number: u32) -> Option<ValueType> {
        ValueType::ALL.get(number as usize).copied()
    }

    /// Bytes of a value, or the fewest where they vary: an empty string has those of its length.
    pub(super) const fn least_bytes(self, length: Length) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
            ValueType::String => length.bytes(),
            ValueType::Array => 4 + length.bytes(),
        }
    }

    /// The name that errors use.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

/// A value of metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type; never of arrays.
///
/// ```
/// use samebits::io::gguf::{Array, ArrayBuf, Elements, Entry, Gguf, Value, ValueType, to_bytes};
/// let tokens = ArrayBuf::strings(["<s>", "a"]);
/// let file = Gguf::from_bytes(&to_bytes(&[("tokenizer.ggml.tokens", tokens.value())], &[])?)?;
/// let entry: Entry = file.entry("tokenizer.ggml.tokens")?;
/// let array: Array = entry.array(ValueType::String)?;
/// let mut elements: Elements = array.iter();
/// assert_eq!((elements.len(), elements.next().and_then(Value::as_str)), (2, Some("<s>")));
/// assert!(entry.usize().unwrap_err().to_string().contains("tokenizer.ggml.tokens"));
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    kind: ValueType,
    len: usize,
    length: Length,
    /// The elements as they stand in the file.
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// What it is.
    pub const fn kind(self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The whole number, of any type, signed or not.
    pub fn as_i128(self) -> Option<i128> {
        match self {
            Value::U8(x) => Some(x.into()),
            Value::I8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::I16(x) => Some(x.into()),
            Value::U32(x) => Some(x.into()),
            Value::I32(x) => Some(x.into()),
            Value::U64(x) => Some(x.into()),
            Value::I64(x) => Some(x.into()),
            _ => None,
        }
    }

    /// The whole number, where it is one from 0 to what `usize` holds.
    pub fn as_usize(self) -> Option<usize> {
        self.as_i128().and_then(|x| x.try_into().ok())
    }

    /// The number, of either float type.
    pub const fn as_f64(self) -> Option<f64> {
        match self {
            Value::F32(x) => Some(x as f64),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    /// The string.
    pub const fn as_str(self) -> Option<&'a str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Yes or no.
    pub const fn as_bool(self) -> Option<bool> {
        match self {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }

    /// The array.
    pub const fn as_array(self) -> Option<Array<'a>> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The value of type `kind` (no array) at the beginning of checked `bytes`, and what follows it.
    pub(super) fn split(kind: ValueType, length: Length, bytes: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
        macro_rules! number {
            ($variant:ident, $type:ty) => {{
                let (first, rest) = bytes.split_first_chunk()?;
                Some((Value::$variant(<$type>::from_le_bytes(*first)), rest))
            }};
        }
        match kind {
            ValueType::U8 => number!(U8, u8),
            ValueType::I8 => number!(I8, i8),
            ValueType::U16 => number!(U16, u16),
            ValueType::I16 => number!(I16, i16),
            ValueType::U32 => number!(U32, u32),
            ValueType::I32 => number!(I32, i32),
            ValueType::F32 => number!(F32, f32),
            ValueType::U64 => number!(U64, u64),
            ValueType::I64 => number!(I64, i64),
            ValueType::F64 => number!(F64, f64),
            ValueType::Bool => bytes.split_first().map(|(&x, rest)| (Value::Bool(x != 0), rest)),
            ValueType::String => {
                let (len, rest) = length.split(bytes)?;
                let (text, rest) = rest.split_at_checked(len)?;
                Some((Value::String(core::str::from_utf8(text).ok()?), rest))
            }
            ValueType::Array => None,
        }
    }
}

impl<'a> Array<'a> {
    pub(super) const fn new(kind: ValueType, len: usize, length: Length, bytes: &'a [u8]) -> Self {
        Array { kind, len, length, bytes }
    }

    /// The type of its elements.
    pub const fn kind(self) -> ValueType {
        self.kind
    }

    /// Number of elements.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The elements as they stand in the file, little-endian; strings each behind its length.
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The elements, in order.
    pub fn iter(self) -> Elements<'a> {
        Elements { array: self }
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Elements<'a>;

    fn into_iter(self) -> Elements<'a> {
        self.iter()
    }
}

/// The elements of an [`Array`].
#[derive(Clone)]
pub struct Elements<'a> {
    /// What is left of it.
    array: Array<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let Array { kind, length, bytes, .. } = self.array;
        let (value, rest) = Value::split(kind, length, bytes)?;
        (self.array.bytes, self.array.len) = (rest, self.array.len.saturating_sub(1));
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.array.len, Some(self.array.len))
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// A value with the key that it stands under, for those who need it to be of a certain type.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: Value<'a>,
}

impl<'a> Entry<'a> {
    fn want<T>(self, found: Option<T>, expected: &str) -> Result<T> {
        found.ok_or_else(|| {
            let shown = match self.value {
                Value::String(text) => format!("the string {}", Excerpt(text)),
                Value::Array(array) => format!("an array of {}", array.kind().name()),
                Value::Bool(x) => format!("{x}"),
                other => match (other.as_i128(), other.as_f64()) {
                    (Some(whole), _) => format!("{whole}"),
                    (_, float) => format!("{:?}", float.unwrap_or_default()),
                },
            };
            Error::invalid(format!("metadata {}: expected {expected}, found {shown}", Excerpt(self.key)))
        })
    }

    /// A whole number from 0 on.
    ///
    /// # Errors
    /// [`Error::Malformed`] that names the key, as for all of these, where the value is something else.
    pub fn usize(self) -> Result<usize> {
        self.want(self.value.as_usize(), "a whole number from 0 on")
    }

    /// A token's id or the like.
    ///
    /// # Errors
    /// As [`Entry::usize`].
    pub fn u32(self) -> Result<u32> {
        let number = self.value.as_i128().and_then(|x| x.try_into().ok());
        self.want(number, "a whole number from 0 to 4294967295")
    }

    /// A float, rounded to `f32`.
    ///
    /// # Errors
    /// As [`Entry::usize`].
    pub fn f32(self) -> Result<f32> {
        self.want(self.value.as_f64().map(|x| x as f32), "a float")
    }

    /// A string.
    ///
    /// # Errors
    /// As [`Entry::usize`].
    pub fn str(self) -> Result<&'a str> {
        self.want(self.value.as_str(), "a string")
    }

    /// Yes or no.
    ///
    /// # Errors
    /// As [`Entry::usize`].
    pub fn bool(self) -> Result<bool> {
        self.want(self.value.as_bool(), "a bool")
    }

    /// An array of elements of `kind`.
    ///
    /// # Errors
    /// As [`Entry::usize`].
    pub fn array(self, kind: ValueType) -> Result<Array<'a>> {
        let array = self.value.as_array().filter(|array| array.kind() == kind);
        self.want(array, &format!("an array of {}", kind.name()))
    }
}
