//! The patterns by which tokenizers cut texts, each a matcher written by hand.
//!
//! A file names its pattern by a regular expression. There is no engine for those here: every expression
//! known from published tokenizers has a function that matches the same, in linear time, and any other is
//! refused with its text.

use super::unicode::{Set, is_space};
use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use core::ops::Range;

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    /// A text; an empty one is never found.
    Literal(String),
    /// What a function finds at a place: one past the end of the match. Its number among those known.
    Known(Matcher, usize),
}

/// The end of the match at byte `at` of a text, if there is one.
pub(crate) type Matcher = fn(text: &str, at: usize) -> Option<usize>;

impl Pattern {
    /// The pattern of a regular expression.
    pub fn regex(expression: &str) -> Result<Pattern> {
        if let Some(number) = KNOWN.iter().position(|(known, _)| *known == expression) {
            return Ok(Pattern::Known(KNOWN[number].1, number));
        }
        let plain = !expression.is_empty() && !expression.contains(|c| "\\^$.|?*+()[]{}".contains(c));
        if plain {
            return Ok(Pattern::Literal(expression.into()));
        }
        Err(Error::invalid(format!("the regular expression {expression:?} is not one of those known here")))
    }

    /// The first match that begins at `at` or later; never empty.
    pub fn find(&self, text: &str, at: usize) -> Option<Range<usize>> {
        match self {
            Pattern::Literal(literal) if literal.is_empty() => None,
            Pattern::Literal(literal) => {
                let start = at + text[at..].find(literal.as_str())?;
                Some(start..start + literal.len())
            }
            Pattern::Known(matcher, _) => find(*matcher, text, at),
        }
    }

    /// Whether it is a text, and no expression.
    pub fn is_literal(&self) -> bool {
        matches!(self, Pattern::Literal(_))
    }

    /// Writes it for [`super::flat`]: the text, or the expression's number. Numbers stay what they are: new expressions
    /// come last.
    pub fn write(&self, to: &mut Writer) -> Result<()> {
        match self {
            Pattern::Literal(literal) => to.text(literal),
            Pattern::Known(_, number) => to.count(*number),
        }
    }

    /// A text that was written.
    pub fn read_literal(from: &mut Reader<'_>) -> Result<Pattern> {
        Ok(Pattern::Literal(from.text()?.into()))
    }

    /// An expression that was written: whoever calls this has the matchers of all.
    pub fn read_known(from: &mut Reader<'_>) -> Result<Pattern> {
        let number = from.count("the number of an expression", 0, KNOWN.len() - 1)?;
        Ok(Pattern::Known(KNOWN[number].1, number))
    }
}

/// The first match of `matcher` that begins at `at` or later.
pub(crate) fn find(matcher: Matcher, text: &str, at: usize) -> Option<Range<usize>> {
    let mut places = text[at..].char_indices().map(|(i, _)| at + i);
    places.find_map(|start| matcher(text, start).map(|end| start..end))
}

/// The expressions of GPT-2, of GPT-4 and Llama 3, of Qwen 2, of GPT-4o.
pub(crate) const GPT2_REGEX: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub(crate) const CL100K_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const QWEN2_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const O200K_REGEX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Every expression known, and who matches it.
const KNOWN: &[(&str, Matcher)] = &[
    (GPT2_REGEX, gpt2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", gpt2),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s", gpt2),
    // GPT-4 (cl100k), Llama 3, Phi-4
    (CL100K_REGEX, cl100k),
    (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        cl100k_ascii,
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        cl100k,
    ),
    // Qwen 2, Qwen 3
    (QWEN2_REGEX, qwen2),
    // GPT-4o (o200k), Llama 4, Phi-4-mini
    (O200K_REGEX, o200k),
    // DeepSeek, in three steps
    (r"[一-龥぀-ゟ゠-ヿ]+", |text, at| run(text, at, |c| matches!(c, '一'..='龥' | '\u{3040}'..='ヿ'))),
    (
        r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        deepseek,
    ),
    (
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        deepseek,
    ),
    // BLOOM
    (r" ?[^(\s|[.,!?…。，、।۔،])]+", bloom),
    // Steps of several
    (r"[0-9][0-9][0-9]", |text, at| repeat(text, at, 3, 3, |c| c.is_ascii_digit())),
    (r"\p{N}{1,3}", |text, at| repeat(text, at, 1, 3, |c| Set::NUMBER.has(c))),
    (r"\p{N}", |text, at| repeat(text, at, 1, 1, |c| Set::NUMBER.has(c))),
    (r"\d", |text, at| repeat(text, at, 1, 1, |c| Set::ND.has(c))),
    (r"[0-9]", |text, at| repeat(text, at, 1, 1, |c| c.is_ascii_digit())),
    (r"\s+", |text, at| run(text, at, is_space)),
    (r"\s", |text, at| repeat(text, at, 1, 1, is_space)),
    (r" {2,}", |text, at| repeat(text, at, 2, usize::MAX, |c| c == ' ')),
    (r" +", |text, at| run(text, at, |c| c == ' ')),
    (r"\n+", |text, at| run(text, at, |c| c == '\n')),
    (r"[\r\n]", |text, at| repeat(text, at, 1, 1, |c| matches!(c, '\r' | '\n'))),
];

