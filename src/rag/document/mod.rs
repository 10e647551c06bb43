//! Documents: texts with an id and what else is known of them, from memory, files and folders.
//!
//! | format | text | id | metadata |
//! |---|---|---|---|
//! | plain text, Markdown, source code | the file | its path | `path`, `format` |
//! | HTML | what a reader sees, block by block | its path | and `title` |
//! | JSON lines | `text` (and `title` in front), or fields by name | `_id`, `id`, or path and line | all other scalars |
//! | CSV, TSV | columns by name, or all | `_id`, `id`, or path and line | all other columns |
//!
//! ```
//! use samebits::rag::document::{Document, Format, Reading};
//! let read = |format, text: &str| Reading::default().parse(format, "page", text);
//! let page = &read(Format::Html, "<title>T</title><p>One &amp; two.<p>Three.")?[0];
//! assert_eq!(page.text, "One & two.\n\nThree.");
//! assert_eq!(page.metadata["title"].as_text(), Some("T"));
//! let rows = read(Format::Csv, "id,text,stars\n7,\"good, really\",5\n")?;
//! assert_eq!((rows[0].id.as_str(), rows[0].text.as_str()), ("7", "good, really"));
//! # Ok::<(), samebits::Error>(())
//! ```

mod csv;
mod files;
mod html;
mod ignore;
mod lines;

use crate::Result;
use crate::rag::chunk::Language;
use std::collections::BTreeMap;

pub use files::{Found, read, read_file};
pub use ignore::Ignore;

/// A text, what it is called, and what else is known of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// What it is called: no two of an index are called the same.
    pub id: String,
    /// The text that is searched and cited.
    pub text: String,
    /// What else is known of it.
    pub metadata: BTreeMap<String, Value>,
}

/// Something that is known of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number, not NaN.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Document {
    /// A document of which nothing else is known.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Document {
        Document { id: id.into(), text: text.into(), metadata: BTreeMap::new() }
    }

    /// How its text is written, as `format` of its metadata says; of code, the ending of `path` says the language.
    pub fn format(&self) -> Format {
        let said = |key: &str| self.metadata.get(key).and_then(Value::as_text).unwrap_or_default();
        match said("format") {
            "markdown" => Format::Markdown,
            "code" => Format::of_name(said("path")),
            _ => Format::Plain,
        }
    }
}

/// How the text of a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing but text.
    Plain,
    /// Markdown.
    Markdown,
    /// HTML.
    Html,
    /// An object of JSON a line.
    JsonLines,
    /// Fields between commas.
    Csv,
    /// Fields between tabs.
    Tsv,
    /// Source code.
    Code(Language),
}

impl Format {
    /// What a file's ending says: plain text where it says nothing.
    pub fn of_name(name: &str) -> Format {
        let ending = name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_lowercase());
        match &*ending {
            "md" | "markdown" => Format::Markdown,
            "html" | "htm" | "xhtml" => Format::Html,
            "jsonl" | "ndjson" => Format::JsonLines,
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "rs" => Format::Code(Language::Rust),
            "py" | "pyi" => Format::Code(Language::Python),
            "c" | "h" | "cc" | "cpp" | "hpp" | "cxx" | "java" | "cs" => Format::Code(Language::C),
            "js" | "mjs" | "cjs" | "jsx" | "ts" | "tsx" => Format::Code(Language::JavaScript),
            "go" => Format::Code(Language::Go),
            _ => Format::Plain,
        }
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Plain => "text",
            Format::Markdown => "markdown",
            Format::Html => "html",
            Format::JsonLines => "jsonl",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Code(_) => "code",
        }
    }
}

/// What of a file becomes text.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Fields or columns that make the text, joined by a line's end; none: `title` and `text` of JSON, all columns of a
    /// table that has no `text`.
    pub fields: Vec<String>,
    /// The field or column that is the id; none: `_id` or `id`.
    pub id: Option<String>,
}

impl Reading {
    /// The documents in `text`, which is called `name`.
    ///
    /// # Errors
    /// Where a line is not of the format, or lacks a field that was asked for; with its number.
    pub fn parse(&self, format: Format, name: &str, text: &str) -> Result<Vec<Document>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut documents = match format {
            Format::Html => {
                let page = html::extract(text);
                let mut document = Document::new(name, page.text);
                document.metadata.extend(page.title.map(|title| ("title".to_owned(), Value::Text(title))));
                vec![document]
            }
            Format::JsonLines => lines::json(self, name, text)?,
            Format::Csv => lines::table(self, name, text, b',')?,
            Format::Tsv => lines::table(self, name, text, b'\t')?,
            Format::Plain | Format::Markdown | Format::Code(_) => vec![Document::new(name, text)],
        };
        for document in &mut documents {
            document.metadata.insert("path".to_owned(), Value::Text(name.to_owned()));
            document.metadata.insert("format".to_owned(), Value::Text(format.name().to_owned()));
        }
        Ok(documents)
    }
}
