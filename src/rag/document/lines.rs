//! Files that hold a document a line.

use super::csv::Records;
use super::{Document, Reading, Value};
use crate::io::json;
use crate::{Error, Result};

/// Where ids are looked for, unless one is named.
const IDS: [&str; 2] = ["_id", "id"];

/// A line's fields, in their order.
type Fields = Vec<(String, Value)>;

pub(super) fn json(reading: &Reading, name: &str, text: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |e: Error| Error::invalid(format!("line {}: {e}", i + 1));
        let object = json::parse(line.as_bytes()).map_err(at)?;
        let Some(entries) = object.entries() else {
            return Err(Error::invalid(format!("line {}: expected an object", i + 1)));
        };
        let fields = entries.filter_map(|(key, value)| Some((key.into_owned(), scalar(value)?))).collect();
        documents.push(document(reading, (name, i + 1), fields, &["title", "text"])?);
    }
    Ok(documents)
}

fn scalar(value: json::Value<'_>) -> Option<Value> {
    let text = value.as_str().map(|text| Value::Text(text.into_owned()));
    text.or_else(|| value.as_bool().map(Value::Flag)).or_else(|| value.as_f64().map(Value::Number))
}

pub(super) fn table(reading: &Reading, name: &str, text: &str, separator: u8) -> Result<Vec<Document>> {
    let mut records = Records::of(text, separator);
    let Some(heading) = records.next() else { return Ok(Vec::new()) };
    let (_, names) = heading?;
    let all: Vec<&str> = match names.iter().any(|name| name == "text") {
        true => vec!["title", "text"],
        false => names.iter().map(String::as_str).collect(),
    };
    let mut documents = Vec::new();
    for record in records {
        let (line, values) = record?;
        if values.len() != names.len() {
            let (found, wanted) = (values.len(), names.len());
            return Err(Error::invalid(format!("line {line}: {found} fields under {wanted} headings")));
        }
        let typed = values.into_iter().map(|value| match value.parse::<f64>() {
            Ok(number) if number.is_finite() && number.to_string() == value => Value::Number(number),
            _ => Value::Text(value),
        });
        documents.push(document(reading, (name, line), names.iter().cloned().zip(typed).collect(), &all)?);
    }
    Ok(documents)
}

/// A document of a line's fields: `usual` ones make the text where none are asked for.
fn document(
    reading: &Reading,
    (name, line): (&str, usize),
    fields: Fields,
    usual: &[&str],
) -> Result<Document> {
    let asked: Vec<&str> = reading.fields.iter().map(String::as_str).collect();
    let wanted = if asked.is_empty() { usual } else { &asked };
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| write(value));
    let id_names: Vec<&str> = reading.id.as_deref().map_or(IDS.to_vec(), |id| vec![id]);
    let id = id_names.iter().find_map(|&name| field(name));
    if let (None, Some(missing)) = (&id, &reading.id) {
        return Err(Error::invalid(format!("line {line}: no {missing:?}, which is to be the id")));
    }
    let parts: Vec<(&str, Option<String>)> = wanted.iter().map(|&name| (name, field(name))).collect();
    let missing = parts.iter().find(|(name, text)| text.is_none() && (!asked.is_empty() || *name == "text"));
    if let Some((missing, _)) = missing {
        return Err(Error::invalid(format!("line {line}: no {missing:?}, which is to be text")));
    }
    let text = parts.into_iter().filter_map(|(_, text)| text).filter(|text| !text.is_empty());
    let text = text.collect::<Vec<_>>().join("\n");
    let other =
        fields.into_iter().filter(|(key, _)| !wanted.contains(&&**key) && !id_names.contains(&&**key));
    Ok(Document { id: id.unwrap_or_else(|| format!("{name}:{line}")), text, metadata: other.collect() })
}

fn write(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
    }
}