/// The end of the run of characters of a kind that begins at `at`, where there is one.
fn run(text: &str, at: usize, kind: impl Fn(char) -> bool) -> Option<usize> {
    let rest = &text[at..];
    let len = rest.find(|c| !kind(c)).unwrap_or(rest.len());
    (len > 0).then_some(at + len)
}

/// The end of at least `least` and at most `most` characters of a kind from `at`.
fn repeat(text: &str, at: usize, least: usize, most: usize, kind: impl Fn(char) -> bool) -> Option<usize> {
    let mut count = 0;
    let mut end = at;
    for c in text[at..].chars().take_while(|&c| kind(c)).take(most) {
        end += c.len_utf8();
        count += 1;
    }
    (count >= least && count > 0).then_some(end)
}

fn letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { Set::LETTER.has(c) }
}

fn number(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { Set::NUMBER.has(c) }
}

/// `[^\s\p{L}\p{N}]`
fn sign(c: char) -> bool {
    !is_space(c) && !Set::LETTER.or(Set::NUMBER).has(c)
}

fn newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// What follows an apostrophe: `s t re ve m ll d`. Without regard to case, `ſ` is an `s`.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    /// Small letters.
    Small,
    /// Small and capital letters of ASCII.
    Ascii,
    /// `(?i:…)`.
    Any,
}

fn contraction(text: &str, at: usize, case: Case) -> Option<usize> {
    let rest = text[at..].strip_prefix('\'')?;
    let fold = |c: char| match case {
        Case::Small => c,
        Case::Any if c == 'ſ' => 's',
        _ => c.to_ascii_lowercase(),
    };
    let mut chars = rest.chars();
    let (first, second) = (chars.next()?, chars.next());
    let len = match (fold(first), second.map(fold)) {
        ('s' | 't' | 'm' | 'd', _) => first.len_utf8(),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => 2,
        _ => return None,
    };
    Some(at + 1 + len)
}

/// `\s+(?!\S)|\s+`: white space, less its last character where something follows.
fn spaces(text: &str, at: usize) -> Option<usize> {
    let end = run(text, at, is_space)?;
    let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
    Some(if end == text.len() || end - last == at { end } else { end - last })
}

/// `\s*[\r\n]+`: white space up to its last line break.
fn lines(text: &str, at: usize) -> Option<usize> {
    let end = run(text, at, is_space)?;
    text[at..end].rfind(newline).map(|last| at + last + 1)
}

/// One past a space at `at`, else `at`.
fn skip_space(text: &str, at: usize) -> usize {
    at + usize::from(text.as_bytes().get(at) == Some(&b' '))
}

/// ` ?[^\s\p{L}\p{N}]+`, then any number of characters of the kind `tail`.
fn signs(text: &str, at: usize, tail: fn(char) -> bool) -> Option<usize> {
    let end = run(text, skip_space(text, at), sign)?;
    Some(run(text, end, tail).unwrap_or(end))
}

