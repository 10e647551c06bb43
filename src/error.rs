//! What can go wrong, in one enum.
//!
//! An error names the file, the place or the shape at fault and what was expected there. It prints as one
//! line, `FILE: what is wrong`, and may carry one [`hint`](Error::hint): what to do about it. Code that
//! parses bytes does not know where they came from; whoever opened the file adds its name with
//! [`Error::in_file`].
//!
//! ```
//! use samebits::Error;
//! let error = Error::malformed(17, "expected ':' after a key").in_file("config.json");
//! assert_eq!(error.to_string(), "config.json: byte 17: expected ':' after a key");
//! ```

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A result whose error is [`Error`].
///
/// ```
/// use samebits::{Error, Result};
/// fn positive(x: f32) -> Result<f32> {
///     if x > 0.0 { Ok(x) } else { Err(Error::malformed(4, "a number above 0 is needed")) }
/// }
/// assert_eq!(positive(2.0)?, 2.0);
/// assert!(positive(-1.0).unwrap_err().to_string().contains("byte 4"));
/// # Ok::<(), Error>(())
/// ```
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What went wrong, and where. An empty `file` means that the data did not come from one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[cfg(feature = "std")]
    Io {
        /// The file or folder.
        file: String,
        /// The attempt, as in "cannot {doing}": `open`, `read`, `write`, `rename`.
        doing: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Bytes that break a rule of their format.
    Malformed {
        /// The file.
        file: String,
        /// Where in the file the rule is broken, in bytes from its start, if that is one place.
        offset: Option<u64>,
        /// The rule and what was found instead.
        what: String,
    },
    /// A file of another kind altogether.
    WrongKind {
        /// The file.
        file: String,
        /// What it is: `a git-LFS pointer`.
        is: &'static str,
        /// What it should be: `a safetensors file`.
        expected: &'static str,
        /// How such files come about and what to do.
        hint: &'static str,
    },
    /// A tensor that is not there.
    NoTensor {
        /// The file or the folder of shards.
        file: String,
        /// The name asked for.
        name: String,
        /// The most similar name that is there.
        nearest: Option<String>,
    },
    /// A tensor whose element type does not serve.
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
        /// The types that would serve.
        expected: Cow<'static, str>,
    },
    /// A tensor or an argument whose shape does not serve.
    Shape {
        /// The file.
        file: String,
        /// The tensor or argument.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The shape or rule that it must follow.
        expected: String,
    },
    /// A shape with more elements or bytes than the address space.
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// A number for which the operation is not defined.
    Value {
        /// The tensor or argument.
        name: String,
        /// The index of the number, counted row by row.
        index: usize,
        /// The number.
        value: f64,
        /// What was expected: `a finite number`.
        expected: &'static str,
    },
    /// An instruction set that does not exist or does not run here.
    Tier {
        /// The tier asked for.
        asked: String,
        /// The tiers that run here.
        available: String,
    },
    /// A command that was called wrongly.
    Usage {
        /// What is wrong with it.
        what: String,
        /// What may have been meant.
        hint: Option<String>,
    },
}

impl Error {
    /// A rule of the format broken at `offset` bytes from the start.
    pub fn malformed(offset: u64, what: impl Into<String>) -> Error {
        Error::Malformed { file: String::new(), offset: Some(offset), what: what.into() }
    }

