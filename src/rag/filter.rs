//! Which documents count: conditions on what is known of them.
//!
//! ```text
//!   either  = both ("or" both)*            both  = one ("and" one)*
//!   one     = "not" one | "(" either ")" | "has" FIELD | FIELD "in" "(" VALUE ("," VALUE)* ")" | FIELD op VALUE
//!   op      = "=" | "!=" | "<" | "<=" | ">" | ">=" | "^=" (begins with) | "*=" (contains)
//! ```
//!
//! A field is a word, or any text in double quotes; `id` is the document's id. A value in double quotes is a text; a word
//! is compared as what the field is: a number, yes or no (`true`, `false`), or a text. A field that a document does not
//! have, or of another type, fulfils `!=` and nothing else. Texts are ordered by their bytes.
//!
//! ```
//! use samebits::rag::{Document, Filter};
//! let mut document = Document::new("notes/a.md", "…");
//! document.metadata.insert("year".into(), samebits::rag::document::Value::Number(2024.0));
//! let matches = |text: &str| Filter::parse(text).map(|filter| filter.matches(&document.id, &document.metadata));
//! assert!(matches("year >= 2020 and id ^= notes/")?);
//! assert!(!matches("year in (2021, 2022) or has author")?);
//! # Ok::<(), samebits::Error>(())
//! ```

use crate::rag::document::Value;
use crate::{Error, Result};
use core::cmp::Ordering;
use std::collections::BTreeMap;

/// A condition on documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Condition);

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
    Has(String),
    In(String, Vec<Literal>),
    Compare(String, Op, Literal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Begins,
    Contains,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
struct Literal {
    text: String,
    /// It stood in quotes: nothing but a text.
    quoted: bool,
}

impl Literal {
    /// How a value compares with this; none where they are of different types.
    fn order(&self, value: &Value) -> Option<Ordering> {
        match value {
            Value::Text(text) => Some(text.as_str().cmp(&self.text)),
            _ if self.quoted => None,
            Value::Number(number) => {
                let this: f64 = self.text.parse().ok()?;
                // −0 and +0 are the same number.
                (!this.is_nan()).then(|| (number + 0.0).total_cmp(&(this + 0.0)))
            }
            Value::Flag(flag) => Some(flag.cmp(&self.text.parse().ok()?)),
        }
    }
}

impl Filter {
    /// Reads a condition.
    ///
    /// # Errors
    /// Where it has another form; with the byte.
    pub fn parse(text: &str) -> Result<Filter> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let condition = parser.either()?;
        match parser.peek()? {
            None => Ok(Filter(condition)),
            Some(token) => {
                Err(parser.wrong(&format!("{} behind a condition that is complete", token.shown())))
            }
        }
    }

    /// Whether a document of this id and with this metadata fulfils it.
    pub fn matches(&self, id: &str, metadata: &BTreeMap<String, Value>) -> bool {
        self.0.holds(&|field| match metadata.get(field) {
            None if field == "id" => Some(Value::Text(id.to_owned())),
            value => value.cloned(),
        })
    }
}

impl Condition {
    fn holds(&self, value: &dyn Fn(&str) -> Option<Value>) -> bool {
        match self {
            Condition::Any(all) => all.iter().any(|condition| condition.holds(value)),
            Condition::All(all) => all.iter().all(|condition| condition.holds(value)),
            Condition::Not(condition) => !condition.holds(value),
            Condition::Has(field) => value(field).is_some(),
            Condition::In(field, set) => value(field)
                .is_some_and(|value| set.iter().any(|one| one.order(&value) == Some(Ordering::Equal))),
            Condition::Compare(field, op, literal) => op.holds(value(field).as_ref(), literal),
        }
    }
}

impl Op {
    fn holds(self, value: Option<&Value>, literal: &Literal) -> bool {
        let order = value.and_then(|value| literal.order(value));
        let text = value.and_then(Value::as_text);
        match self {
            Op::Equal => order == Some(Ordering::Equal),
            Op::Unequal => order != Some(Ordering::Equal),
            Op::Less => order == Some(Ordering::Less),
            Op::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Op::Greater => order == Some(Ordering::Greater),
            Op::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Op::Begins => text.is_some_and(|text| text.starts_with(&literal.text)),
            Op::Contains => text.is_some_and(|text| text.contains(&literal.text)),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(Literal),
    Op(Op),
    /// `(`, `)` or `,`
    Mark(char),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Token::Word(Literal { text, .. }) => format!("{text:?}"),
            Token::Op(op) => format!("{op:?}"),
            Token::Mark(mark) => format!("{mark:?}"),
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self, Token::Word(Literal { text, quoted: false }) if text.eq_ignore_ascii_case(word))
    }
}

