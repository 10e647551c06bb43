//! What is known of a document, as an object of JSON.

use crate::io::json::{self, Kind, Writer};
use crate::rag::document::Value;
use crate::{Error, Result};
use std::collections::BTreeMap;

pub(super) fn write(metadata: &BTreeMap<String, Value>) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        for (key, value) in metadata {
            match value {
                Value::Text(text) => w.key(key).string(text),
                Value::Number(number) => w.key(key).number(*number),
                Value::Flag(flag) => w.key(key).boolean(*flag),
            }
        }
    });
    w.finish()
}

pub(super) fn read(text: &str) -> Result<BTreeMap<String, Value>> {
    let root = json::parse(text.as_bytes())?;
    let entries = root.entries().ok_or_else(|| root.expected("an object"))?;
    entries
        .map(|(key, value)| {
            let value = match value.kind() {
                Kind::String => Value::Text(value.as_str().unwrap_or_default().into_owned()),
                Kind::Number => Value::Number(value.as_f64().unwrap_or_default()),
                Kind::Bool => Value::Flag(value.as_bool().unwrap_or_default()),
                other => return Err(Error::invalid(format!("{key:?} is {}", other.name()))),
            };
            Ok((key.into_owned(), value))
        })
        .collect()
}
