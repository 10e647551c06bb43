//! Writing JSON for `--json`.
//!
//! ```
//! use samebits::cli::json::Object;
//! let cache = Object::new().text("level", "L1d").value("bytes", 49152u32);
//! assert_eq!(cache.to_string(), r#"{"level": "L1d", "bytes": 49152}"#);
//! ```

use std::fmt::{self, Display, Write};

/// An object under construction; its fields keep their order.
#[derive(Default)]
pub struct Object(String);

impl Object {
    /// Without fields yet.
    pub fn new() -> Object {
        Object::default()
    }

    /// A field with a value that prints as JSON: an integer, a bool, an [`Object`], an [`array`].
    #[must_use]
    pub fn value(mut self, name: &str, value: impl Display) -> Object {
        let comma = if self.0.is_empty() { "" } else { ", " };
        write!(self.0, "{comma}{}: {value}", string(name)).expect("a String takes all");
        self
    }

    /// A field with a string.
    #[must_use]
    pub fn text(self, name: &str, text: impl AsRef<str>) -> Object {
        self.value(name, string(text.as_ref()))
    }

    /// A field with a float, as few digits as tell it apart; `null` for NaN and the infinities.
    #[must_use]
    pub fn float(self, name: &str, x: f64) -> Object {
        if x.is_finite() { self.value(name, format_args!("{x:?}")) } else { self.value(name, "null") }
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

/// A JSON array of JSON values.
pub fn array(values: impl IntoIterator<Item: Display>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(", "))
}

/// A JSON string. Control characters are escaped.
pub fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\t' => json.push_str("\\t"),
            c if c.is_control() => write!(json, "\\u{:04x}", c as u32).expect("a String takes all"),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
