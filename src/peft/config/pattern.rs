//! The part of regular expressions that names of modules need.

use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What matches a whole name: literals, `.`, `.*`, `.+`, `\.`, `\d+`, `[0-9]+`, `(a|b)`, also nested.
///
/// Anything else of regular expressions is refused by name, never guessed at.
///
/// ```
/// use samebits::peft::config::Pattern;
/// let pattern = Pattern::new(r".*\.layers\.\d+\.(self_attn\.)?q_proj");
/// assert!(pattern.is_err()); // `?` is not among them
/// assert!(Pattern::new(r".*\.(q|v)_proj")?.matches("model.layers.3.self_attn.v_proj"));
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// One for each choice of alternatives.
    choices: Vec<Vec<Token>>,
    source: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Literal(char),
    Any,
    /// Any run, of at least so many.
    Run(usize),
    Digits,
}

/// Choices that a pattern may unfold to.
const MAX_CHOICES: usize = 1000;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where it says what is not supported.
    pub fn new(source: &str) -> Result<Pattern> {
        let mut reader = Reader { rest: source, source };
        let choices = reader.alternatives()?;
        match reader.rest {
            "" => Ok(Pattern { choices, source: source.into() }),
            _ => Err(reader.refused("an unbalanced ')'")),
        }
    }

    /// Whether it matches all of `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.choices.iter().any(|tokens| matches(tokens, name))
    }

    /// Whether it matches `name` or what follows one of its dots: how peft reads the keys of `rank_pattern`.
    pub fn matches_end(&self, name: &str) -> bool {
        self.matches(name) || name.match_indices('.').any(|(at, _)| self.matches(&name[at + 1..]))
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn matches(tokens: &[Token], name: &str) -> bool {
    let Some((token, rest)) = tokens.split_first() else { return name.is_empty() };
    let tail = || {
        let mut chars = name.chars();
        chars.next().map(|c| (c, chars.as_str()))
    };
    match token {
        Token::Literal(want) => tail().is_some_and(|(c, tail)| c == *want && matches(rest, tail)),
        Token::Any => tail().is_some_and(|(_, tail)| matches(rest, tail)),
        Token::Run(least) => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.skip(*least).any(|at| matches(rest, &name[at..]))
        }
        Token::Digits => {
            let digits = name.bytes().take_while(u8::is_ascii_digit).count();
            (1..=digits).rev().any(|n| matches(rest, &name[n..]))
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    source: &'a str,
}

impl Reader<'_> {
    fn refused(&self, what: &str) -> Error {
        Error::invalid(format!("the pattern {:?} has {what}, which is not supported", self.source))
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `a|b|…`, up to a closing bracket or the end.
    fn alternatives(&mut self) -> Result<Vec<Vec<Token>>> {
        let mut all = self.sequence()?;
        while self.eat("|") {
            all.extend(self.sequence()?);
        }
        Ok(all)
    }

    fn sequence(&mut self) -> Result<Vec<Vec<Token>>> {
        let mut all = vec![Vec::new()];
        while let Some(c) = self.rest.chars().next().filter(|c| !['|', ')'].contains(c)) {
            let next = self.item(c)?;
            if all.len() * next.len() > MAX_CHOICES {
                return Err(self.refused("too many alternatives"));
            }
            let join = |a: &Vec<Token>| {
                let a = a.clone();
                next.iter().map(move |b| [&*a, b].concat()).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(join).collect();
        }
        Ok(all)
    }

    fn item(&mut self, c: char) -> Result<Vec<Vec<Token>>> {
        let one = |token| Ok(vec![vec![token]]);
        for (text, token) in [
            (".*", Token::Run(0)),
            (".+", Token::Run(1)),
            ("\\d+", Token::Digits),
            ("[0-9]+", Token::Digits),
            ("\\.", Token::Literal('.')),
            (".", Token::Any),
        ] {
            if self.eat(text) {
                return self.unrepeated(one(token)?);
            }
        }
        if self.eat("(?:") || self.eat("(") {
            let inner = self.alternatives()?;
            if !self.eat(")") {
                return Err(self.refused("an unbalanced '('"));
            }
            return self.unrepeated(inner);
        }
        if !(c.is_alphanumeric() || c == '_' || c == '-') {
            return Err(self.refused(&format!("{c:?}")));
        }
        self.rest = &self.rest[c.len_utf8()..];
        self.unrepeated(one(Token::Literal(c))?)
    }

    /// Nothing that repeats what came before may follow.
    fn unrepeated(&self, tokens: Vec<Vec<Token>>) -> Result<Vec<Vec<Token>>> {
        match self.rest.chars().next() {
            Some(c @ ('*' | '+' | '?' | '{')) => Err(self.refused(&format!("{c:?}"))),
            _ => Ok(tokens),
        }
    }
}
