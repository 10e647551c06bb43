//! Texts, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use crate::cli::Failure;
use crate::io::json;
use crate::{Error, Result};

/// A longer line is refused: nothing that is one text has so many bytes.
const LONGEST: u64 = 64 << 20;

/// A text and what it goes by.
pub struct Item {
    /// JSON: the line's own, or its number.
    pub id: String,
    /// The text.
    pub text: String,
}

/// Lines of a file or of standard input.
pub struct Input {
    reader: Box<dyn BufRead>,
    name: String,
    jsonl: bool,
    line: u64,
}

impl Input {
    /// Opens a file; standard input for none or `-`.
    pub fn open(path: Option<PathBuf>, jsonl: bool) -> Result<Input, Failure> {
        let path = path.filter(|p| p.as_os_str() != "-");
        let (reader, name): (Box<dyn BufRead>, _) = match path {
            None => (Box::new(BufReader::with_capacity(1 << 16, io::stdin())), "standard input".into()),
            Some(path) => {
                let file = File::open(&path).map_err(|e| Error::io(&path, "open", e))?;
                (Box::new(BufReader::with_capacity(1 << 16, file)), path.display().to_string())
            }
        };
        Ok(Input { reader, name, jsonl, line: 0 })
    }

    /// The next `n` texts, fewer at the end.
    ///
    /// # Errors
    /// Where reading fails, a line is no UTF-8, longer than 64 MiB, or no object with a text; the line is named.
    pub fn take(&mut self, n: usize, items: &mut Vec<Item>) -> Result<()> {
        items.clear();
        while items.len() < n {
            let Some(line) = self.next_line()? else { break };
            let number = self.line;
            let item = if self.jsonl { object(&line, number - 1) } else { Ok(plain(line, number - 1)) };
            items.push(item.map_err(|e| self.at_line(&e.to_string()))?);
        }
        Ok(())
    }

    fn next_line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(LONGEST + 1).read_until(b'\n', &mut bytes);
        let read = read.map_err(|e| Error::io(&self.name, "read", e))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if read as u64 > LONGEST {
            return Err(self.at_line(&format!("more than {LONGEST} bytes")));
        }
        if bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        let text = String::from_utf8(bytes);
        let text = text.map_err(|e| format!("no UTF-8 at its byte {}", e.utf8_error().valid_up_to()));
        text.map(Some).map_err(|what| self.at_line(&what))
    }

    fn at_line(&self, what: &str) -> Error {
        Error::invalid(format!("line {}: {what}", self.line)).in_file(&self.name)
    }
}

fn plain(text: String, number: u64) -> Item {
    Item { id: number.to_string(), text }
}

/// `{"text": …, "id": …}`
fn object(line: &str, number: u64) -> Result<Item> {
    let object = json::parse(line.as_bytes())?;
    let text = object.get("text").and_then(|v| v.as_str());
    let text = text.ok_or_else(|| Error::invalid("no string \"text\" in this object"))?;
    let id = object.get("id").map_or_else(|| number.to_string(), |id| id.source().to_string());
    Ok(Item { id, text: text.into_owned() })
}
