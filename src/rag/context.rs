//! What was found made one text for a model, never longer than the model can take, every part of it cited.
//!
//! ```text
//!   passages, the best first ─ one more? ─► joined with those that it touches ─► ordered, numbered, put into the template
//!                                 ▲                                                     │ counted whole: no more than the budget?
//!                                 └──────────── yes: kept; no: cut or left out ◄────────┘
//! ```
//!
//! What holds for every input:
//!
//! * The prompt has at most the budget's tokens, as the counter counts all of it: template, separators, question.
//! * `prompt[citation.place]` is `citation.text` is `source[citation.bytes]`.
//! * No byte of a document is in two citations, and no two citations have the same text.
//!
//! ```
//! use samebits::rag::context::{ContextAssembler, Passage};
//! let text = "One fact. Another fact.";
//! let passage = |bytes: std::ops::Range<usize>, score| {
//!     Passage { document: "facts.txt", text: &text[bytes.clone()], bytes, lines: (1, 1), score }
//! };
//! let words = |text: &str| text.split_whitespace().count();
//! let context = ContextAssembler::new(40, &words).assemble("Which?", &[passage(10..23, 0.9), passage(0..10, 0.5)])?;
//! assert_eq!(context.citations.len(), 1); // they touch
//! assert_eq!((context.citations[0].bytes.clone(), context.citations[0].score), (0..23, 0.9));
//! # Ok::<(), samebits::Error>(())
//! ```

use super::segment;
use crate::{Error, Result};
use core::ops::Range;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A part of a document that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage<'t> {
    /// The document's id.
    pub document: &'t str,
    /// The part.
    pub text: &'t str,
    /// Where it stands in the document.
    pub bytes: Range<usize>,
    /// Its first and last line, from 1 on.
    pub lines: (usize, usize),
    /// How well it answers: more is better.
    pub score: f64,
}

/// A part of a document that is in the prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Citation {
    /// Its n: it is called `[n]`.
    pub number: usize,
    /// The document's id.
    pub document: String,
    /// The part.
    pub text: String,
    /// Where it stands in the document.
    pub bytes: Range<usize>,
    /// Its first and last line, from 1 on.
    pub lines: (usize, usize),
    /// That of the best passage in it.
    pub score: f64,
    /// Where it stands in the prompt, in bytes.
    pub place: Range<usize>,
}

/// What a model is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// All of it.
    pub prompt: String,
    /// Its parts, in their order in the prompt.
    pub citations: Vec<Citation>,
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Passages that are not in it, by their places in the input: doubles, and what did not fit.
    pub left_out: Vec<usize>,
}

/// In which order citations stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The best first.
    #[default]
    Relevance,
    /// By document, that of the best first, and by place in it: as one would read them.
    Document,
    /// The best at both ends, the worst in the middle, where models overlook most (Liu et al. 2023, *Lost in the
    /// Middle*): 1, 3, 5, …, 6, 4, 2.
    EdgesFirst,
}

/// What becomes of a passage that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its first sentences, if one fits.
    #[default]
    Cut,
    /// It is left out.
    Skip,
}

/// How a prompt is written. `{…}` are the words that are replaced; texts that are put in are never looked at for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The whole, with `{context}` and `{question}`.
    pub prompt: String,
    /// A citation, with `{n}`, `{document}`, `{lines}` and `{text}`.
    pub passage: String,
    /// Between citations.
    pub separator: String,
}

impl Default for Template {
    fn default() -> Self {
        Template {
            prompt: "Answer the question from the sources alone, and cite them as [n].\n\n{context}\n\nQuestion: {question}\nAnswer:".into(),
            passage: "[{n}] {document}, lines {lines}:\n{text}".into(),
            separator: "\n\n".into(),
        }
    }
}

/// Counts the tokens of a text.
pub type Counter<'c> = dyn Fn(&str) -> usize + 'c;

/// Makes contexts.
///
/// ```
/// use samebits::rag::context::{Citation, Context, Counter, Order, Overflow, Passage, Template};
/// use samebits::rag::ContextAssembler;
/// let text = "The sea is deep. It is salty too.";
/// let found = Passage { document: "sea.txt", text, bytes: 0..text.len(), lines: (1, 1), score: 1.0 };
/// let words: &Counter = &|text| text.split_whitespace().count();
/// let template = Template {
///     prompt: "{context}\nQ: {question}".into(),
///     passage: "[{n}] {text}".into(),
///     separator: "\n".into(),
/// };
/// let assembler = ContextAssembler::new(10, words)
///     .with_template(template)?
///     .with_order(Order::Relevance)
///     .with_overflow(Overflow::Cut); // to the sentences that fit
/// let context: Context = assembler.assemble("How deep?", &[found])?;
/// assert!(context.prompt.ends_with("Q: How deep?") && !context.prompt.contains("salty"));
/// let cited: &Citation = &context.citations[0];
/// assert_eq!((cited.number, cited.text.trim_end()), (1, "The sea is deep."));
/// assert_eq!(context.prompt[cited.place.clone()], cited.text);
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct ContextAssembler<'c> {
    budget: usize,
    count: &'c Counter<'c>,
    template: Template,
    order: Order,
    overflow: Overflow,
}