    /// A rule of the format broken by the file as a whole.
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::Malformed { file: String::new(), offset: None, what: what.into() }
    }

    /// An answer of the operating system.
    #[cfg(feature = "std")]
    pub fn io(file: impl AsRef<std::path::Path>, doing: &'static str, source: std::io::Error) -> Error {
        Error::Io { file: file.as_ref().display().to_string(), doing, source }
    }

    /// The same error, naming the file, unless it names one already.
    #[must_use]
    pub fn in_file(mut self, name: impl fmt::Display) -> Error {
        if let Some(file) = self.file_mut().filter(|f| f.is_empty()) {
            *file = alloc::format!("{name}");
        }
        self
    }

    /// What to do about it, in one line, where there is something to say.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Error::WrongKind { hint, .. } => Some(Cow::Borrowed(hint)),
            Error::NoTensor { nearest: Some(n), .. } => Some(alloc::format!("did you mean {n:?}?").into()),
            Error::Tier { available, .. } => Some(alloc::format!("this machine runs {available}").into()),
            Error::Usage { hint: Some(hint), .. } => Some(Cow::Borrowed(hint)),
            _ => None,
        }
    }

    fn file_mut(&mut self) -> Option<&mut String> {
        match self {
            #[cfg(feature = "std")]
            Error::Io { file, .. } => Some(file),
            Error::Malformed { file, .. }
            | Error::WrongKind { file, .. }
            | Error::NoTensor { file, .. }
            | Error::Dtype { file, .. }
            | Error::Shape { file, .. } => Some(file),
            Error::TooLarge { .. } | Error::Value { .. } | Error::Tier { .. } | Error::Usage { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "std")]
            Error::Io { file, doing, source } => write!(f, "{}cannot {doing}: {source}", Prefix(file)),
            Error::Malformed { file, offset: Some(at), what } => {
                write!(f, "{}byte {at}: {what}", Prefix(file))
            }
            Error::Malformed { file, offset: None, what } => write!(f, "{}{what}", Prefix(file)),
            Error::WrongKind { file, is, expected, .. } => {
                write!(f, "{}this is {is}, expected {expected}", Prefix(file))
            }
            Error::NoTensor { file, name, .. } => write!(f, "{}no tensor {name:?}", Prefix(file)),
            Error::Dtype { file, name, dtype, expected } => {
                write!(f, "{}{name:?} has dtype {dtype}, expected {expected}", Prefix(file))
            }
            Error::Shape { file, name, shape, expected } => {
                write!(f, "{}{name:?} has shape {}, expected {expected}", Prefix(file), Shape(shape))
            }
            Error::TooLarge { shape } => {
                write!(f, "shape {} is larger than the address space", Shape(shape))
            }
            Error::Value { name, index, value, expected } => {
                write!(f, "{name}: element {index} is {value}, expected {expected}")
            }
            Error::Tier { asked, .. } => write!(f, "tier {asked:?} does not run here"),
            Error::Usage { what, .. } => f.write_str(what),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            #[cfg(feature = "std")]
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// `file: `, or nothing. Control characters of a hostile name are escaped: the message stays one line.
struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        for c in self.0.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        f.write_str(": ")
    }
}

/// A shape as NumPy writes it: `()`, `(3,)`, `(3, 4)`.
pub(crate) struct Shape<'a>(pub &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, n) in self.0.iter().enumerate() {
            write!(f, "{}{n}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn one_line_with_file_and_place() {
        let error = Error::malformed(8, "expected '{'").in_file("a\nb.safetensors").in_file("later");
        assert_eq!(error.to_string(), "a\\nb.safetensors: byte 8: expected '{'");
        assert!(error.hint().is_none());
    }

    #[test]
    fn shapes_as_numpy_writes_them() {
        let expected = "(rows, 64)".to_string();
        let shape =
            |shape| Error::Shape { file: String::new(), name: "w".into(), shape, expected: expected.clone() };
        assert_eq!(shape(vec![3]).to_string(), "\"w\" has shape (3,), expected (rows, 64)");
        assert_eq!(shape(vec![3, 4]).to_string(), "\"w\" has shape (3, 4), expected (rows, 64)");
        assert_eq!(
            Error::TooLarge { shape: vec![] }.to_string(),
            "shape () is larger than the address space"
        );
    }

    #[cfg(feature = "std")]
    #[test]
    fn the_system_s_answer_is_the_source() {
        let error = Error::io("w.bin", "open", std::io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "w.bin: cannot open: entity not found");
        assert!(core::error::Error::source(&error).is_some());
    }
}
