//! Tables as text: RFC 4180, with any line ends and any one-byte separator.

use crate::{Error, Result};

/// Records of a table, each with the line that it begins on.
pub(super) struct Records<'t> {
    rest: &'t str,
    separator: u8,
    line: usize,
}

impl<'t> Records<'t> {
    pub(super) const fn of(text: &'t str, separator: u8) -> Self {
        Records { rest: text, separator, line: 1 }
    }

    /// One field from the front of the rest, and whether the record goes on.
    fn field(&mut self) -> Result<(String, bool)> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let separator = char::from(self.separator);
            let end = self.rest.find([separator, '\n']).unwrap_or(self.rest.len());
            let (field, rest) = self.rest.split_at(end);
            let field =
                if rest.starts_with('\n') { field.strip_suffix('\r').unwrap_or(field) } else { field };
            return Ok((field.to_owned(), self.after_field(rest)?));
        };
        let (mut field, mut left) = (String::new(), quoted);
        loop {
            let Some(end) = left.find('"') else {
                return Err(Error::invalid(format!("line {}: a quote without its end", self.line)));
            };
            field.push_str(&left[..end]);
            left = &left[end + 1..];
            match left.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    left = more;
                }
                None => break,
            }
        }
        self.line += field.matches('\n').count();
        let rest = if left.starts_with("\r\n") { &left[1..] } else { left };
        Ok((field, self.after_field(rest)?))
    }

    /// Goes past the separator or the line's end behind a field; whether it is a separator.
    fn after_field(&mut self, rest: &'t str) -> Result<bool> {
        let more = rest.as_bytes().first() == Some(&self.separator);
        if !more && !rest.is_empty() && !rest.starts_with('\n') {
            return Err(Error::invalid(format!("line {}: text behind a closing quote", self.line)));
        }
        self.rest = rest.get(1..).unwrap_or("");
        Ok(more)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(usize, Vec<String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        // Lines with nothing on them are no records.
        while let Some(rest) = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n')) {
            self.rest = rest;
            self.line += 1;
        }
        if self.rest.is_empty() {
            return None;
        }
        let (start, mut fields) = (self.line, Vec::new());
        loop {
            match self.field() {
                Ok((field, more)) => {
                    fields.push(field);
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    self.rest = "";
                    return Some(Err(error));
                }
            }
        }
        self.line += 1;
        Some(Ok((start, fields)))
    }
}