/// Signs, the longer first.
const OPS: [(&str, Op); 9] = [
    ("!=", Op::Unequal),
    ("<=", Op::AtMost),
    (">=", Op::AtLeast),
    ("^=", Op::Begins),
    ("*=", Op::Contains),
    ("==", Op::Equal),
    ("=", Op::Equal),
    ("<", Op::Less),
    (">", Op::Greater),
];

/// Conditions within each other, at most.
const DEPTH: usize = 64;

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn wrong(&self, what: &str) -> Error {
        Error::malformed(self.at as u64, format!("filter: {what}"))
    }

    /// The next token, without taking it.
    fn peek(&mut self) -> Result<Option<Token>> {
        let start = self.at;
        let token = self.next();
        self.at = start;
        token
    }

    fn next(&mut self) -> Result<Option<Token>> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        if matches!(first, '(' | ')' | ',') {
            self.at += 1;
            return Ok(Some(Token::Mark(first)));
        }
        if let Some((sign, op)) = OPS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Some(Token::Op(*op)));
        }
        if first == '"' {
            return self.quoted(rest).map(Some);
        }
        let ends = |c: char| c.is_whitespace() || "()=<>!,\"".contains(c);
        let end = rest.char_indices().find(|&(i, c)| ends(c) || i > 0 && starts_sign(&rest[i..]));
        let word = &rest[..end.map_or(rest.len(), |(end, _)| end)];
        if word.is_empty() {
            return Err(self.wrong(&format!("{first:?} begins nothing")));
        }
        self.at += word.len();
        Ok(Some(Token::Word(Literal { text: word.to_owned(), quoted: false })))
    }

    /// A text in quotes; `\"` and `\\` stand for what follows the stroke.
    fn quoted(&mut self, rest: &str) -> Result<Token> {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(Token::Word(Literal { text, quoted: true }));
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(self.wrong("a quote that does not end"))
    }

    /// Takes the next token if it is that word.
    fn takes(&mut self, word: &str) -> Result<bool> {
        let is = self.peek()?.is_some_and(|token| token.is_word(word));
        if is {
            self.next()?;
        }
        Ok(is)
    }

    fn either(&mut self) -> Result<Condition> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.wrong(&format!("more than {DEPTH} conditions within each other")));
        }
        let mut any = vec![self.both()?];
        while self.takes("or")? {
            any.push(self.both()?);
        }
        self.depth -= 1;
        Ok(single(any, Condition::Any))
    }

    fn both(&mut self) -> Result<Condition> {
        let mut all = vec![self.one()?];
        while self.takes("and")? {
            all.push(self.one()?);
        }
        Ok(single(all, Condition::All))
    }

    fn one(&mut self) -> Result<Condition> {
        let mut negated = false;
        while self.takes("not")? {
            negated = !negated;
        }
        let condition = if self.peek()? == Some(Token::Mark('(')) {
            self.next()?;
            let inner = self.either()?;
            self.mark(')')?;
            inner
        } else if self.takes("has")? {
            Condition::Has(self.word("a field")?.text)
        } else {
            self.comparison()?
        };
        Ok(if negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    fn comparison(&mut self) -> Result<Condition> {
        let field = self.word("a field")?.text;
        if self.takes("in")? {
            self.mark('(')?;
            let mut set = vec![self.word("a value")?];
            while self.peek()? == Some(Token::Mark(',')) {
                self.next()?;
                set.push(self.word("a value")?);
            }
            self.mark(')')?;
            return Ok(Condition::In(field, set));
        }
        match self.next()? {
            Some(Token::Op(op)) => Ok(Condition::Compare(field, op, self.word("a value")?)),
            found => {
                Err(self.wrong(&format!("{} behind the field {field:?}, not a comparison", shown(found))))
            }
        }
    }

    fn word(&mut self, what: &str) -> Result<Literal> {
        match self.next()? {
            Some(Token::Word(literal)) => Ok(literal),
            found => Err(self.wrong(&format!("{}, not {what}", shown(found)))),
        }
    }

    fn mark(&mut self, mark: char) -> Result<()> {
        match self.next()? {
            Some(Token::Mark(found)) if found == mark => Ok(()),
            found => Err(self.wrong(&format!("{}, not {mark:?}", shown(found)))),
        }
    }
}

/// Whether a sign of two characters begins here: `^` and `*` alone are parts of words.
fn starts_sign(rest: &str) -> bool {
    OPS.iter().any(|(sign, _)| sign.len() == 2 && rest.starts_with(sign))
}

fn shown(token: Option<Token>) -> String {
    token.map_or_else(|| "the end".into(), |token| token.shown())
}

fn single(mut all: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    if all.len() == 1 { all.remove(0) } else { join(all) }
}