/// GPT-2's, which ByteLevel uses without naming it.
pub(crate) fn gpt2(text: &str, at: usize) -> Option<usize> {
    let body = skip_space(text, at);
    contraction(text, at, Case::Small)
        .or_else(|| run(text, body, letter))
        .or_else(|| run(text, body, number))
        .or_else(|| run(text, body, sign))
        .or_else(|| spaces(text, at))
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+`
fn lead_and_letters(text: &str, at: usize) -> Option<usize> {
    let first = text[at..].chars().next()?;
    if letter(first) {
        return run(text, at, letter);
    }
    if newline(first) || number(first) { None } else { run(text, at + first.len_utf8(), letter) }
}

fn cl100k_like(text: &str, at: usize, case: Case, digits: usize) -> Option<usize> {
    contraction(text, at, case)
        .or_else(|| lead_and_letters(text, at))
        .or_else(|| repeat(text, at, 1, digits, number))
        .or_else(|| signs(text, at, newline))
        .or_else(|| lines(text, at))
        .or_else(|| spaces(text, at))
}

fn cl100k(text: &str, at: usize) -> Option<usize> {
    cl100k_like(text, at, Case::Any, 3)
}

fn cl100k_ascii(text: &str, at: usize) -> Option<usize> {
    cl100k_like(text, at, Case::Ascii, 3)
}

fn qwen2(text: &str, at: usize) -> Option<usize> {
    cl100k_like(text, at, Case::Any, 1)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
const UPPER: Set = Set::LU.or(Set::LT).or(Set::LM).or(Set::LO).or(Set::MARK);
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
const LOWER: Set = Set::LL.or(Set::LM).or(Set::LO).or(Set::MARK);

/// `UPPER*LOWER+`: where nothing lower follows the capitals, the last of them that is also lower ends it.
fn upper_then_lower(text: &str, at: usize) -> Option<usize> {
    let capitals = run(text, at, |c| UPPER.has(c)).unwrap_or(at);
    if let Some(end) = run(text, capitals, |c| LOWER.has(c)) {
        return Some(end);
    }
    let (last, c) = text[at..capitals].char_indices().rfind(|&(_, c)| LOWER.has(c))?;
    Some(at + last + c.len_utf8())
}

/// `UPPER+LOWER*`
fn upper_maybe_lower(text: &str, at: usize) -> Option<usize> {
    let end = run(text, at, |c| UPPER.has(c))?;
    Some(run(text, end, |c| LOWER.has(c)).unwrap_or(end))
}

fn o200k(text: &str, at: usize) -> Option<usize> {
    let first = text[at..].chars().next()?;
    let lead = !newline(first) && !letter(first) && !number(first);
    let word = |matcher: Matcher| {
        let with_lead = if lead { matcher(text, at + first.len_utf8()) } else { None };
        let end = with_lead.or_else(|| matcher(text, at))?;
        Some(contraction(text, end, Case::Any).unwrap_or(end))
    };
    word(upper_then_lower)
        .or_else(|| word(upper_maybe_lower))
        .or_else(|| repeat(text, at, 1, 3, number))
        .or_else(|| signs(text, at, |c| newline(c) || c == '/'))
        .or_else(|| lines(text, at))
        .or_else(|| spaces(text, at))
}

fn deepseek(text: &str, at: usize) -> Option<usize> {
    const MARKED: Set = Set::LETTER.or(Set::MARK);
    const SIGN: Set = Set::PUNCTUATION.or(Set::SYMBOL);
    let first = text[at..].chars().next()?;
    let second = at + first.len_utf8();
    let code =
        || if first.is_ascii_punctuation() { run(text, second, |c| c.is_ascii_alphabetic()) } else { None };
    let word = || {
        let lead = !newline(first) && !Set::LETTER.or(SIGN).has(first);
        let with_lead = if lead { run(text, second, |c| MARKED.has(c)) } else { None };
        with_lead.or_else(|| run(text, at, |c| MARKED.has(c)))
    };
    let signs = || {
        let end = run(text, skip_space(text, at), |c| SIGN.has(c))?;
        Some(run(text, end, newline).unwrap_or(end))
    };
    code().or_else(word).or_else(signs).or_else(|| lines(text, at)).or_else(|| spaces(text, at))
}

fn bloom(text: &str, at: usize) -> Option<usize> {
    run(text, skip_space(text, at), |c| !is_space(c) && !"(|.,!?…。，、।۔،)".contains(c))
}