/// Passages that touch, as one.
#[derive(Clone, Debug)]
struct Block<'t> {
    document: &'t str,
    text: Cow<'t, str>,
    bytes: Range<usize>,
    lines: (usize, usize),
    score: f64,
}

impl<'c> ContextAssembler<'c> {
    /// At most `budget` tokens, as `count` counts them: the model's tokenizer, its template's tokens included.
    pub fn new(budget: usize, count: &'c Counter<'c>) -> ContextAssembler<'c> {
        let (order, overflow) = (Order::default(), Overflow::default());
        ContextAssembler { budget, count, template: Template::default(), order, overflow }
    }

    /// With another template.
    ///
    /// # Errors
    /// Where it has not `{context}`, `{question}` and `{text}` once each.
    pub fn with_template(self, template: Template) -> Result<Self> {
        let all = [
            (&template.prompt, "{context}"),
            (&template.prompt, "{question}"),
            (&template.passage, "{text}"),
        ];
        for (text, word) in all {
            if text.matches(word).count() != 1 {
                return Err(Error::invalid(format!("a template has {word} once")));
            }
        }
        Ok(ContextAssembler { template, ..self })
    }

    /// In another order.
    #[must_use]
    pub fn with_order(self, order: Order) -> Self {
        ContextAssembler { order, ..self }
    }

    /// With another way of what does not fit.
    #[must_use]
    pub fn with_overflow(self, overflow: Overflow) -> Self {
        ContextAssembler { overflow, ..self }
    }

    /// The prompt for `question` with as many of `passages` as fit, the best before the others; of equals, the first.
    ///
    /// # Errors
    /// Where the question alone is too long, a score is no number, a passage has not the bytes that it says, or two of a
    /// document disagree.
    pub fn assemble(&self, question: &str, passages: &[Passage<'_>]) -> Result<Context> {
        for passage in passages {
            let fits = passage.bytes.end.checked_sub(passage.bytes.start) == Some(passage.text.len());
            if !fits || passage.score.is_nan() {
                let (id, bytes, n) = (passage.document, &passage.bytes, passage.text.len());
                let what =
                    format!("{id:?}, bytes {bytes:?}: a passage of {n} bytes, score {}", passage.score);
                return Err(Error::invalid(what));
            }
        }
        let mut best = self.render(question, &[]);
        if best.tokens > self.budget {
            let what = format!("the question takes {} tokens of {}", best.tokens, self.budget);
            return Err(Error::invalid(what));
        }
        let mut ranked: Vec<usize> = (0..passages.len()).collect();
        ranked.sort_by(|&a, &b| passages[b].score.total_cmp(&passages[a].score).then(a.cmp(&b)));
        let (mut blocks, mut left_out): (Vec<Block<'_>>, Vec<usize>) = (Vec::new(), Vec::new());
        for i in ranked {
            let passage = Block::of(&passages[i]);
            let tried = match self.tried(question, &blocks, &passage)? {
                Some(tried) => Some(tried),
                None if self.overflow == Overflow::Cut => self.cut(question, &blocks, &passages[i])?,
                None => None,
            };
            match tried {
                Some((with, context)) => (blocks, best) = (with, context),
                None => left_out.push(i),
            }
        }
        left_out.sort_unstable();
        Ok(Context { left_out, ..best })
    }

    /// The blocks with one passage more, if it is none that is there already and the prompt is not too long.
    fn tried<'t>(
        &self,
        question: &str,
        blocks: &[Block<'t>],
        passage: &Block<'t>,
    ) -> Result<Option<(Vec<Block<'t>>, Context)>> {
        if passage.text.trim().is_empty() {
            return Ok(None);
        }
        let mut joined = passage.clone();
        let (touching, mut rest): (Vec<_>, Vec<_>) =
            blocks.iter().cloned().partition(|block| block.touches(passage));
        for block in touching {
            joined = joined.join(block)?;
        }
        let double = |block: &Block<'_>| block.text.trim() == joined.text.trim();
        if rest.iter().any(double) {
            return Ok(None);
        }
        rest.push(joined);
        let context = self.render(question, &rest);
        Ok((context.tokens <= self.budget).then_some((rest, context)))
    }

    /// The same with as many first sentences of the passage as fit.
    fn cut<'t>(
        &self,
        question: &str,
        blocks: &[Block<'t>],
        passage: &Passage<'t>,
    ) -> Result<Option<(Vec<Block<'t>>, Context)>> {
        let ends: Vec<usize> =
            segment::ranges(segment::prose(passage.text), 0).map(|part| part.end).collect();
        let (mut fit, mut too_many, mut found) = (0, ends.len(), None);
        while too_many - fit > 1 {
            let middle = (fit + too_many) / 2;
            let text = &passage.text[..ends[middle - 1]];
            let bytes = passage.bytes.start..passage.bytes.start + text.len();
            let breaks = text.trim_end_matches('\n').matches('\n').count();
            let lines = (passage.lines.0, (passage.lines.0 + breaks).min(passage.lines.1));
            let part = Block { text: text.into(), bytes, lines, ..Block::of(passage) };
            match self.tried(question, blocks, &part)? {
                Some(tried) => (fit, found) = (middle, Some(tried)),
                None => too_many = middle,
            }
        }
        Ok(found)
    }

    /// The prompt of these blocks.
    fn render(&self, question: &str, blocks: &[Block<'_>]) -> Context {
        let mut citations: Vec<Citation> = Vec::new();
        let mut prompt = String::new();
        for piece in pieces(&self.template.prompt, &["{context}", "{question}"]) {
            match piece {
                "{question}" => prompt.push_str(question),
                "{context}" => {
                    for (i, block) in ordered(blocks, self.order).into_iter().enumerate() {
                        if i > 0 {
                            prompt.push_str(&self.template.separator);
                        }
                        citations.push(self.cite(&mut prompt, i + 1, block));
                    }
                }
                text => prompt.push_str(text),
            }
        }
        let tokens = (self.count)(&prompt);
        Context { prompt, citations, tokens, left_out: Vec::new() }
    }

    fn cite(&self, prompt: &mut String, number: usize, block: &Block<'_>) -> Citation {
        let mut place = 0..0;
        for piece in pieces(&self.template.passage, &["{n}", "{document}", "{lines}", "{text}"]) {
            match piece {
                "{n}" => prompt.push_str(&number.to_string()),
                "{document}" => prompt.push_str(block.document),
                "{lines}" if block.lines.0 == block.lines.1 => prompt.push_str(&block.lines.0.to_string()),
                "{lines}" => prompt.push_str(&format!("{}-{}", block.lines.0, block.lines.1)),
                "{text}" => {
                    place = prompt.len()..prompt.len() + block.text.len();
                    prompt.push_str(&block.text);
                }
                text => prompt.push_str(text),
            }
        }
        Citation {
            number,
            document: block.document.into(),
            text: block.text.clone().into_owned(),
            bytes: block.bytes.clone(),
            lines: block.lines,
            score: block.score,
            place,
        }
    }
}

impl<'t> Block<'t> {
    fn of(passage: &Passage<'t>) -> Block<'t> {
        let &Passage { document, text, ref bytes, lines, score } = passage;
        Block { document, text: text.into(), bytes: bytes.clone(), lines, score }
    }

    /// Whether one begins where the other ends, or before.
    fn touches(&self, other: &Block<'_>) -> bool {
        self.document == other.document
            && self.bytes.start <= other.bytes.end
            && other.bytes.start <= self.bytes.end
    }

    /// Both, which touch.
    fn join(self, other: Block<'t>) -> Result<Block<'t>> {
        let (first, second) =
            if self.bytes.start <= other.bytes.start { (self, other) } else { (other, self) };
        let shared = first.bytes.end.min(second.bytes.end) - second.bytes.start;
        let before = second.bytes.start - first.bytes.start;
        let same = first.text.get(before..before + shared).zip(second.text.get(..shared));
        if same.is_none_or(|(a, b)| a != b) {
            let (id, at) = (second.document, second.bytes.start);
            return Err(Error::invalid(format!("two passages of {id:?} disagree behind byte {at}")));
        }
        let score =
            if first.score.total_cmp(&second.score) == Ordering::Less { second.score } else { first.score };
        let lines = (first.lines.0.min(second.lines.0), first.lines.1.max(second.lines.1));
        let bytes = first.bytes.start..first.bytes.end.max(second.bytes.end);
        let rest = &second.text[shared..];
        let text = if rest.is_empty() { first.text } else { Cow::Owned(first.text.into_owned() + rest) };
        Ok(Block { text, bytes, lines, score, ..first })
    }
}

/// The blocks as they are to stand.
fn ordered<'b, 't>(blocks: &'b [Block<'t>], order: Order) -> Vec<&'b Block<'t>> {
    let mut all: Vec<&Block<'_>> = blocks.iter().collect();
    let place =
        |a: &Block<'_>, b: &Block<'_>| a.document.cmp(b.document).then(a.bytes.start.cmp(&b.bytes.start));
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| place(a, b)));
    match order {
        Order::Relevance => all,
        Order::Document => {
            let rank = |block: &Block<'_>| all.iter().position(|other| other.document == block.document);
            let mut sorted = all.clone();
            sorted.sort_by_key(|block| (rank(block), block.bytes.start));
            sorted
        }
        Order::EdgesFirst => {
            let front = all.iter().step_by(2);
            front.chain(all.iter().skip(1).step_by(2).rev()).copied().collect()
        }
    }
}

/// A template cut at its words, which are pieces too.
fn pieces<'t>(template: &'t str, words: &[&str]) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let next = |rest: &str| words.iter().filter_map(|word| Some((rest.find(word)?, word.len()))).min();
    while let Some((at, n)) = next(rest) {
        pieces.extend([&rest[..at], &rest[at..at + n]]);
        rest = &rest[at + n..];
    }
    pieces.push(rest);
    pieces
}
